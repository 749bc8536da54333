"""How many replications a simulation needs, and what common random numbers, covariates and batches do for it.

An experiment asks for ``cuped``; the rest is for who lays out a study by hand (how many replications or payments until
a figure is as sure as wanted, and whether pairing them pays), and is held against reference figures by the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtri

from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput

MOST_REPLICATIONS = 10_000_000


@dataclass(frozen=True)
class CommonNumbers:
    """The variance of one payment's difference between two policies, drawn apart and under common random numbers.

    ``reduction``: independent over common. ``correlation``: of the two outcomes under common numbers.
    """

    independent: float
    common: float
    reduction: float
    correlation: float


def common_numbers(rate: float, lift: float, synchronised: float = 1.0) -> CommonNumbers:
    """Two Bernoulli policies of rates p and p + d that read the same uniform for a share ``synchronised`` of payments.

    Apart: p(1-p) + (p+d)(1-p-d). Together they differ only between the rates: d(1-d), for d > 0 (Glasserman and Yao
    1992). Raises BadInput for rates outside (0, 1), no lift, or a share outside [0, 1].
    """
    other = rate + lift
    if not (0 < rate < 1 and 0 < other < 1) or lift == 0 or not 0 <= synchronised <= 1:
        raise BadInput("both rates must lie between 0 and 1 and differ, and the share lie in 0 to 1", "common numbers")
    apart = rate * (1 - rate) + other * (1 - other)
    common = (1 - synchronised) * apart + synchronised * abs(lift) * (1 - abs(lift))
    correlation = (apart - common) / 2 / math.sqrt(rate * (1 - rate) * other * (1 - other))
    return CommonNumbers(apart, common, apart / common, correlation)


def payments_for_half_width(variance: float, half_width: float, level: float = 0.95) -> float:
    """Payments until the normal interval of a mean is that narrow on either side: z² variance / half_width²."""
    if not (variance >= 0 and half_width > 0 and 0 < level < 1):
        raise BadInput("variance and half-width must not be negative, and the level lie between 0 and 1", "precision")
    return float(ndtri((1 + level) / 2)) ** 2 * variance / half_width**2


def replications_for_error(probability: float, standard_error: float) -> float:
    """Replications until a probability is known with that Monte Carlo standard error: p (1 - p) / se²."""
    if not (0 <= probability <= 1 and standard_error > 0):
        raise BadInput("the probability must lie in 0 to 1 and the error be above 0", "precision")
    return probability * (1 - probability) / standard_error**2


@dataclass(frozen=True)
class Mean:
    """A mean, its standard deviation (n - 1), and the half-width of its Student t interval with ``df``."""

    value: float
    sd: float
    half_width: float
    df: float


def mean_of(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of independent replications. Raises BadInput for fewer than two."""
    x = _several(values)
    sd = float(x.std(ddof=1))
    return Mean(float(x.mean()), sd, _t(level, len(x) - 1) * sd / math.sqrt(len(x)), len(x) - 1)


