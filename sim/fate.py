"""What would come back for an attempt: the draws of a payment, processor and visit turned into an answer.

Potential outcomes are fixed by name before a policy acts; the engine reveals the one that the policy chose, late.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from routesim.policies.vocabulary import Outcome
from routesim.sim.arrays import Floats
from routesim.sim.distributions import Distribution
from routesim.sim.draws import Luck, uniform, uniforms
from routesim.sim.issuer import IssuerDecisions, first_above, pick
from routesim.sim.model import Latency
from routesim.sim.processors import RunningProcessor
from routesim.sim.trace import CHUNK, Trace

NEVER = float("inf")


class Fate(NamedTuple):
    """The answer that is on its way: outcome, code, and the latency in seconds, before any timeout.

    ``late_approval``: of a timeout, whether the issuer approved all the same, which the router does not hear.
    """

    outcome: Outcome
    code: str | None
    latency_s: float
    late_approval: bool = False


class Visit(NamedTuple):
    """The draws of one attempt: standard logistic for the judgement, uniforms for the rest."""

    judgement: float
    code: float
    technical: float
    latency: float


class Card:
    """The issuer's state that all attempts with one card on one order share.

    ``row`` is the trace row whose card it is, ``key`` its identity. A block holds until ``recovers_at``; ``visits``
    counts attempts by processor, ``declines`` those declines that make a repeat there less of a fresh chance.
    """

    __slots__ = ("block", "chunk", "declines", "frailty", "key", "offset", "recovers_at", "row", "visits")

    def __init__(self, row: int, key: int, chunk: ChunkDraws | None, block: int, frailty: float,
                 recovers_at: float) -> None:
        self.row, self.key, self.chunk, self.offset = row, key, chunk, row % CHUNK
        self.block, self.frailty, self.recovers_at = block, frailty, recovers_at
        self.visits: dict[str, int] = {}
        self.declines: dict[str, int] = {}


class ChunkDraws:
    """The first visits' draws of one chunk of payments, made for all of them at once when first asked for."""

    def __init__(self, trace: Trace, luck: Luck, start: int) -> None:
        self._keys = trace.keys[start:start + CHUNK]
        self._luck = luck
        self._visits: dict[str, tuple[memoryview, ...]] = {}
        self._latencies: dict[tuple[str, str], memoryview] = {}
        self.states = (self.draw("block").data, self.draw("recovers").data, self.draw("recovery time").data,
                       np.asarray(special.ndtri(self.draw("frailty"))).data)

    def draw(self, *purpose: str) -> Floats:
        return uniforms(self._keys, self._luck.purpose(*purpose))

    def visit(self, processor: str) -> tuple[memoryview, ...]:
        """Judgement, code, technical and latency draws at a processor, each (chunk,)."""
        draws = self._visits.get(processor)
        if draws is None:
            draws = (special.logit(self.draw("judgement", processor, "0")).data,
                     *(self.draw(purpose, processor, "0").data for purpose in ("code", "technical", "latency")))
            self._visits[processor] = draws
        return draws

    def latency(self, processor: str, outcome: str, distribution: Distribution) -> memoryview:
        """Latencies (ms) of first visits at a processor, had they this outcome, (chunk,)."""
        latencies = self._latencies.get((processor, outcome))
        if latencies is None:
            latencies = distribution.ppf(self.draw("latency", processor, "0")).data
            self._latencies[processor, outcome] = latencies
        return latencies


