"""Random sampling: while a processor is down, a small random share of its own traffic tells when it is back."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from routesim.policies.description import Description
from routesim.policies.failover.passing import Failures, latest_answer, pass_over
from routesim.policies.failover.scope import Per, scope
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View

MANY_PROBES = 100  # beyond these, probes that the engine never sent are cleared away


class RandomSampling(Description):
    """Failures in a row, or a share of them, take a processor down; a random share of its traffic probes it."""

    source: ClassVar[str] = (
        "the owner's requirement: detect, send a random sample, fail back after successes in a row; 5 in a row as in "
        "Envoy's outlier detection, the 5 % and the 3 successes are routesim's own choice"
    )

    per: Per = Field(default=["processor"])
    failures: Failures = Field(default=["timeout", "unavailable"])
    consecutive_failures: int | None = Field(
        default=5, ge=1, description="failures in a row that take it down; none: only failure_share does"
    )
    failure_share: float | None = Field(
        default=None, gt=0, le=1, description="share of failures among the last `calls` that takes it down; none: off"
    )
    calls: int = Field(default=20, ge=1, description="how many of the last answers failure_share looks at")
    sample: float = Field(default=0.05, gt=0, le=1, description="share of its traffic that probes it while it is down")
    successes: int = Field(default=3, ge=1, description="probes in a row without a failure that bring it back")
    ramp: bool = Field(
        default=False,
        description="whether those successes double the share instead, until it is whole; a failure sets it back",
    )

    @model_validator(mode="after")
    def _some_detector(self) -> RandomSampling:
        if self.consecutive_failures is None and self.failure_share is None:
            raise ValueError("nothing takes a processor down; give consecutive_failures or failure_share")
        return self


class _Down:
    """A processor that is down: the share of its traffic that probes it, successes in a row, probes in flight."""

    __slots__ = ("probes", "row", "share")

    def __init__(self, share: float) -> None:
        self.share, self.row = share, 0
        self.probes: dict[str, float] = {}


class RandomSamplingFailover:
    """The failover that RandomSampling describes.

    While a processor is down only its probes count. Whether a payment probes is drawn by name, so that policies with
    the same sample probe with the same payments. Any answer but a failure is a success: a decline shows health too.
    When all are down the first of what remains is tried.
    """

    def __init__(self, description: RandomSampling) -> None:
        self._failures = frozenset(description.failures)
        self._limit, self._share, self._calls = (
            description.consecutive_failures, description.failure_share, description.calls)  # fmt: skip
        self._sample, self._successes, self._ramp = description.sample, description.successes, description.ramp
        self._scope = scope(description.per)
        self._rows: dict[Hashable, int] = {}
        self._recent: dict[Hashable, deque[bool]] = {}
        self._down: dict[Hashable, _Down] = {}

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Pass over what is down, but for the sample: a payment that meets it before any healthy one may probe it."""
        if not self._down:
            return Admission(ranked)
        return pass_over(
            ranked,
            lambda processor: self._down.get(self._scope(view.payment, processor)),
            lambda down, processor: self._probes(down, view, draw, processor),
            SkipReason.DOWN,
        )

    def _probes(self, down: _Down, view: View, draw: Draw, processor: str) -> bool:
        if draw.uniform(f"sample {processor} {len(view.answers)}") >= down.share:
            return False
        if len(down.probes) > MANY_PROBES:
            down.probes = {name: latest for name, latest in down.probes.items() if latest >= view.now}
        down.probes[view.payment.payment_id] = latest_answer(view, processor)
        return True

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count towards going down, or hear a probe's answer."""
        key = self._scope(payment, answer.processor)
        failed = answer.outcome in self._failures
        down = self._down.get(key)
        if down is None:
            if self._goes_down(key, failed):
                self._rows.pop(key, None)
                self._recent.pop(key, None)
                self._down[key] = _Down(self._sample)
        elif down.probes.pop(payment.payment_id, None) is not None:
            if failed:
                down.row, down.share = 0, self._sample
                return
            down.row += 1
            if down.row >= self._successes:
                down.row = 0
                down.share *= 2
                if not self._ramp or down.share >= 1:
                    del self._down[key]

    def _goes_down(self, key: Hashable, failed: bool) -> bool:
        row = self._rows[key] = self._rows.get(key, 0) + 1 if failed else 0
        if self._limit is not None and row >= self._limit:
            return True
        if self._share is None:
            return False
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = deque(maxlen=self._calls)
        recent.append(failed)
        return len(recent) == self._calls and sum(recent) >= self._share * self._calls
