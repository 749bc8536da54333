"""The plugin in a pytest of its own: one test a figure, and readable failures."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from routesim.calibration.check import examine as examination
from routesim.calibration.check.findings import Surprise, judge


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ["-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    installed = any(e.name == "routesim" for e in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "routesim.calibration.check.pytest_plugin"]
    return subprocess.run([sys.executable, "-m", "pytest", *plugin, *options, *arguments, str(folder)], cwd=folder,
                          check=False, capture_output=True, text=True)


def test_one_option_without_the_other_is_told(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--routesim-model", "m")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--routesim-model and --routesim-history go together" in done.stderr


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--routesim-model", str(tmp_path / "none"), "--routesim-history", str(tmp_path))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no model here" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_figure_that_is_not_predicted_fails_by_name(tmp_path: Path) -> None:
    """The examination itself is tested elsewhere; here it is replaced, in the other process, by two known findings."""
    (tmp_path / "conftest.py").write_text(
        "from routesim.calibration.check import examine, findings\n"
        "from routesim.calibration.history import read\n"
        "from routesim.sim import model\n"
        "model.CalibratedModel.load = classmethod(lambda cls, path: None)\n"
        "read.read_history = lambda *a: None\n"
        "examine.check = lambda *a: findings.judge([findings.Surprise('latency p95 ms at A', 900, 700, 10, 1e-9),\n"
        "                                         findings.Surprise('replay: approval rate', .8, .8, .01, .9)])\n",
        encoding="utf-8")
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n", encoding="utf-8")
    done = run_pytest(tmp_path, "--routesim-model", "m", "--routesim-history", "h")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED" in done.stdout
    assert "latency p95 ms at A" in done.stdout
    assert "history   900" in done.stdout
    assert "look at   the processor's latency distribution" in done.stdout


def test_holm_holds_the_family() -> None:
    """By hand: .002 and .0024 are below .01/5 and .01/4 and fail; .004 is above .01/3, so it and the rest pass."""
    family = [Surprise(str(p), 1, 0, 1, p) for p in (0.002, 0.0024, 0.004, 0.0045, 0.5)]
    assert [f.passed for f in judge(family)] == [False, False, True, True, True]
    assert [f.passed for f in judge(family[2:])] == [True, True, True]
    assert examination.WORLDS >= 20
