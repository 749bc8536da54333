"""Distributions of times, as data: latencies, outage durations, gaps, recoveries.

Each family names its parameters in the field's terms (a median, a shape), is readable in model.json, and is drawn
by inversion: one uniform gives one value, so a change of family moves no other draw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import special, stats

from routesim.sim.arrays import Floats


class _Family(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def ppf(self, u: Floats) -> Floats:
        """Quantiles at ``u`` in (0, 1), any shape."""

    @abstractmethod
    def logpdf(self, x: Floats) -> Floats:
        """Log density at ``x`` > 0."""

    @abstractmethod
    def sf(self, x: Floats) -> Floats:
        """Probability of more than ``x``."""

    def quantile(self, u: float) -> float:
        """One quantile."""
        return float(self.ppf(np.array([u]))[0])

    def average(self) -> float:
        """The mean; by the quantile function where a family has no formula."""
        return float(self.ppf((np.arange(20_000) + 0.5) / 20_000).mean())


class Constant(_Family):
    """Always ``value``."""

    family: Literal["constant"] = "constant"
    value: float = Field(ge=0)

    def ppf(self, u: Floats) -> Floats:
        return np.full_like(u, self.value)

    def logpdf(self, x: Floats) -> Floats:
        return np.where(x == self.value, 0.0, -np.inf)

    def sf(self, x: Floats) -> Floats:
        return (x < self.value).astype(np.float64)


class Exponential(_Family):
    """Memoryless, with ``mean``."""

    family: Literal["exponential"] = "exponential"
    mean: float = Field(gt=0)

    def average(self) -> float:
        return self.mean

    def ppf(self, u: Floats) -> Floats:
        return -self.mean * np.log1p(-u)

    def logpdf(self, x: Floats) -> Floats:
        return -x / self.mean - np.log(self.mean)

    def sf(self, x: Floats) -> Floats:
        return np.exp(-x / self.mean)


class Lognormal(_Family):
    """exp(N(log median, sigma^2))."""

    family: Literal["lognormal"] = "lognormal"
    median: float = Field(gt=0)
    sigma: float = Field(gt=0)

    def average(self) -> float:
        return self.median * float(np.exp(self.sigma**2 / 2))

    def ppf(self, u: Floats) -> Floats:
        return self.median * np.exp(self.sigma * special.ndtri(u))

    def logpdf(self, x: Floats) -> Floats:
        z = np.log(x / self.median) / self.sigma
        return -0.5 * z * z - np.log(x * self.sigma) - 0.5 * np.log(2 * np.pi)

    def sf(self, x: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return special.ndtr(-np.log(np.maximum(x, 0) / self.median) / self.sigma)


class Weibull(_Family):
    """Survival exp(-(x/scale)^shape); shape < 1 means clustered events."""

    family: Literal["weibull"] = "weibull"
    scale: float = Field(gt=0)
    shape: float = Field(gt=0)

    def average(self) -> float:
        return self.scale * float(special.gamma(1 + 1 / self.shape))

    def ppf(self, u: Floats) -> Floats:
        return self.scale * (-np.log1p(-u)) ** (1 / self.shape)

    def logpdf(self, x: Floats) -> Floats:
        return stats.weibull_min.logpdf(x, self.shape, scale=self.scale)

    def sf(self, x: Floats) -> Floats:
        return stats.weibull_min.sf(x, self.shape, scale=self.scale)


class Gamma(_Family):
    """Gamma with ``shape`` and ``scale``."""

    family: Literal["gamma"] = "gamma"
    scale: float = Field(gt=0)
    shape: float = Field(gt=0)

    def ppf(self, u: Floats) -> Floats:
        return self.scale * special.gammaincinv(self.shape, u)

    def logpdf(self, x: Floats) -> Floats:
        return stats.gamma.logpdf(x, self.shape, scale=self.scale)

    def sf(self, x: Floats) -> Floats:
        return stats.gamma.sf(x, self.shape, scale=self.scale)


class Loglogistic(_Family):
    """Survival 1 / (1 + (x/median)^shape): a power-law tail."""

    family: Literal["loglogistic"] = "loglogistic"
    median: float = Field(gt=0)
    shape: float = Field(gt=0)

    def ppf(self, u: Floats) -> Floats:
        return self.median * (u / (1 - u)) ** (1 / self.shape)

    def logpdf(self, x: Floats) -> Floats:
        return stats.fisk.logpdf(x, self.shape, scale=self.median)

    def sf(self, x: Floats) -> Floats:
        return stats.fisk.sf(x, self.shape, scale=self.median)


class LognormalMixture(_Family):
    """A lognormal body, and with probability ``tail_share`` a second lognormal: a slow minority of answers."""

    family: Literal["lognormal_mixture"] = "lognormal_mixture"
    median: float = Field(gt=0)
    sigma: float = Field(gt=0)
    tail_share: float = Field(gt=0, lt=1)
    tail_median: float = Field(gt=0)
    tail_sigma: float = Field(gt=0)

    def _parts(self) -> tuple[Lognormal, Lognormal]:
        return (Lognormal(median=self.median, sigma=self.sigma),
                Lognormal(median=self.tail_median, sigma=self.tail_sigma))

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        """No closed form: the exact CDF's logit on a grid that is fine in both lognormals, however narrow one is, to be
        inverted by interpolation in log time."""
        reach = np.linspace(-8.0, 8.0, 2001)
        grid = np.unique(np.concatenate([np.log(p.median) + p.sigma * reach for p in self._parts()]))
        survival = np.maximum(self.sf(np.exp(grid)), 1e-300)
        z = [(grid - np.log(p.median)) / p.sigma for p in self._parts()]
        below = np.maximum((1 - self.tail_share) * special.ndtr(z[0]) + self.tail_share * special.ndtr(z[1]), 1e-300)
        return np.log(below) - np.log(survival), grid

    def ppf(self, u: Floats) -> Floats:
        return np.exp(np.interp(special.logit(u), *self._table))

    def logpdf(self, x: Floats) -> Floats:
        body, tail = self._parts()
        return np.logaddexp(np.log1p(-self.tail_share) + body.logpdf(x), np.log(self.tail_share) + tail.logpdf(x))

    def sf(self, x: Floats) -> Floats:
        body, tail = self._parts()
        return (1 - self.tail_share) * body.sf(x) + self.tail_share * tail.sf(x)


class Quantiles(_Family):
    """Straight lines between given quantiles, on a logarithmic scale of values; flat beyond the outermost."""

    family: Literal["quantiles"] = "quantiles"
    probabilities: list[float]
    values: list[float]

    @model_validator(mode="after")
    def _ordered(self) -> Quantiles:
        if len(self.probabilities) != len(self.values) or len(self.values) < 2:
            raise ValueError("probabilities and values must be of one length, two at least")
        if np.any(np.diff(self.probabilities) <= 0) or np.any(np.diff(self.values) < 0) or self.values[0] <= 0:
            raise ValueError("probabilities must rise, values must be positive and must not fall")
        return self

    def ppf(self, u: Floats) -> Floats:
        return np.exp(np.interp(u, self.probabilities, np.log(self.values)))

    def logpdf(self, x: Floats) -> Floats:
        slopes = np.diff(self.probabilities) / np.maximum(np.diff(np.log(self.values)), 1e-12)
        cell = np.clip(np.searchsorted(self.values, x) - 1, 0, len(slopes) - 1)
        inside = (x >= self.values[0]) & (x <= self.values[-1])
        return np.where(inside, np.log(slopes[cell]) - np.log(x), -np.inf)

    def sf(self, x: Floats) -> Floats:
        return 1 - np.interp(np.log(np.maximum(x, 1e-300)), np.log(self.values), self.probabilities, left=0, right=1)


Distribution = Annotated[
    Constant | Exponential | Lognormal | Weibull | Gamma | Loglogistic | LognormalMixture | Quantiles,
    Field(discriminator="family"),
]
