"""Staging: a profile's query results as typed tables, in our words, before any row is judged.

The queries may leave out any column that is not needed; it is NULL then. Times are naive UTC from here on.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from routesim.calibration.history.profile import LoadedProfile, Profile
from routesim.calibration.history.quarantine import Ledger
from routesim.calibration.history.source import Source
from routesim.policies.spelling import nearest
from routesim.sim.errors import BadInput

PAYMENT_COLUMNS = {
    "payment_id": "VARCHAR", "order_id": "VARCHAR", "merchant_id": "VARCHAR", "customer_id": "VARCHAR",
    "card_token": "VARCHAR", "paid_at": "TIMESTAMP", "due_at": "TIMESTAMP", "amount_usd": "DOUBLE",
    "currency": "VARCHAR", "card_brand": "VARCHAR", "card_bin": "VARCHAR", "bank": "VARCHAR",
    "card_country": "VARCHAR", "channel": "VARCHAR", "device": "VARCHAR", "initiator": "VARCHAR",
    "stored_credential": "BOOLEAN", "installments": "SMALLINT", "mcc": "VARCHAR", "three_ds": "BOOLEAN",
    "previous_code": "VARCHAR", "previous_processor": "VARCHAR",
}  # fmt: skip
ATTEMPT_COLUMNS = {
    "attempt_id": "VARCHAR", "payment_id": "VARCHAR", "attempt_number": "BIGINT", "processor": "VARCHAR",
    "sent_at": "TIMESTAMP", "answered_at": "TIMESTAMP", "router_answered_at": "TIMESTAMP", "router_latency": "DOUBLE",
    "status": "VARCHAR", "answer_status": "VARCHAR", "approved": "BOOLEAN", "decline_code": "VARCHAR",
    "category": "VARCHAR", "kind": "VARCHAR", "refused": "VARCHAR", "counted_by_owner": "BOOLEAN",
    "rank_position": "SMALLINT", "message_initiator": "VARCHAR", "message_avs": "BOOLEAN", "message_mcc": "VARCHAR",
}  # fmt: skip
SKIP_COLUMNS = {"payment_id": "VARCHAR", "processor": "VARCHAR", "skipped_at": "TIMESTAMP", "reason": "VARCHAR"}
NEEDED = {
    "payments": ("payment_id", "order_id", "amount_usd"),
    "attempts": ("attempt_id", "payment_id", "processor"),
    "skips": tuple(SKIP_COLUMNS),
}
_IDS = ("payment_id", "order_id", "attempt_id")
_MAPPED = ("status", "answer_status", "refused", "initiator", "message_initiator", "processor", "previous_processor",
           "card_brand", "bank", "channel", "device", "card_country")  # fmt: skip


def stage(connection: duckdb.DuckDBPyConnection, source: Source, profile: LoadedProfile, ledger: Ledger) -> None:
    """Run the profile's queries and make the tables ``payments_0``, ``attempts_0`` and ``skips_0``."""
    queries = profile.queries
    tables = (
        ("payments", queries.payments, PAYMENT_COLUMNS),
        ("attempts", queries.attempts, ATTEMPT_COLUMNS),
        ("skips", queries.skips, SKIP_COLUMNS),
    )
    for table, text, columns in tables:
        where = f"{profile.file}, queries.{table}"
        rows = pa.table({name: pa.array([], pa.string()) for name in columns})
        if text is not None:
            rows = source.query(text, where)
            rows = rows.rename_columns([name.lower() for name in rows.column_names])
        _check_columns(rows, columns, NEEDED[table], where)
        connection.register("arrow_rows", rows)
        connection.execute(f"CREATE TEMP TABLE staged AS SELECT {_trimmed(rows, columns)} FROM arrow_rows")
        _tell_words(connection, rows, table, profile.spec, ledger)
        connection.execute(f"CREATE TABLE {table}_0 AS SELECT {_select(rows, columns, profile.spec)} FROM staged")
        connection.execute("DROP TABLE staged")
        connection.unregister("arrow_rows")
    if queries.census is not None:
        census = source.query(queries.census, f"{profile.file}, queries.census")
        for view, reason, count in zip(*(column.to_pylist() for column in census.columns), strict=True):
            ledger.mend(str(view), str(reason), int(count))


def _check_columns(rows: pa.Table, columns: Mapping[str, str], needed: tuple[str, ...], where: str) -> None:
    for name in rows.column_names:
        if name not in columns:
            hint = nearest(name, columns)
            raise BadInput(f"the query gives a column {name!r} that is no staging column{hint}", where)
    for name in needed:
        if name not in rows.column_names:
            raise BadInput(f"the query gives no column {name!r}, which is needed", where)


def _trimmed(rows: pa.Table, columns: Mapping[str, str]) -> str:
    """Text without outer space, and with single spaces inside where it is a word; empty text is NULL."""
    chosen = []
    for name in rows.column_names:
        text = f"TRIM(CAST({name} AS VARCHAR))"
        if columns[name] == "VARCHAR" and name in _MAPPED:
            text = f"IF({name} LIKE '%  %', REGEXP_REPLACE({text}, '\\s+', ' ', 'g'), {text})"
        chosen.append(f"NULLIF({text}, '') AS {name}" if columns[name] == "VARCHAR" else name)
    return ", ".join(chosen)


