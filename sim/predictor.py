"""What the calibrated model predicts of a payment's next attempt: its answers so far, filtered in plain Python.

A forward filter over the issuer's state, as a router could run it at every failure. Before an attempt the card is
blocked by g with weight W_g, or free with weights V_q on the nodes u_q of its frailty; some blocks end with time.
With T technical failures, s_c and b_gc the shares of a code among a judgement's and a block's, and w_q the nodes'
weights,

    P(approved at p) = (1 - T_p) sum_q V_q(t) q_p(u_q),   V_q(t) = V_q + w_q sum_g W_g (1 - S_g(t) / S_g(t_0))

An answer's code multiplies V_q by T_pc + (1 - T_p) (1 - q_p(u_q)) s_c and W_g by T_pc + (1 - T_p) b_gc. Timeouts and
refusals say nothing of the issuer. The same filter over a whole history is ``calibration.check.predictions``;
the semantics are those of ``sim.fate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import exp, log1p
from typing import NamedTuple

import numpy as np

from routesim.policies.vocabulary import Answer, Payment
from routesim.sim.draws import identity
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import Issuer, IssuerBlock
from routesim.sim.recovery_clock import RecoveryClock
from routesim.sim.trace import Trace

NODES = 15  # with a frailty sd of 2.5 the probabilities are then within .002 of those with 41
SILENT = ("timeout", "refused")  # outcomes in which no issuer spoke
UNSTATED = "declined"  # the code under which a decline without a code is modelled
_KEPT = 4096  # payments whose prediction is kept for the next question, the oldest leave first
_GRID = np.expm1(np.linspace(0.0, np.log1p(90 * 24.0), 8193))  # hours, fine where little time has passed
_STEPS_PER_LOG_H = 8192 / float(np.log1p(90 * 24.0))


class _Processor(NamedTuple):
    """A processor's probabilities: of technical failures by code, of none, and of soft ones; of a judgement's codes,
    of its soft ones, and how many of these count as a repeat."""

    technical: Mapping[str, float]
    up: float
    soft_technical: float
    shares: Mapping[str, float]
    soft_share: float
    counted_share: float


class _State(NamedTuple):
    """The filter's weights at ``hours`` after the first attempt; ``counts`` are earlier counted declines."""

    free: list[float]
    blocked: list[float]
    hours: float
    counts: Mapping[str, float]


