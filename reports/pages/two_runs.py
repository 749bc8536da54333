"""Two runs on one self-contained page, and as a table for the terminal: what differs between them, and what of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from routesim.reports.metrics.measure import FIGURES
from routesim.reports.pages.run import answer, facts, unbroken
from routesim.reports.pages.run import headline as own_headline
from routesim.reports.run.folder import Run, write_bytes
from routesim.reports.run.two_runs import HEADLINE, Difference, TwoRuns
from routesim.reports.words import duration, number, percent, signed
from routesim.sim.errors import BadInput

_TEMPLATES = Path(__file__).parent / "templates"
_LABELS = {
    "approval_rate": "Approval rate", "lift_pp": "Lift on the baseline, pp", "order_approval_rate": "Orders approved",
    "first_attempt_rate": "First attempts approved", "attempts_per_payment": "Attempts per payment",
    "recovered": "Recovered by a retry", "never_recovered": "MIT never recovered",
    "lost_to_outages": "Payments lost to outages", "lost_to_outages_usd": "USD lost to outages",
    "darktime_min": "Darktime, min", "latency_ms.wait.p95": "Wait, 95th percentile", "cost_usd": "Cost, USD",
    "duplicate_risk": "Retries after a timeout", "rule_breaches": "Refused by a rule",
}
_IN_TERMINAL = ("approval_rate", "lift_pp", "lost_to_outages", "latency_ms.wait.p95", "cost_usd")
_COLOURS = {"better": "green", "worse": "red"}
_SENTENCES_IN_TERMINAL = 8
_HINT = "run both with the same `seed`, `model`, `trace` and `replications`, and the difference is found more sharply"

Show = Callable[[float | None], str]


def _digits(values: tuple[float | None, ...]) -> int:
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 3 if 0 < largest < 10 else 1 if largest < 1_000 else 0


def _shows(one: Difference) -> tuple[Show, Show]:
    """How the values of a figure are written, and how its differences are."""
    between = (one.between.value, one.between.low, one.between.high)
    if one.unit == "share":
        fine = 3 if all(abs(100 * value) < 0.1 for value in between if value) and any(between) else 2
        return percent, lambda value: "—" if value is None else f"{signed(100 * value, fine)} pp"
    if one.unit == "ms":
        return duration, _signed_duration
    if one.unit == "pp":
        return signed, signed
    values = _digits((one.first["value"], one.second["value"]))
    apart = max(values, _digits(between)) if any(between) else values
    return lambda value: number(value, values), lambda value: signed(value, apart)


def _signed_duration(ms: float | None) -> str:
    if ms is None:
        return "—"
    return ("+" if ms >= 0 else "\N{MINUS SIGN}") + duration(abs(ms))


def _range(low: float | None, high: float | None, show: Show) -> str:
    return "" if low is None or high is None else f"{show(low)} to {show(high)}"


def row(one: Difference) -> dict[str, str]:
    """A figure in both runs and its difference, as text."""
    show, apart = _shows(one)
    same = one.verdict == "same"
    return {
        "figure": one.figure, "label": _LABELS.get(one.figure, one.figure), "verdict": one.verdict,
        "first": show(one.first["value"]), "first_between": _range(one.first["low"], one.first["high"], show),
        "second": show(one.second["value"]), "second_between": _range(one.second["low"], one.second["high"], show),
        "difference": "0" if same else apart(one.between.value),
        "between": "in every replication" if same else _range(one.between.low, one.between.high, apart),
    }


def sentence(runs: TwoRuns, policy: str) -> tuple[str, str]:
    """The verdict on a policy's approval in the first run, and a sentence on it."""
    one = runs.difference(policy, "approval_rate")
    verdict, value = one.verdict, one.between.value
    first, second = runs.names
    if value is None:
        return "unknown", "has no measured approval rate in both runs."
    _, apart = _shows(one)
    between = f"(95 % interval {_range(one.between.low, one.between.high, apart).replace(' pp to', ' to')})"
    if verdict == "unknown":
        return verdict, (f"approves {apart(value)} in {first} less {second}, without an interval: that shows nothing "
                         "yet.")
    if verdict == "same":
        return verdict, "approves just as much in both, in every replication."
    if verdict == "undecided":
        return verdict, f"is not shown to approve more or less: {apart(value)} {between}."
    more = "more" if verdict == "better" else "less"
    return verdict, f"approves {apart(abs(value))[1:]} {more} in {first} than in {second} {between}."


