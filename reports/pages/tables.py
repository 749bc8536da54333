"""Tables of metrics, a row per policy: each cell as text, worded by the metric's own record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routesim.reports.metrics.catalogue import METRICS, Metric
from routesim.reports.run.answers import answer, by_lift
from routesim.reports.run.folder import Run


@dataclass(frozen=True)
class TableCell:
    """A value as text, and what stands below it in small: its interval, or a second value."""

    value: str
    below: str = ""


@dataclass(frozen=True)
class TableColumn:
    """The metric of a column: with its interval below it, another metric, or nothing."""

    metric: str
    below: str | None = None
    with_interval: bool = False

    @property
    def heading(self) -> str:
        """The metrics' labels, with their units."""
        first = METRICS[self.metric].heading
        if self.below is None:
            return first
        second = METRICS[self.below].heading
        return f"{first}; {second[0].lower()}{second[1:]}"

    def cell(self, run: Run, policy: str) -> TableCell:
        """The column's cell for a policy."""
        if self.with_interval:
            return with_interval(METRICS[self.metric], run.figure(policy, self.metric))
        value = METRICS[self.metric].text(run.figure(policy, self.metric)["value"])
        if self.below is None:
            return TableCell(value)
        return TableCell(value, METRICS[self.below].text(run.figure(policy, self.below)["value"]))


@dataclass(frozen=True)
class Row:
    """A policy's cells, in the order of the columns."""

    policy: str
    cells: list[TableCell]


def with_interval(metric: Metric, figure: dict[str, float | None]) -> TableCell:
    """A figure ({value, low, high}) with its interval below."""
    return TableCell(metric.text(figure["value"]), metric.between(figure["low"], figure["high"]))


def ranked(run: Run) -> list[str]:
    """The baseline, then the others, the greatest lift first."""
    return [run.summary["baseline"], *by_lift(run)]


def rows(run: Run, columns: Sequence[TableColumn]) -> list[Row]:
    """A row for each policy, the baseline first."""
    return [Row(policy, [column.cell(run, policy) for column in columns]) for policy in ranked(run)]


def lift_cell(run: Run, policy: str) -> tuple[TableCell, str]:
    """A policy's lift with its interval, and the verdict on it; of the baseline that it is the baseline."""
    if policy == run.summary["baseline"]:
        return TableCell("baseline"), "baseline"
    return with_interval(METRICS["lift_pp"], run.figure(policy, "lift_pp")), answer(run, policy).verdict
