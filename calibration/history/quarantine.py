"""What was wrong with a history's rows: counted, kept apart, and told. Nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from routesim.sim.files import write_table

QUARANTINED = pa.schema([
    pa.field("table", pa.string(), nullable=False, metadata={"doc": "payments or attempts"}),
    pa.field("row_key", pa.string(), metadata={"doc": "payment id or attempt id as the source has it"}),
    pa.field("reason", pa.string(), nullable=False, metadata={"doc": "why the row is not used"}),
])


@dataclass(frozen=True)
class Quarantine:
    """Rows mended and rows set aside, over the whole source (before a window is taken).

    ``mended`` and ``quarantined`` map table and reason to a number of rows, most first. ``rows`` follows QUARANTINED
    and names each row set aside by its key alone; rows removed as exact replays are counted as mended, not listed.
    """

    mended: dict[tuple[str, str], int]
    quarantined: dict[tuple[str, str], int]
    rows: pa.Table
    warnings: list[str]

    def summary(self) -> list[tuple[str, str, int]]:
        """``(table, reason, rows)`` of what was set aside, then of what was mended, to be printed."""
        aside = [(table, f"quarantined: {reason}", count) for (table, reason), count in self.quarantined.items()]
        mended = [(table, f"mended: {reason}", count) for (table, reason), count in self.mended.items()]
        return aside + mended

    def count(self, reason: str) -> int:
        """Rows mended or set aside for this reason, over all tables."""
        return sum(n for (_, why), n in (*self.mended.items(), *self.quarantined.items()) if why == reason)

    def write(self, path: Path) -> None:
        """Write the rows set aside as a Parquet file."""
        write_table(path, self.rows)


@dataclass
class Ledger:
    """Gathers, while a history is cleaned, what becomes its Quarantine."""

    _mended: dict[tuple[str, str], int] = field(default_factory=dict)
    _rows: list[tuple[str, str | None, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def mend(self, table: str, reason: str, rows: int) -> None:
        """``rows`` rows of ``table`` were mended."""
        if rows:
            self._mended[table, reason] = self._mended.get((table, reason), 0) + rows

    def set_aside(self, table: str, rows: Iterable[tuple[str | None, str]]) -> None:
        """Rows of ``table``, as (key, reason), are not used."""
        self._rows.extend((table, key, reason) for key, reason in rows)

    def warn(self, message: str) -> None:
        """Say once what a reader of the results should know."""
        if message not in self.warnings:
            self.warnings.append(message)

    def close(self) -> Quarantine:
        """The quarantine, reasons by number of rows."""
        counts: dict[tuple[str, str], int] = {}
        for table, _, reason in self._rows:
            counts[table, reason] = counts.get((table, reason), 0) + 1
        rows = sorted(self._rows, key=lambda row: (row[0], row[2], row[1] or ""))
        columns = [[row[place] for row in rows] for place in range(3)]
        return Quarantine(
            _most_first(self._mended),
            _most_first(counts),
            pa.table([pa.array(column, pa.string()) for column in columns], schema=QUARANTINED),
            list(self.warnings),
        )


def _most_first(counts: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
