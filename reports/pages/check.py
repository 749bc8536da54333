"""The page of a check: whether a model predicts a history, with every figure's distance from its prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routesim.reports.pages.drawing import BAD, FAINT, GOOD, WIDTH, Picture, drawing, svg_text
from routesim.reports.pages.frame import page, write_page

Finding = Mapping[str, Any]

_SECTIONS = (
    ("First attempts, one step ahead", ("approval of first", "share of code")),
    ("Retries, one step ahead", ("approval of retries",)),
    ("Processors", ("latency", "timeouts", "outages")),
    ("A replay of the merchant's own router", ("replay",)),
)
_MOST_ROWS = 26


def render(path: Path, findings: Sequence[Finding], false_alarm: float, about: str) -> Path:
    """Write the page. Each finding has figure, observed, expected, sd, p_value, passed and look_at."""
    failed = [f for f in findings if not f["passed"]]
    headline = (f"The model predicts this history: all {len(findings)} figures agree." if not failed else
                f"The model does not predict this history: {len(failed)} of {len(findings)} figures disagree.")
    pictures = [picture for title, starts in _SECTIONS if (picture := _distances(title, starts, findings)) is not None]
    return write_page(path, page("check.html", headline=headline, failed=failed, findings=findings,
                                 false_alarm=false_alarm, pictures=pictures, about=about))


def _distances(title: str, starts: tuple[str, ...], findings: Sequence[Finding]) -> Picture | None:
    """Each figure's distance from the prediction, in standard deviations of what would be seen."""
    mine = [f for f in findings if str(f["figure"]).startswith(starts)][:_MOST_ROWS]
    if not mine:
        return None
    z = np.array([(f["observed"] - f["expected"]) / max(f["sd"], 1e-12) for f in mine])
    shown = np.clip(z, -6, 6)
    with drawing(WIDTH, 0.7 + 0.24 * len(mine)) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(mine))[::-1]
        axes.axvspan(-2, 2, color="#eef3f6", zorder=0)
        axes.axvline(0, color=FAINT, linewidth=1)
        axes.hlines(rows, 0, shown, color="#b8c1c9", linewidth=1.2)
        axes.scatter(shown, rows, color=[GOOD if f["passed"] else BAD for f in mine], s=22, zorder=3)
        axes.set_yticks(rows, [str(f["figure"]) for f in mine])
        axes.set_xlim(-6.4, 6.4)
        axes.set_ylim(-0.7, len(mine) - 0.3)
        axes.set_xlabel("standard deviations from the prediction")
        axes.grid(axis="y", visible=False)
        text = svg_text(figure)
    worst = mine[0]["figure"]
    caption = ("The least likely first. The band holds 95 % of right figures one by one; a dot in red fails in the "
               "family as a whole. Beyond six the dot stands at the edge.")
    alt = f"{len(mine)} figures with their distance from the prediction; the least likely is {worst}."
    return Picture("distances", title, caption, alt, text)
