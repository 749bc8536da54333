"""The interval of a difference: of paired replications, or of two means that are estimated apart.

- **paired**: replication (world w, luck k) of the one met the very draws of the other. The interval is that of the mean
  of d_wk = x_wk - y_wk (see intervals), and what the draws have in common cancels.
- **independent**: mean x - mean y, and from the limits (l, u) of the two means √((x - l_x)² + (u_y - y)²) below and
  √((u_x - x)² + (y - l_y)²) above (MOVER: Zou and Donner 2008, Construction of confidence limits about effect
  measures: a general approach, Statistics in Medicine 27, 1693-1702).
"""

from __future__ import annotations

import math
from dataclasses import replace

from routesim.reports.metrics.catalogue import Metric
from routesim.reports.statistics.intervals import Basis, Interval, interval
from routesim.sim.arrays import Floats


def paired(ours: Floats, theirs: Floats, metric: Metric | None = None) -> Interval:
    """The interval of ours - theirs, both of shape (W, K) under the same draws; NaN in either leaves the pair out.

    Where ``metric`` has two bounds, the difference lies within their distance on either side of 0.
    """
    if metric is None or metric.low is None or metric.high is None:
        return interval(ours - theirs)
    most = metric.high - metric.low
    return interval(ours - theirs, replace(metric, scale="difference", low=-most, high=most))


def independent(ours: Interval, theirs: Interval) -> Interval:
    """The interval of the difference of two means that are estimated apart (MOVER)."""
    if ours.value is None or theirs.value is None:
        return Interval(None, None, None, None, None, None, None, "none")
    value = ours.value - theirs.value
    low, high = _apart(value, ours.value, theirs.value, (ours.low, ours.high), (theirs.low, theirs.high))
    one_low, one_high = _apart(value, ours.value, theirs.value, (ours.one_run_low, ours.one_run_high),
                               (theirs.one_run_low, theirs.one_run_high))
    bases: set[Basis] = {ours.basis, theirs.basis}
    least: Basis = next(basis for basis in ("none", "luck", "worlds", "worlds and luck") if basis in bases)
    return Interval(value, low, high, one_low, one_high, None, None, least)


def _apart(value: float, ours: float, theirs: float, own: tuple[float | None, float | None],
           other: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    if own[0] is None or own[1] is None or other[0] is None or other[1] is None:
        return None, None
    return (value - math.hypot(ours - own[0], other[1] - theirs), value + math.hypot(own[1] - ours, theirs - other[0]))
