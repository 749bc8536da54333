"""`when`: which payments a condition holds for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routesim.policies.conditions import ConditionError, compile_when
from tests.policy_world import payment


@pytest.mark.parametrize(
    ("when", "fields", "holds"),
    [
        ({}, {}, True),
        ({"currency": "MXN"}, {}, True),
        ({"currency": "mxn"}, {}, True),
        ({"currency": "USD"}, {}, False),
        ({"bank": "HSBC"}, {}, True),
        ({"card_brand": ["Amex", "VISA"]}, {}, True),
        ({"bank": {"not": "hsbc"}}, {}, False),
        ({"bank": {"not": ["bbva", "hsbc"]}}, {"bank": None}, True),
        ({"bank": None}, {"bank": None}, True),
        ({"bank": {"not": None}}, {"bank": None}, False),
        ({"bank": {"not": {"prefix": "hs"}}}, {}, False),
        ({"card_bin": {"prefix": ["4", "51"]}}, {}, True),
        ({"card_bin": {"prefix": ["51"]}}, {}, False),
        ({"card_bin": {"prefix": ["4"]}}, {"card_bin": None}, False),
        ({"amount_usd": {"min": 50, "max": 100}}, {}, True),
        ({"amount_usd": {"min": 50.01}}, {}, False),
        ({"amount_usd": {"max": 49.99}}, {}, False),
        ({"installments": {"min": 1}}, {"installments": None}, False),
        ({"initiator": "mit"}, {"initiator": "MIT"}, True),
        ({"weekday": "sun"}, {}, True),
        ({"weekday": ["Monday", 5]}, {}, False),
        ({"hour": {"min": 18, "max": 23}, "day": [1, 15]}, {}, True),
        ({"hour": {"min": 18}, "day": 15}, {}, False),
        ({"stored_credential": False}, {}, True),
        ({"three_ds": True}, {}, False),
    ],
)
def test_holds(when: dict[str, Any], fields: dict[str, Any], holds: bool) -> None:
    assert compile_when(when)(payment(**fields)) is holds


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"card_brnd": "amex"}, "did you mean 'card_brand'"),
        ({"logged_processor": "A"}, "no payment field"),
        ({"mcc": 4511}, "put it in quotes"),
        ({"bank": {"nott": "hsbc"}}, "did you mean 'not'"),
        ({"bank": {}}, "an empty test"),
        ({"bank": []}, "an empty list"),
        ({"bank": {"min": 3}}, "no min or max"),
        ({"hour": 24}, "between 0 and 23"),
        ({"hour": True}, "whole number"),
        ({"hour": {"min": 22, "max": 6}}, "above max"),
        ({"weekday": "funday"}, "mon to sun"),
        ({"amount_usd": "50"}, "is a number"),
        ({"amount_usd": {"prefix": "5"}}, "no prefix"),
        ({"three_ds": "yes"}, "true or false"),
        ({"initiator": "customer"}, "CIT, MIT, unknown"),
    ],
)
def test_refused(when: dict[str, Any], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        compile_when(when)


_banks = st.one_of(st.none(), st.sampled_from(["hsbc", "bbva", "banorte", ""]))


@given(value=_banks, wanted=st.lists(_banks, min_size=1))
def test_not_is_the_opposite(value: str | None, wanted: list[str | None]) -> None:
    about = payment(bank=value)
    assert compile_when({"bank": wanted})(about) is (value in wanted)
    assert compile_when({"bank": {"not": wanted}})(about) is not compile_when({"bank": wanted})(about)


@given(amount=st.floats(0, 1e6), low=st.floats(0, 1e6), width=st.floats(0, 1e6))
def test_a_range_is_both_its_ends(amount: float, low: float, width: float) -> None:
    about, high = payment(amount_usd=amount), low + width
    ends = [compile_when({"amount_usd": end})(about) for end in ({"min": low}, {"max": high})]
    assert compile_when({"amount_usd": {"min": low, "max": high}})(about) is all(ends)
    assert all(ends) is (low <= amount <= high)
