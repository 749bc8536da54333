"""Outages found in a simulated history whose outages are known, and the process fitted to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from routesim.calibration.calibrate import attempt_windows
from routesim.calibration.history.read import read_history
from routesim.calibration.outages.find import Found, find_outages, gaps_and_durations
from routesim.calibration.outages.process import FittedOutages, fit_outages
from routesim.sim.draws import Luck
from routesim.sim.log import AttemptLog
from routesim.sim.model import Model
from routesim.sim.outages import Outage, draw_outages
from routesim.sim.trace import seconds
from routesim.sim.uncertainty import Uncertainty
from tests.worlds import START, InOrder, model_of, poisson_arrivals, simulate, standard_errors, trace_of

DAYS, PER_DAY = 28, 1500
DAY = 86_400.0
MEDIAN_MIN, SIGMA, GAP_H = 35.0, 0.8, 30.0


def world(outages: bool = True) -> Model:
    """Two processors that time out by outages, and once in a thousand without."""
    process = {"gap_h": {"family": "exponential", "mean": GAP_H},
               "duration_min": {"family": "lognormal", "median": MEDIAN_MIN, "sigma": SIGMA},
               "kinds": {"down": {"share": 0.5, "loss": 0.97}, "partial": {"share": 0.25, "loss": 0.5},
                         "slow": {"share": 0.25, "loss": 0.05, "latency_factor": 4.0}}}
    parts = {"latency": {"approved": {"family": "lognormal", "median": 800.0, "sigma": 0.4}}, "timeout_s": 20.0,
             "technical": {"TO": 0.001}}
    return model_of({name: parts | ({"outages": process} if outages else {}) for name in "AB"})


@dataclass
class ByTurns(InOrder):
    """Each payment to one of the two, by turns, without retries."""

    def decide(self, view, draw):  # type: ignore[no-untyped-def]
        self.ranks = ("AB"[int(view.payment.payment_id[1:]) % 2],)
        return super().decide(view, draw)


@dataclass
class Case:
    """A history, its true outages, and what was found."""

    log: AttemptLog
    truth: list[Outage]
    found: Found
    fitted: FittedOutages


def case(seed: int, model: Model, days: int = DAYS) -> Case:
    trace = trace_of(poisson_arrivals(2 * PER_DAY / DAY, 2 * PER_DAY * days, seed))
    end = float(trace.arrived_at[-1])
    truth = draw_outages(model, Luck(seed), START, end)
    log = simulate(trace, model, ByTurns(()), seed=seed, outages=truth).log
    found = find_outages(log)
    return Case(log, truth, found, fit_outages(found, {name: (START, end) for name in "AB"}))


@pytest.fixture(scope="module")
def known() -> Case:
    return case(4, world())


def affected(log: AttemptLog, outage: Outage) -> int:
    """Attempts lost in an outage; in a slow one those that met it."""
    sent = seconds(log.attempts["sent_at"])
    inside = (log.attempts["processor"].to_numpy(zero_copy_only=False) == outage.processor) & (
        sent > outage.start) & (sent < outage.end)
    if outage.kind != "slow":
        inside &= log.attempts["outcome"].to_numpy(zero_copy_only=False) == "timeout"
    return int(inside.sum())


def overlaps(one: Outage, other: Outage) -> bool:
    return one.processor == other.processor and one.start < other.end and other.start < one.end


def test_outages_are_found_with_their_starts_and_few_others(known: Case) -> None:
    large = [o for o in known.truth if affected(known.log, o) >= 8]
    assert len(large) >= 25
    matches = [[f for f in known.found.outages if overlaps(o, f)] for o in large]
    assert np.mean([bool(m) for m in matches]) >= 0.9
    false = [f for f in known.found.outages if not any(overlaps(f, o) for o in known.truth)]
    assert len(false) < 2 * DAYS / 7
    starts = [abs(m[0].start - o.start) / 60 for o, m in zip(large, matches, strict=True) if m]
    ends = [abs(m[-1].end - o.end) / 60 for o, m in zip(large, matches, strict=True) if m]
    assert np.median(starts) < 5
    assert np.median(ends) < 5
    kinds = [o.kind == m[0].kind for o, m in zip(large, matches, strict=True) if m]
    assert np.mean(kinds) > 0.8


def test_what_outages_do_is_learnt(known: Case) -> None:
    counts = {kind: known.found.counts[kind] for kind in ("down", "partial")}
    for kind, true in (("down", 0.97), ("partial", 0.5)):
        lost, seen = counts[kind]
        assert seen > 30
        # twice the binomial error: which attempts belong to the outage is itself uncertain
        assert abs(lost / seen - true) < 7 * np.sqrt(true * (1 - true) / seen) + 0.01
    assert abs(np.log(known.found.latency_factor / 4.0)) < 0.2


def test_attempts_inside_outages_are_marked(known: Case) -> None:
    outcome = known.log.attempts["outcome"].to_numpy(zero_copy_only=False)
    lost = outcome == "timeout"
    sent = seconds(known.log.attempts["sent_at"])
    processor = known.log.attempts["processor"].to_numpy(zero_copy_only=False)
    truly = np.zeros(len(sent), dtype=bool)
    for o in known.truth:
        truly |= (processor == o.processor) & (sent > o.start) & (sent < o.end)
    assert known.found.inside[lost & truly].mean() > 0.95
    assert known.found.inside[~truly].mean() < 0.003
    # so that the timeouts which remain are the technical ones
    rest = lost & ~known.found.inside
    n = (~known.found.inside).sum()
    assert abs(rest.sum() / n - 0.001) < 0.001


def test_a_history_without_outages_shows_none() -> None:
    quiet = case(5, world(outages=False), days=14)
    assert len(quiet.found.outages) < 2
    if not quiet.found.outages:
        assert quiet.fitted == FittedOutages({}, ())


def test_the_process_is_recovered_within_its_errors(known: Case) -> None:
    process = known.fitted.processes["A"]
    assert process.duration_min.family == "lognormal"
    drawn = Uncertainty(known.fitted.uncertainty)
    worlds = [drawn.draw(1, world) for world in range(400)]

    def interval(where: str, f) -> tuple[float, float]:  # type: ignore[no-untyped-def]
        values = [f(w) for w in worlds if where in w]
        assert len(values) == 400
        return tuple(np.quantile(values, [0.0005, 0.9995]))  # about 3.3 standard errors either side

    low, high = interval("/processors/A/outages/duration_min/median",
                         lambda w: w["/processors/A/outages/duration_min/median"])
    assert low < MEDIAN_MIN < high < 4 * low
    low, high = interval("/processors/A/outages/duration_min/sigma",
                         lambda w: w["/processors/A/outages/duration_min/sigma"])
    assert low < SIGMA < high
    shares = [np.array([w[f"/processors/A/outages/kinds/{k}/share"] for k in ("down", "partial", "slow")])
              for w in worlds]
    shares = np.array([s / s.sum() for s in shares])
    for i, true in enumerate((0.5, 0.25, 0.25)):
        assert np.quantile(shares[:, i], 0.0005) < true < np.quantile(shares[:, i], 0.9995)
    # what is shared by the processors moves as one
    assert all(w["/processors/A/outages/duration_min/median"] == pytest.approx(
        w["/processors/B/outages/duration_min/median"]) for w in worlds[:20])
    # mean gaps, whatever family was chosen
    for name in "AB":
        fitted = known.fitted.processes[name].gap_h
        mean = float(fitted.ppf((np.arange(100_000) + 0.5) / 100_000).mean())
        n = sum(o.processor == name for o in known.truth)
        assert abs(np.log(mean / GAP_H)) < 3.5 / np.sqrt(n) + 0.1


def test_gaps_and_durations_at_the_window_s_ends_are_censored() -> None:
    def outage(start: float, end: float) -> Outage:
        return Outage("A", "down", start, end, 1.0)

    hour = 3600.0
    gaps, durations = gaps_and_durations([outage(2 * hour, 3 * hour), outage(8 * hour, 8.5 * hour)], 0.0, 20 * hour)
    assert gaps == [(2.0, "end"), (5.0, "whole"), (11.5, "beginning")]  # the first began before, the last goes on
    assert durations == [(60.0, True), (30.0, True)]
    gaps, durations = gaps_and_durations([outage(-hour, hour), outage(19 * hour, 25 * hour)], 0.0, 20 * hour)
    assert [whole for _, whole in durations] == [False, False]
    assert gaps == [(18.0, "whole")]


def test_shared_numbers_have_the_stated_spread() -> None:
    """A lone outage of one kind: the share's weight is a gamma posterior, drawn around its count."""
    found = Found([Outage("A", "down", START, START + 3600, 0.95)], np.zeros(0, dtype=bool),
                  {"down": 0.95, "partial": 0.5, "slow": 0.1},
                  {"down": (20.0, 21.0), "partial": (0.0, 0.0), "slow": (0.0, 0.0)}, 3.0, 0.7)
    fitted = fit_outages(found, {"A": (START - 10 * DAY, START + 10 * DAY), "B": (START - DAY, START + DAY)})
    assert set(fitted.processes) == {"A", "B"}
    # few outages lean on the field's usual median of 30 minutes and do not claim to know much
    assert 30 < fitted.processes["A"].duration_min.quantile(0.5) < 60
    block = next(b for b in fitted.uncertainty if b.name == "outage effects")
    se = dict(zip(block.pointers, standard_errors(block), strict=True))
    assert 0.4 < se["/processors/A/outages/duration_min/median"] < 1.2
    assert se["/processors/A/outages/kinds/down/share"] == se["/processors/B/outages/kinds/down/share"]


