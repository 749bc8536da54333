"""Whatever a user gets wrong ends in one clear line on standard error and exit 2, with nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from routesim.calibration import calibrate as calibrating
from routesim.calibration.calibrate import Calibration
from routesim.reports.metrics.support import Support
from routesim.scenarios.running.runner import run
from routesim.sim.errors import BadInput
from routesim.sim.files import read_table
from routesim.sim.model import CalibratedModel
from routesim.sim.model_folder import ModelFolder
from tests.conftest import Command, Ended
from tests.small import SCENARIO, Small, contents

NEEDED = "VW_ATHENA_PAYMENT_ATTEMPT"


def assert_refused(ended: Ended, *told: str) -> None:
    """Exit 2 and one line that holds every one of ``told``."""
    assert ended.code == 2, ended
    line, end, rest = ended.err.partition("\n")
    assert (end, rest) == ("\n", ""), ended.err
    assert line.startswith("routesim: ")
    assert "Traceback" not in line
    for each in told:
        assert each in line


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing but what the test itself made may appear."""
    yield tmp_path
    assert not [name for name in everything(tmp_path) if name.split("/")[0] == "out" or name.startswith(".out.")]


# --- the scenario

MISTAKES = [
    ("seed: 5", "sed: 5", ("small.yaml:2: sed: unknown key 'sed'; did you mean 'seed'?",)),
    ("failover: {circuit", "failovr: {circuit", ("small.yaml:23", "did you mean 'failover'?")),
    ("consecutive_timeouts", "consecutive_timeout", ("small.yaml:23", "did you mean 'consecutive_timeouts'?")),
    ("worlds: 2", "worlds: two", ("small.yaml:4: replications.worlds: found 'two' (text), expected a whole number",)),
    ("after: soft, max_attempts: 3", "after: [51], max_attempts: 3",
     ("small.yaml:20", "found 51 (a whole number), expected text; put it in quotes: \"51\"")),
    ("to: [Amex]", "to: [Amx]", ("small.yaml:11", "no processor is called 'Amx'; did you mean 'Amex'?")),
    ("to: [Worldpay]", "to: [NewPSP]", ("small.yaml:14", "no processor is called 'NewPSP'; known: Amex, Elavon")),
    ("  breaker:\n    like: legacy", "  breaker:\n    like: breaker", ("small.yaml:22", "circle: breaker -> breaker")),
    ("baseline: legacy", "baseline: legcy", ("small.yaml:7", "did you mean 'legacy'?")),
    ("warm_up: 3h", "until: 2026-01-09", ("small.yaml:6", "the window must end after it begins")),
    ("warm_up: 3h", "warm_up: 30d", ("small.yaml:6", "takes up the whole trace")),
    ("from: 2026-01-10T00:00:00", "from: 2031-01-10", ("no payment",)),
    ("HISTORY,", "HISTORY, profile: payment_mll,", ("payment_mll", "payment_ml")),
    ("MODEL", "nowhere", ("nowhere", "no model here; `routesim calibrate SOURCE --out MODEL` makes one")),
    ("HISTORY", "nowhere", ("nowhere: no such file or folder",)),
    ("scenario: small", "scenario: [small", ("small.yaml:", "not YAML")),
    ("scenario: small\n", "\0", ("small.yaml", "not YAML")),
]


@pytest.mark.parametrize(("was", "now", "told"), MISTAKES)
def test_a_mistake_in_the_scenario(command: Command, small: Small, ready: Path, was: str, now: str,
                                   told: tuple[str, ...]) -> None:
    assert was in SCENARIO
    path = small.write(ready, SCENARIO.replace(was, now, 1))
    assert_refused(command("run", path, "--out", ready / "out"), *told)


@pytest.mark.parametrize(("words", "told"), [
    (("--set", "replications.wrlds=3"), ("--set replications.wrlds=3", "did you mean 'worlds'?")),
    (("--set", "policies.legacy.route.9.to=Amex"), ("write a place from 0 to 3",)),
    (("--set", "seed"), ("write --set KEY=VALUE",)),
    (("--set", "world.processors={New: {}}"), ("a new processor needs `like`",)),
    (("--set", "world.processors={Amex: {approval_pp: -99}}"), ("out of reach", "--set world.processors")),
    (("--set", "policies.mine=nowhere_at_all:Router"), ("no module",)),
    (("--workers", "-1"), ("--workers", "greater than or equal to 1")),
    (("--workers", "many"), ("--workers", "valid integer")),
    (("--worker", "1"), ("No such option", "--worker")),
    (("one", "too", "many"), ("unexpected extra argument",)),
])  # fmt: skip
def test_a_mistake_on_the_command_line(command: Command, small: Small, ready: Path, words: tuple[str, ...],
                                       told: tuple[str, ...]) -> None:
    assert_refused(command("run", small.write(ready), "--out", ready / "out", *words), *told)


