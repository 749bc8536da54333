"""Retries written as rules: the first rule that matches the payment and its last answer decides."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from routesim.policies.conditions import When, compile_when
from routesim.policies.description import Description
from routesim.policies.durations import Duration, PositiveDuration, Until, next_moment, parse_duration
from routesim.policies.parts import Next, RetryPlan
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Answer, Draw, View

FAILURES = ("soft", "soft_decline", "unavailable", "timeout")
"""The words of ``after``. ``soft`` is whatever may be tried again: the other three together."""


def _after_list(value: Any) -> Any:
    if isinstance(value, str) and value not in FAILURES:
        raise ValueError(f"no failure is called {value!r}{nearest(value, FAILURES)}; codes are a list: [{value!r}]")
    return value if isinstance(value, list) else [value]


def _after_words(values: list[str]) -> list[str]:
    for value in values:
        if value not in FAILURES and get_close_matches(value, FAILURES, n=1, cutoff=0.75):
            raise ValueError(f"{value!r} is neither a failure nor likely a code{nearest(value, FAILURES)}")
    return values


After = Annotated[list[str], Field(min_length=1), BeforeValidator(_after_list), AfterValidator(_after_words)]
"""``after`` in a description: kept as written, checked."""

AFTER = (
    "soft (soft declines, unavailable and timeouts), soft_decline, unavailable, timeout, or a list of quoted decline "
    "codes; a hard decline is retried only where its code is named"
)


class DelayUntil(Description):
    """A delay that ends at a certain day and hour."""

    until: Until


def _delay_shape(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


def _delay_tag(value: Any) -> str:
    return "(durations)" if isinstance(value, list | str) or not isinstance(value, dict | DelayUntil) else "(until)"


class RetryRule(Description):
    """One rule of a retry part."""

    source: ClassVar[str] = "ours: what a merchant's own rule table says"

    when: When = Field(default={}, description="which payments the rule is about; left out, all of them")
    after: After = Field(default=["soft"], description=AFTER)
    max_attempts: int = Field(default=2, ge=1, description="attempts of the payment, the first included")
    delay: Annotated[
        Annotated[
            Annotated[list[Duration], Field(min_length=1), Tag("(durations)")] | Annotated[DelayUntil, Tag("(until)")],
            Discriminator(_delay_tag),
        ],
        BeforeValidator(_delay_shape),
    ] = Field(
        default=["0s"],
        description="from the last answer: a duration, a list of them by attempt (the last one goes on), "
        "or {until: {day: [15, last], hour: 9}}",
    )
    within: PositiveDuration | None = Field(
        default=None, description="no attempt is sent later than this after the payment's arrival"
    )
    next: Literal["rank", "cycle", "same"] = Field(
        default="rank",
        description="rank (the next processor not yet tried; none left: stop), cycle (round again when spent), same",
    )


class RetryRules(Description):
    """Ordered rules; the first that matches decides; where none matches or it is spent, the payment is given up."""

    source: ClassVar[str] = "ours: what a merchant's own rule table says"

    rules: list[RetryRule]


class RuleRetry:
    """The retry part that RetryRules describes. It keeps no state."""

    def __init__(self, description: RetryRules) -> None:
        self._rules = [
            (compile_when(rule.when), compile_after(rule.after), _Timing(rule)) for rule in description.rules
        ]

    def plan(self, view: View, draw: Draw) -> RetryPlan | None:
        """The attempt that the first matching rule allows. ``at`` counts from the last answer, whenever it is asked."""
        payment, answers = view.payment, view.answers
        last = answers[-1]
        for matches, follows, timing in self._rules:
            if follows(last) and matches(payment):
                return timing.plan(len(answers), payment.arrived_at, last.answered_at, view.timezone)
        return None


def compile_after(after: list[str]) -> Callable[[Answer], bool]:
    """Whether an answer is one of those that ``after`` names."""
    words = set(after)
    outcomes = frozenset(("unavailable", "timeout") if "soft" in words else words & {"unavailable", "timeout"})
    soft_declines = bool(words & {"soft", "soft_decline"})
    codes = frozenset(words.difference(FAILURES))

    def follows(answer: Answer) -> bool:
        if answer.outcome in outcomes or answer.decline_code in codes:
            return True
        return soft_declines and answer.decline_kind == "soft" and answer.outcome == "declined"

    return follows


class _Timing:
    """How often, when and where a rule tries again."""

    def __init__(self, rule: RetryRule) -> None:
        self._max_attempts = rule.max_attempts
        self._next: Next = rule.next
        self._until = rule.delay.until if isinstance(rule.delay, DelayUntil) else None
        self._delays_s = [] if isinstance(rule.delay, DelayUntil) else [parse_duration(each) for each in rule.delay]
        self._within_s = parse_duration(rule.within) if rule.within else float("inf")

    def plan(self, attempts: int, arrived_at: float, answered_at: float, timezone: ZoneInfo) -> RetryPlan | None:
        if attempts >= self._max_attempts:
            return None
        if self._until is not None:
            at = next_moment(answered_at, self._until, timezone)
        else:
            at = answered_at + self._delays_s[min(attempts, len(self._delays_s)) - 1]
        latest = arrived_at + self._within_s
        return RetryPlan(at, self._next, latest=latest) if at <= latest else None
