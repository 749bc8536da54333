"""Reference data: the open world's extract has the figures that its truth tells; a foreign flat CSV fits by profile."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from routesim.calibration.history.read import History, read_history
from tests.extracts import write_view


@pytest.fixture(scope="module")
def open_world(shared: Path) -> tuple[History, dict[str, float], float]:
    started = time.process_time()
    history = read_history(shared / "worlds/open/history")
    spent_s = time.process_time() - started
    return history, json.loads((shared / "worlds/open/truth.json").read_text())["history"], spent_s


def test_the_open_world_is_what_its_truth_tells(open_world: tuple[History, dict, float]) -> None:  # type: ignore[type-arg]
    history, truth, _ = open_world
    payments, attempts = history.log.payments.to_pandas(), history.log.attempts.to_pandas()
    approved = attempts["outcome"] == "approved"
    first = attempts["attempt_number"] == 1
    assert len(payments) == truth["payments"]
    assert payments["order_id"].nunique() == truth["orders"]
    assert len(attempts) == truth["attempts"]
    assert payments["previous_payment_id"].notna().sum() == truth["comebacks"]
    assert payments["logged_approved"].mean() == pytest.approx(truth["approval"], abs=1e-12)
    assert approved[first].mean() == pytest.approx(truth["first_attempt"], abs=1e-12)
    assert approved.groupby(attempts["processor"]).mean().to_dict() == pytest.approx(truth["by_psp"], abs=1e-12)
    latency = attempts.groupby("processor")["latency_ms"].quantile([0.5, 0.95]).unstack()
    assert latency[0.5].to_dict() == pytest.approx(truth["p50_ms"], abs=0.001)  # events have whole microseconds
    assert latency[0.95].to_dict() == pytest.approx(truth["p95_ms"], abs=0.001)
    assert approved[attempts["attempt_number"] == 2].mean() == pytest.approx(truth["retry_success"], abs=1e-12)


def test_the_open_world_is_cleaned_and_told(open_world: tuple[History, dict, float]) -> None:  # type: ignore[type-arg]
    history, _, _ = open_world
    assert history.quarantine.quarantined == {}
    assert history.quarantine.mended == {
        ("payments", "mixed spelling of card_brand"): 3643, ("payments", "missing bank taken from its BIN"): 1481,
        ("attempts", "replayed row removed"): 334,
    }  # fmt: skip
    assert all("absent" in warning or "lacks" in warning for warning in history.quarantine.warnings)
    assert set(history.log.payments["initiator"].to_pylist()) == {"CIT", "MIT"}
    assert set(history.log.attempts["outcome"].to_pylist()) == {"approved", "declined", "unavailable", "timeout"}


def test_the_open_world_is_read_in_seconds(open_world: tuple[History, dict, float]) -> None:  # type: ignore[type-arg]
    assert open_world[2] < 12  # about 3 s of CPU time; a quadratic join would take minutes


def test_without_its_events_the_router_log_tells_nearly_the_same(
    shared: Path, tmp_path: Path, open_world: tuple[History, dict, float]  # type: ignore[type-arg]
) -> None:
    whole = open_world[0]
    for file in (shared / "worlds/open/history").iterdir():
        if "EVENTS" not in file.name:
            (tmp_path / file.name).symlink_to(file)
    history = read_history(tmp_path)
    assert history.log.attempts.num_rows == whole.log.attempts.num_rows
    columns = ["payment_id", "attempt_number", "sent_at", "outcome"]
    both = history.log.attempts.select(columns).to_pandas().merge(
        whole.log.attempts.select(columns).to_pandas(), on=columns[:2], suffixes=("", "_events"))
    off_s = (both["sent_at"] - both["sent_at_events"]).abs().dt.total_seconds()
    assert (off_s < 0.001).mean() > 0.965  # 3.1 % of the router's rows are lost: their attempts are imputed
    assert (both["outcome"] == both["outcome_events"]).all()
    for log in (history.log, whole.log):
        assert log.payments["logged_approved"].to_pandas().mean() == pytest.approx(open_world[1]["approval"], abs=1e-12)


def test_a_foreign_csv_fits_by_its_profile(shared: Path) -> None:
    history = read_history(shared / "data/psp_2019/attempts_2019_01.csv", "psp_2019")
    payments, attempts = history.log.payments.to_pandas(), history.log.attempts.to_pandas()
    approved = attempts["outcome"] == "approved"
    assert len(attempts) == 26_304
    assert approved.mean() == pytest.approx(0.202, abs=0.0005)
    rates = {"Goldcard": 0.398, "Moneycard": 0.214, "UK_Card": 0.196, "Simplecard": 0.159}
    assert approved.groupby(attempts["processor"]).mean().to_dict() == pytest.approx(rates, abs=0.0005)
    assert len(attempts) / len(payments) == pytest.approx(1.84, abs=0.005)
    assert history.provenance["latency"] == "absent"
    assert (attempts["latency_ms"] == 0).all()
    failed = attempts[~approved]
    assert set(failed["outcome"]) == {"declined"}
    assert set(failed["decline_kind"]) == {"soft"}
    assert failed["decline_code"].isna().all()
    assert set(payments["card_country"]) == {"DE", "AT", "CH"}


def test_purchases_are_put_together_by_the_minute_after_a_failure(tmp_path: Path) -> None:
    start = pd.Timestamp("2019-01-01 10:00:00")
    rows = [(0, 50, 0), (60, 50, 0), (121, 50, 0), (130, 50, 1), (140, 50, 0), (0, 60, 1)]
    frame = [{"tmsp": start + pd.Timedelta(seconds=at), "country": "Germany", "amount": amount, "success": success,
              "PSP": "UK_Card", "3D_secured": 0, "card": "Visa"} for at, amount, success in rows]  # fmt: skip
    write_view(tmp_path, "flat", frame, "csv")
    history = read_history(tmp_path / "flat.csv", "psp_2019")
    chains = history.log.attempts.to_pandas().groupby("payment_id")["outcome"].agg(list).tolist()
    assert sorted(chains) == [["approved"], ["declined"], ["declined", "approved"], ["declined", "declined"]]
    usd_per_eur = history.log.payments["amount_usd"].to_pylist()[0] / 50
    assert history.terms["Goldcard"]["fee"] == pytest.approx(
        {"fixed_usd": 10 * usd_per_eur, "percent_bps": 0, "declined_usd": 5 * usd_per_eur})  # fmt: skip
