"""How often, when and how rightly is a winner declared automatically? A fast simulation without the engine.

The platform's rule looks once a day, from day 7 and 1,000 samples a variant, and calls a winner where p < .05 (pooled
z, two-sided), the absolute lift is at least 1 pp, latency worsens by at most 10 % and revenue by at most 5 %.
Payments are taken as independent, each bucketed anew, so that a day's treatment arm is Binomial(volume, share) and its
approvals Binomial(arm, rate). Where whole customers or orders are bucketed, a design effect makes of the volume as many
independent payments as scatter alike; a rule that is not robust takes them for the whole volume. The guards of latency
and revenue are taken as met: they can only make winners rarer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.statistics.platform_rule import ALPHA, FROM_DAY, LEAST_LIFT_PP, LEAST_SAMPLES
from routesim.reports.statistics.stopping import always_valid, boundaries, equal_looks
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.draws import generator
from routesim.sim.errors import BadInput

UNTIL_DAY = 28
MOST_DAYS = 365
CHUNK = 20_000
MOST_REPLICATIONS = 10_000_000


@dataclass(frozen=True)
class Rule:
    """A stopping rule: what bounds |z| at each look, and the least absolute lift (pp) of a winner.

    ``bound``: a name of ``stopping.boundaries``, ``first`` (the first look alone) or ``always_valid``, tuned to
    ``tuning_samples`` payments or, where that is None, to the volume of ``tuning_days``. z is pooled, but unpooled for
    ``always_valid``, whose theory wants the standard error of the estimate. ``robust``: the standard error allows for
    the design effect of the unit that is bucketed; the platform's does not.
    """

    doc: str
    bound: str
    least_lift_pp: float = 0.0
    tuning_samples: int | None = None
    tuning_days: int | None = None
    robust: bool = False


RULES = {
    "auto_winner": Rule("the platform's: p < .05 at any daily look and at least 1 pp", "naive", LEAST_LIFT_PP),
    "daily_p05": Rule("p < .05 at any daily look", "naive"),
    "first_day": Rule("the platform's rule, looked at once, on the first day", "first", LEAST_LIFT_PP),
    "last_day": Rule("the platform's rule, looked at once, on the last day", "fixed", LEAST_LIFT_PP),
    "fixed_horizon": Rule("p < .05, looked at once, on the last day", "fixed"),
    "bonferroni": Rule("p < .05 / looks at any daily look", "bonferroni"),
    "pocock": Rule("Pocock's constant boundary", "pocock"),
    "obrien_fleming": Rule("Lan-DeMets spending like O'Brien and Fleming", "obrien_fleming"),
    "always_valid": Rule("a confidence sequence tuned to 5,000 payments", "always_valid", tuning_samples=5_000),
    "always_valid_day14": Rule("a confidence sequence tuned to the volume of 14 days", "always_valid", tuning_days=14),
    "always_valid_1pp": Rule("always_valid and at least 1 pp", "always_valid", LEAST_LIFT_PP, tuning_samples=5_000),
}
NEEDS_A_PRE_PERIOD = "cuped"
"""The rule of an experiment that needs what each customer did before it, which this simulation does not know."""


def rule_named(name: str) -> Rule:
    """The rule of that name. Raises BadInput, with the nearest name, where there is none."""
    if name == NEEDS_A_PRE_PERIOD:
        raise BadInput(f"{name} needs what each customer did before the test, which only `routesim experiment` knows; "
                       f"take fixed_horizon", "rule")
    rule = RULES.get(name)
    if rule is None:
        raise BadInput(f"unknown rule {name!r}{nearest(name, RULES)}", "rule")
    return rule


@dataclass(frozen=True)
class Figure:
    """A Monte Carlo figure and its standard error; None: undefined, as nothing was won."""

    value: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Outcome:
    """What a rule does over all replications.

    ``mean_day_capped`` counts a test that no look decided as ended on the last day. ``exaggeration`` is the mean
    observed lift of the tests that treatment won over the true lift (None unless that is above 0).
    """

    p_treatment_wins: Figure
    p_control_wins: Figure
    p_any: Figure
    mean_day_if_treatment_wins: Figure
    mean_day_capped: Figure
    mean_lift_if_treatment_wins_pp: Figure
    exaggeration: Figure


@dataclass(frozen=True)
class Trial:
    """A live A/B test: approval rates, total payments a day, and how many basis points go to treatment.

    ``design_effects``: at each look, the variance of the lift over that of independent payments; empty: 1 at all.
    """

    baseline: float
    lift_pp: float
    per_day: int
    treatment_bps: int = 5_000
    from_day: int = FROM_DAY
    until_day: int = UNTIL_DAY
    design_effects: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        rate = self.baseline + self.lift_pp / 100
        for right, message, where in (
            (0 < self.baseline < 1, f"must lie between 0 and 1, not {self.baseline:g}", "baseline"),
            (0 <= rate <= 1, f"{self.lift_pp:g} pp takes the baseline to {rate:g}, outside 0 to 1", "lift_pp"),
            (1 <= self.per_day <= 10**9, f"must lie between 1 and 1,000,000,000, not {self.per_day}", "per_day"),
            (0 < self.treatment_bps < BASIS_POINTS, "both shares must be above 0", "split_bps"),
            (self.from_day >= 1, f"must be at least 1, not {self.from_day}", "from_day"),
            (self.from_day <= self.until_day <= MOST_DAYS,
             f"must lie between the first look ({self.from_day}) and {MOST_DAYS}, not {self.until_day}", "until_day"),
            (len(self.design_effects) in (0, self.until_day - self.from_day + 1) and all(
                0 < each < math.inf for each in self.design_effects), "must be above 0, one for each look",
             "design effects"),
        ):
            if not right:
                raise BadInput(message, where)


def auto_winner(trial: Trial, rule: Rule, replications: int = 100_000, seed: int = 1,
                progress: Callable[[int, int], None] | None = None) -> Outcome:
    """The outcome of ``rule`` over so many A/B tests; the same for the same arguments, and all rules meet one luck.

    100,000 replications give standard errors of at most .0016 of a probability. Raises BadInput for a number of
    replications outside 2 to 10,000,000.
    """
    if not 2 <= replications <= MOST_REPLICATIONS:
        raise BadInput(f"must lie between 2 and {MOST_REPLICATIONS:,}, not {replications:,}", "replications")
    bound = _bounds(trial, rule)
    tally = _Tally()
    for number, start in enumerate(range(0, replications, CHUNK)):
        size = min(CHUNK, replications - start)
        tally.add(*_chunk(trial, rule, bound, generator("auto-winner", seed, number), size), trial.until_day)
        if progress:
            progress(start + size, replications)
    return tally.outcome(trial.lift_pp)


def _bounds(trial: Trial, rule: Rule) -> Floats:
    """The least |z| at each look, shape (looks,)."""
    looks = equal_looks(trial.from_day, trial.until_day)
    if rule.bound == "first":
        usual = boundaries("naive", looks, ALPHA)
        usual[1:] = math.inf
        return usual
    if rule.bound == "always_valid":
        tuning = rule.tuning_samples or (rule.tuning_days or UNTIL_DAY) * trial.per_day
        return np.array([always_valid(trial.per_day * day, tuning, ALPHA)
                         for day in range(trial.from_day, trial.until_day + 1)])
    return boundaries(rule.bound, looks, ALPHA)


def _chunk(trial: Trial, rule: Rule, bound: Floats, random: np.random.Generator, size: int,
           ) -> tuple[Ints, Ints, Floats]:
    """Of ``size`` tests: the deciding day (0: none), who won (1 treatment, -1 control, 0 nobody), the lift then."""
    rate = min(1.0, max(0.0, trial.baseline + trial.lift_pp / 100))
    n_c, n_t = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    yes_c, yes_t = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    decided, winner, lift = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64), np.full(size, np.nan)
    before = 0
    for look, day in enumerate(range(trial.from_day, trial.until_day + 1)):
        effect = trial.design_effects[look] if trial.design_effects else 1.0
        arrived = max(0, round(trial.per_day * day / effect) - before)
        before += arrived
        today_t = random.binomial(arrived, trial.treatment_bps / BASIS_POINTS, size)
        today_c = arrived - today_t
        n_t += today_t
        n_c += today_c
        yes_t += random.binomial(today_t, rate)
        yes_c += random.binomial(today_c, trial.baseline)
        if not math.isfinite(bound[look]):
            continue
        passes, difference = _passes(n_c, n_t, yes_c, yes_t, bound[look], rule, effect)
        now = passes & (winner == 0)
        decided[now], lift[now] = day, difference[now]
        winner[now] = np.sign(difference[now]).astype(np.int64)
    return decided, winner, lift


def _passes(n_c: Ints, n_t: Ints, yes_c: Ints, yes_t: Ints, bound: float, rule: Rule, effect: float,
            ) -> tuple[Bools, Floats]:
    """Where a look calls a winner, and the observed lift (a share, not pp). The guard goes by the payments themselves,
    which are ``effect`` times as many as the independent ones that are counted here."""
    enough = (effect * n_c >= LEAST_SAMPLES) & (effect * n_t >= LEAST_SAMPLES)
    a, b = np.maximum(n_c, 1), np.maximum(n_t, 1)
    difference = yes_t / b - yes_c / a
    if rule.bound == "always_valid":
        rate_c, rate_t = yes_c / a, yes_t / b
        variance = rate_c * (1 - rate_c) / a + rate_t * (1 - rate_t) / b
    else:
        pooled = (yes_t + yes_c) / (a + b)
        variance = pooled * (1 - pooled) * (1 / a + 1 / b)
    if not rule.robust:
        variance = variance / effect
    # rounding must not decide whether a lift of exactly the guard reaches it
    enough &= np.abs(difference) >= rule.least_lift_pp / 100 - 1e-12
    return enough & (np.abs(difference) > bound * np.sqrt(variance)), difference


class _Tally:
    """Sums over chunks, from which means and standard errors follow."""

    def __init__(self) -> None:
        self.tests = self.treatment = self.control = 0
        self.day = self.day2 = self.capped = self.capped2 = self.lift = self.lift2 = 0.0

    def add(self, decided: Ints, winner: Ints, lift: Floats, last_day: int) -> None:
        won = winner == 1
        day, of_winners = decided[won].astype(np.float64), lift[won] * 100
        capped = np.where(decided == 0, last_day, decided).astype(np.float64)
        self.tests += len(decided)
        self.treatment += int(won.sum())
        self.control += int((winner == -1).sum())
        self.day, self.day2 = self.day + float(day.sum()), self.day2 + float((day**2).sum())
        self.capped, self.capped2 = self.capped + float(capped.sum()), self.capped2 + float((capped**2).sum())
        self.lift, self.lift2 = self.lift + float(of_winners.sum()), self.lift2 + float((of_winners**2).sum())

    def outcome(self, true_lift_pp: float) -> Outcome:
        lift = _mean(self.treatment, self.lift, self.lift2)
        ratio = Figure(None, None) if lift.value is None or true_lift_pp <= 0 else Figure(
            lift.value / true_lift_pp,
            None if lift.standard_error is None else lift.standard_error / true_lift_pp)
        return Outcome(self._share(self.treatment), self._share(self.control),
                       self._share(self.treatment + self.control), _mean(self.treatment, self.day, self.day2),
                       _mean(self.tests, self.capped, self.capped2), lift, ratio)

    def _share(self, count: int) -> Figure:
        p = count / self.tests
        return Figure(p, math.sqrt(p * (1 - p) / self.tests))


def _mean(count: int, total: float, squares: float) -> Figure:
    if count == 0:
        return Figure(None, None)
    mean = total / count
    return Figure(mean, math.sqrt(max(0.0, squares / count - mean**2) / (count - 1)) if count > 1 else None)
