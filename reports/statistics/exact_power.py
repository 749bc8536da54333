"""The exact power of a test of two approval rates: the chance of each pair of counts, summed over the rejected pairs.

Counts x of control and y of treatment are binomial; those more than 9 standard deviations from their means are left
out, which costs less than 1e-17 in each tail. Tests by name:

- ``pooled``, ``unpooled``: the z statistic of the difference against the normal quantile.
- ``yates``: the chi-squared test with Yates's correction min(1/2, |x - E x|), as R's ``prop.test``.
- ``fisher``: Fisher's test given x + y; two-sided by the sum of the outcomes no likelier than the observed one.
- ``platform_up``: ``pooled``, and treatment ahead by at least 1 pp (the auto-winner's rule at a single look).

One-sided tests reject in the direction of p_t - p_c (upwards where they are equal).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.special import gammaln, ndtri
from scipy.stats import binom

from routesim.policies.spelling import nearest
from routesim.reports.statistics.platform_rule import LEAST_LIFT_PP
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.errors import BadInput

ExactTest = Literal["pooled", "unpooled", "yates", "fisher", "platform_up"]
EXACT_TESTS: tuple[ExactTest, ...] = get_args(ExactTest)
MOST_PAIRS = 200_000_000
MOST_SEARCHED = 5_000
_REACH_SD = 9.0
_TIE = 1 + 1e-7  # outcomes as likely as the observed one but for rounding, as R and SciPy count them


def exact_power(test: str, p_c: float, p_t: float, n_c: int, n_t: int, alpha: float = 0.05, sides: int = 2) -> float:
    """The chance that ``test`` rejects with ``n_c`` and ``n_t`` payments at the rates ``p_c`` and ``p_t``.

    Raises BadInput for an unknown test, sizes below 1, or sizes so large that the pairs cannot be enumerated.
    """
    if test not in EXACT_TESTS:
        raise BadInput(f"unknown exact test {test!r}{nearest(test, EXACT_TESTS)}", "method")
    if min(n_c, n_t) < 1:
        raise BadInput("both arms need at least 1 payment", "n_treatment")
    x, y = _window(n_c, p_c), _window(n_t, p_t)
    if len(x) * len(y) > MOST_PAIRS:
        raise BadInput(f"{n_c:,} and {n_t:,} payments are too many to enumerate; use the method 'pooled'", "method")
    chance_x, chance_y = binom.pmf(x, n_c, p_c), binom.pmf(y, n_t, p_t)
    upwards = p_t >= p_c
    if test == "fisher":
        return _fisher(x, y, chance_x, chance_y, n_c, n_t, alpha, sides, upwards)
    quantile = float(-ndtri(alpha / sides))
    rejected = 0.0
    for start in range(0, len(x), 512):  # in strips, so that memory stays small
        strip = slice(start, start + 512)
        rejects = _rejects(test, x[strip, None], y[None, :], n_c, n_t, quantile, sides, upwards)
        rejected += float(chance_x[strip] @ (rejects @ chance_y))
    return rejected


@dataclass(frozen=True)
class LeastSize:
    """Exact power rises with size in a saw-tooth: the ``first`` size that has it, and from where on all have it."""

    first: int
    stable: int


def least_size(test: str, p_c: float, p_t: float, target: float, ratio: float = 1.0, alpha: float = 0.05,
               sides: int = 2, near: float | None = None) -> LeastSize:
    """The least treatment sizes with exact power ``target``; control has ratio times as many, rounded up.

    ``near``: a guess from a formula. The sizes from 3/4 to 5/4 of it are searched, further where the ends of that
    range do not lie clear on either side (and from 1 where it is below 100). Raises BadInput as ``exact_power``, and
    for a guess above 5,000, where the formulas are as good and enumeration takes minutes.
    """
    guess = 64.0 if near is None else near
    if not 0 < guess <= MOST_SEARCHED:
        raise BadInput(f"about {guess:,.0f} payments an arm, and exact sizes are searched up to {MOST_SEARCHED:,}; "
                       f"use the method 'pooled', which is as good there", "method")
    low = 1 if guess < 100 else math.floor(0.75 * guess)
    high = math.ceil(1.25 * guess) + 8

    def enough(n: int) -> bool:
        return exact_power(test, p_c, p_t, math.ceil(n * ratio * (1 - 1e-12)), n, alpha, sides) >= target

    while low > 1 and enough(low):
        low = max(1, low // 2)
    while not enough(high):
        low, high = high, high * 2
    found = {low: enough(low), high: True}
    # Coarse steps find where the saw lies. Its teeth are of the order of 1/√n high and power rises by 1/n a payment, so
    # they blur the answer by some √n payments.
    step = max(1, (high - low) // 40)
    margin = step + math.ceil(2 * math.sqrt(guess))
    grid = [*range(low, high, step), high]
    found |= {n: enough(n) for n in grid if n not in found}
    first_coarse = next(n for n in grid if found[n])
    stable_coarse = max((n for n in grid if not found[n]), default=low)
    for n in range(max(low, min(first_coarse, stable_coarse) - margin), min(high, stable_coarse + margin) + 1):
        if n not in found:
            found[n] = enough(n)
    first = min(n for n, passes in found.items() if passes)
    return LeastSize(first, max((n for n, passes in found.items() if not passes), default=first - 1) + 1)


def _window(n: int, p: float) -> Ints:
    """The counts out of n that matter."""
    reach = _REACH_SD * math.sqrt(n * p * (1 - p)) + 30  # + 30: far tails of rare counts are Poisson's, not normal
    return np.arange(max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach)) + 1, dtype=np.int64)


def _rejects(test: str, x: Ints, y: Ints, n_c: int, n_t: int, quantile: float, sides: int, upwards: bool) -> Bools:
    """Whether each pair is rejected, shape (len(x), len(y))."""
    rate_c, rate_t = x / n_c, y / n_t
    difference = rate_t - rate_c
    pooled = (x + y) / (n_c + n_t)
    if test == "unpooled":
        variance = rate_c * (1 - rate_c) / n_c + rate_t * (1 - rate_t) / n_t
    else:
        variance = pooled * (1 - pooled) * (1 / n_c + 1 / n_t)
    distance: Floats = np.abs(difference)
    if test == "yates":  # |x - E x| is n_c n_t / (n_c + n_t) times the difference, and the same for every cell
        distance = np.maximum(0.0, distance - 0.5 * (1 / n_c + 1 / n_t))
    rejects: Bools = (distance > quantile * np.sqrt(variance)) & (distance > 0)
    if test == "platform_up":
        return rejects & (difference >= LEAST_LIFT_PP / 100 - 1e-12)
    if sides == 1:
        return rejects & ((difference > 0) if upwards else (difference < 0))
    return rejects


def _fisher(x: Ints, y: Ints, chance_x: Floats, chance_y: Floats, n_c: int, n_t: int, alpha: float, sides: int,
            upwards: bool) -> float:
    """Fisher's test: one hypergeometric distribution of y for every total."""
    ways_c, ways_t = _log_ways(n_c), _log_ways(n_t)
    rejected = 0.0
    for total in range(int(x[0] + y[0]), int(x[-1] + y[-1]) + 1):
        mean = total * n_t / (n_c + n_t)
        sd = math.sqrt(mean * n_c / (n_c + n_t) * max(0, n_c + n_t - total) / max(1, n_c + n_t - 1))
        low = max(0, total - n_c, math.floor(mean - 12 * sd) - 30)
        high = min(n_t, total, math.ceil(mean + 12 * sd) + 30)
        log_weight = ways_t[low:high + 1] + ways_c[total - high:total - low + 1][::-1]
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        # of this total, the pairs within both windows
        first, last = max(int(y[0]), total - int(x[-1]), low), min(int(y[-1]), total - int(x[0]), high)
        if first > last:
            continue
        mine = slice(first - low, last - low + 1)
        if sides == 2:
            order = np.sort(weight)
            p_value = np.cumsum(order)[np.searchsorted(order, weight[mine] * _TIE, side="right") - 1]
        elif upwards:
            p_value = np.cumsum(weight[::-1])[::-1][mine]
        else:
            p_value = np.cumsum(weight)[mine]
        of_y = slice(first - int(y[0]), last - int(y[0]) + 1)
        of_x = slice(total - last - int(x[0]), total - first - int(x[0]) + 1)
        rejected += float(((p_value < alpha) * chance_y[of_y]) @ chance_x[of_x][::-1])
    return rejected


def _log_ways(n: int) -> Floats:
    """ln C(n, k) for k = 0 … n, shape (n + 1,)."""
    k = np.arange(n + 1)
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), dtype=np.float64)
