"""Means and chances over worlds: their errors take whole worlds, and their intervals cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from routesim.reports.statistics.by_world import by_world, chance, mean, ratio


def test_with_one_test_a_world_it_is_wilsons_interval() -> None:
    found = chance(by_world([1.0, 1.0, 1.0, 0.0], 4))
    assert found["low"] == pytest.approx(0.3006, abs=1e-4)  # of 3 of 4, by hand
    assert found["standard_error"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    none = chance(by_world([0.0] * 10, 10))
    assert none["low"] == 0
    assert none["high"] == pytest.approx(3.8415 / 13.8415, abs=1e-4)  # z² / (n + z²)
    assert chance(by_world([None, None], 1))["value"] is None


def test_tests_of_one_world_are_not_so_many_tests() -> None:
    """Worlds in which all win or nobody: 10 each tell as much as one."""
    worlds = np.array([[1.0], [0.0], [1.0], [0.0], [1.0], [0.0]])
    found = chance(np.repeat(worlds, 10, axis=1))
    assert found["standard_error"] == pytest.approx(math.sqrt(0.25 / 5))  # s / √6 with s² = .25 · 6 / 5
    assert found["high"] - found["low"] > 0.6
    assert mean(np.repeat(worlds, 10, axis=1))["standard_error"] == pytest.approx(math.sqrt(0.25 / 5))


@pytest.mark.parametrize(("worlds", "luck", "spread"), [(6, 4, 1.2), (6, 40, 1.2), (10, 10, 0.0)])
def test_the_interval_of_a_chance_covers_the_mean_over_worlds(worlds: int, luck: int, spread: float) -> None:
    """Worlds whose chances are Φ(N(.2, spread)): their mean is Φ(.2 / √(1 + spread²))."""
    random = np.random.default_rng(3)
    true, covered, trials = float(stats.norm.cdf(0.2 / math.sqrt(1 + spread**2))), 0, 400
    for _ in range(trials):
        p = stats.norm.cdf(random.normal(0.2, spread, worlds))
        found = chance((random.random((worlds, luck)) < p[:, None]).astype(np.float64))
        covered += found["low"] <= true <= found["high"]
    assert covered / trials > 0.95 - 4 * math.sqrt(0.05 * 0.95 / trials)


def test_means_and_ratios_leave_out_what_is_not_there() -> None:
    values = by_world([1.0, None, 3.0, 5.0], 2)
    assert mean(values)["value"] == 3.0
    assert mean(values)["count"] == 3
    assert mean(by_world([2.0], 1)) == {"value": 2.0, "standard_error": None, "count": 1}
    found = ratio(values, by_world([2.0, 2.0, 2.0, 2.0], 2))
    assert found["value"] == pytest.approx(9 / 6)
    assert ratio(values, by_world([-1.0, 1.0, 0.0, 0.0], 2))["value"] is None


def test_the_error_of_a_ratio_is_that_of_repeated_samples() -> None:
    random = np.random.default_rng(4)
    found = []
    for _ in range(400):
        below = random.normal(3.0, 0.5, (12, 1)) + np.zeros((12, 4))
        found.append(ratio(1.1 * below + random.normal(0.0, 1.0, (12, 4)), below))
    scatter = float(np.std([each["value"] for each in found]))
    told = float(np.mean([each["standard_error"] for each in found]))
    assert told == pytest.approx(scatter, rel=0.15)  # √(1 / 800) of the scatter, and the error is never too small
