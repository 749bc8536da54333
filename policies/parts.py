"""What a composed policy is made of. Each part is a small protocol, so that a user's own class can take its place.

A fresh instance is made for every replication. A part may also have ``observe(payment, answer)``; it then hears
of every answer before the next decision on that payment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Literal, NamedTuple, Protocol

from routesim.policies.vocabulary import Answer, Choice, Decision, Draw, Message, Payment, Skip, View

Next = Literal["rank", "cycle", "same"]


class Route(Protocol):
    """Ranks the processors for a payment."""

    def rank(self, view: View, draw: Draw) -> Sequence[Choice]:
        """Every processor that may take the payment, best first; empty means no route.

        It is asked again before a retry, and must then rank as before unless what it has learnt says otherwise.
        """
        ...


class Messenger(Protocol):
    """Fills in the variable fields of a request."""

    def message(self, view: View, processor: str) -> Message | None:
        """The message for ``processor``; None sends the payment's own fields."""
        ...


class RetryPlan(NamedTuple):
    """One more attempt, at ``at`` (seconds since the epoch; now or earlier: at once), at the ``next`` processor.

    ``processors``, where there are any, are tried in this order in place of what ``next`` says. A part around the one
    that planned it may put the attempt off, but not beyond ``latest`` (seconds since the epoch; infinite: no bound).
    """

    at: float
    next: Next = "rank"
    processors: tuple[str, ...] = ()
    latest: float = inf


class Retry(Protocol):
    """Says whether and when a failed payment is tried again."""

    def plan(self, view: View, draw: Draw) -> RetryPlan | None:
        """The next attempt, or None to give up. ``view.answers`` holds at least one answer.

        It is asked again when the delay has passed, and must then say the same.
        """
        ...


class RetryAmong(Protocol):
    """A retry part that looks at the rank too, to choose the processor or to judge the one that comes next."""

    def plan_among(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> RetryPlan | None:
        """As Retry.plan; ``ranked`` is the route's rank, without what the processors' terms exclude."""
        ...


Planner = Callable[[View, Draw, Sequence[Choice]], RetryPlan | None]


def planner(retry: Retry | RetryAmong | None) -> Planner:
    """The question to ask of a retry part, whichever of the two it is; of none, a plan never comes."""
    among: Planner | None = getattr(retry, "plan_among", None)
    if among is not None:
        return among
    plan: Callable[[View, Draw], RetryPlan | None] | None = getattr(retry, "plan", None)
    if plan is None:
        return lambda view, draw, ranked: None
    return lambda view, draw, ranked: plan(view, draw)


class Admission(NamedTuple):
    """What is left of a rank once the processors thought unhealthy are passed over; never empty.

    ``skipped``: those that stood before the chosen one, in the rank's order, with the reason for each. ``decision`` is
    None for an ordinary attempt, ``failover`` where the first choice was passed over, ``probe`` where the attempt is a
    probe.
    """

    ranked: Sequence[Choice]
    skipped: tuple[Skip, ...] = ()
    decision: Decision | None = None


class Failover(Protocol):
    """Judges processors' health from the answers and passes over the unhealthy.

    ``admit`` sees the whole rank and may reorder it, drop from it or sample from it, so that windows, scores and
    ejections need no other interface than this.
    """

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Called once for each attempt that is about to be sent. ``ranked`` is not empty, nor may the answer be."""
        ...

    def observe(self, payment: Payment, answer: Answer) -> None:
        """An answer has arrived."""
        ...