class ModelPredictor:
    """The predictor of one world, meant to be the point estimates, for the payments of one trace.

    A payment that is not in the trace (a customer who came back) is predicted by the row of the payment that it
    follows, and one that follows none by the average of the trace.
    """

    def __init__(self, decisions: IssuerDecisions, trace: Trace, nodes: int = NODES) -> None:
        issuer = decisions.world.model.issuer
        points, weights = np.polynomial.hermite_e.hermegauss(nodes)
        self.weights: list[float] = (weights / weights.sum()).tolist()
        self.points: list[float] = (points * issuer.frailty_sd).tolist()
        self.repeat = issuer.repeat
        self._ends = [_ends(block) for block in decisions.blocks]
        self._calendars = any(block.calendar is not None for block in decisions.blocks)
        self.block_codes = [_shares(block.codes) for block in decisions.blocks]
        kinds = {name: code.kind for name, code in decisions.world.model.codes.items()}
        self.soft_of_block = [_soft(codes, kinds) for codes in self.block_codes]
        self.counted = _counted(issuer)
        self._kinds = kinds
        self._decisions = decisions
        self._order = np.argsort(trace.keys)
        self._keys = trace.keys[self._order]
        self._processors: dict[str, _Processor] = {}
        self._mean: dict[str, float] = {}
        self._kept: dict[str, tuple[float, tuple[Answer, ...], ModelPrediction]] = {}

    def probability(self, payment: Payment, answers: Sequence[Answer], processor: str, at: float) -> float:
        """Probability that an attempt sent to ``processor`` at ``at`` (seconds since the epoch) is approved."""
        return self.prediction(payment, answers).approval(processor, at)

    def prediction(self, payment: Payment, answers: Sequence[Answer]) -> ModelPrediction:
        """What is predicted of ``payment`` after ``answers``."""
        known = tuple(answers)
        kept = self._kept.get(payment.payment_id)
        # One who comes back does so at another time in another replication.
        if kept is not None and kept[1] == known and kept[0] == payment.arrived_at:
            return kept[2]
        found = self._filtered(payment, known)
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[payment.payment_id] = (payment.arrived_at, known, found)
        return found

    def _filtered(self, payment: Payment, answers: tuple[Answer, ...]) -> ModelPrediction:
        row = self._row(payment)
        begun = answers[0].sent_at if answers else payment.arrived_at
        cumulative = self._cumulative(row)
        blocked = [b - a for a, b in zip([0.0, *cumulative], cumulative, strict=False)]
        none = 1 - sum(blocked)
        state = _State([none * w for w in self.weights], blocked, 0.0, {})
        card = _Card(self, row, begun)
        for answer in answers:
            if answer.outcome not in SILENT:
                state = card.after(state, answer)
        return ModelPrediction(card, state)

    def ends_of(self, row: int, begun: float) -> list[_Ends | None]:
        """Probability by block that it still holds, by the wall's hours since ``begun`` (s since 1970 UTC). A payment
        that the trace does not hold lives by the wall's clock."""
        if not self._calendars or row < 0:
            return self._ends
        clocks = [self._decisions.clock(block, row) for block in range(len(self._ends))]
        return [ends if ends is None or clock is None else _by_clock(ends, clock, begun)
                for ends, clock in zip(self._ends, clocks, strict=True)]

    def _row(self, payment: Payment) -> int:
        for name in (payment.payment_id, payment.previous_payment_id):
            if name is not None:
                wanted = identity(name)
                place = int(self._keys.searchsorted(np.uint64(wanted)))
                if place < len(self._keys) and int(self._keys[place]) == wanted:
                    return int(self._order[place])
        return -1

    def _cumulative(self, row: int) -> list[float]:
        table = self._decisions.block_cumulative
        values: list[float] = (table[row] if row >= 0 else table.mean(axis=0)).tolist()
        return values

    def logit(self, row: int, processor: str) -> float:
        """Logit of approval by judgement for the payment of a row; -1: the average of the trace."""
        if row >= 0:
            return float(self._decisions.approval_logit(processor)[row])
        if processor not in self._mean:
            self._mean[processor] = float(self._decisions.approval_logits(processor).mean())
        return self._mean[processor]

    def processor(self, name: str) -> _Processor:
        """The probabilities of a processor."""
        found = self._processors.get(name)
        if found is None:
            technical = self._decisions.world.model.processors[name].technical
            shares = _shares(self._decisions.judgement_shares(name))
            soft = _soft(shares, self._kinds)
            counted = _soft({c: v for c, v in shares.items() if c in self.counted}, self._kinds)
            found = self._processors[name] = _Processor(
                technical, 1 - sum(technical.values()), _soft(technical, self._kinds), shares, soft,
                counted / soft if soft else 0.0)
        return found


class _Card:
    """One payment's issuer's side: its approvals on the nodes of frailty, worked out once."""

    __slots__ = ("_approvals", "_row", "begun", "ends", "model")

    def __init__(self, model: ModelPredictor, row: int, begun: float) -> None:
        self.model, self._row, self.begun = model, row, begun
        self.ends = model.ends_of(row, begun)
        self._approvals: dict[tuple[str, float], tuple[list[float], float]] = {}

    def approvals(self, processor: str, count: float) -> tuple[list[float], float]:
        """Approval by judgement on each node, and its average over a card of which nothing is known."""
        found = self._approvals.get((processor, count))
        if found is None:
            model = self.model
            eta = model.logit(self._row, processor) + model.repeat * count
            on_nodes = [_expit(eta + point) for point in model.points]
            average = sum([w * q for w, q in zip(model.weights, on_nodes, strict=True)])
            found = self._approvals[processor, count] = (on_nodes, average)
        return found

    def still(self, state: _State, hours: float) -> list[float]:
        """The weights of the blocks at ``hours``."""
        if hours <= state.hours:
            return state.blocked
        return [w if ends is None else w * ends(hours) / ends(state.hours)
                for w, ends in zip(state.blocked, self.ends, strict=True)]

    def after(self, state: _State, answer: Answer) -> _State:
        """The state once ``answer`` is known."""
        model = self.model
        hours = (answer.sent_at - self.begun) / 3600
        approved = answer.outcome == "approved"
        code = answer.decline_code or UNSTATED
        known = model.processor(answer.processor)
        technical, share = known.technical.get(code, 0.0), known.shares.get(code, 0.0)
        of_block = [0.0 if approved else technical + known.up * codes.get(code, 0.0) for codes in model.block_codes]
        counted = float(not approved and code in model.counted)
        return self.weigh(state, answer.processor, hours, 0.0 if approved else technical,
                          known.up * (1.0 if approved else share), of_block, counted, approved)[1]

    def weigh(self, state: _State, processor: str, hours: float, technical: float, judged: float,
              of_block: list[float], counted: float, approved: bool = False) -> tuple[float, _State]:
        """Probability of an answer, and the state once it is known. ``judged`` multiplies the judgement's approval
        (or its refusal) on each node, ``of_block`` each block's weight; an answer that no state explains says nothing.
        """
        blocked = self.still(state, hours)
        freed = sum(state.blocked) - sum(blocked)
        count = state.counts.get(processor, 0.0)
        on_nodes = self.approvals(processor, count)[0]
        free = [v + freed * w for v, w in zip(state.free, self.model.weights, strict=True)] if freed else state.free
        if approved:
            new_free = [v * judged * q for v, q in zip(free, on_nodes, strict=True)]
        else:
            whole = technical + judged
            new_free = [v * (whole - judged * q) for v, q in zip(free, on_nodes, strict=True)]
        new_blocked = [w * b for w, b in zip(blocked, of_block, strict=True)]
        total = sum(new_free) + sum(new_blocked)
        if total <= 0:
            new_free, new_blocked, total = free, blocked, 1.0
        counts = {**state.counts, processor: count + counted} if counted else state.counts
        return total, _State([v / total for v in new_free], [w / total for w in new_blocked],
                             max(hours, state.hours), counts)


