"""Routes: the first rule that matches, history's choice, sticky and drawn splits."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.composed import NO_ROUTE
from routesim.policies.route.rules import RouteRule
from routesim.policies.vocabulary import Fee, Send, Terms
from tests.policy_world import Luck, chain, names, payment, policy, view

LEGACY = [
    {"when": {"card_brand": "amex"}, "to": "D"},
    {"when": {"currency": "MXN"}, "to": {"logged_first": ["A", "B", "C"]}},
    {"to": ["C"]},
]
SPLIT = {"split": {"A": 72, "B": 28}, "by": "customer_id", "then": ["C"]}


def first(route: Any, **fields: Any) -> list[str]:
    return names(policy(route=route).decide(view(payment(**fields)), Luck()))


def test_first_match_wins() -> None:
    assert first(LEGACY, card_brand="amex") == ["D"]
    assert first(LEGACY, currency="USD") == ["C"]


def test_no_rule_matches() -> None:
    action = policy(route=LEGACY[:1]).decide(view(payment()), Luck())
    assert action == NO_ROUTE


@pytest.mark.parametrize(
    ("logged", "expected"), [("B", ["B", "A", "C"]), ("A", ["A", "B", "C"]), (None, ["A", "B", "C"]),
                             ("D", ["D", "A", "B"])]
)
def test_logged_first(logged: str | None, expected: list[str]) -> None:
    assert first(LEGACY, logged_processor=logged) == expected


def test_at_most_three_choices() -> None:
    assert first([{"to": ["A", "B", "C", "D"]}]) == ["A", "B", "C"]


def test_sticky_split_has_its_shares() -> None:
    router, count = policy(route=[{"to": SPLIT}]), 20_000
    firsts = Counter(
        names(router.decide(view(payment(customer_id=f"c{each}")), Luck(each)))[0] for each in range(count)
    )
    assert abs(firsts["A"] - 0.72 * count) < 4 * sqrt(count * 0.72 * 0.28)


def test_drawn_split_has_its_shares() -> None:
    router, count = policy(route=[{"to": {"split": {"A": 1, "B": 1, "C": 2}}}]), 20_000
    firsts = Counter(names(router.decide(view(payment()), Luck(each)))[0] for each in range(count))
    for name, share in {"A": 0.25, "B": 0.25, "C": 0.5}.items():
        assert abs(firsts[name] - share * count) < 4 * sqrt(count * share * (1 - share))


def test_a_customer_sticks_whatever_the_draw_and_without_one_the_draw_decides() -> None:
    router = policy(route=[{"to": SPLIT}])
    assert len({tuple(names(router.decide(view(payment()), Luck(each)))) for each in range(50)}) == 1
    anonymous = [names(router.decide(view(payment(customer_id=None)), Luck(each)))[0] for each in range(50)]
    assert len(set(anonymous)) == 2


def test_a_change_of_weights_moves_customers_one_way_only() -> None:
    before = policy(route=[{"to": SPLIT}])
    after = policy(route=[{"to": SPLIT | {"split": {"A": 80, "B": 20}}}])
    moves = Counter(
        (names(before.decide(view(about), Luck()))[0], names(after.decide(view(about), Luck()))[0])
        for about in (payment(customer_id=f"c{each}") for each in range(3_000))
    )
    assert moves["A", "B"] == 0
    assert moves["B", "A"] > 0


def test_splits_over_other_processors_are_not_aligned() -> None:
    one, other = ({"split": {"A": 1, "B": 1}, "by": "customer_id"}, {"split": {"A": 1, "C": 1}, "by": "customer_id"})
    routers, count = (policy(route=[{"to": one}]), policy(route=[{"to": other}])), 4_000
    both = 0
    for each in range(count):
        about = payment(customer_id=f"c{each}")
        both += all(names(router.decide(view(about), Luck()))[0] == "A" for router in routers)
    assert abs(both - count / 4) < 4 * sqrt(count * 0.25 * 0.75)


def test_the_others_follow_by_weight_and_propensities_are_told() -> None:
    to = {"split": {"A": 10, "B": 20, "C": 70}, "then": ["D"]}
    action = policy(route=[{"to": to}]).decide(view(payment()), Luck(**{"split__A,B,C": 0.05}))
    assert isinstance(action, Send)
    assert [(each.processor, each.propensity) for each in action.choices] == [("A", 0.1), ("C", 0.7), ("B", 0.2)]


def test_a_retry_finds_the_same_rank() -> None:
    router = policy(route=[{"to": SPLIT}], retry=[{"max_attempts": 4}])
    for each in range(20):
        tried = [name for name, _ in chain(router, payment(customer_id=f"c{each}"), ["timeout"] * 4)]
        assert sorted(tried) == ["A", "B", "C"]
        assert tried[2] == "C"


def test_processors_whose_terms_exclude_the_payment_are_passed_over() -> None:
    dollars = Terms("A", frozenset({"USD"}), None, 30.0, Fee())
    router = policy(route=[{"to": ["A", "B"]}])
    assert names(router.decide(view(payment(), A=dollars), Luck())) == ["B"]
    only = policy(route=[{"to": ["A"]}])
    assert names(only.decide(view(payment(), A=dollars), Luck())) == ["A"]  # for the engine to refuse


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ([], "at least 1"),
        (["A", "A"], "named twice"),
        ({"logged_frst": ["A"]}, "did you mean 'logged_first'"),
        ({"split": {"A": 0}}, "above 0"),
        ({"split": {"A": -1, "B": 2}}, "greater than or equal to 0"),
        ({"split": {"A": 1}, "by": "customer"}, "did you mean 'customer_id'"),
        ({"split": {"A": 1}, "then": ["A"]}, "named twice"),
        ({"by": "customer_id"}, "needs logged_first or split"),
    ],
)
def test_refused(to: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RouteRule.model_validate({"to": to})
