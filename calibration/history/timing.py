"""When each attempt was sent and answered: as its events say, else as the router's own log, else imputed.

An attempt with no time at all would take its whole payment with it, and retried payments most of all; so times are
imputed where the source leaves a hint, and each such row is counted.
"""

from __future__ import annotations

import duckdb

from routesim.calibration.history.profile import Profile
from routesim.calibration.history.quarantine import Ledger
from routesim.sim.errors import BadInput

_CHAIN = 20  # attempts of one payment in a row whose request may be imputed, one from the other


def give_times(connection: duckdb.DuckDBPyConnection, profile: Profile, ledger: Ledger, source: str) -> None:
    """Make ``timed`` of ``answered``: sent_at, answered_at and latency_ms of every attempt, or a reason why not.

    In this order: events; the router's log (answer, and answer less its latency); the median latency of the
    processor's attempts with that outcome; for a first attempt the payment's time; for a later one the previous answer
    plus the median delay of its initiator's retries. An answer up to ``clock_skew_s`` before its request is taken
    for skewed clocks and imputed. Raises BadInput where the source has no time of any attempt.
    """
    latency = "TO_MICROSECONDS(ROUND(router_latency * 1000)::BIGINT)"
    if profile.latency == "absent":
        ledger.warn("the source tells no answer's time: latency is 0 ms, and no latency can be learnt from it")
        answered = "COALESCE(sent_at, answered_at)"
        sent = answered
    else:
        answered = f"COALESCE(answered_at, router_answered_at, sent_at + {latency})"
        sent = f"COALESCE(sent_at, {answered} - {latency})"
    connection.execute(f"""
        CREATE TABLE timed AS SELECT * EXCLUDE (sent_at, answered_at), {sent} AS sent_at, {answered} AS answered_at,
            (sent_at IS NULL OR answered_at IS NULL) AS by_router, FALSE AS imputed
        FROM answered""")
    connection.execute("DROP TABLE answered")
    total, timed, by_router = _row(connection, """
        SELECT COUNT(*), COUNT(*) FILTER (sent_at IS NOT NULL AND answered_at IS NOT NULL),
            COUNT(*) FILTER (by_router AND sent_at IS NOT NULL AND answered_at IS NOT NULL) FROM timed
        WHERE reason IS NULL""")
    if total and not timed:
        raise BadInput("no attempt has a time: the source lacks both its events and the router's log", source)
    if profile.latency == "measured":
        ledger.mend("attempts", "time taken from the router's log", by_router)
    _mend_skew(connection, profile, ledger)
    _impute_latency(connection, ledger)
    _impute_request(connection, ledger)
    limit = f"INTERVAL {profile.longest_answer_s * 1000:.0f} MILLISECOND"
    connection.execute(f"""
        UPDATE timed SET reason = CASE WHEN sent_at IS NULL OR answered_at IS NULL THEN 'no time'
            ELSE 'answer too late to be its answer' END
        WHERE reason IS NULL AND (sent_at IS NULL OR answered_at IS NULL OR answered_at - sent_at > {limit})""")
    connection.execute("ALTER TABLE timed ADD COLUMN latency_ms DOUBLE")
    connection.execute("UPDATE timed SET latency_ms = (EPOCH_US(answered_at) - EPOCH_US(sent_at)) / 1000.0")


def _mend_skew(connection: duckdb.DuckDBPyConnection, profile: Profile, ledger: Ledger) -> None:
    skew = f"INTERVAL {profile.clock_skew_s * 1000:.0f} MILLISECOND"
    connection.execute(f"""
        UPDATE timed SET reason = 'answered before it was sent'
        WHERE reason IS NULL AND answered_at < sent_at - {skew}""")
    rows = _row(connection, "SELECT COUNT(*) FROM timed WHERE reason IS NULL AND answered_at < sent_at")[0]
    ledger.mend("attempts", "answered just before it was sent (skewed clocks)", rows)
    connection.execute("""
        UPDATE timed SET answered_at = CASE WHEN router_latency >= 0 THEN
            sent_at + TO_MICROSECONDS(ROUND(router_latency * 1000)::BIGINT) END
        WHERE reason IS NULL AND answered_at < sent_at""")


