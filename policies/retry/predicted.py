"""A retry predictor: the processor and the delay with the best expected gain, where there is any gain at all.

For an attempt at processor p after a delay, h hours after the payment's arrival,

    gain = P(approved) (worth exp(-lost_per_h h) - fee when approved) - P(failed) fee when declined - attempt_usd

and with ``look_ahead`` the best gain of one more attempt, should this one fail softly, is added. Looking one attempt
ahead is what tells "at once elsewhere, then a day later" from "a day later only".
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from operator import itemgetter
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from routesim.policies.conditions import When, compile_when
from routesim.policies.description import Description
from routesim.policies.durations import Duration, PositiveDuration, parse_duration
from routesim.policies.parts import RetryPlan
from routesim.policies.retry.predictor import ApprovalPredictor, Prediction, PredictorSource
from routesim.policies.retry.rules import AFTER, After, RetryRule, RetryRules, RuleRetry, compile_after
from routesim.policies.vocabulary import Choice, Draw, Payment, Terms, View, refusal_of


class Predicted(Description):
    """Tried again where and when a model of approvals expects the best gain, as long as there is one."""

    source: ClassVar[str] = (
        "ours; the delays span what smart-retry products describe (docs.y.uno, Smart Retries, 2026: 5 minutes to "
        "4 days; docs.stripe.com, Smart Retries, 2026: up to 2 weeks); what an hour costs is an assumption"
    )

    when: When = Field(default={}, description="which payments are predicted; left out, all of them")
    after: After = Field(default=["soft"], description=AFTER)
    max_attempts: int = Field(default=3, ge=1, description="attempts of the payment, the first included")
    delays: list[Duration] = Field(
        default=["0s", "1h", "6h", "12h", "24h", "48h", "72h", "7d"],
        min_length=1,
        description="delays from the last answer that are weighed",
    )
    customer_delay: Duration = Field(
        default="24h",
        description="the longest of them for a payment that its customer began (CIT or unknown); 0s: only at once",
    )
    within: PositiveDuration = Field(default="14d", description="no attempt is sent later than this after the arrival")
    processors: Literal["rank", "any"] = Field(
        default="rank", description="rank (those of the route), any (all whose terms take the payment)"
    )
    worth_usd: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="what an approval is worth; left out, `margin` of the amount"
    )
    margin: float = Field(default=1.0, gt=0, description="share of the amount that an approval is worth")
    attempt_usd: float = Field(default=0.0, ge=0, description="what an attempt costs beside the processor's fee")
    lost_per_h: float = Field(default=0.0005, ge=0, description="share of the worth that is lost by an hour's delay")
    look_ahead: bool = Field(default=True, description="count what one more attempt would gain should this one fail")
    otherwise: list[RetryRule] = Field(
        default=[], alias="else", description="retry rules for the payments that `when` leaves out"
    )


class _Move(NamedTuple):
    """An attempt that is weighed: its gain and, if it fails softly, the best gain of the one after it."""

    gain: float
    processor: str
    at: float


class PredictedRetry:
    """The retry part that Predicted describes. A plan that waits is kept until its delay has passed."""

    def __init__(self, description: Predicted, predictor: PredictorSource) -> None:
        self._source = predictor
        self._predictor: ApprovalPredictor | None = None
        self._asked = compile_when(description.when)
        self._follows = compile_after(description.after)
        self._max_attempts = description.max_attempts
        self._delays_s = sorted({parse_duration(each) for each in description.delays})
        self._customer_delay_s = parse_duration(description.customer_delay)
        self._customer_delays_s = [each for each in self._delays_s if each <= self._customer_delay_s]
        self._within_s = parse_duration(description.within)
        self._any = description.processors == "any"
        self._worth_usd, self._margin = description.worth_usd, description.margin
        self._attempt_usd = description.attempt_usd
        self._lost_per_s = description.lost_per_h / 3_600
        self._look_ahead = description.look_ahead
        self._otherwise = RuleRetry(RetryRules(rules=description.otherwise))
        self._waiting: dict[str, tuple[int, RetryPlan]] = {}  # payment to its number of answers, and its plan

    def plan_among(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> RetryPlan | None:
        """The attempt of the best gain; None where none gains anything. The other processors follow as a reserve."""
        payment, answers = view.payment, view.answers
        answered, plan = self._waiting.pop(payment.payment_id, (0, None))
        if plan is not None and view.waited and answered == len(answers):
            return plan
        if not self._asked(payment):
            return self._otherwise.plan(view, draw)
        last = answers[-1]
        attempts_left = self._max_attempts - len(answers)
        if attempts_left < 1 or not self._follows(last):
            return None
        if self._predictor is None:
            self._predictor = self._source()
        prediction = self._predictor.prediction(payment, answers)
        names = self._candidates(view, ranked)
        weighed = _Weighed(self, payment, view, names)
        best = weighed.best(prediction, last.answered_at, self._look_ahead and attempts_left > 1)
        if best is None:
            return None
        reserve = sorted((name for name in names if name != best.processor),
                         key=lambda name: -prediction.approval(name, best.at))
        latest = payment.arrived_at + self._within_s
        if payment.initiator != "MIT":
            latest = min(latest, last.answered_at + self._customer_delay_s)
        plan = RetryPlan(best.at, processors=(best.processor, *reserve), latest=latest)
        if best.at > view.now:
            self._waiting[payment.payment_id] = (len(answers), plan)
        return plan

    def _candidates(self, view: View, ranked: Sequence[Choice]) -> list[str]:
        names = [choice.processor for choice in ranked]
        if self._any:
            names += [name for name in view.terms
                      if name not in names and refusal_of(Choice(name), view.payment, view.terms) is None]
        return names

    def delays_s(self, payment: Payment) -> list[float]:
        """The delays that are weighed for a payment, rising."""
        return self._delays_s if payment.initiator == "MIT" else self._customer_delays_s

    def worth_usd(self, payment: Payment) -> float:
        """What an approval at once is worth."""
        return self._worth_usd if self._worth_usd is not None else self._margin * payment.amount_usd

    @property
    def limits(self) -> tuple[float, float, float]:
        """Seconds that the chain may last, worth lost per second (1/s), cost of an attempt (USD)."""
        return self._within_s, self._lost_per_s, self._attempt_usd


_gain = itemgetter(0)


class _Weighed:
    """One payment's moves and what they gain."""

    def __init__(self, part: PredictedRetry, payment: Payment, view: View, names: list[str]) -> None:
        within_s, self._lost_per_s, attempt_usd = part.limits
        self._arrived_at = payment.arrived_at
        self._latest = payment.arrived_at + within_s
        self._delays_s = part.delays_s(payment)
        self._worth_usd = part.worth_usd(payment)
        self._costs = [(name, *_fees(view.terms.get(name), payment, attempt_usd)) for name in names]

    def best(self, prediction: Prediction, after: float, look_ahead: bool) -> _Move | None:
        """The best move after an answer at ``after``; None where none gains. Of equals the soonest, by the rank."""
        moves = []
        for delay_s in self._delays_s:
            at = after + delay_s
            if at > self._latest:
                break
            worth = self._worth_usd * exp(-self._lost_per_s * (at - self._arrived_at))
            for name, approved_usd, failed_usd in self._costs:
                p = prediction.approval(name, at)
                moves.append(_Move(p * (worth - approved_usd) - (1 - p) * failed_usd, name, at))
        if look_ahead:
            return self._two_deep(prediction, moves)
        best = max(moves, key=_gain, default=None)
        return best if best is not None and best.gain > 0 else None

    def _two_deep(self, prediction: Prediction, moves: list[_Move]) -> _Move | None:
        # A failure makes no later approval likelier, so what a second attempt adds to a move is at most this much more
        # than nothing; moves are looked at from the best on, and most need not be.
        latest = min(moves[-1].at + self._delays_s[-1], self._latest) if moves else 0.0
        likeliest = max((prediction.approval(name, latest) for name, _, _ in self._costs), default=0.0)
        best, most = None, 0.0
        for move in sorted(moves, key=_gain, reverse=True):
            worth = self._worth_usd * exp(-self._lost_per_s * (move.at - self._arrived_at))
            p = prediction.approval(move.processor, move.at)
            if move.gain + (1 - p) * likeliest * worth <= most:
                continue
            again, then = prediction.soft_failure(move.processor, move.at)
            second = self.best(then, move.at, False)
            gain = move.gain + (again * second.gain if second is not None else 0.0)
            if gain > most or (gain == most and best is not None and move.at < best.at):
                best, most = move._replace(gain=gain), gain
        return best


def _fees(terms: Terms | None, payment: Payment, attempt_usd: float) -> tuple[float, float]:
    """Cost of an attempt that is approved, and of one that is not, USD."""
    if terms is None:
        return attempt_usd, attempt_usd
    fee = terms.fee
    return (fee.of(payment.amount_usd, True) + attempt_usd, fee.of(payment.amount_usd, False) + attempt_usd)
