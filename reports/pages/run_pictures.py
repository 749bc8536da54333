"""A run's pictures by policy: its lift, and who carried its traffic; and all pictures in the page's order."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter

from routesim.reports.metrics.catalogue import METRICS
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
from routesim.reports.pages.time_pictures import latency, over_time
from routesim.reports.run.answers import by_lift
from routesim.reports.run.folder import Run

LIFT = METRICS["lift_pp"]


def pictures(run: Run) -> list[Picture]:
    """All pictures that the run has numbers for, in the order of the page."""
    return [picture for draw in (lift, over_time, traffic, latency) if (picture := draw(run)) is not None]


def lift(run: Run) -> Picture | None:
    """Dot, 95 % interval and the range of one run for each policy's lift; None without another policy."""
    names = by_lift(run)
    if not names:
        return None
    colours, baseline = policy_colours(run), run.summary["baseline"]
    with drawing(WIDTH, 0.75 + 0.42 * len(names)) as figure:
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
            axes.annotate(LIFT.text(value), (1.01, y), xycoords=("axes fraction", "data"), va="center",
                          color=colours[name], weight="bold")
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(names)), names, color=INK, fontsize=9.5)
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_formatter(FuncFormatter(_signed_tick))
        axes.set_xlabel(f"approval lift on {baseline}, percentage points")
    return Picture(
        "lift", f"How much more each policy approves than {baseline}",
        "Dot: expected lift. Dark bar: its 95 % interval. Pale bar: where a single run of these dates would fall. "
        "Where the dark bar crosses the zero line, no difference is shown.",
        "Approval lift in percentage points: " + "; ".join(f"{name} {_in_words(run, name)}" for name in names) + ".",
        svg_text(figure),
    )


def _signed_tick(value: float, _: int | None = None) -> str:
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def _in_words(run: Run, name: str) -> str:
    lift = run.figure(name, "lift_pp")
    interval = LIFT.between(lift["low"], lift["high"])
    return "unknown" if lift["value"] is None else LIFT.text(lift["value"]) + (f" ({interval})" if interval else "")


def traffic(run: Run) -> Picture | None:
    """Which processors carried the attempts of each policy, and what they approved."""
    names = [run.summary["baseline"], *by_lift(run)]
    frame = run.processors.to_pandas()
    if frame.empty:
        return None
    colours = processor_colours(run)
    with drawing(WIDTH, 0.95 + 0.4 * len(names)) as figure:
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
        axes.set_yticks(range(len(names)), names, color=INK, fontsize=9.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PERCENT)
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


def _on(colour: str) -> str:
    """The ink that reads best on a colour, by its relative luminance (WCAG 2.1)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.2 else INK
