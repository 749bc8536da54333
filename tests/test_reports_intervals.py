"""Intervals against arithmetic and against theory: the two-level normal model, at fixed seeds.

The truth is m*; the calibrated centre misses it by N(0, V_world), and each world misses the centre by as much again.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from routesim.reports.statistics.intervals import Interval, Method, interval, tidy
from routesim.sim.arrays import Floats

RUNS = 2_000
TRUTH = 10.0


def standard_error(coverage: float) -> float:
    return math.sqrt(coverage * (1 - coverage) / RUNS)


def draw(
    rng: np.random.Generator, worlds: int, luck: int, v_world: float, v_luck: float
) -> Floats:
    centre = TRUTH + rng.normal(0, math.sqrt(v_world))
    world = rng.normal(0, math.sqrt(v_world), (worlds, 1))
    return centre + world + rng.normal(0, math.sqrt(v_luck), (worlds, luck))


def coverage(worlds: int, luck: int, v_world: float, v_luck: float, method: Method = "t") -> tuple[float, float]:
    """The share of intervals that hold the truth, and of one-run ranges that hold one realisation in the true world."""
    rng = np.random.default_rng(20260202)
    held = run_held = 0
    for _ in range(RUNS):
        found = interval(draw(rng, worlds, luck, v_world, v_luck), method=method)
        realised = TRUTH + rng.normal(0, math.sqrt(v_luck))
        assert found.low is not None
        assert found.high is not None
        assert found.one_run_low is not None
        assert found.one_run_high is not None
        held += found.low <= TRUTH <= found.high
        run_held += found.one_run_low <= realised <= found.one_run_high
    return held / RUNS, run_held / RUNS


def test_the_arithmetic_of_the_analysis_of_variance() -> None:
    found = interval(np.array([[1.0, 3.0], [5.0, 7.0]]), method="t")
    t = stats.t.ppf(0.975, 1)
    assert found.value == 4
    assert found.luck_sd == pytest.approx(math.sqrt(2))  # MS_within = 4 / 2
    assert found.world_sd == pytest.approx(math.sqrt(7))  # MS_between = 16, (16 - 2) / 2
    assert found.high == pytest.approx(4 + t * math.sqrt(7 + 16 / 4))
    assert found.low == pytest.approx(4 - t * math.sqrt(7 + 16 / 4))
    assert found.one_run_high == pytest.approx(4 + t * math.sqrt(7 + 16 / 4 + 2))
    assert found.basis == "worlds and luck"


def test_world_variance_is_not_negative() -> None:
    found = interval(np.array([[0.0, 10.0], [10.0, 0.0], [1.0, 10.0]]), method="t")
    assert found.world_sd == 0
    ms_between = 2 * np.var([5, 5, 5.5], ddof=1)
    assert found.high == pytest.approx(31 / 6 + stats.t.ppf(0.975, 2) * math.sqrt(ms_between / 6))


@pytest.mark.parametrize("v_world", [4.0, 25.0])
def test_where_calibration_dominates_both_ranges_cover_as_promised(v_world: float) -> None:
    held, run_held = coverage(20, 3, v_world, 0.5)
    assert abs(held - 0.95) < 3 * standard_error(0.95)
    assert abs(run_held - 0.95) < 3 * standard_error(0.95)


def test_without_calibration_error_the_interval_covers_and_is_not_much_too_wide() -> None:
    held, _ = coverage(20, 2, 0.0, 1.0)
    assert held > 0.95 - 3 * standard_error(0.95)
    assert held < 0.98


def test_one_luck_draw_is_exact_without_luck_and_wide_with_it() -> None:
    exact, _ = coverage(12, 1, 1.0, 0.0)
    assert abs(exact - 0.95) < 3 * standard_error(0.95)
    wide, run_held = coverage(12, 1, 1.0, 1.0)
    assert wide > 0.97
    assert abs(run_held - 0.95) < 3 * standard_error(0.95)


def test_one_world_covers_where_there_is_only_luck() -> None:
    held, run_held = coverage(1, 8, 0.0, 1.0)
    assert abs(held - 0.95) < 3 * standard_error(0.95)
    assert abs(run_held - 0.95) < 3 * standard_error(0.95)


@pytest.mark.parametrize(("v_world", "t_falls_short"), [(0.2, True), (10.0, False)])
def test_the_generalised_interval_covers_where_the_t_interval_falls_short(v_world: float, t_falls_short: bool) -> None:
    held, _ = coverage(20, 2, v_world, 1.0, "generalised")
    assert 0.92 - 2 * standard_error(0.92) < held < 0.995
    assert (coverage(20, 2, v_world, 1.0)[0] < 0.87) == t_falls_short  # as the module's documentation says


def test_more_luck_shrinks_the_second_term_only() -> None:
    rng = np.random.default_rng(7)
    world = rng.normal(0, 1, (200, 1))

    def half(luck: int) -> float:
        found = interval(world + rng.normal(0, 3, (200, luck)))
        assert found.high is not None
        assert found.low is not None
        return (found.high - found.low) / 2

    limit = stats.t.ppf(0.975, 199) * math.sqrt(1 + 1 / 200)
    assert half(400) == pytest.approx(limit, rel=0.15)  # the sd of an sd over 200 worlds is 5 %


def test_one_world_says_that_calibration_error_is_unseen() -> None:
    found = interval(np.array([[1.0, 2.0, 3.0]]))
    assert found.basis == "luck"
    assert found.world_sd is None
    assert found.high == pytest.approx(2 + stats.t.ppf(0.975, 2) * math.sqrt(1 / 3))
    assert found.one_run_high == pytest.approx(2 + stats.t.ppf(0.975, 2) * math.sqrt(1 + 1 / 3))


def test_one_luck_draw_takes_all_variance_for_calibration() -> None:
    found = interval(np.array([[1.0], [2.0], [3.0]]))
    assert found.basis == "worlds"
    assert found.luck_sd is None
    assert found.high == pytest.approx(2 + stats.t.ppf(0.975, 2) * math.sqrt(1 + 1 / 3))


@pytest.mark.parametrize("values", [[[5.0]], [[5.0, math.nan]], [[math.nan], [5.0]]])
def test_one_replication_has_no_interval(values: list[list[float]]) -> None:
    assert interval(np.array(values)).as_json() == {
        "value": 5.0, "low": None, "high": None, "one_run_low": None, "one_run_high": None}


def test_nothing_defined_is_nothing_told() -> None:
    assert interval(np.full((3, 2), np.nan)) == Interval(None, None, None, None, None, None, None, "none")


def test_undefined_replications_are_left_out() -> None:
    full = interval(np.array([[1.0, 3.0], [5.0, 7.0]]))
    holed = interval(np.array([[1.0, 3.0, np.nan], [np.nan, 5.0, 7.0], [np.nan, np.nan, np.nan]]))
    assert holed == full


def test_unequal_groups_use_n0() -> None:
    found = interval(np.array([[1.0, 3.0], [5.0, np.nan], [7.0, 9.0]]))
    groups = [np.array([1.0, 3.0]), np.array([5.0]), np.array([7.0, 9.0])]
    ms_within = (2 + 0 + 2) / 2
    ms_between = sum(len(g) * (g.mean() - 5) ** 2 for g in groups) / 2
    n0 = (5 - (4 + 1 + 4) / 5) / 2
    assert found.value == 5
    assert found.world_sd == pytest.approx(math.sqrt((ms_between - ms_within) / n0))


def test_tidy_keeps_ten_digits_and_drops_what_is_not_finite() -> None:
    assert tidy(1 / 3) == 0.3333333333
    assert tidy(math.nan) is None
    assert str(tidy(-0.0)) == "0.0"
    assert tidy(None) is None
