"""The health monitor: a processor is passed over while it is probably unhealthy, and probed as it probably recovers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar

from pydantic import Field

from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.health_filter import Attempt, Beliefs, HealthBelief, State
from routesim.policies.failover.passing import admission_of, latest_answer
from routesim.policies.failover.scope import Per, scope
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View

OPEN_AGAIN = 0.5  # it is no longer passed over when it is more probably healthy than not
MANY_SENT = 10_000  # beyond these in flight, attempts that were never sent are cleared away


class HealthMonitor(Description):
    """The probability that a processor is down, by its answers and by what it has not answered yet, decides.

    An attempt that has been silent for longer than that processor's answers take is evidence before it times out.
    """

    source: ClassVar[str] = (
        "routesim's own: a filtered hidden Markov model (Rabiner 1989), probes by probability matching (Thompson 1933)"
    )

    per: Per = Field(default=["processor"])
    outage_every: PositiveDuration = Field(
        default="3d", description="how often an outage is expected; a tenfold error costs about one attempt of delay"
    )
    outage_lasts: PositiveDuration = Field(default="25m", description="how long an outage is expected to last")
    certainty: float = Field(
        default=0.98, gt=0.5, lt=1,
        description="it is passed over when it was unhealthy at the last attempt with this probability: 0.98 is one "
        "false alarm in fifty. Were false alarms no worry, d / (1 + d) would be the cheapest, where d is what a "
        "payment loses by being diverted, as a share of what it loses in an outage",
    )  # fmt: skip
    probing: float = Field(
        default=1.0, gt=0,
        description="while it is passed over, a payment probes it with this times the probability that it is healthy; "
        "1 is Thompson's probability matching",
    )  # fmt: skip
    partial_loss: float = Field(default=0.45, gt=0, lt=1, description="share of attempts lost in a partial outage")
    slow_factor: float = Field(default=4.0, gt=1, description="how many times as long answers take when it is slow")
    divert_slow: bool = Field(
        default=False,
        description="whether a slow processor is an unhealthy one. A slow answer is still an answer; but as long as it "
        "may be slow or down nothing is diverted, so where payments are many an outage is seen some seconds earlier "
        "with it"
    )


class HealthMonitorFailover:
    """The failover that HealthMonitor describes.

    Between two pieces of evidence the probability of health grows with the time that an outage may have ended, and
    probes with it: about one in sqrt(2 x outage_lasts / (probing x payments per second)) seconds, so that a busy
    processor is probed more often but with a smaller share. When all are unhealthy the first of what remains is tried.
    """

    def __init__(self, description: HealthMonitor) -> None:
        self._certainty, self._probing = description.certainty, description.probing
        self._divert_slow = description.divert_slow
        self._beliefs = Beliefs(
            1 / parse_duration(description.outage_every), 1 / parse_duration(description.outage_lasts),
            description.partial_loss, description.slow_factor)  # fmt: skip
        self._scope = scope(description.per)
        self._health: dict[Hashable, HealthBelief] = {}
        self._sent: dict[str, tuple[Attempt, Hashable]] = {}  # payment to the attempt that it has in flight

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Pass over the unhealthy, but for probes, and remember what is sent where."""
        left: list[Choice] = []
        reasons: dict[str, SkipReason] = {}
        is_probe = False
        for choice in ranked:
            health = self._of(self._scope(view.payment, choice.processor), view.now)
            if left:
                if not health.shut:
                    left.append(choice)
                continue
            unhealthy = self._unhealthy(health, view.now, reasons, choice.processor)
            if not health.shut:
                left.append(choice)
            elif draw.uniform(f"probe {choice.processor} {len(view.answers)}") < self._probing * (1 - unhealthy):
                left.append(choice)
                is_probe = True
        admission = admission_of(ranked, left, reasons, is_probe)
        first = admission.ranked[0].processor
        key = self._scope(view.payment, first)
        if len(self._sent) > MANY_SENT:
            self._sent = {name: sent for name, sent in self._sent.items() if not sent[0].known}
        self._sent[view.payment.payment_id] = (self._health[key].sent(view.now, latest_answer(view, first)), key)
        return admission

    def _unhealthy(self, health: HealthBelief, now: float, reasons: dict[str, SkipReason], processor: str) -> float:
        """The probability that it is unhealthy now; sets ``shut``.

        Whether the alarm is true is asked of the moment of the last attempt: since then it may have recovered, which
        is what probes are for, and where payments are few that alone would keep the probability below any certainty.
        """
        state = health.state(now)
        unhealthy = self._share_unhealthy(state)
        if unhealthy < OPEN_AGAIN:
            health.shut = False
        elif not health.shut:
            health.shut = self._share_unhealthy(health.at_last) > self._certainty
        if health.shut:
            slow = state.slow if self._divert_slow else 0.0
            reasons[processor] = SkipReason.DOWN if state.down >= max(state.partial, slow) else \
                SkipReason.PARTIAL if state.partial >= slow else SkipReason.SLOW
        return unhealthy

    def _share_unhealthy(self, state: State) -> float:
        return state.partial + state.down + (state.slow if self._divert_slow else 0.0)

    def _of(self, key: Hashable, now: float) -> HealthBelief:
        health = self._health.get(key)
        if health is None:
            health = self._health[key] = HealthBelief(self._beliefs, now)
        return health

    def observe(self, payment: Payment, answer: Answer) -> None:
        """File the answer under its attempt; one that another choice than ours was sent for is filed as it comes."""
        key = self._scope(payment, answer.processor)
        attempt, sent_to = self._sent.pop(payment.payment_id, (None, None))
        health = self._of(key, answer.sent_at)
        if attempt is None or sent_to != key:
            attempt = health.sent(answer.sent_at, answer.answered_at)
        health.answered(attempt, answer.outcome, answer.answered_at - answer.sent_at, answer.answered_at)
