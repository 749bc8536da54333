"""A payment's fields: what each is called, what it holds, and who may look at it.

``vocabulary.Payment`` writes each field once, its type with a ``PaymentField`` beside it. The log's columns, the
staging of a history, the conditions of rules and the cells of the off-policy check all follow from the table that is
read off that class, ``vocabulary.PAYMENT_FIELDS``. A source's profile may declare further fields, which are records of
the same kind; their values are in ``Payment.further``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

Kind = Literal["text", "number", "whole number", "true or false", "moment"]
Known = Literal["at arrival", "later"]
FieldValue = str | float | int | bool | None

_KINDS: dict[type, Kind] = {str: "text", float: "number", int: "whole number", bool: "true or false"}


@dataclass(frozen=True)
class PaymentField:
    """One field of a payment; ``name``, ``kind``, ``nullable`` and ``values`` of a fixed one are read off its type.

    ``known`` says when a router in production knows the value: a policy sees only what is known at arrival.
    ``origin`` says where history has it from: a column of the ``source``, the payment's ``attempts``, or the ``clock``
    at its arrival, of which the log keeps no column. ``in_conditions``: rules may name it. ``in_cells``: payments that
    share its value are alike, so the off-policy check may split payments by it. ``of_card``: it belongs to the card,
    and comes with another card. ``case`` is that of the table's text; ``values`` are the only texts that it may hold.
    ``least`` and ``most`` bound a number (inclusive), ``words`` are other names of its values from ``least`` on, and
    ``bits`` is the width of a whole number in the log. ``further``: declared by a profile.
    """

    doc: str = ""
    unit: str | None = None
    name: str = ""
    kind: Kind | None = None
    nullable: bool = True
    known: Known = "at arrival"
    origin: Literal["source", "attempts", "clock"] = "source"
    in_conditions: bool = True
    in_cells: bool = True
    of_card: bool = False
    case: Literal["lower", "upper"] | None = None
    values: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    words: tuple[str, ...] = ()
    bits: Literal[16, 64] = 64
    further: bool = False


Fields = Mapping[str, PaymentField]


def fields_of(described: type) -> dict[str, PaymentField]:
    """The table of a class whose fields are annotated ``Annotated[TYPE, PaymentField(...)]``, in the class's order.

    >>> class Parcel:
    ...     weight_kg: Annotated[float | None, PaymentField("as the shop tells it", "kg")]
    >>> fields_of(Parcel)["weight_kg"].kind, fields_of(Parcel)["weight_kg"].nullable
    ('number', True)
    """
    table = {}
    for name, hint in get_type_hints(described, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, *notes = get_args(hint)
            for note in notes:
                if isinstance(note, PaymentField):
                    table[name] = _completed(note, name, kind)
    return table


def _completed(note: PaymentField, name: str, hint: Any) -> PaymentField:
    options = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    (alone,) = (option for option in options if option is not NoneType)
    values = get_args(alone) if get_origin(alone) is Literal else ()
    kind = note.kind or ("text" if values else _KINDS[alone])
    return replace(note, name=name, kind=kind, nullable=NoneType in options, values=values)


class FurtherFields(dict[str, FieldValue]):
    """A payment's values of the fields that a profile declares, by name; they cannot be changed.

    >>> FurtherFields(rfm_segment="loyal")["rfm_segment"]
    'loyal'
    """

    __slots__ = ()

    def _refuse(self, *args: Any, **more: Any) -> NoReturn:
        raise TypeError("a payment's further fields cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FurtherFields], tuple[dict[str, FieldValue]]]:
        return FurtherFields, (dict(self),)


NOTHING_FURTHER = FurtherFields()


def nameable(fields: Fields, kind: Kind | None = None) -> tuple[str, ...]:
    """The fields that a rule may name, of one kind or of all."""
    return tuple(name for name, field in fields.items()
                 if field.in_conditions and field.known == "at arrival" and kind in (None, field.kind))


def refuse_later(name: str, fields: Fields) -> None:
    """Raise ValueError for a field whose value nobody knows yet when the router decides."""
    if name in fields and fields[name].known == "later":
        raise ValueError(f"{name} is known only later, when the router has long decided, so no rule may name it")


def values_of(names: Sequence[str], fixed: Iterable[str]) -> Callable[[Any], Any]:
    """Gets a payment's value of one field, or the tuple of those of several. What is not ``fixed`` is a further one."""
    known = frozenset(fixed)
    if known.issuperset(names):
        return attrgetter(*names)  # the fastest way, and rules are asked of every payment
    getters = [attrgetter(name) if name in known else _further(name) for name in names]
    if len(getters) == 1:
        return getters[0]
    return lambda payment: tuple([get(payment) for get in getters])


def _further(name: str) -> Callable[[Any], Hashable]:
    return lambda payment: payment.further.get(name)
