"""Dunning ladders: a failed payment is tried again on given days, at an hour and on pay days where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from routesim.policies.conditions import When, compile_when
from routesim.policies.description import Description, key_error
from routesim.policies.durations import PositiveDuration, Until, next_moment, parse_duration
from routesim.policies.parts import Next, RetryPlan
from routesim.policies.retry.ladders import LADDERS, Rungs
from routesim.policies.retry.rules import AFTER, After, RetryRule, RetryRules, RuleRetry, compile_after
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Draw, View

DAY_S = 86_400.0


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Ladder(Description):
    """Tried again on the days of a ladder, as subscriptions are: a ladder by name, or days given one by one."""

    source: ClassVar[str] = "; ".join(f"{name}: {rungs.source}" for name, rungs in LADDERS.items())

    name: str | None = Field(default=None, description=f"a ladder by name: {', '.join(LADDERS)}")
    days: list[Annotated[float, Field(gt=0, strict=False)]] | None = Field(
        default=None, min_length=1, description="or the days themselves, counted from the first failure, rising"
    )
    when: When = Field(default={"initiator": "MIT"}, description="which payments climb it; the others go by `else`")
    after: After = Field(default=["soft"], description=AFTER)
    next: Literal["rank", "cycle", "same"] = Field(
        default="cycle",
        description="rank (the next processor not yet tried; none left: stop), cycle (round again when spent), same",
    )
    hour: int | None = Field(
        default=None, ge=0, le=23, description="local hour that a rung is moved on to; left out, none"
    )
    paydays: Annotated[list[int | str], BeforeValidator(_listed)] | None = Field(
        default=None, min_length=1, description="pay days, as 15 and last: a rung is moved on to one that is near"
    )
    payday_within: PositiveDuration = Field(default="3d", description="how near a pay day must be, after the rung")
    max_attempts: int | None = Field(
        default=None, ge=1, description="attempts of the payment, the first included; left out, as the ladder has it"
    )
    within: PositiveDuration | None = Field(
        default=None, description="no attempt later than this after the arrival; left out, as the ladder has it"
    )
    otherwise: list[RetryRule] = Field(
        default=[], alias="else", description="retry rules for the payments that `when` leaves out"
    )

    @model_validator(mode="after")
    def _one_ladder(self) -> Ladder:
        if (self.name is None) == (self.days is None):
            raise ValueError("a ladder has either a name or days")
        if self.name is not None and self.name not in LADDERS:
            raise key_error("name", f"no ladder is called {self.name!r}{nearest(self.name, LADDERS)}")
        if self.days is not None and any(later <= day for day, later in zip(self.days, self.days[1:], strict=False)):
            raise key_error("days", f"the days of a ladder rise; found {self.days}")
        if self.paydays is not None:
            Until.model_validate({"day": self.paydays, "hour": self.hour or 0})
        return self

    def rungs(self) -> Rungs:
        """The ladder with what is said of it here in place of what its data say."""
        known = LADDERS[self.name] if self.name is not None else Rungs(tuple(self.days or ()), "as given")
        within_days = parse_duration(self.within) / DAY_S if self.within is not None else known.within_days
        most_attempts = self.max_attempts or known.most_attempts
        return Rungs(known.days, known.source, known.most_declines, most_attempts, within_days)


class LadderRetry:
    """The retry part that Ladder describes. It keeps no state."""

    def __init__(self, description: Ladder) -> None:
        rungs = description.rungs()
        self._days_s = [day * DAY_S for day in rungs.days]
        self._most_declines = rungs.most_declines or len(self._days_s) + 1
        self._most_attempts = rungs.most_attempts or len(self._days_s) + 1
        self._within_s = rungs.within_days * DAY_S if rungs.within_days is not None else float("inf")
        self._next: Next = description.next
        self._climbs = compile_when(description.when)
        self._follows = compile_after(description.after)
        self._hour = description.hour
        self._paydays = (
            Until.model_validate({"day": description.paydays, "hour": description.hour or 0})
            if description.paydays is not None
            else None
        )
        self._payday_within_s = parse_duration(description.payday_within)
        self._otherwise = RuleRetry(RetryRules(rules=description.otherwise))

    def plan(self, view: View, draw: Draw) -> RetryPlan | None:
        """The next rung that lies after the last answer, moved to its hour or pay day; None when the ladder ends."""
        payment, answers = view.payment, view.answers
        if not self._climbs(payment):
            return self._otherwise.plan(view, draw)
        last = answers[-1]
        if not self._follows(last) or len(answers) >= self._most_attempts:
            return None
        if sum(answer.outcome == "declined" for answer in answers) >= self._most_declines:
            return None
        at = self._rung(answers[0].answered_at, last.answered_at, len(answers) - 1, view.timezone)
        latest = payment.arrived_at + self._within_s
        return RetryPlan(at, self._next, latest=latest) if at is not None and at <= latest else None

    def _rung(self, failed_at: float, answered_at: float, climbed: int, timezone: ZoneInfo) -> float | None:
        for day_s in self._days_s[climbed:]:
            at = self._moved(failed_at + day_s, timezone)
            if at > answered_at:
                return at
        return None

    def _moved(self, at: float, timezone: ZoneInfo) -> float:
        if self._paydays is not None:
            payday = next_moment(at - 1e-3, self._paydays, timezone)
            if payday <= at + self._payday_within_s:
                return payday
        return at if self._hour is None else next_hour(at, self._hour, timezone)


def next_hour(at: float, hour: int, timezone: ZoneInfo) -> float:
    """The first moment at or after ``at`` when the clock of ``timezone`` shows ``hour`` o'clock."""
    today = datetime.fromtimestamp(at, tz=timezone).date()
    return min(moment for moment in _hours(today, hour, timezone) if moment >= at)


def _hours(today: Any, hour: int, timezone: ZoneInfo) -> Sequence[float]:
    days = (today + timedelta(days=each) for each in (0, 1, 2))
    return [
        datetime(day.year, day.month, day.day, hour, tzinfo=timezone).astimezone(UTC).timestamp() for day in days
    ]
