"""The engine: time passes, payments arrive, a policy decides, answers come back late.

Few and long-lived things (outages, the stream of arrivals) are SimPy processes; a payment's hot path is one
re-armed SimPy event with a callback, which costs a third of a process per payment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy
from simpy.events import Event

from routesim.policies.vocabulary import (
    MOST_CHOICES,
    Answer,
    Payment,
    Policy,
    Refusal,
    Send,
    Skip,
    Stop,
    View,
    Wait,
    refusal_of,
)
from routesim.sim.arrays import Floats
from routesim.sim.comebacks import ComebackRule, Return
from routesim.sim.customers import Customers
from routesim.sim.draws import Luck, uniform
from routesim.sim.errors import BadInput
from routesim.sim.fate import NEVER, Card, Fate, Fates
from routesim.sim.flow import Flow, PolicyDraw, Sent
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import AttemptLog
from routesim.sim.network_rules import Breach, Enforcement, ReattemptCounts
from routesim.sim.outages import Outage
from routesim.sim.processors import RunningProcessor
from routesim.sim.recorder import AttemptRecord, Recorder
from routesim.sim.trace import CHUNK, Trace

RUN_OUT_S = 60 * 86_400.0  # after the last arrival, what still waits is given up and counted
MAX_ATTEMPTS = 60  # no ladder of the field is longer; a policy that loops is stopped and counted
QUEUE_FULL_ANSWER_S = 0.05
HEALTHY = (0.0, 1.0, None)

WAIT_INTO_THE_PAST = Refusal("wait_into_the_past")
REATTEMPT_AFTER_HARD_DECLINE = Refusal("reattempt_after_hard_decline")
TOO_MANY_ATTEMPTS = Refusal("too_many_attempts")


@dataclass(frozen=True)
class Change:
    """From ``at`` until ``until`` (seconds), a processor's logit of approval shifts where ``applies`` (n,) is true."""

    at: float
    until: float
    processor: str
    logit: Floats


@dataclass
class Simulated:
    """One simulation: the log, how often the engine refused something to the measured payments and why, the decisions'
    wall-clock seconds, and how many payments were ``unfinished`` when the last of them was given up."""

    log: AttemptLog
    refusals: Counter[Refusal]
    decision_s: list[float] = field(default_factory=list)
    unfinished: int = 0


