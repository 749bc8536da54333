"""The interval of a figure over W worlds (draws of the calibrated model) and K luck draws in each.

Model: x_wk = m + a_w + e_wk, with a_w ~ N(0, V_world) the calibration's sampling error and e_wk ~ N(0, V_luck).
The truth is m* = the figure's expectation on this trace in the true world; the calibrated centre m misses it by one
more draw of the same sampling distribution, m - m* ~ N(0, V_world). So the mean of all x_wk misses m* with variance
V_world + (V_world/W + V_luck/(W·K)), of which more replications shrink the second part only. From the one-way
analysis of variance E[MS_between] = K·V_world + V_luck and E[MS_within] = V_luck, hence

    V_world = max(0, (MS_between - MS_within) / K),    mean ± t_{W-1} · √(V_world + MS_between / (W·K)).

K = 1: luck cannot be separated from calibration, so all variance counts as V_world = MS_between (wider than needed).
W = 1: calibration error cannot be seen; the interval holds luck alone (t_{K-1}, MS_within / K) and ``basis`` says so.
W = K = 1: no interval. One run: a single realisation adds V_luck to the variance (with K = 1 it is in there already).

Coverage of the t interval (normal theory, 95 % nominal, by simulation): right for V_world = 0 and for V_world at or
above V_luck; about 83 to 88 % where V_world lies near V_luck / (2K), since V_world is then often estimated as 0. The
generalised interval (Weerahandi 1993, Generalized confidence intervals, JASA 88) holds 92 to 99 % throughout, and is
therefore the one that is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from scipy import stats
from scipy.stats import qmc

from routesim.sim.arrays import Floats

Basis = Literal["worlds and luck", "worlds", "luck", "none"]
Method = Literal["t", "generalised"]


@dataclass(frozen=True)
class Interval:
    """A figure's mean, its 95 % interval, the range of one run, and the two standard deviations. None: unknown.

    ``basis`` says what the interval rests on: worlds and luck; worlds (K = 1, luck is mixed in); luck alone (W = 1,
    calibration error unseen); or none.
    """

    value: float | None
    low: float | None
    high: float | None
    one_run_low: float | None
    one_run_high: float | None
    world_sd: float | None
    luck_sd: float | None
    basis: Basis

    def as_json(self) -> dict[str, float | None]:
        """The five numbers of summary.json, to ten significant digits."""
        return {name: tidy(getattr(self, name)) for name in ("value", "low", "high", "one_run_low", "one_run_high")}


def tidy(number: float | None) -> float | None:
    """Ten significant digits, so that the last bits of a sum do not show; None where not finite."""
    if number is None or not math.isfinite(number):
        return None
    return float(f"{number:.10g}") + 0.0  # + 0.0: no negative zero


def interval(values: Floats, level: float = 0.95, method: Method = "generalised") -> Interval:
    """The interval of the figure whose value in world w under luck k is ``values[w, k]``, shape (W, K).

    NaN marks a replication in which the figure is undefined, or that was not run: it is left out, and the analysis
    of variance becomes that of unequal groups (K is then the usual n_0, and W·K the number of values).
    """
    present = np.isfinite(values)
    groups = [row[mask] for row, mask in zip(values, present, strict=True) if mask.any()]
    n, worlds = int(present.sum()), len(groups)
    if n == 0:
        return Interval(None, None, None, None, None, None, None, "none")
    mean = float(np.concatenate(groups).mean())
    if n == 1:
        return Interval(mean, None, None, None, None, None, None, "none")
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    within_df, between_df = n - worlds, worlds - 1
    ms_within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / within_df if within_df else 0.0
    if worlds == 1:
        t = _t(level, within_df)
        return _spread(mean, t * math.sqrt(ms_within / n), t * math.sqrt(ms_within * (1 + 1 / n)),
                       None, math.sqrt(ms_within), "luck")
    ms_between = float((sizes * (means - mean) ** 2).sum()) / between_df
    t = _t(level, between_df)
    if within_df == 0:
        half = t * math.sqrt(ms_between + ms_between / n)
        return _spread(mean, half, half, math.sqrt(ms_between), None, "worlds")
    luck = (n - float((sizes**2).sum()) / n) / between_df
    v_world = max(0.0, (ms_between - ms_within) / luck)
    half = t * math.sqrt(v_world + ms_between / n)
    one_run = t * math.sqrt(v_world + ms_between / n + ms_within)
    if method == "generalised":
        half, one_run = _generalised(ms_between, ms_within, between_df, within_df, luck, n, level)
    return _spread(mean, half, one_run, math.sqrt(v_world), math.sqrt(ms_within), "worlds and luck")


def _spread(mean: float, half: float, one_run: float, world: float | None, luck: float | None, why: Basis) -> Interval:
    return Interval(mean, mean - half, mean + half, mean - one_run, mean + one_run, world, luck, why)


@cache
def _t(level: float, df: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, df))


@cache
def _points(between_df: int, within_df: int) -> tuple[Floats, Floats, Floats]:
    """Chi-squared and normal quantiles at 4,096 points of a fixed low-discrepancy sequence."""
    uniform = qmc.Halton(4, scramble=True, rng=np.random.default_rng(20260101)).random(4096)
    chi_between, chi_within = stats.chi2.ppf(uniform[:, 0], between_df), stats.chi2.ppf(uniform[:, 1], within_df)
    return chi_between, chi_within, stats.norm.ppf(uniform[:, 2:])


def _generalised(
    ms_between: float, ms_within: float, between_df: int, within_df: int, luck: float, n: int, level: float
) -> tuple[float, float]:
    """Half-widths by the generalised pivot: the mean squares are replaced by their fiducial distributions."""
    chi_between, chi_within, normal = _points(between_df, within_df)
    between, within = between_df * ms_between / chi_between, within_df * ms_within / chi_within
    scale = np.sqrt(np.maximum(0.0, (between - within) / luck) + between / n)
    half = np.quantile(np.abs(normal[:, 0] * scale), level)
    one_run = np.quantile(np.abs(normal[:, 0] * scale + normal[:, 1] * np.sqrt(within)), level)
    return float(half), float(one_run)
