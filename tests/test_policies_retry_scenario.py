"""Retry parts in a scenario: the model's predictor reaches the predictor, and mistakes are told with their line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running.replicate import Replication, replicate
from routesim.scenarios.running.runner import prepare
from routesim.sim.errors import BadInput
from tests.small import SCENARIO, Small

BEFORE = SCENARIO[: SCENARIO.index("  three_attempts:")]
PARTS = """\
  none: {like: legacy, retry: none}
  predicted: {like: legacy, retry: {predicted: {max_attempts: 3}}}
  bounded: {like: legacy, retry: {budget: {share: 0.0, minimum: 0, of: {predicted: {max_attempts: 3}}}}}
"""


def figures(done: Replication, policy: str) -> dict[str, Any]:
    return dict(done.measured[policy].figures)


def test_the_predictor_in_a_scenario(small: Small, tmp_path: Path) -> None:
    """Better than no retry in a drawn world that it does not know, the same twice, and nothing without a budget."""
    study = prepare(load_scenario(small.write(tmp_path, BEFORE + PARTS))).study
    done, again = (replicate(study, 1, 0, None) for _ in range(2))
    for policy in study.scenario.policies:
        np.testing.assert_equal(figures(done, policy), figures(again, policy))
    assert figures(done, "predicted")["approval_rate"] > figures(done, "none")["approval_rate"]
    assert figures(done, "predicted")["attempts_per_payment"] > 1
    assert figures(done, "bounded")["attempts_per_payment"] == figures(done, "none")["attempts_per_payment"] == 1


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ("{ladder: {name: strype}}", r"retry\.ladder\.name: no ladder is called 'strype'; did you mean 'stripe'"),
        ("{budget: {of: {ladder: {name: strype}}}}", r"no ladder is called 'strype'; did you mean 'stripe'"),
        ("{budget: {of: [{after: soft, delai: 3s}]}}", "unknown key 'delai'; did you mean 'delay'"),
        ("{predicted: {delays: [soon]}}", "'soon' is not a duration"),
        ("{reputation: {of: none, stop_below: 0.9}}", r"retry\.reputation\.stop_below: must not lie above slow_below"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(small: Small, tmp_path: Path, retry: str, message: str) -> None:
    path = small.write(tmp_path, BEFORE + f"  mine: {{like: legacy, retry: {retry}}}\n")
    with pytest.raises(BadInput, match=message) as caught:
        load_scenario(path)
    last = len(path.read_text().splitlines())
    assert f"small.yaml:{last}" in str(caught.value)
    assert "\n" not in str(caught.value)
