"""The catalog: names, a user's own classes by dotted path, and what it tells of itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.catalog import build
from routesim.policies.listing import listing
from routesim.policies.vocabulary import Send
from tests.policy_world import AnyDescription, Luck, names, payment, view

OWN = '''
from routesim.policies.vocabulary import Choice, Send

class Backwards:
    def __init__(self, names=("A", "B")):
        self.names = tuple(reversed(names))
        self.heard = 0

    def rank(self, view, draw):
        return [Choice(name) for name in self.names]

    def observe(self, payment, answer):
        self.heard += 1

class Always:
    def __init__(self, processor):
        self.processor = processor

    def decide(self, view, draw):
        return Send((Choice(self.processor),))

    def observe(self, payment, answer):
        pass

class Fragile:
    def __init__(self):
        raise RuntimeError("no luck today")
    decide = observe = None

class Half:
    pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "own_routers_for_tests.py").write_text(OWN)
    (tmp_path / "broken_for_tests.py").write_text("1 / 0\n")
    return tmp_path


def _build(folder: Path, **parts: Any) -> Any:
    return build(AnyDescription.validate_python(parts), None, folder)


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("own_routers_for_tests:Backwards", ["B", "A"]),
        ({"own_routers_for_tests:Backwards": {"names": ["A", "B", "C"]}}, ["C", "B", "A"]),
    ],
)
def test_a_users_own_route(folder: Path, route: Any, expected: list[str]) -> None:
    path = list(sys.path)
    assert names(_build(folder, route=route)().decide(view(payment()), Luck())) == expected
    assert sys.path == path


def test_a_users_own_policy_is_made_fresh_every_time(folder: Path) -> None:
    factory = _build(folder, policy="own_routers_for_tests:Always", parameters={"processor": "C"})
    one, other = factory(), factory()
    assert one is not other
    assert isinstance(one.decide(view(payment()), Luck()), Send)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"route": "own_routers:Backwards"}, "no module 'own_routers'"),
        ({"route": "own.routers:Backwards"}, "no module 'own.routers'"),
        ({"route": "own_routers_for_tests:Backward"}, "did you mean 'Backwards'"),
        ({"route": "own_routers_for_tests:Half"}, "has no method rank"),
        ({"route": {"own_routers_for_tests:Backwards": {"nam": []}}}, "does not take these parameters"),
        ({"policy": "own_routers_for_tests:Always"}, "missing a required argument: 'processor'"),
        ({"policy": "own_routers_for_tests:Fragile"}, "has no method decide"),
        ({"policy": "broken_for_tests:Always"}, "importing it failed: ZeroDivisionError"),
        ({"policy": "logged"}, "fitted to history"),
    ],
)
def test_a_users_mistake_is_one_line(folder: Path, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        _build(folder, **parts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rout": "x:Y"}, "did you mean 'route'"),
        ({}, "needs a route"),
        ({"policy": "logged", "retry": "none"}, "cannot have retry"),
        ({"policy": "loged"}, "did you mean 'logged'"),
        ({"policy": "logged", "parameters": {"first": "guess"}}, "'replay' or 'fitted'"),
        ({"route": [{"to": "A"}], "parameters": {}, "failover": "circuit_braker"}, "did you mean 'circuit_breaker'"),
        ({"route": {"to": "A"}}, "list of rules"),
        ({"route": []}, "at least 1"),
    ],
)
def test_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AnyDescription.validate_python(parts)


def test_every_part_and_parameter_is_told() -> None:
    told = {(each.kind, each.name): each for each in listing()}
    assert {("policy", "logged"), ("route", "rules"), ("retry", "rules"), ("failover", "circuit_breaker")} <= set(told)
    breaker = told["failover", "circuit_breaker"].parameters
    assert [(name, default) for name, _, default, _ in breaker] == [
        ("per", "[processor]"), ("consecutive_timeouts", "5"), ("open_for", "60s"), ("probes", "1"),
    ]  # fmt: skip
    for each in told.values():
        assert each.doc
        assert all(kind and doc for _, kind, _, doc in each.parameters)
