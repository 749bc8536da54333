"""What the rules do over many simulated tests: who wins, how often, when, and how much the winner's lift overstates.

Tests come with those of a world in a row; ``worlds`` is the number of worlds. A test is compared with the lift of its
own world: worlds with a greater lift have more winners, so the mean over all worlds is not what winners' lifts are to
be held against.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routesim.reports.experiment.looks import ExperimentPlan
from routesim.reports.experiment.record import Record, lift_pp
from routesim.reports.experiment.rules import (
    GUARDS,
    RULES,
    bounds,
    first_look,
    lift_error,
    platform_bounds,
    robust_error,
)
from routesim.reports.statistics.by_world import Figures, by_world, chance, mean, ratio
from routesim.reports.statistics.design_effects import Phase, ramped_lift
from routesim.reports.statistics.platform_rule import ALPHA
from routesim.reports.statistics.sample_ratio import ALARM
from routesim.reports.statistics.winners_curse import Corrected, many_looks, single_look
from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput


def operating(plan: ExperimentPlan, tests: Sequence[Record], true_lift_pp: Floats, worlds: int) -> Figures:
    """Figures of each rule over the tests. ``true_lift_pp``: of each treatment in each test's world, shape (tests,
    treatments).

    ``exaggeration``: what the tests showed that a treatment won, on the day it was called, over the lifts of their
    worlds, sum over sum (None where that is not above 0); ``overstatement_pp``: the difference.
    """
    return {rule: _of_rule(plan, tests, rule, true_lift_pp, worlds) for rule in RULES}


def _of_rule(plan: ExperimentPlan, tests: Sequence[Record], rule: str, true_lift_pp: Floats, worlds: int) -> Figures:
    decided = [test.decided(rule) for test in tests]
    shown: list[float | None] = []
    true: list[float | None] = []
    for number, (test, each) in enumerate(zip(tests, decided, strict=True)):
        treatment = plan.variants.index(each[1]) if each else 0
        lift = None
        if each and treatment:
            lift = _adjusted_lift(test, treatment) if rule == "cuped" else test.looks[each[0] - 1].lift_pp(treatment)
        shown.append(lift)
        true.append(None if lift is None else float(true_lift_pp[number, treatment - 1]))
    lifts, owns = by_world(shown, worlds), by_world(true, worlds)
    days = [None if each is None else float(each[0]) for each in decided]
    return {
        "p_wins": {name: chance(by_world([float(each is not None and each[1] == name) for each in decided], worlds))
                   for name in plan.variants},
        "p_any": chance(by_world([float(each is not None) for each in decided], worlds)),
        "mean_day_if_called": mean(by_world(days, worlds)),
        "mean_day_capped": mean(by_world([plan.days if day is None else day for day in days], worlds)),
        "mean_lift_if_treatment_wins_pp": mean(lifts),
        "exaggeration": ratio(lifts, owns),
        "overstatement_pp": mean(lifts - owns),
        "called_by_day": [sum(day == d for day in days) for d in range(1, plan.days + 1)],
    }


def _adjusted_lift(test: Record, treatment: int) -> float | None:
    adjusted = test.adjusted[treatment - 1]
    return None if adjusted is None else 100 * adjusted["lift"]


def guards(tests: Sequence[Record], worlds: int) -> Figures:
    """How often each guard alone kept a significant lift from being called, at some look; and sample-ratio alarms."""
    alarms = [[look.srm_p is not None and look.srm_p < ALARM for look in test.looks] for test in tests]
    return {"trips": {guard: chance(by_world([float(test.guards[guard]) for test in tests], worlds))
                      for guard in GUARDS},
            "sample_ratio_alarm_at_any_look": chance(by_world([float(any(each)) for each in alarms], worlds)),
            "sample_ratio_alarm_at_the_last": chance(by_world([float(each[-1]) for each in alarms], worlds))}


def stale(tests: Sequence[Record], worlds: int) -> Figures:
    """The share of payments with a stale assignment, and the lift with less that without them, pp."""
    share = [1 - sum(n for n, _ in test.fresh) / max(1, sum(n for n, _ in test.counts)) for test in tests]
    moved = [_less(lift_pp(test.counts, 1), lift_pp(test.fresh, 1)) for test in tests]
    return {"share": mean(by_world(share, worlds)), "lift_with_less_lift_without_pp": mean(by_world(moved, worlds))}


def ramped(tests: Sequence[Record], worlds: int) -> Figures | None:
    """What the ramp does to the lift of the first treatment: all payments together, and stage by stage with Mantel and
    Haenszel's weights (``design_effects.ramped_lift``); None where the split never changes."""
    if not tests or len(tests[0].phases) == 1:
        return None
    together: list[float | None] = []
    apart: list[float | None] = []
    for test in tests:
        try:
            found = ramped_lift([Phase(n_c + n_t, n_t / max(1, n_c + n_t), yes_c / max(1, n_c), yes_t / max(1, n_t))
                                 for (n_c, yes_c), (n_t, yes_t) in ((phase[0], phase[1]) for phase in test.phases)])
        except BadInput:  # no stage has both arms
            together.append(None)
            apart.append(None)
        else:
            together.append(100 * found.pooled)
            apart.append(100 * found.stratified)
    moved = [_less(a, b) for a, b in zip(together, apart, strict=True)]
    return {"pooled_pp": mean(by_world(together, worlds)), "stratified_pp": mean(by_world(apart, worlds)),
            "difference_pp": mean(by_world(moved, worlds))}


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def corrected(plan: ExperimentPlan, tests: Sequence[Record], true_lift_pp: Floats, worlds: int,
              rule: str = "auto_winner") -> Figures | None:
    """The lifts with which a rule (the platform's, or ``fixed_horizon``) declared a treatment the winner, and their
    worth.

    ``covers``: how many of the corrected intervals hold the lift of the test's own world (``true_lift_pp``, shape
    (tests, treatments)). With the platform's rule they are right over all tests, called or not, so among winners alone
    they may do so less often than they say. None where nobody won.
    """
    found: list[Corrected | None] = []
    covers: list[float | None] = []
    for number, test in enumerate(tests):
        decided, worth = test.decided(rule), None
        if decided is not None and decided[1] != plan.variants[0]:
            treatment = plan.variants.index(decided[1])
            worth = (winner_worth(plan, test, treatment, decided[0]) if rule == "auto_winner"
                     else _single_worth(plan, test, treatment))
            true = float(true_lift_pp[number, treatment - 1])
        found.append(worth)
        covers.append(None if worth is None else float(
            (worth.low is None or 100 * worth.low <= true) and (worth.high is None or true <= 100 * worth.high)))
    first = next((each for each in found if each is not None), None)
    if first is None:
        return None
    estimates = [None if each is None or each.estimate is None else 100 * each.estimate for each in found]
    return {"observed_pp": mean(by_world([None if each is None else 100 * each.observed for each in found], worlds)),
            "estimate_pp": mean(by_world(estimates, worlds)), "covers": chance(by_world(covers, worlds)),
            "example_pp": {name: None if value is None else 100 * value for name, value in (
                ("observed", first.observed), ("estimate", first.estimate), ("low", first.low), ("high", first.high))}}


