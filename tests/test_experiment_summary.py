"""The figures over many tests, the two ways to the same chances, and the advice that is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from routesim.reports.experiment.advice import advice, chance_of, recommended
from routesim.reports.experiment.direct_chances import agreement, direct
from routesim.reports.experiment.looks import ExperimentPlan, Outcomes
from routesim.reports.experiment.operating import corrected, operating
from routesim.reports.experiment.record import Record, record
from routesim.reports.experiment.rules import DIRECT_RULES
from routesim.reports.experiment.summary import _sizes, summary
from routesim.reports.statistics.design_effects import cluster_effect, naive_false_positives
from routesim.reports.statistics.power import ExperimentDesign, arms, size
from routesim.reports.statistics.stopping import boundaries, crossing

DAYS, PER_DAY, TESTS = 10, 400, 60
PLAN = ExperimentPlan(("old", "new"), DAYS, ((0.0, (5_000, 5_000)),))
BY_CUSTOMER = ExperimentPlan(("old", "new"), 8, ((0.0, (5_000, 5_000)),), 0.0, "customer")
RATE, LIFT = 0.80, 0.04


def made(lift: float, seed: int) -> Record:
    """A test of independent payments."""
    random = np.random.default_rng(seed)
    n = DAYS * PER_DAY
    variant = (random.random(n) < 0.5).astype(np.int64)
    age = np.sort(random.random(n) * DAYS)
    yes = random.random(n) < RATE + lift * variant
    return record(PLAN, Outcomes(variant, age, np.where(yes, age, np.inf), np.full(n, 10.0), np.full(n, 900.0),
                                 np.arange(n), np.zeros(n, dtype=np.bool_), np.full(n, np.nan), np.arange(n)))


@pytest.fixture(scope="module")
def tests() -> tuple[list[Record], list[Record]]:
    return [made(LIFT, seed) for seed in range(TESTS)], [made(0.0, 1_000 + seed) for seed in range(TESTS)]


@pytest.fixture(scope="module")
def figures(tests: tuple[list[Record], list[Record]]) -> dict[str, Any]:
    # four worlds with two draws of luck each, and rollouts of the first alone
    rates = np.full((2, 4, TESTS // 4), np.nan)
    rates[0, :, 0], rates[1, :, 0] = RATE, RATE + LIFT + np.array([-0.002, 0.002, -0.001, 0.001])
    lifts = 100 * (rates - rates[:1])
    return summary(PLAN, *tests, rates, lifts, [], "auto_winner", 1)


def test_sizes_are_those_of_power(figures: dict[str, Any]) -> None:
    expected = figures["sizes"]["new"]["expected"]
    n_control, n_treatment = arms(figures["design_effect"] * size(RATE, RATE + LIFT, 0.8, ExperimentDesign()), 1.0)
    assert (expected["n_control"], expected["n_treatment"]) == (n_control, n_treatment)
    assert expected["days"] == pytest.approx((n_control + n_treatment) / PER_DAY)
    assert figures["payments_per_day"] == PER_DAY
    assert figures["design_effect"] == pytest.approx(1.0)
    curve = figures["power_by_day"]["new"]
    day = math.ceil(expected["days"])
    assert curve["value"][day - 2] < 0.8 <= curve["value"][day - 1] + 1e-3


def test_both_ways_give_the_same_chances(figures: dict[str, Any]) -> None:
    assert all(row["agrees"] for rows in figures["direct"]["agreement"].values() for row in rows)
    assert {row["rule"] for row in figures["direct"]["agreement"]["truth"]} == set(DIRECT_RULES)


def test_chances_that_differ_are_told(tests: tuple[list[Record], list[Record]]) -> None:
    quick = direct(PLAN, [(RATE, RATE)], PER_DAY, [1.0] * DAYS, 5_000, 1)  # as if there were no lift
    assert not isinstance(quick, str)
    rows = agreement(PLAN, operating(PLAN, tests[0], np.full((TESTS, 1), 100 * LIFT), 4), quick[0], TESTS)
    assert not any(row["agrees"] for row in rows if row["variant"] == "new")


def test_the_direct_chance_of_a_false_winner_is_that_of_theory(figures: dict[str, Any]) -> None:
    looks = [day / DAYS for day in range(7, DAYS + 1)]
    bounds = boundaries("pocock", looks)
    expected = 2 * float(crossing(bounds, looks)[0].sum())
    found = figures["direct"]["alike"]["pocock"]["p_any"]
    assert abs(found["value"] - expected) < 3 * found["standard_error"] + 0.001  # counts are whole


def test_a_plan_that_the_direct_way_does_not_know_is_told() -> None:
    three = ExperimentPlan(("a", "b", "c"), 8, ((0.0, (4_000, 3_000, 3_000)),))
    ramp = ExperimentPlan(("a", "b"), 8, ((0.0, (9_000, 1_000)), (2.0, (5_000, 5_000))))
    assert "two variants" in str(direct(three, [(0.8, 0.8)], 100, [1.0] * 8, 10, 1))
    assert "a ramp" in str(direct(ramp, [(0.8, 0.8)], 100, [1.0] * 8, 10, 1))


def test_the_advised_rule_keeps_its_level_and_finds_the_lift(figures: dict[str, Any]) -> None:
    rule = recommended(PLAN.variants, figures)
    assert rule == figures["recommended"] != "auto_winner"
    assert rule is not None
    finds = [chance_of(figures, "truth", each, "new")["value"]
             for each in ("fixed_horizon", "obrien_fleming", "pocock")]
    assert chance_of(figures, "truth", rule, "new")["value"] >= max(finds) - 0.03
    assert chance_of(figures, "alike", rule, None)["value"] < 0.06


def test_advice_tells_the_figures(figures: dict[str, Any]) -> None:
    said = " ".join(figures["advice"])
    assert "new would approve 4.00 pp more than old" in said
    assert f"{figures['sizes']['new']['expected']['n_treatment']:,} payments in new" in said
    false = 100 * chance_of(figures, "alike", "auto_winner", None)["value"]
    assert f"declare one of them the winner in {false:.1f} %" in said
    assert "CUPED" not in said  # nobody has a past here


def rates_of(lifts: np.ndarray[Any, np.dtype[np.float64]], luck: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rollouts of worlds with these lifts, of the first draw of luck alone, shape (2, W, K)."""
    rates = np.full((2, len(lifts), luck), np.nan)
    rates[0, :, 0], rates[1, :, 0] = RATE, RATE + lifts
    return rates


