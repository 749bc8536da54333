"""How long a live test would have to run to show a lift."""

from __future__ import annotations

from dataclasses import dataclass

from routesim.reports.statistics.power import ExperimentDesign, arms, size


@dataclass(frozen=True)
class LiveTest:
    """A test of two equal halves: payments per variant, and days at the trace's volume."""

    lift_pp: float
    per_variant: int
    days: float


def live_test(
    baseline_rate: float, lift_pp: float, payments_per_day: float, power: float = 0.8, alpha: float = 0.05
) -> LiveTest | None:
    """Payments per variant for a two-sided test of two proportions at equal sizes (``power.size``, method pooled).

    Payments are taken as independent. None where there is no lift or a rate lies outside [0, 1] (the baseline's: is not
    between 0 and 1).
    """
    rate = baseline_rate + lift_pp / 100
    if lift_pp == 0 or not (0 < baseline_rate < 1 and 0 <= rate <= 1) or payments_per_day <= 0:
        return None
    per_variant = arms(size(baseline_rate, rate, power, ExperimentDesign(alpha)), 1.0)[1]
    return LiveTest(lift_pp, per_variant, 2 * per_variant / payments_per_day)
