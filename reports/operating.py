"""What the rules do over many simulated tests: who wins, how often, when, and how much the winner's lift overstates.

A chance is told with its standard error and Wilson's 95 % interval, which holds at 0 and 1 too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

from routesim.reports.auto_winner import Trial, auto_winner
from routesim.reports.experiment import Plan
from routesim.reports.experiment_record import Record, lift_pp
from routesim.reports.experiment_rules import DIRECT_RULES, GUARDS, RULES, first_look, lift_error, platform_bounds
from routesim.reports.sample_ratio import ALARM
from routesim.reports.winners_curse import Corrected, many_looks
from routesim.sim.errors import BadInput

AGREES = 0.0027  # two-sided chance of three standard errors

Figures = dict[str, Any]


def chance(count: int, of: int) -> Figures:
    """A share of replications: {value, standard_error, low, high}."""
    if of == 0:
        return {"value": None, "standard_error": None, "low": None, "high": None}
    p, z2 = count / of, float(ndtri(0.975)) ** 2
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = math.sqrt(z2) / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return {"value": p, "standard_error": math.sqrt(p * (1 - p) / of),
            "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def mean(values: Sequence[float]) -> Figures:
    """{value, standard_error, count}; None where there are too few."""
    if not values:
        return {"value": None, "standard_error": None, "count": 0}
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "standard_error": error, "count": len(values)}


def operating(plan: Plan, tests: Sequence[Record], true_lift_pp: Sequence[float]) -> Figures:
    """Figures of each rule over the tests. ``true_lift_pp``: of each treatment, in the order of the plan."""
    return {rule: _of_rule(plan, tests, rule, true_lift_pp) for rule in RULES}


def _of_rule(plan: Plan, tests: Sequence[Record], rule: str, true_lift_pp: Sequence[float]) -> Figures:
    decided = [test.decided(rule) for test in tests]
    wins = {name: sum(1 for each in decided if each and each[1] == name) for name in plan.variants}
    called = [each for each in decided if each]
    lifts, ratios = [], []
    for test, each in zip(tests, decided, strict=True):
        if each and each[1] != plan.variants[0]:
            treatment = plan.variants.index(each[1])
            lift = _adjusted_lift(test, treatment) if rule == "cuped" else test.looks[each[0] - 1].lift_pp(treatment)
            if lift is not None:
                lifts.append(lift)
                if true_lift_pp[treatment - 1] > 0:
                    ratios.append(lift / true_lift_pp[treatment - 1])
    return {
        "p_wins": {name: chance(count, len(tests)) for name, count in wins.items()},
        "p_any": chance(len(called), len(tests)),
        "mean_day_if_called": mean([float(day) for day, _ in called]),
        "mean_day_capped": mean([float(each[0]) if each else float(plan.days) for each in decided]),
        "mean_lift_if_treatment_wins_pp": mean(lifts),
        "exaggeration": mean(ratios),
        "called_by_day": [sum(1 for day, _ in called if day == d) for d in range(1, plan.days + 1)],
    }


def _adjusted_lift(test: Record, treatment: int) -> float | None:
    adjusted = test.adjusted[treatment - 1]
    return None if adjusted is None else 100 * adjusted["lift"]


def guards(tests: Sequence[Record]) -> Figures:
    """How often each guard alone kept a significant lift from being called, at some look; and sample-ratio alarms."""
    alarmed = sum(1 for test in tests if any(look.srm_p is not None and look.srm_p < ALARM for look in test.looks))
    last = sum(1 for test in tests if test.looks[-1].srm_p is not None and test.looks[-1].srm_p < ALARM)
    return {"trips": {guard: chance(sum(test.guards[guard] for test in tests), len(tests)) for guard in GUARDS},
            "sample_ratio_alarm_at_any_look": chance(alarmed, len(tests)),
            "sample_ratio_alarm_at_the_last": chance(last, len(tests))}


def stale(tests: Sequence[Record]) -> Figures:
    """The share of payments with a stale assignment, and the lift with and without them, pp."""
    share = [1 - sum(n for n, _ in test.fresh) / max(1, sum(n for n, _ in test.counts)) for test in tests]
    moved = [all_ - fresh for test in tests
             if (all_ := lift_pp(test.counts, 1)) is not None and (fresh := lift_pp(test.fresh, 1)) is not None]
    return {"share": mean(share), "lift_with_less_lift_without_pp": mean(moved)}


def ramped(tests: Sequence[Record]) -> Figures | None:
    """What the ramp does to the lift of the first treatment: all payments together, and stage by stage with Mantel and
    Haenszel's weights; None where the split never changes."""
    if not tests or len(tests[0].phases) == 1:
        return None
    together, apart = [], []
    for test in tests:
        weighted = [(n_c * n_t / (n_c + n_t), yes_t / n_t - yes_c / n_c)
                    for (n_c, yes_c), (n_t, yes_t) in ((phase[0], phase[1]) for phase in test.phases)
                    if min(n_c, n_t) > 0]
        pooled = lift_pp(test.counts, 1)
        if weighted and pooled is not None:
            apart.append(100 * sum(w * lift for w, lift in weighted) / sum(w for w, _ in weighted))
            together.append(pooled)
    return {"pooled_pp": mean(together), "stratified_pp": mean(apart),
            "difference_pp": mean([a - b for a, b in zip(together, apart, strict=True)])}


