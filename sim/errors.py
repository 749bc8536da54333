"""Bad input, told in one line: what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(Exception):
    """The user's input cannot be used.

    ``message`` says what is wrong and what would be right; ``where`` is the file, key, line or row.
    The command line prints it as one line and exits with 2.
    """

    def __init__(self, message: str, where: str | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: ``; did you mean 'x'?``, else the known ones, else nothing."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names)}" if names else ""
