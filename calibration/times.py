"""Distributions of times fitted by maximum likelihood, with censoring, the family chosen by the data.

Used for latencies, outage durations and gaps, and delays: every fit gives the distribution, the scale of each of its
numbers, and their covariance, from the curvature of the log-likelihood at its maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special
from statsmodels.tools.numdiff import approx_hess

from routesim.sim import distributions as d
from routesim.sim.arrays import Bools, Floats
from routesim.sim.uncertainty import Scale

WEAK_SD = 2.0  # of a prior around the start: it holds what the times do not tell, as a mixture's share of nothing
_STEP = 1e-3  # of numerical derivatives, on scales where an estimate moves by about 1


@dataclass(frozen=True)
class Family:
    """A family with the scale of each parameter (all but shares are positive) and a start from log data."""

    make: Callable[..., Any]
    names: tuple[str, ...]
    scales: tuple[Scale, ...]
    start: Callable[[float, float], tuple[float, ...]]  # from mean and sd of the log times, on transformed scales


FAMILIES: dict[str, Family] = {
    "exponential": Family(d.Exponential, ("mean",), ("log",), lambda m, s: (m + s * s / 2,)),
    "lognormal": Family(d.Lognormal, ("median", "sigma"), ("log", "log"), lambda m, s: (m, np.log(s))),
    "weibull": Family(d.Weibull, ("scale", "shape"), ("log", "log"), lambda m, s: (m + 0.45 * s, np.log(1.28 / s))),
    "gamma": Family(d.Gamma, ("scale", "shape"), ("log", "log"),
                    lambda m, s: (m + np.log(np.expm1(s * s) + 1e-9), -np.log(np.expm1(s * s) + 1e-9))),
    "loglogistic": Family(d.Loglogistic, ("median", "shape"), ("log", "log"), lambda m, s: (m, np.log(1.81 / s))),
    "lognormal_mixture": Family(
        d.LognormalMixture, ("median", "sigma", "tail_share", "tail_median", "tail_sigma"),
        ("log", "log", "logit", "log", "log"),
        lambda m, s: (m - 0.1 * s, np.log(0.8 * s), -2.5, m + 1.5 * s, np.log(s))),
}


@dataclass(frozen=True)
class FittedTime:
    """``distribution`` with ``estimates`` (k,) on the transformed ``scales`` and their ``covariance`` (k, k)."""

    distribution: d.Distribution
    names: tuple[str, ...]
    scales: tuple[Scale, ...]
    estimates: Floats
    covariance: Floats
    log_likelihood: float
    bic: float


def build(family: Family, at: Floats) -> Any:
    """The distribution at transformed parameters."""
    values = [float(special.expit(x)) if s == "logit" else float(np.exp(np.clip(x, -30, 30)))
              for s, x in zip(family.scales, at, strict=True)]
    return family.make(**dict(zip(family.names, values, strict=True)))


def fit_time(times: Floats, seen: Bools | None = None, families: Sequence[str] = tuple(FAMILIES),
             prior: tuple[Floats, Floats] | None = None) -> FittedTime:
    """The best family by the Bayesian information criterion.

    ``times`` (n,) are positive; where ``seen`` (n,) is false the time is only known to be longer (right-censored).
    ``prior`` is a mean and standard deviation on the transformed scale, for fits of one family to few times. Raises
    ValueError when no time was seen whole.
    """
    seen = np.ones(len(times), dtype=bool) if seen is None else seen
    if not seen.any():
        raise ValueError("no time was seen whole, so nothing can be fitted")
    fits = [_fit(FAMILIES[name], times, seen, prior) for name in families]
    return min(fits, key=lambda fit: fit.bic)


def _fit(family: Family, times: Floats, seen: Bools, prior: tuple[Floats, Floats] | None) -> FittedTime:
    logs = np.log(times[seen])
    spread = max(float(logs.std()), 0.05)
    start = np.array(family.start(float(logs.mean()), spread))
    centre, width = prior if prior is not None else (start, np.full(len(start), WEAK_SD))

    def loss(at: Floats) -> float:
        distribution = build(family, at)
        with np.errstate(all="ignore"):
            total = distribution.logpdf(times[seen]).sum()
            total += np.log(np.maximum(distribution.sf(times[~seen]), 1e-300)).sum()
        total -= 0.5 * (((at - centre) / width) ** 2).sum()
        return float(-total) if np.isfinite(total) else 1e12

    best = optimize.minimize(loss, start, method="Nelder-Mead",
                             options={"xatol": 1e-4, "fatol": 1e-5, "maxiter": 600 * len(start), "adaptive": True})
    covariance = inverse_hessian(loss, best.x)
    value = -float(best.fun)
    distribution = build(family, best.x)
    return FittedTime(distribution, family.names, family.scales, best.x, covariance, value,
                      len(start) * np.log(len(times)) - 2 * value)


def inverse_hessian(loss: Callable[[Floats], float], at: Floats) -> Floats:
    """Inverse (k, k) of the second derivatives of a negative log-likelihood at its minimum ``at`` (k,): the estimates'
    covariance. The derivatives are central differences; directions that the loss does not know get no variance."""
    return np.asarray(np.linalg.pinv(approx_hess(at, loss, epsilon=_STEP), hermitian=True), dtype=np.float64)
