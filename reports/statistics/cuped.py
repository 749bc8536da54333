"""A lift adjusted by what was known of each unit before the test, which removes the variance that this explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput


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
    if min(len(control), len(treatment)) < 2:
        raise BadInput("each arm needs at least two units", "CUPED")
    arms = [(control, before_control), (treatment, before_treatment)]
    centred = [(y - y.mean(), x - x.mean()) for y, x in arms]
    spread = sum(float(x @ x) for _, x in centred)
    slope = sum(float(y @ x) for y, x in centred) / spread if spread > 0 else 0.0
    lifts = [float(y.mean()) - slope * float(x.mean()) for y, x in arms]
    plain = sum(float(y @ y) / (len(y) - 1) / len(y) for y, _ in centred)
    left = sum(float(((y - slope * x) ** 2).sum()) / (len(y) - 1) / len(y) for y, x in centred)
    return Adjusted(lifts[1] - lifts[0], math.sqrt(left), slope, 1 - left / plain if plain > 0 else 0.0)
