"""The same inputs give the same bytes, whatever the hash seed, the number of workers or the company a policy keeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from routesim.scenarios.running.runner import Prepared, run
from routesim.sim.files import read_table
from tests.small import SCENARIO, Small, contents

# A little of everything that draws or waits: splits, comebacks, outages, capacity, drawn what-ifs, cloned orders.
WORLD = ("world={processors: {Elavon: {capacity: {concurrent: 2, queue: 2}}, Worldpay: {approval_pp: {mean: -1, "
         "sd: 2}}}, arrivals: {factor: 1.5}}")
TALLIES = ("replications", "hours", "latency", "processors", "codes")


def command(*words: str | int | Path, hash_seed: int) -> None:
    """The console command in a process of its own."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    ended = subprocess.run([sys.executable, "-m", "routesim.scenarios.cli", *map(str, words)], env=environment,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def prepared(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return small.prepare(tmp_path_factory.mktemp("scenario"), WORLD)


@pytest.fixture(scope="module")
def reference(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in this process, whose hash seed is nobody's choice, with one worker."""
    return run(prepared, tmp_path_factory.mktemp("reference") / "run", workers=1)


@pytest.mark.parametrize(("hash_seed", "workers"), [(0, 2), (1, 1)])
def test_hash_seeds_and_workers(small: Small, tmp_path: Path, reference: Path, hash_seed: int, workers: int) -> None:
    command("run", small.write(tmp_path), "--set", WORLD, "--out", tmp_path / "run", "--workers", workers,
            hash_seed=hash_seed)
    assert (tmp_path / "run" / "timing.json").exists()
    assert contents(tmp_path / "run") == contents(reference)
    assert len(contents(reference)) > 3 * 2 * 4  # the logs of 3 policies in 4 replications, and more


def test_calibrate(small: Small, tmp_path: Path) -> None:
    """The model of the session was made in another process, under another hash seed."""
    command("calibrate", small.history, "--out", tmp_path / small.model.name, hash_seed=0)
    assert contents(tmp_path / small.model.name) == contents(small.model)
    assert {"model.json", "uncertainty.parquet", "support.parquet"} <= contents(small.model).keys()


# --- the company a policy keeps


def policy_logs(run_dir: Path, policy: str) -> dict[str, str]:
    return {name: digest for name, digest in contents(run_dir).items() if f"/policy={policy}/" in name}


def policy_figures(run_dir: Path, policy: str) -> dict[str, Any]:
    """All that the run's tables and summary say of one policy."""
    figures: dict[str, Any] = {}
    for name in TALLIES:
        table = read_table(run_dir / f"{name}.parquet")
        figures[name] = table.filter(pc.equal(table["policy"], policy)).to_pylist()
    figures["replications"] = [{k: str(v) for k, v in row.items()} for row in figures["replications"]]  # NaN is NaN
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return figures | {"summary": summary["policies"][policy], "paired": summary["paired_efficiency"][policy]}


def assert_as_before(found: Path, reference: Path) -> None:
    for policy in ("legacy", "three_attempts", "breaker"):
        assert len(policy_logs(reference, policy)) == 2 * 4
        assert policy_logs(found, policy) == policy_logs(reference, policy)
        assert policy_figures(found, policy) == policy_figures(reference, policy)


def reordered() -> str:
    """The scenario with its policies from last to first."""
    head, policies = SCENARIO.split("policies:\n")
    legacy, three, breaker = (f"  {name}:{part}" for name, part in zip(
        ("legacy", "three_attempts", "breaker"),
        policies.replace("  three_attempts:", "\0").replace("  breaker:", "\0").removeprefix("  legacy:").split("\0"),
        strict=True))
    return f"{head}policies:\n{breaker}{three}{legacy}"


def test_policies_in_another_order(small: Small, tmp_path: Path, reference: Path) -> None:
    found = run(small.prepare(tmp_path, WORLD, text=reordered()), tmp_path / "run", workers=1)
    summary = json.loads((found / "summary.json").read_text(encoding="utf-8"))
    assert list(summary["policies"]) == ["breaker", "three_attempts", "legacy"]
    assert_as_before(found, reference)


def test_a_further_policy_and_a_processor_that_nobody_uses(small: Small, tmp_path: Path, reference: Path) -> None:
    settings = (WORLD, "policies.unlike={like: legacy, retry: none}", "policies.as_logged=logged",
                "world.processors.NewPSP={like: Worldpay, approval_pp: {mean: 1, sd: 1}}")
    found = run(small.prepare(tmp_path, *settings), tmp_path / "run", workers=1)
    assert policy_logs(found, "unlike")
    assert_as_before(found, reference)


def test_another_seed_gives_others(small: Small, tmp_path: Path, reference: Path) -> None:
    found = run(small.prepare(tmp_path, WORLD, "seed=6"), tmp_path / "run", workers=1)
    for policy in ("legacy", "three_attempts", "breaker"):
        ours, theirs = policy_logs(found, policy), policy_logs(reference, policy)
        assert ours.keys() == theirs.keys()
        assert not set(ours.values()) & set(theirs.values())


def test_where_the_run_is_written_does_not_show(prepared: Prepared, tmp_path: Path, reference: Path) -> None:
    assert contents(run(prepared, tmp_path / "another name" / "far" / "below", workers=1)) == contents(reference)
