"""History in: a source and its profile become an attempt log to be trusted, and an account of what was not used.

Decided here, where sources differ or are silent:

- *Arrival* is the first request where that lies within the profile's ``arrival_tolerance_s`` of the payment's own time
  (which often has whole seconds), else the earlier of the two.
- *Forerunner*: a payment follows the latest earlier payment of its order if that one failed. Where that lies outside
  the window, or was set aside, the payment is exogenous (``previous_payment_id`` is null).
- A window takes whole payments by arrival, with all their attempts, however late.
- Retries after the source's end are unknown, not absent: ``provenance["until"]`` is the last event's time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from routesim.calibration.history.cleaning import Cleaner
from routesim.calibration.history.profile import CodeMeaning, LoadedProfile, load_profile
from routesim.calibration.history.quarantine import Ledger, Quarantine
from routesim.calibration.history.router_skips import skip_times
from routesim.calibration.history.snowflake_login import SCHEME, connection_name
from routesim.calibration.history.source import Source, open_source
from routesim.calibration.history.staging import FURTHER, quoted, stage
from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput
from routesim.sim.log import ATTEMPTS, MICROSECONDS, AttemptLog, payments_schema

__all__ = ["SKIPS", "CodeMeaning", "History", "Quarantine", "read_history"]

SKIPS = pa.schema([
    pa.field("payment_id", pa.string(), nullable=False, metadata={"doc": "the payment"}),
    pa.field("processor", pa.string(), metadata={"doc": "the processor that was passed over"}),
    pa.field("at", MICROSECONDS, metadata={"doc": "when", "unit": "UTC"}),
    pa.field("reason", pa.string(), nullable=False, metadata={"doc": "why, in the router's words"}),
])


@dataclass(frozen=True)
class History:
    """A source's payments and attempts, and how they came about.

    ``codes`` holds the meaning of every decline code that the profile lists or the source holds. ``skips`` follows
    SKIPS: the processors that the owner's router passed over (empty where the source does not tell), ``unhealthy`` the
    words in their reasons that mean that it thought them down. ``terms`` are the processors' published terms, as far as
    the profile knows them. ``provenance`` can be written as JSON.

    >>> history = rs.read_history("extracts/january")
    >>> payments = history.payments.to_pandas()
    >>> bool((payments["amount_usd"] > 0).all())
    True
    >>> history.quarantine.rows.column_names  # the rows that are not used, and why
    ['table', 'row_key', 'reason']
    """

    log: AttemptLog
    codes: dict[str, CodeMeaning]
    quarantine: Quarantine
    provenance: dict[str, Any]
    skips: pa.Table
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)
    unhealthy: tuple[str, ...] = ()

    @property
    def payments(self) -> pa.Table:
        """The payments in order of arrival; the schema's metadata say what the columns hold."""
        return self.log.payments

    @property
    def attempts(self) -> pa.Table:
        """Their attempts in order of the answers; the schema's metadata say what the columns hold."""
        return self.log.attempts

    def __repr__(self) -> str:
        told = self.provenance
        return (f"History({self.payments.num_rows:,} payments and {self.attempts.num_rows:,} attempts of "
                f"{told['source']}, {told['payments_from']} to {told['payments_until']})")

    @property
    def health_skips(self) -> dict[str, Floats]:
        """When (s, ascending) the owner's router passed over each processor because it thought it unhealthy."""
        return skip_times(self.skips, self.unhealthy)


