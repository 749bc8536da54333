"""``routesim power``: how large and how long a live test must be, and what the auto-winner makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from routesim.policies.experiment.assignment import UNITS
from routesim.policies.spelling import nearest
from routesim.reports.words import number, percent
from routesim.sim.errors import BadInput

_PERCENT = {"p_treatment_wins", "p_control_wins", "p_any"}
_MEANING = {
    "p_treatment_wins": "treatment is called", "p_control_wins": "control is called", "p_any": "a winner is called",
    "mean_day_if_treatment_wins": "mean day, if treatment is called",
    "mean_day_capped": "mean day, the last if nobody is",
    "mean_lift_if_treatment_wins_pp": "mean observed lift (pp), if treatment is called",
    "exaggeration": "that lift over the true one",
}


def power(baseline: Annotated[float, typer.Option(help="control's approval rate, as 0.85")],
          lift_pp: Annotated[float, typer.Option(help="true lift of treatment, in percentage points")],
          n_treatment: Annotated[int | None, typer.Option(min=1, help="payments: gives power and MDE")] = None,
          target: Annotated[float | None, typer.Option("--power", help="wanted: gives sizes; .8 if left out")] = None,
          alpha: Annotated[float | None, typer.Option(help="level of the test; 0.05 if left out")] = None,
          sides: Annotated[int | None, typer.Option(help="1 or 2; 2 if left out")] = None,
          split_bps: Annotated[str, typer.Option(metavar="CONTROL,TREATMENT", help="basis points")] = "5000,5000",
          method: Annotated[str | None, typer.Option(
              help="pooled, unpooled, arcsine, baseline_variance, continuity or exact; pooled if left out")] = None,
          unit: Annotated[str | None, typer.Option(help="what is bucketed: payment, order or customer")] = None,
          cluster_size: Annotated[float | None, typer.Option(help="payments per order or customer")] = None,
          icc: Annotated[float | None, typer.Option(help="correlation of two of its payments")] = None,
          cluster_cv: Annotated[float | None, typer.Option(help="variation of its size (sd / mean)")] = None,
          per_day: Annotated[int | None, typer.Option(min=1, help="payments a day, both variants: gives days")] = None,
          auto_winner: Annotated[bool, typer.Option("--auto-winner", help="simulate the platform's rule")] = False,
          from_day: Annotated[int | None, typer.Option(help="first look; 7 if left out")] = None,
          until_day: Annotated[int | None, typer.Option(help="last look; 28 if left out")] = None,
          rule: Annotated[str | None, typer.Option(help="a stopping rule, as pocock; auto_winner if left out")] = None,
          replications: Annotated[int | None, typer.Option(help="100,000 if left out")] = None,
          seed: Annotated[int | None, typer.Option(min=0, help="1 if left out")] = None,
          as_json: Annotated[bool, typer.Option("--json", help="for machines")] = False) -> None:
    """How many payments and days a live test needs; with --auto-winner, what daily looks would call."""
    split = _split(split_bps)
    sizing = {"n_treatment": n_treatment, "power": target, "alpha": alpha, "sides": sides, "method": method}
    clusters = {"cluster_size": cluster_size, "icc": icc, "cluster_cv": cluster_cv}
    looking = {"from_day": from_day, "until_day": until_day, "rule": rule, "replications": replications, "seed": seed}
    found: dict[str, Any]
    if auto_winner:
        _refuse(_options(sizing) | {"--unit": unit} | _options(clusters),
                "goes without --auto-winner, which tests at p < .05 on both sides, payment by payment")
        if per_day is None:
            raise BadInput("--auto-winner needs the payments a day of both variants", "--per-day")
        with _as_options():
            found = _auto_winner(baseline, lift_pp, per_day, split, looking)
    else:
        _refuse(_options(looking), "goes with --auto-winner")
        _clusters(unit, cluster_size, icc, cluster_cv)
        from routesim.reports.statistics.sizing import power as sized

        with _as_options():
            found = sized(baseline, lift_pp, split_bps=split, per_day=per_day,
                          **_given(sizing | clusters)).as_json()
    if as_json:
        typer.echo(json.dumps(_finite(found), indent=2, allow_nan=False))
    elif auto_winner:
        _show_auto_winner(found)
    else:
        _show_sizes(found, baseline, lift_pp, n_treatment is not None)


def _split(text: str) -> tuple[int, int]:
    from routesim.reports.statistics.power import ratio_of_split

    try:
        control, treatment = (int(part) for part in text.split(","))
    except ValueError:
        control = treatment = 0  # told by the check
    with _as_options():
        ratio_of_split(control, treatment)
    return control, treatment


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Raise BadInput for the first option given: it would be left unread."""
    for name, value in options.items():
        if value is not None:
            raise BadInput(why, name)


