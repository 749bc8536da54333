"""Fixtures that every test may use."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from routesim.calibration.made_up import make_history
from routesim.scenarios.cli import main
from tests.small import DAYS, PER_DAY, SEED, Small

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; a test that needs it skips where it is absent."""
    if not (SHARED / "worlds").is_dir():
        pytest.skip(f"reference data not found at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A small history and its model, made once per session: the first worker that needs them makes them for all."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the folder that the workers of this session share
    whole = base / "small"
    with (base / "small.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            making = base / "small.making"
            making.mkdir(exist_ok=True)
            make_history(making / "history", DAYS, PER_DAY, SEED)
            # The model tells where its history lies, so it is calibrated where it will stay.
            making.rename(whole)
            if run_command("calibrate", whole / "history", "--out", whole / "model") != 0:
                pytest.fail("the small history could not be calibrated")
    return Small(whole / "history", whole / "model")


def run_command(*words: str | Path) -> int:
    """Run the console command in this process; its exit code."""
    before, sys.argv = sys.argv, ["routesim", *map(str, words)]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("the command must end by exiting")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The console command in this process: ``command("run", path)``."""
    def call(*words: str | Path) -> Ended:
        capsys.readouterr()
        code = run_command(*words)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return call
