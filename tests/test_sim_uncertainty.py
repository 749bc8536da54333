"""How well a model is known: draws have the stated mean and covariance, change what they name, and survive a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel, Model
from routesim.sim.uncertainty import Block, Uncertainty, pointer
from tests.worlds import model_of

DRAWS = 4000
COVARIANCE = np.array([[0.04, 0.03, -0.01], [0.03, 0.09, 0.0], [-0.01, 0.0, 0.01]])


def block() -> Block:
    return Block.of("three", ["/a", "/b", "/c"], ["identity", "log", "logit"], [1.0, 2.0, 0.3], COVARIANCE)


def test_draws_have_the_mean_and_covariance_of_the_block() -> None:
    one = block()
    drawn = np.array([list(one.draw(9, world).values()) for world in range(DRAWS)])
    assert (drawn[:, 1] > 0).all()
    assert ((drawn[:, 2] > 0) & (drawn[:, 2] < 1)).all()
    on_scale = np.stack([drawn[:, 0], np.log(drawn[:, 1]), special.logit(drawn[:, 2])], axis=1)
    se = np.sqrt(np.diag(COVARIANCE) / DRAWS)
    assert (np.abs(on_scale.mean(axis=0) - [1.0, np.log(2.0), special.logit(0.3)]) < 4 * se).all()
    variances = np.diag(COVARIANCE)
    # standard error of a sample covariance of normals
    covariance_se = np.sqrt((COVARIANCE**2 + np.outer(variances, variances)) / DRAWS)
    found = np.cov(on_scale.T)
    assert (np.abs(found - COVARIANCE) < 4 * covariance_se).all()
    assert not (np.abs(found - np.diag(variances)) < 4 * covariance_se).all()  # independence would be seen


def test_draws_are_keyed_by_seed_world_and_block() -> None:
    one = block()
    assert one.draw(1, 1) == one.draw(1, 1)
    renamed = Block("other", one.pointers, one.scales, one.estimates, one.factor)
    different = [one.draw(1, 1), one.draw(1, 2), one.draw(2, 1), renamed.draw(1, 1)]
    assert len({d["/a"] for d in different}) == 4
    both = Uncertainty((renamed, one)).draw(1, 1)  # a further block moves nothing else
    assert both == one.draw(1, 1) or both["/a"] == one.draw(1, 1)["/a"]


def test_a_covariance_that_rounding_spoilt_is_still_drawn_from() -> None:
    loading = np.array([[1.0], [2.0], [-1.0]])
    singular = loading @ loading.T  # rank one: the three move as one
    one = Block.of("singular", ["/a", "/b", "/c"], ["identity"] * 3, [0.0, 0.0, 0.0], singular)
    assert one.factor @ one.factor.T == pytest.approx(singular, abs=1e-7)
    drawn = np.array([list(one.draw(1, w).values()) for w in range(50)])
    assert drawn[:, 1] == pytest.approx(2 * drawn[:, 0], abs=1e-6)
    assert drawn[:, 2] == pytest.approx(-drawn[:, 0], abs=1e-6)
    assert drawn[:, 0].std() > 0.5


def test_uncertainty_survives_its_file(tmp_path: Path) -> None:
    other = Block.of("odd names", [pointer("a/b", "c~d", "e|f", "")], ["log"], [3.0], np.array([[0.25]]))
    saved = Uncertainty((block(), other))
    saved.save(tmp_path / "u.parquet")
    loaded = Uncertainty.load(tmp_path / "u.parquet")
    assert [b.name for b in loaded.blocks] == ["three", "odd names"]
    assert loaded.draw(3, 7) == saved.draw(3, 7)
    assert (loaded.blocks[0].factor == saved.blocks[0].factor).all()
    saved.save(tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "u.parquet").read_bytes()
    assert Uncertainty.load(tmp_path / "absent.parquet").draw(1, 1) == {}
    Uncertainty.none().save(tmp_path / "none.parquet")
    assert Uncertainty.load(tmp_path / "none.parquet") == Uncertainty.none()


def odd_model() -> Model:
    """Names that JSON pointers must escape, or that are empty, or joined."""
    model = model_of({"A/B": {"technical": {"96": 0.01}}, "C~1": {}})
    model.issuer.approval = type(model.issuer.approval).model_validate({
        "intercept": 1.0, "terms": [{"by": ["processor", "bank"], "effects": {"A/B|x": 0.1, "A/B|": 0.2, "C~1|x": 0.3}},
                                    {"by": ["currency"], "effects": {"": 0.4, "MXN": 0.5}}]})
    return model


def numbers(document: Any, at: str = "") -> dict[str, float]:
    """Every number of a JSON document by its pointer."""
    if isinstance(document, dict):
        return {k: v for name, part in document.items() for k, v in numbers(part, at + pointer(name)).items()}
    if isinstance(document, list):
        return {k: v for i, part in enumerate(document) for k, v in numbers(part, at + pointer(i)).items()}
    return {at: document} if isinstance(document, float) else {}


def test_a_drawn_world_changes_exactly_the_numbers_that_it_names(tmp_path: Path) -> None:
    where = [pointer("issuer", "approval", "terms", 0, "effects", "A/B|x"),
             pointer("issuer", "approval", "terms", 0, "effects", "A/B|"),
             pointer("issuer", "approval", "terms", 1, "effects", ""),
             pointer("processors", "C~1", "timeout_s"), pointer("processors", "A/B", "technical", "96")]
    known = Block.of("odd", where, ["identity", "identity", "identity", "log", "logit"], [0.1, 0.2, 0.4, 30.0, 0.01],
                     np.eye(5) * 0.01)
    calibrated = CalibratedModel(odd_model(), Uncertainty((known,)))
    before = calibrated.model.model_dump_json()
    drawn = calibrated.draw(4, seed=2)
    assert calibrated.model.model_dump_json() == before  # the point estimates stay
    old, new = (numbers(json.loads(m.model_dump_json())) for m in (calibrated.model, drawn.model))
    assert old.keys() == new.keys()
    assert {p for p in old if old[p] != new[p]} == set(where)
    assert {p: new[p] for p in where} == pytest.approx(known.draw(2, 4))
    # and the same from the folder
    calibrated.save(tmp_path / "m")
    assert CalibratedModel.load(tmp_path / "m").draw(4, seed=2).model == drawn.model
    assert calibrated.point().number is None
    assert drawn.number == 4


def test_a_number_that_is_hardly_known_is_still_drawn_as_one() -> None:
    wide = Block.of("wide", ["/a", "/b"], ["log", "logit"], [1.0, 0.5], np.diag([1e6, 1e6]))
    for world in range(200):
        drawn = wide.draw(1, world)
        assert 0 < drawn["/a"] < np.inf
        assert 0 < drawn["/b"] < 1


def test_a_pointer_to_nothing_is_an_error_and_not_a_new_number() -> None:
    known = Block.of("odd", [pointer("processors", "Z", "timeout_s")], ["log"], [30.0], np.eye(1))
    with pytest.raises((KeyError, BadInput)):
        CalibratedModel(odd_model(), Uncertainty((known,))).draw(1)
