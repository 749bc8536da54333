"""The breaker over a sliding window: a share of failed or slow answers opens it, a series of trial calls closes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, model_validator

from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.passing import Failures, pass_over, take_place
from routesim.policies.failover.scope import Per, scope
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View


def _window(value: Any) -> Any:
    if isinstance(value, str) and parse_duration(value) >= 1:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{value!r} is no window; write a number of calls (100) or a time of a second or more (60s)")


class WindowBreaker(Description):
    """A share of failures among the last calls, or the calls of the last seconds, opens a processor's circuit."""

    source: ClassVar[str] = (
        "resilience4j 2.x, CircuitBreakerConfig: count-based window of 100 calls, minimum 100, failure rate 50 %, "
        "60 s open, 10 calls half-open, slow from 60 s at 100 %"
    )

    per: Per = Field(default=["processor"])
    failures: Failures = Field(default=["timeout", "unavailable"])
    window: Annotated[int | str, BeforeValidator(_window)] = Field(
        default=100, description="what is looked at: a number of calls (100), or a time (60s), counted in whole seconds"
    )
    minimum_calls: int = Field(
        default=100, ge=1, description="fewer calls in the window decide nothing; no more than a window of calls holds"
    )
    failure_share: float = Field(default=0.5, gt=0, le=1, description="share of failures that opens the circuit")
    slow_after: PositiveDuration = Field(default="60s", description="an answer is slow when it takes longer")
    slow_share: float = Field(default=1.0, gt=0, le=1, description="share of slow answers that opens the circuit")
    open_for: PositiveDuration = Field(default="60s", description="how long it stays open before it is half open")
    half_open_calls: int = Field(
        default=10, ge=1, description="calls let through while half open; their shares close it or open it again"
    )

    @model_validator(mode="after")
    def _reachable(self) -> WindowBreaker:
        if "minimum_calls" in self.model_fields_set and isinstance(self.window, int) \
                and self.minimum_calls > self.window:
            raise ValueError(f"minimum_calls is {self.minimum_calls}, more than the window's {self.window} calls")
        return self


class _Window:
    """The results of the last calls: (whole second, failed, slow), with their counts."""

    __slots__ = ("calls", "failed", "seconds", "size", "slow")

    def __init__(self, size: int | None, seconds: float) -> None:
        self.size, self.seconds = size, seconds
        self.calls: deque[tuple[float, bool, bool]] = deque()
        self.failed = self.slow = 0

    def add(self, at: float, failed: bool, slow: bool) -> None:
        second, calls = at // 1, self.calls
        calls.append((second, failed, slow))
        self.failed += failed
        self.slow += slow
        while len(calls) > self.size if self.size is not None else calls[0][0] <= second - self.seconds:
            _, was_failed, was_slow = calls.popleft()
            self.failed -= was_failed
            self.slow -= was_slow


class _Open:
    """An open circuit: half open from ``until``. ``permits``: trial payment to when it must answer."""

    __slots__ = ("permits", "trial", "until")

    def __init__(self, until: float, calls: int) -> None:
        self.until = until
        self.permits: dict[str, float] = {}
        self.trial = _Window(calls, 0.0)


class WindowBreakerFailover:
    """The failover that WindowBreaker describes.

    While half open only the calls let through count, and they decide once all of them have answered; a call that has
    not answered a second after its timeout was never sent and gives its place up. A circuit that closes begins with
    an empty window. When all circuits are open the first of what remains is tried.
    """

    def __init__(self, description: WindowBreaker) -> None:
        window = description.window
        self._size = window if isinstance(window, int) else None
        self._seconds = parse_duration(window) // 1 if isinstance(window, str) else 0.0
        self._minimum = description.minimum_calls if self._size is None else min(description.minimum_calls, self._size)
        self._failures = frozenset(description.failures)
        self._failure_share, self._slow_share = description.failure_share, description.slow_share
        self._slow_after_s = parse_duration(description.slow_after)
        self._open_for_s = parse_duration(description.open_for)
        self._half_open_calls = description.half_open_calls
        self._scope = scope(description.per)
        self._windows: dict[Hashable, _Window] = {}
        self._open: dict[Hashable, _Open] = {}

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Pass over open circuits; a half-open one, met before any closed one, gets its trial calls."""
        if not self._open:
            return Admission(ranked)
        return pass_over(
            ranked,
            lambda processor: self._open.get(self._scope(view.payment, processor)),
            lambda circuit, processor: view.now >= circuit.until
            and take_place(circuit.permits, self._half_open_calls - len(circuit.trial.calls), view, processor),
            SkipReason.CIRCUIT_OPEN,
        )

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count the answer in the window, or among the trial calls of a half-open circuit."""
        key = self._scope(payment, answer.processor)
        failed = answer.outcome in self._failures
        slow = answer.answered_at - answer.sent_at > self._slow_after_s
        circuit = self._open.get(key)
        if circuit is None:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window(self._size, self._seconds)
            window.add(answer.answered_at, failed, slow)
            if len(window.calls) >= self._minimum and self._too_bad(window):
                del self._windows[key]
                self._open[key] = _Open(answer.answered_at + self._open_for_s, self._half_open_calls)
        elif circuit.permits.pop(payment.payment_id, None) is not None:
            circuit.trial.add(answer.answered_at, failed, slow)
            if len(circuit.trial.calls) >= self._half_open_calls:
                if self._too_bad(circuit.trial):
                    self._open[key] = _Open(answer.answered_at + self._open_for_s, self._half_open_calls)
                else:
                    del self._open[key]

    def _too_bad(self, window: _Window) -> bool:
        calls = len(window.calls)
        return window.failed >= self._failure_share * calls or window.slow >= self._slow_share * calls