class ModelPrediction:
    """What the model predicts of one payment; see policies.retry.predictor.Prediction."""

    __slots__ = ("_card", "_ending", "_freed", "_state", "_sums")

    def __init__(self, card: _Card, state: _State) -> None:
        self._card, self._state = card, state
        self._sums: dict[str, tuple[float, float]] = {}
        self._freed: dict[float, float] = {}
        self._ending = [(w, w / ends(state.hours), ends)
                        for w, ends in zip(state.blocked, card.ends, strict=True) if ends is not None]

    def approval(self, processor: str, at: float) -> float:
        """Probability that an attempt sent to ``processor`` at ``at`` (seconds since the epoch) is approved."""
        sums = self._sums.get(processor)
        if sums is None:
            on_nodes, average = self._card.approvals(processor, self._state.counts.get(processor, 0.0))
            up = self._card.model.processor(processor).up
            now = sum([v * q for v, q in zip(self._state.free, on_nodes, strict=True)])
            sums = self._sums[processor] = (up * now, up * average)
        freed = self._freed.get(at)
        if freed is None:
            hours = max((at - self._card.begun) / 3600, self._state.hours)
            freed = 0.0
            for blocked, scale, ends in self._ending:
                freed += blocked - scale * ends(hours)
            self._freed[at] = freed
        return sums[0] + freed * sums[1]

    def soft_failure(self, processor: str, at: float) -> tuple[float, ModelPrediction]:
        """Probability that it fails and may be tried again, and what is predicted then.

        Which code it fails with is left open; a repeat counts by the share of the codes that count.
        """
        model = self._card.model
        known = model.processor(processor)
        of_block = [known.soft_technical + known.up * soft for soft in model.soft_of_block]
        probability, state = self._card.weigh(
            self._state, processor, (at - self._card.begun) / 3600, known.soft_technical,
            known.up * known.soft_share, of_block, known.counted_share)
        return probability, ModelPrediction(self._card, state)


def _expit(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > -700 else 0.0


def _shares(shares: Mapping[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    return {code: share / total for code, share in shares.items()}


def _soft(shares: Mapping[str, float], kinds: Mapping[str, str | None]) -> float:
    """The part of ``shares`` whose codes are no hard declines; a code that the model does not list is soft."""
    return sum(share for code, share in shares.items() if kinds.get(code, "soft") != "hard")


def _counted(issuer: Issuer) -> frozenset[str]:
    if issuer.repeat_codes is not None:
        return frozenset(issuer.repeat_codes)
    return frozenset(code for shares in issuer.judgement_codes.values() for code in shares)


_Ends = Callable[[float], float]


def _by_clock(ends: _Ends, clock: RecoveryClock, begun: float) -> _Ends:
    return lambda hours: ends(clock.between(begun, begun + 3600 * hours))


def _ends(block: IssuerBlock) -> _Ends | None:
    """Probability that a block still holds, by the hours since the first attempt; None for one that never ends.

    Read off a table, straight lines on a grid of 8193 points in log(1 + hours), flat beyond 90 days.
    """
    if block.recovers_h is None:
        return None
    table: list[float] = np.maximum(1 - block.recovers_share * (1 - block.recovers_h.sf(_GRID)), 1e-300).tolist()
    grid: list[float] = _GRID.tolist()
    last = len(table) - 1

    def still(hours: float) -> float:
        place = int(log1p(hours) * _STEPS_PER_LOG_H)
        if place >= last:
            return table[last]
        low = grid[place]
        if hours < low and place:  # rounding may put a point of the grid in the cell after its own
            place -= 1
            low = grid[place]
        return table[place] + (table[place + 1] - table[place]) * (hours - low) / (grid[place + 1] - low)

    return still
