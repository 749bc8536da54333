"""How far long work is, on a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def counting(err: Console, what: str) -> tuple[Progress, Callable[[int, int], None]]:
    """A bar to enter as a context, and what tells it how much is done and how much there is to do."""
    progress = Progress(TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
                        TimeElapsedColumn(), console=err, transient=True,
                        disable=not err.is_terminal)  # elsewhere it would leave an empty line
    task = progress.add_task(what, total=None)
    return progress, lambda done, todo: progress.update(task, completed=done, total=todo)
