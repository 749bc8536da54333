"""The model's folder: the same bytes again, one clear line for what is no model, and predictors as documented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from routesim.sim.errors import BadInput
from routesim.sim.issuer import IssuerDecisions, evaluate
from routesim.sim.model import CalibratedModel, Predictor, World
from routesim.sim.uncertainty import Block, Uncertainty
from tests.worlds import model_of, trace_of


def calibrated() -> CalibratedModel:
    model = model_of({"A": {"technical": {"96": 0.0123456789012345}}, "B": {}}, frailty_sd=1 / 3)
    return CalibratedModel(model, Uncertainty((
        Block.of("x", ["/issuer/frailty_sd"], ["log"], [1 / 3], np.array([[0.01]])),)))


def test_a_model_folder_is_the_same_bytes_when_saved_again(tmp_path: Path) -> None:
    calibrated().save(tmp_path / "one")
    loaded = CalibratedModel.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    CalibratedModel.load(tmp_path / "two").save(tmp_path / "two")  # over itself
    for name in ("model.json", "uncertainty.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert loaded.model == calibrated().model
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"model.json", "uncertainty.parquet"}
    assert CalibratedModel.load(tmp_path / "one" / "model.json").draw(3).model == loaded.draw(3).model


@pytest.mark.parametrize(("change", "message"), [
    ({"version": 99}, "version 99"), ({"format": "something"}, "not a model"), ({"version": "1"}, "version"),
    ({"procesors": {}}, "procesors"), ({"processors": {"A": {"latency": 3}}}, "processors/A/latency"),
    ({"issuer": {"approval": {}, "judgement_codes": {}, "frailty_sd": -1}}, "issuer/frailty_sd"),
])
def test_what_is_no_model_is_told_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    calibrated().save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=message) as error:
        CalibratedModel.load(tmp_path)
    assert "\n" not in str(error.value)
    assert "model.json" in str(error.value)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_file_that_is_no_json_object_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(BadInput):
        CalibratedModel.load(tmp_path)
    with pytest.raises(BadInput, match="routesim calibrate"):
        CalibratedModel.load(tmp_path / "absent")


PREDICTOR = Predictor.model_validate({"intercept": 2.0, "terms": [
    {"by": ["bank"], "effects": {"x": 0.5, "": -1.0}, "sd": 0.7},
    {"by": ["processor", "bank"], "effects": {"A|x": 0.25, "B|y": 9.0}},
    {"of": "log_amount_usd", "centre": 4.0, "effects": {"": -0.1}}]})


def test_a_predictor_adds_up_its_terms() -> None:
    trace = trace_of([0, 1, 2, 3], bank=["x", None, "y", "x"], amount_usd=[np.exp(4), np.exp(4), np.exp(4), np.exp(5)])
    found = evaluate(PREDICTOR, trace, {"processor": "A"}, World(model_of(["A"])), "approval")
    # y is no level that the point estimate knows: 0. The pair A|x is known, A|y is not.
    assert found == pytest.approx([2 + 0.5 + 0.25, 2 - 1.0, 2.0, 2 + 0.5 + 0.25 - 0.1])


def test_a_level_that_history_never_showed_is_drawn_with_the_spread_of_its_term() -> None:
    trace = trace_of([0, 1], bank=["x", "y"])
    model = model_of(["A"])
    drawn = np.array([evaluate(PREDICTOR, trace, {"processor": "A"}, World(model, 1, world), "approval")
                      for world in range(2000)])
    shift = np.log(100) - 4.0
    assert (drawn[:, 0] == drawn[0, 0]).all()  # a known level has its own number
    unknown = drawn[:, 1] - (2.0 - 0.1 * shift)
    assert stats.kstest(unknown / 0.7, "norm").pvalue > 1e-4
    again = evaluate(PREDICTOR, trace_of([0], bank="y"), {"processor": "A"}, World(model, 1, 5), "approval")
    assert again[0] == pytest.approx(drawn[5, 1])  # by its name, whatever trace it is on


def test_blocks_share_their_odds_against_none() -> None:
    model = model_of(["A"], blocks={"one": {"codes": {"51": 1.0}, "odds": {"intercept": 0.0}},
                                    "two": {"codes": {"14": 1.0}, "odds": {"intercept": np.log(2.0)}}})
    decisions = IssuerDecisions(World(model), trace_of([0.0]))
    assert decisions.block_cumulative[0] == pytest.approx([1 / 4, 3 / 4])  # e^0 and e^(log 2) against 1
