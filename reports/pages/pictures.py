"""The page's pictures, as SVG: the same bytes for the same numbers, and no text outlined, so that they stay legible.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; a policy keeps its colour in every picture,
and so does a processor. The baseline is always dark grey.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import dates
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from routesim.reports.metrics.columns import numbers
from routesim.reports.metrics.tallies import BIN_EDGES_MS
from routesim.reports.run.folder import Run, only

_POLICY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6BB1", "#56B4E9", "#B8860B", "#7A4B2A")
_PROCESSOR_COLOURS = ("#4477AA", "#EE8866", "#44AA99", "#AA4499", "#CCAA33", "#99BBDD", "#882255", "#999933")
_BASELINE = "#444444"
_INK, _FAINT, _RULE = "#1f2933", "#66727f", "#d9dee3"
_MOST_LINES = 6
_WIDTH = 9.2

_STYLE: Any = {
    "svg.hashsalt": "routesim", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.5,
    "axes.edgecolor": _RULE, "axes.labelcolor": _FAINT, "axes.labelsize": 9, "text.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "xtick.color": _FAINT, "ytick.color": _FAINT, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "xtick.major.size": 0, "ytick.major.size": 0, "axes.grid": True, "grid.color": "#eceff2",
    "grid.linewidth": 0.8, "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
    "timezone": "UTC", "text.parse_math": False,
}
_dates: Any = dates  # matplotlib types these only in part
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.10g} %")


@dataclass(frozen=True)
class Picture:
    """An SVG with a title that says what it shows, a caption that says how to read it, and a text in its stead."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_text(figure: Any) -> str:
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    with mpl.rc_context(_STYLE):
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # laid out with the font that comes with matplotlib, shown in the reader's own (which is no wider)
    return text[text.index("<svg"):].replace("'DejaVu Sans'", _FONTS.replace("'", "&#39;"))


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _on(colour: str) -> str:
    """The ink that reads best on a colour, by its relative luminance (WCAG 2.1)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.2 else _INK


def _moment(day: float, _: int | None = None) -> str:
    """A tick of a time axis: the date at midnight, else the hour."""
    moment = _dates.num2date(day)
    return f"{moment:%a} {moment.day} {moment:%b}" if moment.hour == moment.minute == 0 else f"{moment:%H:%M}"


def policy_colours(run: Run) -> dict[str, str]:
    """A colour per policy, by its place in the scenario; the baseline is grey.

    With more policies than colours they go by lift, so that those with a line of their own differ.
    """
    others = [name for name in run.policies if name != run.summary["baseline"]]
    if len(others) > len(_POLICY_COLOURS):
        others = by_lift(run)
    colours = {name: _POLICY_COLOURS[i % len(_POLICY_COLOURS)] for i, name in enumerate(others)}
    return colours | {run.summary["baseline"]: _BASELINE}


def processor_colours(run: Run) -> dict[str, str]:
    """A colour per processor, in alphabetical order."""
    names = sorted(set(run.processors["processor"].to_pylist()) | set(run.outages["processor"].to_pylist()))
    return {name: _PROCESSOR_COLOURS[i % len(_PROCESSOR_COLOURS)] for i, name in enumerate(names)}


def by_lift(run: Run) -> list[str]:
    """The policies but the baseline, the greatest lift first; equal ones in the scenario's order."""
    others = [name for name in run.policies if name != run.summary["baseline"]]
    return sorted(others, key=lambda name: -(run.figure(name, "lift_pp")["value"] or 0.0))


def _shown(run: Run) -> list[str]:
    """The policies that get a line of their own: the baseline and the best few."""
    return [run.summary["baseline"], *by_lift(run)[: _MOST_LINES - 1]]


def lift(run: Run) -> Picture | None:
    """Dot, 95 % interval and the range of one run for each policy's lift; None without another policy."""
    names = by_lift(run)
    if not names:
        return None
    colours, baseline = policy_colours(run), run.summary["baseline"]
    with drawing(_WIDTH, 0.75 + 0.42 * len(names)) as figure:
        axes = figure.subplots()
        for y, name in enumerate(names):
            found = run.figure(name, "lift_pp")
            value = found["value"]
            if value is None:
                continue
            if found["one_run_low"] is not None:
                axes.plot([found["one_run_low"], found["one_run_high"]], [y, y], color=colours[name], alpha=0.25,
                          linewidth=8, solid_capstyle="round")
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [y, y], color=colours[name], linewidth=2.6,
                          solid_capstyle="round")
            axes.plot([value], [y], "o", color=colours[name], markersize=7.5, markeredgecolor="white",
                      markeredgewidth=1.2)
            axes.annotate(_signed(f"{value:+.2f}"), (1.01, y), xycoords=("axes fraction", "data"), va="center",
                          color=colours[name], weight="bold")
        axes.axvline(0, color=_INK, linewidth=1)
        axes.set_yticks(range(len(names)), names, color=_INK, fontsize=9.5)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _signed(f"{x:+g}") if x else "0"))
        axes.set_xlabel(f"approval lift on {baseline}, percentage points")
    return Picture(
        "lift", f"How much more each policy approves than {baseline}",
        "Dot: expected lift. Dark bar: its 95 % interval. Pale bar: where a single run of these dates would fall. "
        "Where the dark bar crosses the zero line, no difference is shown.",
        "Approval lift in percentage points: " + "; ".join(f"{name} {_told(run, name)}" for name in names) + ".",
        svg_text(figure),
    )


