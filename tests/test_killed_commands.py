"""Every writing command, killed at chosen instants: nothing is lost, nothing is stuck, and no figures are mixed."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routesim.calibration import calibrate as calibrating
from routesim.calibration.calibrate import Calibration
from routesim.calibration.check.findings import Finding
from routesim.calibration.history.read import History
from routesim.reports.metrics.support import Support
from routesim.scenarios.commands import check as checking
from routesim.sim.files import read_table
from routesim.sim.folders import recover
from routesim.sim.model import CalibratedModel
from routesim.sim.model_folder import ModelFolder
from routesim.sim.uncertainty import Uncertainty
from tests.conftest import run_command
from tests.kills import touches
from tests.small import EXPERIMENT, Small, contents

COMMANDS = ["history", "calibrate", "check", "run", "experiment", "report", "export"]
FEW, MANY = 2, 100
TO_BE_ENDED = 2
"""The last touches of files, which put the new in the place of the old: all of them are tried."""


@pytest.fixture(autouse=True)
def quick(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration and a check take no time, and tell how many payments they saw."""
    folder = ModelFolder(small.model)
    known = Calibration(CalibratedModel.load(small.model), Support.from_table(read_table(folder.support)),
                        read_table(folder.outages))

    def fit(history: History, *_: Any) -> Calibration:
        seen = history.log.payments.num_rows
        blocks = tuple(replace(one, estimates=one.estimates + seen * 1e-9) for one in known.model.uncertainty.blocks)
        document = known.model.model.model_copy(update={"name": f"of {seen} payments"})
        return replace(known, model=CalibratedModel(document, Uncertainty(blocks)))

    def examine(_: CalibratedModel, history: History, *__: Any, **___: Any) -> list[Finding]:
        return [Finding("payments", history.log.payments.num_rows, 1.0, 1.0, 1.0, True, "nothing")]

    monkeypatch.setattr(calibrating, "calibrate", fit)
    monkeypatch.setattr(checking, "examine", examine)


def words(kind: str, small: Small, folder: Path, out: Path, seed: int) -> tuple[str | Path, ...]:
    """The command, whose outputs differ with the seed."""
    few = ("--workers", "1", "--set", "replications=1", "--set", f"seed={seed}")
    days = ("--from", f"2026-01-0{4 + seed}")
    return {
        "history": ("history", out, "--days", "1", "--per-day", "60", "--seed", str(seed)),
        "calibrate": ("calibrate", small.history, "--out", out, *days),
        "check": ("check", small.model, small.history, "--out", out, "--workers", "1", *days),
        "run": ("run", small.write(folder), "--out", out, *few),
        "experiment": ("experiment", small.write(folder, EXPERIMENT, "experiment.yaml"), "--out", out, *few),
        "report": ("report", out),
        "export": ("export", folder / "run", "--out", out),
    }[kind]


def seen(folder: Path) -> dict[str, str]:
    """The contents of a folder but for what is hidden."""
    return {name: digest for name, digest in contents(folder).items() if not Path(name).name.startswith(".")}


def try_instants(kind: str, small: Small, tmp_path: Path, count: int) -> None:
    def work(place: str = "here", seed: int = 2) -> None:
        """Into a folder of one name in ``place``, since a model is called by its folder's name."""
        assert run_command(*words(kind, small, tmp_path, tmp_path / place / "out", seed)) in (0, 1)

    if kind == "export":  # which never replaces anything
        assert run_command(*words("run", small, tmp_path, tmp_path / "run", 1)) == 0
    elif kind == "report":  # whose page is the same again
        assert run_command(*words("run", small, tmp_path, tmp_path / "old" / "out", 1)) == 0
        shutil.copytree(tmp_path / "old", tmp_path / "new")
    else:
        work("old", 1)
    work("new")
    old, new, out = (tmp_path / place / "out" for place in ("old", "new", "here"))
    wholes = [contents(old), contents(new)]
    assert (wholes[0] == wholes[1]) == (kind == "report")

    def put_back() -> None:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if kind != "export":
            shutil.copytree(old, out)

    put_back()
    total = touches(work, tmp_path)
    assert total is not None
    assert total > count
    assert contents(out) == wholes[1]
    for instant in sorted({*random.Random(count).sample(range(total), count), *range(total - TO_BE_ENDED, total)}):
        put_back()
        assert touches(work, tmp_path, instant) is None
        recover(out)
        if kind == "check":  # whose files lie among others: the next check ends what was begun, whatever it is about
            assert run_command("check", tmp_path / "nowhere", small.history, "--out", out) == 2
        assert seen(out) in (({}, wholes[1]) if kind == "export" else wholes)
        if kind == "export" and seen(out):  # what is there already is told, and tidied beside
            assert run_command(*words(kind, small, tmp_path, out, 2)) == 2
        else:
            work()
        assert contents(out) == wholes[1]
        assert [path.name for path in out.parent.rglob("*") if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", COMMANDS)
def test_killed_at_a_few_instants(small: Small, tmp_path: Path, kind: str) -> None:
    try_instants(kind, small, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_killed_at_many_instants(small: Small, tmp_path: Path, kind: str) -> None:
    try_instants(kind, small, tmp_path, MANY)
