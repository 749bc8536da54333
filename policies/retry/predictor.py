"""What a retry part may ask of a model of approvals: how likely a further attempt is to be approved, where and when.

A router in production would serve the same scores from its own model, fitted on its own history. In a simulation they
come from the calibrated model's point estimates, never from the drawn world that the payments meet: that one is the
truth, and no router knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from routesim.policies.vocabulary import Answer, Payment


class Prediction(Protocol):
    """What is predicted of one payment, its answers so far known."""

    def approval(self, processor: str, at: float) -> float:
        """Probability that an attempt sent there at that moment (seconds since the epoch) is approved."""
        ...

    def soft_failure(self, processor: str, at: float) -> tuple[float, Prediction]:
        """Probability that it fails and may be tried again, and what is predicted once it has."""
        ...


class ApprovalPredictor(Protocol):
    """A model of approvals that a router may ask."""

    def prediction(self, payment: Payment, answers: Sequence[Answer]) -> Prediction:
        """What is predicted of ``payment`` after ``answers``."""
        ...


PredictorSource = Callable[[], ApprovalPredictor]
"""Makes the model when it is first asked for: few policies ask, and it is not free."""
