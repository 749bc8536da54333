"""The frame of every page: one environment for its template, and one way to write it, whole or not at all.

A page is one self-contained HTML file. It asks nothing of the network, which its Content-Security-Policy makes the
browser enforce, and whatever it shows of a run's data is text, never markup.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from routesim.reports.words import number, percent, percent_between, plus_minus, signed, unbroken
from routesim.sim.folders import publish_file

_TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        function.__name__: function for function in (number, signed, percent, percent_between, plus_minus, unbroken)}
    return environment


def page(template: str, **values: Any) -> str:
    """The page that ``template`` (a file of templates/, which extends page.html) makes of ``values``, as text."""
    return _environment().get_template(template).render(values)


def write_page(path: Path, text: str) -> Path:
    """Write the page, whole or not at all; its path. Raises BadInput where the folder can't be written, or another
    process writes the page."""
    publish_file(path, text.encode())
    return path


def facts(manifest: Mapping[str, Any], *keys: str) -> list[tuple[str, str]]:
    """The manifest's entries under ``keys`` as pairs of text; nested entries are joined, absent ones left out."""
    pairs: list[tuple[str, str]] = []
    for key in keys:
        entry = manifest.get(key)
        if isinstance(entry, Mapping):
            pairs += [(str(name), _plain(value)) for name, value in entry.items()]
        elif entry is not None:
            pairs.append((key, str(entry)))
    return pairs


def sentences(manifest: Mapping[str, Any], key: str) -> list[str]:
    """The manifest's list of sentences; empty where it has none."""
    entry = manifest.get(key)
    return [str(one) for one in entry] if isinstance(entry, list) else []


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