class Fates:
    """The potential outcomes of one replication."""

    def __init__(self, decisions: IssuerDecisions, trace: Trace, luck: Luck) -> None:
        self._decisions, self._trace, self._luck = decisions, trace, luck
        self._model = decisions.world.model
        self._repeat = self._model.issuer.repeat
        counted = self._model.issuer.repeat_codes
        self._repeat_codes = None if counted is None else frozenset(counted)
        self._chunks: dict[int, ChunkDraws] = {}

    def chunk(self, row: int) -> ChunkDraws:
        """The draws of a row's chunk. The last two chunks are kept here; a waiting payment's card keeps its own."""
        number = row // CHUNK
        chunk = self._chunks.get(number)
        if chunk is None:
            self._chunks = {n: c for n, c in self._chunks.items() if n >= number - 1}
            chunk = self._chunks[number] = ChunkDraws(self._trace, self._luck, number * CHUNK)
        return chunk

    def card(self, row: int, arrived_at: float) -> Card:
        """The issuer's state for the card of a payment of the trace."""
        chunk = self.chunk(row)
        offset = row % CHUNK
        block, recovers, recovery, frailty = chunk.states
        return self._card(row, int(self._trace.keys[row]), chunk, arrived_at,
                          (block[offset], recovers[offset], recovery[offset], frailty[offset]))

    def new_card(self, row: int, key: int, arrived_at: float) -> Card:
        """The state for a card like that of ``row``, with draws of its own, keyed by ``key``."""
        block, recovers, recovery, frailty = (uniform(key, self._luck.purpose(p)) for p in
                                              ("block", "recovers", "recovery time", "frailty"))
        return self._card(row, key, None, arrived_at, (block, recovers, recovery, float(special.ndtri(frailty))))

    def _card(self, row: int, key: int, chunk: ChunkDraws | None, arrived_at: float, u: tuple[float, ...]) -> Card:
        # u: uniforms for the block, whether and when it recovers; a standard normal for the frailty.
        issuer = self._decisions
        block = first_above(issuer.block_cumulative[row], u[0]) if issuer.blocks else -1
        recovers_at = NEVER
        if block >= 0:
            state = issuer.blocks[block]
            if state.recovers_h is not None and u[1] < state.recovers_share:
                hours, clock = state.recovers_h.quantile(u[2]), issuer.clock(block, row)
                recovers_at = arrived_at + 3600 * hours if clock is None else clock.after(arrived_at, hours)
        return Card(row, key, chunk, block, self._model.issuer.frailty_sd * u[3], recovers_at)

    def _visit(self, card: Card, name: str, number: int) -> Visit:
        if number == 0 and card.chunk is not None:
            judgement, code, technical, latency = card.chunk.visit(name)
            i = card.offset
            return Visit(judgement[i], code[i], technical[i], latency[i])
        purposes = ("judgement", "code", "technical", "latency")
        u = [uniform(card.key, self._luck.purpose(purpose, name, str(number))) for purpose in purposes]
        return Visit(float(special.logit(u[0])), u[1], u[2], u[3])

    def attempt(self, card: Card, processor: RunningProcessor, now: float, health: tuple[float, float, str | None],
                shift: float) -> Fate:
        """The answer to an attempt that begins service now.

        ``health`` is the processor's (loss, latency factor, code); ``shift`` a what-if's change of the logit.
        """
        name = processor.name
        number = card.visits.get(name, 0)
        card.visits[name] = number + 1
        draws = self._visit(card, name, number)
        loss, factor, lost_code = health
        if draws.technical < loss:
            fate = (Fate("timeout", self._model.timeout_code, NEVER) if lost_code is None
                    else self._technical(lost_code, card, processor, draws, number, factor))
            return self._with_issuer(fate, card, processor, now, draws, number, shift)
        if processor.technical is not None:
            u = (draws.technical - loss) / (1 - loss) / processor.technical_rate
            if u < 1:
                fate = self._technical(pick(processor.technical, u), card, processor, draws, number, factor)
                return self._with_issuer(fate, card, processor, now, draws, number, shift)
        outcome: Outcome = "approved"
        code = None
        if card.block >= 0 and now < card.recovers_at:
            code = self._decisions.block_code(card.block, draws.code)
        elif not self._judged_well(card, name, draws, shift):
            code = self._decisions.judgement_code(name, draws.code)
            if self._repeat_codes is None:
                card.declines[name] = card.declines.get(name, 0) + 1
        if code is not None:
            outcome = self._model.code(code).outcome
            self._count(code, card, name)
        return Fate(outcome, code, self._latency_s(outcome, card, processor, draws, number, factor))

    def _judged_well(self, card: Card, name: str, draws: Visit, shift: float) -> bool:
        logit = self._decisions.approval_logit(name)[card.row] + card.frailty + shift
        return draws.judgement < logit + self._repeat * card.declines.get(name, 0)

    def _with_issuer(self, fate: Fate, card: Card, processor: RunningProcessor, now: float, draws: Visit, number: int,
                     shift: float) -> Fate:
        """A lost attempt whose request may have reached the issuer, who then decides as if nothing had been lost.

        Nothing of it is remembered: what the card's next attempts meet does not depend on the share.
        """
        if fate.outcome != "timeout" or processor.late_approval_share == 0:
            return fate
        if card.block >= 0 and now < card.recovers_at:
            return fate
        reached = uniform(card.key, self._luck.purpose("late approval", processor.name, str(number)))
        if reached >= processor.late_approval_share:
            return fate
        return fate._replace(late_approval=self._judged_well(card, processor.name, draws, shift))

    def _count(self, code: str, card: Card, name: str) -> None:
        """Remember a decline that makes the same processor's next answer less of a fresh chance."""
        if self._repeat_codes is not None and code in self._repeat_codes:
            card.declines[name] = card.declines.get(name, 0) + 1

    def _technical(self, code: str, card: Card, processor: RunningProcessor, draws: Visit, number: int,
                   factor: float) -> Fate:
        outcome = self._model.code(code).outcome
        self._count(code, card, processor.name)
        if outcome == "timeout":
            return Fate("timeout", code, NEVER)
        return Fate(outcome, code, self._latency_s(outcome, card, processor, draws, number, factor))

    def _latency_s(self, outcome: Outcome, card: Card, processor: RunningProcessor, draws: Visit, number: int,
                   factor: float) -> float:
        if outcome == "timeout":
            return NEVER
        distribution = _by_outcome(processor.latency, outcome)
        if number == 0 and card.chunk is not None:
            latency_ms: float = card.chunk.latency(processor.name, outcome, distribution)[card.offset]
        else:
            latency_ms = distribution.quantile(draws.latency)
        return latency_ms * processor.latency.factor * factor / 1000


def _by_outcome(latency: Latency, outcome: Outcome) -> Distribution:
    if outcome == "unavailable" and latency.unavailable is not None:
        return latency.unavailable
    if outcome != "approved" and latency.declined is not None:
        return latency.declined
    return latency.approved
