"""The examination of a model: one that is right passes on days that it has not seen; spoiled ones fail, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

import routesim.calibration.check.examine as examination
from routesim.calibration.calibrate import calibrate
from routesim.calibration.check.examine import check
from routesim.calibration.check.findings import FALSE_ALARM, Finding, Surprise, judge
from routesim.calibration.check.predictions import predict
from routesim.calibration.history.read import History, read_history
from routesim.calibration.made_up import make_history
from routesim.calibration.outages.find import find_outages
from routesim.calibration.sequences import issuer_spoke, sequences
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel, Model
from routesim.sim.trace import Trace
from routesim.sim.uncertainty import Block, Uncertainty, pointer

SPLIT = datetime(2026, 1, 5, tzinfo=UTC) + timedelta(days=14)


@pytest.fixture(autouse=True)
def _fewer_worlds(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Quick tests draw ten worlds, not twenty."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(examination, "WORLDS", 10)


@dataclass
class Case:
    """A model of the first two weeks, and the days after."""

    model: CalibratedModel
    history: History


def case(folder: Path, per_day: int, seed: int, days: int = 21) -> Case:
    make_history(folder, days, per_day, seed, dirty=False)
    fitted = calibrate(read_history(folder, None, None, SPLIT), "America/Mexico_City").model
    return Case(fitted, read_history(folder, None, SPLIT, None))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case(tmp_path_factory.mktemp("check") / "h", 400, 1)


def edited(known: CalibratedModel, edit: Callable[[dict[str, Any]], None], *certain: str) -> CalibratedModel:
    """The model with its document edited; numbers under the pointers ``certain`` keep what the edit gave them."""
    document = known.model.model_dump(mode="json")
    edit(document)
    blocks = []
    for block in known.uncertainty.blocks:
        kept = [i for i, p in enumerate(block.pointers) if not p.startswith(certain)] if certain else range(
            len(block.pointers))
        if len(kept):
            rows = block.factor[list(kept)]
            factor = np.zeros((len(rows), len(rows)))
            root = np.linalg.qr(rows.T, mode="r").T
            factor[:, : root.shape[1]] = root
            blocks.append(Block(block.name, tuple(block.pointers[i] for i in kept),
                                tuple(block.scales[i] for i in kept), block.estimates[list(kept)], factor))
    return CalibratedModel(Model.model_validate(document), Uncertainty(tuple(blocks)))


def shifted(known: CalibratedModel, processor: str, logit: float) -> CalibratedModel:
    """One processor's approval moved by ``logit``, known as well as before."""
    terms = known.model.issuer.approval.terms
    number = next(i for i, term in enumerate(terms) if term.by == ["processor"] and not term.of)
    where = pointer("issuer", "approval", "terms", number, "effects", processor)
    blocks = [Block(b.name, b.pointers, b.scales, b.estimates + logit * np.array([p == where for p in b.pointers]),
                    b.factor) for b in known.uncertainty.blocks]
    model = known.model.model_copy(deep=True)
    model.issuer.approval.terms[number].effects[processor] += logit
    return CalibratedModel(model, Uncertainty(tuple(blocks)))


def slower(known: CalibratedModel, processor: str, factor: float) -> CalibratedModel:
    return edited(known, lambda d: d["processors"][processor]["latency"].update(factor=factor))


def by_points(made: Case, processor: str, points_pp: float) -> CalibratedModel:
    """The model with one processor's predicted approval of history's first attempts moved by ``points_pp``."""
    log = made.history.log
    data = sequences(log, Trace(log.payments, made.model.model.timezone), issuer_spoke(log, find_outages(log).inside))
    rows = data.start[:-1]
    rows = rows[data.processor[rows] == data.processors.index(processor)]

    def predicted(model: CalibratedModel) -> float:
        return float(predict(model.point(), data)[rows, 0].mean())

    aim = predicted(made.model) + points_pp / 100
    return shifted(made.model, processor, float(optimize.brentq(
        lambda logit: predicted(shifted(made.model, processor, logit)) - aim, -6, 6, xtol=0.01)))


def without_recovery(known: CalibratedModel) -> CalibratedModel:
    """Whoever has no funds never has any again."""

    def edit(document: dict[str, Any]) -> None:
        for block in document["issuer"]["blocks"].values():
            block["recovers_h"], block["recovers_share"] = None, 0.0

    return edited(known, edit, "/issuer/blocks")


def independent(known: CalibratedModel) -> CalibratedModel:
    """No state is shared by a payment's attempts: each is a fresh chance at the first attempts' level."""

    def edit(document: dict[str, Any]) -> None:
        issuer = document["issuer"]
        # Averaged over the frailty N(0, s²) a logit shrinks by about 1 / sqrt(1 + .346 s²) (Zeger et al. 1988); then
        # the blocks' share, and their codes among the judgement's.
        shrink = 1 / np.sqrt(1 + 0.346 * issuer["frailty_sd"] ** 2)
        issuer["approval"]["intercept"] *= shrink
        issuer["approval"]["intercept"] -= 1.0
        for term in issuer["approval"]["terms"]:
            term["effects"] = {k: v * shrink for k, v in term["effects"].items()}
        issuer["frailty_sd"], issuer["repeat"], issuer["blocks"] = 0.0, 0.0, {}
        issuer["judgement_codes"] = {"": {"51": 0.45, "05": 0.35, "14": 0.1, "59": 0.1}}

    return edited(known, edit, "/issuer")


