"""What the failover parts share: which answers count as failures, and how a pass over the unhealthy is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Choice, View

ANSWER_GRACE_S = 1.0  # an attempt that has not answered this long after its timeout was never sent

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


def latest_answer(view: View, processor: str) -> float:
    """When (seconds since the epoch) an attempt sent now must have been answered, if it was sent at all."""
    terms = view.terms.get(processor)
    return view.now + (terms.timeout_s if terms is not None else 60.0) + ANSWER_GRACE_S
