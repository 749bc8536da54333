"""Every policy's figures with their intervals: what summary.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.catalogue import METRICS, metric
from routesim.reports.metrics.measure import Measured
from routesim.reports.metrics.tallies import Series
from routesim.reports.outages.costs import summary as outage_summary
from routesim.reports.run.off_policy import judged
from routesim.reports.statistics.intervals import LEVEL, Interval, interval, tidy
from routesim.sim.arrays import Floats

REPLICATIONS = pa.schema([
    pa.field("policy", pa.string()),
    pa.field("world", pa.int32()),
    pa.field("luck", pa.int32()),
    pa.field("figure", pa.string()),
    pa.field("value", pa.float64()),
])


@dataclass(frozen=True)
class Comparison:
    """The measured replications of all policies of a scenario.

    ``measured`` maps (policy, world, luck) to its figures; ``policies`` are the names in the scenario's order;
    ``payments`` is the number of measured payments of the trace (by default the baseline's mean, comebacks included);
    ``off_policy`` the estimates of the cross-check, to be judged here against the simulated first-attempt lifts;
    ``costs`` (OUTAGE_COSTS) what the outages cost each policy.
    Raises ValueError where a policy has no replication or the baseline is not among the policies.
    """

    scenario: str
    seed: int
    baseline: str
    policies: Sequence[str]
    measured: Mapping[tuple[str, int, int], Measured]
    payments: int | None = None
    off_policy: Mapping[str, Any] | None = None
    costs: pa.Table | None = None

    def __post_init__(self) -> None:
        ran = {policy for policy, _, _ in self.measured}
        missing = [policy for policy in self.policies if policy not in ran]
        if missing:
            raise ValueError(f"no replication of {', '.join(missing)}")
        if self.baseline not in self.policies:
            raise ValueError(f"the baseline {self.baseline!r} is not among the policies")

    def values(self, policy: str, figure: str) -> Floats:
        """The figure in every replication of the policy, shape (W, K); NaN where not run or undefined.

        Rows are the worlds and columns the luck draws that any policy was run under, in ascending order.
        """
        worlds = sorted({world for _, world, _ in self.measured})
        lucks = sorted({luck for _, _, luck in self.measured})
        table = np.full((len(worlds), len(lucks)), np.nan)
        for i, world in enumerate(worlds):
            for j, luck in enumerate(lucks):
                found = self.measured.get((policy, world, luck))
                if found is not None:
                    table[i, j] = found.figures.get(figure, np.nan)
        if policy == self.baseline and metric(figure).against_baseline:
            table[np.isnan(table)] = 0.0  # the baseline does not differ from itself
        return table

    def interval(self, policy: str, figure: str) -> Interval:
        """The figure's mean and interval for one policy."""
        return interval(self.values(policy, figure), metric(figure))

    def paired_efficiency(self, policy: str) -> float | None:
        """sd of the paired lift / that of independent runs, √(var(policy) + var(baseline)).

        Below 1, common random numbers help: with the ratio r, independent runs would need 1/r² times as many
        replications for the same precision. None with fewer than two replications or without any spread.
        """
        ours, theirs = self.values(policy, "approval_rate"), self.values(self.baseline, "approval_rate")
        both = np.isfinite(ours) & np.isfinite(theirs)
        if policy == self.baseline or both.sum() < 2:
            return None
        unpaired = np.sqrt(ours[both].var(ddof=1) + theirs[both].var(ddof=1))
        return tidy(float((ours[both] - theirs[both]).std(ddof=1) / unpaired)) if unpaired > 0 else None

    def summary(self) -> dict[str, Any]:
        """The document of summary.json. Each figure is {value, low, high, one_run_low, one_run_high}."""
        worlds = len({world for _, world, _ in self.measured})
        luck = len({luck for _, _, luck in self.measured})
        payments = self.payments
        if payments is None:
            payments = round(float(np.nanmean(self.values(self.baseline, "payments"))))
        document = {
            "scenario": self.scenario,
            "seed": self.seed,
            "replications": {"worlds": worlds, "luck": luck},
            "payments": payments,
            "baseline": self.baseline,
            "policies": {policy: self._figures(policy) for policy in self.policies},
            "intervals": {
                "level": LEVEL,
                "basis": self.interval(self.policies[0], "approval_rate").basis,
            },
            "paired_efficiency": {policy: self.paired_efficiency(policy) for policy in self.policies},
        }
        if self.off_policy:
            simulated = {policy: self.interval(policy, "first_attempt_lift_pp").as_json() for policy in self.policies}
            document["off_policy"] = judged(self.off_policy, simulated)
        return document

    def _figures(self, policy: str) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for name in METRICS:
            *path, last = name.split(".")
            place = nested
            for part in path:
                place = place.setdefault(part, {})
            place[last] = self.interval(policy, name).as_json()
        if self.costs is not None and self.costs.num_rows:
            ran = {(world, luck) for one, world, luck in self.measured if one == policy}
            nested["outage_costs"] = outage_summary(self.costs, policy, ran)
        return nested

    def replications_table(self) -> pa.Table:
        """Every figure of every replication: policy, world, luck, figure, value."""
        order = {policy: i for i, policy in enumerate(self.policies)}
        keys = sorted((key for key in self.measured if key[0] in order), key=lambda key: (order[key[0]], *key[1:]))
        rows = [
            (*key, name, self.measured[key].figures.get(name, float("nan")))
            for key in keys for name in METRICS
        ]
        columns = list(zip(*rows, strict=True)) or [()] * len(REPLICATIONS)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, REPLICATIONS, strict=True)]
        return pa.table(arrays, schema=REPLICATIONS)

    def series(self, policy: str) -> Series:
        """The tallies of the policy, summed over its replications in order of world and luck."""
        return reduce(add, (self.measured[key].series for key in sorted(self.measured) if key[0] == policy))
