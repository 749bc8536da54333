"""The ``logged`` policy: what the merchant's own router did, as far as its history tells.

Who was sent where, and what was retried when and where, are tables of plain counts and shares. Each table comes at
several levels, finest first; a payment is looked up at the finest level that has a cell for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from routesim.policies.composed import NO_RETRY, NO_ROUTE
from routesim.policies.conditions import TEXT_FIELDS
from routesim.policies.description import Description
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import MOST_CHOICES, Action, Answer, Choice, Draw, Payment, Send, View, Wait

ANSWER_FIELDS = ("decline_code", "outcome", "attempt_number", "processor")
"""What the tables of retries may be split by, beside the payment's own fields: these are the last answer's."""

Value = str | int | None
Share = Annotated[float, Field(ge=0)]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class Cell(Description):
    """One cell of a table: the values of the level's fields (null where absent) and the rows of history in it."""

    key: Annotated[tuple[Value, ...], BeforeValidator(_tuple)]
    rows: int = Field(ge=1)


class ShareCell(Cell):
    """How the rows of a cell were shared out over processors."""

    shares: dict[str, Share] = Field(min_length=1)

    @field_validator("shares")
    @classmethod
    def _sum_to_one(cls, shares: dict[str, float]) -> dict[str, float]:
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"shares sum to {sum(shares.values()):.6f}, not 1")
        return shares


class RetryCell(Cell):
    """How often the answers of a cell were followed by another attempt, and how long after the answer.

    ``delays_s`` are quantiles of the delay at equally spaced probabilities from 0 to 1, in seconds.
    """

    probability: float = Field(ge=0, le=1)
    delays_s: list[Annotated[float, Field(ge=0)]] = Field(default=[])

    @model_validator(mode="after")
    def _ordered_delays(self) -> RetryCell:
        if self.probability > 0 and not self.delays_s:
            raise ValueError("a cell with retries needs their delays_s")
        if self.delays_s != sorted(self.delays_s):
            raise ValueError("delays_s are quantiles and must not fall")
        return self


class Level(Description):
    """Cells by the same fields. ``by`` names payment fields or ANSWER_FIELDS; an empty one holds a single cell."""

    by: list[str]

    @field_validator("by")
    @classmethod
    def _known_fields(cls, by: list[str]) -> list[str]:
        known = (*TEXT_FIELDS, *ANSWER_FIELDS)
        for name in by:
            if name not in known:
                raise ValueError(f"tables are not split by {name!r}{nearest(name, known)}")
        return by

    @model_validator(mode="after")
    def _whole_keys(self) -> Self:
        for cell in getattr(self, "cells", ()):
            if len(cell.key) != len(self.by):
                raise ValueError(f"the key {list(cell.key)} does not fit {self.by}")
        return self


class ShareLevel(Level):
    """Shares over processors."""

    cells: list[ShareCell]


class RetryLevel(Level):
    """Whether and when another attempt follows."""

    cells: list[RetryCell]


class LoggedTables(Description):
    """What calibration learns of the merchant's router.

    ``first``: the first processor, by payment fields. ``retries``: whether and when another attempt follows, by
    payment fields and those of the last answer (``decline_code``, ``outcome``, ``attempt_number``, ``processor``).
    ``next``: where that attempt goes, by the same. Levels go from fine to coarse, as card_brand x currency x bank,
    then card_brand x currency, then currency, then []. ``max_attempts``: the longest chain that history holds.
    """

    first: list[ShareLevel]
    retries: list[RetryLevel] = Field(default=[])
    next: list[ShareLevel] = Field(default=[])
    max_attempts: int = Field(ge=1)


class LoggedParameters(Description):
    """What the merchant's own router did, fitted to history: its first choices, retries, delays and next choices."""

    first: Literal["replay", "fitted"] = Field(
        default="replay",
        description="replay (the processor that history chose for this payment, where it is known) or fitted "
        "(always drawn by history's shares)",
    )


