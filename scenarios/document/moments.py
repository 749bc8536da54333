"""Moments in a scenario: ISO 8601, UTC unless they say otherwise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from routesim.policies.spelling import nearest

DEFAULT_TIMEZONE = "America/Mexico_City"
"""Governs the hours of the day in a calibration, unless told."""


def parse_moment(value: Any) -> datetime:
    """``value`` as a moment with time zone UTC. Raises ValueError where it is no ISO 8601 date or time."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}; write a moment as 2026-02-02T00:00:00 (UTC)")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is no moment; write it as 2026-02-02T00:00:00 (UTC)") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)


def format_moment(moment: datetime) -> str:
    """``moment`` in ISO 8601, in UTC without saying so, as scenarios write it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


Moment = Annotated[datetime, PlainValidator(parse_moment), PlainSerializer(format_moment)]


def known_timezone(name: str) -> str:
    """``name`` where it is a time zone. Raises ValueError where it is none."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name!r}{nearest(name, available_timezones())}") from None
    return name


Timezone = Annotated[str, AfterValidator(known_timezone)]
