"""Numbers as a reader wants them."""

from __future__ import annotations


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separated; a dash where unknown."""
    return "—" if value is None else f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; a dash where unknown."""
    return "—" if value is None else f"{value:+,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage; a dash where unknown."""
    return "—" if value is None else f"{number(100 * value, digits)} %"


def duration(ms: float | None) -> str:
    """A latency in the unit that suits it."""
    if ms is None:
        return "—"
    if ms < 1_000:
        return f"{ms:.0f} ms"
    return f"{ms / 1_000:.1f} s" if ms < 120_000 else f"{ms / 60_000:.1f} min"
