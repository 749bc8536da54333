"""Boundaries of repeated looks, and winners' lifts, against published constants, simulation and reference figures."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from routesim.reports.statistics.stopping import always_valid, boundaries, crossing, equal_looks
from routesim.reports.statistics.winners_curse import many_looks, single_look
from routesim.sim.errors import BadInput

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


def walks(fractions: list[float], drift: float, tests: int, seed: int) -> np.ndarray:
    """z at each look, shape (tests, looks)."""
    t = np.array(fractions)
    steps = np.diff(t, prepend=0.0)
    moves = np.random.default_rng(seed).standard_normal((tests, len(t))) * np.sqrt(steps) + drift * steps
    return np.cumsum(moves, axis=1) / np.sqrt(t)


def test_published_constants() -> None:
    # Jennison and Turnbull 2000, table 2.1: Pocock's constants for alpha = .05
    for looks, constant in ((2, 2.178), (5, 2.413), (10, 2.555)):
        fractions = [(k + 1) / looks for k in range(looks)]
        assert boundaries("pocock", fractions)[0] == pytest.approx(constant, abs=5.1e-4)
    # the O'Brien-Fleming spending function at five equal looks (Lan and DeMets 1983; ldbounds)
    assert boundaries("obrien_fleming", FIFTHS) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)


def test_one_look_is_the_usual_test() -> None:
    for name in ("fixed", "pocock", "obrien_fleming", "bonferroni", "naive"):
        assert boundaries(name, [1.0])[0] == pytest.approx(1.959964, abs=1e-5)
    assert boundaries("fixed", FIFTHS).tolist()[:-1] == [math.inf] * 4


@pytest.mark.parametrize("name", ["fixed", "pocock", "obrien_fleming"])
@pytest.mark.parametrize("fractions", [FIFTHS, equal_looks(7, 28), [0.05, 0.5, 0.55, 0.9]])
def test_the_level_is_kept_over_all_looks(name: str, fractions: list[float]) -> None:
    bounds, tests = boundaries(name, fractions), 40_000
    called = (np.abs(walks(fractions, 0.0, tests, 11)) > bounds).any(axis=1).mean()
    level = 0.05 if name != "obrien_fleming" or fractions[-1] == 1 else 2 * (2 - 2 * stats.norm.cdf(
        stats.norm.ppf(1 - 0.0125) / math.sqrt(fractions[-1])))
    assert abs(called - level) < 3 * math.sqrt(0.05 * 0.95 / tests)
    up, down = crossing(bounds, fractions)
    assert up.sum() + down.sum() == pytest.approx(level, abs=1e-8)
    assert up == pytest.approx(down)


def test_daily_looks_inflate_the_level_and_bonferroni_overdoes_it() -> None:
    looks = equal_looks(7, 28)
    naive, bonferroni = (sum(float(side.sum()) for side in crossing(boundaries(name, looks), looks))
                         for name in ("naive", "bonferroni"))
    assert bonferroni < 0.05 < 0.15 < naive
    called = (np.abs(walks(looks, 0.0, 40_000, 12)) > 1.959964).any(axis=1).mean()
    assert abs(called - naive) < 3 * math.sqrt(naive * (1 - naive) / 40_000)


@pytest.mark.parametrize("drift", [-1.0, 2.0, 12.0])
def test_crossings_with_a_drift_are_those_of_simulated_walks(drift: float) -> None:
    bounds = boundaries("pocock", FIFTHS)
    tests = 40_000
    z = walks(FIFTHS, drift, tests, 13)
    out = np.abs(z) > bounds
    first = np.where(out.any(axis=1), out.argmax(axis=1), -1)
    up, down = crossing(bounds, FIFTHS, drift)
    for look in range(5):
        at = first == look
        for expected, side in ((up[look], z[:, look] > 0), (down[look], z[:, look] < 0)):
            seen = (at & side).mean()
            assert abs(seen - expected) < 4 * math.sqrt(expected * (1 - expected) / tests) + 1e-4


def test_the_always_valid_boundary_holds_however_often_one_looks() -> None:
    tests, tuning, step = 4_000, 500, 5
    samples = np.arange(100, 5_000, step)
    bounds = np.array([always_valid(float(n), tuning) for n in samples])
    z = walks((samples / samples[-1]).tolist(), 0.0, tests, 14)
    called = (np.abs(z) > bounds).any(axis=1).mean()
    assert called < 0.05 + 3 * math.sqrt(0.05 * 0.95 / tests)
    assert called > 0.01  # and it can be crossed
    # tuned to n, it is tighter at n than when tuned elsewhere
    assert always_valid(5_000, 5_000) < min(always_valid(5_000, 200), always_valid(5_000, 100_000))


def test_reference_boundaries(shared: Path) -> None:
    with (shared / "oracles" / "sequential_boundaries.csv").open(encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    fractions = [float(row["info_frac"]) for row in table]
    assert fractions == equal_looks(7, 28)
    for name, column in (("pocock", "z_pocock_const"), ("obrien_fleming", "z_lanDeMets_obf"),
                         ("bonferroni", "z_bonferroni_22")):
        assert boundaries(name, fractions) == pytest.approx([float(row[column]) for row in table], abs=1e-6)
    up, _ = crossing(boundaries("obrien_fleming", fractions), fractions)
    assert np.cumsum(up) == pytest.approx([float(row["cum_alpha_one_sided_LD_OBF"]) for row in table], abs=1e-9)


def test_a_single_looks_winner_is_covered_given_that_it_won() -> None:
    random = np.random.default_rng(15)
    for truth in (0.0, 1.0, 3.0):
        lifts = random.normal(truth, 1.0, 60_000)
        won = lifts[lifts > 1.96][:800]
        found = [single_look(float(lift), 1.0, 1.96) for lift in won]
        low = np.array([-math.inf if each.low is None else each.low for each in found])
        high = np.array([math.inf if each.high is None else each.high for each in found])
        assert abs(((low <= truth) & (truth <= high)).mean() - 0.95) < 4 * math.sqrt(0.05 * 0.95 / len(won))
        naive = np.abs(won - truth) < 1.96
        assert truth > 1 or naive.mean() < 0.9
    # far above the threshold nothing is corrected; just above it nearly everything
    clear, scarce = single_look(9.0, 1.0, 1.96), single_look(2.2, 1.0, 1.96)
    assert clear.estimate == pytest.approx(9.0, abs=1e-6)
    assert clear.low == pytest.approx(9.0 - 1.959964, abs=1e-4)
    assert scarce.estimate is None or scarce.estimate < 1.0


def test_a_watched_winner_is_covered_over_all_tests_and_its_sign_may_be_turned() -> None:
    fractions, tests, truth = FIFTHS, 1_500, 2.5
    bounds = boundaries("pocock", fractions)
    z = walks(fractions, truth, tests, 16)
    out = z > bounds
    won = out.any(axis=1) & ~(z < -bounds).any(axis=1)
    look = out.argmax(axis=1)
    naive, found = [], []
    cache: dict[tuple[int, float], tuple[float, float, float]] = {}
    for test in np.flatnonzero(won)[:250]:
        k = int(look[test])
        # in units in which the lift's standard error at full information is 1
        error = 1 / math.sqrt(fractions[k])
        lift = float(z[test, k]) * error
        each = many_looks(lift, error, k, bounds.tolist(), fractions)
        assert each.estimate is not None
        assert each.low is not None
        assert each.high is not None
        cache[k, lift] = (each.low, each.estimate, each.high)
        naive.append(lift - truth)
        found.append(each.estimate - truth)
    assert 0 < np.mean(found) < np.mean(naive)
    turned = many_looks(-lift, error, k, bounds.tolist(), fractions)
    assert turned.low == pytest.approx(-cache[k, lift][2])
    assert turned.estimate == pytest.approx(-cache[k, lift][1])
    # By theory P(estimate ≤ truth) is a half over all tests. Those above it have won, so they are counted without the
    # tests that were not called: of 250 wins out of 250 / P(win) tests, half of all tests lie above.
    win = float(crossing(bounds, fractions, truth)[0].sum())
    above = np.mean(np.array(found) > 0) * win
    assert abs(above - 0.5) < 4 * math.sqrt(win * 0.25 / len(found)) * math.sqrt(win)
    upper = np.mean([low > truth for low, _, _ in cache.values()]) * win  # P(low > truth) = 2.5 %
    assert abs(upper - 0.025) < 4 * math.sqrt(0.025 / len(found))


def test_one_watched_look_is_the_usual_interval() -> None:
    found = many_looks(2.5, 1.0, 0, [1.959964], [1.0])
    assert found.estimate == pytest.approx(2.5)
    assert found.low == pytest.approx(2.5 - 1.959964, abs=1e-5)


@pytest.mark.parametrize("wrong", [
    lambda: boundaries("pockock", FIFTHS), lambda: boundaries("pocock", []), lambda: boundaries("pocock", [0.5, 0.4]),
    lambda: boundaries("pocock", [0.0, 1.0]), lambda: boundaries("pocock", [0.5, 1.5]),
    lambda: boundaries("pocock", FIFTHS, math.nan), lambda: crossing([2.0], FIFTHS), lambda: always_valid(0, 100),
    lambda: single_look(1.0, 1.0, 1.96), lambda: many_looks(1.0, 1.0, 0, [1.96], [1.0]),
    lambda: many_looks(3.0, 1.0, 1, [1.96], [1.0]),
])
def test_what_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(BadInput):
        wrong()  # type: ignore[operator]
