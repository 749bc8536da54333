"""``routesim experiment`` from the scenario's file to the page, on a small history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from routesim.reports.experiment.folder import LOOKS
from routesim.scenarios.document.loading import load_scenario, resolved
from routesim.scenarios.running import experiment_run
from routesim.scenarios.running.experiment import Trials, _World
from routesim.scenarios.running.experiment_run import prepare_experiment, run_experiment
from tests.conftest import Command
from tests.small import EXPERIMENT, Small, contents

WIDE = "world.arrivals.factor=3"
ONE = "replications=1"


def prepared(small: Small, folder: Path, *settings: str) -> tuple[Trials, dict[str, Any]]:
    return prepare_experiment(small.load(folder, *settings, text=EXPERIMENT))


@pytest.fixture(scope="module")
def ran(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    return run_experiment(*prepared(small, folder, "replications={worlds: 2, luck: 1}", WIDE), folder / "out", 1)


def figures_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "experiment.json").read_text(encoding="utf-8"))


def test_the_folder_holds_figures_looks_and_a_page(ran: Path) -> None:
    assert {path.name for path in ran.iterdir()} == {"experiment.json", "looks.parquet", "scenario.yaml", "report.html",
                                                     "manifest.json", "timing.json"}
    looks = pq.read_table(ran / "looks.parquet")
    assert looks.schema.equals(LOOKS)
    assert looks.num_rows == 2 * 2 * 3 * 2  # settings, replications, days, variants
    rows = looks.to_pylist()
    last = [row for row in rows if row["setting"] == "truth" and row["replication"] == 0 and row["day"] == 3]
    assert [row["variant"] for row in last] == ["legacy", "three_attempts"]
    assert all(row["n"] > 1_000 and 0.7 < row["approvals"] / row["n"] < 1 for row in last)
    assert last[0]["p_value"] is None
    assert last[1]["unmet"].startswith("day 3 of at least 7")
    figures = figures_of(ran)
    assert figures["starts"] == "2026-01-08T00:00:00"
    assert 0 < figures["lift_pp"]["three_attempts"]["value"] < 2
    assert figures["variants"]["legacy"]["share_bps"] == 5_000
    page = (ran / "report.html").read_text(encoding="utf-8")
    assert all(sentence.split(" ")[0] in page for sentence in figures["advice"])
    assert 'src="http' not in page
    assert 'href="' not in page  # it needs nothing from elsewhere


def test_under_both_alike_all_meet_the_control(small: Small, tmp_path: Path, ran: Path) -> None:
    """The retries tell: three attempts make more of them, and alike nobody makes any but the control's."""
    trials, _ = prepared(small, tmp_path, ONE)
    met = _World(trials, 0, 0)
    usual = trials.block.experiment(trials.start_s, "s")
    alike, _ = met.run(usual, {"legacy": "legacy", "three_attempts": "legacy"})
    own, found = met.run(usual, {"legacy": "legacy", "three_attempts": "three_attempts"})
    most = {name: max(log.attempts.filter(log.attempts["message_initiator"].is_valid())["attempt_number"].to_pylist())
            for name, log in (("alike", alike.log), ("own", own.log))}
    assert most["alike"] <= 4
    assert own.log.attempts.num_rows > alike.log.attempts.num_rows
    assert set(found.variant.tolist()) == {0, 1}


@pytest.mark.parametrize("unit", ["order", "customer"])
def test_who_comes_back_stays_in_its_variant_when_orders_or_customers_are_bucketed(
        small: Small, tmp_path: Path, unit: str) -> None:
    def moved(by: str) -> tuple[int, int]:
        trials, _ = prepared(small, tmp_path, ONE, WIDE, f"experiment.unit={by}")
        names = {"legacy": "legacy", "three_attempts": "three_attempts"}
        done, found = _World(trials, 0, 0).run(trials.block.experiment(trials.start_s, "s"), names)
        orders = done.log.payments["order_id"].to_pylist()
        variants: dict[str, set[int]] = {}
        for row, variant in zip(found.row.tolist(), found.variant.tolist(), strict=True):
            variants.setdefault(orders[row], set()).add(variant)
        return sum(len(each) > 1 for each in variants.values()), len(variants)

    assert moved(unit)[0] == 0
    assert moved("payment")[0] > 5