def _select(rows: pa.Table, columns: Mapping[str, str], profile: Profile) -> str:
    present = set(rows.column_names)
    return ", ".join(
        f"{_expression(name, kind, profile) if name in present else f'CAST(NULL AS {kind})'} AS {name}"
        for name, kind in columns.items()
    )


def _expression(name: str, kind: str, profile: Profile) -> str:
    if name in profile.hashed and kind == "VARCHAR":
        return f"LEFT(SHA256({_text(name, profile)}), 16)"
    if name in _IDS:
        return name
    if kind == "TIMESTAMP":
        time = f"TRY_CAST({name} AS TIMESTAMP)"
        return time if profile.timezone == "UTC" else f"({time} AT TIME ZONE '{profile.timezone}' AT TIME ZONE 'UTC')"
    if name == "amount_usd":
        return f"TRY_CAST({name} AS DOUBLE) * {profile.units.amount_usd!r}"
    if name == "router_latency":
        return f"TRY_CAST({name} AS DOUBLE) * {profile.units.latency_ms!r}"
    if kind != "VARCHAR":
        return f"TRY_CAST({name} AS {kind})"
    text = _text(name, profile)
    if name == "card_bin":
        return f"NULLIF(REGEXP_EXTRACT({text}, '^[0-9]{{6}}'), '')"
    if name in ("card_country", "currency"):
        text = f"UPPER({text})"
    if name in _MAPPED:
        return mapped(text, words(name, profile), _otherwise(name, text))
    return text


def _text(name: str, profile: Profile) -> str:
    """A staged text, NULL where it is a word for nothing."""
    absent = ", ".join(quoted(word.strip().lower()) for word in sorted({"", *profile.values.absent}))
    return f"(CASE WHEN LOWER({name}) IN ({absent}) THEN NULL ELSE {name} END)"


def words(name: str, profile: Profile) -> Mapping[str, str]:
    """The source's words for a column, in lower case, and ours."""
    values = profile.values
    by_name: dict[str, Mapping[str, object]] = {
        "status": values.status, "answer_status": values.status, "initiator": values.initiator,
        "message_initiator": values.initiator, "refused": values.refused, "processor": profile.processor_names(),
        "previous_processor": profile.processor_names(), "card_brand": values.card_brand, "bank": values.bank,
        "channel": values.channel, "device": values.device, "card_country": values.country,
    }  # fmt: skip
    return {word.strip().lower(): str(ours) for word, ours in by_name[name].items()}


def _otherwise(name: str, text: str) -> str:
    """What a word becomes that the profile does not list."""
    if name in ("processor", "previous_processor"):
        return f"UPPER(LEFT({text}, 1)) || SUBSTR({text}, 2)"
    if name in ("card_brand", "bank", "channel", "device"):
        return f"LOWER({text})"
    if name in ("status", "answer_status", "initiator", "message_initiator", "refused"):
        return "NULL"
    return text


def _tell_words(
    connection: duckdb.DuckDBPyConnection, rows: pa.Table, table: str, profile: Profile, ledger: Ledger
) -> None:
    """Warn of words that the profile does not list where it should; count mixed spellings."""
    for name in set(rows.column_names) & {"status", "answer_status", "refused", "initiator", "processor"}:
        known = ", ".join(quoted(word) for word in words(name, profile)) or "''"
        text = _text(name, profile)
        found = connection.sql(
            f"SELECT {text} AS word, COUNT(*) FROM staged WHERE {text} IS NOT NULL AND LOWER({text}) NOT IN ({known}) "
            "GROUP BY word ORDER BY COUNT(*) DESC, word"
        ).fetchall()
        if found:
            shown = ", ".join(repr(word) for word, _ in found[:5]) + (", ..." if len(found) > 5 else "")
            effects = {"processor": "kept as they are", "initiator": "their initiator is 'unknown'"}
            effect = effects.get(name, "not used")
            ledger.warn(f"{name} of {sum(n for _, n in found)} {table} is not in the profile ({shown}): {effect}")
    for name in [n for n in ("card_brand", "bank", "processor") if n in rows.column_names]:
        mixed = connection.sql(
            f"SELECT COALESCE(SUM(n) - SUM(most), 0) FROM (SELECT SUM(n) AS n, MAX(n) AS most FROM (SELECT {name} AS "
            f"spelt, COUNT(*) AS n FROM staged WHERE {name} IS NOT NULL GROUP BY spelt) GROUP BY LOWER(spelt))"
        ).fetchall()
        ledger.mend(table, f"mixed spelling of {name}", int(mixed[0][0]))


def mapped(text: str, table: Mapping[str, str], otherwise: str) -> str:
    """SQL that maps lower-cased words."""
    if not table:
        return otherwise
    cases = " ".join(f"WHEN {quoted(word)} THEN {quoted(ours)}" for word, ours in table.items())
    return f"(CASE LOWER({text}) {cases} ELSE {otherwise} END)"


def quoted(text: str) -> str:
    """A text literal."""
    return "'" + text.replace("'", "''") + "'"
