"""Power, sample size and minimum detectable effect (MDE) for two approval rates, by the name of the method.

Symbols: p_c and p_t the rates of control and treatment, n_c and n_t their sizes, r = n_c / n_t, d = p_t - p_c. A z test
of d has null standard deviation s_0/√n_t and alternative s_1/√n_t, and power

    Φ((|d|√n_t - z s_0)/s_1) + Φ((-|d|√n_t - z s_0)/s_1),    z = z_{1-alpha/2}, or z_{1-alpha} and the first term alone
                                                              where the test is one-sided, in the direction of d.

A size is a real n_t; ``arms`` rounds up afterwards. It comes from the textbook formula, which leaves out the second
term (so it is too large, by 2e-6 of itself at 80 % power), but for the arcsine, whose tables solve for both terms.
Statsmodels gives the power (``normal_power_het``), SciPy the roots. Payments are taken as independent: see
``design_effects`` where they are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from scipy.optimize import brentq
from scipy.special import ndtri
from statsmodels.stats.power import normal_power_het

from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.statistics.exact_power import exact_power, least_size
from routesim.sim.errors import BadInput

Method = Literal["pooled", "unpooled", "arcsine", "baseline_variance", "continuity", "exact"]
METHODS: tuple[Method, ...] = get_args(Method)
LIFTS_PP = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Lifts for which a table gives the days of a test."""
MOST = 1e15  # payments: a size beyond this is a question without an answer


@dataclass(frozen=True)
class ExperimentDesign:
    """A test: its level ``alpha``, its sides (1 or 2), n_control / n_treatment, and the method.

    Methods: ``pooled`` (s_0 from the mean rate weighted by the arms; Fleiss, Levin and Paik, Statistical Methods for
    Rates and Proportions, 2003, 4.3), ``unpooled`` (s_0 = s_1), ``arcsine`` (d = 2 asin √p_t - 2 asin √p_c; Cohen 1988,
    ch. 6), ``baseline_variance`` (both arms vary as control does), ``continuity`` (the pooled size corrected as
    Casagrande, Pike and Smith 1978; for unequal arms Fleiss, Tytun and Ury 1980), ``exact`` (Fisher's test).
    Raises BadInput for values that no test can have.
    """

    alpha: float = 0.05
    sides: int = 2
    ratio: float = 1.0
    method: str = "pooled"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise BadInput(f"must lie between 0 and 1, not {self.alpha:g}", "alpha")
        if self.sides not in (1, 2):
            raise BadInput(f"must be 1 or 2, not {self.sides}", "sides")
        if not 0 < self.ratio < math.inf:
            raise BadInput("both arms must get payments", "split_bps")
        if self.method not in METHODS:
            raise BadInput(f"unknown method {self.method!r}{nearest(self.method, METHODS)}", "method")

    @property
    def z(self) -> float:
        """The test's critical quantile."""
        return float(-ndtri(self.alpha / self.sides))


def ratio_of_split(control_bps: int, treatment_bps: int) -> float:
    """n_control / n_treatment. Raises BadInput unless both are above 0 and they sum to 10,000."""
    if control_bps <= 0 or treatment_bps <= 0 or control_bps + treatment_bps != BASIS_POINTS:
        raise BadInput(f"must be two shares above 0 that sum to {BASIS_POINTS:,} basis points, as 5000,5000 or "
                       f"9000,1000", "split_bps")
    return control_bps / treatment_bps


def power(p_c: float, p_t: float, n_t: float, design: ExperimentDesign, far_tail: bool = True) -> float:
    """The chance that the test finds the difference with ``n_t`` payments in treatment and ratio · n_t in control.

    ``far_tail`` False leaves out rejections in the wrong direction, as R's ``power.prop.test`` does by default. The
    exact method rounds both sizes up. Raises BadInput for rates outside [0, 1] (control: outside (0, 1)) or n_t <= 0.
    """
    _rates(p_c, p_t)
    if not 0 < n_t <= MOST:
        raise BadInput(f"must be above 0 and at most {MOST:.0e}, not {n_t:g}", "n_treatment")
    if design.method == "exact":
        return exact_power("fisher", p_c, p_t, *arms(n_t, design.ratio), design.alpha, design.sides)
    if design.method == "continuity":
        n_t = _without_continuity(n_t, abs(p_t - p_c), design.ratio)
    distance, null_sd, sd = _scale(p_c, p_t, design)
    if sd == 0:
        return float(distance * math.sqrt(n_t) > design.z * null_sd)
    if design.sides == 2 and far_tail:
        return float(normal_power_het(distance, n_t, design.alpha, null_sd, sd, "two-sided"))
    return float(normal_power_het(distance, n_t, design.alpha / design.sides, null_sd, sd, "larger"))


