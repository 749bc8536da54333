"""Elimination by leaky bucket: failures fill it, time empties it, and while it is full the processor comes last."""

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


class LeakyBucket(Description):
    """Failures fill a processor's bucket and leak from it one by one; while it is full the processor comes last."""

    source: ClassVar[str] = (
        "Juspay Hyperswitch (2025), elimination routing, default of EliminationAnalyserConfig: "
        "bucket size 5, one leak in 60 s"
    )

    per: Per = Field(default=["processor"])
    failures: Failures = Field(default=["timeout", "unavailable"])
    bucket_size: int = Field(default=5, ge=1, description="failures that fill the bucket")
    leak_every: PositiveDuration = Field(default="60s", description="one failure leaks out each time this has passed")


class LeakyBucketFailover:
    """The failover that LeakyBucket describes.

    The leak runs from the failure that falls into an empty bucket; a full bucket holds no more. Successes empty
    nothing. An eliminated processor is not dropped: it stands behind the others, in their former order.
    """

    def __init__(self, description: LeakyBucket) -> None:
        self._size = description.bucket_size
        self._leak_s = parse_duration(description.leak_every)
        self._failures = frozenset(description.failures)
        self._scope = scope(description.per)
        self._buckets: dict[Hashable, tuple[int, float]] = {}  # failures held, and when the last one leaked

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Put those whose bucket is full last."""
        if not self._buckets:
            return Admission(ranked)
        left: list[Choice] = []
        full: list[Choice] = []
        for choice in ranked:
            level = self._level(self._scope(view.payment, choice.processor), view.now)
            (full if level >= self._size else left).append(choice)
        return admission_of(ranked, left + full, SkipReason.BUCKET_FULL) if full and left else Admission(ranked)

    def observe(self, payment: Payment, answer: Answer) -> None:
        """A failure is one drop."""
        if answer.outcome not in self._failures:
            return
        key, now = self._scope(payment, answer.processor), answer.answered_at
        level = self._level(key, now)
        leaked_at = self._buckets[key][1] if level else now
        self._buckets[key] = (min(level + 1, self._size), leaked_at)

    def _level(self, key: Hashable, now: float) -> int:
        """Failures in the bucket now."""
        held = self._buckets.get(key)
        if held is None:
            return 0
        level, leaked_at = held
        leaks = int((now - leaked_at) // self._leak_s)
        if leaks >= level:
            del self._buckets[key]
            return 0
        if leaks:
            self._buckets[key] = (level - leaks, leaked_at + leaks * self._leak_s)
        return level - leaks
