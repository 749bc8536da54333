"""Common random numbers must not leak into an experiment: its power is that of independent payments.

The check is a function of the simulated tests alone, so that it can be shown to fail for an implementation that leaks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from routesim.policies.experiment.assignment import Assignment, Experiment, Stage
from routesim.policies.experiment.router import ExperimentPolicy
from routesim.reports.experiment.looks import ExperimentPlan, Outcomes, daily_looks, outcomes
from routesim.reports.experiment.rules import DIRECT_RULES, judge, lift_error
from routesim.reports.statistics.auto_winner import Trial, auto_winner
from routesim.reports.statistics.power import ExperimentDesign, power
from routesim.sim.arrays import Floats
from routesim.sim.model import Model
from tests.worlds import START, InOrder, model_of, simulate, trace_of

PAYMENTS, TESTS, SPLIT = 700, 150, 5_000
PLAN = ExperimentPlan(("a", "b"), 1, ((0.0, (SPLIT, 10_000 - SPLIT)),))
JUDGED = {"A": 0.70, "B": 4 / 15}  # an attempt's chance at each processor
RATES = {"A": 0.70, "AB": 0.78}  # a payment's: A alone; and A, then B for those that A declined
CRITICAL = 1.959964


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def world() -> Model:
    effects = {name: logit(rate) for name, rate in JUDGED.items()}
    return model_of(["A", "B"], approval={"terms": [{"by": ["processor"], "effects": effects}]})


def router_of(name: str) -> InOrder:
    return InOrder(tuple(name), attempts=len(name))


MODEL = world()
TRACE = trace_of([120.0 * i for i in range(PAYMENTS)], customer_id=[f"c{i % 300}" for i in range(PAYMENTS)])


def honest(treatment: str, number: int) -> float:
    """z of one test: every payment meets one variant."""
    stage = Stage(START, (("a", SPLIT), ("b", 10_000 - SPLIT)))
    router = ExperimentPolicy(Assignment(Experiment("x", (stage,), salt=f"s{number}")),
                              {"a": router_of("A"), "b": router_of(treatment)}, "a")
    done = simulate(TRACE, MODEL, router, luck=number, outages=[])
    found = outcomes(done.log, {who: ("ab".index(each.variant), False) for who, each in router.assigned.items()},
                     START, "payment")
    look = daily_looks(PLAN, found)[0]
    return (look.lift_pp(1) or 0.0) / 100 / lift_error(look, 1)


def leaking(treatment: str, number: int) -> float:
    """z of a test as it must not be made: both variants on the same payments under the same luck, taken as apart."""
    rates = []
    for name in ("A", treatment):
        done = simulate(TRACE, MODEL, router_of(name), luck=number, outages=[])
        rates.append(done.log.attempts["outcome"].to_pylist().count("approved") / PAYMENTS)
    pooled, n = sum(rates) / 2, PAYMENTS / 2
    return (rates[1] - rates[0]) / math.sqrt(2 * pooled * (1 - pooled) / n)


def as_independent(z: Floats, treatment: str) -> bool:
    """Whether z scatters, and rejects, as for independent payments: each within 3 standard errors."""
    expected = power(RATES["A"], RATES[treatment], PAYMENTS / 2, ExperimentDesign()) if treatment != "A" else 0.05
    rejected = float((np.abs(z) > CRITICAL).mean())
    error = math.sqrt(expected * (1 - expected) / len(z))
    # a sample variance of normal values has a standard error of √(2/(n-1))
    scatter = abs(float(z.var(ddof=1)) - 1) < 3 * math.sqrt(2 / (len(z) - 1))
    return abs(rejected - expected) < 3 * error and scatter


Test = Callable[[str, int], float]


@pytest.mark.parametrize("treatment", ["A", "AB"])
@pytest.mark.parametrize(("test", "right"), [(honest, True), (leaking, False)])
def test_power_is_that_of_independent_payments_unless_common_numbers_leak(test: Test, right: bool,
                                                                          treatment: str) -> None:
    tests = TESTS if right else 60
    z = np.array([test(treatment, number) for number in range(tests)])
    assert as_independent(z, treatment) is right


def test_the_rules_on_looks_agree_with_the_direct_way() -> None:
    """Independent payments made into looks, and judged: the direct way's chances within 3 combined standard errors."""
    days, per_day, tests = 10, 400, 300
    plan = ExperimentPlan(("a", "b"), days, ((0.0, (5_000, 5_000)),))
    random = np.random.default_rng(20260105)
    wins = dict.fromkeys(DIRECT_RULES, 0)
    for _ in range(tests):
        n = days * per_day
        variant = (random.random(n) < 0.5).astype(np.int64)
        arrived = np.sort(random.random(n) * days)
        yes = random.random(n) < np.where(variant == 1, 0.84, 0.80)
        found = Outcomes(variant, arrived, np.where(yes, arrived, np.inf), np.full(n, 10.0), np.full(n, 900.0),
                         np.arange(n), np.zeros(n, dtype=np.bool_), np.full(n, np.nan), np.arange(n))
        judged = judge(plan, daily_looks(plan, found), found)
        for rule in wins:
            decided = judged.decided(rule)
            wins[rule] += decided is not None and decided[1] == "b"
        assert judged.decided("cuped") is None  # there is no pre-period
    for rule, bound in DIRECT_RULES.items():
        expected = auto_winner(Trial(0.80, 4.0, per_day, 5_000, 7, days), bound, 20_000, 1).p_treatment_wins
        assert expected.value is not None
        assert expected.standard_error is not None
        error = math.hypot(expected.standard_error, math.sqrt(expected.value * (1 - expected.value) / tests))
        assert abs(wins[rule] / tests - expected.value) < 3 * error, rule
