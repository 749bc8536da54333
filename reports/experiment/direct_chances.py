"""The rules' chances from independent payments, without the engine, and whether the full simulator bears them out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from routesim.reports.experiment.looks import ExperimentPlan
from routesim.reports.experiment.rules import DIRECT_RULES, first_look
from routesim.reports.statistics.auto_winner import Outcome, Trial, auto_winner
from routesim.reports.statistics.by_world import Figures
from routesim.reports.statistics.sample_ratio import ALARM
from routesim.sim.arrays import Floats

AGREES = 0.0027  # two-sided chance of three standard errors


def direct(plan: ExperimentPlan, rates: Sequence[tuple[float, float]], per_day: float,
           effects: Sequence[float], replications: int, seed: int) -> tuple[Figures, Figures] | str:
    """Each rule's chances under the truth, and with both variants alike.

    ``rates``: control's and treatment's in each world; a world's tests are ``replications`` in number. ``effects``: the
    design effect of the unit at the end of each day of the plan, which the better rules allow for and the platform's
    does not; as customers come again it grows, and what is known grows less than their payments. A sentence instead
    where the direct way does not know the plan.
    """
    if len(plan.variants) > 2:
        return "the direct way knows two variants, not more"
    if len(plan.stages) > 1:
        return "the direct way knows one split, not a ramp"
    late = math.ceil(plan.matures_days)
    until, volume = plan.days - late, round(per_day)
    if until < 1 or volume < 1 or volume < max(effects):
        return "too few payments a day"
    first = max(1, first_look(plan) - late)
    found: list[Figures] = []
    for alike in (False, True):
        figures: Figures = {}
        for rule, bound in DIRECT_RULES.items():
            outcomes = []
            for number, (control, treatment) in enumerate(rates):
                trial = Trial(control, 0.0 if alike else 100 * (treatment - control), volume, plan.stages[0][1][1],
                              first, until, tuple(effects[first - 1 + late:]))
                outcomes.append(auto_winner(trial, bound, replications, seed + number))
            figures[rule] = _figures(plan, outcomes, replications, late)
        found.append(figures)
    return found[0], found[1]


def _figures(plan: ExperimentPlan, outcomes: Sequence[Outcome], replications: int, late: int) -> Figures:
    """Means over the worlds; beside them each world's chances, by variant."""
    wins = {plan.variants[0]: [each.p_control_wins.value or 0.0 for each in outcomes],
            plan.variants[1]: [each.p_treatment_wins.value or 0.0 for each in outcomes]}
    return {
        "p_wins": {name: _average(values, replications) for name, values in wins.items()},
        "p_any": _average([each.p_any.value or 0.0 for each in outcomes], replications),
        "mean_day_capped": float(np.mean([each.mean_day_capped.value for each in outcomes])) + late,
        "by_world": wins,
    }


def _average(values: Sequence[float], replications: int) -> Figures:
    """A chance as the mean over worlds, with the Monte Carlo error that the tests leave."""
    return {"value": float(np.mean(values)),
            "standard_error": math.sqrt(sum(p * (1 - p) / replications for p in values)) / len(values)}


def agreement(plan: ExperimentPlan, full: Figures, quick: Figures, replications: int) -> list[Figures]:
    """For each rule and variant, whether the full simulator's share of wins fits the direct chance.

    The chance of a count as rare is that of the sum of the worlds' binomials, each with its own chance; below .0027
    (three standard errors) they differ. The direct way knows no sample ratio, whose guard silences a better rule by
    mistake in one test of a thousand.
    """
    rows = []
    for rule in DIRECT_RULES:
        for name in plan.variants:
            ours, theirs = full[rule]["p_wins"][name]["value"], quick[rule]["p_wins"][name]
            heard = 1.0 if rule == "auto_winner" else 1 - ALARM
            expected = [min(1 - 1e-5, max(1e-5, each * heard)) for each in quick[rule]["by_world"][name]]
            p_value = _as_rare(round(ours * replications), expected, replications // len(expected))
            rows.append({"rule": rule, "variant": name, "full": ours, "direct": theirs["value"], "p_value": p_value,
                         "agrees": p_value >= AGREES})
    return rows


def _as_rare(count: int, chances: Sequence[float], each: int) -> float:
    """The probability of a count no likelier than ``count``, over ``each`` tests of every chance."""
    mass: Floats = np.ones(1)
    for p in chances:
        mass = np.convolve(mass, binom.pmf(np.arange(each + 1), each, p))
    return min(1.0, float(mass[mass <= mass[count] * (1 + 1e-7)].sum()))
