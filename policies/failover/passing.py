"""What the failover parts share: which answers count as failures, and how a pass over the unhealthy is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Choice, View

ANSWER_GRACE_S = 1.0  # an attempt that has not answered this long after its timeout was never sent

Shut = TypeVar("Shut")

Failure = Literal["timeout", "unavailable", "declined"]
Failures = Annotated[
    list[Failure],
    Field(min_length=1, description="answers that count as failures: timeout, unavailable, declined"),
]


def told(
    ranked: Sequence[Choice], left: Sequence[Choice], why: str | Callable[[str], str], is_probe: bool = False
) -> Admission:
    """The admission of ``left``, of which none left means all of ``ranked``.

    ``why`` is the reason, or gives it for a processor. Told are those that stand before the chosen one in the rank,
    as ``A: circuit_open; B: circuit_open``.
    """
    if not left:
        return Admission(ranked)
    chosen = left[0].processor
    if chosen == ranked[0].processor:
        return Admission(left, None, "probe" if is_probe else None)
    reasons = []
    for choice in ranked:
        if choice.processor == chosen:
            break
        reason = why if isinstance(why, str) else why(choice.processor)
        reasons.append(f"{choice.processor}: {reason}")
    return Admission(left, "; ".join(reasons), "probe" if is_probe else "failover")


def pass_over(
    ranked: Sequence[Choice], shut: Callable[[str], Shut | None], may_probe: Callable[[Shut, str], bool], why: str
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
    return told(ranked, left, why, is_probe)


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
