"""What a run, two runs, an experiment and a check have found, for the terminal, at most 80 columns wide.

Whatever stems from data is shown as it is: rich's markup is not read in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from routesim.reports.experiment.rules import RULES
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.pages.tables import lift_cell, ranked
from routesim.reports.pages.two_runs import row
from routesim.reports.run import two_runs_answers
from routesim.reports.run.answers import headline
from routesim.reports.run.folder import Run
from routesim.reports.run.two_runs import TwoRuns
from routesim.reports.words import listed, number, percent

_COLOUR = {"better": "green", "worse": "red", "baseline": "dim"}
_SUMMARY = {"approval_rate": "approval", "lost_to_outages": "lost", "latency_ms.wait.p95": "wait p95",
            "cost_usd": "cost USD"}
"""Metrics of the summary and their headings, which are short, since all must fit in 80 columns."""
_IN_TERMINAL = ("approval_rate", "lift_pp", "lost_to_outages", "latency_ms.wait.p95", "cost_usd")
_SENTENCES_IN_TERMINAL = 8
_FINDINGS_IN_TERMINAL = 12


def summary_table(run: Run) -> RenderableType:
    """The overall answer and one line per policy: lift with its interval, approval, loss to outages, wait, cost."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("policy", overflow="fold", max_width=18)
    for name in ("lift pp", "95 % interval", *_SUMMARY.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in ranked(run):
        lift, verdict = lift_cell(run, policy)
        values = [METRICS[name].text(run.figure(policy, name)["value"]) for name in _SUMMARY]
        table.add_row(Text(policy), Text(lift.value, style=_COLOUR.get(verdict, "default")),
                      *(Text(text) for text in (lift.below, *values)))
    return Group(Text(headline(run), style="bold"), Text(), table)


def differences_table(runs: TwoRuns) -> RenderableType:
    """For the terminal, at most 80 columns wide: the answer, what differs, and a few figures of each policy."""
    lines: list[Any] = [Text(two_runs_answers.headline(runs), style="bold"), Text()]
    sentences = [*(one for heading, some in runs.differs.items() if heading != "In name only" for one in some),
                 *runs.not_recorded]
    lines += [Text(f"· {one}") for one in sentences[:_SENTENCES_IN_TERMINAL]]
    if len(sentences) > _SENTENCES_IN_TERMINAL:
        lines.append(Text(f"· and {len(sentences) - _SENTENCES_IN_TERMINAL} more, which the page lists", style="dim"))
    lines += [Text(one, style="yellow") for one in two_runs_answers.warnings(runs)]
    for name, policies in zip(runs.names, runs.only, strict=True):
        if policies:
            lines.append(Text(f"only in {name}: {', '.join(policies)}"))
    how_found = "paired" if runs.is_paired else f"independent estimates, for {listed(runs.why_not_paired)}"
    lines += [Text(), Text(f"first: {runs.names[0]}, second: {runs.names[1]}; difference: first less second, "
                           f"{how_found}", style="dim")]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", overflow="fold", max_width=26)
    for name in ("first", "second", "difference", "95 % interval"):
        table.add_column(name, justify="right", overflow="fold")
    for policy in runs.policies:
        table.add_row(Text(policy, style="bold"))
        for one in runs.differences(policy):
            if one.metric.name in _IN_TERMINAL:
                found = row(one)
                table.add_row(Text(f"  {one.metric.heading}"), Text(found.first.value), Text(found.second.value),
                              Text(found.difference.value, style=_COLOUR.get(one.verdict, "default")),
                              Text(found.difference.below))
    return Group(*lines, table)


def experiment_table(figures: Mapping[str, Any]) -> RenderableType:
    """How often each stopping rule declares each variant the winner, in the figures of experiment.json."""
    control, *treatments = figures["variants"]
    count = figures["replications"]["worlds"] * figures["replications"]["luck"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(("rule", *treatments, control, "all alike", "day")):
        table.add_column(Text(column), justify="left" if place == 0 else "right", no_wrap=place == 0)
    for rule, found in figures["rules"]["truth"].items():
        chances = [found["p_wins"][name]["value"] for name in (*treatments, control)]
        chances.append(figures["rules"]["alike"][rule]["p_any"]["value"])
        table.add_row(RULES[rule].label, *(percent(chance, 1) for chance in chances),
                      number(found["mean_day_if_called"]["value"], 1))
    return Group(Text(f"Winners that each rule declares in {count} simulated tests, and in as many where all variants "
                      f"are {control}:"), table, Text())


def findings_table(findings: Sequence[Mapping[str, Any]], false_alarm: float) -> RenderableType:
    """The least likely figures of a check, and its verdict; each finding as pages.check takes it."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left",
                  title=f"the {min(_FINDINGS_IN_TERMINAL, len(findings))} least likely of {len(findings)} figures")
    table.add_column("figure", overflow="fold")
    for name in ("history", "predicted", "± sd", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in findings[:_FINDINGS_IN_TERMINAL]:
        table.add_row(Text(one["figure"]), f"{one['observed']:.4g}", f"{one['expected']:.4g}", f"{one['sd']:.2g}",
                      f"{one['p_value']:.2g}", style="" if one["passed"] else "red")
    failed = [one for one in findings if not one["passed"]]
    if not failed:
        return Group(table, Text.assemble(
            (f"All {len(findings)} figures are predicted", "green"),
            f" (chance of a false alarm over all of them: {false_alarm:.0%})."))
    return Group(table, Text.assemble(
        (f"{len(failed)} of {len(findings)} figures are not predicted.", "bold red"), " Look at:"),
        *(Text(f"  {one['figure']}: {one['look_at']}") for one in failed))
