"""What has a health of its own: a processor, or a processor for some of the payments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from operator import attrgetter
from typing import Annotated

from pydantic import AfterValidator, Field

from routesim.policies.conditions import TEXT_FIELDS
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Payment


def _known_fields(per: list[str]) -> list[str]:
    known = ("processor", *TEXT_FIELDS)
    for name in per:
        if name not in known:
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
    get = attrgetter(*fields)
    return lambda payment, processor: (processor, get(payment))


def cluster(per: Sequence[str]) -> Callable[[Payment], Hashable]:
    """The key of the processors whose healths are compared with each other: that of ``scope`` less the processor."""
    fields = [name for name in per if name != "processor"]
    if not fields:
        return lambda payment: None
    get: Callable[[Payment], Hashable] = attrgetter(*fields)
    return get
