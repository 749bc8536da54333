"""Retries: who is tried again, when, where and how often."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.composed import NO_RETRY, RANK_SPENT
from routesim.policies.retry.rules import RetryRule
from routesim.policies.vocabulary import Send, Wait
from tests.policy_world import ARRIVED_AT, Luck, answer, chain, names, payment, policy, view

ROUTE = [{"to": ["A", "B", "C"]}]
RETRY: list[dict[str, Any]] = [
    {"when": {"initiator": "MIT"}, "after": "soft", "max_attempts": 4, "delay": "24h", "next": "cycle"},
    {"after": "soft", "max_attempts": 2, "delay": "3s", "next": "rank"},
]
DAY = 86_400.0


def test_customer_gets_one_retry_3_s_after_the_answer_at_the_next_of_the_rank() -> None:
    sent = chain(policy(route=ROUTE, retry=RETRY), payment(), ["declined"] * 5)
    assert sent == [("A", ARRIVED_AT), ("B", ARRIVED_AT + 1 + 3)]


def test_merchant_gets_four_attempts_a_day_apart_round_the_rank() -> None:
    sent = chain(policy(route=ROUTE, retry=RETRY), payment(initiator="MIT"), ["timeout"] * 5)
    times = [ARRIVED_AT + each * (1 + DAY) for each in range(4)]
    assert sent == list(zip(["A", "B", "C", "A"], times, strict=True))


def test_merchant_at_a_rank_of_one_goes_round_it() -> None:
    sent = chain(policy(route=[{"to": "A"}], retry=RETRY), payment(initiator="MIT"), ["declined"] * 5)
    assert [name for name, _ in sent] == ["A"] * 4


def test_a_spent_rank_stops_at_once() -> None:
    router = policy(route=[{"to": "A"}], retry=RETRY)
    assert router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 1)), Luck()) == RANK_SPENT


def test_an_approval_ends_it() -> None:
    sent = chain(policy(route=ROUTE, retry=RETRY), payment(), ["unavailable", "approved"])
    assert [name for name, _ in sent] == ["A", "B"]


@pytest.mark.parametrize(
    ("after", "outcome", "code", "kind", "again"),
    [
        ("soft", "declined", "51", "soft", True),
        ("soft", "declined", "14", "hard", False),
        ("soft", "declined", "99", None, False),
        ("soft", "timeout", None, None, True),
        ("soft", "unavailable", None, None, True),
        ("soft", "refused", None, None, False),
        ("soft_decline", "declined", "51", "soft", True),
        ("soft_decline", "timeout", None, None, False),
        ("unavailable", "unavailable", None, None, True),
        ("unavailable", "timeout", None, None, False),
        ("timeout", "timeout", None, None, True),
        ("timeout", "declined", "51", "soft", False),
        (["51", "05"], "declined", "05", "soft", True),
        (["51", "05"], "declined", "61", "soft", False),
        (["14"], "declined", "14", "hard", True),  # asked for by name; the engine refuses it
        (["timeout", "51"], "timeout", None, None, True),
    ],
)
def test_after(after: Any, outcome: Any, code: str | None, kind: Any, again: bool) -> None:
    router = policy(route=ROUTE, retry=[{"after": after}])
    action = router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 1, outcome, code, kind)), Luck())
    assert isinstance(action, Send) is again
    assert again or action == NO_RETRY


def test_the_first_rule_that_matches_decides_even_when_it_is_spent() -> None:
    rules = [{"after": ["51"], "max_attempts": 1}, {"after": "soft", "max_attempts": 3}]
    router = policy(route=ROUTE, retry=rules)
    assert router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 1)), Luck()) == NO_RETRY


def test_delays_by_attempt_and_the_last_goes_on() -> None:
    retry = [{"max_attempts": 4, "delay": ["1s", "10s"], "next": "same"}]
    sent = chain(policy(route=ROUTE, retry=retry), payment(), ["timeout"] * 4)
    assert [name for name, _ in sent] == ["A"] * 4
    assert [at - ARRIVED_AT for _, at in sent] == [0, 2, 13, 24]


def test_until_pay_day() -> None:
    router = policy(route=ROUTE, retry=[{"delay": {"until": {"day": [15, "last"], "hour": 9}}}])
    sent = chain(router, payment(), ["declined"] * 2)
    assert sent[1] == ("B", 1_771_167_600.0)  # 2026-02-15T09:00 in Mexico City, 15:00 UTC


def test_within_bounds_the_whole_chain() -> None:
    retry = [{"max_attempts": 9, "delay": "10s", "within": "25s", "next": "cycle"}]
    sent = chain(policy(route=ROUTE, retry=retry), payment(), ["timeout"] * 9)
    assert [at - ARRIVED_AT for _, at in sent] == [0, 11, 22]


def test_no_delay_sends_at_once_and_a_retry_says_so() -> None:
    router = policy(route=[{"to": {"split": {"A": 1, "B": 1}}}], retry=[{}])
    action = router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 1)), Luck())
    assert isinstance(action, Send)
    assert (names(action), action.decision, action.choices[0].propensity) == (["B"], "retry", None)


def test_after_its_wait_it_sends_even_if_the_clock_is_a_hair_early() -> None:
    router = policy(route=ROUTE, retry=RETRY)
    failed = answer(1, "A", ARRIVED_AT + 1)
    wait = router.decide(view(payment(), failed), Luck())
    assert wait == Wait(ARRIVED_AT + 4)
    woken = view(payment(), failed, now=ARRIVED_AT + 4 - 1e-7, waited=True)
    assert names(router.decide(woken, Luck())) == ["B", "C"]


@pytest.mark.parametrize("retry", ["none", []])
def test_no_retry(retry: Any) -> None:
    assert len(chain(policy(route=ROUTE, retry=retry), payment(), ["timeout"] * 3)) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"after": "sofft"}, "did you mean 'soft'"),
        ({"after": "51"}, r"codes are a list: \['51'\]"),
        ({"after": ["timeouts"]}, "did you mean 'timeout'"),
        ({"after": [51]}, "valid string"),
        ({"after": []}, "at least 1"),
        ({"max_attempts": 0}, "greater than or equal to 1"),
        ({"delay": "soon"}, "is not a duration"),
        ({"delay": 3}, "has no unit"),
        ({"delay": []}, "at least 1"),
        ({"delay": {"untill": {}}}, "did you mean 'until'"),
        ({"within": "0s"}, "longer than nothing"),
        ({"next": "first"}, "'rank', 'cycle' or 'same'"),
        ({"max_attempt": 3}, "did you mean 'max_attempts'"),
    ],
)
def test_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RetryRule.model_validate(rule)
