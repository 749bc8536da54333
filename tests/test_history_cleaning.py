"""Every kind of dirt is mended or set aside, counted, and never dropped in silence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from routesim.calibration.history.read import History, read_history
from tests.extracts import Extract, two_payments


def attempts(history: History) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in sorted(history.log.attempts.to_pylist(), key=lambda row: int(row["attempt_number"])):
        found.setdefault(row["payment_id"], []).append(row["outcome"])
    return found


CLEAN = {"P1": ["declined", "approved"], "P2": ["approved"]}


def set_aside(history: History) -> list[tuple[str, str, str]]:
    return [(row["table"], row["row_key"], row["reason"]) for row in history.quarantine.rows.to_pylist()]


def test_a_clean_source_has_nothing_to_tell(tmp_path: Path) -> None:
    history = read_history(two_payments().write(tmp_path))
    assert attempts(history) == CLEAN
    assert history.quarantine.summary() == []


def test_replays_and_disorder_change_nothing(tmp_path: Path) -> None:
    clean = read_history(two_payments().write(tmp_path / "clean"))
    dirty = two_payments()
    dirty.payments += dirty.payments[:1]
    dirty.attempts += dirty.attempts[:2] + dirty.attempts[:1]
    dirty.events += dirty.events[1:3]
    for rows in (dirty.payments, dirty.attempts, dirty.events, dirty.orders):
        Random(1).shuffle(rows)
    history = read_history(dirty.write(tmp_path / "dirty"))
    assert history.log.payments.equals(clean.log.payments)
    assert history.log.attempts.equals(clean.log.attempts)
    assert history.quarantine.mended["payments", "replayed row removed"] == 1
    assert history.quarantine.mended["attempts", "replayed row removed"] == 3
    assert history.quarantine.mended["VW_ATHENA_PAYMENT_EVENTS", "replayed event"] == 2
    assert history.provenance["rows"]["attempts"]["read"] == 6


def test_the_same_key_with_other_content_keeps_one_row(tmp_path: Path) -> None:
    extract = two_payments()
    extract.attempts.append({**extract.attempts[2], "PAYMENT_ATTEMPT_STATUS": "PENDING",
                             "PAYMENT_ATTEMPT_APPROVED_INDICATOR": False})  # fmt: skip
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert set_aside(history) == [("attempts", "P2-1", "same key with other content")]


def test_mixed_spelling_is_one_word(tmp_path: Path) -> None:
    extract = Extract()
    spellings = [("visa", "HSBC", "Worldpay"), (" VISA", "hsbc ", "WORLDPAY"), ("Visa", "HSBC  Mexico", "76"),
                 ("visa", "n/a", "worldpay")]  # fmt: skip
    for place, (brand, bank, processor) in enumerate(spellings):
        extract.payment(f"P{place}", place, CARD_BRAND=brand, BANK=bank)
        extract.attempt(f"P{place}", 1, place, processor=processor)
    history = read_history(extract.write(tmp_path))
    assert history.log.payments["card_brand"].to_pylist() == ["visa"] * 4
    assert history.log.payments["bank"].to_pylist() == ["hsbc", "hsbc", "hsbc mexico", None]
    assert history.log.attempts["processor"].to_pylist() == ["Worldpay", "Worldpay", "76", "Worldpay"]
    assert history.quarantine.mended["payments", "mixed spelling of card_brand"] == 2
    assert history.quarantine.mended["payments", "missing bank kept as null"] == 1
    assert any("processor of 1 attempts is not in the profile ('76')" in w for w in history.quarantine.warnings)


@pytest.mark.parametrize("amount", [0.0, -5.0, float("nan"), float("inf"), None])
def test_an_amount_that_is_none_takes_the_payment_away(tmp_path: Path, amount: float | None) -> None:
    extract = two_payments().payment("bad", PAYMENT_AMOUNT_USD=amount).attempt("bad", 1)
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    reason = "amount not positive" if amount in (0.0, -5.0) else "amount absent or not a number"
    assert set_aside(history) == [("attempts", "bad-1", "its payment is quarantined"), ("payments", "bad", reason)]


def test_attempts_without_payments_and_payments_without_attempts(tmp_path: Path) -> None:
    extract = two_payments().payment("lonely").attempt("nobody", 1)
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert set_aside(history) == [("attempts", "nobody-1", "its payment is missing"),
                                  ("payments", "lonely", "no attempt")]  # fmt: skip


def test_a_payment_goes_whole_when_an_attempt_is_broken(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5, code="51").attempt("P3", 2, 64.0, -60.0)
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert set_aside(history) == [
        ("attempts", "P3-2", "answered before it was sent"), ("attempts", "P3-1", "its payment is quarantined"),
        ("payments", "P3", "an attempt of it is quarantined")]  # fmt: skip
    assert any("1 of 3 payments are quarantined" in warning for warning in history.quarantine.warnings)


def test_an_answer_just_before_its_request_is_skew(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5, -1.0, processor="MIT")
    history = read_history(extract.write(tmp_path))
    assert history.quarantine.mended["attempts", "answered just before it was sent (skewed clocks)"] == 1
    row = next(row for row in history.log.attempts.to_pylist() if row["payment_id"] == "P3")
    assert row["latency_ms"] == 750.0  # as MIT's approvals take


def test_numbers_follow_the_requests(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60)
    extract.attempt("P3", 7, 60.5, code="51").attempt("P3", 7, 64.0, code="05", attempt_id="x").attempt("P3", 2, 70.0)
    history = read_history(extract.write(tmp_path))
    assert attempts(history)["P3"] == ["declined", "declined", "approved"]
    assert history.quarantine.mended["attempts", "renumbered by the request's time"] == 3


def test_nothing_follows_an_approval(tmp_path: Path) -> None:
    extract = two_payments().attempt("P2", 2, 3700.0, code="51").attempt("P2", 3, 3800.0)
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert set_aside(history) == [("attempts", "P2-2", "after an approval"), ("attempts", "P2-3", "after an approval")]


def test_overlapping_attempts_are_kept_and_told(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5, 30.0, "TO").attempt("P3", 2, 75.0)
    history = read_history(extract.write(tmp_path))
    assert attempts(history)["P3"] == ["timeout", "approved"]
    assert any("1 attempts were sent before" in warning for warning in history.quarantine.warnings)


@pytest.mark.parametrize("year", [1970, 1999, 2100, 9000])
def test_insane_times(tmp_path: Path, year: int) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5)
    extract.events[-1]["EVENT_CREATED_AT"] = datetime(year, 1, 1)
    for row in extract.events:  # text, as pandas' nanoseconds end in 2262
        row["EVENT_CREATED_AT"] = row["EVENT_CREATED_AT"].isoformat(" ")
    history = read_history(extract.write(tmp_path, "csv"))
    assert attempts(history) == CLEAN
    assert ("attempts", "P3-1", "time outside any sane range") in set_aside(history)


def test_an_answer_a_day_late_is_no_answer(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, 60.5, 90_000)
    assert ("attempts", "P3-1", "answer too late to be its answer") in set_aside(read_history(extract.write(tmp_path)))


def test_the_answer_is_believed_before_the_flag(tmp_path: Path) -> None:
    extract = two_payments()
    extract.attempts[2]["PAYMENT_ATTEMPT_APPROVED_INDICATOR"] = False  # its event says APPROVED
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert history.quarantine.count("status and approved flag contradict each other, the answer is believed") == 1


def test_the_answer_is_the_last_authorization_event(tmp_path: Path) -> None:
    extract = two_payments().event("P2-1", 3, "APPROVED", 9000.0, "CAPTURE")
    extract.event("P2-1", 4, "APPROVED", 9500.0, "REFUND")
    row = read_history(extract.write(tmp_path)).log.attempts.to_pylist()[-1]
    assert row["latency_ms"] == 750.0


def test_an_attempt_in_flight_is_set_aside_with_its_payment(tmp_path: Path) -> None:
    extract = two_payments().payment("P3", 60).attempt("P3", 1, None, PAYMENT_ATTEMPT_STATUS="REQUESTED",
                                                       PAYMENT_ATTEMPT_APPROVED_INDICATOR=None)  # fmt: skip
    extract.event("P3-1", 1, "REQUESTED", 60.5)
    history = read_history(extract.write(tmp_path))
    assert attempts(history) == CLEAN
    assert ("attempts", "P3-1", "no answer yet") in set_aside(history)


def test_unreadable_cells_and_orphan_rows_are_counted(tmp_path: Path) -> None:
    extract = two_payments().event("nobody", 1, "REQUESTED", 5.0).routed("nobody", 5.0, 400)
    extract.attempts[0]["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] = "first"
    extract.attempts[0]["DYNAMIC_ROUTING_DETAIL"] = "{not json"
    history = read_history(extract.write(tmp_path, "csv"))
    assert attempts(history) == CLEAN
    mended = history.quarantine.mended
    unreadable = "cells not of the column's type read as null"
    assert mended["VW_ATHENA_PAYMENT_ATTEMPT.PAYMENT_ATTEMPT_SEQUENCE_ORDER", unreadable] == 1
    assert mended["VW_ATHENA_PAYMENT_ATTEMPT.DYNAMIC_ROUTING_DETAIL", unreadable] == 1
    assert mended["VW_ATHENA_PAYMENT_EVENTS", "event of no known attempt"] == 1
    assert mended["VW_SMART_ROUTING_ATTEMPTS", "row of no known payment"] == 1


def test_every_row_read_is_accounted_for(tmp_path: Path) -> None:
    extract = two_payments().payment("bad", PAYMENT_AMOUNT_USD=-1).attempt("bad", 1).attempt("nobody", 1)
    extract.attempt("P2", 2, 3700.0, code="51").payment("lonely")
    extract.attempts += extract.attempts[:2]
    extract.payments += extract.payments[:1]
    rows = read_history(extract.write(tmp_path)).provenance["rows"]
    assert rows["attempts"]["read"] == len(extract.attempts)
    assert rows["payments"]["read"] == len(extract.payments)


def test_the_quarantine_is_written_whole(tmp_path: Path) -> None:
    extract = two_payments().payment("bad", PAYMENT_AMOUNT_USD=-1).attempt("bad", 1)
    quarantine = read_history(extract.write(tmp_path / "extract")).quarantine
    file = tmp_path / "quarantine.parquet"
    quarantine.write(file)
    assert pq.read_table(file).equals(quarantine.rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["extract", "quarantine.parquet"]
    assert quarantine.summary() == [("attempts", "quarantined: its payment is quarantined", 1),
                                    ("payments", "quarantined: amount not positive", 1)]  # fmt: skip
