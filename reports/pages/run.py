"""The run's page: one self-contained HTML file that answers first and explains after.

Reads the run's folder (see run.folder). From ``manifest.json``, each key optional: ``seed``; ``versions`` (name →
version); ``git_commit``; ``assumed`` and ``warnings`` (lists of sentences); ``model`` and ``trace`` (name → value,
shown as they are); ``hashes`` (name → hash).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from routesim.reports.metrics.catalogue import METRICS, OUTAGE_METRICS, Metric
from routesim.reports.pages.drawing import policy_colours
from routesim.reports.pages.frame import facts, page, sentences
from routesim.reports.pages.live_test_section import live_tests, payments_per_day
from routesim.reports.pages.outage_section import cost_tables, timeline_picture
from routesim.reports.pages.retry_section import RETRIES, late_retries
from routesim.reports.pages.run_pictures import pictures
from routesim.reports.pages.tables import TableCell, TableColumn, lift_cell, rows
from routesim.reports.run.answers import answer, by_lift, headline
from routesim.reports.run.folder import Run, RunFolder, read
from routesim.reports.run.off_policy import SHOWN, alarms, checked
from routesim.reports.words import between, percent

_WARNINGS_SHOWN = 3  # the others are folded away, so that the answer stays on the first screen

_BASIS = {
    "worlds and luck": "They hold both the calibration's uncertainty and luck.",
    "worlds": "With one luck draw per world, luck cannot be separated from calibration error, and the intervals are "
              "wider than they need be.",
    "luck": "Only one world was simulated: the intervals hold luck alone, and none of the calibration's uncertainty. "
            "They are too narrow to decide on.",
    "none": "With a single replication there are no intervals at all: nothing here says how certain the figures are.",
}

SIDE_BY_SIDE = (
    TableColumn("approval_rate"), TableColumn("order_approval_rate"),
    TableColumn("lost_to_outages", below="lost_to_outages_usd"), TableColumn("darktime_min"),
    TableColumn("latency_ms.wait.p95"), TableColumn("attempts_per_payment"), TableColumn("cost_usd"),
)
"""The columns of the table of policies, after the lift."""

SUPPORT = (TableColumn("unsupported_share"), TableColumn("lift_unsupported_pp"))


@dataclass(frozen=True)
class MetricRow:
    """A metric with its value and interval under every policy, in the scenario's order."""

    metric: Metric
    cells: list[TableCell]


def pairing(run: Run) -> str:
    """What common random numbers leave of the spread in lift, over the policies; empty where unknown."""
    left = [value for value in (run.summary.get("paired_efficiency") or {}).values() if value is not None]
    if not left:
        return ""
    low, high = percent(min(left), 0), percent(max(left), 0)
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def every_metric(run: Run) -> list[MetricRow]:
    """All metrics of all policies, for the table at the end."""
    table = []
    for name, metric in METRICS.items():
        figures = [run.figure(policy, name) for policy in run.policies]
        table.append(MetricRow(metric, [
            TableCell(metric.in_unit(figure["value"]), between(figure["low"], figure["high"], metric.in_unit))
            for figure in figures]))
    return table


def html(run: Run) -> str:
    """The page as text."""
    intervals = run.summary.get("intervals") or {}
    basis = intervals.get("basis", "none")
    warnings = sentences(run.manifest, "warnings")
    off_policy = run.summary.get("off_policy") or {}
    return page(
        "run.html",
        summary=run.summary,
        baseline=run.summary["baseline"],
        headline=headline(run),
        answers=[answer(run, name) for name in by_lift(run)],
        colours=policy_colours(run),
        side_by_side=[(row, *lift_cell(run, row.policy)) for row in rows(run, SIDE_BY_SIDE)],
        columns=SIDE_BY_SIDE,
        basis=_BASIS.get(basis, ""),
        narrow=basis in ("luck", "none"),
        pairing=pairing(run),
        tests=live_tests(run),
        per_day=payments_per_day(run),
        pictures=pictures(run),
        assumed=sentences(run.manifest, "assumed"),
        alarms=alarms(off_policy),
        check=off_policy,
        methods=SHOWN,
        checked=checked(off_policy, by_lift(run)),
        warnings=warnings[:_WARNINGS_SHOWN],
        more_warnings=warnings[_WARNINGS_SHOWN:],
        costs=cost_tables(run),
        outage_metrics=OUTAGE_METRICS.values(),
        outage=timeline_picture(run),
        retry_columns=RETRIES,
        retries=rows(run, RETRIES),
        late_retries=late_retries(run),
        support_columns=SUPPORT,
        support=rows(run, SUPPORT),
        provenance=(("Model", facts(run.manifest, "model")), ("Trace", facts(run.manifest, "trace")),
                    ("Versions and hashes", facts(run.manifest, "versions", "git_commit", "hashes"))),
        policies=run.policies,
        every_metric=every_metric(run),
        scenario_text=run.scenario_text,
    )


def render(run_dir: Path) -> Path:
    """Write the page into a run's folder from what the folder holds; its path. Raises BadInput where it is not a
    run's."""
    return RunFolder(run_dir).write_page(lambda: html(read(run_dir)))
