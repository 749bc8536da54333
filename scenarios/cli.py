"""The command line. Exit 0: done; 1: a check fell short; 2: bad input, in one clear line on standard error."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.exceptions import TyperException

from routesim.scenarios.commands.experiment import experiment
from routesim.scenarios.commands.export import export
from routesim.scenarios.commands.power import power
from routesim.scenarios.commands.progress import counting
from routesim.scenarios.document.moments import DEFAULT_TIMEZONE, known_timezone, parse_moment
from routesim.sim.errors import BadInput

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
INTERRUPTED = 130
out = Console()
err = Console(stderr=True)


def _moment(text: str | None, option: str) -> datetime | None:
    try:
        return None if text is None else parse_moment(text)
    except ValueError as error:
        raise BadInput(str(error), option) from None


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"routesim {version('routesim')}", highlight=False)
        raise typer.Exit


@app.callback()
def common(show_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                      help="Show the version and exit.")] = False) -> None:
    """Decide how card payments are routed, retried and failed over before real money is at stake."""


@app.command()
def demo(out_dir: Annotated[Path, typer.Option("--out", help="folder for all that the demo makes")] = Path("demo"),
         ) -> None:
    """Made-up history → calibrate → check → run → report."""
    from routesim.sim.folders import held

    with held(out_dir / "demo"):
        passed = _demo(out_dir)
    raise typer.Exit(0 if passed else 1)


def _demo(out_dir: Path) -> bool:
    """Whether the check passed."""
    from routesim.scenarios.commands.check import run_check
    from routesim.scenarios.commands.demo import DAYS, PER_DAY, SPLIT, prepare_scenario

    extract, model = out_dir / "history", out_dir / "model"
    out.rule("1. a made-up history of five weeks")
    history(extract, DAYS, PER_DAY, 1)
    out.rule("2. calibrate on the first four")
    calibrate(str(extract), model, until=SPLIT)
    out.rule("3. check the model on the fifth, which it has not seen")
    bar, progress = counting(err, "checking")
    with bar:
        passed = run_check(model, extract, None, _moment(SPLIT, "--from"), None, out_dir, None, out, progress)
    out.rule("4. run a scenario on the fifth week")
    run(prepare_scenario(out_dir), out_dir / "run")
    return passed


@app.command()
def history(target: Annotated[Path, typer.Argument(metavar="OUT", help="folder for the extract")],
            days: Annotated[int, typer.Option(min=1, help="days of history")] = 28,
            per_day: Annotated[int, typer.Option(min=1, help="orders a day")] = 2600,
            seed: Annotated[int, typer.Option(min=0)] = 1) -> None:
    """Write a made-up PAYMENT_ML extract: Parquet, one file a view, and the truth beside it."""
    from routesim.calibration.made_up import make_history

    with err.status("making up a history") as status:
        made = make_history(target, days=days, per_day=per_day, seed=seed, progress=status.update)["observed"]
    out.print(f"{made['payments']:,} payments, {made['attempts']:,} attempts, approval {made['approval']:.2%} → "
              f"{target}", highlight=False)


@app.command()
def calibrate(source: Annotated[str, typer.Argument(help="a folder of views, a file, or snowflake://CONNECTION")],
              model: Annotated[Path, typer.Option("--out", metavar="MODEL", help="folder for the model")],
              profile: Annotated[str | None, typer.Option(help="a profile's name, or a YAML file")] = None,
              from_: Annotated[str | None, typer.Option("--from", metavar="TIME")] = None,
              until: Annotated[str | None, typer.Option(metavar="TIME")] = None,
              timezone: Annotated[str, typer.Option(help="governs the hours of the day")] = DEFAULT_TIMEZONE,
              ) -> None:
    """Fit a model, with its uncertainty, to a history."""
    from routesim.calibration.calibrate import calibrate as fit
    from routesim.calibration.history.read import read_history
    from routesim.sim.folders import claimed
    from routesim.sim.model_folder import MODEL

    try:
        zone = known_timezone(timezone)
    except ValueError as error:
        raise BadInput(str(error), "--timezone") from None
    with err.status("reading history") as status, claimed(model, MODEL) as claim:
        found = read_history(source, profile, _moment(from_, "--from"), _moment(until, "--until"))
        result = fit(found, zone, model.name, status.update)
        result.save(claim, found.quarantine)
    _tell_quarantine(found.quarantine)
    fitted = result.model.model
    out.print(f"model of {len(fitted.processors)} processors from {found.log.payments.num_rows:,} payments, "
              f"{result.outages.num_rows} outages found → {model}", highlight=False)


def _tell_quarantine(quarantine: Any) -> None:
    for table, reason, count in quarantine.summary():
        err.print(f"{table}: {reason}: {count:,}", style="dim", highlight=False)
    for warning in quarantine.warnings:
        err.print(f"warning: {warning}", style="yellow", highlight=False)


@app.command()
def check(model: Annotated[Path, typer.Argument(metavar="MODEL")],
          source: Annotated[str, typer.Argument(metavar="SOURCE")],
          profile: Annotated[str | None, typer.Option(help="a profile's name, or a YAML file")] = None,
          from_: Annotated[str | None, typer.Option("--from", metavar="TIME")] = None,
          until: Annotated[str | None, typer.Option(metavar="TIME")] = None,
          out_dir: Annotated[Path | None, typer.Option("--out", help="folder for check.json and check.html")] = None,
          workers: Annotated[int | None, typer.Option(min=1)] = None) -> None:
    """Does the model predict this history? Exit 1 if not."""
    from routesim.scenarios.commands.check import run_check

    bar, progress = counting(err, "checking")
    with bar:
        passed = run_check(model, source, profile, _moment(from_, "--from"), _moment(until, "--until"), out_dir,
                           workers, out, progress)
    raise typer.Exit(0 if passed else 1)


@app.command()
def run(scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml")],
        out_dir: Annotated[Path | None, typer.Option("--out", help="folder for the run; runs/NAME if left out")] = None,
        workers: Annotated[int | None, typer.Option(min=1, help="local processes; all cores if left out")] = None,
        overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")] = None) -> None:
    """Run a scenario and write its report."""
    from routesim.reports.run.folder import RUN
    from routesim.scenarios.document.loading import load_scenario
    from routesim.scenarios.running.runner import prepare
    from routesim.scenarios.running.runner import run as run_scenario
    from routesim.sim.folders import claimed

    loaded = load_scenario(scenario, overrides or [])
    target = out_dir or Path("runs") / loaded.scenario
    with claimed(target, RUN) as claim:
        with err.status("reading the model and the trace"):
            prepared = prepare(loaded)
        bar, progress = counting(err, loaded.scenario)
        with bar:
            run_scenario(prepared, claim, workers, progress)
        _show(target)


def _show(run_dir: Path) -> None:
    from routesim.reports.pages.terminal import summary_table
    from routesim.reports.run.folder import RunFolder, read

    out.print(summary_table(read(run_dir)))
    out.print(f"\n{RunFolder(run_dir).page}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR")],
           other: Annotated[Path | None, typer.Argument(metavar="OTHER_RUN_DIR", help="to be compared with")] = None,
           page: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="where the comparison goes; "
                           "compare_with_OTHER.html in RUN_DIR if left out")] = None,
           as_json: Annotated[bool, typer.Option("--json", help="the differences, for machines")] = False) -> None:
    """Make the page of a run again, or compare it with another run."""
    if other is None:
        if page is not None or as_json:
            raise BadInput("belongs to a comparison; name a second run's folder", "--json" if as_json else "--out")
        from routesim.reports.pages.run import render

        render(run_dir)
        _show(run_dir)
        return
    from routesim.reports.pages.terminal import differences_table
    from routesim.reports.pages.two_runs import render_two
    from routesim.reports.run.two_runs import read_two

    runs = read_two(run_dir, other)
    written = render_two(runs, page)
    if as_json:
        typer.echo(json.dumps(runs.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        out.print(differences_table(runs))
        out.print(f"\n{written}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def policies() -> None:
    """What the catalog holds, with parameters and defaults."""
    from routesim.policies.listing import listing

    for each in listing():
        out.print(f"\n[bold]{each.name}[/bold] ({each.kind}): {each.doc}", highlight=False)
        if each.source:
            out.print(f"  [dim]source: {escape(each.source)}[/dim]", highlight=False)
        if each.parameters:
            table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
            for column in ("parameter", "kind", "default", "meaning"):
                table.add_column(column, no_wrap=column == "parameter")
            for name, kind, default, doc in each.parameters:
                table.add_row(*map(escape, (name, kind, "needed" if default is None else default, doc)))
            out.print(table)


app.command()(export)
app.command()(power)
app.command()(experiment)


def main() -> None:
    """The console command: usage and input errors end in one line and exit 2, an interruption in exit 130."""
    try:
        code = app(standalone_mode=False)
    except BadInput as error:
        code = _fail(str(error))
    except TyperException as error:
        code = _fail(error.format_message())
    except OSError as error:  # a full or failing disk, wherever it shows
        code = _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # typer makes this code of most interruptions itself
        err.print("interrupted; the same command goes on where it was", highlight=False)
    sys.exit(code or 0)


def _fail(message: str) -> int:
    line = " ".join(message.split())
    if line:  # without a command the help was shown, and there is nothing more to say
        print(f"routesim: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