def _told(run: Run, name: str) -> str:
    found = run.figure(name, "lift_pp")
    if found["value"] is None:
        return "unknown"
    interval = "" if found["low"] is None else f" ({found['low']:+.2f} to {found['high']:+.2f})"
    return f"{found['value']:+.2f}{interval}"


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
    struck = sorted(set(outages["processor"]))
    ratios = [3.0, 1.5] + ([0.28 * len(struck) + 0.1] if struck else [])
    with drawing(_WIDTH, 0.9 + sum(ratios)) as figure:
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
            axes.yaxis.set_major_formatter(_PERCENT)
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.grid(axis="x", visible=False)
        if struck:
            low, high = frame["hour"].min(), frame["hour"].max() + pd.Timedelta(hours=step)
            _strips(panels[2], run, struck, marks, low, high)
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
           if struck else "No outage struck. ")
        + (f"The {omitted} policies with the least lift are left out." if omitted > 0 else ""),
        f"Lines of approval rate and of dark payments by time of arrival for {', '.join(names)}"
        + (f", with the outages of {', '.join(struck)} beneath." if struck else "."),
        svg_text(figure),
    )


def _strips(axes: Any, run: Run, struck: Sequence[str], marks: dict[str, str], low: pd.Timestamp,
            high: pd.Timestamp) -> None:
    """One strip per processor; the opacity is the share of replications in which it was in an outage."""
    grid = np.linspace(low.value // 1000, high.value // 1000, 241).astype(np.int64)
    edges = pd.to_datetime(grid, unit="us", utc=True).to_pydatetime()
    replications = run.replications.select(["world", "luck"]).group_by(["world", "luck"]).aggregate([]).num_rows
    for y, processor in enumerate(struck):
        rows = only(run.outages, processor=processor)
        start, end = numbers(rows["start"]), numbers(rows["end"])
        end = np.where(end < start, grid[-1], end)  # an outage without an end outlives the trace
        middle = (grid[1:] + grid[:-1]) // 2
        struck_then = (start[:, None] <= middle) & (middle < end[:, None])
        share = struck_then.sum(axis=0) / max(replications, 1)
        breaks = np.flatnonzero(np.diff(share, prepend=-1.0))
        for i, until in zip(breaks, np.append(breaks[1:], len(share)), strict=True):
            if share[i] == 0:
                continue
            axes.axvspan(edges[i], edges[until], ymin=1 - (y + 0.88) / len(struck), ymax=1 - (y + 0.12) / len(struck),
                         color=marks[processor], alpha=min(1.0, 0.12 + 0.88 * float(share[i])), linewidth=0)
    axes.set_ylim(len(struck), 0)
    axes.set_yticks([y + 0.5 for y in range(len(struck))], struck, color=_INK)
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


_TICKS_MS = {10: "10 ms", 100: "100 ms", 1_000: "1 s", 10_000: "10 s", 60_000: "1 min", 600_000: "10 min"}


def latency(run: Run) -> Picture | None:
    """The share that took longer than t: attempts by processor under the baseline, waits by policy."""
    baseline, names = run.summary["baseline"], _shown(run)
    attempts = _survival(run, "processor", policy=baseline, kind="attempt")
    waits = _survival(run, "policy", kind="wait")
    waits = {name: waits[name] for name in names if name in waits}
    if not attempts and not waits:
        return None
    with drawing(_WIDTH, 3.5) as figure:
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
            axes.yaxis.set_major_formatter(_PERCENT)
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


def traffic(run: Run) -> Picture | None:
    """Which processors carried the attempts of each policy, and what they approved."""
    names = [run.summary["baseline"], *by_lift(run)]
    frame = run.processors.to_pandas()
    if frame.empty:
        return None
    colours = processor_colours(run)
    with drawing(_WIDTH, 0.95 + 0.4 * len(names)) as figure:
        axes = figure.subplots()
        for y, name in enumerate(names):
            rows = frame[frame["policy"] == name].sort_values("processor")
            total, left = rows["attempts"].sum(), 0.0
            for processor, sent, won in zip(rows["processor"], rows["attempts"], rows["approvals"], strict=True):
                share = sent / total if total else 0.0
                axes.barh(y, share, left=left, height=0.72, color=colours[processor], edgecolor="white", linewidth=1,
                          label=processor)
                if share > 0.075:
                    axes.text(left + share / 2, y, f"{100 * share:.0f} % · {100 * won / sent:.0f} %", ha="center",
                              va="center", color=_on(colours[processor]), fontsize=8.2, weight="bold")
                left += share
        axes.set_yticks(range(len(names)), names, color=_INK, fontsize=9.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(sorted(zip(labels, handles, strict=True), key=lambda pair: pair[0]))
        figure.legend(list(unique.values()), list(unique), loc="outside upper left", ncols=8, frameon=False,
                      handlelength=1, handleheight=1)
    return Picture(
        "traffic", "Who carried the traffic",
        "Share of all attempts sent to each processor · share of those attempts that it approved. The second figure "
        "is not the processor's quality: policies choose who gets which payments.",
        "Stacked bars of each processor's share of attempts, by policy.",
        svg_text(figure),
    )


def pictures(run: Run) -> list[Picture]:
    """All pictures that the run has numbers for, in the order of the page."""
    return [picture for draw in (lift, over_time, traffic, latency) if (picture := draw(run)) is not None]
