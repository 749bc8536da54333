"""Intervals against arithmetic: what is pooled, what is not, and where the ends may lie."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from routesim.reports.metrics.catalogue import METRICS, OUTAGE_METRICS
from routesim.reports.statistics.differences import independent, paired
from routesim.reports.statistics.half_widths import half_width
from routesim.reports.statistics.intervals import Interval, interval, tidy
from routesim.sim.arrays import Floats


def half(found: Interval) -> float:
    assert found.high is not None
    assert found.low is not None
    return (found.high - found.low) / 2


def test_the_arithmetic_of_worlds_that_differ() -> None:
    found = interval(np.array([[1.0, 3.0], [5.0, 7.0]]))
    t = stats.t.ppf(0.975, 1)
    assert found.value == 4
    assert found.luck_sd == pytest.approx(math.sqrt(2))  # MS_within = 4 / 2
    assert found.world_sd == pytest.approx(math.sqrt(7))  # MS_between = 16, (16 - 2) / 2
    assert found.high == pytest.approx(4 + t * math.sqrt(7 + 16 / 4))
    assert found.low == pytest.approx(4 - t * math.sqrt(7 + 16 / 4))
    # one run: 7 + 16/4 + 2 = 12 + 1, of which MS_between gives 12 (1 degree) and MS_within 1 (2 degrees)
    df = 13**2 / (12**2 / 1 + 1**2 / 2)
    assert found.one_run_high == pytest.approx(max(4 + stats.t.ppf(0.975, df) * math.sqrt(13), found.high))
    assert found.basis == "worlds and luck"


def test_worlds_that_agree_are_pooled() -> None:
    values = np.array([[0.0, 10.0], [10.0, 0.0], [1.0, 10.0]])
    found = interval(values)
    assert found.world_sd == 0
    assert half(found) == pytest.approx(stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6))


def test_lifts_that_agree_by_chance_are_as_uncertain_as_their_spread_says() -> None:
    """Twenty lifts of which each world's two lie on either side of the mean."""
    spread = np.random.default_rng(4).normal(0.0, 0.09, 10)
    lifts = 0.3 + np.column_stack([spread, -spread])
    found = interval(lifts, METRICS["lift_pp"])
    assert half(found) >= stats.t.ppf(0.975, 19) * lifts.std(ddof=1) / math.sqrt(20) * (1 - 1e-6)
    assert np.var(lifts.mean(axis=1), ddof=1) < 1e-20  # that alone would say that all is known


@pytest.mark.parametrize(("worlds", "luck"), [(2, 2), (5, 2), (20, 2), (4, 9)])
def test_no_interval_is_narrower_than_luck_alone_allows(worlds: int, luck: int) -> None:
    rng = np.random.default_rng(worlds)
    for _ in range(200):
        values = rng.normal(size=(worlds, luck)) + rng.exponential(0.3) * rng.normal(size=(worlds, 1))
        n = values.size
        ss = ((values - values.mean()) ** 2).sum()  # = SS between + SS within
        assert half(interval(values)) >= stats.t.ppf(0.975, n - 1) * math.sqrt(ss / (n - 1) / n) * (1 - 1e-9)


@pytest.mark.parametrize(("worlds", "luck"), [(2, 2), (5, 2), (20, 2), (10, 5), (60, 2)])
def test_the_half_width_grows_smoothly_as_worlds_differ_more(worlds: int, luck: int) -> None:
    """At a given spread of all values: from agreement to difference without a jump, and not back."""
    log_f = np.linspace(-4.0, 4.0, 800)
    widths = np.array([half_width(f, 1.0, worlds - 1, worlds * (luck - 1), worlds + 1.0, 0.95) / math.sqrt(
        (worlds - 1) * f + worlds * (luck - 1)) for f in np.exp(log_f)])
    steps = np.diff(np.log(widths))
    assert steps.min() > -1e-4
    assert steps.max() < 3.5 * (log_f[1] - log_f[0])
    assert widths[-1] > 1.5 * widths[0]


def test_shift_and_scale_move_the_interval_along() -> None:
    values = np.random.default_rng(2).normal(size=(6, 3))
    plain, moved = interval(values), interval(-5 + 1e3 * values)
    for name in ("value", "low", "high", "one_run_low", "one_run_high"):
        assert getattr(moved, name) == pytest.approx(-5 + 1e3 * getattr(plain, name))


def test_figures_that_do_not_vary_are_known() -> None:
    for value in (0.1, 7.0, 0.0):
        found = interval(np.full((7, 3), value), METRICS["approval_rate"])
        assert found.as_json() == dict.fromkeys(("value", "low", "high", "one_run_low", "one_run_high"), value)


def test_more_luck_shrinks_the_second_term_only() -> None:
    rng = np.random.default_rng(7)
    world = rng.normal(0, 1, (200, 1))
    limit = stats.t.ppf(0.975, 199) * math.sqrt(1 + 1 / 200)
    found = interval(world + rng.normal(0, 3, (200, 400)))
    assert half(found) == pytest.approx(limit, rel=0.15)  # the sd of an sd over 200 worlds is 5 %


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
    v_world = (ms_between - ms_within) / n0
    assert found.world_sd == pytest.approx(math.sqrt(v_world))
    # F = 9: the worlds differ; the mean's error is V_world (1 + Σ (n_i / n)²) + V_luck / n
    variance = v_world * (1 + (4 + 1 + 4) / 25) + ms_within / 5
    assert half(found) == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(variance))


