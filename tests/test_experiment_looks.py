"""Looks at a test: who counts, what is known by then, what the rules make of it; and the figures over many tests."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from routesim.policies.experiment.assignment import Assignment, Experiment, Stage
from routesim.policies.experiment.router import ExperimentPolicy
from routesim.reports.experiment.looks import ExperimentPlan, Outcomes, daily_looks, design_effect, outcomes
from routesim.reports.experiment.operating import corrected, guards, operating, ramped, stale
from routesim.reports.experiment.record import Record, record
from routesim.reports.experiment.rules import judge, lift_error
from routesim.reports.experiment.strata import Strata
from routesim.reports.statistics.design_effects import cluster_effect
from tests.worlds import START, InOrder, model_of, simulate, trace_of

DAY_S = 86_400.0
HALVES = (5_000, 5_000)


def plan(days: int, matures_days: float = 0.0, *stages: tuple[float, tuple[int, ...]]) -> ExperimentPlan:
    return ExperimentPlan(("old", "new"), days, stages or ((0.0, HALVES),), matures_days)


def found(variant: Any, age_days: Any, yes: Any, late_days: float = 0.0, **other: Any) -> Outcomes:
    n = len(variant)
    age = np.asarray(age_days, dtype=np.float64)
    usual: dict[str, Any] = {
        "amount_usd": np.full(n, 10.0), "wait_ms": np.full(n, 900.0), "unit": np.arange(n),
        "stale": np.zeros(n, dtype=np.bool_), "before": np.full(n, np.nan), "row": np.arange(n)}
    return Outcomes(np.asarray(variant), age, np.where(np.asarray(yes), age + late_days, np.inf), **(usual | other))


def drawn(days: int, per_day: int, rates: tuple[float, float], seed: int, share: float = 0.5, **other: Any) -> Outcomes:
    random = np.random.default_rng(seed)
    n = days * per_day
    variant = (random.random(n) < share).astype(np.int64)
    age = np.sort(random.random(n) * days)
    return found(variant, age, random.random(n) < np.where(variant == 1, rates[1], rates[0]), **other)


def test_a_look_counts_who_is_old_enough_and_what_is_known_by_then() -> None:
    # arrivals on days 1, 1, 2, 3; approvals come half a day later
    few = found([0, 1, 0, 1], [0.2, 0.7, 1.2, 2.8], [True, True, True, True], late_days=0.5)
    seen = daily_looks(plan(3), few)
    assert [look.n for look in seen] == [(1, 1), (2, 1), (2, 2)]
    assert [look.approvals for look in seen] == [(1, 0), (2, 1), (2, 1)]  # the last one is approved after the test
    aged = daily_looks(plan(3, 1.0), few)
    assert [look.n for look in aged] == [(0, 0), (1, 1), (2, 1)]
    assert aged[0].p95_ms == (None, None)
    assert aged[0].lift_pp(1) is None
    assert aged[2].revenue_usd == (20.0, 10.0)


def test_outcomes_are_read_off_the_log() -> None:
    model = model_of(["A", "B"], approval={"terms": [{"by": ["processor"], "effects": {"A": -30.0, "B": 30.0}}]})
    router = ExperimentPolicy(Assignment(Experiment("x", (Stage(START + DAY_S, (("old", 0), ("new", 10_000))),))),
                              {"old": InOrder(("B",)), "new": InOrder(("A", "B"), 2, 3_600.0)}, "old")
    trace = trace_of([0.0, 60.0, DAY_S + 60, DAY_S + 120], customer_id=["c", "d", "c", None],
                     warm_up=[True, True, False, False])
    done = simulate(trace, model, router, outages=[])
    assigned = {who: (1, each.stale) for who, each in router.assigned.items()}
    seen = outcomes(done.log, assigned, START + DAY_S, "customer")
    assert seen.row.tolist() == [2, 3]
    assert np.allclose(seen.age_days * DAY_S, [60, 120])
    assert np.allclose(seen.approved_days * DAY_S, [60 + 3_602, 120 + 3_602])  # an hour's wait and two answers
    assert np.allclose(seen.wait_ms, 1_000)  # behind the hour nobody waits
    assert seen.before[0] == 1.0  # B approved the customer's payment before the test
    assert math.isnan(seen.before[1])


def test_the_platform_calls_on_the_seventh_day_and_not_before() -> None:
    many = drawn(9, 2_000, (0.80, 0.86), 1)
    judged = judge(plan(9), daily_looks(plan(9), many), many)
    assert judged.decided("auto_winner") == (7, "new")
    assert judged.decided("fixed_horizon") == (9, "new")
    assert judged.calls["auto_winner"][:6] == [None] * 6
    worse = drawn(9, 2_000, (0.86, 0.80), 1)
    assert judge(plan(9), daily_looks(plan(9), worse), worse).decided("auto_winner") == (7, "old")


@pytest.mark.parametrize(("guard", "rates", "change"), [
    ("samples", (0.60, 0.75), {"per_day": 200}),
    ("lift", (0.980, 0.986), {"per_day": 3_000}),
    ("latency", (0.80, 0.86), {"slow": 1_200.0}),
    ("revenue", (0.80, 0.86), {"small": 5.0}),
])
def test_a_guard_that_alone_holds_back_a_lift_is_counted(guard: str, rates: tuple[float, float],
                                                         change: dict[str, float]) -> None:
    few = drawn(8, int(change.get("per_day", 2_000)), rates, 3)
    new = few.variant == 1
    few = replace(few, wait_ms=np.where(new, change.get("slow", 900.0), 900.0),
                  amount_usd=np.where(new, change.get("small", 10.0), 10.0))
    test = record(plan(8), few)
    assert test.decided("auto_winner") is None
    assert [name for name, tripped in test.guards.items() if tripped] == [guard]
    assert guards([test], 1)["trips"][guard]["value"] == 1.0


def test_a_mismatch_of_the_sample_ratio_silences_the_better_rules_alone() -> None:
    lost = drawn(8, 3_000, (0.80, 0.86), 4, share=0.47)
    test = record(plan(8), lost)
    assert test.decided("auto_winner") == (7, "new")
    assert all(test.decided(rule) is None for rule in test.calls if rule != "auto_winner")
    assert guards([test], 1)["sample_ratio_alarm_at_the_last"]["value"] == 1.0


def test_the_sample_ratio_counts_customers_and_not_their_payments() -> None:
    """Ten payments each: by payment the ratio would alarm in most tests, by customer in one of a thousand."""
    random = np.random.default_rng(5)
    p_values = []
    for _ in range(200):
        customer = random.integers(0, 300, 3_000)
        variant = (random.random(300) < 0.5).astype(np.int64)[customer]
        few = found(variant, np.sort(random.random(3_000)), random.random(3_000) < 0.8, unit=customer)
        p_values.append(daily_looks(plan(1), few)[0].srm_p)
    below = sum(p is not None and p < 0.05 for p in p_values)
    assert abs(below / 200 - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 200)


def test_the_design_effect_is_that_of_theory() -> None:
    """Customers of five payments, whose rates are Beta(8, 2): icc = 1 / (8 + 2 + 1)."""
    random = np.random.default_rng(6)
    customers, size = 6_000, 5
    rate = random.beta(8, 2, customers)
    unit = np.repeat(np.arange(customers), size)
    variant = (random.random(customers) < 0.5).astype(np.int64)[unit]
    n = customers * size
    few = found(variant, np.sort(random.random(n)), random.random(n) < rate[unit], unit=unit)
    effect = design_effect(few)
    assert effect == pytest.approx(cluster_effect(size, 1 / 11), rel=0.06)  # 3 standard errors, √(2/6000) each
    assert design_effect(replace(few, unit=np.arange(n))) == pytest.approx(1.0)


def test_a_past_that_predicts_the_outcome_makes_cuped_surer() -> None:
    random = np.random.default_rng(7)
    n = 20_000
    good = random.random(n) < 0.5
    variant = (random.random(n) < 0.5).astype(np.int64)
    yes = random.random(n) < np.where(good, 0.95, 0.35) + 0.01 * variant
    few = found(variant, np.sort(random.random(n)), yes, before=np.where(good, 1.0, 0.0))
    looks = daily_looks(plan(1), few)
    adjusted = judge(plan(1), looks, few).adjusted[0]
    assert adjusted is not None
    # within halves the variance is p (1 - p): .0475 and .2275, on average .1375 of .2275 in all
    assert adjusted.variance_removed == pytest.approx(1 - 0.1375 / 0.2275, abs=0.02)
    assert adjusted.standard_error < 0.8 * lift_error(looks[0], 1, pooled=False)


def test_a_ramp_under_drift_shows_a_lift_that_is_not_there() -> None:
    """5 % new on day 1 at a rate of 60 %, 95 % new on day 2 at 80 %: all together new seems 18 pp better."""
    stages = ((0.0, (9_500, 500)), (1.0, (500, 9_500)))
    random = np.random.default_rng(8)
    n = 40_000
    age = np.sort(random.random(n) * 2)
    variant = (random.random(n) < np.where(age < 1, 0.05, 0.95)).astype(np.int64)
    few = found(variant, age, random.random(n) < np.where(age < 1, 0.6, 0.8))
    figures = ramped([record(plan(2, 0.0, *stages), few)], 1)
    assert figures is not None
    assert figures["pooled_pp"]["value"] == pytest.approx(18.0, abs=1.5)
    assert figures["stratified_pp"]["value"] == pytest.approx(0.0, abs=3.0)
    assert ramped([record(plan(2), few)], 1) is None


def test_planned_information_follows_the_ramp_and_the_maturing() -> None:
    ramp = plan(4, 0.0, (0.0, (9_000, 1_000)), (2.0, HALVES))
    assert np.allclose(ramp.planned(1), [0.1, 0.2, 0.7, 1.2])
    n_c, n_t = np.array([0.9, 1.8, 2.3, 2.8]), np.array([0.1, 0.2, 0.7, 1.2])
    known = 1 / (1 / n_c + 1 / n_t)
    assert np.allclose(ramp.information(1), known / known[-1])
    assert np.allclose(plan(4, 1.0).information(1), [0, 1 / 3, 2 / 3, 1])


def test_stale_assignments_are_counted_with_what_they_do() -> None:
    few = found([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], [True, False, True, True],
                stale=np.array([False, True, False, False]))
    figures = stale([record(plan(1), few)], 1)
    assert figures["share"]["value"] == 0.25
    assert figures["lift_with_less_lift_without_pp"]["value"] == pytest.approx(50.0)  # 100 - 50 against 100 - 100


def test_a_record_comes_back_from_json_as_it_was() -> None:
    few = drawn(8, 500, (0.8, 0.85), 9)
    test = record(plan(8), few, {"device": pa.array(["app", "web"] * 2_000)})
    assert Record.of_plain(json.loads(json.dumps(test.plain()))) == test
    assert [level for _, level, _ in test.strata] == ["app", "web"]
    assert sum(n for _, _, counts in test.strata for n, _ in counts) == 4_000


def test_figures_of_a_rule_are_counts_of_its_tests() -> None:
    tests = [record(plan(8), drawn(8, 2_000, (0.80, 0.86), seed)) for seed in range(3)]
    tests.append(record(plan(8), drawn(8, 100, (0.8, 0.8), 77)))  # too few samples for any rule
    found_ = operating(plan(8), tests, np.full((4, 1), 6.0), 4)["auto_winner"]
    assert found_["p_wins"]["new"]["value"] == 0.75
    assert found_["p_wins"]["old"]["value"] == 0.0
    assert found_["called_by_day"] == [0] * 6 + [3, 0]
    assert found_["mean_day_capped"]["value"] == (3 * 7 + 8) / 4
    lifts = [test.looks[6].lift_pp(1) or 0.0 for test in tests[:3]]
    assert found_["exaggeration"]["value"] == pytest.approx(sum(lifts) / 3 / 6)
    worth = corrected(plan(8), tests, np.full((4, 1), 6.0), 4)
    assert worth is not None
    assert worth["observed_pp"]["value"] == pytest.approx(sum(lifts) / 3)
    assert worth["covers"]["value"] == 1.0


def test_several_treatments_have_one_winner_the_best() -> None:
    random = np.random.default_rng(11)
    three = ExperimentPlan(("old", "good", "better"), 8, ((0.0, (4_000, 3_000, 3_000)),))
    n = 24_000
    variant = random.choice(3, n, p=[0.4, 0.3, 0.3])
    few = found(variant, np.sort(random.random(n) * 8), random.random(n) < np.array([0.7, 0.8, 0.9])[variant])
    assert record(three, few).decided("auto_winner") == (7, "better")
    losing = found(variant, few.age_days, random.random(n) < np.array([0.9, 0.8, 0.7])[variant])
    assert record(three, losing).decided("auto_winner") == (7, "old")


def test_levels_are_laid_down_by_the_trace_and_hold_no_more_than_six_digits() -> None:
    bins = [f"4{i % 9:05d}" for i in range(90)]
    trace = trace_of([3_600.0 * i for i in range(90)], card_bin=bins, device=None, customer_id=[f"c{i % 9}" for i in
                                                                                             range(90)],
                     amount_usd=[float(1 + i % 9) for i in range(90)])
    labels = Strata.of(trace.table, "UTC").labels(trace.table)
    assert "device" not in labels  # one level tells nothing
    names = set(labels["BIN"].to_pylist())
    assert len(names) == 7
    assert names - {"others"} == set(sorted(bins)[:60:10])
    assert set(labels["customer value"].to_pylist()) == {"low", "middle", "high"}
    assert set(labels["day"].to_pylist()) == {"Mon", "Tue", "Wed", "Thu"}
