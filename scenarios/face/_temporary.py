"""The folder of a result that nobody asked to keep."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp
from weakref import finalize

from routesim._arguments import AnyPath, path_of


class TemporaryFolder:
    """A new folder that is removed when this object goes, at the latest when the program ends."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="routesim-"))
        finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def target_of(out: AnyPath | None, name: str) -> tuple[Path, TemporaryFolder | None]:
    """The folder to write: ``out``, or where that is None one called ``name`` in a temporary folder, given too."""
    if out is not None:
        return path_of(out, "out"), None
    temporary = TemporaryFolder()
    return temporary.path / name, temporary
