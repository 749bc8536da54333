"""When may a test that is looked at K times stop? Boundaries of |z| by name, and their crossing probabilities.

Model: the z statistic at information fraction t is B(t)/√t with B a Brownian motion whose drift is θ, the mean of z at
t = 1 (Jennison and Turnbull, Group Sequential Methods, 2000, ch. 3 and 19). The density of B over the paths that have
not stopped is carried from look to look by numerical integration (Armitage, McPherson and Rowe 1969), on
Gauss-Legendre nodes: SciPy has no routine for it. All tests are two-sided and symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from routesim.policies.spelling import nearest
from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput

Boundary = Literal["fixed", "pocock", "obrien_fleming", "bonferroni", "naive"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)

_FAR = 9.0  # a normal variate beyond this many standard deviations: 1e-19
_NODES_PER_SD = 10.0  # of the increment between looks
_LEAST_NODES = 64


def boundaries(name: str, fractions: Sequence[float], alpha: float = 0.05) -> Floats:
    """The least |z| that stops the test at each look, shape (K,); infinite where a look cannot stop it.

    ``fractions``: information fractions of the K looks, rising, in (0, 1]. ``alpha``: the two-sided level.

    - ``fixed``: the last look alone, at the usual quantile.
    - ``naive``: the usual quantile at every look; its level is far above ``alpha``.
    - ``bonferroni``: the quantile of alpha / K.
    - ``pocock``: one constant for all looks, whose overall level is ``alpha`` (Pocock 1977).
    - ``obrien_fleming``: the Lan-DeMets spending function 2 - 2Φ(z_{1-a/2}/√t) with a = alpha/2 in each tail (Lan and
      DeMets 1983), which is close to O'Brien and Fleming's boundary.

    Raises BadInput for an unknown name, fractions that do not rise within (0, 1], or an alpha outside (0, 1).
    """
    t = _fractions(fractions)
    _level(alpha)
    looks = len(t)
    usual = float(-ndtri(alpha / 2))
    if name == "fixed":
        return np.concatenate([np.full(looks - 1, math.inf), [usual]])
    if name == "naive":
        return np.full(looks, usual)
    if name == "bonferroni":
        return np.full(looks, float(-ndtri(alpha / looks / 2)))
    if name == "pocock":
        def excess(constant: float) -> float:
            up, down = crossing(np.full(looks, constant), fractions)
            return float(up.sum() + down.sum()) - alpha

        most = float(-ndtri(alpha / looks / 2))
        return np.full(looks, usual if looks == 1 else brentq(excess, usual, most + 1e-6, xtol=1e-10))
    if name == "obrien_fleming":
        return _spend(t, 2 * ndtr(ndtri(alpha / 4) / np.sqrt(t)))
    raise BadInput(f"unknown boundary {name!r}{nearest(name, BOUNDARIES)}", "boundary")


def always_valid(samples: float, tuning_samples: float, alpha: float = 0.05) -> float:
    """The least |z| that stops at a look after ``samples`` payments of both variants, however often one looks.

    √(2 (nr² + 1)/(nr²) · ln(√(nr² + 1)/alpha)) with r² = (-2 ln alpha + ln(-2 ln alpha + 1))/N*, the asymptotic
    confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 52, 2024), as GrowthBook's sequential tests use it. It is
    tightest near N* = ``tuning_samples`` (GrowthBook's default: 5,000). Raises BadInput unless all are positive.
    """
    _level(alpha)
    if samples <= 0 or tuning_samples <= 0:
        raise BadInput("samples and tuning samples must be above 0", "always valid boundary")
    n_r2 = samples * (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuning_samples
    return math.sqrt(2 * (n_r2 + 1) / n_r2 * math.log(math.sqrt(n_r2 + 1) / alpha))


def crossing(bounds: Sequence[float] | Floats, fractions: Sequence[float], drift: float = 0.0) -> tuple[Floats, Floats]:
    """The chance of stopping first at each look, above and below, each of shape (K,).

    ``bounds``: least |z| per look; ``drift``: the mean of z at fraction 1 (the true lift over its standard error then).
    """
    t = _fractions(fractions)
    if len(bounds) != len(t) or not all(bound > 0 for bound in bounds):
        raise BadInput("a boundary above 0 is needed for every look", "boundary")
    above, below = np.zeros(len(t)), np.zeros(len(t))
    walk = _Walk(drift)
    for look, (at, bound) in enumerate(zip(t, bounds, strict=True)):
        above[look], below[look] = walk.tails(at, float(bound) * math.sqrt(at))
        walk.go_on(at, float(bound) * math.sqrt(at))
    return above, below


def equal_looks(first: int, last: int) -> list[float]:
    """Information fractions of daily looks from day ``first`` to day ``last`` at a steady volume."""
    return [day / last for day in range(first, last + 1)]


class _Walk:
    """B over the paths that have not stopped: nodes, and the probability that each stands for."""

    def __init__(self, drift: float) -> None:
        self.drift = drift
        self.at = 0.0
        self.nodes = np.zeros(1)
        self.mass = np.ones(1)

    def tails(self, at: float, bound: float) -> tuple[float, float]:
        """The chance of being above ``bound``, and below its negative, at fraction ``at``."""
        sd, mean = math.sqrt(at - self.at), self.nodes + self.drift * (at - self.at)
        return (float(self.mass @ ndtr((mean - bound) / sd)), float(self.mass @ ndtr((-bound - mean) / sd)))

    def go_on(self, at: float, bound: float) -> None:
        """Move to fraction ``at`` and drop what lies beyond ±``bound``."""
        sd, mean = math.sqrt(at - self.at), self.nodes + self.drift * (at - self.at)
        middle = self.drift * at
        low, high = max(-bound, middle - _FAR * math.sqrt(at)), min(bound, middle + _FAR * math.sqrt(at))
        if low >= high:  # a drift so strong that no path is left
            self.at, self.nodes, self.mass = at, np.zeros(1), np.zeros(1)
            return
        count = max(_LEAST_NODES, math.ceil((high - low) / sd * _NODES_PER_SD / 2))
        x, weight = _legendre(min(count, 2_000))
        half = (high - low) / 2
        nodes = low + half * (x + 1)
        kernel = np.exp(-0.5 * ((nodes[:, None] - mean[None, :]) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
        self.at, self.nodes, self.mass = at, nodes, half * weight * (kernel @ self.mass)


_RULES: dict[int, tuple[Floats, Floats]] = {}


def _legendre(count: int) -> tuple[Floats, Floats]:
    if count not in _RULES:
        _RULES[count] = np.polynomial.legendre.leggauss(count)
    return _RULES[count]


def _spend(t: Floats, spent: Floats) -> Floats:
    """Boundaries that use up ``spent`` in each tail by each look, shape (K,)."""
    found = list(_spending(t, np.diff(spent, prepend=0.0)))
    return np.array(found)


def _spending(t: Floats, share: Floats) -> Iterator[float]:
    walk = _Walk(0.0)
    for at, part in zip(t, share, strict=True):
        root = math.sqrt(at)

        def excess(z: float, at: float = at, root: float = root, part: float = part) -> float:
            return walk.tails(at, z * root)[0] - part

        # Below 1e-16 the sum of the masses is rounding error: such a look cannot stop the test.
        z = math.inf if part < 1e-16 else float(brentq(excess, 0.0, _FAR, xtol=1e-10))
        yield z
        walk.go_on(at, z * root)


def _fractions(fractions: Sequence[float]) -> Floats:
    t = np.asarray(fractions, dtype=np.float64)
    if t.ndim != 1 or len(t) == 0 or not (np.diff(t, prepend=0.0) > 0).all() or t[-1] > 1 + 1e-12:
        raise BadInput("information fractions must rise and lie above 0 and at most 1", "fractions")
    return t


def _level(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise BadInput(f"must lie between 0 and 1, not {alpha:g}", "alpha")