def failures(findings: list[Finding]) -> dict[str, float]:
    return {f.figure: f.p_value for f in findings if not f.passed}


def test_a_right_model_passes_on_the_week_that_it_has_not_seen(made: Case) -> None:
    findings = check(made.model, made.history, workers=2)
    assert failures(findings) == {}
    assert len(findings) > 20
    assert [f.p_value for f in findings] == sorted(f.p_value for f in findings)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """2,000 payments a day: two weeks to calibrate on, two to examine."""
    return case(tmp_path_factory.mktemp("busy") / "h", 2000, 7, days=28)


@pytest.mark.slow
@pytest.mark.parametrize("points_pp", [-3.0, 3.0])
@pytest.mark.parametrize("processor", ["Worldpay", "Elavon", "MIT"])
def test_a_rate_off_by_three_points_is_named(busy: Case, processor: str, points_pp: float) -> None:
    failed = failures(check(by_points(busy, processor, points_pp), busy.history, workers=2))
    assert processor in min(failed, key=lambda figure: failed[figure]), failed
    others = {"Worldpay", "Elavon", "MIT", "Amex"} - {processor}
    assert not any(f"first attempts at {other}" in figure for figure in failed for other in others), failed


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["Worldpay", "Amex"])
def test_a_latency_off_by_three_tenths_is_named(busy: Case, processor: str) -> None:
    failed = failures(check(slower(busy.model, processor, 1.3), busy.history, workers=2))
    assert any("latency" in figure and processor in figure for figure in failed), failed
    assert all(("latency" in figure and processor in figure) or "wait" in figure for figure in failed), failed


@pytest.mark.slow
def test_funds_that_never_come_back_are_named(busy: Case) -> None:
    failed = failures(check(without_recovery(busy.model), busy.history, workers=2))
    assert any("after 51" in figure and "later" in figure for figure in failed), failed


@pytest.mark.slow
def test_the_same_traffic_passes_a_right_model(busy: Case) -> None:
    assert failures(check(busy.model, busy.history, workers=2)) == {}


def test_a_processor_that_answers_faster_than_predicted_is_named(made: Case) -> None:
    failed = failures(check(slower(made.model, "Worldpay", 1.3), made.history, workers=2))
    assert any("latency" in figure and "Worldpay" in figure for figure in failed), failed
    assert not any("latency" in figure and "Elavon" in figure for figure in failed)


def test_retries_taken_for_fresh_chances_are_named(made: Case) -> None:
    failed = failures(check(independent(made.model), made.history, workers=2))
    assert any("retr" in figure for figure in failed), failed


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_claimed(tmp_path: Path) -> None:
    """Ten histories, none of which should fail at 1 % over the whole family (two would happen once in 240 times)."""
    failed = {}
    for seed in range(20, 30):
        one = case(tmp_path / str(seed), 400, seed)
        failed[seed] = failures(check(one.model, one.history, workers=2))
    assert sum(bool(f) for f in failed.values()) <= 1, failed


def test_verdicts_hold_the_chance_of_any_false_alarm() -> None:
    """Holm's procedure on 40 true hypotheses: some fail in about 1 % of families, where single tests would in 33 %."""
    random = np.random.default_rng(5)
    families = 3000
    alarms, naive = 0, 0
    for _ in range(families):
        p = random.uniform(size=40)
        found = judge(Surprise(f"f{i}", 0.0, 0.0, 1.0, float(x)) for i, x in enumerate(p))
        alarms += any(not f.passed for f in found)
        naive += bool((p < FALSE_ALARM).any())
    assert stats.binomtest(alarms, families, FALSE_ALARM).pvalue > 1e-3
    assert naive / families > 0.25
    # by hand: with m figures the k-th smallest must be under .01 / (m - k + 1), and the first that passes stops all
    by_hand = judge(Surprise(name, 0.0, 0.0, 1.0, p) for name, p in
                    (("a", 0.003), ("b", 0.0045), ("c", 0.9), ("d", 0.0055)))
    assert [(f.figure, f.passed) for f in by_hand] == [("a", True), ("b", True), ("d", True), ("c", True)]
    by_hand = judge(Surprise(name, 0.0, 0.0, 1.0, p) for name, p in
                    (("a", 0.002), ("b", 0.003), ("c", 0.9), ("d", 0.006)))
    assert [(f.figure, f.passed) for f in by_hand] == [("a", False), ("b", False), ("d", True), ("c", True)]


def test_a_figure_that_cannot_be_judged_is_left_out() -> None:
    assert judge([Surprise("f", np.nan, 0.0, 1.0, 0.5), Surprise("g", 1.0, 1.0, 1.0, np.nan)]) == []


def test_a_history_of_unknown_processors_or_a_model_without_router_is_refused(made: Case) -> None:
    def fewer(document: dict[str, Any]) -> None:
        del document["processors"]["Amex"]

    with pytest.raises(BadInput, match="Amex"):
        check(CalibratedModel(edited(made.model, fewer, "/").model), made.history)
    with pytest.raises(BadInput, match="logged"):
        check(edited(made.model, lambda d: d.update(logged=None), "/"), made.history)
