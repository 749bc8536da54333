"""Outages as drawn: in their steady state from the window's first second, with the process's gaps and durations."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from routesim.sim.distributions import Lognormal, Weibull
from routesim.sim.draws import Luck
from routesim.sim.model import JointOutages, Model
from routesim.sim.outages import Outage, draw_outages
from tests.worlds import START, model_of

HOUR = 3600.0
EXPONENTIAL = {"family": "exponential", "mean": 10.0}
PROCESSES = {
    "exponential": ({"family": "exponential", "mean": 10.0}, {"family": "exponential", "mean": 90.0}),
    "clustered": ({"family": "weibull", "scale": 8.0, "shape": 0.7}, {"family": "lognormal", "median": 60.0,
                                                                    "sigma": 1.0}),
    "regular": ({"family": "gamma", "scale": 1.0, "shape": 10.0}, {"family": "constant", "value": 120.0}),
    "heavy gaps": ({"family": "lognormal", "median": 4.0, "sigma": 1.5}, {"family": "constant", "value": 90.0}),
}
KINDS = {"down": {"share": 3.0, "loss": 0.9}, "slow": {"share": 1.0, "loss": 0.1, "latency_factor": 4.0}}


def world(gap_h: dict[str, Any], duration_min: dict[str, Any]) -> Model:
    return model_of({"A": {"outages": {"gap_h": gap_h, "duration_min": duration_min, "kinds": KINDS}}})


def mean(distribution: Any) -> float:
    """By the survival function's integral, so that it leans on nothing of the simulator's draws."""
    u = (np.arange(2_000_000) + 0.5) / 2_000_000
    return float(distribution.ppf(u).mean())


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_window_opens_in_the_steady_state(name: str) -> None:
    """P(down at t) = E[D] / (E[D] + E[G]) for every t (Ross, Stochastic Processes, alternating renewal), the window's
    very start included."""
    model = world(*PROCESSES[name])
    process = model.processors["A"].outages
    assert process is not None
    duration_h, gap_h = mean(process.duration_min) / 60, mean(process.gap_h)
    expected = duration_h / (duration_h + gap_h)
    end = START + 40 * HOUR
    runs = 3000
    at_start, share = np.zeros(runs), np.zeros(runs)
    for i in range(runs):
        found = draw_outages(model, Luck(11, 0, i), START, end)
        at_start[i] = any(o.start <= START < o.end for o in found)
        share[i] = sum(min(o.end, end) - max(o.start, START) for o in found) / (end - START)
    for values in (at_start, share):
        assert abs(values.mean() - expected) < 3.5 * values.std(ddof=1) / np.sqrt(runs)
    # A process that begins afresh with the window is never down there: the test would see it.
    assert expected > 3.5 * at_start.std(ddof=1) / np.sqrt(runs)


def test_gaps_durations_and_kinds_follow_their_laws() -> None:
    model = world(*PROCESSES["clustered"])
    found = draw_outages(model, Luck(3), START, START + 60_000 * HOUR)
    gaps = np.array([b.start - a.end for a, b in pairwise(found)]) / HOUR
    durations = np.array([o.end - o.start for o in found[1:-1]]) / 60
    assert len(gaps) > 3000
    gap, duration = Weibull(scale=8.0, shape=0.7), Lognormal(median=60.0, sigma=1.0)
    assert stats.kstest(gaps, lambda x: 1 - gap.sf(x)).pvalue > 1e-3
    assert stats.kstest(durations, lambda x: 1 - duration.sf(x)).pvalue > 1e-3
    assert stats.kstest(gaps, stats.expon(scale=gaps.mean()).cdf).pvalue < 1e-6  # exponential gaps would be seen
    slow = np.mean([o.kind == "slow" for o in found])
    assert abs(slow - 0.25) < 3.5 * np.sqrt(0.25 * 0.75 / len(found))
    assert {(o.kind, o.loss, o.latency_factor) for o in found} == {("down", 0.9, 1.0), ("slow", 0.1, 4.0)}
    # no memory between a gap, the outage after it and the gap after that
    assert abs(stats.spearmanr(gaps[:-1], gaps[1:])[0]) < 4 / np.sqrt(len(gaps))
    assert abs(stats.spearmanr(gaps[:-1], durations)[0]) < 4 / np.sqrt(len(gaps))


def test_only_what_touches_the_window_is_given_and_in_order() -> None:
    model = world(EXPONENTIAL, EXPONENTIAL)
    found = draw_outages(model, Luck(2), START, START + 500 * HOUR)
    assert all(o.end > START and o.start < START + 500 * HOUR for o in found)
    assert found == sorted(found, key=lambda o: o.start)
    assert draw_outages(model_of(["A"]), Luck(2), START, START + HOUR) == []


def test_another_processor_or_a_longer_window_moves_no_outage() -> None:
    model = world(EXPONENTIAL, EXPONENTIAL)
    alone = draw_outages(model, Luck(4), START, START + 200 * HOUR)
    both = model.model_copy(update={"processors": model.processors | {"B": model.processors["A"]}})
    drawn = draw_outages(both, Luck(4), START, START + 200 * HOUR)
    assert [o for o in drawn if o.processor == "A"] == alone
    assert {o.start for o in drawn if o.processor == "B"}.isdisjoint({o.start for o in alone})
    longer = draw_outages(model, Luck(4), START, START + 900 * HOUR)
    assert longer[: len(alone)] == alone
    assert draw_outages(model, Luck(4, 0, 1), START, START + 200 * HOUR) != alone


def test_a_shared_switch_takes_all_of_its_processors() -> None:
    model = model_of(["A", "B", "C"])
    model.joint_outages = [JointOutages.model_validate({"gap_h": EXPONENTIAL, "duration_min": EXPONENTIAL,
                                                        "kinds": KINDS, "processors": ["A", "B"]})]
    found = draw_outages(model, Luck(5), START, START + 300 * HOUR)

    def spans(name: str) -> list[tuple[float, float, str]]:
        return [(o.start, o.end, o.kind) for o in found if o.processor == name]

    assert len(spans("A")) > 10
    assert spans("A") == spans("B")
    assert spans("C") == []
    assert all(isinstance(o, Outage) for o in found)