def headline(runs: TwoRuns) -> str:
    """The answer in one sentence."""
    first, second = runs.names
    told = {policy: sentence(runs, policy) for policy in runs.policies}
    if agree(runs):
        return f"{first} and {second} agree in every figure of every policy that both ran."
    apart = [policy for policy in runs.policies if told[policy][0] in ("better", "worse")]
    if apart:
        most = max(apart, key=lambda policy: abs(runs.difference(policy, "approval_rate").between.value or 0.0))
        return f"{most} {told[most][1]}"
    if all(verdict == "same" for verdict, _ in told.values()):
        return f"Approval is the same in {first} and {second}, in every replication; other figures differ."
    if all(verdict == "unknown" for verdict, _ in told.values()):
        return "Whether approval differs is not known: a single replication gives no interval. Add worlds and luck."
    return f"Approval is not shown to differ between {first} and {second}, for any policy."


def agree(runs: TwoRuns) -> bool:
    """Whether every figure that both runs measured is the same in every replication."""
    return runs.is_paired and not any(
        one.between.value or one.between.low or one.between.high
        for policy in runs.policies for one in runs.differences(policy))


def how(runs: TwoRuns) -> str:
    """Paired or not, why, and what follows."""
    first, second = runs.names
    if runs.is_paired:
        return (f"The replications are paired: {first} and {second} have the same seed, model, trace and replications, "
                "so each policy met the same payments, worlds and luck in both, and what they share cancels in the "
                "difference.")
    shares = not any("model" in why for why in runs.why_not_paired)
    wide = " Both rest on one model, whose error is counted twice here: the intervals are wider than need be." \
        if shares else ""
    return (f"The runs are compared as independent estimates, for {_listed(runs.why_not_paired)}. Their spreads add "
            f"up.{wide} Where it can be had: {_HINT}.")


def _listed(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def warnings(runs: TwoRuns) -> list[str]:
    """What a reader must know before believing a difference."""
    found = []
    ours, theirs = runs.first.summary["baseline"], runs.second.summary["baseline"]
    changed = any(one.startswith((f"policies.{ours}.", f"policies.{ours}:"))
                  for one in runs.differs.get("Scenario", []))
    if ours != theirs:
        found.append(f"Lift is measured on {ours} in {runs.names[0]} and on {theirs} in {runs.names[1]}: a difference "
                     "of lifts holds the difference of these baselines too.")
    elif changed:
        found.append(f"The baseline {ours} has other settings in the two runs: a difference of lifts holds what that "
                     "changes too.")
    bases = {(run.summary.get("intervals") or {}).get("basis") for run in (runs.first, runs.second)}
    if "luck" in bases:
        found.append("At least one run has a single world: its part of the intervals holds luck alone, and none of the "
                     "calibration's uncertainty. They are too narrow to decide on.")
    if "none" in bases:
        found.append("At least one run has a single replication, so the differences have no intervals.")
    moved = set(runs.differs) - {"In name only", "Assumed, or warned of"}
    if not moved and not runs.not_recorded and not agree(runs):
        found.append("Nothing that is recorded differs, yet the figures do: the program, or a policy of your own, was "
                     "changed between the runs.")
    return found


def _decisions(runs: TwoRuns) -> list[str]:
    """Policies whose verdict against their baseline is not the same in both runs."""
    found = []
    for policy in runs.policies:
        if policy not in (runs.first.summary["baseline"], runs.second.summary["baseline"]):
            ours, theirs = answer(runs.first, policy).verdict, answer(runs.second, policy).verdict
            if ours != theirs:
                found.append(f"{policy} is {ours} in {runs.names[0]}, {theirs} in {runs.names[1]}")
    return found


def _alone(run: Run, name: str, policies: list[str]) -> list[dict[str, str]]:
    rows = []
    for policy in policies:
        lift = run.figure(policy, "lift_pp")
        baseline = policy == run.summary["baseline"]
        rows.append({"policy": policy, "run": name, "approval": percent(run.figure(policy, "approval_rate")["value"]),
                     "lift": "baseline" if baseline else signed(lift["value"]),
                     "between": "" if baseline else _range(lift["low"], lift["high"], signed),
                     "wait": duration(run.figure(policy, "latency_ms.wait.p95")["value"]),
                     "cost": number(run.figure(policy, "cost_usd")["value"])})
    return rows


def html(runs: TwoRuns) -> str:
    """The page as text."""
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "unbroken": unbroken}
    tables = {}
    for policy in runs.policies:
        every = [row(one) for one in runs.differences(policy)
                 if one.first["value"] is not None or one.second["value"] is not None]
        tables[policy] = ([one for name in HEADLINE for one in every if one["figure"] == name], every)
    both = ((runs.first, runs.names[0]), (runs.second, runs.names[1]))
    return environment.get_template("two_runs.html").render(
        names=runs.names, runs=both, headline=headline(runs), how=how(runs), paired=runs.is_paired,
        warnings=warnings(runs), differs=runs.differs, not_recorded=runs.not_recorded,
        answers=[(policy, *sentence(runs, policy)) for policy in runs.policies], own_headline=own_headline,
        decisions=_decisions(runs), tables=tables,
        alone=[*_alone(*both[0], runs.only[0]), *_alone(*both[1], runs.only[1])],
        only_figures=[(name, figures) for name, figures in zip(runs.names, runs.only_figures, strict=True) if figures],
        formulas={name: FIGURES.get(name, ("", ""))[1] for name in HEADLINE}, labels=_LABELS,
        provenance=[(name, facts(run.manifest, "versions") + facts(run.manifest, "hashes")) for run, name in both])


