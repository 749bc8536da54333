"""Two runs on one self-contained page: what differs between them, and what changes in the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from routesim.reports.metrics.catalogue import METRICS, Metric
from routesim.reports.pages.frame import facts, page, write_page
from routesim.reports.pages.tables import TableCell, TableColumn, lift_cell
from routesim.reports.run import answers
from routesim.reports.run.folder import Run
from routesim.reports.run.two_runs import HEADLINE, Difference, TwoRuns
from routesim.reports.run.two_runs_answers import (
    decisions,
    difference_interval,
    difference_text,
    headline,
    how,
    sentence,
    value_digits,
    warnings,
)
from routesim.reports.words import between
from routesim.sim.errors import BadInput

_ALONE = (TableColumn("approval_rate"), TableColumn("latency_ms.wait.p95"), TableColumn("cost_usd"))


@dataclass(frozen=True)
class DifferenceRow:
    """A metric in both runs and its difference, as text."""

    metric: Metric
    verdict: str
    first: TableCell
    second: TableCell
    difference: TableCell


def row(one: Difference) -> DifferenceRow:
    """A metric in both runs and its difference, as text."""
    digits = value_digits(one)

    def show(value: float | None) -> str:
        return one.metric.text(value, digits)

    first, second = (TableCell(show(of["value"]), between(of["low"], of["high"], show))
                     for of in (one.first, one.second))
    apart = TableCell("0", "in every replication") if one.verdict == "same" else \
        TableCell(difference_text(one, one.between.value), difference_interval(one))
    return DifferenceRow(one.metric, one.verdict, first, second, apart)


def _alone(run: Run, name: str, policies: list[str]) -> list[tuple[str, str, TableCell, list[TableCell]]]:
    return [(policy, name, lift_cell(run, policy)[0], [column.cell(run, policy) for column in _ALONE])
            for policy in policies]


def html(runs: TwoRuns) -> str:
    """The page as text."""
    tables = {}
    for policy in runs.policies:
        every = [row(one) for one in runs.differences(policy)
                 if one.first["value"] is not None or one.second["value"] is not None]
        tables[policy] = ([one for name in HEADLINE for one in every if one.metric.name == name], every)
    both = ((runs.first, runs.names[0]), (runs.second, runs.names[1]))
    return page(
        "two_runs.html",
        names=runs.names, runs=both, headline=headline(runs), how=how(runs), paired=runs.is_paired,
        warnings=warnings(runs), differs=runs.differs, not_recorded=runs.not_recorded,
        answers=[(policy, *sentence(runs, policy)) for policy in runs.policies], own_headline=answers.headline,
        decisions=decisions(runs), tables=tables,
        alone=[*_alone(*both[0], runs.only[0]), *_alone(*both[1], runs.only[1])], alone_columns=_ALONE,
        only_figures=[(name, figures) for name, figures in zip(runs.names, runs.only_figures, strict=True) if figures],
        metrics=[METRICS[name] for name in HEADLINE],
        provenance=[(name, facts(run.manifest, "versions", "hashes")) for run, name in both])


def page_path(runs: TwoRuns, out: Path | None) -> Path:
    """Where the page goes: ``out``, or a file in the first run's folder. Raises BadInput for an ``out`` that is no
    page's name."""
    if out is None:
        return runs.first.folder.comparison(runs.names[1])
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise BadInput("is no name for a page; give a file that ends in .html", f"--out {out}")
    return out


def render_two(runs: TwoRuns, out: Path | None = None) -> Path:
    """Write the page, whole or not at all; its path."""
    return write_page(page_path(runs, out), html(runs))