class Engine:
    """One replication of one policy. ``run`` may be called once.

    ``network_rules`` says what becomes of attempts that a card network forbids, ``customers`` what is assumed of
    those who must still want a payment that is tried again later (None: all do, and every card is on file).

    What a policy may not do is refused and counted. ``run`` raises BadInput where the policy's decision is none of the
    vocabulary's actions; errors in a user's own policy pass through unchanged.
    """

    def __init__(self, trace: Trace, decisions: IssuerDecisions, policy: Policy, luck: Luck,
                 outages: Sequence[Outage] = (), changes: Sequence[Change] = (),
                 clock: Callable[[], float] | None = None, network_rules: Enforcement = "off",
                 customers: Customers | None = None) -> None:
        self._trace, self._policy, self._luck, self._clock = trace, policy, luck, clock
        model = decisions.world.model
        self._model = model
        self._fates = Fates(decisions, trace, luck)
        self._start = float(trace.arrived_at[0]) if len(trace) else 0.0
        self._env = simpy.Environment(initial_time=self._start)
        self._processors = {name: RunningProcessor(name, p, p.terms(name)) for name, p in model.processors.items()}
        self._terms = {name: processor.terms for name, processor in self._processors.items()}
        for name, processor in self._processors.items():
            processor.outage_process(self._env, [o for o in outages if o.processor == name and o.end > self._start])
        self._changes: Mapping[str, list[Change]] = {
            name: [c for c in changes if c.processor == name] for name in self._processors}
        self._recorder = Recorder(trace)
        self._refusals: Counter[Refusal] = Counter()
        self._unfinished = 0
        self._decision_s: list[float] = []
        self._counts = None if network_rules == "off" else ReattemptCounts(model.codes)
        self._enforced = network_rules == "enforce"
        self._customers = customers
        self._open = 1  # payments on their way, and the stream of arrivals itself
        self._done = self._env.event()
        self._comebacks = ComebackRule(trace, model.comebacks, self._fates, luck)

    def run(self) -> Simulated:
        """Simulate until every payment has ended."""
        if len(self._trace):
            self._env.process(self._arrivals())
            self._env.process(self._run_out())
            self._env.run(until=self._done)
        return Simulated(self._recorder.log(), self._refusals, self._decision_s, self._unfinished)

    # --- the world brings payments

    def _arrivals(self) -> Generator[Event, Any, None]:
        exogenous = np.flatnonzero(self._trace.forerunner < 0)
        arrived_at, warm_up = self._trace.arrived_at, self._trace.warm_up
        for start in range(0, len(exogenous), CHUNK):
            rows = exogenous[start:start + CHUNK]
            for row, at in zip(rows.tolist(), arrived_at[rows].tolist(), strict=True):
                if at > self._env.now:
                    yield self._env.timeout(at - self._env.now)
                payment = self._trace.payments(row // CHUNK)[row % CHUNK]
                self._begin(payment, row, row, int(self._trace.keys[row]), self._fates.card(row, at),
                            self._recorder.payment(row), bool(warm_up[row]))
        self._end_one()

    def _run_out(self) -> Generator[Event, Any, None]:
        yield self._env.timeout(float(self._trace.arrived_at[-1]) + RUN_OUT_S - self._start)
        if not self._done.triggered:
            self._unfinished = self._open
            self._done.succeed()

    def _begin(self, payment: Payment, own_row: int, trace_row: int, key: int, card: Card, row: int,
               warm_up: bool) -> None:
        flow = Flow(self._env)
        flow._ok, flow._value = True, None
        flow.payment, flow.own_row, flow.trace_row, flow.row = payment, own_row, trace_row, row
        flow.key, flow.card, flow.warm_up = key, card, warm_up
        flow.began_at = self._env.now
        flow.view = View(payment, flow.began_at, self._terms, self._trace.timezone)
        flow.draw = PolicyDraw(key, self._luck)
        flow.serial, flow.failed_hard = 0, False
        self._open += 1
        self._decide(flow)

    # --- the policy decides

    def _decide(self, flow: Flow) -> None:
        view = flow.view
        view.now = self._env.now
        if self._clock is None:
            action = self._policy.decide(view, flow.draw)
        else:
            before = self._clock()
            action = self._policy.decide(view, flow.draw)
            self._decision_s.append(self._clock() - before)
        view.waited = False
        if type(action) is Send:
            self._send(flow, action)
        elif type(action) is Wait:
            if action.until > view.now:
                self._arm(flow, action.until - view.now, self._wake)
            else:
                self._refuse(flow, WAIT_INTO_THE_PAST)
                self._end(flow, approved=False)
        elif type(action) is Stop:
            self._end(flow, approved=False)
        else:
            raise BadInput(f"decide must return Send, Wait or Stop, not {action!r}", type(self._policy).__name__)

    def _wake(self, event: Event) -> None:
        flow: Flow = event  # type: ignore[assignment]
        flow.view.waited = True
        self._decide(flow)

    def _arm(self, flow: Flow, delay_s: float, callback: Callable[[Event], None]) -> None:
        flow.callbacks = [callback]
        self._env.schedule(flow, delay=delay_s)

    # --- an attempt

    def _send(self, flow: Flow, action: Send) -> None:
        number = len(flow.view.answers) + 1
        breach = None if self._counts is None else self._counts.breach(flow.payment, flow.card.key, self._env.now)
        if number > 1 or breach is not None or self._customers is not None:
            refusal = self._refusal(flow, number, breach)
            if refusal is not None:
                self._refuse(flow, refusal)
                self._end(flow, approved=False)
                return
        for position, choice in enumerate(action.choices[:MOST_CHOICES], start=1):  # noqa: B007 (used after the loop)
            refusal = refusal_of(choice, flow.payment, self._terms)
            if refusal is None:
                break
            self._refuse(flow, refusal)
        else:
            self._end(flow, approved=False)
            return
        if action.skipped and not all(isinstance(skip, Skip) for skip in action.skipped):
            raise BadInput(f"the skipped of a Send are Skip(processor, reason), not {action.skipped!r}",
                           type(self._policy).__name__)
        processor = self._processors[choice.processor]
        timeout_s = processor.terms.timeout_s
        if action.timeout_s is not None:
            timeout_s = min(timeout_s, action.timeout_s)
        flow.serial += 1
        flow.sent = Sent(number, processor, choice, position, action.decision, action.skipped, self._env.now,
                         timeout_s, breach)
        if processor.concurrent is not None:
            self._send_to_limited(flow, processor, timeout_s)
            return
        flow.fate = fate = self._attempt(flow, processor)
        self._arm(flow, min(fate.latency_s, timeout_s), self._answer)

    def _refuse(self, flow: Flow, refusal: Refusal) -> None:
        if not flow.warm_up:
            self._refusals[refusal] += 1

    def _refusal(self, flow: Flow, number: int, breach: Breach | None) -> Refusal | None:
        """Why the payment may not be attempted now at any processor; None when it may."""
        if flow.failed_hard:
            return REATTEMPT_AFTER_HARD_DECLINE
        if number > MAX_ATTEMPTS:
            return TOO_MANY_ATTEMPTS
        if self._customers is not None:
            last_at = flow.view.answers[-1].answered_at if number > 1 else flow.began_at
            refusal = self._customers.refusal(flow.payment, flow.key, self._luck, flow.began_at, last_at, self._env.now)
            if refusal is not None:
                return refusal
        if breach is None or not self._enforced:
            return None
        # A customer who tries anew with a new payment is no doing of the router's: it goes out, and its breach counts.
        return Refusal(breach.rule) if number > 1 or flow.payment.initiator == "MIT" else None

    def _attempt(self, flow: Flow, processor: RunningProcessor) -> Fate:
        health = processor.health(flow.payment) if processor.active else HEALTHY
        shift = 0.0
        for change in self._changes[processor.name]:
            if change.at <= self._env.now < change.until:
                shift += change.logit[flow.trace_row]
        return self._fates.attempt(flow.card, processor, self._env.now, health, shift)

    def _send_to_limited(self, flow: Flow, processor: RunningProcessor, timeout_s: float) -> None:
        """A processor with a capacity: service begins when there is room, and outlives a router that gives up."""
        env, serial = self._env, flow.serial
        expiry = env.timeout(timeout_s)
        unheard = Fate("timeout", self._model.timeout_code, NEVER)  # while it queues nothing reaches the issuer

        def serve() -> bool:
            nonlocal unheard
            if flow.serial != serial:
                return False  # the router gave up while it queued
            fate = self._attempt(flow, processor)
            unheard = self._unheard(fate)._replace(code=self._model.timeout_code)
            # A lost request holds its place until the router's timeout at least.
            service_s = fate.latency_s if fate.latency_s < NEVER else processor.terms.timeout_s
            done = env.timeout(service_s)
            done.callbacks.append(lambda _: finish(fate))
            return True

        def finish(fate: Fate) -> None:
            nonlocal unheard
            processor.leave()
            if flow.serial == serial and fate.latency_s < NEVER:
                if self._lost_in_flight(flow, flow.sent):
                    unheard = self._lost(flow, fate)
                else:
                    flow.fate = fate
                    self._close(flow)

        def expire(_: Event) -> None:
            if flow.serial == serial:
                flow.fate = unheard
                self._close(flow)

        expiry.callbacks.append(expire)
        if not processor.enter(serve):
            code = processor.model.capacity.code if processor.model.capacity else None
            flow.fate = Fate(self._model.code(code or "").outcome, code, QUEUE_FULL_ANSWER_S)
            flow.serial += 1
            self._arm(flow, min(QUEUE_FULL_ANSWER_S, timeout_s), self._answer)

    # --- the answer

    def _answer(self, event: Event) -> None:
        flow: Flow = event  # type: ignore[assignment]
        sent, fate = flow.sent, flow.fate
        if fate.latency_s > sent.timeout_s:
            flow.fate = self._unheard(fate)
        elif fate.outcome != "timeout" and self._lost_in_flight(flow, sent):
            flow.fate = self._lost(flow, fate)
            remaining_s = sent.at + sent.timeout_s - self._env.now
            if remaining_s > 0:
                self._arm(flow, remaining_s, self._answer)
                return
        self._close(flow)

    def _lost_in_flight(self, flow: Flow, sent: Sent) -> bool:
        """An outage began after the attempt was sent: its answer is lost as one sent into the outage would be."""
        if sent.processor.began_at <= sent.at:
            return False
        loss, _, _ = sent.processor.health(flow.payment)
        return uniform(flow.key, self._luck.purpose("in flight", sent.processor.name, sent.number)) < loss

    def _unheard(self, fate: Fate) -> Fate:
        """What the router makes of an answer that it did not wait for: a timeout, with the issuer's word kept."""
        if fate.outcome == "timeout":
            return fate
        return Fate("timeout", self._model.timeout_code, NEVER, fate.outcome == "approved")

    def _lost(self, flow: Flow, fate: Fate) -> Fate:
        """The timeout of an attempt whose answer an outage took, after the request may have reached the issuer."""
        sent = flow.sent
        late = fate.outcome == "approved" and sent.processor.late_approval_share > uniform(
            flow.key, self._luck.purpose("late approval in flight", sent.processor.name, sent.number))
        return Fate("timeout", self._model.timeout_code, NEVER, late)

    def _close(self, flow: Flow) -> None:
        sent, fate, payment = flow.sent, flow.fate, flow.payment
        flow.serial += 1
        now = self._env.now
        kind = None
        if fate.outcome != "approved":
            kind = self._model.code(fate.code or "").kind if fate.outcome != "timeout" else "soft"
        answer = Answer(sent.number, sent.processor.name, sent.at, now, fate.outcome, fate.code, kind)
        message = sent.choice.message
        self._recorder.attempt(AttemptRecord(  # by position: names would take three times as long
            flow.row, sent.number, sent.processor.name, message.initiator if message else payment.initiator,
            message.avs if message else None, message.mcc if message else payment.mcc, sent.at, now, fate.outcome,
            fate.code, kind, sent.decision, sent.position, sent.choice.propensity, sent.skipped or None,
            fate.late_approval if fate.outcome == "timeout" else None, sent.breach))
        if self._counts is not None:
            self._counts.answered(payment, flow.card.key, fate.outcome, fate.code, now)
        flow.view.answers.append(answer)
        self._policy.observe(payment, answer)
        if fate.outcome == "approved":
            self._end(flow, approved=True)
        else:
            flow.failed_hard = flow.failed_hard or kind == "hard"
            self._decide(flow)

    # --- the end, and customers who come back

    def _end(self, flow: Flow, approved: bool) -> None:
        if not approved:
            code = flow.view.answers[-1].decline_code if flow.view.answers else None
            back = self._comebacks.after(flow.payment, flow.own_row, flow.trace_row, flow.key, flow.card, code,
                                         self._env.now)
            if back is not None:
                self._open += 1
                timer = self._env.timeout(back.at - self._env.now)
                timer.callbacks.append(lambda _: self._come_back(back, flow.warm_up))
        self._end_one()

    def _come_back(self, back: Return, warm_up: bool) -> None:
        self._open -= 1
        row = (self._recorder.payment(back.own_row) if back.own_row >= 0
               else self._recorder.comeback(back.row, back.payment, warm_up))
        self._begin(back.payment, back.own_row, back.row, back.key, back.card, row, warm_up)

    def _end_one(self) -> None:
        self._open -= 1
        if self._open == 0 and not self._done.triggered:
            self._done.succeed()
