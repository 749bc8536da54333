"""Long work that may be interrupted: its folder while it goes on, and the processes that it is shared out to.

Everything is made in a hidden folder beside the target and moved there when it is whole. That folder keeps what is
finished, so that the same command goes on where it was; a fingerprint of the inputs tells whether it is the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeVar

import joblib

from routesim.reports.run.folder import SCHEMAS
from routesim.sim.errors import BadInput
from routesim.sim.files import write_text

Result = TypeVar("Result")
WRITTEN = ("attempts", "payments", "summary.json", "experiment.json", "looks.parquet", "manifest.json", "timing.json",
           "scenario.yaml", "report.html", "compare_with_*.html", *(f"{name}.parquet" for name in SCHEMAS))
"""What a finished folder may hold; one with anything else in it is somebody's own, and is not replaced."""


def check_replaceable(out: Path, mark: str = "summary.json", what: str = "run") -> None:
    """Raise BadInput unless ``out`` is absent, empty, or earlier work of the kind that leaves ``mark``, and can be
    written."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"is a file; choose a folder for the {what}", str(out))
    if Path.cwd().is_relative_to(out.resolve()):
        raise BadInput("is where you are, which cannot be replaced; name a folder below it", str(out))
    if out.is_dir() and any(out.iterdir()) and not (out / mark).exists():
        article = "an" if what[0] in "aeiou" else "a"
        raise BadInput(f"the folder holds something else than {article} {what}; choose another one", str(out))
    for entry in sorted(out.iterdir()) if out.is_dir() else ():
        if not any(fnmatch(entry.name, name) for name in WRITTEN):
            raise BadInput(f"the folder also holds {entry.name!r}, which would be lost; choose another one", str(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}; choose a folder that can be written", str(out)) from None


def open_work(out: Path, manifest: dict[str, Any]) -> tuple[Path, Path]:
    """The folder in which ``out`` is being made, and the one within that keeps finished replications.

    One that was begun from other inputs, which ``manifest`` tells, is thrown away.
    """
    work = out.with_name(f".{out.name}.part")
    kept = work / "replications"
    fingerprint = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    mark = work / "fingerprint"
    if work.exists() and (not mark.exists() or mark.read_text(encoding="utf-8") != fingerprint):
        shutil.rmtree(work)
    write_text(mark, fingerprint)
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror}; choose a folder that can be written", str(work)) from None
    return work, kept


def finish_work(work: Path, kept: Path, out: Path) -> Path:
    """Put the whole folder in the place of ``out``."""
    shutil.rmtree(kept)
    (work / "fingerprint").unlink()
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)
    return out


def on_processes(function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], count: int) -> Iterator[Result]:
    """``function`` of each task's arguments, as they are finished, on ``count`` local processes; 1: in this one."""
    if count == 1 or len(tasks) == 1:
        for task in tasks:
            yield function(*task)
        return
    pool = joblib.Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1)
    with warnings.catch_warnings():  # of tasks that an interruption cancels: the command tells of it in its own words
        warnings.filterwarnings("ignore", r"\d+ tasks", UserWarning, r"joblib\.")
        yield from pool(joblib.delayed(function)(*task) for task in tasks)
