"""One run against another: every figure of every policy in both, and the difference (the first less the second).

Two ways to the difference's interval (see statistics.differences): the runs are **paired** where they have the same
seed, model, trace and replications, so that a replication (world w, luck k) of the one met the very draws of the other;
else they are **independent** estimates.

Runs of different models are not paired though seed and trace be the same: their worlds are drawn with the same random
numbers about two centres that were estimated apart, so that pairing would cancel calibration errors that do not
cancel. Runs of one model over other draws do share its calibration error; the independent interval counts it twice and
is wider than it need be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from routesim.reports.metrics.catalogue import METRICS, Metric, metric
from routesim.reports.run.folder import Run, read
from routesim.reports.run.what_differs import hashes, not_recorded, replicated, what_differs
from routesim.reports.statistics.differences import independent, paired
from routesim.reports.statistics.intervals import Interval, interval
from routesim.sim.arrays import Floats
from routesim.sim.errors import BadInput

HEADLINE = ("approval_rate", "lift_pp", "order_approval_rate", "first_attempt_rate", "attempts_per_payment",
            "recovered", "never_recovered", "lost_to_outages", "lost_to_outages_usd", "darktime_min",
            "latency_ms.wait.p95", "cost_usd", "duplicate_risk", "rule_breaches")

Verdict = Literal["better", "worse", "differs", "same", "undecided", "unknown"]


@dataclass(frozen=True)
class Difference:
    """A figure of a policy in both runs. ``first`` and ``second``: as in summary.json; ``between``: first - second,
    in the figure's own unit."""

    metric: Metric
    first: Mapping[str, float | None]
    second: Mapping[str, float | None]
    between: Interval

    @property
    def verdict(self) -> Verdict:
        """Of the first run: better or worse where the interval leaves out zero and the figure has a good end."""
        low, high = self.between.low, self.between.high
        if low is None or high is None:
            return "unknown"
        if low == high == 0:
            return "same"
        if low <= 0 <= high:
            return "undecided"
        if self.metric.better == "neither":
            return "differs"
        return "better" if (low > 0) == (self.metric.better == "higher") else "worse"

    def as_json(self) -> dict[str, Any]:
        between = self.between.as_json()
        three = ("value", "low", "high")
        return {"unit": self.metric.unit, **{name: {part: found[part] for part in three} for name, found in
                                      (("first", self.first), ("second", self.second), ("difference", between))}}