def page_path(runs: TwoRuns, out: Path | None) -> Path:
    """Where the page goes: ``out``, or a file in the first run's folder. Raises BadInput for an ``out`` that is no
    page's name."""
    if out is None:
        other = re.sub(r"[^\w.-]+", "_", runs.names[1])
        return runs.first.path / f"compare_with_{other}.html"
    if out.suffix.lower() not in (".html", ".htm") or out.is_dir():
        raise BadInput("is no name for a page; give a file that ends in .html", f"--out {out}")
    return out


def render_two(runs: TwoRuns, out: Path | None = None) -> Path:
    """Write the page, whole or not at all; its path."""
    path = page_path(runs, out)
    write_bytes(path, html(runs).encode())
    return path


def differences_table(runs: TwoRuns) -> RenderableType:
    """For the terminal, at most 80 columns wide: the answer, what differs, and a few figures of each policy."""
    lines: list[Any] = [Text(headline(runs), style="bold"), Text()]
    told = [*(one for heading, some in runs.differs.items() if heading != "In name only" for one in some),
            *runs.not_recorded]
    lines += [Text(f"· {one}") for one in told[:_SENTENCES_IN_TERMINAL]]
    if len(told) > _SENTENCES_IN_TERMINAL:
        lines.append(Text(f"· and {len(told) - _SENTENCES_IN_TERMINAL} more, which the page tells", style="dim"))
    lines += [Text(one, style="yellow") for one in warnings(runs)]
    for name, policies in zip(runs.names, runs.only, strict=True):
        if policies:
            lines.append(Text(f"only in {name}: {', '.join(policies)}"))
    how_found = "paired" if runs.is_paired else f"independent estimates, for {_listed(runs.why_not_paired)}"
    lines += [Text(), Text(f"first: {runs.names[0]}, second: {runs.names[1]}; difference: first less second, "
                           f"{how_found}", style="dim")]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("", overflow="fold", max_width=26)
    for name in ("first", "second", "difference", "95 % interval"):
        table.add_column(name, justify="right", overflow="fold")
    for policy in runs.policies:
        table.add_row(Text(policy, style="bold"))
        for one in runs.differences(policy):
            if one.figure in _IN_TERMINAL:
                found = row(one)
                table.add_row(f"  {found['label']}", found["first"], found["second"],
                              Text(found["difference"], style=_COLOURS.get(one.verdict, "default")), found["between"])
    return Group(*lines, table)
