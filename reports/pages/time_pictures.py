"""A run's pictures with a time axis: approval by time of arrival above the outages, and how long answers took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from routesim.reports.metrics.columns import numbers
from routesim.reports.metrics.tallies import BIN_EDGES_MS
from routesim.reports.pages.drawing import (
    INK,
    PERCENT,
    WIDTH,
    Picture,
    drawing,
    policy_colours,
    processor_colours,
    svg_text,
)
from routesim.reports.run.answers import by_lift
from routesim.reports.run.folder import Run, only

_MOST_LINES = 6
_TICKS_MS = {10: "10 ms", 100: "100 ms", 1_000: "1 s", 10_000: "10 s", 60_000: "1 min", 600_000: "10 min"}
_dates: Any = dates  # matplotlib types these only in part


def _shown(run: Run) -> list[str]:
    """The policies that get a line of their own: the baseline and the best few."""
    return [run.summary["baseline"], *by_lift(run)[: _MOST_LINES - 1]]


def _moment(day: float, _: int | None = None) -> str:
    """A tick of a time axis: the date at midnight, else the hour."""
    moment = _dates.num2date(day)
    return f"{moment:%a} {moment.day} {moment:%b}" if moment.hour == moment.minute == 0 else f"{moment:%H:%M}"


def _frame(run: Run, names: Sequence[str]) -> tuple[pd.DataFrame, int]:
    """Hourly counts of the named policies, gathered into at most about 60 points; and the hours of each."""
    frame = run.hours.to_pandas()
    frame = frame[frame["policy"].isin(names)]
    hours = frame["hour"].nunique()
    step = next((step for step in (1, 3, 6, 12, 24, 72) if hours / step <= 60), 168)
    frame["hour"] = frame["hour"].dt.floor(f"{step}h")
    sums = frame.groupby(["policy", "hour"], as_index=False)[["payments", "approved", "dark"]].sum()
    # Behind the trace's end only customers who came back late still arrive: too few, and too unlucky, for a rate.
    usual = sums.groupby("hour")["payments"].sum()
    kept = usual.index[usual >= 0.05 * usual.median()]
    return sums[sums["hour"].isin(kept)], step


def over_time(run: Run) -> Picture | None:
    """Approval rate and dark share by time of arrival, with the outages of each processor beneath."""
    names = _shown(run)
    frame, step = _frame(run, names)
    if frame.empty:
        return None
    colours, marks = policy_colours(run), processor_colours(run)
    outages = run.outages.to_pandas()
    affected = sorted(set(outages["processor"]))
    ratios = [3.0, 1.5] + ([0.28 * len(affected) + 0.1] if affected else [])
    with drawing(WIDTH, 0.9 + sum(ratios)) as figure:
        panels = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
        for name in reversed(names):  # the baseline is drawn last, on top
            rows = frame[frame["policy"] == name]
            for axes, part in zip(panels[:2], ("approved", "dark"), strict=True):
                share = rows[part] / rows["payments"].where(rows["payments"] > 0)
                axes.plot(rows["hour"], share, color=colours[name], label=name,
                          linewidth=1.9 if name == names[0] else 1.5, linestyle="--" if name == names[0] else "-")
        panels[0].set_title("Approved, share of payments")
        panels[1].set_title("Dark, share of payments")
        panels[1].set_ylim(bottom=0)
        for axes in panels[:2]:
            axes.yaxis.set_major_formatter(PERCENT)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.grid(axis="x", visible=False)
        if affected:
            low, high = frame["hour"].min(), frame["hour"].max() + pd.Timedelta(hours=step)
            _strips(panels[2], run, affected, marks, low, high)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside upper left", ncols=min(len(names), 6), frameon=False,
                      handlelength=1.6, columnspacing=1.4)
        locator = _dates.AutoDateLocator(minticks=4, maxticks=9)
        panels[-1].xaxis.set_major_locator(locator)
        panels[-1].xaxis.set_major_formatter(FuncFormatter(_moment))
    every = "hour" if step == 1 else f"{step} hours"
    omitted = len(run.policies) - len(names)
    return Picture(
        "time", "When it matters: approval by time of arrival (UTC)",
        f"Each point gathers {every} and all replications; the dashed line is {names[0]}. "
        + ("Beneath: the share of replications in which the processor was in an outage; the darker, the more. "
           if affected else "There was no outage. ")
        + (f"The {omitted} policies with the least lift are left out." if omitted > 0 else ""),
        f"Lines of approval rate and of dark payments by time of arrival for {', '.join(names)}"
        + (f", with the outages of {', '.join(affected)} beneath." if affected else "."),
        svg_text(figure),
    )


def _strips(axes: Any, run: Run, affected: Sequence[str], marks: dict[str, str], low: pd.Timestamp,
            high: pd.Timestamp) -> None:
    """One strip per processor; the opacity is the share of replications in which it was in an outage."""
    grid = np.linspace(low.value // 1000, high.value // 1000, 241).astype(np.int64)
    edges = pd.to_datetime(grid, unit="us", utc=True).to_pydatetime()
    replications = run.replications.select(["world", "luck"]).group_by(["world", "luck"]).aggregate([]).num_rows
    for y, processor in enumerate(affected):
        rows = only(run.outages, processor=processor)
        start, end = numbers(rows["start"]), numbers(rows["end"])
        end = np.where(end < start, grid[-1], end)  # an outage without an end outlives the trace
        middle = (grid[1:] + grid[:-1]) // 2
        affected_then = (start[:, None] <= middle) & (middle < end[:, None])
        share = affected_then.sum(axis=0) / max(replications, 1)
        breaks = np.flatnonzero(np.diff(share, prepend=-1.0))
        for i, until in zip(breaks, np.append(breaks[1:], len(share)), strict=True):
            if share[i] == 0:
                continue
            bottom, top = 1 - (y + 0.88) / len(affected), 1 - (y + 0.12) / len(affected)
            axes.axvspan(edges[i], edges[until], ymin=bottom, ymax=top, color=marks[processor], linewidth=0,
                         alpha=min(1.0, 0.12 + 0.88 * float(share[i])))
    axes.set_ylim(len(affected), 0)
    axes.set_yticks([y + 0.5 for y in range(len(affected))], affected, color=INK)
    axes.set_title("Outages")
    axes.grid(visible=False)


def _survival(run: Run, column: str, **where: str) -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Per value of ``column``: bin edges in ms and the share that took longer than each."""
    frame = only(run.latency, **where).to_pandas()
    found = {}
    for name, rows in frame.groupby(column):
        counts = np.bincount(rows["bin"], weights=rows["count"], minlength=len(BIN_EDGES_MS) - 1)
        longer = 1 - np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
        found[str(name)] = (BIN_EDGES_MS, np.where(longer > 1e-12, longer, np.nan))
    return found


