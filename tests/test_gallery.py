"""Every scenario of the gallery loads as it stands, and runs on a small history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from routesim.scenarios.commands.demo import SCENARIO, gallery, prepare_scenario
from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running.runner import prepare, run
from tests.small import Small

FOLDER = Path(__file__).resolve().parents[1] / "scenarios" / "gallery"
NAMES = sorted(path.name for path in FOLDER.iterdir())


def test_the_package_brings_the_whole_gallery() -> None:
    assert sorted(gallery()) == NAMES
    assert SCENARIO in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_of_the_gallery_runs(name: str, small: Small, tmp_path: Path) -> None:
    prepare_scenario(tmp_path)
    path = tmp_path / name
    as_it_stands = load_scenario(path)
    assert as_it_stands.scenario == Path(name).stem
    assert gallery()[name].startswith("#")  # it says what it is about
    window = (f"trace={{source: '{small.history}', from: 2026-01-10T00:00:00}}",)
    scenario = load_scenario(path, [f"model='{small.model}'", *window, "replications=1", "world.arrivals.factor=1"])
    assert list(scenario.policies) == list(as_it_stands.policies)
    found = run(prepare(scenario), tmp_path / "run", workers=1)
    summary = json.loads((found / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["policies"]) == list(as_it_stands.policies)
    assert all(0 < figures["approval_rate"]["value"] < 1 for figures in summary["policies"].values())
    assert (found / "report.html").stat().st_size > 10_000
