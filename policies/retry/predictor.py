"""What a retry part may ask of a model of approvals: how likely a further attempt is to be approved, where and when.

A router in production would serve the same scores from its own model, fitted on its own history. In a simulation they
come from the calibrated model's point estimates, never from the drawn world that the payments meet: that one is the
truth, and no router knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from routesim.policies.vocabulary import Answer, Payment


class Outlook(Protocol):
    """What is foreseen of one payment, its answers so far known."""

    def approval(self, processor: str, at: float) -> float:
        """Probability that an attempt sent there at that moment (seconds since the epoch) is approved."""
        ...

    def soft_failure(self, processor: str, at: float) -> tuple[float, Outlook]:
        """Probability that it fails and may be tried again, and what is foreseen once it has."""
        ...


class Foresight(Protocol):
    """A model of approvals that a router may ask."""

    def outlook(self, payment: Payment, answers: Sequence[Answer]) -> Outlook:
        """What is foreseen of ``payment`` after ``answers``."""
        ...


ForesightSource = Callable[[], Foresight]
"""Makes the model when it is first asked for: few policies ask, and it is not free."""
