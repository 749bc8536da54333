"""``when``: which payments a rule is about.

A condition maps payment fields to what they must be; all must hold. What a field must be is a value, a list of
values, or a mapping of ``not`` (a value, a list or again a mapping), ``prefix`` (one or a list), ``min`` and ``max``
(inclusive). ``null`` stands for absent: an absent field equals only null, has no prefix and lies in no range, so
``{not: hsbc}`` holds where the bank is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from routesim.policies.description import key_error
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Payment

Predicate = Callable[[Payment], bool]
Kind = Literal["text", "number", "whole number", "true or false"]

FIELDS: dict[str, Kind] = {
    "payment_id": "text",
    "order_id": "text",
    "previous_payment_id": "text",
    "merchant_id": "text",
    "customer_id": "text",
    "card_token": "text",
    "amount_usd": "number",
    "currency": "text",
    "card_brand": "text",
    "card_bin": "text",
    "bank": "text",
    "card_country": "text",
    "channel": "text",
    "device": "text",
    "initiator": "text",
    "stored_credential": "true or false",
    "installments": "whole number",
    "mcc": "text",
    "three_ds": "true or false",
    "hour": "whole number",
    "weekday": "whole number",
    "day": "whole number",
}
"""The fields that a condition may name. ``logged_processor`` is left out: no router in production knows it."""

TEXT_FIELDS = tuple(name for name, kind in FIELDS.items() if kind == "text")

_LOWER_CASE = {"card_brand", "bank"}  # as the tables hold them, so that `when: {bank: HSBC}` finds hsbc
_UPPER_CASE = {"currency", "card_country"}
_INITIATORS = {"cit": "CIT", "mit": "MIT", "unknown": "unknown"}
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RANGES = {"hour": (0, 23), "weekday": (0, 6), "day": (1, 31)}
_TESTS = ("not", "prefix", "min", "max")


class ConditionError(ValueError):
    """A condition that cannot be read; ``key`` is the field it is about."""

    def __init__(self, key: object, message: str) -> None:
        self.key = key
        super().__init__(message)


def compile_when(when: Mapping[str, Any]) -> Predicate:
    """The predicate that ``when`` describes. An empty one holds for every payment. Raises ConditionError."""
    tests = [_compile_field(name, wanted) for name, wanted in when.items()]
    if not tests:
        return _always
    if len(tests) == 1:
        return tests[0]
    return lambda payment: all(test(payment) for test in tests)


def _always(payment: Payment) -> bool:
    return True


def _compile_field(name: str, wanted: Any) -> Predicate:
    if name not in FIELDS:
        raise ConditionError(name, f"no payment field is called {name!r}{nearest(name, FIELDS)}")
    get = attrgetter(name)
    if not isinstance(wanted, Mapping):
        values = frozenset(_value(name, each) for each in _as_list(name, wanted))
        return lambda payment: get(payment) in values
    for key in wanted:
        if key not in _TESTS:
            raise ConditionError(name, f"{name}: unknown test {str(key)!r}{nearest(key, _TESTS)}")
    if not wanted:
        raise ConditionError(name, f"{name}: an empty test; write a value, a list, or one of {', '.join(_TESTS)}")
    tests: list[Predicate] = []
    if "not" in wanted:
        inner = _compile_field(name, wanted["not"])
        tests.append(lambda payment: not inner(payment))
    if "prefix" in wanted:
        prefixes = tuple(_prefix(name, each) for each in _as_list(name, wanted["prefix"]))
        tests.append(lambda payment: (value := get(payment)) is not None and value.startswith(prefixes))
    if "min" in wanted or "max" in wanted:
        low, high = _bounds(name, wanted)
        tests.append(lambda payment: (value := get(payment)) is not None and low <= value <= high)
    return tests[0] if len(tests) == 1 else lambda payment: all(test(payment) for test in tests)


def _as_list(name: str, wanted: Any) -> list[Any]:
    if not isinstance(wanted, list):
        return [wanted]
    if not wanted:
        raise ConditionError(name, f"{name}: an empty list matches no payment; name at least one value")
    return wanted


def _value(name: str, value: Any) -> object:
    """``value`` as the tables hold it, or ConditionError."""
    if value is None:
        return None
    kind = FIELDS[name]
    if name == "weekday" and isinstance(value, str):
        if value.lower()[:3] not in _WEEKDAYS:
            raise ConditionError(name, f"{value!r} is no weekday; write mon to sun, or 0 (Monday) to 6")
        return _WEEKDAYS.index(value.lower()[:3])
    if kind == "text":
        return _text(name, value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = isinstance(value, bool) if kind == "true or false" else is_number
    if not fits or (kind == "whole number" and not isinstance(value, int)):
        raise ConditionError(name, f"{name} is a {kind}; found {value!r}")
    low, high = _RANGES.get(name, (float("-inf"), float("inf")))
    if not low <= value <= high:
        raise ConditionError(name, f"{name} lies between {low} and {high}; found {value!r}")
    return value


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool | int | float):
        raise ConditionError(name, f"{name} is text and {value!r} is not; put it in quotes")
    if not isinstance(value, str):
        raise ConditionError(name, f"{name} is text; found {value!r}")
    if name == "initiator":
        if value.lower() not in _INITIATORS:
            raise ConditionError(name, f"no initiator is called {value!r}; known: CIT, MIT, unknown")
        return _INITIATORS[value.lower()]
    if name in _LOWER_CASE:
        return value.lower()
    return value.upper() if name in _UPPER_CASE else value


def _prefix(name: str, value: Any) -> str:
    if FIELDS[name] != "text" or name == "initiator":
        raise ConditionError(name, f"{name} is no free text, so it has no prefix; write its values")
    if value is None:
        raise ConditionError(name, f"{name}: a prefix is text, not null")
    return _text(name, value)


def _bounds(name: str, wanted: Mapping[str, Any]) -> tuple[float, float]:
    if FIELDS[name] not in ("number", "whole number"):
        raise ConditionError(name, f"{name} is {FIELDS[name]} and has no min or max")
    bounds: list[float] = []
    for key, otherwise in (("min", float("-inf")), ("max", float("inf"))):
        value = _value(name, wanted[key]) if key in wanted else otherwise
        if not isinstance(value, int | float):
            raise ConditionError(name, f"{name}: {key} must be a number; found {value!r}")
        bounds.append(value)
    low, high = bounds
    if low > high:
        raise ConditionError(name, f"{name}: min {low} lies above max {high}, so no payment can match")
    return low, high


def _checked(when: dict[str, Any]) -> dict[str, Any]:
    try:
        compile_when(when)
    except ConditionError as error:
        raise key_error(error.key, str(error)) from None
    return when


When = Annotated[dict[str, Any], AfterValidator(_checked)]
"""A condition in a description: kept as written, checked."""
