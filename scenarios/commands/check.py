"""`routesim check`: reads, examines, tells, and keeps the findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from routesim.calibration.check.examine import check as examine
from routesim.calibration.check.findings import FALSE_ALARM, Finding
from routesim.calibration.history.read import read_history
from routesim.sim.files import write_text
from routesim.sim.model import CalibratedModel

_SHOWN = 12


def run_check(model: Path, source: str | Path, profile: str | None, start: datetime | None, end: datetime | None,
              out_dir: Path | None, workers: int | None, console: Console,
              told: Callable[[int, int], None]) -> bool:
    """Whether the model foretells the history; the findings go to the console and, with ``out_dir``, to check.json
    and check.html."""
    calibrated = CalibratedModel.load(model)
    history = read_history(source, profile, start, end)
    findings = examine(calibrated, history, workers, told=told)
    failed = [f for f in findings if not f.passed]
    if out_dir is not None:
        document = {"passed": not failed, "false_alarm": FALSE_ALARM,
                    "findings": [asdict(f) for f in findings]}
        write_text(out_dir / "check.json", json.dumps(document, indent=1) + "\n")
        from routesim.reports.pages.check import render  # draws with matplotlib, which takes a second to import

        render(out_dir / "check.html", [asdict(f) for f in findings], FALSE_ALARM,
               f"model {calibrated.model.name} · {history.log.payments.num_rows:,} payments")
    console.print(_table(findings))
    if failed:
        console.print(f"[red bold]{len(failed)} of {len(findings)} figures are not foretold.[/] Look at:",
                      highlight=False)
        for each in failed:
            console.print(f"  {each.figure}: {each.look_at}", highlight=False)
    else:
        console.print(f"[green]All {len(findings)} figures are foretold[/] (chance of a false alarm over all of them: "
                      f"{FALSE_ALARM:.0%}).", highlight=False)
    return not failed


def _table(findings: list[Finding]) -> Table:
    """The least likely figures."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left",
                  title=f"the {min(_SHOWN, len(findings))} least likely of {len(findings)} figures")
    table.add_column("figure", overflow="fold")
    for name in ("history", "foretold", "± sd", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in findings[:_SHOWN]:
        table.add_row(each.figure, f"{each.observed:.4g}", f"{each.expected:.4g}", f"{each.sd:.2g}",
                      f"{each.p_value:.2g}", style="" if each.passed else "red")
    return table
