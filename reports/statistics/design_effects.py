"""What correlation between payments and changing splits do to an A/B test, in closed form.

A design effect is the true variance of a lift over the variance that independent payments would give; a test needs that
many times the payments.
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
    for right, message, where in ((1 <= size < math.inf, f"must be at least 1, not {size:g}", "cluster_size"),
                                  (0 <= icc <= 1, f"must lie between 0 and 1, not {icc:g}", "icc"),
                                  (0 <= cv < math.inf, f"must be at least 0, not {cv:g}", "cluster_cv")):
        if not right:
            raise BadInput(message, where)
    return 1 + ((cv**2 + 1) * size - 1) * icc


def naive_false_positives(effect: float, alpha: float = 0.05) -> float:
    """How often an A/A test is called when the design effect is ignored: 2 Φ(-z_{1-alpha/2} / √effect)."""
    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(effect)))


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
