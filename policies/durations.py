"""Durations as people write them (``3s``, ``24h``), and the next pay day."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from routesim.policies.description import Description

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST_SEARCH_DAYS = 366 * 8  # 29 February comes round within eight years


def parse_duration(text: str) -> float:
    """Seconds in ``text``: a number and one of ms, s, m, h, d. Raises ValueError for anything else."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 500ms, 3s, 15m, 24h or 2d")
    number, unit = float(match[1]), match[2]
    return number / 1_000 if unit == "ms" else number * _UNITS_S[unit]


def _checked(text: str, *, positive: bool) -> str:
    if parse_duration(text) == 0 and positive:
        raise ValueError("must last longer than nothing")
    return text


def _with_unit(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"found {value}, which has no unit; write 500ms, 3s, 15m, 24h or 2d")
    return value


Duration = Annotated[str, BeforeValidator(_with_unit), AfterValidator(partial(_checked, positive=False))]
"""A duration in a description: kept as written, checked."""

PositiveDuration = Annotated[str, BeforeValidator(_with_unit), AfterValidator(partial(_checked, positive=True))]


def _day(value: object) -> int | str:
    if value == "last" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 31):
        return value
    raise ValueError(f"{value!r} is no day of the month; write 1 to 31, or last")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Until(Description):
    """The next of certain days of the month, at a full hour, in the scenario's time zone."""

    day: Annotated[
        list[Annotated[int | Literal["last"], PlainValidator(_day)]], BeforeValidator(_listed), Field(min_length=1)
    ] = Field(description="days of the month, 1 to 31 or last; a month without such a day is passed over")
    hour: int = Field(default=0, ge=0, le=23, description="hour of the day")


def next_moment(now: float, until: Until, timezone: ZoneInfo) -> float:
    """The first moment strictly after ``now`` that ``until`` names (both in seconds since the epoch).

    Where the clock skips that hour the moment comes as much later as the clock jumped; where the hour comes twice
    it is the first. Raises ValueError where no month has such a day.
    """
    today = datetime.fromtimestamp(now, tz=timezone).date()
    for offset in range(-1, _LONGEST_SEARCH_DAYS):
        day = today + timedelta(days=offset)
        if _named(day, until.day):
            local = datetime(day.year, day.month, day.day, until.hour, tzinfo=timezone)
            moment = local.astimezone(UTC).timestamp()
            if moment > now:
                return moment
    raise ValueError(f"no such day: {until.day}")


def _named(day: date, wanted: list[int | Literal["last"]]) -> bool:
    return day.day in wanted or ("last" in wanted and day.day == monthrange(day.year, day.month)[1])