def winner_worth(plan: ExperimentPlan, test: Record, treatment: int, day: int) -> Corrected | None:
    """The corrected lift (a share) of a treatment that the platform's rule called on that day; None where the rule's
    boundary was not met to the last digit.

    The rule takes payments as independent and the correction does not: in standard errors of whole units its boundary
    is lower.
    """
    known = plan.information(treatment)
    asked = [i for i in range(first_look(plan) - 1, plan.days) if known[i] > 0]
    if day - 1 not in asked:
        return None
    look = test.looks[day - 1]
    lift, error = (look.lift_pp(treatment) or 0.0) / 100, robust_error(look, treatment)
    least = [float(bound) * lift_error(each, treatment) / robust_error(each, treatment) if np.isfinite(bound) else bound
             for bound, each in zip(platform_bounds(plan, test.looks, treatment), test.looks, strict=True)]
    bound = [min(least[i], abs(lift) / error) if i == day - 1 else least[i] for i in asked]
    try:
        return many_looks(lift, error, asked.index(day - 1), bound, [float(known[i]) for i in asked])
    except BadInput:
        return None


def _single_worth(plan: ExperimentPlan, test: Record, treatment: int) -> Corrected | None:
    """The same for the single look on the last day, given that it was passed; None where not to the last digit."""
    look = test.looks[-1]
    lift, error = (look.lift_pp(treatment) or 0.0) / 100, robust_error(look, treatment)
    least = float(bounds(plan, treatment, "fixed", ALPHA / len(plan.treatments))[-1])
    try:
        return single_look(lift, error, least * error)
    except BadInput:
        return None
