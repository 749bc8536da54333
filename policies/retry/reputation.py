"""Reputation: retries at a processor grow slower, or stop, when few of them are approved or they become too many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from routesim.policies.composed import planned
from routesim.policies.description import Description, key_error
from routesim.policies.durations import Duration, PositiveDuration, parse_duration
from routesim.policies.parts import Retry, RetryAmong, RetryPlan, planner
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, View


class Reputation(Description):
    """Slows or stops the retries of another retry part at a processor whose retries harm the merchant's standing."""

    source: ClassVar[str] = (
        "ours: issuers and networks judge a merchant by its reattempts (Visa Core Rules 2026-04-18, table 7-2; "
        "Mastercard's excessive-attempts programme), but publish limits, not scores; the thresholds are assumptions"
    )

    half_life: PositiveDuration = Field(default="6h", description="after which an attempt counts half")
    minimum: float = Field(default=20, gt=0, description="weight of retries below which nothing is judged")
    slow_below: float = Field(default=0.10, ge=0, le=1, description="approval rate of retries that slows them")
    stop_below: float = Field(default=0.03, ge=0, le=1, description="approval rate of retries that stops them")
    slow_above: float = Field(default=0.30, ge=0, le=1, description="share of retries among attempts that slows them")
    stop_above: float = Field(default=0.50, ge=0, le=1, description="share of retries among attempts that stops them")
    delay_factor: float = Field(default=4.0, ge=1, description="what a slowed retry's delay is multiplied by")
    delay_at_least: Duration = Field(default="1h", description="and the least that it then is")

    @model_validator(mode="after")
    def _in_order(self) -> Reputation:
        if self.stop_below > self.slow_below:
            raise key_error("stop_below", f"must not lie above slow_below, {self.slow_below}; found {self.stop_below}")
        if self.stop_above < self.slow_above:
            raise key_error("stop_above", f"must not lie below slow_above, {self.slow_above}; found {self.stop_above}")
        return self


class _Standing:
    """One processor's attempts, retries and approved retries, each halved with every half-life."""

    __slots__ = ("approved", "at", "attempts", "retries")

    def __init__(self, at: float) -> None:
        self.at = at
        self.attempts = self.retries = self.approved = 0.0

    def age(self, now: float, half_life_s: float) -> None:
        if now > self.at:
            kept = 0.5 ** ((now - self.at) / half_life_s)
            self.attempts *= kept
            self.retries *= kept
            self.approved *= kept
            self.at = now


class ReputationRetry:
    """The retry part that Reputation describes, around another one.

    A processor whose retries are stopped is passed over for a retry; where none is left the payment is given up. So is
    one whose slowed retry would go out later than the inner part allows. A processor's past fades, so that after some
    half-lives without retries it is tried anew. What waits is judged again before it is sent, and may then still be
    stopped, but not be slowed twice.
    """

    def __init__(self, description: Reputation, inner: Retry | RetryAmong | None) -> None:
        self._plan = planner(inner)
        self._hear: Callable[[Payment, Answer], None] | None = getattr(inner, "observe", None)
        self._rules = description
        self._half_life_s = parse_duration(description.half_life)
        self._at_least_s = parse_duration(description.delay_at_least)
        self._standings: dict[str, _Standing] = {}

    def plan_among(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> RetryPlan | None:
        """The inner part's plan over the processors that are not stopped, later where the next one is slowed."""
        now = view.now
        open_ = [choice for choice in ranked if self.verdict(choice.processor, now) != "stop"]
        plan = self._plan(view, draw, open_) if open_ else None
        if plan is None:
            return None
        last = view.answers[-1].answered_at
        slowed_at = last + max((plan.at - last) * self._rules.delay_factor, self._at_least_s)
        passed_over = ("stop", "slow") if slowed_at > plan.latest else ("stop",)
        candidates = [choice.processor for choice in planned(open_, view.answers, plan)]
        candidates = [name for name in candidates if self.verdict(name, now) not in passed_over]
        if not candidates:
            return None
        at = slowed_at if self.verdict(candidates[0], now) == "slow" else plan.at
        return plan._replace(at=at, processors=tuple(candidates))

    def verdict(self, processor: str, now: float) -> Literal["good", "slow", "stop"]:
        """What the processor's standing allows at ``now``."""
        standing = self._standings.get(processor)
        if standing is None:
            return "good"
        standing.age(now, self._half_life_s)
        rules = self._rules
        if standing.retries < rules.minimum:
            return "good"
        rate, share = standing.approved / standing.retries, standing.retries / standing.attempts
        if rate < rules.stop_below or share > rules.stop_above:
            return "stop"
        return "slow" if rate < rules.slow_below or share > rules.slow_above else "good"

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count the attempt, and a retry with what came of it."""
        standing = self._standings.get(answer.processor)
        if standing is None:
            standing = self._standings[answer.processor] = _Standing(answer.answered_at)
        standing.age(answer.answered_at, self._half_life_s)
        standing.attempts += 1
        if answer.attempt_number > 1:
            standing.retries += 1
            standing.approved += answer.outcome == "approved"
        if self._hear is not None:
            self._hear(payment, answer)
