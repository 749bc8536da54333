"""Every stopping rule asked at every look of one test: whom the platform's rule calls, and whom better rules call.

The better rules test at 5 % in all, shared out over the treatments (Bonferroni), and call nobody while the sample ratio
alarms. With several treatments the winner is the one with the greatest lift among those that beat the control, and the
control where it beats all of them. They take the standard error of whole units (orders, customers) where those are
bucketed; the platform's rule takes payments as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from routesim.reports.experiment.looks import ExperimentPlan, Look, Outcomes, cluster_ratio
from routesim.reports.statistics.auto_winner import RULES as DIRECT
from routesim.reports.statistics.auto_winner import Rule
from routesim.reports.statistics.cuped import Adjusted, cuped
from routesim.reports.statistics.platform_rule import (
    ALPHA,
    FROM_DAY,
    LEAST_LIFT_PP,
    LEAST_SAMPLES,
    Unmet,
    WinnerCondition,
    platform_verdict,
)
from routesim.reports.statistics.sample_ratio import ALARM
from routesim.reports.statistics.stopping import always_valid, boundaries
from routesim.sim.arrays import Floats

TUNING_SAMPLES = 5_000

@dataclass(frozen=True)
class RuleText:
    """What a stopping rule is called in a sentence, and what it does."""

    label: str
    doc: str


RULES = {
    "auto_winner": RuleText("the platform's rule",
                            "the platform's: any daily look with p < .05 and at least 1 pp, and its guards"),
    "fixed_horizon": RuleText("a single look on the last day", "one look, on the last day, at p < .05"),
    "obrien_fleming": RuleText("O'Brien and Fleming's boundary",
                               "daily looks that spend the 5 % as O'Brien and Fleming do (Lan and DeMets)"),
    "pocock": RuleText("Pocock's boundary", "daily looks against Pocock's constant boundary"),
    "always_valid": RuleText("the always-valid sequence",
                             "daily looks at a confidence sequence that holds however often one looks"),
    "cuped": RuleText("a single look with CUPED",
                      "one look, on the last day, adjusted by what each customer did before the test (CUPED)"),
}
"""Rules by the name that a scenario calls them."""

DIRECT_RULES: dict[str, Rule] = {
    name: rule if name == "auto_winner" else replace(rule, robust=True) for name, rule in DIRECT.items()
    if name in RULES
}
"""The same without the engine, where there is such a thing (``reports.auto_winner``)."""

GUARDS = (WinnerCondition.SAMPLES, WinnerCondition.LIFT, WinnerCondition.LATENCY, WinnerCondition.REVENUE)
"""The platform's conditions that guard a significant lift from being called."""


@dataclass(frozen=True)
class Judged:
    """What the rules said: for each, the winner's name at every look or None; the first is the decision.

    ``p_values``: of the pooled z test, by treatment and look. ``unmet``: what kept the platform's rule from calling, by
    treatment and look. ``guards``: which guard alone kept a significant lift from being called, at some look.
    ``adjusted``: the lift of each treatment at the last look, adjusted by CUPED; None without a pre-period.
    """

    calls: dict[str, list[str | None]]
    p_values: list[list[float]]
    unmet: list[list[tuple[Unmet, ...]]]
    guards: dict[WinnerCondition, bool]
    adjusted: list[Adjusted | None]

    def decided(self, rule: str) -> tuple[int, str] | None:
        """The day and the winner; None where nobody was called."""
        return next(((day, name) for day, name in enumerate(self.calls[rule], start=1) if name is not None), None)


def first_look(plan: ExperimentPlan) -> int:
    """The first day on which a rule may call: the platform's seventh, or the last of a shorter test."""
    return min(FROM_DAY, plan.days)


@lru_cache(maxsize=128)
def bounds(plan: ExperimentPlan, treatment: int, name: str, alpha: float) -> Floats:
    """The least |z| at every look of the plan, shape (days,); infinite where a look cannot call."""
    known = plan.information(treatment)
    day = np.arange(1, plan.days + 1)
    asked = np.flatnonzero((day >= first_look(plan)) & (known > 0))
    found = np.full(plan.days, math.inf)
    if len(asked):
        found[asked] = boundaries(name, known[asked].tolist(), alpha)
    return found


def judge(plan: ExperimentPlan, looks: Sequence[Look], found: Outcomes) -> Judged:
    """Ask every rule at every look."""
    alpha = ALPHA / len(plan.treatments)
    better = {"fixed_horizon": "fixed", "obrien_fleming": "obrien_fleming", "pocock": "pocock"}
    signs: dict[str, list[list[int]]] = {rule: [] for rule in RULES}
    p_values, unmet = [], []
    adjusted = [_adjusted(plan, found, treatment) for treatment in plan.treatments]
    for treatment in plan.treatments:
        verdicts = [_platform(look, treatment) for look in looks]
        p_values.append([verdict[1] for verdict in verdicts])
        unmet.append([verdict[2] for verdict in verdicts])
        signs["auto_winner"].append([verdict[0] for verdict in verdicts])
        for rule, name in better.items():
            least = bounds(plan, treatment, name, alpha)
            signs[rule].append([_beyond(look, treatment, least[i], pooled=True) for i, look in enumerate(looks)])
        signs["always_valid"].append([
            0 if look.day < first_look(plan) or min(look.n[0], look.n[treatment]) == 0 else _beyond(
                look, treatment, always_valid(look.n[0] + look.n[treatment], TUNING_SAMPLES, alpha), pooled=False)
            for look in looks])
        signs["cuped"].append([0] * (len(looks) - 1) + [_cuped(looks[-1], treatment, adjusted[treatment - 1], alpha)])
    calls = {rule: [_winner(plan, look, [of[i] for of in signs[rule]], guarded=rule != "auto_winner")
                    for i, look in enumerate(looks)] for rule in RULES}
    return Judged(calls, p_values, unmet, {guard: _trips(guard, unmet) for guard in GUARDS}, adjusted)


