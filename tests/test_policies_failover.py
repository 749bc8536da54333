"""The circuit breaker."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.failover.circuit_breaker import BreakerFailover, CircuitBreaker
from routesim.policies.vocabulary import Choice, Outcome, Policy, Send, Skip, SkipReason
from tests.policy_world import ARRIVED_AT, Luck, answer, names, payment, policy, view

NOW = ARRIVED_AT
A_OPEN = (Skip("A", SkipReason.CIRCUIT_OPEN),)


def breaker(**parameters: Any) -> Policy:
    return policy(route=[{"to": ["A", "B"]}], retry=[{"max_attempts": 4}], failover={"circuit_breaker": parameters})


def hear(router: Policy, processor: str, *outcomes: Outcome, at: float = NOW, of: str = "old", **fields: Any) -> None:
    for outcome in outcomes:
        router.observe(payment(payment_id=of, **fields), answer(1, processor, at, outcome))


def ask(router: Policy, at: float, of: str = "new", **fields: Any) -> Send:
    action = router.decide(view(payment(payment_id=of, **fields), now=at), Luck())
    assert isinstance(action, Send)
    return action


def test_five_timeouts_in_a_row_open_it_and_four_do_not() -> None:
    router = breaker()
    hear(router, "A", "timeout", "timeout", "timeout", "timeout")
    assert names(ask(router, NOW)) == ["A", "B"]
    hear(router, "A", "timeout")
    sent = ask(router, NOW)
    assert (names(sent), sent.decision, sent.skipped) == (["B"], "failover", A_OPEN)


@pytest.mark.parametrize("outcome", ["approved", "declined", "unavailable"])
def test_any_other_answer_breaks_the_row(outcome: Outcome) -> None:
    router = breaker()
    hear(router, "A", "timeout", "timeout", "timeout", "timeout", outcome, "timeout", "timeout", "timeout", "timeout")
    assert ask(router, NOW).decision == "rank"
    hear(router, "A", "timeout")
    assert ask(router, NOW).decision == "failover"


def test_each_processor_has_its_own() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 3)
    hear(router, "B", *["timeout"] * 3)
    assert ask(router, NOW).decision == "rank"


def test_one_probe_at_a_time_after_its_rest() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    assert ask(router, NOW + 59.9).decision == "failover"
    probe = ask(router, NOW + 60, of="probe")
    assert (names(probe), probe.decision, probe.skipped) == (["A", "B"], "probe", ())
    assert ask(router, NOW + 60.1).decision == "failover"
    hear(router, "A", "declined", at=NOW + 62, of="probe")
    assert ask(router, NOW + 62).decision == "rank"


def test_a_probe_that_times_out_opens_it_anew() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    ask(router, NOW + 60, of="probe")
    hear(router, "A", "timeout", at=NOW + 90, of="probe")
    assert ask(router, NOW + 149).decision == "failover"
    assert ask(router, NOW + 150).decision == "probe"


def test_answers_that_were_in_flight_when_it_opened_change_nothing() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    hear(router, "A", "approved", "timeout", at=NOW + 20)
    assert ask(router, NOW + 30).decision == "failover"
    assert ask(router, NOW + 60).decision == "probe"


def test_several_probes() -> None:
    router = breaker(probes=2)
    hear(router, "A", *["timeout"] * 5)
    assert [ask(router, NOW + 60, of=f"p{each}").decision for each in range(3)] == ["probe", "probe", "failover"]


def test_a_probe_that_was_never_sent_gives_its_place_up() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    assert ask(router, NOW + 60, of="refused by the engine").decision == "probe"
    assert ask(router, NOW + 90).decision == "failover"
    assert ask(router, NOW + 92).decision == "probe"  # the processor's timeout is 30 s


def test_when_all_are_open_the_first_of_what_remains_is_tried() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    hear(router, "B", *["timeout"] * 5)
    sent = ask(router, NOW)
    assert (names(sent), sent.decision, sent.skipped) == (["A", "B"], "rank", ())
    about = payment(payment_id="new")
    again = router.decide(view(about, answer(1, "A", NOW + 30, "timeout")), Luck())
    assert isinstance(again, Send)
    assert (names(again), again.decision) == (["B"], "retry")


def test_all_that_stand_before_the_chosen_one_are_told() -> None:
    router = policy(route=[{"to": ["A", "B", "C", "D"]}], failover="circuit_breaker")
    for processor in ("A", "B", "D"):
        hear(router, processor, *["timeout"] * 5)
    sent = ask(router, NOW)
    both = (*A_OPEN, Skip("B", SkipReason.CIRCUIT_OPEN))
    assert (names(sent), sent.decision, sent.skipped) == (["C"], "failover", both)
    ask(router, NOW + 60, of="probe of A")
    probe = ask(router, NOW + 60, of="probe of B")
    assert (names(probe), probe.decision, probe.skipped) == (["B", "C"], "probe", A_OPEN)


def test_a_processor_that_was_passed_over_counts_as_not_tried() -> None:
    router = breaker()
    hear(router, "A", *["timeout"] * 5)
    retry = router.decide(view(payment(payment_id="new"), answer(1, "B", NOW + 1)), Luck())
    assert names(retry) == ["A"]  # all that remains, so it is tried although its circuit is open


def test_a_healthy_first_choice_is_not_a_probe_of_a_later_one() -> None:
    router = breaker()
    hear(router, "B", *["timeout"] * 5)
    sent = ask(router, NOW + 60)
    assert (names(sent), sent.decision, sent.skipped) == (["A"], "rank", ())


def test_scope_may_hold_payment_fields() -> None:
    router = breaker(per=["processor", "currency"])
    hear(router, "A", *["timeout"] * 5, currency="MXN")
    assert ask(router, NOW, currency="MXN").decision == "failover"
    assert ask(router, NOW, currency="USD").decision == "rank"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"open_fr": "60s"}, "did you mean 'open_for'"),
        ({"open_for": "0s"}, "longer than nothing"),
        ({"probes": 0}, "greater than or equal to 1"),
        ({"per": ["currency"]}, "belongs to a processor"),
        ({"per": ["processor", "currncy"]}, "did you mean 'currency'"),
    ],
)
def test_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CircuitBreaker.model_validate(parameters)


@pytest.mark.parametrize(("processor", "answered_after_s"), [("A", 30 + 1), ("unheard of", 60 + 1)])
def test_a_probe_that_was_never_sent_frees_its_place_when_it_must_have_answered(
    processor: str, answered_after_s: float
) -> None:
    """A's terms say 30 s; of a processor without terms 60 s are assumed, however long its circuit stays open."""
    part = BreakerFailover(CircuitBreaker(consecutive_timeouts=1, open_for="10s"))
    part.observe(payment(), answer(1, processor, NOW, "timeout"))
    ranked = [Choice(processor), Choice("B")]

    def asked(after_s: float, of: str) -> str | None:
        return part.admit(view(payment(payment_id=of), now=NOW + 10 + after_s), Luck(), ranked).decision

    assert asked(0, "first") == "probe"
    assert asked(answered_after_s - 0.1, "second") == "failover"
    assert asked(answered_after_s + 0.1, "third") == "probe"
