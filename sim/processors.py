"""A processor as the engine runs it: whether an outage is on, and how many attempts it can carry at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import simpy

from routesim.policies.vocabulary import Payment, Terms
from routesim.sim.issuer import CodeTable, code_table
from routesim.sim.model import Processor
from routesim.sim.outages import Outage


class RunningProcessor:
    """One processor in one simulation: its terms, which stay, and its state, which changes."""

    __slots__ = ("active", "began_at", "busy", "concurrent", "late_approval_share", "latency", "model", "name", "queue",
                 "queue_limit", "technical", "technical_rate", "terms")

    def __init__(self, name: str, model: Processor, terms: Terms) -> None:
        self.name, self.model, self.terms = name, model, terms
        self.latency = model.latency
        self.late_approval_share = model.late_approval_share
        self.active: list[Outage] = []
        self.began_at = float("-inf")
        self.technical_rate = sum(model.technical.values())
        self.technical: CodeTable | None = code_table(model.technical) if self.technical_rate > 0 else None
        self.busy = 0
        self.concurrent = model.capacity.concurrent if model.capacity else None
        self.queue_limit = model.capacity.queue if model.capacity else 0
        self.queue: deque[Callable[[], bool]] = deque()

    def outage_process(self, env: simpy.Environment, outages: Sequence[Outage]) -> None:
        """Start a SimPy process for each outage of this processor; they may overlap."""
        for outage in outages:
            env.process(self._outage(env, outage))

    def _outage(self, env: simpy.Environment, outage: Outage) -> Generator[simpy.Event, Any, None]:
        if outage.start > env.now:
            yield env.timeout(outage.start - env.now)
        self.active.append(outage)
        self.began_at = outage.start
        yield env.timeout(max(0.0, outage.end - env.now))
        self.active.remove(outage)

    def health(self, payment: Payment) -> tuple[float, float, str | None]:
        """Loss probability, latency factor and answer code that an attempt of ``payment`` meets now.

        Outages that overlap lose attempts independently of each other; the slowest one sets the pace.
        """
        kept, factor, code = 1.0, 1.0, None
        for outage in self.active:
            if outage.applies is None or outage.applies(payment):
                kept *= 1 - outage.loss
                factor = max(factor, outage.latency_factor)
                code = code or outage.code
        return 1 - kept, factor, code

    def enter(self, start: Callable[[], bool]) -> bool:
        """Serve now or later; ``start`` begins service, or says that it is not wanted any more. False: queue full."""
        if self.concurrent is None or self.busy < self.concurrent:
            self.busy += 1
            start()
            return True
        if len(self.queue) >= self.queue_limit:
            return False
        self.queue.append(start)
        return True

    def leave(self) -> None:
        """A service has ended: the next one that is still wanted begins."""
        self.busy -= 1
        while self.queue:
            if self.queue.popleft()():
                self.busy += 1
                return
