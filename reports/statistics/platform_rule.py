"""The serving platform's rule for calling an experiment's winner, at one look, and its limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from scipy.special import ndtr

from routesim.sim.errors import BadInput

FROM_DAY = 7
LEAST_SAMPLES = 1_000  # of each variant
ALPHA = 0.05
LEAST_LIFT_PP = 1.0
MOST_LATENCY_REGRESSION = 0.10
MOST_REVENUE_LOSS = 0.05

Winner = Literal["treatment", "control"]
Pair = tuple[float, float]


class WinnerCondition(StrEnum):
    """What the rule asks before it calls a winner."""

    DAY = "day"  # FROM_DAY or later
    SAMPLES = "samples"  # LEAST_SAMPLES of each variant
    P_VALUE = "p_value"  # below ALPHA
    LIFT = "lift"  # LEAST_LIFT_PP at least, up or down
    LATENCY = "latency"  # the winner's is not worse by more than MOST_LATENCY_REGRESSION
    REVENUE = "revenue"  # the winner's is not lower by more than MOST_REVENUE_LOSS


class Unmet(NamedTuple):
    """A condition that a look does not meet, and what it found instead: the day, the fewest samples of a variant, the
    p-value, the lift (pp), the winner's latency over the other's, its revenue over the other's."""

    condition: WinnerCondition
    found: float


@dataclass(frozen=True)
class Verdict:
    """Who may be called the winner at a look; if nobody, the conditions that are not met."""

    winner: Winner | None
    unmet: tuple[Unmet, ...]
    lift_pp: float
    p_value: float


def platform_verdict(day: int, samples: tuple[int, int], approved: tuple[int, int], latency_ms: Pair | None = None,
                     revenue_usd: Pair | None = None) -> Verdict:
    """The whole rule at the look that ends ``day``, its guards of latency and revenue included.

    Pairs are (control, treatment): ``latency_ms`` of a variant, ``revenue_usd`` per payment. A pair that is None counts
    as met. The guards compare the would-be winner with the other variant. The p-value is that of the pooled two-sided z
    test. Raises BadInput where approved payments lie outside 0 to the samples.
    """
    if any(not 0 <= yes <= count for yes, count in zip(approved, samples, strict=True)):
        raise BadInput("approved payments must lie between 0 and the samples", "platform rule")
    rates = [yes / max(1, count) for yes, count in zip(approved, samples, strict=True)]
    lift, pooled = rates[1] - rates[0], sum(approved) / max(1, sum(samples))
    error = math.sqrt(pooled * (1 - pooled) * sum(1 / max(1, count) for count in samples))
    p_value = float(2 * ndtr(-abs(lift) / error)) if error > 0 else 1.0
    ahead = 1 if lift > 0 else 0
    unmet = []
    if day < FROM_DAY:
        unmet.append(Unmet(WinnerCondition.DAY, day))
    if min(samples) < LEAST_SAMPLES:
        unmet.append(Unmet(WinnerCondition.SAMPLES, min(samples)))
    if not p_value < ALPHA:
        unmet.append(Unmet(WinnerCondition.P_VALUE, p_value))
    if abs(lift) < LEAST_LIFT_PP / 100 - 1e-12:  # rounding must not decide a lift of exactly the guard
        unmet.append(Unmet(WinnerCondition.LIFT, 100 * lift))
    if latency_ms is not None and latency_ms[ahead] > latency_ms[1 - ahead] * (1 + MOST_LATENCY_REGRESSION):
        unmet.append(Unmet(WinnerCondition.LATENCY, _over(latency_ms, ahead)))
    if revenue_usd is not None and revenue_usd[ahead] < revenue_usd[1 - ahead] * (1 - MOST_REVENUE_LOSS):
        unmet.append(Unmet(WinnerCondition.REVENUE, _over(revenue_usd, ahead)))
    winner: Winner = "treatment" if ahead else "control"
    return Verdict(None if unmet else winner, tuple(unmet), 100 * lift, p_value)


def _over(pair: Pair, ahead: int) -> float:
    """The would-be winner's value over the other's; infinite where that is 0."""
    return pair[ahead] / pair[1 - ahead] if pair[1 - ahead] else math.inf
