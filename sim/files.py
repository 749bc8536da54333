"""Writing files so that nothing half-written is ever seen: a temporary name first, then a rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise BadInput(f"cannot write: {error.strerror or error}; choose a folder that can be written", str(path)) \
            from None
    finally:
        # A full or read-only disk may refuse even this; the error above is the one to tell.
        with _quiet():
            temporary.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


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
