"""Sample-ratio mismatch: did the variants get the shares they were promised?

Where they did not, something decides who is counted (stale assignments, lost logs, a crash in one arm), and the lift is
not to be believed, whatever its p-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import chisquare

from routesim.sim.errors import BadInput

ALARM = 0.001
"""The p-value below which a mismatch is reported (Fabijan et al. 2019, Diagnosing sample ratio mismatch, KDD)."""


@dataclass(frozen=True)
class SampleRatio:
    """Pearson's chi-squared statistic against the promised shares, its p-value, and whether that is an alarm."""

    chi_squared: float
    p_value: float
    alarm: bool
    counts: tuple[int, ...]
    expected: tuple[float, ...]


def sample_ratio(counts: Sequence[int], shares: Sequence[float], alarm: float = ALARM) -> SampleRatio:
    """Compare the ``counts`` of the variants with ``shares`` (basis points or any weights above 0).

    Raises BadInput for fewer than two variants, unequal lengths, negative counts, no counts, or shares not above 0.
    """
    if len(counts) != len(shares) or len(counts) < 2:
        raise BadInput("give a count and a share for each of two variants or more", "sample ratio")
    if min(counts) < 0 or sum(counts) == 0 or not all(0 < share < math.inf for share in shares):
        raise BadInput("counts must not be negative or all 0, and shares must be above 0", "sample ratio")
    expected = [sum(counts) * share / sum(shares) for share in shares]
    statistic, p_value = map(float, chisquare(counts, expected))
    return SampleRatio(statistic, p_value, p_value < alarm, tuple(counts), tuple(expected))


def payments_to_detect(promised: float, observed: float, alarm: float = ALARM, power: float = 0.8) -> float:
    """Payments of both arms at which a mismatch raises the alarm with chance ``power``, before rounding.

    From the noncentral chi-squared distribution with one degree of freedom and noncentrality N (o - p)² / (p (1 - p)).
    Raises BadInput for shares outside (0, 1), equal shares, or a power not between the alarm's level and 1.
    """
    if not (0 < promised < 1 and 0 <= observed <= 1) or promised == observed:
        raise BadInput("the promised share must lie between 0 and 1 and differ from the observed one", "sample ratio")
    if not 0 < alarm < power < 1:
        raise BadInput(f"must lie between the alarm's level {alarm:g} and 1, not {power:g}", "power")
    z = float(-ndtri(alarm / 2))

    def excess(shift: float) -> float:  # both tails of a normal are the noncentral chi-squared
        return float(ndtr(shift - z) + ndtr(-shift - z)) - power

    shift = float(brentq(excess, 0.0, z + 40, xtol=1e-14))
    return shift**2 * promised * (1 - promised) / (observed - promised) ** 2
