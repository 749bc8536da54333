"""The interval of a figure over W worlds (draws of the calibrated model) and K luck draws in each.

Model: x_wk = m + a_w + e_wk, with a_w ~ N(0, V_world) the calibration's sampling error and e_wk ~ N(0, V_luck).
The truth is m* = the figure's expectation on this trace in the true world; the calibrated centre m misses it by one
more draw of the same sampling distribution, m - m* ~ N(0, V_world). So the mean of all x_wk misses m* with variance
V_world + (V_world/W + V_luck/(W·K)), of which more replications shrink the second part only. From the one-way
analysis of variance E[MS_between] = K·V_world + V_luck and E[MS_within] = V_luck. Worlds that agree are pooled, so that
no interval is narrower than luck alone allows (half_widths); the ends stay within what is possible (scales).

K = 1: luck cannot be separated from calibration, so all variance counts as V_world = MS_between (wider than needed).
W = 1: calibration error cannot be seen; the interval holds luck alone (t_{K-1}, MS_within / K) and ``basis`` says so.
W = K = 1: no interval. A count that was 0 in all n replications may still happen: its interval ends at
-log(1 - level)/n, since of more than that n zeros are improbable (Poisson).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from routesim.reports.metrics.catalogue import Metric
from routesim.reports.statistics.half_widths import half_width, one_run, student_t
from routesim.reports.statistics.scales import ends
from routesim.sim.arrays import Floats

Basis = Literal["worlds and luck", "worlds", "luck", "none"]
METHOD = "pooled"
"""What summary.json calls these intervals."""

LEVEL = 0.95


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


def interval(values: Floats, metric: Metric | None = None, level: float = LEVEL) -> Interval:
    """The interval of the figure whose value in world w under luck k is ``values[w, k]``, shape (W, K).

    NaN marks a replication in which the figure is undefined, or that was not run: it is left out, and the analysis
    of variance becomes that of unequal groups (K is then the usual n_0, and W·K the number of values). ``metric``
    tells the figure's bounds and scale; without it any number is possible.

    >>> interval(np.array([[4.0, 6.0], [5.0, 5.0], [6.0, 4.0]])).as_json()["value"]
    5.0
    """
    present = np.isfinite(values)
    groups = [row[mask] for row, mask in zip(values, present, strict=True) if mask.any()]
    n, worlds = int(present.sum()), len(groups)
    if n == 0:
        return Interval(None, None, None, None, None, None, None, "none")
    mean = float(np.concatenate(groups).mean())
    if n == 1:
        return Interval(mean, None, None, None, None, None, None, "none")
    if metric is not None and metric.scale == "count" and not np.nan_to_num(values).any():
        return _never(n, worlds, level)
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    means = np.array([group.mean() for group in groups])
    within_df, between_df = n - worlds, worlds - 1
    ms_within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / within_df if within_df else 0.0
    if worlds == 1:
        t = student_t(within_df, level)
        return _placed(mean, t * math.sqrt(ms_within / n), t * math.sqrt(ms_within * (1 + 1 / n)),
                       None, math.sqrt(ms_within), "luck", metric)
    ms_between = float((sizes * (means - mean) ** 2).sum()) / between_df
    if within_df == 0:
        half = student_t(between_df, level) * math.sqrt(ms_between + ms_between / n)
        return _placed(mean, half, half, math.sqrt(ms_between), None, "worlds", metric)
    shares = float((sizes**2).sum()) / n**2  # 1/W for equal groups
    luck = n * (1 - shares) / between_df  # n_0: K for equal groups
    world = n * (1 + shares) / luck  # W + 1 for equal groups
    half = half_width(ms_between, ms_within, between_df, within_df, world, level)
    single = max(half, one_run(ms_between, ms_within, between_df, within_df, world, level))
    return _placed(mean, half, single, math.sqrt(max(0.0, (ms_between - ms_within) / luck)), math.sqrt(ms_within),
                   "worlds and luck", metric)


def _never(n: int, worlds: int, level: float) -> Interval:
    """Of a count that was 0 in each of n replications."""
    high = -math.log(1 - level) / n
    single = float(stats.poisson.ppf(level, high))
    basis: Basis = "luck" if worlds == 1 else "worlds" if worlds == n else "worlds and luck"
    return Interval(0.0, 0.0, high, 0.0, max(high, single), None if worlds == 1 else 0.0,
                    None if worlds == n else 0.0, basis)


def _placed(mean: float, half: float, single: float, world: float | None, luck: float | None, why: Basis,
            metric: Metric | None) -> Interval:
    return Interval(mean, *ends(mean, half, metric), *ends(mean, single, metric), world, luck, why)
