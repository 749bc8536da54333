"""Hints for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_WORTH_LISTING = 25


def nearest(name: object, known: Iterable[object]) -> str:
    """A hint for a misspelt name: ``; did you mean 'x'?``, else the known ones where they are few, else nothing."""
    names = sorted(str(each) for each in known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if 0 < len(names) <= _WORTH_LISTING else ""
