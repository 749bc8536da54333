"""Whatever cannot be used is refused in one clear line that says what is wrong and where."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from routesim.calibration.history.read import read_history
from routesim.sim.errors import BadInput
from tests.extracts import START, Extract, two_payments, write_view

PROFILES = Path(__file__).parents[1] / "calibration" / "history" / "profiles"


def refusal(*arguments: object) -> str:
    """The one line with which reading is refused."""
    with pytest.raises(BadInput) as refused:
        read_history(*arguments)  # type: ignore[arg-type]
    line = str(refused.value)
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such file or folder"


def test_an_empty_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: the folder holds no Parquet or CSV file"


def test_an_address_of_another_kind() -> None:
    line = refusal("bigquery://volaris:secret")
    assert line == "bigquery://...: a source is a folder, a file or snowflake://CONNECTION, not bigquery://"


@pytest.mark.parametrize(("left_out", "view"), [("attempts", "VW_ATHENA_PAYMENT_ATTEMPT"),
                                                ("payments", "VW_ATHENA_PAYMENT")])  # fmt: skip
def test_a_folder_without_a_needed_view(tmp_path: Path, left_out: str, view: str) -> None:
    line = refusal(two_payments().write(tmp_path, without=(left_out,)))
    assert line.startswith(f"{tmp_path}: the folder lacks the view {view},")


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path)
    file = folder / "VW_ATHENA_PAYMENT_EVENTS.parquet"
    file.write_bytes(file.read_bytes()[:-200])
    assert refusal(folder).startswith(f"{file}: not a readable Parquet file")


def test_a_parquet_file_damaged_inside_is_named(tmp_path: Path) -> None:
    extract = Extract()
    for place in range(300):
        extract.payment(f"P{place}", place).attempt(f"P{place}", 1, place)
    folder = extract.write(tmp_path)
    file = folder / "VW_ATHENA_PAYMENT_ATTEMPT.parquet"
    content = bytearray(file.read_bytes())
    content[4:600] = bytes(596)  # the first pages; the footer stays whole
    file.write_bytes(bytes(content))
    assert refusal(folder).startswith(f"{file}: not a readable Parquet file")


def test_text_that_calls_itself_parquet(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path)
    (folder / "VW_ATHENA_ORDER.parquet").write_text("hello")
    assert "VW_ATHENA_ORDER.parquet: not a readable Parquet file" in refusal(folder)


def test_a_needed_column_that_is_absent(tmp_path: Path) -> None:
    extract = two_payments()
    for row in extract.attempts:
        row["PAYMENT_ATTEMPT_PROCESSOR"] = row.pop("PAYMENT_ATTEMPT_PROCESSOR_NAME")
    line = refusal(extract.write(tmp_path))
    assert "the view VW_ATHENA_PAYMENT_ATTEMPT lacks the column PAYMENT_ATTEMPT_PROCESSOR_NAME" in line
    assert "did you mean 'PAYMENT_ATTEMPT_PROCESSOR" in line


def test_a_csv_with_another_header(tmp_path: Path) -> None:
    file = tmp_path / "attempts.csv"
    file.write_text("time,country,amount,success,PSP\n2019-01-01 00:00:00,Germany,10,1,UK_Card\n")
    assert refusal(file, "psp_2019").startswith(f"{file}: the view ATTEMPTS lacks the column TMSP, which is needed")


def test_an_empty_csv(tmp_path: Path) -> None:
    file = tmp_path / "attempts.csv"
    file.write_text("")
    assert str(file) in refusal(file, "psp_2019")


def test_a_csv_with_a_header_alone(tmp_path: Path) -> None:
    file = tmp_path / "attempts.csv"
    file.write_text("tmsp,country,amount,success,PSP,3D_secured,card\n")
    assert refusal(file, "psp_2019") == f"{file}: no attempt is usable"


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "attempts.xlsx"
    file.write_bytes(b"PK")
    assert "neither a Parquet nor a CSV file" in refusal(file, "psp_2019")


def test_a_file_needs_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "attempts.csv"
    file.write_text("a\n1\n")
    assert "a single file needs a profile" in refusal(file)
    assert "reads a folder with a file for each of its views" in refusal(file, "payment_ml")


def test_no_attempt_was_approved(tmp_path: Path) -> None:
    line = refusal(Extract().payment("P1").attempt("P1", 1, code="51").write(tmp_path))
    assert line.startswith(f"{tmp_path}: no attempt was approved")


def test_no_attempt_is_usable(tmp_path: Path) -> None:
    line = refusal(Extract().payment("P1", PAYMENT_AMOUNT_USD=-1).attempt("P1", 1).write(tmp_path))
    assert line == (f"{tmp_path}: no attempt is usable (1 attempts: its payment is quarantined; 1 payments: amount not "
                    "positive)")  # fmt: skip


def test_no_attempt_has_a_time(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path, without=("events",))
    assert "no attempt has a time" in refusal(folder)


def test_an_empty_window_says_what_there_is(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path)
    line = refusal(folder, None, START + timedelta(days=2), START + timedelta(days=3))
    assert line == (f"{folder}: no payment arrived from 2026-01-07T12:00:00Z until 2026-01-08T12:00:00Z; "
                    "the source has 2026-01-05T12:00:00Z to 2026-01-05T13:00:00Z")  # fmt: skip
    assert "is not before" in refusal(folder, None, START, START)
    assert "at least 0 s" in refusal(folder, None, None, None, -1)


def test_a_window_of_warm_up_alone_is_empty(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path)
    assert "no payment arrived" in refusal(folder, None, START + timedelta(hours=2), None, 10 * 3600)


@pytest.mark.parametrize(("old", "new", "told"), [
    ("currency: USD", "curency: USD", "curency: unknown key 'curency'; did you mean 'currency'?"),
    ("PAYMENT_ID: {type: VARCHAR, needed: true}", "PAYMENT_ID: {kind: VARCHAR}", "unknown key 'kind'"),
    ("Worldpay: {names: [worldpay, world_pay]}", "Worldpay: {name: [worldpay]}", "did you mean 'names'?"),
    ("Worldpay: {names: [worldpay, world_pay]}", "Worldpay: {fee: {fixd: 1}}", "did you mean 'fixed'?"),
    ("Worldpay: {names: [worldpay, world_pay]}", "Worldpay: {fee: {currency: EUR}}", "usd_per says nothing"),
    ("Worldpay: {names: [worldpay, world_pay]}", "Worldpay: {names: [mit]}", "both claim the name 'mit'"),
    ("Worldpay: {names: [worldpay, world_pay]}", "Worldpay: {timeout_s: -1}", "greater than 0 (got -1)"),
    ("timezone: UTC", "timezone: Mexico", "unknown time zone 'Mexico'"),
    ('"05": {outcome: declined, kind: soft}', '"05": {outcome: refuzed}', "'refused'"),
    ('"05": {outcome: declined, kind: soft}', '"05": {outcome: timeout, kind: soft}', "kind belongs to"),
    ('"05": {outcome: declined, kind: soft}', "05: {outcome: declined}", "valid string"),
    ("hashed: [customer_id, card_token]", "hashed: [card_token]", "hashed must name customer_id"),
    ("payment_ml/skips.sql", "payment_ml/skipped.sql", "no such query file"),
    ("profile: payment_ml", "profile: [payment_ml", "not a YAML file"),
    ("profile: payment_ml", "profile: payment_ml\nprofile: twice", "not a YAML file"),
    ("profile: payment_ml", f"profile: {'9' * 5_000}", "not a YAML file"),
    ("profile: payment_ml", 'profile: "\\UFFFFFFFF"', "not a YAML file"),
    ("profile: payment_ml", f"profile: {'[' * 10_000}", "nested too deeply"),
])  # fmt: skip
def test_a_faulty_profile_is_told_by_file_and_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (PROFILES / "payment_ml.yaml").read_text()
    assert old in text
    own = tmp_path / "own.yaml"
    own.write_text(text.replace(old, new, 1))
    (tmp_path / "payment_ml").symlink_to(PROFILES.parent / "queries" / "payment_ml")
    line = refusal(two_payments().write(tmp_path / "extract"), own)
    assert line.startswith(str(own))
    assert told in line


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    assert "unknown profile 'payment_mll'" in refusal(tmp_path, "payment_mll")
    assert "did you mean 'payment_ml'?" in refusal(tmp_path, "payment_mll")
    assert refusal(tmp_path, tmp_path / "own.yaml") == f"{tmp_path / 'own.yaml'}: no such profile"
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "a profile is a mapping" in refusal(tmp_path, tmp_path / "list.yaml")


@pytest.mark.parametrize(("query", "told"), [
    ("SELECT PSP AS PROCESSOR, TMSP AS SENT_AT FROM ATTEMPTS", "gives no column 'attempt_id', which is needed"),
    ("SELECT TMSP AS SENT FROM ATTEMPTS", "'sent' that is no staging column; did you mean 'sent_at'?"),
    ("SELECT NOPE FROM ATTEMPTS", "cannot be run"),
    ("SELECT AMOUNT / 2 AS A FROM ATTEMPTS", "::FLOAT"),
])  # fmt: skip
def test_a_faulty_query_is_told_by_its_name(tmp_path: Path, query: str, told: str) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"""
profile: own
currency: EUR
views: {{ATTEMPTS: {{files: ["*"], needed: true, columns: {{TMSP: TIMESTAMP, PSP: VARCHAR, AMOUNT: FLOAT}}}}}}
queries:
  payments: SELECT 'P' AS PAYMENT_ID, 'O' AS ORDER_ID, 1 AS AMOUNT_USD FROM ATTEMPTS
  attempts: {query}
""")
    write_view(tmp_path, "flat", [{"TMSP": START, "PSP": "a", "AMOUNT": 1.0}])
    line = refusal(tmp_path / "flat.parquet", own)
    assert line.startswith(f"{own}, queries.attempts: ")
    assert told in line
