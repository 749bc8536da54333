"""What the calls of the face have in common: arguments as people give them, made those that the rooms take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from os import PathLike, cpu_count
from pathlib import Path
from typing import Any

from routesim.scenarios.document.moments import parse_moment
from routesim.sim.errors import BadInput

AnyPath = str | PathLike[str]
Progress = Callable[[int, int], None]  # how much is done, and how much there is to do


def quiet(done: int, todo: int) -> None:
    """Show no progress."""


def path_of(value: Any, name: str) -> Path:
    """The argument ``name`` as a path. Raises BadInput where it is none."""
    if isinstance(value, str | PathLike) and str(value):
        return Path(value)
    raise BadInput(f"a path is text or a Path; found {_shown(value)}", name)


def moment_of(value: str | datetime | None, name: str) -> datetime | None:
    """The argument ``name`` as a moment, UTC unless it says otherwise. Raises BadInput where it is none."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        return parse_moment(value)
    except ValueError as error:
        raise BadInput(str(error), name) from None


def workers_of(value: int | None) -> int:
    """The number of local processes, all cores where it is None. Raises BadInput where there cannot be so many."""
    if value is None:
        return cpu_count() or 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"a number of processes is a whole number from 1 on; found {_shown(value)}", "workers")
    return value


def wrong_kind(value: Any, name: str, right: str) -> BadInput:
    """The error for an argument of a kind that the call does not take."""
    return BadInput(f"found {_shown(value)}; give {right}", name)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
