"""The page of a check: whether a model foretells a history, with every figure's distance from what was foretold."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from routesim.reports.pages.pictures import Picture, drawing, svg_text
from routesim.sim.files import write_text

Finding = Mapping[str, Any]

_SECTIONS = (
    ("First attempts, one step ahead", ("approval of first", "share of code")),
    ("Retries, one step ahead", ("approval of retries",)),
    ("Processors", ("latency", "timeouts", "outages")),
    ("A replay of the merchant's own router", ("replay",)),
)
_GOOD, _BAD = "#0b6b4f", "#a8371a"
_MOST_ROWS = 26


def render(path: Path, findings: Sequence[Finding], false_alarm: float, about: str) -> Path:
    """Write the page. Each finding has figure, observed, expected, sd, p_value, passed and look_at."""
    failed = [f for f in findings if not f["passed"]]
    headline = (f"The model foretells this history: all {len(findings)} figures agree." if not failed else
                f"The model does not foretell this history: {len(failed)} of {len(findings)} figures disagree.")
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True)
    pictures = [{"title": p.title, "caption": p.caption, "alt": p.alt,
                 "source": "data:image/svg+xml;base64," + base64.b64encode(p.svg.encode()).decode()}
                for p in (_distances(title, starts, findings) for title, starts in _SECTIONS) if p is not None]
    write_text(path, environment.get_template("check.html").render(
        headline=headline, failed=failed, findings=findings, false_alarm=false_alarm, pictures=pictures, about=about))
    return path


def _distances(title: str, starts: tuple[str, ...], findings: Sequence[Finding]) -> Picture | None:
    """Each figure's distance from what was foretold, in standard deviations of what would be seen."""
    mine = [f for f in findings if str(f["figure"]).startswith(starts)][:_MOST_ROWS]
    if not mine:
        return None
    z = np.array([(f["observed"] - f["expected"]) / max(f["sd"], 1e-12) for f in mine])
    shown = np.clip(z, -6, 6)
    with drawing(9.2, 0.7 + 0.24 * len(mine)) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(mine))[::-1]
        axes.axvspan(-2, 2, color="#eef3f6", zorder=0)
        axes.axvline(0, color="#66727f", linewidth=1)
        axes.hlines(rows, 0, shown, color="#b8c1c9", linewidth=1.2)
        axes.scatter(shown, rows, color=[_GOOD if f["passed"] else _BAD for f in mine], s=22, zorder=3)
        axes.set_yticks(rows, [str(f["figure"]) for f in mine])
        axes.set_xlim(-6.4, 6.4)
        axes.set_ylim(-0.7, len(mine) - 0.3)
        axes.set_xlabel("standard deviations from what was foretold")
        axes.grid(axis="y", visible=False)
        text = svg_text(figure)
    worst = mine[0]["figure"]
    caption = ("The least likely first. The band holds 95 % of right figures one by one; a dot in red fails in the "
               "family as a whole. Beyond six the dot stands at the edge.")
    alt = f"{len(mine)} figures with their distance from what was foretold; the least likely is {worst}."
    return Picture("distances", title, caption, alt, text)