def paired_difference(control: Sequence[float], treatment: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of treatment - control over replications that share their luck. Raises BadInput unless paired."""
    if len(control) != len(treatment):
        raise BadInput("paired replications must be equally many", "precision")
    return mean_of([b - a for a, b in zip(control, treatment, strict=True)], level)


def welch_difference(control: Sequence[float], treatment: Sequence[float], level: float = 0.95) -> Mean:
    """The same difference of independent replications (Welch 1947); ``sd`` is the standard error of the difference."""
    a, b = _several(control), _several(treatment)
    parts = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    error = math.sqrt(sum(parts))
    degrees = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
    df = sum(parts) ** 2 / degrees if degrees > 0 else float(len(a) + len(b) - 2)
    return Mean(float(b.mean() - a.mean()), error, _t(level, df) * error, df)


def replications_for_half_width(values: Sequence[float], absolute: float | None = None, relative: float | None = None,
                                level: float = 0.95) -> int:
    """How many replications in all until the t interval is narrow enough, taking the standard deviation as found.

    The least i, at least as many as there are, with t_{i-1} s / √i ≤ ``absolute``, or ≤ g |mean| with
    g = relative / (1 + relative), which bounds the error relative to the true mean (Law and Kelton, Simulation Modeling
    and Analysis, 3rd ed. 2000, 9.4.1). Raises BadInput unless just one precision above 0 is given, or beyond 10⁷.
    """
    found = mean_of(values, level)
    if (absolute is None) == (relative is None) or (absolute if absolute is not None else relative or 0.0) <= 0:
        raise BadInput("give one precision above 0, absolute or relative", "precision")
    goal = absolute if absolute is not None else (relative or 0.0) / (1 + (relative or 0.0)) * abs(found.value)

    def narrow(i: int) -> bool:
        return _t(level, i - 1) * found.sd / math.sqrt(i) <= goal

    low = high = len(values)
    while not narrow(high):
        low, high = high, high * 2
        if high > MOST_REPLICATIONS:
            raise BadInput(f"more than {MOST_REPLICATIONS:,} replications would be needed; ask for less", "precision")
    while low < high:  # the half-width falls with i
        middle = (low + high) // 2
        low, high = (low, middle) if narrow(middle) else (middle + 1, high)
    return high


def autoregressive_factor(correlation: float) -> float:
    """How many times more variance the mean of a long AR(1) series has than that of independent values of the same
    variance: (1 + φ) / (1 - φ). Raises BadInput unless |φ| < 1.
    """
    if not -1 < correlation < 1:
        raise BadInput(f"must lie between -1 and 1, not {correlation:g}", "correlation")
    return (1 + correlation) / (1 - correlation)


def batch_means(series: Sequence[float] | Floats, batches: int = 20, level: float = 0.95) -> Mean:
    """The mean of a correlated series, with an interval from the means of equal batches in a row.

    ``sd`` is that of the batch means. Values that fill no batch are left out at the start, where a simulation warms up.
    Raises BadInput unless there are at least two batches of at least one value.
    """
    values = np.asarray(series, dtype=np.float64)
    if batches < 2 or len(values) < batches:
        raise BadInput("at least two batches, each with a value, are needed", "batch means")
    size = len(values) // batches
    return mean_of(values[len(values) - size * batches:].reshape(batches, size).mean(axis=1).tolist(), level)


@dataclass(frozen=True)
class Adjusted:
    """A lift adjusted by a covariate, its standard error, the slope, and the share of variance that was removed."""

    lift: float
    standard_error: float
    slope: float
    variance_removed: float


def cuped(control: Floats, treatment: Floats, before_control: Floats, before_treatment: Floats) -> Adjusted:
    """The difference of means, adjusted by what was known of each unit before the test (CUPED).

    Y - θ (X - E X) with θ = Cov(Y, X) / Var(X) within the arms; it removes the share r² of the variance (Deng, Xu,
    Kohavi and Walker 2013, WSDM). Shapes: (n_c,), (n_t,), (n_c,), (n_t,). X must not be touched by the treatment.
    Raises BadInput where shapes differ or an arm has fewer than two units.
    """
    if control.shape != before_control.shape or treatment.shape != before_treatment.shape:
        raise BadInput("every unit needs its value before the test", "CUPED")
    arms = [(_several(control), before_control), (_several(treatment), before_treatment)]
    centred = [(y - y.mean(), x - x.mean()) for y, x in arms]
    spread = sum(float(x @ x) for _, x in centred)
    slope = sum(float(y @ x) for y, x in centred) / spread if spread > 0 else 0.0
    lifts = [float(y.mean()) - slope * float(x.mean()) for y, x in arms]
    plain = sum(float(y @ y) / (len(y) - 1) / len(y) for y, _ in centred)
    left = sum(float(((y - slope * x) ** 2).sum()) / (len(y) - 1) / len(y) for y, x in centred)
    return Adjusted(lifts[1] - lifts[0], math.sqrt(left), slope, 1 - left / plain if plain > 0 else 0.0)


def _several(values: Sequence[float] | Floats) -> Floats:
    if len(values) < 2:
        raise BadInput("at least two values are needed", "precision")
    return np.asarray(values, dtype=np.float64)


def _t(level: float, df: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, df))
