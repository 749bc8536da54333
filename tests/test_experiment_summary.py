"""The figures over many tests, the two ways to the same chances, and the advice that is made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from routesim.reports.experiment import Outcomes, Plan
from routesim.reports.experiment_advice import chance_of, recommended
from routesim.reports.experiment_record import Record, record
from routesim.reports.experiment_rules import DIRECT_RULES
from routesim.reports.experiment_summary import summary
from routesim.reports.operating import agreement, direct, operating
from routesim.reports.power import Design, arms, size
from routesim.reports.stopping import boundaries, crossing

DAYS, PER_DAY, TESTS = 10, 400, 60
PLAN = Plan(("old", "new"), DAYS, ((0.0, (5_000, 5_000)),))
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
    n_control, n_treatment = arms(figures["design_effect"] * size(RATE, RATE + LIFT, 0.8, Design()), 1.0)
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
    quick = direct(PLAN, [(RATE, RATE)], PER_DAY, 1.0, 5_000, 1)  # as if there were no lift
    assert not isinstance(quick, str)
    rows = agreement(PLAN, operating(PLAN, tests[0], [100 * LIFT]), quick[0], TESTS)
    assert not any(row["agrees"] for row in rows if row["variant"] == "new")


def test_the_direct_chance_of_a_false_winner_is_that_of_theory(figures: dict[str, Any]) -> None:
    looks = [day / DAYS for day in range(7, DAYS + 1)]
    bounds = boundaries("pocock", looks)
    expected = 2 * float(crossing(bounds, looks)[0].sum())
    found = figures["direct"]["alike"]["pocock"]["p_any"]
    assert abs(found["value"] - expected) < 3 * found["standard_error"] + 0.001  # counts are whole


def test_a_plan_that_the_direct_way_does_not_know_is_told() -> None:
    three = Plan(("a", "b", "c"), 8, ((0.0, (4_000, 3_000, 3_000)),))
    ramp = Plan(("a", "b"), 8, ((0.0, (9_000, 1_000)), (2.0, (5_000, 5_000))))
    assert "two variants" in str(direct(three, [(0.8, 0.8)], 100, 1.0, 10, 1))
    assert "a ramp" in str(direct(ramp, [(0.8, 0.8)], 100, 1.0, 10, 1))


def test_the_advised_rule_keeps_its_level_and_finds_the_lift(figures: dict[str, Any]) -> None:
    rule = recommended(PLAN.variants, figures)
    assert rule == figures["recommended"] != "auto_winner"
    finds = [chance_of(figures, "truth", each, "new") or 0.0 for each in ("fixed_horizon", "obrien_fleming", "pocock")]
    assert (chance_of(figures, "truth", rule, "new") or 0.0) >= max(finds) - 0.03
    assert (chance_of(figures, "alike", rule, None) or 1.0) < 0.06


def test_advice_tells_the_figures(figures: dict[str, Any]) -> None:
    said = " ".join(figures["advice"])
    assert "new would approve 4.00 pp more than old" in said
    assert f"{figures['sizes']['new']['expected']['n_treatment']:,} payments in new" in said
    false = 100 * (chance_of(figures, "alike", "auto_winner", None) or 0.0)
    assert f"crown one of them in {false:.1f} %" in said
    assert "CUPED" not in said  # nobody has a past here
