"""What has a health of its own: a processor, or a processor for some of the payments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from routesim.policies.conditions import known_fields
from routesim.policies.payment_fields import nameable, refuse_later, values_of
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS, Payment


def _known_fields(per: list[str], info: ValidationInfo) -> list[str]:
    fields = known_fields(info)
    known = ("processor", *nameable(fields, "text"))
    for name in per:
        if name not in known:
            refuse_later(name, fields)
            raise ValueError(f"no health is kept per {name!r}{nearest(name, known)}")
    if "processor" not in per:
        raise ValueError("health belongs to a processor; write per: [processor, ...]")
    return per


Per = Annotated[
    list[str],
    AfterValidator(_known_fields),
    Field(description="what has a health of its own: processor, with payment fields (currency, bank) if wanted"),
]
Scope = Callable[[Payment, str], Hashable]


def scope(per: Sequence[str]) -> Scope:
    """The key under which the health of a processor is kept for a payment."""
    fields = [name for name in per if name != "processor"]
    if not fields:
        return lambda payment, processor: processor
    get = values_of(fields, PAYMENT_FIELDS)
    return lambda payment, processor: (processor, get(payment))


def cluster(per: Sequence[str]) -> Callable[[Payment], Hashable]:
    """The key of the processors whose healths are compared with each other: that of ``scope`` less the processor."""
    fields = [name for name in per if name != "processor"]
    if not fields:
        return lambda payment: None
    return values_of(fields, PAYMENT_FIELDS)
