"""How every picture of a page is drawn, as SVG: the same bytes for the same numbers, and no text outlined, so that it
stays legible.

Colours are Okabe and Ito's, which colour-blind readers can distinguish; a policy keeps its colour in every picture,
and so does a processor. The baseline is always dark grey.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from routesim.reports.run.answers import by_lift
from routesim.reports.run.folder import Run

_POLICY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8C6BB1", "#56B4E9", "#B8860B", "#7A4B2A")
_PROCESSOR_COLOURS = ("#4477AA", "#EE8866", "#44AA99", "#AA4499", "#CCAA33", "#99BBDD", "#882255", "#999933")
_BASELINE = "#444444"
INK, FAINT, GRID = "#1f2933", "#66727f", "#eceff2"
GOOD, BAD = "#0b6b4f", "#a8371a"
WIDTH = 9.2
"""Inches: the width of the page's column."""
_RULE = "#d9dee3"

_STYLE: Any = {
    "svg.hashsalt": "routesim", "svg.fonttype": "none", "font.family": "DejaVu Sans", "font.size": 9.5,
    "axes.edgecolor": _RULE, "axes.labelcolor": FAINT, "axes.labelsize": 9, "text.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5, "xtick.major.size": 0, "ytick.major.size": 0, "axes.grid": True, "grid.color": GRID,
    "grid.linewidth": 0.8, "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
    "timezone": "UTC", "text.parse_math": False,
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.10g} %")


@dataclass(frozen=True)
class Picture:
    """An SVG with a title that says what it shows, a caption that says how to read it, and a text in its stead."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str

    @property
    def source(self) -> str:
        """The picture for the ``src`` of an image: it lies in the page itself."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


@contextmanager
def drawing(width: float, height: float) -> Iterator[Any]:
    """A figure of that many inches, in the style of all pages."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_text(figure: Any) -> str:
    """The figure as SVG, without the date and the program that would make its bytes differ."""
    buffer = io.StringIO()
    canvas: Any = FigureCanvasSVG(figure)
    with mpl.rc_context(_STYLE):
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # laid out with the font that comes with matplotlib, shown in the reader's own (which is no wider)
    return text[text.index("<svg"):].replace("'DejaVu Sans'", _FONTS.replace("'", "&#39;"))


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
