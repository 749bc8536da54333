"""How many payments and days a live test needs, and what it can find."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from routesim.reports.statistics.design_effects import cluster_effect
from routesim.reports.statistics.power import LIFTS_PP, ExperimentDesign, arms, mde, ratio_of_split, size
from routesim.reports.statistics.power import power as power_of
from routesim.sim.errors import BadInput

_COLUMNS = ("lift_pp", "n_control", "n_treatment", "days")


@dataclass(frozen=True, eq=False)
class PowerResult:
    """A live test's size, and what it can find.

    ``n_control`` and ``n_treatment``: payments in each arm; ``n_treatment_exact``: before rounding up. ``power``: the
    chance of finding the lift with those whole sizes, so a little above what was asked for. ``mde_pp``: the least lift
    (pp), in the direction of the one given, that those sizes find with the power ``target_power``; None where there is
    none. ``design_effect``: the variance of the lift over that of independent payments. ``clusters_control`` and
    ``clusters_treatment``: customers or orders in each arm, where whole ones are bucketed. ``days``: how long the test
    takes, and ``days_by_lift`` (lift_pp, n_control, n_treatment, days) that of other lifts, by the method
    ``days_by_lift_method``, where the payments a day are known.

    >>> found = rs.power(0.85, 1.0, per_day=2000)
    >>> found.power >= found.target_power and found.n_control == found.n_treatment
    True
    >>> found.days_by_lift["days"].is_monotonic_decreasing  # a larger lift shows sooner
    True
    """

    n_control: int
    n_treatment: int
    n_treatment_exact: float
    power: float
    mde_pp: float | None
    target_power: float
    alpha: float
    sides: int
    split_bps: tuple[int, int]
    method: str
    design_effect: float
    clusters_control: int | None
    clusters_treatment: int | None
    days: float | None
    days_by_lift: pd.DataFrame
    days_by_lift_method: str | None

    def as_json(self) -> dict[str, Any]:
        """The figures by name; what was not asked for is left out."""
        values = {name: value for name, value in vars(self).items() if value is not None or name == "mde_pp"}
        values["split_bps"] = list(self.split_bps)
        values["days_by_lift"] = self.days_by_lift.to_dict("records")
        if self.days is None:
            del values["days_by_lift"]
        return values

    def __repr__(self) -> str:
        days = "" if self.days is None else f", {math.ceil(self.days):,} days"
        return (f"PowerResult({self.n_control:,} payments in control and {self.n_treatment:,} in treatment, "
                f"power {self.power:.3f}{days})")


def power(baseline: float, lift_pp: float, *, n_treatment: float | None = None, power: float = 0.8,
          alpha: float = 0.05, sides: int = 2, split_bps: tuple[int, int] = (5_000, 5_000), method: str = "pooled",
          cluster_size: float | None = None, icc: float | None = None, cluster_cv: float | None = None,
          per_day: float | None = None) -> PowerResult:
    """How large and how long a live test of two approval rates must be, or what one of ``n_treatment`` payments finds.

    ``baseline``: control's approval rate, a share; ``lift_pp``: the true lift of treatment, percentage points;
    ``power``: the one wanted; ``split_bps``: the shares of control and treatment, basis points; ``method``: see
    ``Design`` (pooled, unpooled, arcsine, baseline_variance, continuity or exact). Where whole customers or orders are
    bucketed, ``cluster_size`` is their mean number of payments, ``icc`` the correlation of two of them and
    ``cluster_cv`` the sd of that number over its mean. ``per_day``: payments a day, both arms together. Raises BadInput
    for values that no test can have.

    >>> rs.power(0.85, 1.0).n_treatment  # (1.96 √(2 · .855 · .145) + .8416 √(.85 · .15 + .86 · .14))² / .01²
    19461
    >>> rs.power(0.85, 1.0, cluster_size=3, icc=0.5).design_effect  # 1 + (3 - 1) .5
    2.0
    """
    if (cluster_size is None) != (icc is None) or (cluster_cv is not None and cluster_size is None):
        raise BadInput("whole customers or orders need both their mean number of payments and the correlation of two "
                       "of them", "icc" if icc is None else "cluster_size")
    if per_day is not None and not 0 < per_day < math.inf:
        raise BadInput(f"must be above 0, not {per_day:g}", "per_day")
    effect = 1.0 if cluster_size is None or icc is None else cluster_effect(cluster_size, icc, cluster_cv or 0.0)
    design = ExperimentDesign(alpha, sides, ratio_of_split(*split_bps), method)
    rate, sign = baseline + lift_pp / 100, -1 if lift_pp < 0 else 1
    exact = effect * size(baseline, rate, power, design) if n_treatment is None else float(n_treatment)
    control, treatment = arms(exact, design.ratio)
    reached = power_of(baseline, rate, treatment / effect, design)
    least = mde(baseline, treatment / effect, power, design, sign)
    # the exact size of each lift would take minutes
    quick = ExperimentDesign(alpha, sides, design.ratio, "pooled" if design.method == "exact" else design.method)
    rows = []
    for each in LIFTS_PP:
        other = baseline + sign * each / 100
        if per_day is not None and 0 <= other <= 1:
            sizes = arms(effect * size(baseline, other, power, quick), design.ratio)
            rows.append((sign * each, *sizes, sum(sizes) / per_day))
    return PowerResult(
        control, treatment, exact, reached, None if least is None else 100 * least, power, alpha, sides, split_bps,
        design.method, effect,
        None if cluster_size is None else math.ceil(control / cluster_size),
        None if cluster_size is None else math.ceil(treatment / cluster_size),
        None if per_day is None else (control + treatment) / per_day,
        pd.DataFrame(rows, columns=_COLUMNS), None if per_day is None else quick.method)
