"""The pictures of an experiment's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from routesim.reports.experiment.rules import RULES
from routesim.reports.pages.drawing import FAINT, WIDTH, Picture, drawing, svg_text
from routesim.reports.words import signed

_COLOURS = {"auto_winner": "#D55E00", "fixed_horizon": "#444444", "obrien_fleming": "#0072B2", "pocock": "#009E73",
            "always_valid": "#CC79A7", "cuped": "#8C6BB1"}
_LINES = {"auto_winner": "-", "fixed_horizon": ":", "obrien_fleming": "-", "pocock": "--", "always_valid": "-.",
          "cuped": (0, (1, 3))}
_BEST = "#0072B2"


def power_picture(figures: Mapping[str, Any], name: str) -> Picture:
    """Power against days for one treatment, at its lift and at both ends of the interval."""
    curve, lift, days = figures["power_by_day"][name], figures["lift_pp"][name], figures["experiment"]["days"]
    with drawing(WIDTH, 3.2) as figure:
        axes = figure.subplots()
        points = []
        for end, line in (("low", "--"), ("value", "-"), ("high", "--")):
            if curve[end] is not None and lift[end] is not None:
                axes.plot(curve["day"], 100 * np.array(curve[end]), line, color=_BEST,
                          lw=2.2 if end == "value" else 1.2, label=f"{signed(lift[end])} pp")
                points.append(f"{signed(lift[end])} pp: {100 * curve[end][min(days, len(curve[end])) - 1]:.0f} %")
        axes.axhline(80, color=FAINT, lw=0.8, ls=":")
        axes.axvline(days, color=FAINT, lw=0.8, ls=":")
        axes.set(xlabel="days", ylabel="chance to prove it, %", ylim=(0, 102), xlim=(0, curve["day"][-1]))
        if points:
            axes.legend(frameon=False, loc="lower right", title="true lift")
        svg = svg_text(figure)
    return Picture(
        f"power_{name}", f"How long until {name} is proved",
        "One look at the end, two-sided at 5 %. Solid: the simulated lift; dashed: the ends of its interval. Dotted: a "
        f"chance of 80 %, and the {days} days of this test.",
        f"Power after {days} days by true lift: {'; '.join(points) or 'unknown'}.", svg)


def days_picture(figures: Mapping[str, Any]) -> Picture:
    """The share of tests that each rule has decided by each day, under the truth and with both variants alike."""
    settings = (("truth", "as simulated"), ("alike", "both variants alike: every call is false"))
    count = figures["replications"]["worlds"] * figures["replications"]["luck"]
    points = []
    with drawing(WIDTH, 3.4) as figure:
        for axes, (setting, title) in zip(figure.subplots(1, 2, sharey=True), settings, strict=True):
            for rule, found in figures["rules"][setting].items():
                share = 100 * np.cumsum(found["called_by_day"]) / count
                axes.step(np.arange(1, len(share) + 1), share, where="post", color=_COLOURS[rule], ls=_LINES[rule],
                          lw=1.8, label=RULES[rule].label)
                points.append(f"{RULES[rule].label} {share[-1]:.0f} % ({title})")
            axes.set(xlabel="day", ylim=(-2, 102), title=title)
        figure.axes[0].set_ylabel("tests decided, %")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
        svg = svg_text(figure)
    return Picture(
        "days_to_decision", "When the rules decide",
        f"Over {count} simulated tests each. A rule that climbs on the right calls winners where there are none.",
        f"Tests decided by the last day: {'; '.join(points)}.", svg)
