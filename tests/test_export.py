"""Rows for the platform's tables: keys hold, joins are one to one, figures are the run's own, nothing is personal."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from routesim.policies.vocabulary import Skip
from routesim.reports.athia.export import export
from routesim.reports.athia.rows import FROM_LOG
from routesim.reports.athia.tables import platform_tables
from routesim.reports.metrics.columns import Columns
from routesim.reports.metrics.measure import waits_ms
from routesim.sim.log import AttemptLog
from tests.exports import loaded, logged_run, one
from tests.logs import attempt, log, payment
from tests.small import Small, contents

PART = "policy=legacy/world=000/luck=000/part-0.parquet"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def done(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logged_run(small, tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def exported(done: Path) -> Path:
    export(done, done.with_name("out"))
    return done.with_name("out")


@pytest.fixture(scope="module")
def database(exported: Path) -> duckdb.DuckDBPyConnection:
    return loaded(exported)


# --- keys and joins


def test_every_key_holds(database: duckdb.DuckDBPyConnection) -> None:
    for name in platform_tables():
        assert one(database, f"SELECT COUNT(*) FROM {name}") > 0
    row = "SELECT * REPLACE ('sim_new' AS PAYMENT_ATTEMPT_ID, 'sim_nobody' AS PREDICTION_ID) FROM ATHIA_FEEDBACK"
    with pytest.raises(duckdb.ConstraintException):  # so the keys were enforced above
        database.execute(f"INSERT INTO ATHIA_FEEDBACK {row} LIMIT 1")
    with pytest.raises(duckdb.ConstraintException):
        database.execute("INSERT INTO ATHIA_PREDICTIONS SELECT * FROM ATHIA_PREDICTIONS LIMIT 1")


def test_predictions_feedback_and_training_are_one_to_one(database: duckdb.DuckDBPyConnection, done: Path) -> None:
    attempts = sum(pq.ParquetFile(path).metadata.num_rows for path in done.glob("attempts/*/*/*/*.parquet"))
    for name in ("ATHIA_PREDICTIONS", "ATHIA_FEEDBACK", "ATHIA_TRAINING_DATASET"):
        assert one(database, f"SELECT COUNT(*) FROM {name}") == attempts
    same = one(database, """
        SELECT COUNT(*) FROM ATHIA_TRAINING_DATASET AS t
        JOIN ATHIA_PREDICTIONS AS p USING (PREDICTION_ID) JOIN ATHIA_FEEDBACK AS f USING (PREDICTION_ID)
        WHERE t.PAYMENT_ATTEMPT_ID = f.PAYMENT_ATTEMPT_ID AND t.OUTCOME = f.OUTCOME
            AND t.BANK IS NOT DISTINCT FROM p.BANK
            AND p.PAYMENT_ID = f.PAYMENT_ID AND p.PAYMENT_ATTEMPT_SEQUENCE_ORDER = f.PAYMENT_ATTEMPT_SEQUENCE_ORDER
            AND p.PAYMENT_ATTEMPT_PROCESSOR_NAME = f.PAYMENT_ATTEMPT_PROCESSOR_NAME
            AND p.PREDICTED_AT <= f.ANSWERED_AT AND p.RUN_ID = f.RUN_ID""")
    assert same == attempts


def test_rows_tell_what_the_log_tells(database: duckdb.DuckDBPyConnection, done: Path) -> None:
    part = "policy=breaker/world=001/luck=001/part-0.parquet"
    database.register("log_attempts", pq.ParquetFile(done / "attempts" / part).read())
    database.register("log_payments", pq.ParquetFile(done / "payments" / part).read())
    database.execute("SET TimeZone = 'UTC'")
    wrong = one(database, """
        SELECT COUNT(*) FROM ATHIA_TRAINING_DATASET AS t
        FULL JOIN log_attempts AS a
            ON t.PAYMENT_ID = a.payment_id AND t.PAYMENT_ATTEMPT_SEQUENCE_ORDER = a.attempt_number
        LEFT JOIN log_payments AS p ON p.payment_id = a.payment_id
        WHERE (t.POLICY = 'breaker' AND t.WORLD = 1 AND t.LUCK = 1 OR t.POLICY IS NULL) AND NOT COALESCE(
            t.OUTCOME = a.outcome AND t.PAYMENT_ATTEMPT_ERROR_CODE IS NOT DISTINCT FROM a.decline_code
            AND t.PASSED_OVER IS NOT DISTINCT FROM
                a.skipped[1].processor || ': ' || a.skipped[1].reason AND t.DECISION = a.decision
            AND t.PAYMENT_ATTEMPT_PROCESSOR_NAME = a.processor AND t.PREDICTED_AT = a.sent_at::TIMESTAMP
            AND t.PAYMENT_AMOUNT_USD = p.amount_usd AND t.WARM_UP = p.warm_up AND t.ORDER_ID = p.order_id, FALSE)""")
    assert wrong == 0
    assert one(database, "SELECT COUNT(*) FROM log_attempts") == one(
        database, "SELECT COUNT(*) FROM ATHIA_FEEDBACK WHERE POLICY = 'breaker' AND WORLD = 1 AND LUCK = 1")


# --- the run's own figures, by another way

FIGURES = {
    "approval_rate": """SELECT AVG(PAYMENT_APPROVED::INT) FROM ATHIA_STAGE_OUTCOMES
        WHERE STAGE = 'installment' AND NOT WARM_UP AND {}""",
    "first_attempt_rate": """SELECT COUNT(*) FILTER (STAGE = 'processor' AND STAGE_OUTCOME = 'approved')
        / COUNT(*) FILTER (STAGE = 'installment') FROM ATHIA_STAGE_OUTCOMES WHERE NOT WARM_UP AND {}""",
    "attempts_per_payment": """SELECT COUNT(PREDICTION_ID) / COUNT(*) FILTER (STAGE = 'installment')
        FROM ATHIA_STAGE_OUTCOMES WHERE NOT WARM_UP AND {}""",
    "recovered": """SELECT COUNT(*) FILTER (STAGE = 'retry' AND STAGE_OUTCOME = 'approved')
        / COUNT(*) FILTER (STAGE = 'installment') FROM ATHIA_STAGE_OUTCOMES WHERE NOT WARM_UP AND {}""",
    "dark_payments": """SELECT COUNT(*) FROM ATHIA_FEEDBACK WHERE PAYMENT_LAST_ATTEMPT_INDICATOR
        AND OUTCOME IN ('timeout', 'unavailable') AND NOT WARM_UP AND {}""",
    "order_approval_rate": """SELECT AVG(ORDER_APPROVED_INDICATOR::INT) FROM ATHIA_SESSION_SUMMARY
        WHERE NOT WARM_UP AND {}""",
    "orders": "SELECT COUNT(*) FROM ATHIA_SESSION_SUMMARY WHERE NOT WARM_UP AND {}",
    "latency_ms.attempt.p95": """SELECT QUANTILE_CONT(LATENCY_MS, .95) FROM ATHIA_TRAINING_DATASET
        WHERE NOT WARM_UP AND {}""",
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_of_the_tables_are_the_runs(database: duckdb.DuckDBPyConnection, done: Path, figure: str) -> None:
    table = pq.read_table(done / "replications.parquet").to_pandas()
    rows = table[table["figure"] == figure]
    assert len(rows) == 3 * 4
    for row in rows.itertuples():
        where = f"POLICY = '{row.policy}' AND WORLD = {row.world} AND LUCK = {row.luck}"
        assert one(database, FIGURES[figure].format(where)) == pytest.approx(row.value, rel=1e-9)


def test_waits_are_the_runs(database: duckdb.DuckDBPyConnection, done: Path) -> None:
    columns = Columns.of(AttemptLog(*(pq.ParquetFile(done / kind / PART).read() for kind in ("payments", "attempts"))))
    waited_ms = one(database, """SELECT SUM(WAIT_MS) FROM ATHIA_SESSION_SUMMARY
        WHERE NOT WARM_UP AND POLICY = 'legacy' AND WORLD = 0 AND LUCK = 0""")
    assert waited_ms == pytest.approx(waits_ms(columns).sum(), rel=1e-9)


def test_lifts_are_the_summarys(database: duckdb.DuckDBPyConnection, done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    rows = database.execute("""SELECT TREATMENT_VARIANT, CONTROL_VARIANT, LIFT_PP, LIFT_LOW_PP, LIFT_HIGH_PP, LIFT_KIND,
        TREATMENT_APPROVALS, TREATMENT_SAMPLES, TREATMENT_REVENUE_USD, P_VALUE, VERDICT FROM ATHIA_EXPERIMENT_LIFT
        ORDER BY 1""").fetchall()
    replications = one(database, "SELECT COUNT(DISTINCT (WORLD, LUCK)) FROM ATHIA_STAGE_OUTCOMES")
    assert replications > 1
    assert [row[0] for row in rows] == ["breaker", "three_attempts"]
    for policy, control, value, low, high, kind, approvals, samples, revenue_usd, p_value, verdict in rows:
        told = summary["policies"][policy]
        assert (value, low, high) == tuple(told["lift_pp"][key] for key in ("value", "low", "high"))
        assert (control, kind, p_value, verdict) == ("legacy", "simulated_comparison", None, None)
        paid_usd, payments = database.execute("""
            SELECT SUM(f.PAYMENT_AMOUNT_USD) FILTER (PAYMENT_ATTEMPT_APPROVED_INDICATOR),
                (SELECT COUNT(*) FROM ATHIA_STAGE_OUTCOMES WHERE STAGE = 'installment' AND POLICY = $1 AND NOT WARM_UP)
            FROM ATHIA_TRAINING_DATASET AS f WHERE POLICY = $1 AND NOT WARM_UP""", [policy]).fetchall()[0]
        assert revenue_usd == pytest.approx(paid_usd / payments, rel=1e-9)
        assert abs(samples - payments / replications) <= 0.5  # a mean replication's, not the sum of all
        assert approvals / samples == pytest.approx(told["approval_rate"]["value"], abs=1 / samples)
    joined = one(database, """SELECT COUNT(DISTINCT p.POLICY) FROM ATHIA_PREDICTIONS AS p
        JOIN ATHIA_EXPERIMENT_LIFT AS l
            ON l.RUN_ID = p.RUN_ID AND p.POLICY IN (l.CONTROL_VARIANT, l.TREATMENT_VARIANT)""")
    assert joined == 3


# --- by hand

TOLD = log(
    [payment("a", 0, order_id="one", card_bin="41411234", card_token="secret", installments=6, customer_id="c1",
             warm_up=True),
     payment("b", 2 * DAY_S, order_id="one", previous_payment_id="a", card_bin="414112", customer_id="c1"),
     payment("c", 10, order_id="two", amount_usd=40.0)],
    [attempt("a", 1, "Worldpay", 0, 2, "timeout"),
     attempt("a", 2, "Elavon", 5, 1, "declined", decline_code="51", decline_kind="soft", decision="retry",
             skipped=[Skip("MIT", "circuit_open"), Skip("New: PSP", "down")]),
     attempt("a", 3, "Worldpay", DAY_S, 1, "declined", decline_code="51", decline_kind="soft", decision="retry",
             network_rule="excessive reattempts", network_fee_usd=0.1),
     attempt("b", 1, "MIT", 2 * DAY_S, 3, "approved", propensity=0.25)])


@pytest.fixture(scope="module")
def by_hand(done: Path, tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """A run whose baseline has the log TOLD: an order that is lost, waits a day, comes back; another never sent."""
    folder = tmp_path_factory.mktemp("hand") / "run"
    shutil.copytree(done, folder)
    for kind, table in (("payments", TOLD.payments), ("attempts", TOLD.attempts)):
        for path in folder.glob(f"{kind}/policy=legacy/*/*/*.parquet"):
            path.unlink()
        pq.write_table(table, folder / kind / PART)
    export(folder, folder.with_name("out"), ["legacy"])
    return loaded(folder.with_name("out"))


def test_stages_by_hand(by_hand: duckdb.DuckDBPyConnection) -> None:
    assert by_hand.execute("""
        SELECT PAYMENT_ID, STAGE, STAGE_NUMBER, STAGE_STEP, PAYMENT_ATTEMPT_PROCESSOR_NAME, STAGE_OUTCOME, INSTALLMENTS,
            PAYMENT_ATTEMPT_HARD_SOFT_TYPE, EPOCH(LEFT_AT - ENTERED_AT), IS_LAST_STEP, PAYMENT_APPROVED
        FROM ATHIA_STAGE_OUTCOMES ORDER BY PAYMENT_ID, STAGE_NUMBER, STAGE_STEP""").fetchall() == [
        ("a", "installment", 1, 1, None, "passed", 6, None, 0, False, False),
        ("a", "processor", 2, 1, "Worldpay", "timeout", 6, None, 2, False, False),
        ("a", "retry", 3, 1, "Elavon", "declined", 6, "SOFT", 1, False, False),
        ("a", "retry", 3, 2, "Worldpay", "declined", 6, "SOFT", 1, True, False),
        ("b", "installment", 1, 1, None, "passed", None, None, 0, False, True),
        ("b", "processor", 2, 1, "MIT", "approved", None, None, 3, True, True),
        ("c", "installment", 1, 1, None, "passed", None, None, 0, True, False)]


def test_sessions_by_hand(by_hand: duckdb.DuckDBPyConnection) -> None:
    rows = by_hand.execute("""
        SELECT ORDER_ID, PAYMENTS, ATTEMPTS, PROCESSORS_TRIED, TIMEOUTS, FIRST_PROCESSOR_NAME, LAST_PROCESSOR_NAME,
            LAST_OUTCOME, ORDER_APPROVED_INDICATOR, FIRST_ATTEMPT_APPROVED, RECOVERED, ENDED_DARK, ORDER_AMOUNT_USD,
            APPROVED_USD, WAIT_MS, NETWORK_FEE_USD, EPOCH(ENDED_AT - STARTED_AT), WARM_UP
        FROM ATHIA_SESSION_SUMMARY ORDER BY ORDER_ID""").fetchall()
    assert rows == [
        # the wait: 6 s of payment a, whose third attempt came a day later, and 3 s of payment b
        ("one", 2, 4, 3, 1, "Worldpay", "MIT", "approved", True, False, False, False, 100, 100, 9_000, 0.1,
         2 * DAY_S + 3, True),  # an order that begins in the warm-up belongs to it
        ("two", 1, 0, 0, 0, None, None, None, False, False, False, False, 40, 0, None, 0, 0, False)]


def test_inputs_by_hand(by_hand: duckdb.DuckDBPyConnection) -> None:
    """Midnight UTC of Monday 2 February 2026 is six in the evening of Sunday the 1st in Mexico City."""
    rows = by_hand.execute("""
        SELECT PAYMENT_ID, PAYMENT_ATTEMPT_SEQUENCE_ORDER, LOCAL_HOUR, LOCAL_WEEKDAY, LOCAL_DAY,
            PREVIOUS_PROCESSOR_NAME, PREVIOUS_OUTCOME, SINCE_PREVIOUS_ANSWER_S, CARD_BIN, FOLLOWS_FAILED_PAYMENT,
            PASSED_OVER, PROPENSITY
        FROM ATHIA_PREDICTIONS ORDER BY 1, 2""").fetchall()
    assert rows == [
        ("a", 1, 18, 6, 1, None, None, None, "414112", False, None, None),
        ("a", 2, 18, 6, 1, "Worldpay", "timeout", 3, "414112", False,
         "MIT: circuit_open; New: PSP: down", None),
        ("a", 3, 18, 6, 1, "Elavon", "declined", DAY_S - 6, "414112", False, None, None),
        ("b", 1, 18, 1, 3, None, None, None, "414112", True, None, 0.25)]


def test_nothing_personal_and_all_marked(by_hand: duckdb.DuckDBPyConnection, exported: Path) -> None:
    for name, table in platform_tables().items():
        text = by_hand.execute(f"SELECT * FROM {name}").fetchall()
        assert "secret" not in str(text)
        assert not any(word in column.name for column in table.columns for word in ("TOKEN", "LAST_FOUR", "EMAIL"))
        rows = pq.read_table(exported / f"{name}.parquet")
        assert set(rows["IS_SIMULATED"].to_pylist()) == {True}
        assert all(str(value).startswith("sim_") for value in rows[table.key].to_pylist())
        for column in table.columns:
            if column.unknown is not None:
                assert column.nullable
                assert rows[column.name].null_count == len(rows)


# --- ids


def test_ids_are_sha_256_of_what_they_name(exported: Path, done: Path) -> None:
    def named(*words: object) -> str:
        return "sim_" + hashlib.sha256("\x1f".join(map(str, words)).encode()).hexdigest()[:28]

    manifest = json.loads((done / "manifest.json").read_text())
    run_id = named(json.dumps(manifest, sort_keys=True))
    row = pq.read_table(exported / "ATHIA_TRAINING_DATASET.parquet").slice(77, 1).to_pylist()[0]
    place = [run_id, row["POLICY"], row["WORLD"], row["LUCK"]]
    which = [row["PAYMENT_ID"], row["PAYMENT_ATTEMPT_SEQUENCE_ORDER"]]
    assert row["RUN_ID"] == run_id
    assert row["PREDICTION_ID"] == named("prediction", *place, *which)
    assert row["PAYMENT_ATTEMPT_ID"] == named("attempt", *place, *which)
    assert row["SESSION_ID"] == named("session", *place, row["ORDER_ID"])


def test_same_run_same_bytes_and_a_part_has_the_ids_of_the_whole(done: Path, exported: Path, tmp_path: Path) -> None:
    export(done, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(exported)
    export(done, tmp_path / "part", ["breaker"])
    for name in FROM_LOG:
        part, all_rows = (pq.read_table(folder / f"{name}.parquet") for folder in (tmp_path / "part", exported))
        assert part.equals(all_rows.filter(pc.equal(all_rows["POLICY"], "breaker")))
    other = tmp_path / "other"
    shutil.copytree(done, other)
    manifest = json.loads((done / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"seed": 6}))
    export(other, tmp_path / "out", ["legacy"])
    ids = [set(pq.read_table(folder / "ATHIA_FEEDBACK.parquet")["PREDICTION_ID"].to_pylist())
           for folder in (tmp_path / "out", exported)]
    assert not ids[0] & ids[1]
