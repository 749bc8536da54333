"""The summary as a table for the terminal, at most 80 columns wide."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from routesim.reports.pages.pictures import by_lift
from routesim.reports.pages.run import answer, headline
from routesim.reports.run.folder import Run
from routesim.reports.words import duration, number, percent, signed

_COLOUR = {"better": "green", "worse": "red", "undecided": "default", "unknown": "default"}


def summary_table(run: Run) -> RenderableType:
    """The overall answer and one line per policy: lift with its interval, approval, loss to outages, wait, cost."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("policy", overflow="fold", max_width=18)
    for name in ("lift pp", "95 % interval", "approval", "lost", "wait p95", "cost USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in [run.summary["baseline"], *by_lift(run)]:
        found = run.figure(name, "lift_pp")
        is_baseline = name == run.summary["baseline"]
        between = "" if is_baseline or found["low"] is None else f"{signed(found['low'])} to {signed(found['high'])}"
        table.add_row(
            Text(name),
            Text("baseline" if is_baseline else signed(found["value"]),
                 style="dim" if is_baseline else _COLOUR[answer(run, name).verdict]),
            between,
            percent(run.figure(name, "approval_rate")["value"]),
            number(run.figure(name, "lost_to_outages")["value"]),
            duration(run.figure(name, "latency_ms.wait.p95")["value"]),
            number(run.figure(name, "cost_usd")["value"]),
        )
    return Group(Text(headline(run), style="bold"), Text(), table)
