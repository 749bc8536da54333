"""Writing files so that nothing half-written is ever seen: a temporary name first, then a rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from routesim.sim.errors import BadInput


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and move it there when the block ends well.

    Raises BadInput when the folder cannot be written or is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        # A full or read-only disk may refuse even this; the error above is the one to tell.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; when the block ends well, move its files there, ``last`` at the end.

    Other files of ``folder`` stay. When the block fails, ``folder`` is as it was. Raises BadInput at once when the
    folder cannot be written.
    """
    whole = folder.absolute()
    temporary = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    if whole.exists() and not whole.is_dir():
        raise BadInput("is a file; choose a folder", str(folder))
    try:
        with _written(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with _written(folder):
            whole.mkdir(exist_ok=True)
            for file in sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name)):
                file.replace(whole / file.name)
    except BadInput as error:  # what was wrong with the temporary folder is told of the one that is meant
        raise BadInput(error.message, error.where and error.where.replace(str(temporary), str(folder))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Tell a failure to write ``path`` as bad input."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror or error}; choose a folder that can be written", str(path)) \
            from None


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file, whole or not at all; the same table gives the same bytes."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file. Raises BadInput when it is missing, truncated or no Parquet."""
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"cannot be read as Parquet: {str(error).splitlines()[0]}", str(path)) from None
