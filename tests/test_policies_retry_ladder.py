"""Dunning ladders: on which days, at which hour, and where they end."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from routesim.policies.retry.ladder import Ladder, next_hour
from routesim.policies.retry.ladders import LADDERS
from tests.policy_world import ARRIVED_AT, AnyDescription, chain, payment, policy

ROUTE = [{"to": ["A", "B", "C"]}]
DAY = 86_400.0
FAILED_AT = ARRIVED_AT + 1  # every attempt of a chain is answered 1 s after it was sent
MEXICO = ZoneInfo("America/Mexico_City")


def climbed(ladder: dict[str, Any], outcome: Any = "timeout", **fields: Any) -> list[tuple[str, float]]:
    """Processor and days after the first failure of each retry on a ladder on which everything fails."""
    fields = {"initiator": "MIT"} | fields
    sent = chain(policy(route=ROUTE, retry={"ladder": ladder}), payment(**fields), [outcome] * 40)
    return [(name, (at - FAILED_AT) / DAY) for name, at in sent[1:]]


def days(ladder: dict[str, Any], outcome: Any = "timeout") -> list[float]:
    return [day for _, day in climbed(ladder, outcome)]


def local(days_after: float) -> datetime:
    return datetime.fromtimestamp(FAILED_AT + days_after * DAY, tz=MEXICO)


def test_the_days_are_those_given() -> None:
    assert days({"days": [1, 3, 5, 7]}) == pytest.approx([1, 3, 5, 7])


def test_stripe_is_eight_tries_in_two_weeks() -> None:
    found = days({"name": "stripe"})
    assert len(found) == 8
    assert max(found) <= 14


def test_recurly_ends_after_seven_declines_or_twenty_attempts_or_sixty_days() -> None:
    assert len(days({"name": "recurly"}, "declined")) == 6  # the seventh decline is the sixth retry's
    found = days({"name": "recurly"}, "timeout")
    assert len(found) == 19
    assert max(found) <= 60


@pytest.mark.parametrize("name", list(LADDERS))
def test_every_ladder_keeps_to_the_networks_limits_and_tells_its_source(name: str) -> None:
    """Visa: 20 reattempts in 30 days; Mastercard: 10 in 24 hours."""
    found = days({"name": name})
    assert found
    assert all(sum(day <= other < day + 30 for other in found) <= 20 for day in found)
    assert all(sum(day <= other < day + 1 for other in found) <= 10 for day in found)
    assert LADDERS[name].source


def test_an_hour_of_the_day() -> None:
    found = days({"days": [1, 3], "hour": 9})
    assert [(local(day).hour, local(day).minute) for day in found] == [(9, 0), (9, 0)]
    assert [0 <= day - rung < 1 for day, rung in zip(found, [1, 3], strict=True)] == [True, True]


def test_a_rung_waits_for_a_near_pay_day_and_rungs_that_it_passed_are_left_out() -> None:
    # The payment fails on the evening of 1 February in Mexico.
    found = days({"days": [5, 12, 13, 20], "paydays": [15, "last"], "hour": 8, "payday_within": "3d"})
    moments = [local(day) for day in found]
    assert [(m.month, m.day, m.hour) for m in moments] == [(2, 7, 8), (2, 15, 8), (2, 22, 8)]


def test_a_pay_day_too_far_off_moves_nothing() -> None:
    assert days({"days": [5], "paydays": [15], "payday_within": "3d"}) == pytest.approx([5])


def test_where_it_goes_next() -> None:
    assert [name for name, _ in climbed({"days": [1, 2, 3, 4]})] == ["B", "C", "A", "B"]
    assert [name for name, _ in climbed({"days": [1, 2, 3, 4], "next": "same"})] == ["A"] * 4
    assert [name for name, _ in climbed({"days": [1, 2, 3, 4], "next": "rank"})] == ["B", "C"]


def test_within_and_max_attempts() -> None:
    assert days({"name": "weekly", "within": "15d"}) == pytest.approx([7, 14])
    assert days({"name": "weekly", "max_attempts": 2}) == pytest.approx([7])


def test_other_payments_go_by_else() -> None:
    ladder = {"name": "weekly", "else": [{"after": "soft", "max_attempts": 2, "delay": "3s"}]}
    sent = climbed(ladder, initiator="CIT")
    assert [(name, round(day * DAY)) for name, day in sent] == [("B", 3)]
    assert climbed({"name": "weekly"}, initiator="CIT") == []


def test_only_what_after_names_is_tried_again() -> None:
    assert climbed({"days": [1], "after": ["05"]}, "declined") == []
    assert len(climbed({"days": [1], "after": ["51"]}, "declined")) == 1


def test_the_clocks_hour_is_found_on_days_of_23_hours() -> None:
    zone = ZoneInfo("Europe/Madrid")  # the clock skips from 2 to 3 on 2026-03-29
    evening = datetime(2026, 3, 28, 22, tzinfo=zone).timestamp()
    assert datetime.fromtimestamp(next_hour(evening, 9, zone), tz=zone) == datetime(2026, 3, 29, 9, tzinfo=zone)
    exact = datetime(2026, 3, 28, 9, tzinfo=zone).timestamp()
    assert next_hour(exact, 9, zone) == exact


def test_it_is_told_again_as_written() -> None:
    written = {"route": [{"to": "A"}], "retry": {"ladder": {"days": [1, 3], "else": [{"after": "soft"}]}}}
    described = AnyDescription.validate_python(written)
    assert AnyDescription.validate_python(described.plain()) == described
    assert described.plain()["retry"]["ladder"]["days"] == [1, 3]


@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ({}, "either a name or days"),
        ({"name": "stripe", "days": [1]}, "either a name or days"),
        ({"name": "strype"}, "did you mean 'stripe'"),
        ({"days": [3, 1]}, "rise"),
        ({"days": []}, "at least 1"),
        ({"days": [0]}, "greater than 0"),
        ({"name": "weekly", "paydays": [32]}, "no day of the month"),
        ({"name": "weekly", "hour": 24}, "less than or equal to 23"),
        ({"name": "weekly", "next": "first"}, "'rank', 'cycle' or 'same'"),
        ({"name": "weekly", "day": [1]}, "did you mean 'days'"),
    ],
)
def test_refused(ladder: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Ladder.model_validate(ladder)
