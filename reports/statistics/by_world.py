"""Means and chances over the tests of W worlds with K draws of luck in each, and how sure they are.

The tests of a world share its lift, so they are not independent: 6 worlds with 40 draws each say little more of a
chance than 6 worlds. Standard errors therefore take whole worlds, as a survey takes whole clusters (the linearised
variance G/(G-1) Σ_worlds (Σ residuals)² / n²), and are never below those of independent tests. What is estimated is the
mean over the worlds that the calibration holds possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from routesim.sim.arrays import Floats

Figures = dict[str, Any]
LEVEL = 0.95


def by_world(values: Sequence[float | None], worlds: int) -> Floats:
    """A value for each test, the tests of a world in a row, as a table of shape (W, K); NaN where there is none."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64).reshape(worlds, -1)


def chance(hits: Floats) -> Figures:
    """A share of tests, {value, standard_error, low, high}: ``hits`` holds 1 and 0, NaN what does not count, (W, K).

    The 95 % interval is Wilson's, which holds at 0 and 1 too, for as many independent tests as scatter alike and with
    Student's t of W - 1 for the normal quantile, as Korn and Graubard (1998, Survey Methodology 24) do for Clopper and
    Pearson's. With one test a world those are independent; with one world the interval holds its luck alone.
    """
    groups = _groups(hits)
    n, worlds = sum(len(group) for group in groups), len(groups)
    if n == 0:
        return {"value": None, "standard_error": None, "low": None, "high": None}
    p = float(np.concatenate(groups).mean())
    error = _error([group - p for group in groups], math.sqrt(p * (1 - p) / n))
    alike = p * (1 - p) / error**2 if error > 0 else float(n)  # so many independent tests
    several = 1 < worlds < n
    z2 = float(stats.t.ppf((1 + LEVEL) / 2, worlds - 1) if several else stats.norm.ppf((1 + LEVEL) / 2)) ** 2
    middle = (p + z2 / (2 * alike)) / (1 + z2 / alike)
    half = math.sqrt(z2) / (1 + z2 / alike) * math.sqrt(p * (1 - p) / alike + z2 / (4 * alike * alike))
    return {"value": p, "standard_error": error, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def mean(values: Floats) -> Figures:
    """{value, standard_error, count} of what is not NaN in a table (W, K); None where there is too little."""
    groups = _groups(values)
    n = sum(len(group) for group in groups)
    if n == 0:
        return {"value": None, "standard_error": None, "count": 0}
    values = np.concatenate(groups)
    middle = float(values.mean())
    error = _error([group - middle for group in groups], float(values.std(ddof=1)) / math.sqrt(n)) if n > 1 else None
    return {"value": middle, "standard_error": error, "count": n}


def ratio(above: Floats, below: Floats) -> Figures:
    """The sum of one over the sum of the other, (W, K) each: {value, standard_error, count}; None unless the latter is
    above 0. The error is that of the linearised ratio."""
    both = np.isfinite(above) & np.isfinite(below)
    n, total = int(both.sum()), float(below[both].sum())
    if n == 0 or total <= 0:
        return {"value": None, "standard_error": None, "count": n}
    value = float(above[both].sum()) / total
    rest = mean(np.where(both, above - value * below, np.nan))["standard_error"]
    return {"value": value, "standard_error": None if rest is None else rest * n / total, "count": n}


def _groups(table: Floats) -> list[Floats]:
    return [row[np.isfinite(row)] for row in table if np.isfinite(row).any()]


def _error(residuals: Sequence[Floats], independent: float) -> float:
    """The standard error of the mean, by whole worlds; ``independent``: that of independent tests."""
    n, worlds = sum(len(each) for each in residuals), len(residuals)
    if worlds < 2 or worlds == n:
        return independent
    sums = sum(float(each.sum()) ** 2 for each in residuals)
    return max(independent, math.sqrt(worlds / (worlds - 1) * sums) / n)