def lift_error(look: Look, treatment: int, pooled: bool = True) -> float:
    """The standard error of the observed lift of independent payments, a share; 0 where an arm is empty."""
    n = look.n[0], look.n[treatment]
    yes = look.approvals[0], look.approvals[treatment]
    if min(n) == 0:
        return 0.0
    if pooled:
        rate = sum(yes) / sum(n)
        return math.sqrt(rate * (1 - rate) * (1 / n[0] + 1 / n[1]))
    return math.sqrt(sum(y / k * (1 - y / k) / k for y, k in zip(yes, n, strict=True)))


def robust_error(look: Look, treatment: int, pooled: bool = True) -> float:
    """The same, allowing for the payments of a unit being alike: times the root of the look's design effect."""
    return lift_error(look, treatment, pooled) * math.sqrt(look.effect(treatment))


def _platform(look: Look, treatment: int) -> tuple[int, float, tuple[Unmet, ...]]:
    pair = (0, treatment)
    n = look.n[0], look.n[treatment]
    waits = look.p95_ms[0], look.p95_ms[treatment]
    verdict = platform_verdict(
        look.day, n, (look.approvals[0], look.approvals[treatment]),
        None if waits[0] is None or waits[1] is None else (waits[0], waits[1]),
        None if min(n) == 0 else (look.revenue_usd[0] / n[0], look.revenue_usd[pair[1]] / n[1]))
    return {None: 0, "treatment": 1, "control": -1}[verdict.winner], verdict.p_value, verdict.unmet


def _beyond(look: Look, treatment: int, bound: float, pooled: bool) -> int:
    """1 or -1 where the lift is beyond the bound, up or down. The samples' guard goes for every rule."""
    if not math.isfinite(bound) or min(look.n[0], look.n[treatment]) < LEAST_SAMPLES:
        return 0
    lift, error = (look.lift_pp(treatment) or 0.0) / 100, robust_error(look, treatment, pooled)
    return int(math.copysign(1, lift)) if error > 0 and abs(lift) > bound * error else 0


def _adjusted(plan: ExperimentPlan, found: Outcomes, treatment: int) -> Adjusted | None:
    """CUPED on the last look; a customer without a past gets the mean, which moves nothing."""
    counted = found.age_days <= plan.days - plan.matures_days + 1e-12
    known = ~np.isnan(found.before)
    if not (counted & known).any():
        return None
    before = np.where(known, found.before, found.before[counted & known].mean())
    yes = (found.approved_days <= plan.days).astype(np.float64)
    arms = [counted & (found.variant == v) for v in (0, treatment)]
    if min(int(arm.sum()) for arm in arms) < 2:
        return None
    plain = cuped(yes[arms[0]], yes[arms[1]], before[arms[0]], before[arms[1]])
    effect = cluster_ratio([(yes[arm] - plain.slope * before[arm], found.unit[arm]) for arm in arms])
    return replace(plain, standard_error=plain.standard_error * math.sqrt(effect))


def _cuped(look: Look, treatment: int, adjusted: Adjusted | None, alpha: float) -> int:
    if adjusted is None or min(look.n[0], look.n[treatment]) < LEAST_SAMPLES or adjusted.standard_error <= 0:
        return 0
    p_value = float(2 * ndtr(-abs(adjusted.lift) / adjusted.standard_error))
    return int(math.copysign(1, adjusted.lift)) if p_value < alpha else 0


def _winner(plan: ExperimentPlan, look: Look, signs: Sequence[int], guarded: bool) -> str | None:
    if guarded and look.srm_p is not None and look.srm_p < ALARM:
        return None
    ahead = [t for t, sign in zip(plan.treatments, signs, strict=True) if sign > 0]
    if ahead:
        return plan.variants[max(ahead, key=lambda t: look.lift_pp(t) or 0.0)]
    return plan.variants[0] if all(sign < 0 for sign in signs) else None


def _trips(guard: WinnerCondition, unmet: Sequence[Sequence[tuple[Unmet, ...]]]) -> bool:
    """Whether the guard alone kept a winner from being called at some look."""
    return any([each.condition for each in at_look] == [guard] for looks in unmet for at_look in looks)


def platform_bounds(plan: ExperimentPlan, looks: Sequence[Look], treatment: int) -> Floats:
    """The least |z| of the platform's rule at every look: p < .05, or 1 pp where that is more, shape (days,)."""
    least = bounds(plan, treatment, "naive", ALPHA).copy()
    for i, look in enumerate(looks):
        error = lift_error(look, treatment)
        if min(look.n[0], look.n[treatment]) < LEAST_SAMPLES or error <= 0:
            least[i] = math.inf
        else:
            least[i] = max(least[i], LEAST_LIFT_PP / 100 / error)
    return least
