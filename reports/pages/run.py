"""The run's page: one self-contained HTML file that answers first and explains after.

Reads the run's folder (see run_folder). From ``manifest.json``, each key optional: ``seed``; ``versions`` (name →
version); ``git_commit``; ``assumed`` and ``warnings`` (lists of sentences); ``model`` and ``trace`` (name → value,
shown as they are); ``hashes`` (name → hash).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from routesim.reports.metrics.measure import FIGURES
from routesim.reports.pages.outage_section import cost_tables, timeline_picture
from routesim.reports.pages.pictures import Picture, by_lift, pictures, policy_colours
from routesim.reports.pages.retry_section import late_retries, retry_rows
from routesim.reports.run.folder import Run, read, write_bytes
from routesim.reports.run.off_policy import SHOWN, alarms, checked
from routesim.reports.statistics.live_test import LiveTest, live_test
from routesim.reports.words import duration, number, percent, signed

_TEMPLATES = Path(__file__).parent / "templates"
_WARNINGS_SHOWN = 3  # the others are folded away, lest they push the answer off the first screen

_BASIS = {
    "worlds and luck": "They hold both the calibration's uncertainty and luck.",
    "worlds": "With one luck draw per world, luck cannot be told from calibration error, and the intervals are wider "
              "than they need be.",
    "luck": "Only one world was simulated: the intervals hold luck alone, and none of the calibration's uncertainty. "
            "They are too narrow to decide on.",
    "none": "With a single replication there are no intervals at all: nothing here says how sure we are.",
}


@dataclass(frozen=True)
class Answer:
    """What one policy does, in a sentence; ``verdict`` is better, worse, undecided or unknown."""

    policy: str
    verdict: str
    sentence: str


def answer(run: Run, policy: str) -> Answer:
    """The sentence on one policy's lift."""
    found, baseline = run.figure(policy, "lift_pp"), run.summary["baseline"]
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return Answer(policy, "unknown", "has no measured lift.")
    if low is None or high is None:
        return Answer(policy, "unknown", f"differs from {baseline} by {signed(value)} pp in a single run; "
                                         "without an interval that shows nothing yet.")
    between = f"(95 % interval {signed(low)} to {signed(high)})"
    if low > 0:
        return Answer(policy, "better", f"approves {number(value, 2)} pp more than {baseline} {between}.")
    if high < 0:
        return Answer(policy, "worse", f"approves {number(-value, 2)} pp less than {baseline} {between}.")
    if low == high == 0:
        return Answer(policy, "undecided", f"approves just as much as {baseline} in every replication.")
    return Answer(policy, "undecided", f"is not shown to differ from {baseline}: {signed(value)} pp {between}.")


def headline(run: Run) -> str:
    """The overall answer in one sentence."""
    baseline, ranked = run.summary["baseline"], by_lift(run)
    if not ranked:
        return f"Only {baseline} was run, so there is nothing to compare it with."
    answers = {name: answer(run, name) for name in ranked}
    better = [name for name in ranked if answers[name].verdict == "better"]
    if better:
        found = run.figure(better[0], "lift_pp")
        sentence = (f"Best: {better[0]}, {signed(found['value'])} pp approval lift on {baseline} "
                    f"(95 % interval {signed(found['low'])} to {signed(found['high'])}).")
        lows = found["low"] or 0.0
        rivals = [name for name in better[1:] if (run.figure(name, "lift_pp")["high"] or 0.0) >= lows]
        if rivals:
            sentence += f" Its interval overlaps that of {_listed(rivals)}, so which is best is not settled."
        return sentence
    if all(answers[name].verdict == "worse" for name in ranked):
        return f"Keep {baseline}: every other policy approves less."
    if all(answers[name].verdict == "unknown" for name in ranked):
        return "No policy is shown to be better: one run gives no interval. Add worlds and luck draws."
    return f"No policy is shown to be better than {baseline}: no interval lies wholly above zero."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def pairing(run: Run) -> str:
    """What common random numbers leave of the spread in lift, over the policies; empty where unknown."""
    left = [value for value in (run.summary.get("paired_efficiency") or {}).values() if value is not None]
    if not left:
        return ""
    low, high = percent(min(left), 0), percent(max(left), 0)
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def payments_per_day(run: Run) -> float:
    """Measured payments per day of the trace, from the baseline's hourly counts; 0 when there are none."""
    frame = run.hours.to_pandas()
    frame = frame[frame["policy"] == run.summary["baseline"]]
    if frame.empty:
        return 0.0
    return float((frame["payments"] / frame["replications"]).sum() / len(frame) * 24)


def live_tests(run: Run) -> list[tuple[str, LiveTest | None, LiveTest | None]]:
    """Per policy shown to be better: the live test for its expected lift, and for the low end of its interval."""
    rate, volume = run.figure(run.summary["baseline"], "approval_rate")["value"] or 0.0, payments_per_day(run)
    rows = []
    for name in by_lift(run):
        if answer(run, name).verdict == "better":
            found = run.figure(name, "lift_pp")
            rows.append((name, live_test(rate, found["value"] or 0.0, volume),
                         live_test(rate, found["low"] or 0.0, volume)))
    return rows


