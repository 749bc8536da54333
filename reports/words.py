"""Numbers as a reader wants them. A metric's own wording (its digits, its unit) follows from its record in
metrics.catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

UNKNOWN = "—"


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separated; a dash where unknown."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; a dash where unknown."""
    return UNKNOWN if value is None else f"{value:+,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage; a dash where unknown."""
    return UNKNOWN if value is None else f"{number(100 * value, digits)} %"


def points(value: float | None, digits: int = 2) -> str:
    """A difference of shares in percentage points, with its sign; a dash where unknown."""
    return UNKNOWN if value is None else f"{signed(100 * value, digits)} pp"


def duration(ms: float | None) -> str:
    """A latency in the unit that suits it; a dash where unknown."""
    if ms is None:
        return UNKNOWN
    if ms < 1_000:
        return f"{ms:.0f} ms"
    return f"{ms / 1_000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.1f} min"


def signed_duration(ms: float | None) -> str:
    """A difference of latencies, with its sign; a dash where unknown."""
    return UNKNOWN if ms is None else ("+" if ms >= 0 else "\N{MINUS SIGN}") + duration(abs(ms))


def span(seconds: float | None) -> str:
    """A length of time in the unit that suits it; a dash where unknown."""
    if seconds is None or seconds == 0:
        return UNKNOWN if seconds is None else "0 s"
    text = duration(seconds * 1_000) if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
    return text.replace(".0 ", " ")


def count(value: float | None) -> str:
    """How many, on average: with one digit where that says more; a dash where unknown."""
    return number(value, 1 if value is not None and 0 < abs(value) < 100 and value % 1 else 0)


def between(low: float | None, high: float | None, show: Callable[[float | None], str] = signed) -> str:
    """The two ends of an interval; empty where there is none."""
    return "" if low is None or high is None else f"{show(low)} to {show(high)}"


def percent_between(interval: Mapping[str, float | None], digits: int = 1) -> str:
    """The ends of a share's interval ({low, high}) in per cent; empty where there is none."""
    low, high = interval["low"], interval["high"]
    return "" if low is None or high is None else f"{number(100 * low, digits)} to {number(100 * high, digits)} %"


def plus_minus(mean: Mapping[str, float | None], digits: int = 2) -> str:
    """The standard error of a mean ({standard_error}); empty where there is none."""
    return "" if mean["standard_error"] is None else f"± {number(mean['standard_error'], digits)}"


def listed(texts: Sequence[str]) -> str:
    """Several things in one sentence."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def unbroken(text: str) -> str:
    """Keeps a number and its unit on one line."""
    for unit in ("%", "pp"):
        text = text.replace(f" {unit} ", f"\N{NO-BREAK SPACE}{unit} ")
    return text
