"""A payment on its way through the engine: the one event that carries it, and the attempt that is in flight."""

from __future__ import annotations

from typing import NamedTuple

from simpy.events import Event

from routesim.policies.vocabulary import Choice, Decision, Payment, Skip, View
from routesim.sim.draws import Luck, uniform
from routesim.sim.fate import Card, Fate
from routesim.sim.network_rules import Breach
from routesim.sim.processors import RunningProcessor


class PolicyDraw:
    """The policy's own luck on one payment."""

    __slots__ = ("_key", "_luck")

    def __init__(self, key: int, luck: Luck) -> None:
        self._key, self._luck = key, luck

    def uniform(self, name: str) -> float:
        return uniform(self._key, self._luck.purpose("policy", name))


class Sent(NamedTuple):
    """An attempt in flight; ``breach`` is the network's rule that it breaks, where it was let out all the same."""

    number: int
    processor: RunningProcessor
    choice: Choice
    position: int
    decision: Decision
    skipped: tuple[Skip, ...]
    at: float
    timeout_s: float
    breach: Breach | None


class Flow(Event):
    """A payment on its way: the one event that carries it from arrival to its end.

    ``own_row`` is its row in the trace or -1, ``trace_row`` the row whose features it has, ``row`` its row in the
    log; ``began_at`` is when it reached the router (s); ``serial`` changes whenever an attempt begins or ends, so that
    a late answer knows that it is late.
    """

    __slots__ = ("began_at", "card", "draw", "failed_hard", "fate", "key", "own_row", "payment", "row", "sent",
                 "serial", "trace_row", "view", "warm_up")

    payment: Payment
    own_row: int
    trace_row: int
    row: int
    key: int
    card: Card
    began_at: float
    view: View
    fate: Fate
    sent: Sent
    draw: PolicyDraw
    serial: int
    failed_hard: bool
    warm_up: bool