def test_the_same_bytes_whatever_the_workers(small: Small, tmp_path: Path, ran: Path) -> None:
    again = run_experiment(*prepared(small, tmp_path, "replications={worlds: 2, luck: 1}", WIDE), tmp_path / "out", 2)
    assert contents(again) == contents(ran)


def test_an_interrupted_experiment_goes_on_where_it_was(small: Small, tmp_path: Path, ran: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    trials, manifest = prepared(small, tmp_path, "replications={worlds: 2, luck: 1}", WIDE)

    def interrupt(done: int, todo: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiment(trials, manifest, tmp_path / "out", 1, interrupt)
    assert not (tmp_path / "out").exists()
    whole = experiment_run.replicate_experiment
    simulated: list[tuple[int, int]] = []

    def spy(trials: Trials, world: int, luck: int) -> Any:
        simulated.append((world, luck))
        return whole(trials, world, luck)

    monkeypatch.setattr(experiment_run, "replicate_experiment", spy)
    again = run_experiment(trials, manifest, tmp_path / "out", 1)
    assert simulated == [(1, 0)]
    assert contents(again) == contents(ran)


def test_acting_gives_the_winner_all_that_comes_after(small: Small, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the rule calls on day 2 gets day 3; days 1 and 2 are as they were."""
    trials, _ = prepared(small, tmp_path, ONE, "experiment.act=true")
    monkeypatch.setattr("routesim.reports.experiment.record.Record.decided", lambda self, rule: (2, "three_attempts"))
    runs: list[Any] = []
    run = _World.run

    def spy(self: _World, *what: Any) -> Any:
        runs.append(run(self, *what)[1])
        return None, runs[-1]

    monkeypatch.setattr(_World, "run", spy)
    monkeypatch.setattr("routesim.scenarios.running.experiment._labels", lambda *_: {})
    one = experiment_run.replicate_experiment(trials, 0, 5)
    dry, acted, _ = runs
    early = dry.age_days < 2
    assert dry.variant[early].tolist() == acted.variant[acted.age_days < 2].tolist()
    assert dry.approved_days[early].tolist() == acted.approved_days[acted.age_days < 2].tolist()
    assert set(acted.variant[acted.age_days >= 2].tolist()) == {1}
    assert one.acted is not None
    assert one.rollout is None


def test_the_command_tells_machines_and_people(small: Small, tmp_path: Path, command: Command) -> None:
    path = small.write(tmp_path, EXPERIMENT)
    told = command("experiment", path, "--out", tmp_path / "out", "--workers", "1", "--json", "--set", ONE)
    assert told.code == 0
    assert json.loads(told.out) == figures_of(tmp_path / "out")
    shown = command("experiment", path, "--out", tmp_path / "out", "--workers", "1", "--set", ONE, "--set",
                    "experiment.salt=''", "--set", "experiment.ramp=[{for: 1d, split: {legacy: 9000, "
                    "three_attempts: 1000}}]")
    assert shown.code == 0
    assert "the platform's rule" in shown.out
    assert "± —" not in shown.out
    assert "warning: experiment: without a salt" in shown.err
    assert figures_of(tmp_path / "out")["direct"] == {"why_not": "the direct way knows one split, not a ramp"}
    assert command("run", path, "--set", "log=none", "--set", ONE, "--out", tmp_path / "out").code == 2


def test_the_block_comes_back_from_the_resolved_scenario(small: Small, tmp_path: Path) -> None:
    scenario = small.load(tmp_path, text=EXPERIMENT)
    path = tmp_path / "again.yaml"
    path.write_text(resolved(scenario), encoding="utf-8")
    assert load_scenario(path).experiment == scenario.experiment
    assert list(load_scenario(path).experiment.variants) == ["legacy", "three_attempts"]  # type: ignore[union-attr]
