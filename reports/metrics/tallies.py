"""Counts that can be added over replications: by hour, by latency, by processor, by decline code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.columns import APPROVED, OUTCOMES, REFUSED, Columns
from routesim.sim.arrays import Floats, Ints

HOUR_US = 3_600_000_000
BINS_PER_DECADE = 20
BIN_EDGES_MS: Floats = 10 ** (np.arange(0, 6 * BINS_PER_DECADE + 1) / BINS_PER_DECADE)
"""Edges from 1 ms to 1,000 s; what lies beyond is counted in the first or the last bin."""

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Tally:
    """Counts under keys. ``key_names`` name the key's parts, ``value_names`` the counts. Tallies of a kind add."""

    key_names: tuple[str, ...]
    value_names: tuple[str, ...]
    counts: Mapping[Key, Floats]

    def __add__(self, other: Tally) -> Tally:
        if (self.key_names, self.value_names) != (other.key_names, other.value_names):
            raise ValueError(f"tallies of {self.key_names} and of {other.key_names} do not add")
        total = dict(self.counts)
        for key, values in other.counts.items():
            total[key] = total[key] + values if key in total else values
        return Tally(self.key_names, self.value_names, total)

    def rows(self) -> list[dict[str, Any]]:
        """One row per key, in order of the keys."""
        return [
            dict(zip(self.key_names, key, strict=True)) | dict(zip(self.value_names, values.tolist(), strict=True))
            for key, values in sorted(self.counts.items())
        ]


@dataclass(frozen=True)
class Series:
    """All tallies of one replication, or of a sum of ``replications`` of them."""

    hours: Tally
    latency: Tally
    processors: Tally
    codes: Tally
    replications: int = 1

    def __add__(self, other: Series) -> Series:
        return Series(
            self.hours + other.hours,
            self.latency + other.latency,
            self.processors + other.processors,
            self.codes + other.codes,
            self.replications + other.replications,
        )


def series(columns: Columns, wait_ms: Floats, fee_usd: Floats) -> Series:
    """The tallies of one log. ``wait_ms``: one per payment that waited; ``fee_usd``: one per attempt."""
    return Series(_hours(columns), _latency(columns, wait_ms), _processors(columns, fee_usd), _codes(columns))


def _hours(columns: Columns) -> Tally:
    """Per hour of arrival (µs since 1970 UTC of its start): payments, approved, dark."""
    counts: dict[Key, Floats] = {}
    if len(columns.arrived_us):
        hour = columns.arrived_us // HOUR_US
        base, size = int(hour.min()), int(hour.max() - hour.min() + 1)
        place = hour - base
        table = np.stack([np.bincount(place, weights, minlength=size) for weights in (
            None, columns.approved.astype(np.float64), columns.dark.astype(np.float64))], axis=1).astype(np.float64)
        counts = {((base + i) * HOUR_US,): table[i] for i in range(size)}
    return Tally(("hour",), ("payments", "approved", "dark"), counts)


def _bin(ms: Floats) -> Ints:
    place = np.floor(np.log10(np.maximum(ms, 1.0)) * BINS_PER_DECADE).astype(np.int64)
    return np.clip(place, 0, len(BIN_EDGES_MS) - 2)


def _latency(columns: Columns, wait_ms: Floats) -> Tally:
    """Per kind (attempt, wait), processor, outcome and bin: a count. A wait has neither processor nor outcome."""
    bins = len(BIN_EDGES_MS) - 1
    group = columns.processor * len(OUTCOMES) + columns.outcome
    place = group * bins + _bin((columns.answered_us - columns.sent_us) / 1e3)
    table = np.bincount(place, minlength=len(columns.processors) * len(OUTCOMES) * bins)
    counts: dict[Key, Floats] = {}
    for i in np.flatnonzero(table):
        who, what = divmod(int(i) // bins, len(OUTCOMES))
        counts["attempt", columns.processors[who], OUTCOMES[what], int(i) % bins] = table[i : i + 1].astype(np.float64)
    waits = np.bincount(_bin(wait_ms), minlength=bins)
    for i in np.flatnonzero(waits):
        counts["wait", "", "", int(i)] = waits[i : i + 1].astype(np.float64)
    return Tally(("kind", "processor", "outcome", "bin"), ("count",), counts)


def _processors(columns: Columns, fee_usd: Floats) -> Tally:
    """Per processor: attempts that reached it, first attempts, approvals, approved USD, fees in USD."""
    size = len(columns.processors)
    reached = (columns.outcome != REFUSED).astype(np.float64)
    approved = (columns.outcome == APPROVED).astype(np.float64)
    is_first = np.zeros(len(columns.payment))
    is_first[columns.first] = 1.0
    amount = columns.amount_usd[columns.payment] * approved
    table = np.stack([
        np.bincount(columns.processor, weights, minlength=size)
        for weights in (reached, is_first, approved, amount, fee_usd)
    ], axis=1)
    names = ("attempts", "first_attempts", "approvals", "approved_usd", "cost_usd")
    return Tally(("processor",), names, {(name,): table[i] for i, name in enumerate(columns.processors)})


def _codes(columns: Columns) -> Tally:
    """Per processor and decline code: attempts."""
    coded = columns.code >= 0
    size = max(len(columns.codes), 1)
    table = np.bincount(columns.processor[coded] * size + columns.code[coded])
    counts: dict[Key, Floats] = {
        (columns.processors[int(i) // size], columns.codes[int(i) % size]): table[i : i + 1].astype(np.float64)
        for i in np.flatnonzero(table)
    }
    return Tally(("processor", "decline_code"), ("attempts",), counts)


def table(tallies: Mapping[str, Tally], schema: pa.Schema) -> pa.Table:
    """One table of the tallies of every policy, with the policy's name as the first column."""
    rows = [{"policy": policy} | row for policy, tally in tallies.items() for row in tally.rows()]
    return pa.Table.from_pylist(rows, schema=schema)