def clustered(lift: float, seed: int, size: int = 4) -> Record:
    """A test of customers of ``size`` payments, whose rates are Beta(1.6, .4): icc = 1 / (1.6 + .4 + 1)."""
    random = np.random.default_rng(seed)
    customers, days = 5_000, 8
    unit = np.repeat(np.arange(customers), size)
    variant = (random.random(customers) < 0.5).astype(np.int64)[unit]
    rate, age = random.beta(1.6, 0.4, customers)[unit], random.random(len(unit)) * days
    yes = random.random(len(unit)) < np.minimum(1.0, rate + lift * variant)
    order, n = np.argsort(age), len(unit)
    return record(BY_CUSTOMER, Outcomes(
        variant[order], age[order], np.where(yes, age, np.inf)[order], np.full(n, 10.0), np.full(n, 900.0),
        unit[order], np.zeros(n, dtype=np.bool_), np.full(n, np.nan), np.arange(n)))


@pytest.fixture(scope="module")
def of_customers() -> dict[str, Any]:
    tests = [[clustered(lift, seed + 10_000 * (lift > 0)) for seed in range(100)] for lift in (0.04, 0.0)]
    rates = rates_of(np.full(4, 0.03), 25)
    return summary(BY_CUSTOMER, tests[0], tests[1], rates, 100 * (rates - rates[:1]), [], "auto_winner", 1)


def test_better_rules_allow_for_alike_customers_and_the_platforms_does_not(of_customers: dict[str, Any]) -> None:
    figures = of_customers
    assert figures["design_effect"] == pytest.approx(cluster_effect(4, 1 / 3), rel=0.05)
    for rule, naive in (("fixed_horizon", False), ("pocock", False), ("obrien_fleming", False), ("auto_winner", True)):
        level = naive_false_positives(figures["design_effect"]) if naive else 0.05
        error = 3 * math.sqrt(level * (1 - level) / 100)
        full, quick = (figures[way]["alike"][rule]["p_any"]["value"] for way in ("rules", "direct"))
        assert abs(full - quick) < 3 * math.sqrt(quick * (1 - quick) / 100) + 0.001, rule
        if naive:
            assert full > level - error  # it looks more than once
            assert quick > 0.15
        else:
            assert full < level + error
            assert quick < level + 0.006  # 3 standard errors of 20,000
    assert figures["recommended"] in ("fixed_horizon", "obrien_fleming", "pocock")
    assert "design effect 2.0" in " ".join(figures["advice"])


