"""A PAYMENT_ML extract becomes the attempt log: times, words, codes, comebacks, windows, and what may be absent."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from routesim.calibration.history.read import SKIPS, History, read_history
from routesim.sim.log import ATTEMPTS, PAYMENTS, AttemptLog
from tests.extracts import START, Extract, two_payments


def at(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(START + timedelta(seconds=seconds), tz=UTC)


def payment(history: History, payment_id: str) -> dict[str, Any]:
    return next(row for row in history.log.payments.to_pylist() if row["payment_id"] == payment_id)


def chain(history: History, payment_id: str) -> list[dict[str, Any]]:
    rows = [row for row in history.log.attempts.to_pylist() if row["payment_id"] == payment_id]
    return sorted(rows, key=lambda row: int(row["attempt_number"]))


def warned(history: History, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in history.quarantine.warnings)


def test_the_log_has_the_schemas_and_the_order(tmp_path: Path) -> None:
    history = read_history(two_payments().write(tmp_path))
    assert history.log.payments.schema.equals(PAYMENTS, check_metadata=True)
    assert history.log.attempts.schema.equals(ATTEMPTS, check_metadata=True)
    assert history.skips.schema.equals(SKIPS)
    answered = history.log.attempts["answered_at"].to_pylist()
    assert answered == sorted(answered)
    derived = AttemptLog(history.log.payments, history.log.attempts)
    assert list(history.log.payment_row) == list(derived.payment_row) == [0, 0, 1]


def test_a_payment_and_its_attempts(tmp_path: Path) -> None:
    history = read_history(two_payments().write(tmp_path))
    first = payment(history, "P1")
    assert first["arrived_at"] == at(0.25)  # the request's microseconds, not the payment's whole second
    assert first["card_bin"] == "411111"  # six digits of eight
    assert (first["currency"], first["card_country"], first["bank"]) == ("MXN", "MX", "hsbc")
    assert first["customer_id"] == hashlib.sha256(b"ana@example.com").hexdigest()[:16]
    assert (first["logged_processor"], first["logged_approved"], first["warm_up"]) == ("Worldpay", True, False)
    declined, approved = chain(history, "P1")
    assert (declined["outcome"], declined["decline_code"], declined["decline_kind"]) == ("declined", "51", "soft")
    assert (declined["decision"], approved["decision"]) == ("rank", "retry")
    assert (approved["outcome"], approved["decline_code"], approved["processor"]) == ("approved", None, "Elavon")
    assert (approved["sent_at"], approved["answered_at"]) == (at(3.75), at(4.75))
    assert (approved["latency_ms"], approved["rank_position"], approved["message_initiator"]) == (1000.0, 2, "CIT")


def test_csv_keeps_the_zeros_of_codes(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5, 0.5, "05")
    parquet = read_history(extract.write(tmp_path / "parquet"))
    csv = read_history(extract.write(tmp_path / "csv", "csv"))
    assert chain(csv, "P3")[0]["decline_code"] == "05"
    assert csv.log.payments.equals(parquet.log.payments)
    assert csv.log.attempts.equals(parquet.log.attempts)


def test_the_mended_typo_and_a_folder_of_parts_are_read(tmp_path: Path) -> None:
    extract = two_payments()
    extract.payments = [{("PAYMENT_TIME" if k == "PATMENT_TIME" else k): v for k, v in row.items()}
                        for row in extract.payments]  # fmt: skip
    extract.write(tmp_path)
    parts = tmp_path / "vw_athena_payment"
    parts.mkdir()
    (tmp_path / "VW_ATHENA_PAYMENT.parquet").rename(parts / "part-0.parquet")
    assert payment(read_history(tmp_path), "P2")["arrived_at"] == at(3600.5)


@pytest.mark.parametrize(("paid_s", "sent_s", "arrived_s"), [
    (10, 11.9, 11.9),   # within two seconds: the request's own time
    (10, 9.5, 9.5),
    (10, 40.0, 10.0),   # the router kept it waiting: it arrived when it was made
    (10, 4.0, 4.0),     # sent before it was made: it cannot have arrived later
])  # fmt: skip
def test_arrival(tmp_path: Path, paid_s: float, sent_s: float, arrived_s: float) -> None:
    history = read_history(Extract().payment("P1", paid_s).attempt("P1", 1, sent_s).write(tmp_path))
    assert payment(history, "P1")["arrived_at"] == at(arrived_s)


def test_outcomes_by_code_category_and_flag(tmp_path: Path) -> None:
    extract = two_payments()
    cases: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
        "91": ({"code": "91"}, ("unavailable", None)),
        "TO": ({"code": "TO", "PAYMENT_ATTEMPT_STATUS": "ERROR"}, ("timeout", None)),
        "14": ({"code": "14"}, ("declined", "hard")),
        "ZA": ({"code": "ZA", "PAYMENT_ATTEMPT_ERROR_CATEGORY": "Lost_Card"}, ("declined", "hard")),
        "ZB": ({"code": "ZB", "PAYMENT_ATTEMPT_HARD_SOFT_TYPE": "hard"}, ("declined", "hard")),
        "ZC": ({"code": "ZC"}, ("declined", "soft")),
        "fraud": ({"code": "59", "DENIED_BY_PSP_OR_FRAUD": "FRAUD"}, ("refused", None)),
        "psp": ({"code": "59", "DENIED_BY_PSP_OR_FRAUD": "PSP"}, ("declined", "hard")),
        "bare": ({"code": "", "PAYMENT_ATTEMPT_STATUS": "ERROR"}, ("unavailable", None)),
    }
    for place, (name, (row, _)) in enumerate(cases.items()):
        status = row.pop("PAYMENT_ATTEMPT_STATUS", "DECLINED")
        extract.payment(name, 100 + place).attempt(name, 1, None, PAYMENT_ATTEMPT_STATUS=status, **row)
        extract.event(f"{name}-1", 1, "REQUESTED", 100 + place).event(f"{name}-1", 2, status, 101 + place)
    history = read_history(extract.write(tmp_path))
    found = {name: (chain(history, name)[0]["outcome"], chain(history, name)[0]["decline_kind"]) for name in cases}
    assert found == {name: meaning for name, (_, meaning) in cases.items()}
    assert history.codes["ZB"] == ("declined", "hard")
    assert history.codes["96"] == ("unavailable", None)  # listed, though not seen
    assert warned(history, "'ZC'", "soft declined", "no column tells it")
    assert warned(history, "'ZA'", "hard declined", "category")
    assert not warned(history, "'51'")


def test_initiator_and_instalments(tmp_path: Path) -> None:
    extract = Extract()
    for name, flag in {"a": "CIT", "b": " mit", "c": "MSI 6", "d": "12MCI", "e": None, "f": "MSI"}.items():
        extract.payment(name, MCI_MSI_TYPE=flag).attempt(name, 1)
    history = read_history(extract.write(tmp_path))
    found = {name: (payment(history, name)["initiator"], payment(history, name)["installments"]) for name in "abcdef"}
    assert found == {"a": ("CIT", None), "b": ("MIT", None), "c": ("unknown", 6), "d": ("unknown", 12),
                     "e": ("unknown", None), "f": ("unknown", None)}  # fmt: skip
    assert warned(history, "4 payments tell no initiator")
    assert chain(history, "c")[0]["message_initiator"] is None


def test_a_comeback_follows_a_failed_payment_of_its_order(tmp_path: Path) -> None:
    extract = Extract()
    extract.payment("A1", 0, "O1").attempt("A1", 1, 0.5, code="51")
    extract.payment("A2", 300, "O1", PREVIOUS_ORDER_ERROR_CODE="51", PREVIOUS_ORDER_PROCESSOR="Worldpay")
    extract.attempt("A2", 1, 300.5, code="05", processor="Elavon")
    extract.payment("A3", 600, "O1", PREVIOUS_ORDER_ERROR_CODE="14").attempt("A3", 1, 600.5)
    extract.payment("A4", 900, "O1").attempt("A4", 1, 900.5)
    history = read_history(extract.write(tmp_path))
    assert [payment(history, name)["previous_payment_id"] for name in ("A1", "A2", "A3", "A4")] == [
        None, "A1", "A2", None]  # fmt: skip
    assert warned(history, "1 payments come after an approved payment")
    assert warned(history, "1 payments name another code or processor")  # A3 says 14, A2 ended with 05


def test_a_window_takes_whole_payments_by_arrival(tmp_path: Path) -> None:
    extract = Extract()
    for hour in range(5):
        extract.payment(f"P{hour}", 3600 * hour, "O1", MCI_MSI_TYPE="MIT")
        extract.attempt(f"P{hour}", 1, 3600 * hour + 0.5, code="51")
        extract.attempt(f"P{hour}", 2, 3600 * hour + 86_400, code=None if hour == 4 else "51")
    folder = extract.write(tmp_path)
    history = read_history(folder, "payment_ml", START + timedelta(hours=2), START + timedelta(hours=4), 3600)
    assert [(row["payment_id"], row["warm_up"], row["previous_payment_id"])
            for row in history.log.payments.to_pylist()] == [
        ("P1", True, None), ("P2", False, "P1"), ("P3", False, "P2")]  # fmt: skip
    assert history.log.attempts.num_rows == 6  # retries a day later are theirs, though past the window
    assert history.provenance["until"] == (START + timedelta(hours=28, seconds=0.5)).isoformat() + "Z"
    assert history.provenance["rows"]["payments"]["used"] == 3
    assert history.provenance["rows"]["payments"]["usable"] == 5
    mexico = timezone(timedelta(hours=-6))
    zoned = read_history(folder, None, (START + timedelta(hours=2)).replace(tzinfo=UTC).astimezone(mexico))
    assert zoned.log.payments["payment_id"].to_pylist() == ["P2", "P3", "P4"]
    exact = read_history(folder, None, None, START + timedelta(hours=2, seconds=0.5))  # half open
    assert exact.log.payments["payment_id"].to_pylist() == ["P0", "P1"]


def test_times_in_another_zone(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path / "extract")
    text = (Path(__file__).parents[1] / "calibration/history/profiles/payment_ml.yaml").read_text()
    queries = Path(__file__).parents[1] / "calibration/history/queries/payment_ml"
    (tmp_path / "payment_ml").symlink_to(queries)
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("timezone: UTC", "timezone: America/Mexico_City"))
    assert payment(read_history(folder, own), "P1")["arrived_at"] == at(6 * 3600 + 0.25)


def test_zoned_times_are_brought_to_the_profile_zone(tmp_path: Path) -> None:
    extract = two_payments()
    for row in extract.events:
        row["EVENT_CREATED_AT"] = pd.Timestamp(row["EVENT_CREATED_AT"], tz="UTC").tz_convert("Asia/Tokyo")
    assert chain(read_history(extract.write(tmp_path)), "P1")[0]["sent_at"] == at(0.25)
    for row in extract.events:
        row["EVENT_CREATED_AT"] = row["EVENT_CREATED_AT"].isoformat()
    text = read_history(extract.write(tmp_path / "text", "csv"))
    assert chain(text, "P1")[0]["sent_at"] == at(0.25)


def test_skips_are_told_beside_the_attempts(tmp_path: Path) -> None:
    extract = two_payments().routed("P1", 0.75, 500, "51").routed("P1", 2.0, 0, None, "mit", "circuit open")
    history = read_history(extract.write(tmp_path))
    assert history.skips.to_pylist() == [
        {"payment_id": "P1", "processor": "MIT", "at": at(2.0).to_pydatetime(), "reason": "circuit open"}]
    assert [row["skipped"] for row in chain(history, "P1")] == [None, [{"processor": "MIT", "reason": "circuit open"}]]
    assert history.log.attempts.num_rows == 3  # a skip is no attempt


def test_the_owners_denominator_is_reconciled(tmp_path: Path) -> None:
    extract = two_payments()
    extract.attempts[0]["PAYMENT_ATTEMPT_ACCEPTANCE_RATE_INDICATOR"] = False
    told = read_history(extract.write(tmp_path)).provenance["acceptance_rate_indicator"]
    assert (told["owner_counts"], told["we_count"], told["both_count"]) == (2, 3, 2)
    assert (told["owner_rate"], told["our_rate"]) == (1.0, pytest.approx(2 / 3))
    for row in extract.attempts:
        del row["PAYMENT_ATTEMPT_ACCEPTANCE_RATE_INDICATOR"]
    assert read_history(extract.write(tmp_path)).provenance["acceptance_rate_indicator"] is None


def test_absent_views_and_columns_degrade_with_a_warning(tmp_path: Path) -> None:
    extract = two_payments().routed("P1", 0.75, 500, "51").routed("P1", 4.75, 1000, None, "elavon")
    extract.routed("P2", 3601.25, 750, None, "mit")
    for row in extract.payments:
        del row["BANK"]
    history = read_history(extract.write(tmp_path, without=("events", "orders")))
    whole = read_history(extract.write(tmp_path / "whole"))
    assert warned(history, "VW_ATHENA_PAYMENT_EVENTS is absent")
    assert warned(history, "VW_ATHENA_PAYMENT lacks the column BANK")
    assert payment(history, "P1")["bank"] is None
    assert payment(history, "P1")["currency"] == "USD"  # the profile's default
    assert history.quarantine.mended["payments", "currency absent, taken as USD"] == 2
    assert history.quarantine.mended["attempts", "time taken from the router's log"] == 3
    for name in ("sent_at", "answered_at", "latency_ms", "outcome"):
        assert history.log.attempts[name].equals(whole.log.attempts[name])


def test_the_routers_rows_are_matched_only_where_they_are_certain(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 7200)
    extract.attempt("P3", 1, None, code="51").attempt("P3", 2, None, code="05").attempt("P3", 3, None)
    extract.routed("P3", 7209.0, 400, "05")  # one row of three at the processor: the code says which
    history = read_history(extract.write(tmp_path))
    assert [row["answered_at"] for row in chain(history, "P3")][1] == at(7209)
    assert history.quarantine.mended["attempts", "time taken from the router's log"] == 1


def test_times_are_imputed_where_a_hint_is_left(tmp_path: Path) -> None:
    extract = two_payments()  # the one retry: 3.0 s after the answer; Worldpay's decline takes 0.5 s
    extract.payment("P3", 7200).attempt("P3", 1, None, code="51").attempt("P3", 2, None, processor="Elavon")
    extract.payment("P4", 9000).attempt("P4", 1, None, code="51").event("P4-1", 1, "REQUESTED", 9000.5)
    history = read_history(extract.write(tmp_path))
    first, second = chain(history, "P3")
    assert (first["sent_at"], first["answered_at"]) == (at(7200), at(7200.5))
    assert (second["sent_at"], second["answered_at"]) == (at(7203.5), at(7204.5))
    assert chain(history, "P4")[0]["answered_at"] == at(9001)
    mended = history.quarantine.mended
    assert mended["attempts", "request's time imputed by the payment's time"] == 1
    assert mended["attempts", "request's time imputed by the previous answer and the usual delay"] == 1
    assert mended["attempts", "answer's time imputed by the usual latency"] == 1


def test_provenance_is_json_and_free_of_persons(tmp_path: Path) -> None:
    history = read_history(two_payments().write(tmp_path))
    told = json.loads(json.dumps(history.provenance))
    assert told["profile"] == "payment_ml"
    assert len(told["profile_sha256"]) == 64
    assert told["window"] == {"from": None, "until": None, "warm_up_s": 0}
    assert told["views"]["VW_ATHENA_PAYMENT_ATTEMPT"] == 3
    assert told["rows"]["attempts"]["read"] == told["rows"]["attempts"]["used"] == 3
    everything = json.dumps(told) + str(history.log.payments.to_pylist()) + str(history.log.attempts.to_pylist())
    assert "ana@example.com" not in everything
    assert "41111122" not in everything


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    folder = two_payments().write(tmp_path)
    one, two = read_history(folder), read_history(folder)
    assert one.log.payments.equals(two.log.payments)
    assert one.log.attempts.equals(two.log.attempts)
    assert one.provenance == two.provenance
    assert datetime.fromisoformat(one.provenance["until"]).tzinfo is not None
