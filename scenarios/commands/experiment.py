"""``routesim experiment``: the live test, run in the simulator before it is run live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from routesim.scenarios.commands.progress import counting


def experiment(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="one with a block `experiment:`")],
    out_dir: Annotated[Path | None, typer.Option("--out", help="folder; experiments/NAME if left out")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="local processes; all cores if left out")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Run a live test in the simulator: who would win it, how often, when, and how wrongly."""
    from routesim.reports.experiment.folder import EXPERIMENT, read_experiment
    from routesim.scenarios.document.loading import load_scenario
    from routesim.scenarios.running.experiment_run import prepare_experiment, run_experiment
    from routesim.sim.folders import claimed

    err = Console(stderr=True)
    loaded = load_scenario(scenario, overrides or [])
    target = out_dir or Path("experiments") / loaded.scenario
    with claimed(target, EXPERIMENT) as claim:
        with err.status("reading the model and the trace"):
            trials, manifest = prepare_experiment(loaded)
        for warning in manifest["warnings"]:
            if warning.startswith("experiment: "):
                err.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
        bar, progress = counting(err, loaded.scenario)
        with bar:
            run_experiment(trials, manifest, claim, workers, progress)
    figures = read_experiment(target).figures
    if as_json:
        typer.echo(json.dumps(figures, indent=2, allow_nan=False))
    else:
        _show(figures, target)


def _show(figures: dict[str, Any], target: Path) -> None:
    from routesim.reports.experiment.folder import ExperimentFolder
    from routesim.reports.pages.terminal import experiment_table

    out = Console()
    out.print(experiment_table(figures), highlight=False)
    for sentence in figures["advice"]:
        out.print(sentence, highlight=False, soft_wrap=True, markup=False)
    out.print(f"\n{ExperimentFolder(target).page}", highlight=False, soft_wrap=True, markup=False)
