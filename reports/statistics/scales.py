"""Where an interval's ends lie, so that a figure stays within its possible values.

The ends are found on a scale that takes the bounds' strain out, by the delta method about the plain mean, which stays
the figure's value: the square root of the distance from a single bound, the arcsine of the root of the share of the way
between two. Both reach the bound itself. In simulation they hold the truth of skewed figures (counts, amounts, shares
near 0 or 1) nearer to 95 % than a cut at the bound does, evenly at both ends, and are narrower than the logarithm and
the logit (docs/intervals.md).
"""

from __future__ import annotations

import math

from routesim.reports.metrics.catalogue import Metric


def ends(mean: float, half: float, metric: Metric | None) -> tuple[float, float]:
    """The two ends, from the mean and the half-width in the figure's own unit; None: any value is possible.

    >>> from routesim.reports.metrics.catalogue import METRICS
    >>> [round(end, 3) for end in ends(0.01, 0.02, METRICS["never_recovered"])]
    [0.0, 0.04]
    """
    low, high = (None, None) if metric is None else (metric.low, metric.high)
    if half == 0 or low is None or mean <= low or (high is not None and mean >= high):
        return mean - half, mean + half
    if high is None:
        step = half / (mean - low) / 2
        return low + (mean - low) * max(0.0, 1 - step) ** 2, low + (mean - low) * (1 + step) ** 2
    share = (mean - low) / (high - low)
    angle, step = math.asin(math.sqrt(share)), half / (high - low) / math.sqrt(share * (1 - share)) / 2
    return (low + (high - low) * math.sin(max(0.0, angle - step)) ** 2,
            low + (high - low) * math.sin(min(math.pi / 2, angle + step)) ** 2)
