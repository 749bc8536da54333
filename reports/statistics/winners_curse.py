"""What a winner's lift is worth: estimates and intervals that allow for the rule that picked it.

A test is called because its lift is large, so the observed lift of winners is too large on average. Two corrections:

- ``single_look``: the lift was looked at once and passed a threshold. Given that, it is a normal cut off below,
  whose maximum-likelihood estimate and interval follow (Zhong and Prentice 2008, Biostatistics 9): among the tests that
  were called, the interval covers as it says.
- ``many_looks``: the test was looked at until it passed. The median-unbiased estimate and the interval of the
  stage-wise ordering (Tsiatis, Rosner and Mehta 1984, Biometrics 40; an earlier stop is stronger evidence) are right
  over all tests, called or not. They are not conditional on a win: given the win alone, hardly any information on the
  sign of the lift is left where a test is watched daily, for most stop just beyond the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import log_ndtr

from routesim.reports.statistics.stopping import crossing
from routesim.sim.errors import BadInput

_REACH = 40.0  # standard errors
_SQRT_2PI = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Corrected:
    """The observed lift, the corrected one and its interval, in the unit of the input; None: beyond 40 standard errors.

    A lift just at the threshold has no finite conditional estimate: it says that the test passed, and nothing more.
    """

    observed: float
    estimate: float | None
    low: float | None
    high: float | None


def single_look(lift: float, standard_error: float, threshold: float, level: float = 0.95) -> Corrected:
    """The lift of a winner that was looked at once, and would have been called from ``threshold`` on.

    The threshold is the larger of the critical z times the standard error and the least lift of the rule. Where control
    won, lift and threshold are negative. Raises BadInput where the lift does not reach the threshold, the threshold is
    0, or the standard error is not above 0.
    """
    sign = math.copysign(1.0, threshold)
    if not standard_error > 0 or threshold == 0 or lift * sign < abs(threshold) or not 0 < level < 1:
        raise BadInput("needs a standard error above 0 and a lift that reaches its threshold", "winner's lift")
    z, cut = lift * sign / standard_error, abs(threshold) / standard_error

    def excess_mean(theta: float) -> float:
        hazard = math.exp(-0.5 * (cut - theta) ** 2 - float(log_ndtr(theta - cut))) / _SQRT_2PI
        return theta + hazard - z

    def beyond(theta: float) -> float:  # P(lift at least as large | passed), rising in theta
        return math.exp(float(log_ndtr(theta - z)) - float(log_ndtr(theta - cut)))

    tail = (1 - level) / 2
    found = (_rising(excess_mean, z - _REACH, z + 1),
             _rising(lambda theta: beyond(theta) - tail, z - _REACH, z + _REACH),
             _rising(lambda theta: beyond(theta) - (1 - tail), z - _REACH, z + _REACH))
    return _signed(lift, sign * standard_error, *found)


def many_looks(lift: float, standard_error: float, look: int, bounds: Sequence[float], fractions: Sequence[float],
               level: float = 0.95) -> Corrected:
    """The lift of a winner called at the look with index ``look`` (from 0), ``standard_error`` being that of its lift.

    ``bounds``: the least |z| at each look (``stopping.boundaries``; where a least lift is asked for too, the larger of
    the two); ``fractions``: the information fractions. Those after ``look`` play no part. Raises BadInput where the
    lift does not reach its boundary.
    """
    if not standard_error > 0 or not 0 <= look < len(fractions) or len(bounds) != len(fractions) or not 0 < level < 1:
        raise BadInput("needs a standard error above 0 and a look that has a boundary", "winner's lift")
    sign, z = math.copysign(1.0, lift), abs(lift) / standard_error
    if z < bounds[look]:
        raise BadInput(f"z = {z:.3f} does not reach the boundary {bounds[look]:.3f} of its look", "winner's lift")
    passed, at = [*bounds[:look], z], list(fractions[:look + 1])
    root = math.sqrt(at[-1])

    def beyond(theta: float) -> float:  # P(an earlier win, or a win now and at least as far), rising in theta
        return float(crossing(passed, at, theta / root)[0].sum())

    tail = (1 - level) / 2
    found = [_rising(lambda theta, share=share: beyond(theta) - share, z - 12, z + 12)  # type: ignore[misc]
             for share in (0.5, tail, 1 - tail)]
    return _signed(lift, sign * standard_error, *found)


def _rising(excess: Callable[[float], float], low: float, high: float) -> float | None:
    """Where a rising function crosses 0, or None where it does not between the ends."""
    if excess(low) > 0 or excess(high) < 0:
        return None
    return float(brentq(excess, low, high, xtol=1e-9))


def _signed(lift: float, unit: float, estimate: float | None, low: float | None, high: float | None) -> Corrected:
    scaled = [None if value is None else value * unit for value in (estimate, low, high)]
    return Corrected(lift, scaled[0], *(scaled[1:] if unit > 0 else scaled[:0:-1]))
