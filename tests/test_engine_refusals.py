"""What may be sent is decided in one place, and what a router of one's own may answer is checked where it answers."""

from __future__ import annotations

from typing import Any

import pytest

from routesim.policies.vocabulary import (
    UNKNOWN_PROCESSOR,
    UNSUPPORTED_PROCESSOR,
    Choice,
    Fee,
    Send,
    Skip,
    Stop,
    Terms,
    Wait,
    refusal_of,
)
from routesim.sim.engine import WAIT_INTO_THE_PAST, Simulated
from routesim.sim.errors import BadInput
from tests.policy_world import payment
from tests.worlds import model_of, simulate, trace_of


class Router:
    """Answers the same first, and stops after an answer."""

    def __init__(self, first: Any) -> None:
        self.first = first

    def decide(self, view: Any, draw: Any) -> Any:
        return Stop("a word of its own") if view.answers else self.first

    def observe(self, payment: Any, answer: Any) -> None:
        pass


def run(first: Any) -> Simulated:
    model = model_of({"A": {"card_brands": ["visa"]}, "B": {}})
    return simulate(trace_of([0.0], card_brand="amex"), model, Router(first))


@pytest.mark.parametrize(("currencies", "brands", "refusal"), [
    (None, None, None), ({"MXN"}, {"visa"}, None), ({"USD"}, None, UNSUPPORTED_PROCESSOR),
    (None, {"amex"}, UNSUPPORTED_PROCESSOR),
])
def test_terms_decide_what_may_be_sent(currencies: Any, brands: Any, refusal: Any) -> None:
    terms = {"A": Terms("A", currencies, brands, 30.0, Fee())}
    about = payment(currency="MXN", card_brand="visa")
    assert refusal_of(Choice("A"), about, terms) == refusal
    assert refusal_of(Choice("B"), about, terms) == UNKNOWN_PROCESSOR
    assert refusal_of(Choice("A"), payment(currency="MXN", card_brand=None), {
        "A": Terms("A", None, frozenset({"amex"}), 30.0, Fee())}) is None  # a card that nobody knows may be any


def test_what_is_refused_is_counted_and_the_next_choice_tried() -> None:
    done = run(Send((Choice("Nobody"), Choice("A"), Choice("B"))))
    assert dict(done.refusals) == {UNKNOWN_PROCESSOR: 1, UNSUPPORTED_PROCESSOR: 1}
    assert done.log.attempts["processor"].to_pylist() == ["B"]
    assert done.log.attempts["rank_position"].to_pylist() == [3]
    assert dict(run(Wait(0.0)).refusals) == {WAIT_INTO_THE_PAST: 1}


def test_a_routers_own_reasons_are_logged_as_they_are() -> None:
    done = run(Send((Choice("B"),), "failover", skipped=(Skip("A", "maintenance: until 6; or later"),)))
    assert done.log.attempts["skipped"].to_pylist() == [
        [{"processor": "A", "reason": "maintenance: until 6; or later"}]]
    assert run(Send((Choice("B"),))).log.attempts["skipped"].to_pylist() == [None]


@pytest.mark.parametrize(("answer", "message"), [
    (Send((Choice("B"),), "failover", None, "A: circuit_open"),  # type: ignore[arg-type]
     r"^Router: the skipped of a Send are Skip\(processor, reason\), not 'A: circuit_open'$"),
    (Send((Choice("B"),), skipped=(("A", "down"),)), r"^Router: the skipped of a Send"),  # type: ignore[arg-type]
    ("B", "^Router: decide must return Send, Wait or Stop, not 'B'$"),
    (None, "^Router: decide must return Send, Wait or Stop, not None$"),
])
def test_what_is_no_action_is_refused_in_one_line(answer: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(answer)
