"""Durations, and the next pay day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from routesim.policies.durations import Until, next_moment, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("3s", 3), ("15m", 900), ("24h", 86_400), ("2d", 172_800), ("1.5h", 5_400), ("0s", 0)],
)
def test_parse(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "-3s", "3 s", "3sec", "s", "1h30m", "1e3s", "infs"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@given(number=st.integers(0, 10**12), larger=st.sampled_from([("s", "ms", 1_000), ("m", "s", 60), ("h", "m", 60),
                                                             ("d", "h", 24)]))
def test_a_unit_is_so_many_of_the_next_smaller(number: int, larger: tuple[str, str, int]) -> None:
    unit, smaller, many = larger
    assert parse_duration(f"{number}{unit}") == pytest.approx(parse_duration(f"{number * many}{smaller}"), rel=1e-12)


def _local(zone: str, *moment: int) -> float:
    return datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zone", "now", "until", "expected"),
    [
        ("America/Mexico_City", (2026, 2, 2, 10), {"day": [15, "last"], "hour": 9}, (2026, 2, 15, 9)),
        ("America/Mexico_City", (2026, 2, 15, 8, 59), {"day": [15, "last"], "hour": 9}, (2026, 2, 15, 9)),
        ("America/Mexico_City", (2026, 2, 15, 9), {"day": [15, "last"], "hour": 9}, (2026, 2, 28, 9)),
        ("America/Mexico_City", (2026, 2, 28, 9, 1), {"day": [15, "last"], "hour": 9}, (2026, 3, 15, 9)),
        ("America/Mexico_City", (2026, 2, 2), {"day": 31}, (2026, 3, 31)),
        ("UTC", (2026, 3, 1), {"day": 29, "hour": 3}, (2026, 3, 29, 3)),
        ("UTC", (2026, 12, 31, 23, 59), {"day": 1}, (2027, 1, 1)),
        ("America/New_York", (2026, 3, 8, 0), {"day": 8, "hour": 9}, (2026, 3, 8, 9)),  # the clocks jump at 2
    ],
)
def test_next_moment(zone: str, now: tuple[int, ...], until: dict[str, Any], expected: tuple[int, ...]) -> None:
    found = next_moment(_local(zone, *now), Until.model_validate(until), ZoneInfo(zone))
    assert found == _local(zone, *expected)


def test_an_hour_that_the_clock_skips() -> None:
    found = next_moment(_local("America/New_York", 2026, 3, 8), Until(day=[8], hour=2), ZoneInfo("America/New_York"))
    assert datetime.fromtimestamp(found, UTC) == datetime(2026, 3, 8, 7, tzinfo=UTC)  # 3:00 on the new clock


def test_an_hour_that_comes_twice_is_the_first() -> None:
    zone = ZoneInfo("America/New_York")
    first = next_moment(_local("America/New_York", 2026, 11, 1), Until(day=[1], hour=1), zone)
    assert datetime.fromtimestamp(first, UTC) == datetime(2026, 11, 1, 5, tzinfo=UTC)
    assert datetime.fromtimestamp(next_moment(first + 1800, Until(day=[1], hour=1), zone), zone).month == 12


@given(now=st.floats(1.5e9, 2e9), day=st.integers(1, 31), hour=st.integers(0, 23))
def test_always_later_and_on_that_day(now: float, day: int, hour: int) -> None:
    zone = ZoneInfo("America/Mexico_City")
    found = next_moment(now, Until(day=[day, "last"], hour=hour), zone)
    assert now < found <= now + 32 * 86_400
    local = datetime.fromtimestamp(found, zone)
    assert (local.hour, local.minute) in ((hour, 0), (hour + 1, 0))


@pytest.mark.parametrize("until", [{"day": 0}, {"day": 32}, {"day": "first"}, {"day": []}, {"day": 1, "hour": 24}])
def test_no_such_day(until: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Until.model_validate(until)
