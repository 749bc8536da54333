"""Circuit breakers: processors that stop answering are passed over for a while."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from pydantic import Field

from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.passing import pass_over, take_place
from routesim.policies.failover.scope import Per, scope
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View


class CircuitBreaker(Description):
    """Timeouts in a row open a processor's circuit; while it is open the processor is passed over, then probed."""

    source: ClassVar[str] = (
        "the circuit breaker of M. Nygard, Release It! (2nd ed. 2018), chapter 5, counting timeouts in a row; "
        "5 in a row is the default of Envoy's outlier detection, 60 s open that of resilience4j"
    )

    per: Per = Field(default=["processor"])
    consecutive_timeouts: int = Field(default=5, ge=1, description="timeouts in a row that open the circuit")
    open_for: PositiveDuration = Field(default="60s", description="how long it stays open before it is probed")
    probes: int = Field(default=1, ge=1, description="payments that may be in flight as probes at one time")


class _Open:
    """A circuit that is open, or being probed once ``until`` has passed. ``probes``: payment to when it must answer."""

    __slots__ = ("probes", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.probes: dict[str, float] = {}


class BreakerFailover:
    """The failover that CircuitBreaker describes.

    While a circuit is open only its probes count: the answers of attempts sent before it opened, or sent because
    every circuit was open, change nothing. An answer other than a timeout to any probe closes the circuit; a probe
    that times out opens it anew. When all circuits are open the first of what remains is tried.
    """

    def __init__(self, description: CircuitBreaker) -> None:
        self._limit = description.consecutive_timeouts
        self._open_for_s = parse_duration(description.open_for)
        self._probes = description.probes
        self._scope = scope(description.per)
        self._timeouts: dict[Hashable, int] = {}  # in a row, where there are any
        self._open: dict[Hashable, _Open] = {}

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Pass over open circuits; the first whose rest is over, met before any closed one, is probed."""
        if not self._open:
            return Admission(ranked)
        return pass_over(
            ranked,
            lambda processor: self._open.get(self._scope(view.payment, processor)),
            lambda circuit, processor: view.now >= circuit.until
            and take_place(circuit.probes, self._probes, view, processor),
            SkipReason.CIRCUIT_OPEN,
        )

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count a timeout, or hear a probe's answer."""
        key = self._scope(payment, answer.processor)
        circuit = self._open.get(key)
        if circuit is not None:
            if circuit.probes.pop(payment.payment_id, None) is None:
                return
            if answer.outcome == "timeout":
                circuit.until = answer.answered_at + self._open_for_s
            else:
                del self._open[key]
        elif answer.outcome == "timeout":
            timeouts = self._timeouts.get(key, 0) + 1
            if timeouts >= self._limit:
                self._timeouts.pop(key, None)
                self._open[key] = _Open(answer.answered_at + self._open_for_s)
            else:
                self._timeouts[key] = timeouts
        elif key in self._timeouts:
            del self._timeouts[key]
