"""`routesim check`: reads, examines, tells, and keeps the findings."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console

from routesim.calibration.check.examine import check as examine
from routesim.calibration.check.findings import FALSE_ALARM
from routesim.calibration.history.read import read_history
from routesim.reports.pages.terminal import findings_table
from routesim.sim.files import write_text
from routesim.sim.folders import placing
from routesim.sim.model import CalibratedModel


def run_check(model: Path, source: str | Path, profile: str | None, start: datetime | None, end: datetime | None,
              out_dir: Path | None, workers: int | None, console: Console,
              progress: Callable[[int, int], None]) -> bool:
    """Whether the model predicts the history; the findings go to the console and, with ``out_dir``, to check.json
    and check.html."""
    with nullcontext() if out_dir is None else placing(out_dir, "check") as folder:
        calibrated = CalibratedModel.load(model)
        history = read_history(source, profile, start, end)
        findings = examine(calibrated, history, workers, progress=progress)
        failed = [f for f in findings if not f.passed]
        if folder is not None:
            document = {"passed": not failed, "false_alarm": FALSE_ALARM, "findings": [asdict(f) for f in findings]}
            write_text(folder / "check.json", json.dumps(document, indent=1) + "\n")
            from routesim.reports.pages.check import render  # draws with matplotlib, which takes a second to import

            render(folder / "check.html", [asdict(f) for f in findings], FALSE_ALARM,
                   f"model {calibrated.model.name} · {history.log.payments.num_rows:,} payments")
    console.print(findings_table([asdict(f) for f in findings], FALSE_ALARM), highlight=False)
    return not failed
