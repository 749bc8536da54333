"""The run page's section on outages: what each cost every policy, and one of them under each policy, over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from routesim.reports.pages.drawing import BAD, WIDTH, Picture, drawing, policy_colours, svg_text
from routesim.reports.pages.tables import TableCell
from routesim.reports.run.answers import by_lift
from routesim.reports.run.folder import Run
from routesim.reports.words import between, count, number, percent, span

_MOST_ROWS = 8
_LEAST_ATTEMPTS = 12  # a bin, so that a share of them means something
_STEPS_S = (*(60 * n for n in (1, 2, 5, 10, 15, 30)), *(3_600 * n for n in (1, 2, 3, 6, 12, 24, 48, 168)))
_NEVER = TableCell("never")
_SHADE = "#f3d9c9"
_dates: Any = dates


@dataclass(frozen=True)
class CostTable:
    """What one outage, or all that were drawn, cost every policy; ``rows`` by payments lost, the fewest first."""

    title: str
    rows: list[dict[str, Any]]


def cost_tables(run: Run) -> list[CostTable]:
    """A table for each outage that the scenario adds, then one for all others; none where there was no outage."""
    costs: dict[str, Any] = {policy: cost for policy in run.policies
                             if (cost := run.summary["policies"][policy].get("outage_costs"))}
    if not costs:
        return []
    tables = []
    for key, title in _added(next(iter(costs.values()))["added"]).items():
        own = {policy: _added_by_key(each["added"]).get(key) for policy, each in costs.items()}
        tables.append(_table(run, title, {policy: each for policy, each in own.items() if each}))
    drawn = {policy: each["drawn"] for policy, each in costs.items() if each["drawn"]}
    if drawn:
        mean = next(iter(drawn.values()))["outages"]
        other = "other " if tables else ""
        tables.append(_table(run, f"All {other}outages ({number(mean, 1)} in a replication; medians over them)", drawn))
    return tables


def _key(outage: Mapping[str, Any]) -> tuple[str, ...]:
    return (outage["start"], outage["end"], outage["kind"], *outage["processors"])


def _added_by_key(added: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {_key(outage): outage for outage in added}


def _added(added: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """The title of each added outage."""
    return {_key(outage): _title(outage["processors"], outage["kind"], pd.Timestamp(outage["start"]),
                                 pd.Timestamp(outage["end"])) for outage in added}


def _title(processors: list[str], kind: str, start: pd.Timestamp, end: pd.Timestamp) -> str:
    return f"{' and '.join(processors)} {kind} from {start:%a} {start.day} {start:%b %H:%M} (UTC) for " \
           f"{span((end - start).total_seconds())}"


def _table(run: Run, title: str, costs: Mapping[str, Mapping[str, Any]]) -> CostTable:
    def lost(policy: str) -> float:
        value = costs[policy]["lost_payments"]["value"]
        return float("inf") if value is None else float(value)

    rows = []
    for policy in sorted(costs, key=lost):
        cost = costs[policy]
        detected, returned = cost["share_detected"], cost.get("share_returned")
        ejections, minutes = (run.figure(policy, name)["value"] for name in ("false_ejections", "false_ejection_min"))
        rows.append({
            "policy": policy,
            "lost_payments": _cell("lost_payments", cost, count),
            "lost_usd": _cell("lost_usd", cost, number),
            "detect": _cell("detect_s", cost, span) if detected else _NEVER,
            "detected": _in_share("detected", detected),
            "drained": _cell("drained", cost, count),
            "failback": _cell("failback_s", cost, span) if returned != 0 else _NEVER,
            "returned": _in_share("back", returned),
            "ejections": TableCell(count(ejections), f"{count(minutes)} min"),
        })
    return CostTable(title, rows)


def _in_share(what: str, share: float | None) -> str:
    """In how many cases it happened, where that is neither all of them nor none, nor unknown."""
    if share is None or share in (0, 1):
        return ""
    return f"{what} in {percent(share, 0 if 0.01 <= share <= 0.99 else 1)}"


def _cell(name: str, cost: Mapping[str, Any], show: Callable[[float | None], str]) -> TableCell:
    """A metric with its interval, or a median, which has none."""
    figure = cost[name]
    if not isinstance(figure, Mapping):
        return TableCell(show(figure))
    return TableCell(show(figure["value"]), between(figure["low"], figure["high"], show))


def timeline_picture(run: Run) -> Picture | None:
    """The share of attempts at the processors in outage, and the payments lost, over time; None without outages."""
    frame = run.timeline.to_pandas()
    if frame.empty:
        return None
    baseline = run.summary["baseline"]
    lost = frame.groupby("policy")["lost_payments"].sum()
    order = {name: place for place, name in enumerate(by_lift(run))}
    others = sorted((name for name in lost.index if name != baseline), key=lambda name: (lost[name], order[name]))
    names = [baseline, *others[: _MOST_ROWS - 1]]
    first = frame.iloc[0]
    start, end, who = first["start"], first["end"], " and ".join(first["processors"])
    frame, width = _gathered(frame)
    colours = policy_colours(run)
    with drawing(WIDTH, 0.9 + 0.95 * len(names)) as figure:
        panels = figure.subplots(len(names), 2, sharex=True, sharey="col", squeeze=False, width_ratios=[3, 2])
        for row, name in zip(panels, names, strict=True):
            one = frame[frame["policy"] == name].sort_values("bin")
            edges = [*one["bin"], one["bin"].iloc[-1] + width]
            share = (one["at_processors"] / one["attempts"].where(one["attempts"] > 0)).to_numpy()
            row[0].stairs(np.nan_to_num(share), edges, color=colours[name], fill=True, alpha=0.35)
            row[0].stairs(share, edges, color=colours[name], linewidth=1.4)
            row[1].stairs(one["lost_payments"].to_numpy(), edges, color=BAD, fill=True)
            row[0].set_title(name)
            row[1].set_title(f"{number(float(lost[name]))} lost", weight="normal")
            row[0].yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.10g} %"))
            for axes in row:
                axes.axvspan(start, end, color=_SHADE, linewidth=0, zorder=0)
                axes.grid(axis="x", visible=False)
                axes.yaxis.set_major_locator(MaxNLocator(3, integer=axes is row[1]))
                axes.set_xlim(edges[0], edges[-1])
        for axes in panels[-1]:
            axes.xaxis.set_major_locator(MultipleLocator(_step_s(width * (len(edges) - 1)) / 86_400))
            axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    title = _title(list(first["processors"]), first["kind"], start, end)
    return Picture(
        "outage", f"{title}, under each policy",
        f"Left: the share of attempts that went to {who}. Right: payments lost, by time of arrival: those approved "
        f"only without the outage, less those approved only with it. Shaded: the outage. Each step gathers "
        f"{span(width.total_seconds())} of one simulated run (world 0, luck 0)."
        + (f" Left out: the {len(lost) - len(names)} that lost most." if len(lost) > len(names) else ""),
        f"Share of attempts at {who} and payments lost around the outage; lost in all: "
        + "; ".join(f"{name} {number(float(lost[name]))}" for name in names) + ".",
        svg_text(figure),
    )


def _gathered(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Timedelta]:
    """The bins, put together by two, four or eight where they are thin; and their width."""
    usual = float(frame.groupby("bin")["attempts"].mean().median())
    times = next((n for n in (1, 2, 4, 8) if usual * n >= _LEAST_ATTEMPTS), 8)
    width = pd.Timedelta(seconds=float(frame["bin_s"].iloc[0]))
    since_s = (frame["bin"] - frame["start"]).dt.total_seconds()
    place = (since_s / width.total_seconds()).round().astype(int) // times
    frame = frame.assign(bin=frame["start"] + pd.to_timedelta(place * (times * width.total_seconds()), unit="s"))
    sums = frame.groupby(["policy", "bin"], as_index=False)[["attempts", "at_processors", "lost_payments"]].sum()
    return sums, times * width


def _step_s(length: pd.Timedelta) -> int:
    """The time between ticks that gives at most six of them."""
    return next((step for step in _STEPS_S if length.total_seconds() / step <= 6), _STEPS_S[-1])


def _tick(day: float, _: int | None = None) -> str:
    moment = _dates.num2date(day)
    return f"{moment.day} {moment:%b}" if moment.hour == moment.minute == 0 else f"{moment:%H:%M}"