class Logged:
    """The policy of LoggedTables. It keeps no state: the same draws give the same decisions."""

    def __init__(self, tables: LoggedTables, parameters: LoggedParameters | None = None) -> None:
        self._replay = (parameters or LoggedParameters()).first == "replay"
        self._first = _share_lookups(tables.first)
        self._retries = [_Lookup(level.by, {cell.key: cell for cell in level.cells}) for level in tables.retries]
        self._next = _share_lookups(tables.next)
        self._max_attempts = tables.max_attempts

    def decide(self, view: View, draw: Draw) -> Action:
        """As history would: its first choice, or another attempt after its kind of delay."""
        if not view.answers:
            return self._first_attempt(view.payment, draw)
        last = view.answers[-1]
        number = len(view.answers)
        cell = _find(self._retries, view.payment, last)
        if cell is None or number >= self._max_attempts or draw.uniform(f"logged:retry:{number}") >= cell.probability:
            return NO_RETRY
        at = last.answered_at + _quantile(cell.delays_s, draw.uniform(f"logged:delay:{number}"))
        if at > view.now and not view.waited:
            return Wait(at)
        shares = _find(self._next, view.payment, last)
        if shares is None:
            return NO_RETRY
        name = shares.draw(draw.uniform(f"logged:next:{number}"))
        return Send(tuple(Choice(each) for each in shares.led_by(name)), "retry")

    def _first_attempt(self, payment: Payment, draw: Draw) -> Action:
        shares = _find(self._first, payment, None)
        replayed = payment.logged_processor if self._replay else None
        if shares is None:
            return Send((Choice(replayed),)) if replayed is not None else NO_ROUTE
        name = replayed if replayed is not None else shares.draw(draw.uniform("logged:first"))
        return Send(tuple(Choice(each, propensity=shares.by_name.get(each, 0.0)) for each in shares.led_by(name)))

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Nothing: history's habits do not change with its answers."""


class _Shares:
    """Shares ready to draw from, in the order of the names, so that a table's own order decides nothing."""

    def __init__(self, cell: ShareCell) -> None:
        self.by_name = dict(sorted(cell.shares.items()))
        self._cumulative = list(zip(accumulate(self.by_name.values()), self.by_name, strict=True))
        self._likeliest = sorted(self.by_name, key=lambda name: -self.by_name[name])

    def draw(self, place: float) -> str:
        for bound, name in self._cumulative:
            if place < bound:
                return name
        return self._likeliest[0]  # the shares' rounding leaves a sliver below 1

    def led_by(self, first: str) -> list[str]:
        """``first`` and then the likeliest of the others, as many as one Send may hold."""
        return [first, *(name for name in self._likeliest if name != first)][:MOST_CHOICES]


ContentT = TypeVar("ContentT")


class _Lookup(Generic[ContentT]):
    """One level's cells by key."""

    def __init__(self, by: Sequence[str], cells: dict[tuple[Value, ...], ContentT]) -> None:
        self._cells = cells
        self._getters = [(name in ANSWER_FIELDS, attrgetter(name)) for name in by]

    def find(self, payment: Payment, answer: Answer | None) -> ContentT | None:
        key = tuple([get(answer if of_answer else payment) for of_answer, get in self._getters])
        return self._cells.get(key)


def _share_lookups(levels: Sequence[ShareLevel]) -> list[_Lookup[_Shares]]:
    return [_Lookup(level.by, {cell.key: _Shares(cell) for cell in level.cells}) for level in levels]


def _find(levels: Sequence[_Lookup[ContentT]], payment: Payment, answer: Answer | None) -> ContentT | None:
    for level in levels:
        content = level.find(payment, answer)
        if content is not None:
            return content
    return None


def _quantile(values: Sequence[float], place: float) -> float:
    """The quantile at ``place``, linear between those given at equally spaced probabilities."""
    position = place * (len(values) - 1)
    below = int(position)
    if below + 1 >= len(values):
        return values[-1]
    return values[below] + (position - below) * (values[below + 1] - values[below])
