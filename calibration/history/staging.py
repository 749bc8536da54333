"""Staging: a profile's query results as typed tables, in our words, before any row is judged.

The queries may leave out any column that is not needed; it is NULL then. Times are naive UTC from here on. The columns
of a payment follow from its fields; those that the profile declares are staged behind them under a prefix of their own,
so that no name of theirs can meet one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import duckdb
import pyarrow as pa

from routesim.calibration.history.profile import LoadedProfile, Profile
from routesim.calibration.history.quarantine import Ledger
from routesim.calibration.history.source import Source
from routesim.policies.payment_fields import Kind, PaymentField
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS
from routesim.sim.errors import BadInput

_SQL: dict[Kind, str] = {"text": "VARCHAR", "number": "DOUBLE", "whole number": "BIGINT", "true or false": "BOOLEAN",
                         "moment": "TIMESTAMP"}
STAGED_AS = {"arrived_at": "paid_at"}  # the source's own time of the payment, from which the arrival is found


def _sql_type(payment_field: PaymentField) -> str:
    assert payment_field.kind is not None
    return "SMALLINT" if payment_field.bits == 16 else _SQL[payment_field.kind]


PAYMENT_COLUMNS = {
    **{STAGED_AS.get(name, name): _sql_type(each) for name, each in PAYMENT_FIELDS.items() if each.origin == "source"},
    "previous_code": "VARCHAR", "previous_processor": "VARCHAR",
}  # fmt: skip
FURTHER = "further_"
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


def stage(connection: duckdb.DuckDBPyConnection, source: Source, profile: LoadedProfile, ledger: Ledger) -> None:
    """Run the profile's queries and make the tables ``payments_0``, ``attempts_0`` and ``skips_0``."""
    queries = profile.queries
    further = profile.spec.further_fields()
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
        if table == "payments":
            rows = _named_apart(rows, further, where)
            columns = columns | {FURTHER + each.name: _sql_type(each) for each in further}
        _check_columns(rows, columns, NEEDED[table], where)
        connection.register("arrow_rows", rows)
        connection.execute(f"CREATE TEMP TABLE staged AS SELECT {_trimmed(rows, columns)} FROM arrow_rows")
        _tell_words(connection, rows, table, profile.spec, ledger)
        connection.execute(f"CREATE TABLE {table}_0 AS SELECT {_select(rows, columns, profile.spec)} FROM staged")
        if table == "payments":
            _tell_unusable(connection, further, profile.spec, ledger)
        connection.execute("DROP TABLE staged")
        connection.unregister("arrow_rows")
    if queries.census is not None:
        census = source.query(queries.census, f"{profile.file}, queries.census")
        for view, reason, count in zip(*(column.to_pylist() for column in census.columns), strict=True):
            ledger.mend(str(view), str(reason), int(count))


def _named_apart(rows: pa.Table, further: Sequence[PaymentField], where: str) -> pa.Table:
    """The rows with the columns of the profile's own fields under their prefix. Raises BadInput where one lacks."""
    names = {each.name for each in further}
    for name in sorted(names - set(rows.column_names)):
        raise BadInput(f"the query gives no column {name!r}, which payment_fields declares", where)
    return rows.rename_columns([FURTHER + name if name in names else name for name in rows.column_names])


def _tell_unusable(connection: duckdb.DuckDBPyConnection, further: Sequence[PaymentField], profile: Profile,
                   ledger: Ledger) -> None:
    """Count the values of the profile's own fields that are there and cannot be used."""
    for each in further:
        column = FURTHER + each.name
        usable, personal = _expression(column, _sql_type(each), profile), _personal(column, _sql_type(each))
        lost, told = connection.sql(
            f"SELECT COUNT(*) FILTER (NOT {personal}), COUNT(*) FILTER ({personal}) FROM staged "
            f"WHERE {_text(column, profile)} IS NOT NULL AND {usable} IS NULL").fetchall()[0]
        ledger.mend("payments", f"{each.name} is no {each.kind}: read as null", int(lost))
        ledger.mend("payments", f"{each.name} holds a card number, an e-mail or an IP address: read as null", int(told))


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
        if columns[name] == "VARCHAR" and name in _WORDS:
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
    if name.startswith(FURTHER):
        return _further(name, kind, profile)
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
    if name in PAYMENT_FIELDS and PAYMENT_FIELDS[name].case == "upper":
        text = f"UPPER({text})"
    if name in _WORDS:
        return mapped(text, words(name, profile), _otherwise(name, text))
    return text