def read_history(
    source: str | Path,
    profile: str | Path | None = None,
    from_: datetime | None = None,
    until: datetime | None = None,
    warm_up_s: float = 0,
) -> History:
    """Read and clean the payments that arrived in [from_, until) (a time without a zone is UTC; None is no bound).

    ``source`` is a folder of Parquet or CSV files, one a view, or one file, or ``snowflake://CONNECTION``, a connection
    of the user's connections.toml. ``profile`` is a built-in profile's name or a YAML file; it is payment_ml unless
    told, but for a single file, which needs one. Payments of the ``warm_up_s`` before ``from_`` are kept too,
    marked ``warm_up``. Raises BadInput, in one line, for whatever cannot be used: source, profile, window.
    """
    if str(source).startswith(SCHEME):
        connection_name(str(source))  # before any message shows the address: it might hold a password
    start, end = _utc(from_), _utc(until)
    if start and end and start >= end:
        raise BadInput(f"the window is empty: from {_told(start)} is not before until {_told(end)}", str(source))
    if warm_up_s < 0:
        raise BadInput(f"a warm-up is at least 0 s, not {warm_up_s}", str(source))
    if profile is None:
        if Path(source).is_file():
            raise BadInput("a single file needs a profile that tells its columns, such as psp_2019", str(source))
        profile = "payment_ml"
    loaded = load_profile(profile)
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")  # every table that is handed on is sorted
        ledger = Ledger()
        opened = open_source(source, loaded)
        for message in opened.warnings:
            ledger.warn(message)
        for column, cells in opened.unreadable.items():
            ledger.mend(column, "cells not of the column's type read as null", cells)
        try:
            stage(connection, opened, loaded, ledger)
            opened.close()  # its memory is wanted
            cleaner = Cleaner(connection, loaded.spec, ledger, str(source))
            cleaner.clean()
            return _History(connection, loaded, opened, ledger, cleaner).build(start, end, warm_up_s)
        except (duckdb.Error, pa.ArrowException) as error:
            raise BadInput(f"the rows cannot be cleaned: {str(error).strip().splitlines()[0]}", str(source)) from None
        finally:
            opened.close()


