"""A policy made of parts: a route, a message, a retry part and a failover part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from routesim.policies.parts import Admission, Failover, Messenger, Next, Retry, RetryAmong, RetryPlan, Route, planner
from routesim.policies.vocabulary import (
    MOST_CHOICES,
    Action,
    Answer,
    Choice,
    Draw,
    Payment,
    Send,
    Stop,
    StopReason,
    View,
    Wait,
    refusal_of,
)

NO_ROUTE = Stop(StopReason.NO_ROUTE)
NO_RETRY = Stop(StopReason.NO_RETRY)
RANK_SPENT = Stop(StopReason.RANK_SPENT)


class Composed:
    """Ranks with the route, retries as the retry part says, passes over what the failover part thinks unhealthy.

    Processors whose published terms exclude the payment are passed over in silence; where all are excluded the rank
    goes out as it is, for the engine to refuse. A processor that was passed over counts as not tried.
    """

    def __init__(
        self,
        route: Route,
        message: Messenger | None = None,
        retry: Retry | RetryAmong | None = None,
        failover: Failover | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._route = route
        self._message = message
        self._plan = planner(retry)
        self._failover = failover
        self._timeout_s = timeout_s
        parts: tuple[object, ...] = (route, message, retry, failover)
        listeners = (getattr(part, "observe", None) for part in parts)
        self._observers: list[Callable[[Payment, Answer], None]] = [hear for hear in listeners if hear is not None]

    def decide(self, view: View, draw: Draw) -> Action:
        """Send, wait for the retry's moment, or stop; see Policy."""
        ranked = _legal(self._route.rank(view, draw), view)
        if not ranked:
            return NO_ROUTE
        if not view.answers:
            return self._send(view, draw, ranked, first=True)
        plan = self._plan(view, draw, ranked)
        if plan is None:
            return NO_RETRY
        candidates = planned(ranked, view.answers, plan)
        if not candidates:
            return RANK_SPENT  # before the delay, not after it: the customer learns of the failure now
        if plan.at > view.now and not view.waited:
            return Wait(plan.at)
        return self._send(view, draw, candidates, first=False)

    def _send(self, view: View, draw: Draw, ranked: Sequence[Choice], first: bool) -> Send:
        failover = self._failover
        admission = failover.admit(view, draw, ranked) if failover is not None else Admission(ranked)
        choices = tuple(admission.ranked[:MOST_CHOICES])
        if self._message is not None:
            choices = tuple(
                choice._replace(message=self._message.message(view, choice.processor)) for choice in choices
            )
        decision = admission.decision or ("rank" if first else "retry")
        return Send(choices, decision, self._timeout_s, admission.skipped)

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Pass the answer on to the parts that listen."""
        for observer in self._observers:
            observer(payment, answer)


def _legal(ranked: Sequence[Choice], view: View) -> Sequence[Choice]:
    payment, terms = view.payment, view.terms
    return [choice for choice in ranked if refusal_of(choice, payment, terms) is None] or ranked


def planned(ranked: Sequence[Choice], answers: Sequence[Answer], plan: RetryPlan) -> list[Choice]:
    """The choices for the attempt that ``plan`` predicts, best first; empty where the rank is spent."""
    if not plan.processors:
        return remaining(ranked, answers, plan.next)
    by_name = {choice.processor: choice for choice in ranked}
    return [by_name.get(name, Choice(name))._replace(propensity=None) for name in plan.processors]


def remaining(ranked: Sequence[Choice], answers: Sequence[Answer], rule: Next) -> list[Choice]:
    """The choices for one more attempt, best first, after ``answers`` (not empty).

    ``rank``: those not yet tried. ``cycle``: those tried least, the last one tried behind its equals, so that a rank
    goes round. ``same``: the processor of the last answer. A retry has no propensity: that is the first choice's.
    """
    tried = [answer.processor for answer in answers]
    last = tried[-1]
    if rule == "same":
        return [Choice(last)]
    if rule == "rank":
        left = [choice for choice in ranked if choice.processor not in tried]
    else:
        left = sorted(ranked, key=lambda choice: (tried.count(choice.processor), choice.processor == last))
    return [choice if choice.propensity is None else choice._replace(propensity=None) for choice in left]
