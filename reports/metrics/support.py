"""Where a policy sends payments that history hardly tried.

A cell is initiator, card brand, currency, bank, processor, previous code, delay band. An attempt is unsupported
when its cell holds fewer than MIN_ATTEMPTS attempts of the history that the model was calibrated on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routesim.reports.metrics.columns import by_payment, encode, numbers, plain_text
from routesim.sim.arrays import Bools, Ints
from routesim.sim.log import AttemptLog

MIN_ATTEMPTS = 30
DELAY_BANDS = ("first", "<1min", "<1h", "<1d", "<3d", "longer")
_BAND_EDGES_US = np.array([60, 3_600, 86_400, 259_200]) * 1_000_000

_PAYMENT_FIELDS = ("initiator", "card_brand", "currency", "bank")
CELL = (*_PAYMENT_FIELDS, "processor", "previous_code", "delay_band")
SCHEMA = pa.schema([*(pa.field(name, pa.string()) for name in CELL), pa.field("attempts", pa.int64())])


def _previous(log: AttemptLog) -> tuple[Ints, Ints]:
    """Per attempt (in the log's order): the position of the payment's attempt before it (-1: none), and its band."""
    attempts = log.attempts
    n = attempts.num_rows
    order = by_payment(log.payment_row, numbers(attempts["attempt_number"]))
    rows = log.payment_row[order]
    follows = np.zeros(n, dtype=bool)
    follows[1:] = rows[1:] == rows[:-1]
    previous = np.full(n, -1, dtype=np.int64)
    previous[order[follows]] = order[np.flatnonzero(follows) - 1]
    sent, answered = numbers(attempts["sent_at"]), numbers(attempts["answered_at"])
    band = np.zeros(n, dtype=np.int64)
    later = previous >= 0
    gap = sent[later] - answered[previous[later]]
    band[later] = 1 + np.searchsorted(_BAND_EDGES_US, gap, side="right")
    return previous, band


def _code_texts(attempts: pa.Table) -> pa.Array:
    """What an attempt answered, for the one after it: its decline code, or its outcome where it gave none."""
    return pc.coalesce(plain_text(attempts["decline_code"]), plain_text(attempts["outcome"]))


def cells(log: AttemptLog) -> pa.Table:
    """The cell of every attempt, in the log's order, as the text columns CELL. A first attempt has no previous code."""
    previous, band = _previous(log)
    rows = pa.array(log.payment_row)
    columns = {name: plain_text(log.payments[name]).take(rows) for name in _PAYMENT_FIELDS}
    columns["processor"] = plain_text(log.attempts["processor"])
    columns["previous_code"] = _code_texts(log.attempts).take(pa.array(previous, mask=previous < 0))
    columns["delay_band"] = pa.array(DELAY_BANDS).take(pa.array(band))
    return pa.table(columns)


@dataclass(frozen=True)
class Support:
    """How many attempts of history lie in each cell. ``table`` has one row per cell: the columns CELL and attempts."""

    table: pa.Table

    @classmethod
    def from_log(cls, history: AttemptLog) -> Support:
        """Count the cells of a history."""
        counted = cells(history).group_by(list(CELL)).aggregate([([], "count_all")])
        counted = counted.rename_columns([*CELL, "attempts"]).sort_by([(name, "ascending") for name in CELL])
        return cls.from_table(counted)

    @classmethod
    def from_table(cls, table: pa.Table) -> Support:
        """From the stored table. Raises ValueError where a column is missing."""
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise ValueError(f"the support table lacks {', '.join(missing)}")
        return cls(table.select(SCHEMA.names).cast(SCHEMA).combine_chunks())

    def to_table(self) -> pa.Table:
        """The table to be stored beside a model (support.parquet)."""
        return self.table

    @cached_property
    def _known(self) -> dict[str, tuple[str | None, ...]]:
        known: dict[str, tuple[str | None, ...]] = {
            name: tuple(pc.unique(plain_text(self.table[name])).to_pylist()) for name in CELL[:-1]
        }
        return known | {"delay_band": DELAY_BANDS}

    @cached_property
    def _index(self) -> tuple[Ints, Ints]:
        """Sorted keys of the cells, and the attempts of each."""
        keys = self._keys({name: encode(self.table[name], self._known[name]) for name in CELL})
        order = np.argsort(keys)
        return keys[order], np.asarray(numbers(self.table["attempts"]), dtype=np.int64)[order]

    def _keys(self, codes: dict[str, Ints]) -> Ints:
        """One number per cell, in mixed radix; a value that history never saw takes a digit of its own."""
        key = np.zeros(len(codes[CELL[0]]), dtype=np.int64)
        for name in CELL:
            radix = len(self._known[name]) + 1
            key = key * radix + np.where(codes[name] < 0, radix - 1, codes[name])
        return key

    def attempts(self, log: AttemptLog) -> Ints:
        """Per attempt of ``log`` (in its order): how many attempts of history share its cell."""
        keys, counts = self._index
        if not len(keys):
            return np.zeros(log.attempts.num_rows, dtype=np.int64)
        previous, band = _previous(log)
        codes = {name: encode(log.payments[name], self._known[name])[log.payment_row] for name in _PAYMENT_FIELDS}
        codes["processor"] = encode(log.attempts["processor"], self._known["processor"])
        answered = encode(_code_texts(log.attempts), self._known["previous_code"])
        nothing = encode(pa.array([None], type=pa.string()), self._known["previous_code"])[0]
        codes["previous_code"] = np.where(previous < 0, nothing, answered[previous])
        codes["delay_band"] = band
        key = self._keys(codes)
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return np.asarray(np.where(keys[place] == key, counts[place], 0))

    def unsupported(self, log: AttemptLog) -> Bools:
        """Per attempt of ``log`` (in its order): whether history holds fewer than MIN_ATTEMPTS in its cell."""
        few: Bools = self.attempts(log) < MIN_ATTEMPTS
        return few
