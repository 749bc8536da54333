"""Elimination by score: each processor's score falls with failures and rises with approvals; a low one comes last."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from pydantic import Field

from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.passing import Failures, admission_of
from routesim.policies.failover.scope import Per, scope
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View

DIVISOR = 5.0  # of the rank's score of an eliminated processor (Juspay decision-engine)


class ScoreElimination(Description):
    """A score of recent approvals per processor; below a threshold its rank's score is divided by five."""

    source: ClassVar[str] = (
        "Juspay decision-engine (2025), elimination: penalty 5 % a failure, reward 5.26 % a success, threshold 0.05 "
        "(Hyperswitch sets 0.35), score keys that expire after 15 minutes (a deployment's setting: some read 150)"
    )

    per: Per = Field(default=["processor"])
    failures: Failures = Field(default=["timeout", "unavailable", "declined"])
    penalty_percent: float = Field(default=5.0, gt=0, lt=100, description="what a failure takes off the score, percent")
    reward_percent: float = Field(
        default=5.26, gt=0, description="what an approval adds to the score, percent; it never passes 1"
    )
    threshold: float = Field(default=0.05, gt=0, lt=1, description="a score below this eliminates; all begin at 1")
    expires_after: PositiveDuration = Field(
        default="15m", description="a score that is this old, counted from its first answer, begins at 1 again"
    )


class ScoreEliminationFailover:
    """The failover that ScoreElimination describes.

    Answers that are neither approved nor a failure leave the score. Where every choice carries a score above 0 the
    eliminated ones' are divided and the rank sorted anew; a rank without scores has the eliminated ones last. Nothing
    is dropped, so an eliminated processor recovers by what still reaches it, or when its score expires.
    """

    def __init__(self, description: ScoreElimination) -> None:
        self._failures = frozenset(description.failures)
        self._penalty = 1.0 - description.penalty_percent / 100.0
        self._reward = 1.0 + description.reward_percent / 100.0
        self._threshold = description.threshold
        self._expires_s = parse_duration(description.expires_after)
        self._scope = scope(description.per)
        self._scores: dict[Hashable, tuple[float, float]] = {}  # score, and when it was made
        self._low: set[Hashable] = set()  # never iterated

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Lower the eliminated in the rank."""
        if not self._low:
            return Admission(ranked)
        low = [self._is_low(self._scope(view.payment, choice.processor), view.now) for choice in ranked]
        if not any(low) or all(low):
            return Admission(ranked)
        if all(choice.score is not None and choice.score > 0 for choice in ranked):
            order = [
                choice._replace(score=choice.score / DIVISOR) if is_low and choice.score is not None else choice
                for choice, is_low in zip(ranked, low, strict=True)
            ]
            order.sort(key=lambda choice: -(choice.score or 0.0))
        else:
            order = [choice for choice, is_low in zip(ranked, low, strict=True) if not is_low]
            order += [choice for choice, is_low in zip(ranked, low, strict=True) if is_low]
        return admission_of(ranked, order, SkipReason.SCORE_LOW)

    def _is_low(self, key: Hashable, now: float) -> bool:
        if key not in self._low:
            return False
        if now - self._scores[key][1] >= self._expires_s:
            del self._scores[key]
            self._low.discard(key)
            return False
        return True

    def observe(self, payment: Payment, answer: Answer) -> None:
        """An approval raises the score, a failure lowers it, each in proportion to what it is."""
        approved = answer.outcome == "approved"
        if not approved and answer.outcome not in self._failures:
            return
        key, now = self._scope(payment, answer.processor), answer.answered_at
        score, made_at = self._scores.get(key, (1.0, now))
        if now - made_at >= self._expires_s:
            score, made_at = 1.0, now
        score = min(1.0, score * self._reward) if approved else score * self._penalty
        self._scores[key] = (score, made_at)
        if score < self._threshold:
            self._low.add(key)
        else:
            self._low.discard(key)