@dataclass(frozen=True)
class TwoRuns:
    """Two runs' folders, read, and what each is called: the end of its path, as long as it must be to differ."""

    first: Run
    second: Run
    names: tuple[str, str]

    @cached_property
    def differs(self) -> dict[str, list[str]]:
        """What differs between the runs, sentences under headings."""
        return what_differs(self.first, self.second, self.names)

    @cached_property
    def not_recorded(self) -> list[str]:
        """What cannot be compared because a folder lacks it."""
        return not_recorded(self.first, self.second, self.names)

    @cached_property
    def why_not_paired(self) -> list[str]:
        """Why the replications are no pairs; empty where they are."""
        ours, theirs = hashes(self.first), hashes(self.second)
        hashed = {"trace": "they replay other payments", "model": "they rest on different models",
                  "uncertainty": "their models' uncertainty differs"}
        recorded = [name for name in hashed if name in ours and name in theirs]
        reasons = [hashed[name] for name in recorded if ours[name] != theirs[name]]
        if len(recorded) < len(hashed):
            reasons.append("it is not recorded of both on which model and trace they ran")
        if self.first.summary["seed"] != self.second.summary["seed"]:
            reasons.append("their seeds differ")
        if replicated(self.first) != replicated(self.second):
            reasons.append("their replications are not the same")
        return reasons

    @property
    def is_paired(self) -> bool:
        return not self.why_not_paired

    @cached_property
    def policies(self) -> list[str]:
        """Those in both runs, in the first one's order."""
        return [policy for policy in self.first.policies if policy in self.second.policies]

    @property
    def only(self) -> tuple[list[str], list[str]]:
        """The policies that only the first run has, and those that only the second has."""
        return ([policy for policy in self.first.policies if policy not in self.second.policies],
                [policy for policy in self.second.policies if policy not in self.first.policies])

    @cached_property
    def _figures(self) -> tuple[list[str], list[str]]:
        ours, theirs = (set(run.replications["figure"].unique().to_pylist()) for run in (self.first, self.second))
        known = [*METRICS, *sorted((ours | theirs) - set(METRICS))]
        return [name for name in known if name in ours], [name for name in known if name in theirs]

    @property
    def only_figures(self) -> tuple[list[str], list[str]]:
        """The figures that only the first run measured, and those that only the second did."""
        ours, theirs = self._figures
        return [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]

    @cached_property
    def _values(self) -> tuple[dict[tuple[str, str], Floats], dict[tuple[str, str], Floats]]:
        return _by_figure(self.first), _by_figure(self.second)

    def difference(self, policy: str, figure: str) -> Difference:
        """A figure of a policy that is in both runs."""
        ours, theirs = (values.get((policy, figure)) for values in self._values)
        if ours is None or theirs is None:
            between = Interval(None, None, None, None, None, None, None, "none")
        elif self.is_paired:
            between = paired(ours, theirs, metric(figure))
        else:
            between = independent(interval(ours, metric(figure)), interval(theirs, metric(figure)))
        return Difference(metric(figure), self.first.figure(policy, figure), self.second.figure(policy, figure),
                          between)

    def differences(self, policy: str) -> list[Difference]:
        """Every figure that either run has of the policy; a baseline's lift on itself is left out."""
        ours, theirs = self._figures
        names = [name for name in METRICS if name in ours or name in theirs]
        names += [name for name in dict.fromkeys([*ours, *theirs]) if name not in METRICS]
        itself = policy == self.first.summary["baseline"] == self.second.summary["baseline"]
        return [self.difference(policy, name) for name in names if not (itself and metric(name).against_baseline)]

    def as_json(self) -> dict[str, Any]:
        """The whole comparison as plain data; a difference is the first run less the second, in the figure's unit."""
        def about(run: Run, name: str) -> dict[str, Any]:
            return {"name": name, **{key: run.summary[key] for key in
                                     ("scenario", "seed", "replications", "payments", "baseline")}}

        return {
            "first": about(self.first, self.names[0]), "second": about(self.second, self.names[1]),
            "differs": self.differs, "not_recorded": self.not_recorded,
            "paired": self.is_paired, "why_not_paired": self.why_not_paired,
            "policies": {policy: {one.metric.name: one.as_json() for one in self.differences(policy)}
                         for policy in self.policies},
            "only_in_first": {"policies": self.only[0], "figures": self.only_figures[0]},
            "only_in_second": {"policies": self.only[1], "figures": self.only_figures[1]},
        }


def _by_figure(run: Run) -> dict[tuple[str, str], Floats]:
    """(policy, figure) → its values, shape (W, K): worlds and luck draws of the run in ascending order."""
    keys = replicated(run)
    worlds = {world: row for row, world in enumerate(sorted({world for world, _ in keys}))}
    lucks = {luck: column for column, luck in enumerate(sorted({luck for _, luck in keys}))}
    found: dict[tuple[str, str], Floats] = {}
    columns = (run.replications[name].to_pylist() for name in ("policy", "world", "luck", "figure", "value"))
    for policy, world, luck, figure, value in zip(*columns, strict=True):
        if (policy, figure) not in found:
            found[policy, figure] = np.full((len(worlds), len(lucks)), np.nan)
        found[policy, figure][worlds[world], lucks[luck]] = np.nan if value is None else value
    return found


def read_two(first: Path, second: Path) -> TwoRuns:
    """Read two runs' folders. Raises BadInput where one is none, both are the same, or no policy is in both."""
    ours, theirs = read(first), read(second)
    here, there = first.resolve(), second.resolve()
    if here == there:
        raise BadInput("is the same folder twice; name two runs", str(second))
    runs = TwoRuns(ours, theirs, _names(here, there))
    if not runs.policies:
        raise BadInput(f"no policy is in both runs, which are matched by name: {', '.join(ours.policies)} in {first}, "
                       f"{', '.join(theirs.policies)} here", str(second))
    return runs


def _names(first: Path, second: Path) -> tuple[str, str]:
    """The ends of two different paths, as long as they must be to differ."""
    length = next(n for n in range(1, max(len(first.parts), len(second.parts)) + 1)
                  if first.parts[-n:] != second.parts[-n:])
    return Path(*first.parts[-length:]).as_posix(), Path(*second.parts[-length:]).as_posix()