def test_a_scenario_that_is_not_there(command: Command, ready: Path) -> None:
    assert_refused(command("run", ready / "nowhere.yaml", "--out", ready / "out"), "nowhere.yaml: no such file")
    assert_refused(command("run", ready, "--out", ready / "out"), str(ready))


@pytest.mark.parametrize("words", [("rnu",), ("run",), ("calibrate", "x"), ("history", "x", "--days", "0"),
                                   ("history", "x", "--per-day", "few"), ("check", "x"), ("report",)])
def test_a_mistake_in_the_command(command: Command, words: tuple[str, ...], tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(command(*words))
    assert everything(tmp_path) == set()


# --- the model


@pytest.mark.parametrize(("change", "told"), [
    ({"version": 99}, "model of version 99; this routesim reads versions up to"),
    ({"format": "another"}, "not a model"),
    ({"surprise": 1}, "surprise"),
    ({"processors": []}, "processors"),
])
def test_a_model_that_cannot_be_used(command: Command, small: Small, ready: Path, change: dict[str, Any],
                                     told: str) -> None:
    document = json.loads((small.model / "model.json").read_text(encoding="utf-8")) | change
    (ready / "model").mkdir()
    (ready / "model" / "model.json").write_text(json.dumps(document), encoding="utf-8")
    line = str(ready / "model" / "model.json")
    path = small.write(ready)
    assert_refused(command("run", path, "--set", f"model={ready / 'model'}", "--out", ready / "out"), line, told)
    assert_refused(command("check", ready / "model", small.history), line, told)


@pytest.mark.parametrize("file", ["model.json", "uncertainty.parquet", "support.parquet"])
def test_a_model_that_was_cut_short(command: Command, small: Small, ready: Path, file: str) -> None:
    shutil.copytree(small.model, ready / "model")
    broken = ready / "model" / file
    broken.write_bytes(broken.read_bytes()[:-20])
    path = small.write(ready)
    assert_refused(command("run", path, "--set", f"model={ready / 'model'}", "--out", ready / "out"), str(broken))


# --- the history


@pytest.fixture
def extract(small: Small, tmp_path: Path) -> Path:
    """A copy of the small history that a test may break."""
    return Path(shutil.copytree(small.history, tmp_path / "extract"))


def calibrated(command: Command, source: Path, *words: str) -> Ended:
    return command("calibrate", source, "--out", source.parent / "out", *words)


def test_a_folder_without_the_attempts(command: Command, extract: Path, ready: Path) -> None:
    (extract / f"{NEEDED}.parquet").unlink()
    assert_refused(calibrated(command, extract), f"lacks the view {NEEDED}")


def test_a_truncated_parquet_file(command: Command, extract: Path, ready: Path) -> None:
    file = extract / f"{NEEDED}.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    assert_refused(calibrated(command, extract), f"{file}: not a readable Parquet file")


def test_a_source_with_no_approved_attempt(command: Command, extract: Path, ready: Path) -> None:
    file = extract / f"{NEEDED}.parquet"
    table = pq.ParquetFile(file).read()
    codes = pc.unique(table["PAYMENT_ATTEMPT_STATUS"]).to_pylist()
    good = next(code for code in codes if "APPROV" in str(code).upper() or "AUTHORI" in str(code).upper())
    pq.write_table(table.filter(pc.invert(pc.equal(table["PAYMENT_ATTEMPT_STATUS"], good))), file)
    assert_refused(calibrated(command, extract), "no attempt", "approved")


@pytest.mark.parametrize(("words", "told"), [
    (("--from", "2031-01-01"), ("no payment", "2026-01-1")),
    (("--from", "2026-01-08", "--until", "2026-01-07"), ("2026-01-08",)),
    (("--from", "tomorrow"), ("--from: 'tomorrow' is no moment; write it as 2026-02-02T00:00:00",)),
    (("--profile", "payment_mll"), ("payment_mll", "payment_ml")),
    (("--profile", "nowhere.yaml"), ("nowhere.yaml",)),
    (("--timezone", "America/Mexico_Cty"), ("--timezone", "did you mean 'America/Mexico_City'?")),
])  # fmt: skip
def test_calibrate_with_what_is_not_there(command: Command, small: Small, ready: Path, words: tuple[str, ...],
                                          told: tuple[str, ...]) -> None:
    assert_refused(command("calibrate", small.history, "--out", ready / "out", *words), *told)


def test_sources_that_are_none(command: Command, ready: Path) -> None:
    (ready / "empty").mkdir()
    for source, told in ((ready / "nowhere", "no such file or folder"), (ready / "empty", "no Parquet or CSV file")):
        assert_refused(command("calibrate", source, "--out", ready / "out"), told)
        assert_refused(command("check", ready / "nowhere", source), "no model here")


# --- the folder of a run


def test_a_folder_that_holds_no_run(command: Command, tmp_path: Path) -> None:
    assert_refused(command("report", tmp_path), "holds no summary.json")
    assert_refused(command("report", tmp_path / "nowhere"), "there is no such folder")
    (tmp_path / "summary.json").write_text("{", encoding="utf-8")
    assert_refused(command("report", tmp_path), "summary.json: not readable as JSON")
    assert everything(tmp_path) == {"summary.json"}


def test_a_run_is_not_written_over_something_else(command: Command, small: Small, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    path = small.write(tmp_path / "scenario")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("three years", encoding="utf-8")
    assert_refused(command("run", path, "--out", tmp_path / "thesis"), "holds something else than a run")
    assert_refused(command("run", path, "--out", path), "is a file; choose a folder")
    assert_refused(command("calibrate", small.history, "--out", path), "is a file; choose a folder")
    assert_refused(command("history", tmp_path / "thesis"), "something else")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert_refused(command("run", path, "--out", "."), "where you are")
    assert everything(tmp_path) == {"empty", "scenario", "scenario/small.yaml", "thesis", "thesis/thesis.tex"}


# --- a disk that cannot be written, or is full

Refusing = Callable[[Path], None]
WRITING = ["run", "calibrate", "history"]


@pytest.fixture
def quick(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calibration takes no time, and gives the small model."""
    folder = ModelFolder(small.model)
    known = Calibration(CalibratedModel.load(small.model), Support.from_table(read_table(folder.support)),
                        read_table(folder.outages))
    monkeypatch.setattr(calibrating, "calibrate", lambda *_: known)


def words(kind: str, small: Small, folder: Path, out: Path) -> tuple[str | Path, ...]:
    if kind == "run":
        return "run", small.write(folder), "--out", out, "--workers", "1", "--set", "replications=2"
    if kind == "calibrate":
        return "calibrate", small.history, "--out", out
    return "history", out, "--days", "1", "--per-day", "60"


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.usefixtures("quick")
def test_a_place_that_is_no_folder(command: Command, small: Small, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    out = tmp_path / "file" / "out"
    assert_refused(command(*words(kind, small, tmp_path, out)), str(out), "cannot write: ")
    assert everything(tmp_path) <= {"file", "small.yaml"}


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.usefixtures("quick")
def test_a_read_only_folder(command: Command, small: Small, tmp_path: Path, kind: str,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system tells it, since root may write where others may not."""
    locked = tmp_path / "locked"
    locked.mkdir()
    made = os.mkdir

    def mkdir(path: str | Path, *rest: Any, **more: Any) -> None:
        if locked in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        made(path, *rest, **more)

    monkeypatch.setattr(os, "mkdir", mkdir)
    told = command(*words(kind, small, tmp_path, locked / "out"))
    assert_refused(told, str(locked), "cannot write: Permission denied; choose a folder that can be written")
    assert everything(locked) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.usefixtures("quick")
def test_a_folder_without_the_right_to_write(command: Command, small: Small, tmp_path: Path, kind: str) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert_refused(command(*words(kind, small, tmp_path, locked / "out")), str(locked), "Permission denied")
    assert everything(locked) == set()


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """``no_room(path)``: from now on the disk is full when a file whose path ends so gets its name."""
    def refuse(at: Path) -> None:
        replaced = Path.replace

        def replace(self: Path, target: Path) -> Path:
            if str(target).endswith(str(at)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            return replaced(self, target)

        monkeypatch.setattr(Path, "replace", replace)

    return refuse


@pytest.mark.parametrize("at", ["attempts/policy=breaker/world=000/luck=000/part-0.parquet",
                                "001-000.json", "summary.json", "report.html"])
def test_a_disk_that_is_full_in_the_midst_of_a_run(command: Command, small: Small, tmp_path: Path, no_room: Refusing,
                                                   at: str) -> None:
    no_room(Path(at))
    assert_refused(command(*words("run", small, tmp_path, tmp_path / "out")), Path(at).name, "No space left on device")
    assert not (tmp_path / "out").exists()
    assert not [name for name in everything(tmp_path) if name.endswith((".tmp", ".parquet.part"))]


def test_an_earlier_run_outlives_a_full_disk(command: Command, small: Small, tmp_path: Path,
                                             no_room: Refusing) -> None:
    arguments = words("run", small, tmp_path, tmp_path / "out")
    assert command(*arguments).code == 0
    before = contents(tmp_path / "out")
    no_room(Path("summary.json"))
    assert_refused(command(*arguments, "--set", "seed=6"), "No space left on device")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("at", ["support.parquet", "uncertainty.parquet", "model.json", "quarantine.parquet"])
@pytest.mark.usefixtures("quick")
def test_an_earlier_model_outlives_a_full_disk(command: Command, small: Small, tmp_path: Path, no_room: Refusing,
                                               at: str) -> None:
    out = Path(shutil.copytree(small.model, tmp_path / "out"))
    for file in out.iterdir():
        file.write_text("the earlier one", encoding="utf-8")
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = contents(out)
    no_room(Path(at))
    assert_refused(command("calibrate", small.history, "--out", out), "No space left on device")
    assert contents(out) == before
    assert everything(tmp_path) == {"out"} | {f"out/{name}" for name in contents(out)}


@pytest.mark.parametrize(("kind", "at"), [("calibrate", "support.parquet"), ("calibrate", "model.json"),
                                          ("history", "truth/model/model.json")])
@pytest.mark.usefixtures("quick")
def test_a_new_folder_does_not_appear_on_a_full_disk(command: Command, small: Small, tmp_path: Path,
                                                     no_room: Refusing, kind: str, at: str) -> None:
    no_room(Path(at))
    assert_refused(command(*words(kind, small, tmp_path, tmp_path / "out")), str(tmp_path), "No space left on device")
    assert everything(tmp_path) <= {"small.yaml"}


@pytest.mark.parametrize("kind", WRITING)
@pytest.mark.usefixtures("quick")
def test_the_system_refuses_to_write_more(command: Command, small: Small, tmp_path: Path, kind: str) -> None:
    """No file may grow beyond a few kilobytes: the system itself refuses, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        told = command(*words(kind, small, tmp_path, tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_refused(told, os.strerror(errno.EFBIG))
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(BadInput("cannot write", "a/b")))  # noqa: S301 (as joblib sends it)
    assert (str(error), error.message, error.where) == ("a/b: cannot write", "cannot write", "a/b")


# --- the console command itself


def test_the_console_command_says_it_the_same_way(small: Small, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("routesim")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "routesim.scenarios.cli"]
    path = small.write(tmp_path, SCENARIO.replace("seed: 5", "sed: 5"))
    ended = subprocess.run([*start, "run", str(path), "--out", str(tmp_path / "out")], capture_output=True, text=True,
                           check=False)
    assert_refused(Ended(ended.returncode, ended.stdout, ended.stderr), "small.yaml:2", "did you mean 'seed'?")
    assert ended.stdout == ""
    assert everything(tmp_path) == {"small.yaml"}


def test_a_policy_of_the_users_own_that_fails_is_the_users_to_mend(small: Small, tmp_path: Path) -> None:
    """An error within it is no bad input: it comes through with its traceback, which says where to look."""
    (tmp_path / "mine.py").write_text("class Router:\n    def decide(self, view, draw):\n"
                                      "        raise KeyError('oops')\n"
                                      "    def observe(self, payment, answer):\n        pass\n", encoding="utf-8")
    with pytest.raises(KeyError, match="oops"):
        run(small.prepare(tmp_path, "policies.breaker=mine:Router", "replications=1"), tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_a_table_of_no_rows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), file)
    assert read_table(file).num_rows == 0