class _History:
    """Makes a History of a cleaner's tables ``payments_1``, ``attempts_1`` and ``skips_0``."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        profile: LoadedProfile,
        source: Source,
        ledger: Ledger,
        cleaner: Cleaner,
    ) -> None:
        self.connection = connection
        self.profile = profile
        self.source = source
        self.ledger = ledger
        self.cleaner = cleaner

    def build(self, start: datetime | None, end: datetime | None, warm_up_s: float) -> History:
        self._arrive()
        self._take_window(start, end, warm_up_s)
        self._find_forerunners()
        payments, attempts, rows = self._tables(start)
        skips = self._conform(
            "SELECT s.* FROM skips_0 s JOIN window_payments p USING (payment_id) WHERE s.reason IS NOT NULL "
            "ORDER BY skipped_at, payment_id, processor, s.reason", SKIPS, {"at": "skipped_at"})
        quarantine = self.ledger.close()
        return History(
            log=AttemptLog(payments, attempts, rows),
            codes=self.cleaner.codes,
            quarantine=quarantine,
            provenance=self._provenance(start, end, warm_up_s, quarantine),
            skips=skips,
            terms=self.profile.spec.terms(),
            unhealthy=self.profile.spec.values.unhealthy,
        )

    def _arrive(self) -> None:
        tolerance_us = round(self.profile.spec.arrival_tolerance_s * 1e6)
        self.connection.execute(f"""
            CREATE TABLE arrived AS
            WITH chain AS (
                SELECT payment_id, MIN(sent_at) AS first_sent, MAX(answered_at) AS ended_at,
                    BOOL_OR(outcome = 'approved') AS approved, ARG_MIN(processor, number) AS first_processor,
                    ARG_MAX(processor, number) AS last_processor, ARG_MAX_NULL(decline_code, number) AS last_code
                FROM attempts_1 GROUP BY payment_id
            )
            SELECT p.*, chain.* EXCLUDE (payment_id), CASE
                WHEN paid_at IS NULL OR ABS(EPOCH_US(first_sent) - EPOCH_US(paid_at)) <= {tolerance_us} THEN first_sent
                ELSE LEAST(paid_at, first_sent) END AS arrived_at
            FROM payments_1 p JOIN chain USING (payment_id)""")
        early, late = self._row("""
            SELECT COUNT(*) FILTER (first_sent < paid_at - INTERVAL 1 MINUTE),
                COUNT(*) FILTER (first_sent > paid_at + INTERVAL 1 MINUTE) FROM arrived""")
        if early or late:
            self.ledger.warn(f"the payment's time is over a minute from its first request: {early} payments were sent "
                             f"earlier, {late} later (is the profile's timezone right?)")

    def _take_window(self, start: datetime | None, end: datetime | None, warm_up_s: float) -> None:
        kept = start - timedelta(seconds=warm_up_s) if start else None
        bounds = [f"arrived_at >= {_literal(kept)}" if kept else "", f"arrived_at < {_literal(end)}" if end else ""]
        where = " AND ".join(bound for bound in bounds if bound) or "TRUE"
        self.connection.execute(f"CREATE TABLE window_payments AS SELECT * FROM arrived WHERE {where}")
        measured = f"arrived_at >= {_literal(start)}" if start else "TRUE"
        if not self._row(f"SELECT COUNT(*) FROM window_payments WHERE {measured}")[0]:
            first, last = self._row("SELECT MIN(arrived_at), MAX(arrived_at) FROM arrived")
            raise BadInput(
                f"no payment arrived from {_told(start) if start else 'the start'} until "
                f"{_told(end) if end else 'the end'}; the source has {_told(first)} to {_told(last)}", self.source.name)

    def _find_forerunners(self) -> None:
        self.connection.execute("""
            CREATE TABLE followed AS SELECT *,
                LAG(payment_id) OVER w AS earlier, LAG(approved) OVER w AS earlier_approved,
                LAG(last_code) OVER w AS earlier_code, LAG(last_processor) OVER w AS earlier_processor
            FROM window_payments WINDOW w AS (PARTITION BY order_id ORDER BY arrived_at, payment_id)""")
        paid, unlike, orphan = self._row("""
            SELECT COUNT(*) FILTER (earlier_approved), COUNT(*) FILTER (NOT earlier_approved AND (
                    previous_code IS NOT NULL AND previous_code IS DISTINCT FROM earlier_code
                    OR previous_processor IS NOT NULL AND previous_processor <> earlier_processor)),
                COUNT(*) FILTER (earlier IS NULL AND (previous_code IS NOT NULL OR previous_processor IS NOT NULL))
            FROM followed""")
        if paid:
            self.ledger.warn(f"{paid} payments come after an approved payment of their order: taken as exogenous")
        if unlike:
            self.ledger.warn(f"{unlike} payments name another code or processor of the payment before than that has")
        if orphan:
            self.ledger.warn(f"{orphan} payments follow one that is outside the window or not used: taken as exogenous")

    def _tables(self, start: datetime | None) -> tuple[pa.Table, pa.Table, Any]:
        warm_up = f"arrived_at < {_literal(start)}" if start else "FALSE"
        further = self.profile.spec.further_fields()
        payments = self._conform(f"""
            SELECT * REPLACE (initiator_told AS initiator),
                CASE WHEN NOT earlier_approved THEN earlier END AS previous_payment_id,
                first_processor AS logged_processor, approved AS logged_approved, {warm_up} AS warm_up
            FROM followed ORDER BY arrived_at, payment_id""", payments_schema(further),
            {each.name: FURTHER + each.name for each in further})
        self.connection.execute("""
            CREATE TABLE window_attempts AS
            WITH place AS (SELECT payment_id, ROW_NUMBER() OVER (ORDER BY arrived_at, payment_id) - 1 AS payment_row
                FROM window_payments)
            SELECT a.*, place.payment_row FROM attempts_1 a JOIN place USING (payment_id)""")
        attempts = self._conform("""
            WITH told AS (
                SELECT payment_id, number,
                    LIST({'processor': processor, 'reason': reason} ORDER BY processor, reason) AS skipped
                FROM (
                    SELECT s.payment_id, MIN(a.number) AS number, s.processor, s.reason
                    FROM skips_0 s JOIN window_attempts a
                        ON a.payment_id = s.payment_id AND (s.skipped_at IS NULL OR a.answered_at >= s.skipped_at)
                    WHERE s.reason IS NOT NULL GROUP BY s.payment_id, s.processor, s.reason, s.skipped_at)
                GROUP BY payment_id, number
            )
            SELECT a.* REPLACE (
                    COALESCE(a.message_initiator, NULLIF(a.initiator_told, 'unknown')) AS message_initiator),
                a.number AS attempt_number_told, CASE a.number WHEN 1 THEN 'rank' ELSE 'retry' END AS decision,
                NULL AS propensity, told.skipped,
                NULL AS late_approval, NULL AS network_rule, NULL AS network_fee_usd
            FROM window_attempts a LEFT JOIN told ON told.payment_id = a.payment_id AND told.number = a.number
            ORDER BY a.answered_at, a.payment_id, a.number""", ATTEMPTS, {"attempt_number": "attempt_number_told"})
        rows = self.connection.sql(
            "SELECT payment_row FROM window_attempts ORDER BY answered_at, payment_id, number").to_arrow_table()
        return payments, attempts, rows["payment_row"].to_numpy()

    def _provenance(
        self, start: datetime | None, end: datetime | None, warm_up_s: float, quarantine: Quarantine
    ) -> dict[str, Any]:
        spec = self.profile.spec
        first, last = self._row("SELECT MIN(arrived_at), MAX(arrived_at) FROM arrived")
        until = self._row("SELECT GREATEST((SELECT MAX(answered_at) FROM attempts_1), (SELECT MAX(arrived_at) "
                          "FROM arrived))")[0]
        rows: dict[str, dict[str, int]] = {}
        for table in ("payments", "attempts"):
            rows[table] = {
                "read": self._row(f"SELECT COUNT(*) FROM window_{table}")[0],
                "usable": self._row(f"SELECT COUNT(*) FROM {table}_1")[0],
                "quarantined": sum(n for (name, _), n in quarantine.quarantined.items() if name == table),
                "replays_removed": quarantine.mended.get((table, "replayed row removed"), 0),
                "mended": sum(n for (name, _), n in quarantine.mended.items() if name == table),
            }
            rows[table]["used"] = rows[table].pop("read")
            rows[table]["read"] = sum(rows[table][key] for key in ("usable", "quarantined", "replays_removed"))
        return {
            "source": self.source.name,
            "profile": spec.profile,
            "profile_sha256": self.profile.sha256,
            "window": {"from": _iso(start), "until": _iso(end), "warm_up_s": warm_up_s},
            "payments_from": _iso(first),
            "payments_until": _iso(last),
            "until": _iso(until),
            "latency": spec.latency,
            "views": dict(self.source.rows_read),
            "rows": rows,
            "quarantined": [list(item) for item in quarantine.summary()],
            "warnings": list(quarantine.warnings),
            "acceptance_rate_indicator": self._reconcile(),
        }

    def _reconcile(self) -> dict[str, Any] | None:
        """The owner's own denominator beside ours (attempts that reached a processor); None where he tells none."""
        approved, counted, theirs, ours, both = self._row("""
            SELECT COUNT(*) FILTER (outcome = 'approved'), COUNT(counted_by_owner), COUNT(*) FILTER (counted_by_owner),
                COUNT(*) FILTER (outcome <> 'refused'), COUNT(*) FILTER (counted_by_owner AND outcome <> 'refused')
            FROM window_attempts""")
        if not counted:
            return None
        by_outcome = self.connection.sql("""
            SELECT outcome, COUNT(*) FILTER (counted_by_owner), COUNT(*) FROM window_attempts
            GROUP BY outcome ORDER BY outcome""").fetchall()
        their_approved = next((n for outcome, n, _ in by_outcome if outcome == "approved"), 0)
        return {
            "told": counted, "owner_counts": theirs, "we_count": ours, "both_count": both,
            "owner_rate": their_approved / theirs if theirs else None, "our_rate": approved / ours if ours else None,
            "by_outcome": {outcome: {"owner_counts": owner, "attempts": n} for outcome, owner, n in by_outcome},
        }

    def _conform(self, sql: str, schema: pa.Schema, renamed: dict[str, str] | None = None) -> pa.Table:
        """The rows of a query as a table of exactly this schema."""
        names = [(renamed or {}).get(name, name) for name in schema.names]
        chosen = ", ".join(f'{name} AS "{ours}"' for name, ours in zip(names, schema.names, strict=True))
        rows = self.connection.sql(f"SELECT {chosen} FROM ({sql})").to_arrow_table()
        return pa.table([rows[f.name].cast(f.type).combine_chunks() for f in schema], schema=schema)

    def _row(self, sql: str) -> Any:
        return self.connection.sql(sql).fetchall()[0]


def _utc(time: datetime | None) -> datetime | None:
    """Naive UTC."""
    return time.astimezone(UTC).replace(tzinfo=None) if time and time.tzinfo else time


def _literal(time: datetime) -> str:
    return f"TIMESTAMP {quoted(time.isoformat(' '))}"


def _told(time: datetime) -> str:
    return time.isoformat(timespec="seconds") + "Z"


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() + "Z" if time else None