def size(p_c: float, p_t: float, target: float, design: ExperimentDesign) -> float:
    """Payments in treatment for the power ``target``, before rounding (the exact method: the least stable integer).

    Raises BadInput where the rates are equal or impossible, or the target is not above alpha and below 1.
    """
    _rates(p_c, p_t)
    if p_c == p_t:
        raise BadInput("no size shows a lift of 0: give a lift, or the payments in treatment", "lift_pp")
    _target(target, design)
    if design.method == "exact":
        start = size(p_c, p_t, target, ExperimentDesign(design.alpha, design.sides, design.ratio, "continuity"))
        return float(least_size("fisher", p_c, p_t, target, design.ratio, design.alpha, design.sides, start).stable)
    if design.method == "continuity":
        plain = size(p_c, p_t, target, ExperimentDesign(design.alpha, design.sides, design.ratio, "pooled"))
        return _with_continuity(plain, abs(p_t - p_c), design.ratio)
    distance, null_sd, sd = _scale(p_c, p_t, design)
    near = ((design.z * null_sd + float(ndtri(target)) * sd) / distance) ** 2
    if design.sides == 1 or design.method != "arcsine":
        return near
    return _root(lambda n: power(p_c, p_t, n, design) - target, near * 1e-6, near * (1 + 1e-9))


def mde(p_c: float, n_t: float, target: float, design: ExperimentDesign, direction: int = 1) -> float | None:
    """The least lift (a share; negative where ``direction`` is -1) found with the power ``target`` at that size.

    The inverse of ``size``, so without the second term but for the arcsine. None where not even the farthest rate is
    found. Raises BadInput as ``power`` and ``size`` do.
    """
    _rates(p_c, p_c)
    _target(target, design)
    farthest = 1 - p_c if direction > 0 else p_c

    def excess(distance: float) -> float:
        rate = min(1.0, max(0.0, p_c + math.copysign(distance, direction)))
        return power(p_c, rate, n_t, design, far_tail=design.method == "arcsine") - target

    if excess(farthest) < 0:
        return None
    return math.copysign(_root(excess, farthest * 1e-12, farthest), direction)


def ceil_size(n: float) -> int:
    """Payments rounded up; what exceeds an integer by the arithmetic's rounding error alone is that integer."""
    return math.ceil(n * (1 - 1e-12))


def arms(n_t: float, ratio: float) -> tuple[int, int]:
    """Control and treatment in whole payments: treatment rounded up, and control up at the ratio to that."""
    treatment = ceil_size(n_t)
    return ceil_size(treatment * ratio), treatment


def _scale(p_c: float, p_t: float, design: ExperimentDesign) -> tuple[float, float, float]:
    """|d|, s_0 and s_1."""
    r, method = design.ratio, design.method
    if method == "arcsine":
        sd = math.sqrt(1 + 1 / r)
        return abs(2 * math.asin(math.sqrt(p_t)) - 2 * math.asin(math.sqrt(p_c))), sd, sd
    if method == "baseline_variance":
        sd = math.sqrt(p_c * (1 - p_c) * (1 + 1 / r))
        return abs(p_t - p_c), sd, sd
    sd = math.sqrt(p_c * (1 - p_c) / r + p_t * (1 - p_t))
    mean = (r * p_c + p_t) / (r + 1)
    return abs(p_t - p_c), sd if method == "unpooled" else math.sqrt(mean * (1 - mean) * (1 + 1 / r)), sd


def _with_continuity(n: float, distance: float, r: float) -> float:
    return n / 4 * (1 + math.sqrt(1 + 2 * (r + 1) / (n * r * distance))) ** 2


def _without_continuity(n: float, distance: float, r: float) -> float:
    """The inverse of ``_with_continuity``: n_plain = (n - b/4)²/n with b = 2 (r + 1) / (r d)."""
    quarter = (r + 1) / (2 * r * distance) if distance > 0 else math.inf
    return max(n - quarter, 0.0) ** 2 / n if math.isfinite(quarter) else n


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where ``excess`` turns from negative to positive."""
    if excess(low) >= 0:
        return low
    return float(brentq(excess, low, high, xtol=high * 1e-15, rtol=4e-14, maxiter=300))


def _rates(p_c: float, p_t: float) -> None:
    if not 0 < p_c < 1:
        raise BadInput(f"must lie between 0 and 1, not {p_c:g}", "baseline")
    if not 0 <= p_t <= 1:
        raise BadInput(f"takes the baseline {p_c:g} to {p_t:g}, outside 0 to 1", "lift_pp")


def _target(target: float, design: ExperimentDesign) -> None:
    if not design.alpha < target < 1:
        raise BadInput(f"must lie above alpha ({design.alpha:g}) and below 1, not {target:g}", "power")