# --- within the possible


def skewed(rng: np.random.Generator, kind: str) -> Floats:
    worlds, luck = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    if kind == "share":
        return rng.beta(0.2, 4.0, (worlds, luck))
    if kind == "count":
        return rng.poisson(rng.exponential(0.5, (worlds, 1)), (worlds, luck)).astype(np.float64)
    return rng.gamma(0.2, 50.0, (worlds, luck))


@pytest.mark.parametrize(("name", "kind"), [("never_recovered", "share"), ("rule_breaches", "count"),
                                            ("cost_usd", "money"), ("duplicates", "count")])
def test_no_end_lies_outside_the_possible(name: str, kind: str) -> None:
    rng, metric = np.random.default_rng(8), METRICS[name]
    beyond = 0
    for _ in range(300):
        values = skewed(rng, kind)
        found, plain = interval(values, metric), interval(values)
        if found.low is None or found.high is None or found.value is None:
            continue
        assert found.one_run_low is not None
        assert found.one_run_high is not None
        assert 0 <= found.one_run_low <= found.low <= found.value <= found.high <= found.one_run_high
        assert metric.high is None or found.one_run_high <= metric.high
        assert found.value == plain.value == pytest.approx(values.mean())
        beyond += plain.low is not None and plain.low < 0
    assert beyond > 50  # of the plain intervals


def test_a_lift_stays_within_a_hundred_points() -> None:
    found = interval(np.array([[99.0, 91.0], [98.0, 99.9]]), METRICS["lift_pp"])
    assert found.high is not None
    assert found.one_run_high is not None
    assert found.high <= found.one_run_high <= 100
    near_zero = np.array([[0.9, 1.1], [1.0, 1.3]])
    assert half(interval(near_zero, METRICS["lift_pp"])) == pytest.approx(half(interval(near_zero)), rel=1e-3)


def test_far_from_its_bounds_an_interval_is_the_plain_one() -> None:
    values = 1e6 + np.random.default_rng(1).normal(0, 10, (5, 2))
    assert interval(values, METRICS["cost_usd"]).high == pytest.approx(interval(values).high, rel=1e-9)


def test_the_ends_of_a_share_and_of_a_count_by_hand() -> None:
    values = np.array([[0.0, 0.02]])
    reach = stats.t.ppf(0.975, 1) * 0.01  # the standard error of .01
    share = interval(values, METRICS["never_recovered"])
    assert share.low == 0
    angle = math.asin(0.1) + reach / (2 * math.sqrt(0.01 * 0.99))
    assert share.high == pytest.approx(math.sin(angle) ** 2)
    count = interval(values, METRICS["rule_breaches"])
    assert count.low == 0
    assert count.high == pytest.approx((0.1 + reach / 0.2) ** 2)


def test_a_count_that_never_happened_may_yet() -> None:
    found = interval(np.zeros((20, 2)), METRICS["rule_breaches"])
    assert (found.value, found.low) == (0, 0)
    assert found.high is not None
    assert math.exp(-40 * found.high) == pytest.approx(0.05)  # the chance of 40 zeros at that rate
    assert found.one_run_high == 1
    lift = interval(np.zeros((20, 2)), METRICS["lift_pp"])
    assert (lift.low, lift.high) == (0, 0)


def test_a_paired_difference_lies_within_twice_the_range() -> None:
    ours, theirs = np.array([[0.99, 1.0], [1.0, 0.9]]), np.array([[0.02, 0.0], [0.01, 0.2]])
    found = paired(ours, theirs, METRICS["approval_rate"])
    assert found.high is not None
    assert found.one_run_high is not None
    assert found.high <= found.one_run_high <= 1
    assert interval(ours - theirs).one_run_high > 1  # type: ignore[operator]
    same = paired(np.zeros((3, 2)), np.zeros((3, 2)), METRICS["rule_breaches"])
    assert (same.low, same.high) == (0, 0)
    apart = independent(interval(ours, METRICS["approval_rate"]), interval(theirs, METRICS["approval_rate"]))
    assert apart.high is not None
    assert apart.high <= 1


def test_every_metric_has_bounds_that_its_scale_allows() -> None:
    for metric in (*METRICS.values(), *OUTAGE_METRICS.values()):
        if metric.scale == "share":
            assert (metric.low, metric.high) == (0, 1)
        if metric.low is None:
            assert metric.scale in ("difference", "time")
        found = interval(np.array([[0.0, 1e-9], [0.0, 0.0]]), replace(metric, low=None, high=None))
        assert found.low is not None
        assert found.low < 0  # without bounds there are none


def test_tidy_keeps_ten_digits_and_drops_what_is_not_finite() -> None:
    assert tidy(1 / 3) == 0.3333333333
    assert tidy(math.nan) is None
    assert str(tidy(-0.0)) == "0.0"
    assert tidy(None) is None
