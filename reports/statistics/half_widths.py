"""How far the mean of W worlds with K luck draws each may miss the truth: half-widths by how much the worlds differ.

Everything that the values tell of V_world / V_luck is F = MS_between / MS_within, so a half-width is the standard error
of luck alone, times a curve in F. With s² = all squares between and within pooled, n = W·K:

- F ≤ F_0: the worlds agree. The half-width is t_{n-1} · s/√n, what luck alone allows. It is never less.
- F ≥ 4: they differ. It is t_{W-1} · √(V + MS_between/n), V = (MS_between - MS_within)/K.
- Between, the logarithm of the half-width is a cubic in log F that joins the two; it begins with slope 2.25.

F_0 is found for each W and K by quadrature: the largest at which no ratio V_world / V_luck is covered less than 94 %
(at the level 95 %). docs/intervals.md has the table, and what no interval can do. Two textbook ways fall short: mean
± t_{W-1} √(max(0, V) + MS_between/n) covers 83 % near V_world = V_luck/(2K), and the generalised interval (Weerahandi
1993, Generalized confidence intervals, JASA 88) is, as that one, narrower than luck allows where F is small by chance.

For unequal groups K is n_0 of the analysis of variance, and 1/W the sum of the squared shares of values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from routesim.sim.arrays import Floats

MISSES = 1.2
"""Where the ratio of variances is the worst, an interval misses this many times as often as its level says."""

_DIFFER = math.log(4.0)
_FIRST_SLOPE = 2.25
# Together they give nearly the shortest intervals that no ratio covers less than asked, for all W and K; steeper, the
# cubic would overshoot where W is small.
_LOG_RATIOS = 6.0 * np.linspace(0.0, 1.0, 24) ** 1.5  # of 1 + K V_world / V_luck


@lru_cache(maxsize=4096)
def student_t(df: float, level: float) -> float:
    """The quantile of Student's t that leaves out (1 - level)/2 on either side."""
    return float(special.stdtrit(df, (1 + level) / 2))


def half_width(ms_between: float, ms_within: float, between_df: int, within_df: int, world: float,
               level: float) -> float:
    """Of the interval of the mean, from the mean squares and their degrees of freedom, both above 0.

    ``world``: W + 1 for equal groups, so that the mean misses the truth with variance (world · K V_world + V_luck) / n.
    """
    n = between_df + within_df + 1
    luck_alone = (between_df * ms_between + within_df * ms_within) / (n - 1)
    if ms_between <= 0:
        return student_t(n - 1, level) * math.sqrt(luck_alone / n)
    log_f = math.log(ms_between) - math.log(ms_within) if ms_within > 0 else math.inf
    if log_f >= _DIFFER:
        return student_t(between_df, level) * math.sqrt((world * (ms_between - ms_within) + ms_within) / n)
    curve = _Curve(between_df, within_df, world, level)
    widening = float(np.exp(curve(np.array(log_f), _agree(between_df, within_df, round(world, 2), level))))
    return student_t(n - 1, level) * math.sqrt(luck_alone / n) * widening


@dataclass(frozen=True)
class _Curve:
    """How many times wider than luck alone allows, as a logarithm, by log F."""

    between_df: int
    within_df: int
    world: float
    level: float

    def differing(self, log_f: Floats) -> Floats:
        """Where worlds differ for certain."""
        f, n = np.exp(log_f), self.between_df + self.within_df + 1
        of_luck = (self.between_df * f + self.within_df) / (n - 1)
        t = math.log(student_t(self.between_df, self.level) / student_t(n - 1, self.level))
        return np.asarray(t + np.log((self.world * (f - 1) + 1) / of_luck) / 2)

    def __call__(self, log_f: Floats, agree: float) -> Floats:
        """``agree``: log F_0."""
        end, step = self.differing(np.array([_DIFFER, _DIFFER + 1e-4])), _DIFFER - agree
        x = np.clip((log_f - agree) / step, 0.0, 1.0)
        slope = (end[1] - end[0]) / 1e-4
        cubic = (_FIRST_SLOPE * step * x * (1 - x) ** 2 + end[0] * x**2 * (3 - 2 * x)
                 - slope * step * x**2 * (1 - x))
        return np.where(log_f >= _DIFFER, self.differing(np.maximum(log_f, _DIFFER)), np.maximum(cubic, 0.0))


@lru_cache(maxsize=1024)
def _agree(between_df: int, within_df: int, world: float, level: float) -> float:
    """Log F_0: the largest at which no ratio of variances is covered less than asked."""
    lowest, highest = _DIFFER - 6.0, _DIFFER - 0.05
    least = 1 - MISSES * (1 - level)
    cover = _coverage(between_df, within_df, world, level)
    if cover(lowest).min() < least:
        return lowest
    for _ in range(14):
        middle = (lowest + highest) / 2
        lowest, highest = (middle, highest) if cover(middle).min() >= least else (lowest, middle)
    return round(lowest, 6)


def _coverage(between_df: int, within_df: int, world: float, level: float,
              log_ratios: Floats = _LOG_RATIOS, points: int = 80) -> Callable[[float], Floats]:
    """log F_0 → the coverage at each ratio, the logarithm of 1 + K V_world / V_luck. Exact but for the quadrature:
    given F, a half-width is a known multiple of χ_{n-1}, so the chance to hold the truth is one of Student's t_{n-1}.
    """
    df = between_df + within_df
    f = special.fdtri(between_df, within_df, (np.arange(points) + 0.5) / points)
    log_f, ratio = np.log(f) + log_ratios[:, None], np.exp(log_ratios)[:, None]
    of_luck = (between_df * f * ratio + within_df) / (between_df * f + within_df)
    luck_alone = student_t(df, level) * np.sqrt(of_luck / (world * (ratio - 1) + 1))
    curve = _Curve(between_df, within_df, world, level)

    def cover(agree: float) -> Floats:
        t = luck_alone * np.exp(curve(log_f, agree))
        return np.asarray((2 * special.stdtr(df, t) - 1).mean(axis=1))

    return cover


def one_run(ms_between: float, ms_within: float, between_df: int, within_df: int, world: float, level: float) -> float:
    """Of the range of a single realisation in the true world, which adds V_luck to the variance.

    The sum is estimated without bias by a positive combination of the mean squares; its degrees of freedom are
    Satterthwaite's (1946, Biometrics Bulletin 2, 110-114).
    """
    n = between_df + within_df + 1
    between, within = world * ms_between, max(0.0, n + 1 - world) * ms_within
    if between + within <= 0:
        return 0.0
    df = (between + within) ** 2 / (between**2 / between_df + within**2 / within_df)
    return student_t(df, level) * math.sqrt((between + within) / n)