def _clusters(unit: str | None, size: float | None, icc: float | None, cv: float | None) -> None:
    """Raise BadInput unless what is told of whole orders or customers goes with the unit that is bucketed."""
    if unit is not None and unit not in UNITS:
        raise BadInput(f"unknown unit {unit!r}{nearest(unit, UNITS)}", "--unit")
    if unit in (None, "payment"):
        _refuse({"--cluster-size": size, "--icc": icc, "--cluster-cv": cv}, "goes with --unit order or --unit customer")
    elif size is None or icc is None:
        raise BadInput(f"--unit {unit} needs both --cluster-size and --icc", "--unit")


def _options(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments by the options that give them."""
    return {_option(name): value for name, value in arguments.items()}


def _option(argument: str) -> str:
    return f"--{argument.replace('_', '-')}"


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


@contextmanager
def _as_options() -> Iterator[None]:
    """Name the option where the argument of that name is wrong."""
    try:
        yield
    except BadInput as error:
        raise BadInput(error.message, error.where and _option(error.where)) from None


def _auto_winner(baseline: float, lift_pp: float, per_day: int, split: tuple[int, int], options: Mapping[str, Any],
                 ) -> dict[str, Any]:
    from routesim.reports.statistics.auto_winner import UNTIL_DAY, Trial, auto_winner, rule_named
    from routesim.reports.statistics.platform_rule import FROM_DAY

    filled: dict[str, Any] = {"from_day": FROM_DAY, "until_day": UNTIL_DAY, "rule": "auto_winner",
                              "replications": 100_000, "seed": 1, **_given(options)}
    trial = Trial(baseline, lift_pp, per_day, split[1], filled["from_day"], filled["until_day"])
    outcome = auto_winner(trial, rule_named(filled["rule"]), filled["replications"], filled["seed"])
    names = [field.name for field in fields(outcome)]
    return {**{name: getattr(outcome, name).value for name in names},
            "standard_errors": {name: getattr(outcome, name).standard_error for name in names},
            "rule": filled["rule"],
            "replications": filled["replications"], "seed": filled["seed"],
            "split_bps": list(split), "per_day": per_day, "from_day": trial.from_day, "until_day": trial.until_day}


def _finite(value: Any) -> Any:
    """The same with null for what is not a finite number."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _show_sizes(found: Mapping[str, Any], baseline: float, lift_pp: float, size_given: bool) -> None:
    out = Console()
    table = _table(f"{percent(baseline)} and {lift_pp:+g} pp", found["method"])
    table.add_row("payments in control", number(found["n_control"]))
    table.add_row("payments in treatment", number(found["n_treatment"]))
    table.add_row("power at that size" if size_given else "power", percent(found["power"]))
    table.add_row(f"least lift found in {found['target_power']:.0%} of tests (pp)",
                  "none" if found["mde_pp"] is None else number(found["mde_pp"], 3))
    if found["design_effect"] != 1:
        table.add_row("design effect", number(found["design_effect"], 3))
        table.add_row("orders or customers in treatment", number(found["clusters_treatment"]))
    if "days" in found:
        table.add_row("days", number(math.ceil(found["days"])))
    out.print(table)
    if found.get("days_by_lift"):
        days = _table(f"lift (pp), {found['days_by_lift_method']}", "control", "treatment", "days")
        for row in found["days_by_lift"]:
            days.add_row(f"{row['lift_pp']:+g}", number(row["n_control"]), number(row["n_treatment"]),
                         number(math.ceil(row["days"])))
        out.print()
        out.print(days)


def _show_auto_winner(found: Mapping[str, Any]) -> None:
    table = _table(f"{found['rule']}, days {found['from_day']} to {found['until_day']}", "value", "± s.e.")
    for name, meaning in _MEANING.items():
        value, error = found[name], found["standard_errors"][name]
        show = percent if name in _PERCENT else number
        table.add_row(meaning, show(value, 2), show(error, 3))
    Console().print(table)