def _table(run: Run) -> list[dict[str, str]]:
    rows = []
    for name in [run.summary["baseline"], *by_lift(run)]:
        def value(figure: str, of: str = name) -> float | None:
            return run.figure(of, figure)["value"]

        is_baseline = name == run.summary["baseline"]
        found = run.figure(name, "lift_pp")
        rows.append({
            "policy": name,
            "verdict": "baseline" if is_baseline else answer(run, name).verdict,
            "lift": "baseline" if is_baseline else signed(found["value"]),
            "between": "" if is_baseline or found["low"] is None
                       else f"{signed(found['low'])} to {signed(found['high'])}",
            "approval": percent(value("approval_rate")),
            "orders": percent(value("order_approval_rate")),
            "lost": number(value("lost_to_outages")),
            "lost_usd": number(value("lost_to_outages_usd")),
            "dark": number(value("darktime_min"), 1),
            "wait": duration(value("latency_ms.wait.p95")),
            "cost": number(value("cost_usd")),
            "attempts": number(value("attempts_per_payment"), 3),
        })
    return rows


def _support(run: Run) -> list[dict[str, str]]:
    return [
        {
            "policy": name,
            "share": percent(run.figure(name, "unsupported_share")["value"], 1),
            "lift": signed(run.figure(name, "lift_unsupported_pp")["value"]),
        }
        for name in [run.summary["baseline"], *by_lift(run)]
    ]


_SHARES = {"share"}


def _every_figure(run: Run) -> list[dict[str, Any]]:
    """All figures of all policies, for the table at the end."""
    rows = []
    for name, (unit, formula) in FIGURES.items():
        cells = []
        for policy in run.policies:
            found = run.figure(policy, name)
            show = percent if unit in _SHARES else lambda x: number(x, 2 if x is not None and abs(x) < 1_000 else 0)
            between = "" if found["low"] is None else f"{show(found['low'])} to {show(found['high'])}"
            cells.append({"value": show(found["value"]), "between": between})
        rows.append({"name": name, "unit": unit, "formula": formula, "cells": cells})
    return rows


def facts(manifest: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """The manifest's entry as pairs of text; nested entries are joined."""
    found = manifest.get(key)
    if not isinstance(found, Mapping):
        return [] if found is None else [(key, str(found))]
    return [(str(name), _plain(value)) for name, value in found.items()]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _sentences(manifest: Mapping[str, Any], key: str) -> list[str]:
    found = manifest.get(key)
    return [str(one) for one in found] if isinstance(found, list) else []


def unbroken(text: str) -> str:
    """Keeps a number and its unit on one line."""
    for unit in ("%", "pp"):
        text = text.replace(f" {unit} ", f"\N{NO-BREAK SPACE}{unit} ")
    return text


def data_uri(picture: Picture) -> str:
    """The picture for the ``src`` of an image."""
    return "data:image/svg+xml;base64," + base64.b64encode(picture.svg.encode()).decode()


def html(run: Run) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "unbroken": unbroken}
    intervals = run.summary.get("intervals") or {}
    basis = intervals.get("basis", "none")
    lived = timeline_picture(run)
    warnings = _sentences(run.manifest, "warnings")
    return environment.get_template("report.html").render(
        summary=run.summary,
        baseline=run.summary["baseline"],
        headline=headline(run),
        answers=[answer(run, name) for name in by_lift(run)],
        colours=policy_colours(run),
        rows=_table(run),
        basis=_BASIS.get(basis, ""),
        narrow=basis in ("luck", "none"),
        pairing=pairing(run),
        generalised=intervals.get("method") == "generalised",
        tests=live_tests(run),
        per_day=payments_per_day(run),
        pictures=[(picture, data_uri(picture)) for picture in pictures(run)],
        assumed=_sentences(run.manifest, "assumed"),
        alarms=alarms(run.summary.get("off_policy") or {}),
        check=run.summary.get("off_policy") or {},
        methods=SHOWN,
        checked=checked(run.summary.get("off_policy") or {}, by_lift(run)),
        warnings=warnings[:_WARNINGS_SHOWN],
        more_warnings=warnings[_WARNINGS_SHOWN:],
        costs=cost_tables(run),
        retried=retry_rows(run),
        late_retries=late_retries(run),
        lived=lived,
        lived_uri=None if lived is None else data_uri(lived),
        model=facts(run.manifest, "model"),
        trace=facts(run.manifest, "trace"),
        versions=facts(run.manifest, "versions") + facts(run.manifest, "git_commit") + facts(run.manifest, "hashes"),
        support=_support(run),
        policies=run.policies,
        figures=_every_figure(run),
        scenario_text=run.scenario_text,
    )


def render(run_dir: Path) -> Path:
    """Write ``report.html`` into a run's folder from what the folder holds. Raises BadInput where it is not a run's."""
    path = run_dir / "report.html"
    write_bytes(path, html(read(run_dir)).encode())
    return path
