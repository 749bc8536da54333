"""What the failover parts share: which answers count as failures, and how the unhealthy are passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Choice, Skip, SkipReason, View

ANSWER_GRACE_S = 1.0  # an attempt that has not answered this long after its timeout was never sent

Shut = TypeVar("Shut")

Failure = Literal["timeout", "unavailable", "declined"]
Failures = Annotated[
    list[Failure],
    Field(min_length=1, description="answers that count as failures: timeout, unavailable, declined"),
]


def admission_of(
    ranked: Sequence[Choice],
    left: Sequence[Choice],
    reason: SkipReason | Mapping[str, SkipReason],
    is_probe: bool = False,
) -> Admission:
    """The admission of ``left``, of which none left means all of ``ranked``.

    Skipped are those that stand before the chosen one in the rank, all for one ``reason`` or each for its own, by name.
    """
    if not left:
        return Admission(ranked)
    chosen = left[0].processor
    if chosen == ranked[0].processor:
        return Admission(left, (), "probe" if is_probe else None)
    better = [choice.processor for choice in takewhile(lambda choice: choice.processor != chosen, ranked)]
    skipped = tuple(Skip(name, reason if isinstance(reason, SkipReason) else reason[name]) for name in better)
    return Admission(left, skipped, "probe" if is_probe else "failover")


def pass_over(
    ranked: Sequence[Choice],
    shut: Callable[[str], Shut | None],
    may_probe: Callable[[Shut, str], bool],
    reason: SkipReason,
) -> Admission:
    """Pass over the processors for which ``shut`` gives a state; one that is met before any other left may be probed.

    ``may_probe`` is asked with the state and the processor, and reserves the probe where it says yes.
    """
    left: list[Choice] = []
    is_probe = False
    for choice in ranked:
        state = shut(choice.processor)
        if state is None:
            left.append(choice)
        elif not left and may_probe(state, choice.processor):
            left.append(choice)
            is_probe = True
    return admission_of(ranked, left, reason, is_probe)


def take_place(taken: dict[str, float], places: int, view: View, processor: str) -> bool:
    """Give the payment one of ``places``, if one is free. ``taken``: payment to when it must have been answered; whose
    time has passed was never sent, and gives its place up."""
    if len(taken) >= places:
        for name in [name for name, latest in taken.items() if latest < view.now]:
            del taken[name]
        if len(taken) >= places:
            return False
    taken[view.payment.payment_id] = latest_answer(view, processor)
    return True


def latest_answer(view: View, processor: str) -> float:
    """When (seconds since the epoch) an attempt sent now must have been answered, if it was sent at all."""
    terms = view.terms.get(processor)
    return view.now + (terms.timeout_s if terms is not None else 60.0) + ANSWER_GRACE_S
