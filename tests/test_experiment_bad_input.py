"""What is wrong with an experiment's block, its trace or its folder is told in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from routesim.scenarios.running import experiment_run
from routesim.sim.errors import BadInput
from tests.conftest import Command
from tests.small import EXPERIMENT, Small


@pytest.mark.parametrize(("change", "line", "said"), [
    (("days: 3", "days: 28"), "days: 28", "the trace holds 3."),
    (("three_attempts: 5000}", "three_attempts: 4000}"), "variants:", "sum to 9,000"),
    (("three_attempts: 5000}", "three_attemps: 5000}"), "experiment:", "did you mean 'three_attempts'"),
    (("three_attempts: 5000}", "three_attempts: 5000, breaker: 0}"), "variants:", "above 0"),
    (("days: 3", "days: 3\n  rule: platfrom"), "rule:", "expected"),
    (("days: 3", "days: 3\n  rule: bonferroni"), "rule:", "of `routesim power --rule` alone"),
    (("days: 3", "days: 3\n  matures_after: 3d"), "matures_after:", "no payment of 3 days would ever count"),
    (("days: 3", "days: 3\n  matures_after: 14"), "matures_after:", "no unit"),
    (("days: 3", "days: 3\n  merchants: [nobody]"), "merchants:", "no payment of 'nobody'"),
    (("days: 3", "days: 3\n  ramp: [{for: 3d, split: {legacy: 9000, three_attempts: 1000}}]"), "ramp:", "take up all"),
    (("days: 3", "days: 3\n  ramp: [{for: 1d, split: {legacy: 10000}}]"), "ramp:", "just the variants"),
    (("days: 3", "days: 3\n  dayz: 4"), "dayz:", "did you mean 'days'"),
    (("worlds: 2, luck: 2", "worlds: 2, luck: {max: 5, mc_error_pp: 1}"), "replications:", "a number"),
])
def test_bad_input_is_told_in_one_line_with_file_and_line(change: tuple[str, str], line: str, said: str, small: Small,
                                                          tmp_path: Path, command: Command) -> None:
    text = EXPERIMENT.replace(*change)
    assert text != EXPERIMENT
    path = small.write(tmp_path, text)
    ended = command("experiment", path, "--out", tmp_path / "out")
    number = next(i for i, each in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1) if line in each)
    told = ended.err.strip().splitlines()[-1]
    assert ended.code == 2
    assert f"{path.name}:{number}" in told
    assert said in told
    assert not (tmp_path / "out").exists()


def test_a_scenario_without_a_block_or_a_foreign_folder_is_told(small: Small, tmp_path: Path, command: Command) -> None:
    path = small.write(tmp_path)
    ended = command("experiment", path, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "experiment: is missing" in ended.err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", encoding="utf-8")
    ended = command("experiment", path, "--out", tmp_path / "full")
    assert ended.code == 2
    assert "something else than an experiment" in ended.err


def test_nobody_with_a_customer_cannot_be_bucketed_by_customer(small: Small, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    read = experiment_run.read_study

    def nameless(scenario: Any) -> Any:
        study, manifest, log = read(scenario)
        place = study.payments.schema.get_field_index("customer_id")
        nobody = pa.nulls(study.payments.num_rows, pa.string())
        payments = study.payments.set_column(place, study.payments.schema.field(place), nobody)
        return replace(study, payments=payments), manifest, log

    monkeypatch.setattr(experiment_run, "read_study", nameless)
    with pytest.raises(BadInput, match="no payment of the trace tells its customer"):
        experiment_run.prepare_experiment(small.load(tmp_path, "experiment.unit=customer", text=EXPERIMENT))
