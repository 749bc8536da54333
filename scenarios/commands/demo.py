"""The demo's numbers, and the gallery of scenarios, put where its paths lead to what the demo made."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from routesim.sim.folders import publish_file

DAYS = 35
PER_DAY = 2000
SPLIT = "2026-02-02T00:00:00"  # the model sees the four weeks before, the scenario replays the week after
SCENARIO = "volaris_week.yaml"


def gallery() -> dict[str, str]:
    """The annotated scenarios that come with the package: file name to text, by name."""
    folder = resources.files("routesim.scenarios").joinpath("gallery")
    return {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(folder.iterdir(), key=lambda e: e.name)
            if entry.name.endswith(".yaml")}


def prepare_scenario(folder: Path) -> Path:
    """Write the gallery's scenarios into a folder that holds ``history`` and ``model``; the path of the demo's own."""
    for name, text in gallery().items():
        publish_file(folder / name, text.encode())
    return folder / SCENARIO
