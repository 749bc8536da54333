"""The console command from a history to a report, in its own words."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from routesim.calibration.check.findings import Finding
from routesim.policies.listing import listing
from routesim.scenarios import cli
from routesim.scenarios.commands import check as checking
from routesim.scenarios.commands import demo
from routesim.scenarios.document.loading import load_scenario
from tests.conftest import Command
from tests.small import Small, contents

COMMANDS = ("demo", "history", "calibrate", "check", "run", "report", "policies", "power")


def test_the_console_command_is_installed() -> None:
    found = [entry for entry in entry_points(group="console_scripts") if entry.name == "routesim"]
    assert found
    assert all(entry.load() is cli.main for entry in found)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(command: Command, name: str) -> None:
    ended = command(name, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert f"routesim {name}" in " ".join(ended.out.split())


def test_the_version_is_shown(command: Command) -> None:
    ended = command("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"routesim {version('routesim')}\n", "")


def test_without_a_command_the_commands_are_shown(command: Command) -> None:
    ended = command()
    assert ended.code == 2
    assert all(name in ended.out + ended.err for name in COMMANDS)
    assert command("--help").code == 0


def test_policies_tells_all_that_the_catalog_holds(command: Command) -> None:
    ended = command("policies")
    assert (ended.code, ended.err) == (0, "")
    words = " ".join(ended.out.split())
    for each in listing():
        assert f"{each.name} ({each.kind})" in words
        assert all(name in words for name, *_ in each.parameters)


def test_history_writes_an_extract(command: Command, tmp_path: Path) -> None:
    ended = command("history", tmp_path / "h", "--days", "1", "--per-day", "80", "--seed", "3")
    assert (ended.code, ended.err) == (0, "")
    truth = json.loads((tmp_path / "h" / "truth" / "truth.json").read_text(encoding="utf-8"))
    assert truth["seed"] == 3
    assert f"{truth['observed']['payments']} payments" in " ".join(ended.out.split())


def test_run_and_report(command: Command, small: Small, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = command("run", small.write(tmp_path), "--out", out, "--workers", "1", "--set", "replications=2",
                    "--set", "log=none")
    assert (ended.code, ended.err) == (0, "")
    for policy in ("legacy", "three_attempts", "breaker"):
        assert policy in ended.out
    assert ended.out.rstrip().endswith(str(out / "report.html"))
    before = contents(out)
    (out / "report.html").unlink()
    again = command("report", out)
    assert (again.code, again.err, again.out) == (0, "", ended.out)
    assert contents(out) == before


def test_a_run_goes_where_its_scenario_says(command: Command, small: Small, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = small.write(tmp_path / "elsewhere")
    assert command("run", path, "--workers", "1", "--set", "replications=1", "--set", "log=none").code == 0
    assert (tmp_path / "runs" / "small" / "summary.json").exists()


def test_paths_of_a_scenario_are_relative_to_its_file(small: Small, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = small.write(tmp_path / "a" / "b")
    scenario = load_scenario(path, ["model=../m", "trace.source=h"])
    assert scenario.model_path.resolve() == tmp_path / "a" / "m"
    assert Path(scenario.trace_source) == tmp_path / "a" / "b" / "h"


@pytest.mark.parametrize(("p_value", "code"), [(0.9, 0), (1e-9, 1)])
def test_check_exits_by_what_it_finds(command: Command, small: Small, tmp_path: Path, p_value: float, code: int,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    passed = code == 0
    finding = Finding("approval rate", observed=0.8, expected=0.81, sd=0.01, p_value=p_value, passed=passed)
    monkeypatch.setattr(checking, "examine", lambda *_, **__: [finding])
    ended = command("check", small.model, small.history, "--out", tmp_path)
    assert (ended.code, ended.err) == (code, "")
    assert "approval rate" in ended.out
    found = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))
    assert found["passed"] is passed
    assert found["findings"][0]["figure"] == "approval rate"


def test_an_interruption_ends_with_a_word(command: Command, small: Small, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("routesim.scenarios.running.runner.prepare", interrupted)
    ended = command("run", small.write(tmp_path), "--out", tmp_path / "run")
    assert ended.code == 130
    assert ended.err.startswith("interrupted")


def test_looking_for_help_is_quick() -> None:
    """Neither DuckDB, SciPy nor matplotlib is needed to print a usage line."""
    code = ("import sys\nsys.argv = ['routesim', '--help']\nfrom routesim.scenarios.cli import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print([n for n in ('duckdb', 'scipy', 'matplotlib', 'pandas') if n in sys.modules])")
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip().endswith("[]")


@pytest.mark.slow
def test_the_demo_ends_with_a_page(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PER_DAY", 250)
    ended = command("demo", "--out", tmp_path / "demo")
    assert ended.code in (0, 1)  # a small history may fail its check by chance; the page comes all the same
    assert (tmp_path / "demo" / "run" / "report.html").exists()
    assert (tmp_path / "demo" / "check.json").exists()