def _further(name: str, kind: str, profile: Profile) -> str:
    """The value of one of the profile's own fields; NULL where it is absent, cannot be used or is personal content."""
    text = _text(name, profile)
    number = f"TRY_CAST({text} AS DOUBLE)"
    usable = {
        "VARCHAR": text,
        "BOOLEAN": f"TRY_CAST({text} AS BOOLEAN)",
        "DOUBLE": f"(CASE WHEN ISFINITE({number}) THEN {number} END)",
        "BIGINT": f"(CASE WHEN {number} = TRUNC({number}) THEN TRY_CAST({text} AS BIGINT) END)",
    }[kind]
    kept = f"(CASE WHEN NOT {_personal(name, kind)} THEN {usable} END)"
    return f"LEFT(SHA256({kept}), 16)" if kind == "VARCHAR" and name.removeprefix(FURTHER) in profile.hashed else kept


_PERSONAL = (
    r"(^|[^0-9A-Za-z.])[0-9]([ -]?[0-9]){12,18}([^0-9A-Za-z]|$)",  # as many digits as a card's number has
    r"[^@\s]+@[^@\s]+\.[^@\s]+",
    r"\b[0-9]{1,3}(\.[0-9]{1,3}){3}\b",
    r"\b([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}\b",
)


def _personal(name: str, kind: str) -> str:
    """Whether a staged value holds what no log may: a card number, an e-mail address or an IP address."""
    text = f"CAST({name} AS VARCHAR)"
    if kind in ("DOUBLE", "BIGINT"):  # a number of 13 to 19 digits, however it is written
        text = f"CAST(TRY_CAST(TRY_CAST({name} AS DOUBLE) AS BIGINT) AS VARCHAR)"
    matches = " OR ".join(f"REGEXP_MATCHES({text}, {quoted(pattern)})" for pattern in _PERSONAL)
    return f"COALESCE({matches}, FALSE)"


def _text(name: str, profile: Profile) -> str:
    """A staged value as text, NULL where it is a word for nothing."""
    absent = ", ".join(quoted(word.strip().lower()) for word in sorted({"", *profile.values.absent}))
    text = f"TRIM(CAST({name} AS VARCHAR))" if name.startswith(FURTHER) else name
    return f"(CASE WHEN LOWER({text}) IN ({absent}) THEN NULL ELSE {text} END)"


def words(name: str, profile: Profile) -> Mapping[str, str]:
    """The source's words for a column, in lower case, and ours."""
    return {word.strip().lower(): str(ours) for word, ours in _WORDS[name](profile).items()}


_WORDS: dict[str, Callable[[Profile], Mapping[str, object]]] = {  # of the columns that are words
    "status": lambda profile: profile.values.status, "answer_status": lambda profile: profile.values.status,
    "initiator": lambda profile: profile.values.initiator,
    "message_initiator": lambda profile: profile.values.initiator, "refused": lambda profile: profile.values.refused,
    "processor": Profile.processor_names, "previous_processor": Profile.processor_names,
    "card_brand": lambda profile: profile.values.card_brand, "bank": lambda profile: profile.values.bank,
    "channel": lambda profile: profile.values.channel, "device": lambda profile: profile.values.device,
    "card_country": lambda profile: profile.values.country,
}  # fmt: skip


def _otherwise(name: str, text: str) -> str:
    """What a word becomes that the profile does not list."""
    if name in ("processor", "previous_processor"):
        return f"UPPER(LEFT({text}, 1)) || SUBSTR({text}, 2)"
    if name in PAYMENT_FIELDS and PAYMENT_FIELDS[name].case == "lower":
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
