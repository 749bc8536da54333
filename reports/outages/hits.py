"""The outages of one replication beside the attempts of a log: which attempt each of them touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.columns import OUTCOMES, REFUSED, TIMEOUT, UNAVAILABLE, encode, numbers
from routesim.sim.arrays import Bools, Ints
from routesim.sim.log import AttemptLog
from routesim.sim.outages import Outage

OutageKey = tuple[str, str, float, float]
"""Processor, kind, start and end (s since 1970 UTC)."""


NAMES = pa.list_(pa.field("element", pa.string()))
"""Several processors in a table: the type that Parquet gives back, so that what was read equals what was written."""


@dataclass(frozen=True)
class Incident:
    """An outage as the merchant sees it: of one processor, or of several whose outages are alike and begin and end
    together; µs since 1970 UTC."""

    processors: tuple[str, ...]
    kind: str
    start_us: int
    end_us: int
    added: bool


def incidents(outages: Iterable[Outage], added: Collection[OutageKey] = ()) -> list[Incident]:
    """The outages in order of start; those of several processors with kind, start and end in common are one."""
    together: dict[tuple[int, int, str, bool], set[str]] = defaultdict(set)
    for outage in outages:
        is_added = (outage.processor, outage.kind, outage.start, outage.end) in added
        together[round(outage.start * 1e6), round(outage.end * 1e6), outage.kind, is_added].add(outage.processor)
    return [Incident(tuple(sorted(who)), kind, start, end, is_added)
            for (start, end, kind, is_added), who in sorted(together.items())]


class Attempts:
    """The attempts of a log in order of answer: when, where, and whether each was lost."""

    def __init__(self, log: AttemptLog) -> None:
        attempts = log.attempts
        self.sent_us, self.answered_us = numbers(attempts["sent_at"]), numbers(attempts["answered_at"])
        self._longest_us = int((self.answered_us - self.sent_us).max(initial=0))
        self._processor = attempts["processor"]
        outcome = encode(attempts["outcome"], OUTCOMES)
        self.lost: Bools = (outcome == TIMEOUT) | (outcome == UNAVAILABLE)
        self._refused = outcome == REFUSED

    def touched(self, outage: Incident) -> Ints:
        """Positions of the attempts that were in flight at one of its processors during the outage."""
        low = int(np.searchsorted(self.answered_us, outage.start_us, side="right"))
        high = int(np.searchsorted(self.answered_us, outage.end_us + self._longest_us, side="right"))
        part = slice(low, high)
        hit = encode(self._processor.slice(low, high - low), outage.processors) >= 0
        return low + np.flatnonzero(hit & (self.sent_us[part] < outage.end_us) & ~self._refused[part])