def test_the_open_world_s_outages(shared: Path) -> None:
    """Those that could be seen are found at their true length, no others, and none as joint; the fit's interval holds
    their median duration. To be seen takes three lost attempts, or three of the nine in ten that a slow one slows."""
    world = shared / "worlds/open"
    history = read_history(world / "history")
    told = json.loads((world / "truth.json").read_text(encoding="utf-8"))["outages"]
    log = history.log
    truth = [Outage(name, row["kind"], *(datetime.fromisoformat(row[edge]).replace(tzinfo=UTC).timestamp()
                                         for edge in ("start", "end")), row["severity"])
             for name, rows in told.items() for row in rows]
    end = float(seconds(log.attempts["sent_at"]).max())
    seen = [o for o in truth if o.start < end and affected(log, o) * (0.9 if o.kind == "slow" else 1.0) >= 3]
    found = find_outages(log, history.health_skips)
    assert len(seen) >= 25
    matches = [[f for f in found.outages if overlaps(o, f)] for o in seen]
    assert all(len(match) == 1 for match in matches)
    ratios = np.log([(f.end - f.start) / (o.end - o.start) for o, (f,) in zip(seen, matches, strict=True)])
    assert abs(ratios.mean()) < 3.5 * ratios.std(ddof=1) / np.sqrt(len(ratios))
    assert ratios.std() < 0.25
    assert [f for f in found.outages if not any(overlaps(f, o) for o in truth)] == []
    fitted = fit_outages(found, attempt_windows(log))
    assert fitted.joint == ()
    uncertain = Uncertainty(fitted.uncertainty)
    family = fitted.processes["MIT"].duration_min
    where = "/processors/MIT/outages/duration_min/"
    medians = []
    for draw in range(1000):
        drawn = {p.removeprefix(where): v for p, v in uncertain.draw(1, draw).items() if p.startswith(where)}
        medians.append(type(family).model_validate(family.model_dump() | drawn).quantile(0.5))
    low, high = np.quantile(medians, [0.025, 0.975])
    true = float(np.median([(o.end - o.start) / 60 for o in seen]))
    assert low < true < high
    assert high < 3 * low  # an interval that holds anything would prove nothing
