"""Cleaning: staged rows become payments and attempts that can be trusted; whatever cannot is set aside with a reason.

A payment of which an attempt must be set aside goes whole: without it, its number of attempts and perhaps its approval
would be false. Only replays and attempts after an approval go alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import duckdb

from routesim.calibration.history.meanings import Failure, learn, meaning_of
from routesim.calibration.history.profile import CodeMeaning, Profile
from routesim.calibration.history.quarantine import Ledger
from routesim.calibration.history.staging import quoted
from routesim.calibration.history.timing import give_times
from routesim.sim.errors import BadInput

BIN_ROWS = 5  # payments of a BIN that must name its bank before it is taken for another's
LOST_ATTEMPT = "an attempt of it is quarantined"
LOST_PAYMENT = "its payment is quarantined"


class Cleaner:
    """Turns ``payments_0`` and ``attempts_0`` of a connection into ``payments_1`` and ``attempts_1``."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, profile: Profile, ledger: Ledger, source: str) -> None:
        self.connection = connection
        self.profile = profile
        self.ledger = ledger
        self.source = source
        self.codes: dict[str, CodeMeaning] = {}

    def clean(self) -> None:
        """Judge and mend every row. Raises BadInput where no attempt is left, or none was approved."""
        self._once("payments", "payment_id", "paid_at DESC NULLS LAST, ALL")
        self._once("attempts", "attempt_id", "approved DESC NULLS LAST, ALL")
        self._judge_payments()
        self._judge_attempts()
        self._read_answers()
        give_times(self.connection, self.profile, self.ledger, self.source)
        self._drop_broken()
        self._number()
        approved = self._one("SELECT COUNT(*) FROM attempts_1 WHERE outcome = 'approved'")
        if not self._one("SELECT COUNT(*) FROM attempts_1"):
            raise BadInput(f"no attempt is usable{self._main_reasons()}", self.source)
        if not approved:
            raise BadInput("no attempt was approved: nothing can be learnt of approvals (are the profile's status "
                           "words right?)", self.source)

    def _once(self, table: str, key: str, order: str) -> None:
        """Each key once: exact replays are removed and counted, other rows of the same key set aside."""
        source = f"{table}_0"
        self._set_aside(table, f"SELECT NULL, 'no key' FROM {source} WHERE {key} IS NULL")
        self._run(f"DELETE FROM {source} WHERE {key} IS NULL")
        rows, keys = self._row(f"SELECT COUNT(*), COUNT(DISTINCT {key}) FROM {source}")
        if rows == keys:
            return
        again = f"SELECT {key} FROM {source} GROUP BY {key} HAVING COUNT(*) > 1"
        self._run(f"CREATE TEMP TABLE again AS SELECT * FROM {source} WHERE {key} IN ({again})")
        self._run("CREATE TEMP TABLE distinct_again AS SELECT DISTINCT * FROM again")
        replayed = self._one("SELECT COUNT(*) FROM again") - self._one("SELECT COUNT(*) FROM distinct_again")
        self.ledger.mend(table, "replayed row removed", replayed)
        columns = order.replace("ALL", ", ".join(row[0] for row in self._rows(f"DESCRIBE {source}")))
        self._run(
            f"CREATE TEMP TABLE ranked AS SELECT *, ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {columns}) AS nth "
            "FROM distinct_again"
        )
        self._set_aside(table, f"SELECT {key}, 'same key with other content' FROM ranked WHERE nth > 1")
        self._run(f"DELETE FROM {source} WHERE {key} IN (SELECT {key} FROM again)")
        self._run(f"INSERT INTO {source} SELECT * EXCLUDE (nth) FROM ranked WHERE nth = 1")
        for name in ("again", "distinct_again", "ranked"):
            self._run(f"DROP TABLE {name}")

    def _judge_payments(self) -> None:
        profile = self.profile
        if profile.currency:
            absent = "currency IS NULL OR NOT REGEXP_FULL_MATCH(currency, '[A-Z]{3}')"
            rows = self._one(f"SELECT COUNT(*) FROM payments_0 WHERE {absent}")
            self.ledger.mend("payments", f"currency absent, taken as {profile.currency}", rows)
            self._run(f"UPDATE payments_0 SET currency = {quoted(profile.currency)} WHERE {absent}")
        self.ledger.mend(
            "payments", "order absent, the payment stands alone",
            self._one("SELECT COUNT(*) FROM payments_0 WHERE order_id IS NULL"),
        )
        self._run("UPDATE payments_0 SET order_id = payment_id WHERE order_id IS NULL")
        self._name_banks()
        unknown = self._one("SELECT COUNT(*) FROM payments_0 WHERE initiator IS NULL")
        if unknown:
            self.ledger.warn(f"{unknown} payments tell no initiator (CIT or MIT): it is 'unknown'")
        self._run(f"""
            CREATE TABLE payments_1 AS SELECT *, COALESCE(initiator, 'unknown') AS initiator_told, CASE
                WHEN amount_usd IS NULL OR ISNAN(amount_usd) OR ISINF(amount_usd) THEN 'amount absent or not a number'
                WHEN amount_usd <= 0 THEN 'amount not positive'
                WHEN currency IS NULL OR NOT REGEXP_FULL_MATCH(currency, '[A-Z]{{3}}') THEN 'currency absent'
                WHEN paid_at < {self._earliest} OR paid_at >= {self._latest} THEN 'time outside any sane range'
                WHEN NOT EXISTS (SELECT 1 FROM attempts_0 a WHERE a.payment_id = payments_0.payment_id)
                    THEN 'no attempt'
            END AS reason FROM payments_0""")
        self._run("DROP TABLE payments_0")

    def _name_banks(self) -> None:
        """A missing bank is that of its BIN, where all but one in a hundred of the BIN's payments name the same one."""
        missing = self._one("SELECT COUNT(*) FROM payments_0 WHERE bank IS NULL")
        if not missing:
            return
        self._run(f"""
            CREATE TEMP TABLE issuers AS
            WITH counts AS (SELECT card_bin, bank, COUNT(*) AS n FROM payments_0
                WHERE bank IS NOT NULL AND card_bin IS NOT NULL GROUP BY ALL)
            SELECT card_bin, ARG_MAX(bank, n) AS bank FROM counts GROUP BY card_bin
            HAVING MAX(n) >= {BIN_ROWS} AND MAX(n) >= 0.99 * SUM(n)""")
        self._run("""UPDATE payments_0 SET bank = issuers.bank FROM issuers
            WHERE payments_0.bank IS NULL AND payments_0.card_bin = issuers.card_bin""")
        left = self._one("SELECT COUNT(*) FROM payments_0 WHERE bank IS NULL")
        self.ledger.mend("payments", "missing bank taken from its BIN", missing - left)
        self.ledger.mend("payments", "missing bank kept as null", left)
        self._run("DROP TABLE issuers")

    def _judge_attempts(self) -> None:
        sane = " OR ".join(
            f"{name} < {self._earliest} OR {name} >= {self._latest}"
            for name in ("sent_at", "answered_at", "router_answered_at")
        )
        self._run(f"""
            CREATE TABLE judged AS SELECT a.*, CASE
                WHEN a.payment_id IS NULL THEN 'no payment'
                WHEN p.payment_id IS NULL THEN 'its payment is missing'
                WHEN a.processor IS NULL THEN 'no processor'
                WHEN {sane} THEN 'time outside any sane range'
            END AS reason, p.paid_at, p.initiator_told
            FROM attempts_0 a LEFT JOIN payments_1 p ON p.payment_id = a.payment_id""")
        self._run("DROP TABLE attempts_0")

    def _read_answers(self) -> None:
        """Outcome, code and kind of each attempt. The answer's event is believed before the attempt's status, and that
        before the approved flag."""
        self._run("ALTER TABLE judged ADD COLUMN answer VARCHAR")
        self._run("""
            UPDATE judged SET answer = CASE
                WHEN answer_status <> 'pending' THEN answer_status
                WHEN status <> 'pending' THEN status
                WHEN approved THEN 'approved'
                WHEN decline_code IS NOT NULL THEN 'declined'
                WHEN answer_status = 'pending' OR status = 'pending' THEN 'pending'
                WHEN NOT approved THEN 'declined'
            END""")
        contradictory = """(answer = 'approved') <> approved OR (status <> 'pending' AND answer_status <> 'pending'
            AND (status = 'approved') <> (answer_status = 'approved'))"""
        rows = self._one(f"SELECT COUNT(*) FROM judged WHERE reason IS NULL AND ({contradictory})")
        self.ledger.mend("attempts", "status and approved flag contradict each other, the answer is believed", rows)
        self._run("""
            UPDATE judged SET reason = CASE answer WHEN 'pending' THEN 'no answer yet' ELSE 'no outcome' END
            WHERE reason IS NULL AND (answer IS NULL OR answer = 'pending')""")
        self._run("UPDATE judged SET answer = 'refused' WHERE refused = 'True' AND answer <> 'approved'")
        failures = [Failure(*row) for row in self._rows("""
            SELECT decline_code, category, kind, answer, COUNT(*) FROM judged
            WHERE answer <> 'approved' AND answer <> 'pending' GROUP BY ALL ORDER BY ALL""")]
        self.codes = learn(self.profile, failures, self.ledger)
        self._run("CREATE TABLE meaning (decline_code VARCHAR, category VARCHAR, kind VARCHAR, answer VARCHAR, "
                  "outcome VARCHAR, decline_kind VARCHAR)")
        listed = [(*failure[:4], *meaning_of(self.profile, failure, self.codes)) for failure in failures]
        for start in range(0, len(listed), 500):
            rows_sql = ", ".join(
                "(" + ", ".join("NULL" if cell is None else quoted(cell) for cell in row) + ")"
                for row in listed[start : start + 500]
            )
            self._run(f"INSERT INTO meaning VALUES {rows_sql}")
        self._run("""
            CREATE TABLE answered AS SELECT j.* EXCLUDE (decline_code, kind),
                CASE WHEN j.answer = 'approved' THEN 'approved' ELSE m.outcome END AS outcome,
                CASE WHEN j.answer <> 'approved' THEN j.decline_code END AS decline_code, m.decline_kind
            FROM judged j LEFT JOIN meaning m ON m.decline_code IS NOT DISTINCT FROM j.decline_code
                AND m.category IS NOT DISTINCT FROM j.category AND m.kind IS NOT DISTINCT FROM j.kind
                AND m.answer = j.answer""")
        self._run("DROP TABLE judged")

    def _drop_broken(self) -> None:
        """Payments with a broken attempt go whole, attempts of a broken payment with it."""
        self._run(f"""
            UPDATE payments_1 SET reason = {quoted(LOST_ATTEMPT)} WHERE reason IS NULL AND payment_id IN (
                SELECT payment_id FROM timed WHERE reason IS NOT NULL)""")
        self._run(f"""
            UPDATE timed SET reason = {quoted(LOST_PAYMENT)} WHERE reason IS NULL AND payment_id IN (
                SELECT payment_id FROM payments_1 WHERE reason IS NOT NULL)""")
        self._set_aside("payments", "SELECT payment_id, reason FROM payments_1 WHERE reason IS NOT NULL")
        self._set_aside("attempts", "SELECT attempt_id, reason FROM timed WHERE reason IS NOT NULL")
        all_rows, lost = self._row("SELECT COUNT(*), COUNT(reason) FROM payments_1")
        if lost > 0.01 * all_rows:
            self.ledger.warn(f"{lost} of {all_rows} payments are quarantined: {100 * lost / all_rows:.1f} %")
        self._run("DELETE FROM payments_1 WHERE reason IS NOT NULL")
        self._run("DELETE FROM timed WHERE reason IS NOT NULL")

    def _number(self) -> None:
        """Attempts are numbered by their request; what follows an approval is set aside."""
        self._run("""
            CREATE TABLE numbered AS SELECT *, ROW_NUMBER() OVER w AS number,
                LAG(answered_at) OVER w AS previous_answer,
                COALESCE(BOOL_OR(outcome = 'approved') OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), FALSE)
                    AS after_approval
            FROM timed
            WINDOW w AS (PARTITION BY payment_id ORDER BY sent_at, attempt_number NULLS LAST, attempt_id)""")
        self.ledger.mend("attempts", "renumbered by the request's time", self._one(
            "SELECT COUNT(*) FROM numbered WHERE attempt_number IS NOT NULL AND attempt_number <> number"))
        self._set_aside("attempts", "SELECT attempt_id, 'after an approval' FROM numbered WHERE after_approval")
        overlapping = self._one(
            "SELECT COUNT(*) FROM numbered WHERE NOT after_approval AND sent_at < previous_answer")
        if overlapping:
            self.ledger.warn(f"{overlapping} attempts were sent before the one before them was answered: kept")
        self._run("CREATE TABLE attempts_1 AS SELECT * EXCLUDE (after_approval, previous_answer, reason) FROM numbered "
                  "WHERE NOT after_approval")
        self._run("DROP TABLE numbered")
        self._run("DROP TABLE timed")

    @property
    def _earliest(self) -> str:
        return f"TIMESTAMP {quoted(datetime.fromisoformat(self.profile.earliest).isoformat(' '))}"

    @property
    def _latest(self) -> str:
        return f"TIMESTAMP {quoted(datetime.fromisoformat(self.profile.latest).isoformat(' '))}"

    def _main_reasons(self) -> str:
        first = list(self.ledger.close().quarantined.items())[:2]
        return "" if not first else " (" + "; ".join(f"{n} {table}: {why}" for (table, why), n in first) + ")"

    def _set_aside(self, table: str, sql: str) -> None:
        self.ledger.set_aside(table, self._rows(sql))

    def _run(self, sql: str) -> None:
        self.connection.execute(sql)

    def _rows(self, sql: str) -> list[Any]:
        return list(self.connection.sql(sql).fetchall())

    def _row(self, sql: str) -> Any:
        return self._rows(sql)[0]

    def _one(self, sql: str) -> int:
        return int(self._row(sql)[0])
