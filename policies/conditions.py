"""``when``: which payments a rule is about.

A condition maps payment fields to what they must be; all must hold. What a field must be is a value, a list of
values, or a mapping of ``not`` (a value, a list or again a mapping), ``prefix`` (one or a list), ``min`` and ``max``
(inclusive). ``null`` stands for absent: an absent field equals only null, has no prefix and lies in no range, so
``{not: hsbc}`` holds where the bank is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, ValidationInfo

from routesim.policies.description import key_error
from routesim.policies.payment_fields import Fields, PaymentField, nameable, refuse_later, values_of
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS, Payment

Predicate = Callable[[Payment], bool]

TEXT_FIELDS = nameable(PAYMENT_FIELDS, "text")
CONTEXT = "payment_fields"
"""The key of pydantic's validation context under which a description is told the fields that it may name."""

_TESTS = ("not", "prefix", "min", "max")


class ConditionError(ValueError):
    """A condition that cannot be read; ``key`` is the field it is about."""

    def __init__(self, key: object, message: str) -> None:
        self.key = key
        super().__init__(message)


class Condition(Mapping[str, Any]):
    """A condition as it was written, together with the table of the fields that it may name.

    ``fields`` are PAYMENT_FIELDS and those that the source's profile adds. Raises ConditionError for what cannot be
    read.
    """

    def __init__(self, written: Mapping[str, Any], fields: Fields = PAYMENT_FIELDS) -> None:
        self._written = dict(written)
        self._fields = fields
        self.predicate()  # so that what is wrong is told now

    def __getitem__(self, name: str) -> Any:
        return self._written[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)

    def __repr__(self) -> str:
        return repr(self._written)

    def predicate(self) -> Predicate:
        """The function that tells whether the condition holds for a payment. An empty one holds for every payment."""
        tests = [_compile_field(name, wanted, self._fields) for name, wanted in self._written.items()]
        if not tests:
            return _always
        if len(tests) == 1:
            return tests[0]
        return lambda payment: all(test(payment) for test in tests)


def compile_when(when: Mapping[str, Any]) -> Predicate:
    """The predicate that ``when`` describes; a bare mapping may name the fixed fields only. Raises ConditionError."""
    return (when if isinstance(when, Condition) else Condition(when)).predicate()


def known_fields(info: ValidationInfo) -> Fields:
    """The fields that a description under validation may name: the fixed ones, and those of the context's profile."""
    fields: Fields = (info.context or {}).get(CONTEXT, PAYMENT_FIELDS)
    return fields


def _always(payment: Payment) -> bool:
    return True


def _compile_field(name: str, wanted: Any, fields: Fields) -> Predicate:
    field = _nameable(name, fields)
    get = values_of([name], PAYMENT_FIELDS)
    if not isinstance(wanted, Mapping):
        values = frozenset(_value(field, each) for each in _as_list(name, wanted))
        return lambda payment: get(payment) in values
    for key in wanted:
        if key not in _TESTS:
            raise ConditionError(name, f"{name}: unknown test {str(key)!r}{nearest(key, _TESTS)}")
    if not wanted:
        raise ConditionError(name, f"{name}: an empty test; write a value, a list, or one of {', '.join(_TESTS)}")
    tests: list[Predicate] = []
    if "not" in wanted:
        inner = _compile_field(name, wanted["not"], fields)
        tests.append(lambda payment: not inner(payment))
    if "prefix" in wanted:
        prefixes = tuple(_prefix(field, each) for each in _as_list(name, wanted["prefix"]))
        tests.append(lambda payment: (value := get(payment)) is not None and value.startswith(prefixes))
    if "min" in wanted or "max" in wanted:
        low, high = _bounds(field, wanted)
        tests.append(lambda payment: (value := get(payment)) is not None and low <= value <= high)
    return tests[0] if len(tests) == 1 else lambda payment: all(test(payment) for test in tests)


def _nameable(name: str, fields: Fields) -> PaymentField:
    try:
        refuse_later(name, fields)
    except ValueError as error:
        raise ConditionError(name, str(error)) from None
    known = nameable(fields)
    if name not in known:
        raise ConditionError(name, f"no payment field is called {name!r}{nearest(name, known)}")
    return fields[name]


def _as_list(name: str, wanted: Any) -> list[Any]:
    if not isinstance(wanted, list):
        return [wanted]
    if not wanted:
        raise ConditionError(name, f"{name}: an empty list matches no payment; name at least one value")
    return wanted


def _value(field: PaymentField, value: Any) -> object:
    """``value`` as the tables hold it, or ConditionError."""
    name, kind = field.name, field.kind
    if value is None:
        return None
    least = float("-inf") if field.least is None else field.least
    most = float("inf") if field.most is None else field.most
    if field.words and isinstance(value, str):
        if value.lower()[:3] not in field.words:
            raise ConditionError(name, f"{value!r} is no {name}; write {field.words[0]} to {field.words[-1]}, or "
                                       f"{least} ({field.words[0]}) to {most}")
        return least + field.words.index(value.lower()[:3])
    if kind == "text":
        return _text(field, value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = isinstance(value, bool) if kind == "true or false" else is_number
    if not fits or (kind == "whole number" and not isinstance(value, int)):
        raise ConditionError(name, f"{name} is a {kind}; found {value!r}")
    if not least <= value <= most:
        raise ConditionError(name, f"{name} lies between {least} and {most}; found {value!r}")
    return value


def _text(field: PaymentField, value: Any) -> str:
    name = field.name
    if isinstance(value, bool | int | float):
        raise ConditionError(name, f"{name} is text and {value!r} is not; put it in quotes")
    if not isinstance(value, str):
        raise ConditionError(name, f"{name} is text; found {value!r}")
    if field.values:
        known = {each.lower(): each for each in field.values}
        if value.lower() not in known:
            raise ConditionError(name, f"no {name} is called {value!r}; known: {', '.join(field.values)}")
        return known[value.lower()]
    if field.case == "lower":  # as the tables hold it, so that `when: {bank: HSBC}` finds hsbc
        return value.lower()
    return value.upper() if field.case == "upper" else value


def _prefix(field: PaymentField, value: Any) -> str:
    if field.kind != "text" or field.values:
        raise ConditionError(field.name, f"{field.name} is no free text, so it has no prefix; write its values")
    if value is None:
        raise ConditionError(field.name, f"{field.name}: a prefix is text, not null")
    return _text(field, value)


def _bounds(field: PaymentField, wanted: Mapping[str, Any]) -> tuple[float, float]:
    name = field.name
    if field.kind not in ("number", "whole number"):
        raise ConditionError(name, f"{name} is {field.kind} and has no min or max")
    bounds: list[float] = []
    for key, otherwise in (("min", float("-inf")), ("max", float("inf"))):
        value = _value(field, wanted[key]) if key in wanted else otherwise
        if not isinstance(value, int | float):
            raise ConditionError(name, f"{name}: {key} must be a number; found {value!r}")
        bounds.append(value)
    low, high = bounds
    if low > high:
        raise ConditionError(name, f"{name}: min {low} lies above max {high}, so no payment can match")
    return low, high


def _checked(when: Mapping[str, Any], info: ValidationInfo) -> Condition:
    try:
        return Condition(when, known_fields(info))
    except ConditionError as error:
        raise key_error(error.key, str(error)) from None


When = Annotated[Mapping[str, Any], AfterValidator(_checked), PlainSerializer(dict, return_type=dict[str, Any])]
"""A condition in a description: kept as written, checked against the fields that it may name."""
