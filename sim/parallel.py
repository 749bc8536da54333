"""Work shared out to local processes, each of which is handed what all tasks have in common once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import joblib

Common = TypeVar("Common")
Result = TypeVar("Result")


class _Handed:
    """What the tasks have in common, on its way to the processes; two are equal only where they are the same one, so
    that processes which were handed another are not used again."""

    def __init__(self, common: Any) -> None:
        self.common = common


_handed: _Handed | None = None  # the latest, in the process that hands it out and in those that got it


def on_processes(function: Callable[..., Result], common: Common, tasks: Sequence[tuple[Any, ...]], count: int,
                 ordered: bool = False) -> Iterator[Result]:
    """``function(common, *task)`` of each task on ``count`` local processes; 1: in this one.

    In the order of the tasks where ``ordered``, else as they are finished. What ``common`` caches in itself stays in
    its process from one task to the next.
    """
    if count == 1 or len(tasks) <= 1:
        for task in tasks:
            yield function(common, *task)
        return
    if _handed is None or _handed.common is not common:
        _receive(_Handed(common))
    pool = joblib.Parallel(n_jobs=count, return_as="generator" if ordered else "generator_unordered", batch_size=1,
                           backend="loky", initializer=_receive, initargs=(_handed,))
    with warnings.catch_warnings():  # of tasks that an interruption cancels: the command tells of it in its own words
        warnings.filterwarnings("ignore", r"\d+ tasks", UserWarning, r"joblib\.")
        yield from pool(joblib.delayed(_work)(function, task) for task in tasks)


def _receive(handed: _Handed) -> None:
    global _handed
    _handed = handed


def _work(function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    if _handed is None:
        raise RuntimeError("a process was given a task before what all tasks have in common")
    return function(_handed.common, *task)
