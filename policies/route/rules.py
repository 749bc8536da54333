"""Routes written as rules: the first rule that matches a payment ranks the processors for it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from routesim.policies.conditions import When, compile_when, known_fields
from routesim.policies.description import Description, unknown_key
from routesim.policies.payment_fields import nameable, refuse_later, values_of
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS, Choice, Draw, Payment, View


def _without_repeats(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice")
    return names


class LoggedFirst(Description):
    """The processor that history chose first, then these in this order."""

    logged_first: list[str] = Field(min_length=1, description="the order of those that follow history's first choice")

    @field_validator("logged_first")
    @classmethod
    def _refuse_repeats(cls, names: list[str]) -> list[str]:
        return _without_repeats(names)


class Split(Description):
    """A weighted first choice; then the others by weight, then those of ``then``."""

    split: dict[str, Annotated[float, Field(ge=0)]] = Field(min_length=1, description="weight of each processor")
    by: str | None = Field(
        default=None, description="payment field that makes the choice sticky; without it every payment draws anew"
    )
    then: list[str] = Field(default=[], description="processors that come after those of the split")

    @field_validator("by")
    @classmethod
    def _known_field(cls, by: str | None, info: ValidationInfo) -> str | None:
        fields = known_fields(info)
        if by is not None and by not in (known := nameable(fields, "text")):
            refuse_later(by, fields)
            raise ValueError(f"no payment field of text is called {by!r}{nearest(by, known)}")
        return by

    @model_validator(mode="after")
    def _weigh(self) -> Split:
        if not sum(self.split.values()) > 0:
            raise ValueError("at least one weight of a split must be above 0")
        _without_repeats([*self.split, *self.then])
        return self


def _to_shape(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping) and not {"logged_first", "split"} & set(value):
        for key in value:
            if key not in ("by", "then"):
                raise unknown_key(key, ("logged_first", "split"))
        raise ValueError("needs logged_first or split")
    return value


def _to_tag(value: Any) -> str:
    if isinstance(value, LoggedFirst) or (isinstance(value, Mapping) and "logged_first" in value):
        return "(logged first)"
    return "(split)" if isinstance(value, Split | Mapping) else "(names)"



class RouteRule(Description):
    """One rule of a route."""

    when: When = Field(default={}, description="which payments the rule is about; left out, all of them")
    to: Annotated[
        Annotated[
            Annotated[list[str], Field(min_length=1), Tag("(names)")]
            | Annotated[LoggedFirst, Tag("(logged first)")]
            | Annotated[Split, Tag("(split)")],
            Discriminator(_to_tag),
        ],
        BeforeValidator(_to_shape),
    ] = Field(
        description="a processor, a list of them best first, {logged_first: [...]}, "
        "or {split: {NAME: weight, ...}, by: FIELD, then: [...]}"
    )

    @field_validator("to")
    @classmethod
    def _refuse_repeats(cls, to: list[str] | LoggedFirst | Split) -> list[str] | LoggedFirst | Split:
        return _without_repeats(to) if isinstance(to, list) else to

    def named_processors(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Every processor that the rule names, and where it stands below ``to``."""
        if isinstance(self.to, LoggedFirst):
            return [(name, ("logged_first", place)) for place, name in enumerate(self.to.logged_first)]
        if isinstance(self.to, Split):
            then = [(name, ("then", place)) for place, name in enumerate(self.to.then)]
            return [*((name, ("split", name)) for name in self.to.split), *then]
        return [(name, (place,)) for place, name in enumerate(self.to)]


class RouteRules(Description):
    """Ordered rules; the first that matches decides, and a payment that none matches has no route."""

    rules: list[RouteRule] = Field(min_length=1)


class _Target(Protocol):
    def rank(self, payment: Payment, draw: Draw) -> Sequence[Choice]: ...


class RuleRoute:
    """The route that RouteRules describes. It keeps no state, so a payment ranks the same at every attempt."""

    def __init__(self, description: RouteRules) -> None:
        self._rules = [(compile_when(rule.when), _target(rule)) for rule in description.rules]

    def rank(self, view: View, draw: Draw) -> Sequence[Choice]:
        """The rank of the first rule that matches; empty where none does."""
        payment = view.payment
        for matches, target in self._rules:
            if matches(payment):
                return target.rank(payment, draw)
        return ()


def _target(rule: RouteRule) -> _Target:
    if isinstance(rule.to, LoggedFirst):
        return _LoggedFirstRank(rule.to.logged_first)
    if isinstance(rule.to, Split):
        return _SplitRank(rule.to)
    return _FixedRank(rule.to)


class _FixedRank:
    def __init__(self, names: Sequence[str]) -> None:
        self._ranked = tuple(Choice(name) for name in names)

    def rank(self, payment: Payment, draw: Draw) -> Sequence[Choice]:
        return self._ranked


class _LoggedFirstRank:
    """History's first choice leads even where the list does not name it; unknown to history, the list stands."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by_first: dict[str | None, tuple[Choice, ...]] = {None: tuple(Choice(name) for name in names)}

    def rank(self, payment: Payment, draw: Draw) -> Sequence[Choice]:
        first = payment.logged_processor
        ranked = self._by_first.get(first)
        if ranked is None and first is not None:
            ranked = (Choice(first), *(Choice(name) for name in self._names if name != first))
            self._by_first[first] = ranked
        return ranked or ()


class _SplitRank:
    """A sticky choice hashes the field with the split's own names, so that splits over other processors are not
    aligned with it, while a change of weights moves only the customers that it must."""

    def __init__(self, description: Split) -> None:
        names = list(description.split)
        total = sum(description.split.values())
        self._shares = [weight / total for weight in description.split.values()]
        self._bounds = list(accumulate(self._shares))[:-1]
        by_weight = sorted(names, key=lambda name: -description.split[name])  # stable: ties stay in the file's order
        self._ranked = [
            tuple(
                Choice(name, propensity=self._propensity(name, names))
                for name in (first, *(other for other in by_weight if other != first), *description.then)
            )
            for first in names
        ]
        self._name = f"split:{','.join(names)}"
        self._salt = f"{description.by}:{','.join(names)}:".encode()
        self._get = values_of([description.by], PAYMENT_FIELDS) if description.by else None

    def _propensity(self, name: str, names: list[str]) -> float:
        return self._shares[names.index(name)] if name in names else 0.0

    def rank(self, payment: Payment, draw: Draw) -> Sequence[Choice]:
        value = self._get(payment) if self._get else None
        if value is None:
            place = draw.uniform(self._name)
        else:
            place = int.from_bytes(sha256(self._salt + value.encode()).digest()[:8], "big") / 2**64
        return self._ranked[bisect_right(self._bounds, place)]
