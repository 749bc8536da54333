"""``routesim experiment``: the live test, run in the simulator before it is run live."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from routesim.reports.words import number, percent
from routesim.scenarios.commands.progress import counting


def experiment(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="one with a block `experiment:`")],
    out_dir: Annotated[Path | None, typer.Option("--out", help="folder; experiments/NAME if left out")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="local processes; all cores if left out")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Run a live test in the simulator: who would win it, how often, when, and how wrongly."""
    from routesim.reports.experiment.folder import MARK, read_experiment
    from routesim.scenarios.document.loading import load_scenario
    from routesim.scenarios.running.experiment_run import prepare_experiment, run_experiment
    from routesim.scenarios.running.work_folder import check_replaceable

    err = Console(stderr=True)
    loaded = load_scenario(scenario, overrides or [])
    target = out_dir or Path("experiments") / loaded.scenario
    check_replaceable(target, MARK, "experiment")
    with err.status("reading the model and the trace"):
        trials, manifest = prepare_experiment(loaded)
    for warning in manifest["warnings"]:
        if warning.startswith("experiment: "):
            err.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    progress, told = counting(err, loaded.scenario)
    with progress:
        run_experiment(trials, manifest, target, workers, told)
    figures = read_experiment(target).figures
    if as_json:
        typer.echo(json.dumps(figures, indent=2, allow_nan=False))
    else:
        _show(figures, target)


def _show(figures: dict[str, Any], target: Path) -> None:
    from routesim.reports.experiment.advice import NAMES

    out = Console()
    control, *treatments = figures["variants"]
    count = figures["replications"]["worlds"] * figures["replications"]["luck"]
    out.print(f"Whom each rule crowns in {count} simulated tests, and whom it crowns though all are {control}:",
              highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(("rule", *treatments, control, "all alike", "day")):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for rule, found in figures["rules"]["truth"].items():
        wins = [percent(found["p_wins"][name]["value"], 1) for name in (*treatments, control)]
        table.add_row(NAMES[rule], *wins, percent(figures["rules"]["alike"][rule]["p_any"]["value"], 1),
                      number(found["mean_day_if_called"]["value"], 1))
    out.print(table)
    out.print()
    for sentence in figures["advice"]:
        out.print(sentence, highlight=False, soft_wrap=True)
    out.print(f"\n{target / 'report.html'}", highlight=False, soft_wrap=True)
