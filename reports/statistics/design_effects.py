"""What correlation between payments, retries and stale or changing splits do to an A/B test, in closed form.

A design effect is the true variance of a lift over the variance that independent payments would give; a test needs that
many times the payments. ``power`` and ``experiment`` ask for the effect of clusters, the error of a test that ignores
it and the ramp's paradox; ``retried_orders`` and ``retry_contamination`` are for who chooses between attempts, payments
and orders as the unit before a test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtr, ndtri

from routesim.sim.errors import BadInput


def cluster_effect(size: float, icc: float, cv: float = 0.0) -> float:
    """The design effect of bucketing whole clusters (customers, orders) of ``size`` payments on average.

    1 + ((cv² + 1) m - 1) icc (Eldridge, Ashby and Kerry 2006, International Journal of Epidemiology 35), with ``icc``
    the correlation of two payments of a cluster and ``cv`` the coefficient of variation of cluster sizes; at cv = 0 it
    is Kish's 1 + (m - 1) icc. Raises BadInput for sizes below 1, an icc outside [0, 1] or a negative cv.
    """
    for right, message, where in ((1 <= size < math.inf, f"must be at least 1, not {size:g}", "--cluster-size"),
                                  (0 <= icc <= 1, f"must lie between 0 and 1, not {icc:g}", "--icc"),
                                  (0 <= cv < math.inf, f"must be at least 0, not {cv:g}", "--cluster-cv")):
        if not right:
            raise BadInput(message, where)
    return 1 + ((cv**2 + 1) * size - 1) * icc


def naive_false_positives(effect: float, alpha: float = 0.05) -> float:
    """How often an A/A test is called when the design effect is ignored: 2 Φ(-z_{1-alpha/2} / √effect)."""
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(effect)))


@dataclass(frozen=True)
class RetriedOrders:
    """Orders whose failed attempts may be retried, and what a z test by attempt makes of them.

    ``order_rate``: P(approved). ``attempts_per_order``. ``attempt_rate``: approvals per attempt.
    ``variance_per_order``: of the attempt rate by the delta method, Var(S - R A) / E[A]² for approvals S, attempts A
    and R = E[S] / E[A].
    ``attempt_effect``: its variance over that of independent attempts; above 1 the z test by attempt is too bold.
    """

    order_rate: float
    attempts_per_order: float
    attempt_rate: float
    variance_per_order: float
    attempt_effect: float


def retried_orders(first: float, retried: float, later: float, retries: int = 1) -> RetriedOrders:
    """Orders approved at once with chance ``first``; a failed attempt is retried with chance ``retried``, at most
    ``retries`` times, and a retry approved with chance ``later``. Raises BadInput for chances outside [0, 1].
    """
    _shares(first=first, retried=retried, later=later)
    ways = [(first, 1, 1)]  # chance, approvals, attempts
    failed = 1 - first
    for attempts in range(1, retries + 1):
        ways += [(failed * (1 - retried), 0, attempts), (failed * retried * later, 1, attempts + 1)]
        failed *= retried * (1 - later)
    ways.append((failed, 0, retries + 1))
    approved = sum(chance * s for chance, s, _ in ways)
    mean = sum(chance * a for chance, _, a in ways)
    rate = approved / mean
    variance = sum(chance * (s - rate * a) ** 2 for chance, s, a in ways) / mean**2
    naive = rate * (1 - rate) / mean
    return RetriedOrders(approved, mean, rate, variance, variance / naive if naive > 0 else 1.0)


@dataclass(frozen=True)
class Contamination:
    """The order lift when retries stay in their arm, when they are bucketed anew, the ratio, and what it costs.

    ``size_factor`` = 1 / attenuation²: how many times the payments the blurred test needs.
    """

    sticky_lift: float
    rebucketed_lift: float
    attenuation: float | None
    size_factor: float | None


def retry_contamination(first: tuple[float, float], second: tuple[float, float], retried: float,
                        treatment_share: float = 0.5) -> Contamination:
    """Contamination where a retry gets a new id, and so a new bucket; the order counts for its first arm.

    ``first``, ``second``: approval chances of the first attempt and of the retry, each (control, treatment).
    """
    _shares(retried=retried, treatment_share=treatment_share, **{f"first[{i}]": p for i, p in enumerate(first)},
            **{f"second[{i}]": p for i, p in enumerate(second)})
    mixed = second[0] * (1 - treatment_share) + second[1] * treatment_share
    orders = [retried_orders(p, retried, q).order_rate for p, q in zip(first, second, strict=True)]
    blurred = [retried_orders(p, retried, mixed).order_rate for p in first]
    sticky, moved = orders[1] - orders[0], blurred[1] - blurred[0]
    ratio = moved / sticky if sticky != 0 else None
    return Contamination(sticky, moved, ratio, 1 / ratio**2 if ratio else None)


@dataclass(frozen=True)
class Phase:
    """A stretch of a test with one split: its payments (or any measure of volume) and the rates of the arms."""

    volume: float
    treatment_share: float
    control_rate: float
    treatment_rate: float


@dataclass(frozen=True)
class RampedLift:
    """The lift from all payments together, and by phase (Mantel and Haenszel's weights n_c n_t / (n_c + n_t))."""

    pooled: float
    stratified: float


def ramped_lift(phases: Sequence[Phase]) -> RampedLift:
    """What a test shows when the split changes while the level of approvals drifts.

    The pooled lift is Simpson's paradox at work: treatment's payments are not spread over the phases as control's are,
    so a drift common to both arms shows as a lift. Raises BadInput unless each arm gets payments in some phase.
    """
    for phase in phases:
        _shares(treatment_share=phase.treatment_share, control_rate=phase.control_rate,
                treatment_rate=phase.treatment_rate)
        if not 0 <= phase.volume < math.inf:
            raise BadInput(f"must be at least 0, not {phase.volume:g}", "volume")
    n_t = [phase.volume * phase.treatment_share for phase in phases]
    n_c = [phase.volume * (1 - phase.treatment_share) for phase in phases]
    weight = [c * t / (c + t) if c + t > 0 else 0.0 for c, t in zip(n_c, n_t, strict=True)]
    if sum(weight) <= 0:
        raise BadInput("some phase must give payments to both arms", "phases")
    pooled = (sum(n * phase.treatment_rate for n, phase in zip(n_t, phases, strict=True)) / sum(n_t)
              - sum(n * phase.control_rate for n, phase in zip(n_c, phases, strict=True)) / sum(n_c))
    stratified = sum(w * (phase.treatment_rate - phase.control_rate) for w, phase in zip(weight, phases, strict=True))
    return RampedLift(pooled, stratified / sum(weight))


def _shares(**named: float) -> None:
    for name, value in named.items():
        if not 0 <= value <= 1:
            raise BadInput(f"must lie between 0 and 1, not {value:g}", name)
