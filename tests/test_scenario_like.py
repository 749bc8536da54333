"""A scenario that builds upon another: what it says itself, what it takes, and where complaints point."""

from __future__ import annotations

from pathlib import Path

import pytest

from routesim.scenarios.document.loading import load_scenario, resolved
from routesim.sim.errors import BadInput

BASE = """\
scenario: base
seed: 7
replications: 3
model: models/one
trace: {source: extract}
baseline: plain
policies:
  plain:
    route:
      - {to: [Worldpay]}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_left_out_is_taken_from_the_other_file(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", BASE)
    write(tmp_path, "middle.yaml", "like: base.yaml\nscenario: middle\nseed: 8\n")
    path = write(tmp_path, "storm.yaml", """\
like: middle.yaml
scenario: storm
outages: {base: none, add: [{processors: [Worldpay], start: 2026-02-07T00:00:00, duration: 1h}]}
""")
    scenario = load_scenario(path, ["replications.worlds=5"])
    assert (scenario.scenario, scenario.seed, scenario.replications.worlds) == ("storm", 8, 5)
    assert list(scenario.policies) == ["plain"]
    assert scenario.model_path == tmp_path / "models" / "one"
    again = write(tmp_path, "whole.yaml", resolved(scenario))
    assert resolved(load_scenario(again)) == resolved(scenario)
    assert "like: " not in again.read_text(encoding="utf-8")


@pytest.mark.parametrize(("base", "child", "where", "message"), [
    (BASE.replace("seed: 7", "seed: many"), "like: base.yaml\nscenario: x", "base.yaml:2", "seed"),
    (BASE, "like: base.yaml\nscenario: x\nbaseline: plane", "child.yaml:3", "plain"),
    (BASE, "scenario: x\nlike: bose.yaml", "child.yaml:2", "base.yaml"),
    (BASE, "scenario: x\nlike: ../base.yaml", "child.yaml:2", "same folder"),
    (BASE, "like: child.yaml\nscenario: x", "child.yaml:1", "circle"),
    ("like: child.yaml\nscenario: y", "like: base.yaml\nscenario: x", "base.yaml:1", "circle"),
])
def test_a_complaint_names_the_file_that_is_wrong(tmp_path: Path, base: str, child: str, where: str,
                                                   message: str) -> None:
    write(tmp_path, "base.yaml", base)
    with pytest.raises(BadInput) as error:
        load_scenario(write(tmp_path, "child.yaml", child))
    assert error.value.where == where
    assert message in str(error.value)