def latency(run: Run) -> Picture | None:
    """The share that took longer than t: attempts by processor under the baseline, waits by policy."""
    baseline, names = run.summary["baseline"], _shown(run)
    attempts = _survival(run, "processor", policy=baseline, kind="attempt")
    waits = _survival(run, "policy", kind="wait")
    waits = {name: waits[name] for name in names if name in waits}
    if not attempts and not waits:
        return None
    with drawing(WIDTH, 3.5) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        sides = ((panels[0], attempts, processor_colours(run), f"Attempts by processor ({baseline})"),
                 (panels[1], waits, policy_colours(run), "Customer's wait by policy"))
        for axes, curves, colours, title in sides:
            seen = [edges[np.isfinite(share) & (share < 0.999)] for edges, share in curves.values()]
            for name, (edges, share) in curves.items():
                axes.step(edges, share, where="post", color=colours[name], label=name, linewidth=1.7,
                          linestyle="--" if name == baseline else "-")
            spread = np.concatenate([*seen, np.array([100.0, 1_000.0])])
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlim(spread.min() / 1.3, spread.max() * 1.6)
            axes.set_ylim(5e-4, 1.1)
            axes.set_title(title)
            ticks = [t for t in _TICKS_MS if spread.min() <= t <= spread.max() * 1.6]
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _TICKS_MS.get(round(x), "")))
            axes.yaxis.set_major_locator(FixedLocator([0.001, 0.01, 0.05, 0.5, 1]))
            axes.yaxis.set_major_formatter(PERCENT)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
                axis.set_minor_formatter(NullFormatter())
            axes.legend(loc="lower left", frameon=False, handlelength=1.4, fontsize=8.5, labelspacing=0.3)
        panels[0].set_ylabel("share that took longer")
    return Picture(
        "latency", "How long it takes",
        "Read across from 5 %: one in twenty took longer than the time beneath the curve. The wait runs from arrival "
        "to the last answer before any deliberate delay of 15 minutes or more.",
        f"Share of attempts by processor, and of waits by policy ({', '.join(waits)}), that took longer than a time.",
        svg_text(figure),
    )