def corrected(plan: Plan, tests: Sequence[Record], true_lift_pp: Sequence[float]) -> Figures | None:
    """The lifts with which the platform's rule crowned a treatment, and what they are worth (``winners_curse``).

    ``covers``: how many of the corrected intervals hold the true lift; they are right over all tests, called or not,
    so among winners alone they may do so less often than they say. None where nobody won.
    """
    found: list[tuple[Corrected, float]] = []
    for test in tests:
        decided = test.decided("auto_winner")
        if decided is not None and decided[1] != plan.variants[0]:
            treatment = plan.variants.index(decided[1])
            worth = winner_worth(plan, test, treatment, decided[0])
            if worth is not None:
                found.append((worth, true_lift_pp[treatment - 1]))
    if not found:
        return None
    covers = sum((c.low is None or 100 * c.low <= true) and (c.high is None or true <= 100 * c.high)
                 for c, true in found)
    first = found[0][0]
    return {"observed_pp": mean([100 * c.observed for c, _ in found]),
            "estimate_pp": mean([100 * c.estimate for c, _ in found if c.estimate is not None]),
            "covers": chance(covers, len(found)),
            "example_pp": {name: None if value is None else 100 * value for name, value in (
                ("observed", first.observed), ("estimate", first.estimate), ("low", first.low), ("high", first.high))}}


def winner_worth(plan: Plan, test: Record, treatment: int, day: int) -> Corrected | None:
    """The corrected lift (a share) of a treatment that the platform's rule called on that day; None where the rule's
    boundary was not met to the last digit."""
    known = plan.information(treatment)
    asked = [i for i in range(first_look(plan) - 1, plan.days) if known[i] > 0]
    if day - 1 not in asked:
        return None
    least, look = platform_bounds(plan, test.looks, treatment), test.looks[day - 1]
    error = lift_error(look, treatment)
    lift = (look.lift_pp(treatment) or 0.0) / 100
    bound = [min(float(least[i]), abs(lift) / error) if i == day - 1 else float(least[i]) for i in asked]
    try:
        return many_looks(lift, error, asked.index(day - 1), bound, [float(known[i]) for i in asked])
    except BadInput:
        return None


def direct(plan: Plan, rates: Sequence[tuple[float, float]], per_day: float, effect: float, replications: int,
           seed: int) -> tuple[Figures, Figures] | str:
    """The rules' chances from independent payments, without the engine: under the truth, and with both variants alike.

    ``rates``: control's and treatment's in each world; a world's tests are ``replications`` in number. The design
    effect divides the volume, which is what correlation leaves of it to a test that allows for it. A sentence instead
    where the direct way does not know the plan.
    """
    if len(plan.variants) > 2:
        return "the direct way knows two variants, not more"
    if len(plan.stages) > 1:
        return "the direct way knows one split, not a ramp"
    late = math.ceil(plan.matures_days)
    until, volume = plan.days - late, round(per_day / max(1.0, effect))
    if until < 1 or volume < 1:
        return "too few payments a day"
    found: list[Figures] = []
    for alike in (False, True):
        figures: Figures = {}
        for rule, bound in DIRECT_RULES.items():
            outcomes = []
            for number, (control, treatment) in enumerate(rates):
                trial = Trial(control, 0.0 if alike else 100 * (treatment - control), volume, plan.stages[0][1][1],
                              max(1, first_look(plan) - late), until)
                outcomes.append(auto_winner(trial, bound, replications, seed + number))
            figures[rule] = {
                "p_wins": {plan.variants[0]: _average([each.p_control_wins.value for each in outcomes], replications),
                           plan.variants[1]: _average([each.p_treatment_wins.value for each in outcomes],
                                                      replications)},
                "p_any": _average([each.p_any.value for each in outcomes], replications),
                "mean_day_capped": float(np.mean([each.mean_day_capped.value for each in outcomes])) + late,
            }
        found.append(figures)
    return found[0], found[1]


def _average(values: Sequence[float | None], replications: int) -> Figures:
    """A chance as the mean over worlds, with the Monte Carlo error that the tests leave."""
    known = [value for value in values if value is not None]
    return {"value": float(np.mean(known)),
            "standard_error": math.sqrt(sum(p * (1 - p) / replications for p in known)) / len(known)}


def agreement(plan: Plan, full: Figures, quick: Figures, replications: int) -> list[Figures]:
    """For each rule and variant, whether the full simulator's share of wins fits the direct chance.

    The chance of a count as far off is taken from the binomial; below .0027 (three standard errors) they differ. The
    direct way knows no sample ratio, whose guard silences a better rule by mistake in one test of a thousand.
    """
    rows = []
    for rule in DIRECT_RULES:
        for name in plan.variants:
            ours, theirs = full[rule]["p_wins"][name]["value"], quick[rule]["p_wins"][name]
            heard = 1.0 if rule == "auto_winner" else 1 - ALARM
            expected = min(1 - 1e-5, max(1e-5, theirs["value"] * heard))
            p_value = float(binomtest(round(ours * replications), replications, expected).pvalue)
            rows.append({"rule": rule, "variant": name, "full": ours, "direct": theirs["value"], "p_value": p_value,
                         "agrees": p_value >= AGREES})
    return rows