def test_a_rule_that_calls_too_many_false_winners_is_not_advised(figures: dict[str, Any]) -> None:
    false = {"value": 0.2, "standard_error": 0.04, "low": 0.13, "high": 0.29}
    alike = {rule: found | {"p_any": false} for rule, found in figures["rules"]["alike"].items()}
    rows = {setting: [row | {"agrees": False} for row in found] for setting, found in
            figures["direct"]["agreement"].items()}
    wrong = figures | {"rules": figures["rules"] | {"alike": alike},
                       "direct": figures["direct"] | {"agreement": rows}}
    # the direct way has 5 %, and the full simulator refutes it
    assert chance_of(wrong, "alike", "pocock", None) == {"value": 0.2, "low": 0.13, "high": 0.29, "direct": False}
    assert recommended(PLAN.variants, wrong) is None
    assert "No rule keeps its 5 % here" in " ".join(advice(PLAN, wrong | {"recommended": None}))
    agreed = chance_of(figures, "alike", "pocock", None)
    assert agreed["direct"]
    assert agreed["value"] == figures["direct"]["alike"]["pocock"]["p_any"]["value"]


def test_the_direct_way_is_not_believed_where_its_unknown_guards_trip(figures: dict[str, Any]) -> None:
    assert chance_of(figures, "truth", "auto_winner", "new")["direct"]
    trips = figures["guards"]["truth"]["trips"] | {"latency": {"value": 0.1}}
    slow = figures | {"guards": figures["guards"] | {"truth": {"trips": trips}}}
    assert not chance_of(slow, "truth", "auto_winner", "new")["direct"]
    assert chance_of(slow, "truth", "pocock", "new")["direct"]


def test_tests_are_held_against_the_lift_of_their_own_world() -> None:
    """Worlds of 0 and of 8 pp: winners come from the latter, and show 8 pp, not twice the mean of 4."""
    lifts = np.array([0.0, 0.08, 0.0, 0.08])
    tests = [made(float(lift), 50_000 + 100 * world + k) for world, lift in enumerate(lifts) for k in range(10)]
    true = np.repeat(100 * lifts, 10)[:, None]
    found = operating(PLAN, tests, true, 4)["fixed_horizon"]
    assert found["exaggeration"]["value"] == pytest.approx(1.0, abs=0.12)  # s.e. of a test 1.2 pp, of 20 .27, of 8: .03
    assert abs(found["overstatement_pp"]["value"]) < 1.0
    worth = corrected(PLAN, tests, true, 4, "fixed_horizon")
    assert worth is not None
    assert worth["covers"]["value"] > 0.75  # 95 % of 20 or so
    wrong = operating(PLAN, tests, np.full((40, 1), 4.0), 4)["fixed_horizon"]
    assert wrong["exaggeration"]["value"] > 1.7


@pytest.mark.parametrize(("low", "high", "near"), [(1.0, 3.0, 1.0), (-3.0, -1.0, -1.0), (-1.0, 3.0, None)])
def test_the_end_nearest_0_needs_the_longest_test(low: float, high: float, near: float | None) -> None:
    found = _sizes(PLAN, 1, RATE, {"value": (low + high) / 2, "low": low, "high": high}, PER_DAY, 1.0)
    assert (found["end_nearest_0"] and found["end_nearest_0"]["lift_pp"]) == near
    if near is not None:
        assert found["end_nearest_0"]["days"] > found["expected"]["days"]


def test_advice_on_a_worse_treatment_names_the_control() -> None:
    tests = [[made(lift, 70_000 + seed) for seed in range(20)] for lift in (-0.08, 0.0)]
    rates = rates_of(np.full(4, -0.08), 5)
    rates[1, :, 0] += np.array([-0.001, 0.001, -0.002, 0.002])
    found = summary(PLAN, tests[0], tests[1], rates, 100 * (rates - rates[:1]), [], "auto_winner", 1)
    said = " ".join(found["advice"])
    assert "new would approve 8.00 pp less than old" in said
    assert "it finds that old is better in" in said
    assert found["sizes"]["new"]["end_nearest_0"]["lift_pp"] > -8
