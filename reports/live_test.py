"""How long a live test would have to run to show a lift."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class LiveTest:
    """A test of two equal halves: payments per variant, and days at the trace's volume."""

    lift_pp: float
    per_variant: int
    days: float


def live_test(
    baseline_rate: float, lift_pp: float, payments_per_day: float, power: float = 0.8, alpha: float = 0.05
) -> LiveTest | None:
    """Payments per variant for a two-sided test of two proportions p and q = p + lift at equal sizes:

        n = [z_{1-alpha/2} √(2 m (1-m)) + z_{power} √(p (1-p) + q (1-q))]² / (p - q)²,  m = (p + q) / 2

    (Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions, 3rd ed., eq. 4.14, without the continuity
    correction). Payments are taken as independent. None where there is no lift or a rate lies outside [0, 1].
    """
    p, q = baseline_rate, baseline_rate + lift_pp / 100
    if lift_pp == 0 or not (0 <= p <= 1 and 0 <= q <= 1) or payments_per_day <= 0:
        return None
    m = (p + q) / 2
    z_alpha, z_power = float(stats.norm.ppf(1 - alpha / 2)), float(stats.norm.ppf(power))
    root = z_alpha * math.sqrt(2 * m * (1 - m)) + z_power * math.sqrt(p * (1 - p) + q * (1 - q))
    per_variant = math.ceil(root**2 / (p - q) ** 2)
    return LiveTest(lift_pp, per_variant, 2 * per_variant / payments_per_day)