def _impute_latency(connection: duckdb.DuckDBPyConnection, ledger: Ledger) -> None:
    lacking = "reason IS NULL AND (answered_at IS NULL OR sent_at IS NULL)"
    if not _row(connection, f"SELECT COUNT(*) FROM timed WHERE {lacking}")[0]:
        return
    connection.execute("""
        CREATE TEMP TABLE usual AS SELECT processor, outcome, MEDIAN(EPOCH_US(answered_at) - EPOCH_US(sent_at)) AS us
        FROM timed WHERE reason IS NULL AND answered_at >= sent_at
        GROUP BY GROUPING SETS ((processor, outcome), (outcome), ())""")
    usual = """TO_MICROSECONDS(COALESCE(
        (SELECT us FROM usual u WHERE u.processor = timed.processor AND u.outcome = timed.outcome),
        (SELECT us FROM usual u WHERE u.processor IS NULL AND u.outcome = timed.outcome),
        (SELECT us FROM usual u WHERE u.processor IS NULL AND u.outcome IS NULL), 0)::BIGINT)"""
    connection.execute(f"CREATE TEMP TABLE gap AS SELECT attempt_id, {usual} AS latency FROM timed WHERE {lacking}")
    for known, absent, sign in (("sent_at", "answered_at", "+"), ("answered_at", "sent_at", "-")):
        where = f"reason IS NULL AND {absent} IS NULL AND {known} IS NOT NULL"
        rows = _row(connection, f"SELECT COUNT(*) FROM timed WHERE {where}")[0]
        what = "answer" if absent == "answered_at" else "request"
        ledger.mend("attempts", f"{what}'s time imputed by the usual latency", rows)
        connection.execute(f"""
            UPDATE timed SET {absent} = {known} {sign} gap.latency, imputed = TRUE FROM gap
            WHERE gap.attempt_id = timed.attempt_id AND {where}""")
    connection.execute("DROP TABLE usual")


def _impute_request(connection: duckdb.DuckDBPyConnection, ledger: Ledger) -> None:
    """Requests of attempts that have no time at all (``gap`` holds their usual latency)."""
    lacking = "reason IS NULL AND sent_at IS NULL AND answered_at IS NULL"
    if not _row(connection, f"SELECT COUNT(*) FROM timed WHERE {lacking}")[0]:
        return
    connection.execute("""
        CREATE TEMP TABLE delay AS SELECT initiator_told, MEDIAN(us) AS us FROM (
            SELECT initiator_told, EPOCH_US(sent_at) - EPOCH_US(LAG(answered_at) OVER (
                PARTITION BY payment_id ORDER BY attempt_number, attempt_id)) AS us
            FROM timed WHERE reason IS NULL AND sent_at IS NOT NULL AND NOT imputed)
        WHERE us >= 0 GROUP BY initiator_told""")
    connection.execute(f"""
        CREATE TEMP TABLE chain AS SELECT attempt_id, payment_id, initiator_told, paid_at, answered_at,
            ROW_NUMBER() OVER (PARTITION BY payment_id ORDER BY attempt_number NULLS LAST, attempt_id) AS place
        FROM timed WHERE payment_id IN (SELECT payment_id FROM timed WHERE {lacking})""")
    for place in range(1, _CHAIN + 1):
        before = _row(connection, f"SELECT COUNT(*) FROM timed WHERE {lacking}")[0]
        start = "c.paid_at" if place == 1 else "p.answered_at + TO_MICROSECONDS(d.us::BIGINT)"
        connection.execute(f"""
            CREATE TEMP TABLE found AS SELECT c.attempt_id, {start} AS sent_at, {start} + gap.latency AS answered_at
            FROM chain c JOIN gap ON gap.attempt_id = c.attempt_id
            LEFT JOIN chain p ON p.payment_id = c.payment_id AND p.place = c.place - 1
            LEFT JOIN delay d ON d.initiator_told = c.initiator_told
            WHERE c.place = {place} AND c.answered_at IS NULL""")
        connection.execute("""
            UPDATE timed SET sent_at = found.sent_at, answered_at = found.answered_at, imputed = TRUE FROM found
            WHERE found.attempt_id = timed.attempt_id AND reason IS NULL
                AND timed.sent_at IS NULL AND timed.answered_at IS NULL""")
        connection.execute("""
            UPDATE chain SET answered_at = found.answered_at FROM found WHERE found.attempt_id = chain.attempt_id""")
        connection.execute("DROP TABLE found")
        what = "the payment's time" if place == 1 else "the previous answer and the usual delay"
        ledger.mend("attempts", f"request's time imputed by {what}",
                    before - _row(connection, f"SELECT COUNT(*) FROM timed WHERE {lacking}")[0])
    for name in ("delay", "chain", "gap"):
        connection.execute(f"DROP TABLE {name}")


def _row(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    return tuple(connection.sql(sql).fetchall()[0])
