"""A retry budget: retries may be no more than a share of the first attempts, so that they cannot become a storm."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field

from routesim.policies.composed import planned
from routesim.policies.conditions import When, compile_when
from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.parts import Retry, RetryAmong, RetryPlan, planner
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, View


class Budget(Description):
    """Keeps the retries of another retry part to a share of the first attempts, the most deserving ones first."""

    source: ClassVar[str] = (
        "Finagle's RetryBudget (finagle.github.io, 2016-02-08, release 6.31): 20 % on top of 10 retries a second, over "
        "10 s; Envoy's retry_budget (circuit_breaker.proto, v1.39): 20 % and at least 3. The window is an hour and the "
        "minimum 10 in it here, since a card payment's traffic is counted by the minute"
    )

    share: float = Field(default=0.2, ge=0, description="retries allowed for each first attempt")
    per: PositiveDuration = Field(default="1h", description="the sliding window in which both are counted")
    minimum: int = Field(default=10, ge=0, description="retries that every window allows on top")
    first: When = Field(default={"initiator": "MIT"}, description="the payments that are served first")
    reserved: float = Field(
        default=0.1, ge=0, le=1, description="share of the budget kept for them; the others use the remainder"
    )


class _Window:
    """How many moments lie within the last ``length_s`` seconds."""

    __slots__ = ("_length_s", "_moments")

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._moments: deque[float] = deque()

    def add(self, at: float) -> None:
        self._moments.append(at)

    def count(self, now: float) -> int:
        moments = self._moments
        while moments and moments[0] <= now - self._length_s:
            moments.popleft()
        return len(moments)


class BudgetedRetry:
    """The retry part that Budget describes, around another one.

    The budget is asked at the moment of sending, not when a delay begins; where it is spent the payment is given up.
    """

    def __init__(self, description: Budget, inner: Retry | RetryAmong | None) -> None:
        self._plan = planner(inner)
        self._hear: Callable[[Payment, Answer], None] | None = getattr(inner, "observe", None)
        self._share, self._minimum, self._reserved = description.share, description.minimum, description.reserved
        self._is_first = compile_when(description.first)
        length_s = parse_duration(description.per)
        self._attempts, self._served, self._others = _Window(length_s), _Window(length_s), _Window(length_s)

    def plan_among(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> RetryPlan | None:
        """The inner part's plan, or None where it would be sent now and the budget is spent."""
        plan = self._plan(view, draw, ranked)
        if plan is None or not planned(ranked, view.answers, plan):
            return plan
        if plan.at > view.now and not view.waited:
            return plan
        return plan if self._withdraw(view.payment, view.now) else None

    def _withdraw(self, payment: Payment, now: float) -> bool:
        budget = self._minimum + self._share * self._attempts.count(now)
        served, others = self._served.count(now), self._others.count(now)
        if self._is_first(payment):
            if served + others + 1 > budget:
                return False
            self._served.add(now)
            return True
        if max(served, self._reserved * budget) + others + 1 > budget:
            return False
        self._others.add(now)
        return True

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count a first attempt."""
        if answer.attempt_number == 1:
            self._attempts.add(answer.answered_at)
        if self._hear is not None:
            self._hear(payment, answer)
