"""Writing and reading one file: what is written is seen whole or not at all, and a failure is told as bad input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from routesim.sim.errors import BadInput

TEMPORARY = ".*.[0-9]*.part"
"""The pattern of the names under which files are written before they get their own."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a failure to write ``path`` as BadInput."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror or error}; choose a folder that can be written", str(path)) \
            from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and move it there, on the disk, when the block ends well.

    Raises BadInput when the folder cannot be written or is full.
    """
    # The process's number keeps a worker that outlives its killed parent from writing into a later one's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            synchronise(temporary)
            temporary.replace(path)
    finally:
        # A full or read-only disk may refuse even this; the error above is the one to tell.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def synchronise(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


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
