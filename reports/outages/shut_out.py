"""When a policy passed a processor over: the stretches in which its attempt log shows it shut out.

The log shows it of any policy: ``skipped`` names the processors that were passed over before the one that an attempt
went to. An ordinary attempt (rank, retry or failover) at a processor shows that it was open; a probe shows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from routesim.reports.metrics.columns import dictionary, encode, numbers, one_chunk
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog

FOREVER = np.iinfo(np.int64).max
"""Stands for the return of a processor that is passed over to the log's end, µs."""

_ORDINARY = ("rank", "retry", "failover")


@dataclass(frozen=True)
class Stretches:
    """The S maximal stretches in which one processor was passed over, in order of lane and time; arrays of (S,).

    ``lane``: the payments whose health is kept together, as a number. ``before_us``: the last ordinary attempt at the
    processor before the stretch (its first passing where there is none), ``first_us`` and ``last_us``: the first and
    the last attempt that passed it over, ``returned_us``: the next ordinary attempt at it (FOREVER where there is
    none), all µs since 1970 UTC; ``passes``: how many attempts passed it over.
    """

    lane: Ints
    before_us: Ints
    first_us: Ints
    last_us: Ints
    returned_us: Ints
    passes: Ints

    def overlapping(self, start_us: int, end_us: int) -> Bools:
        """Which may have begun by ``end_us``, and had not ended at ``start_us``; (S,).

        A stretch begins somewhere between the last ordinary attempt before it and the first that passes over.
        """
        return np.asarray((self.before_us <= end_us) & (self.returned_us >= start_us))

    @property
    def minutes(self) -> Floats:
        """How long each lasted: until the processor's return, or the last attempt that passed it over; (S,)."""
        until = np.where(self.returned_us == FOREVER, self.last_us, self.returned_us)
        return np.asarray((until - self.first_us) / 60e6)


@dataclass(frozen=True)
class Skips:
    """The K skips of a log: ``attempt`` (K,), the row of the attempt that passed a processor over, ascending, and
    ``processor`` (K,), which one: an index into ``processors``. A skip that names no processor is left out."""

    attempt: Ints
    processor: Ints
    processors: tuple[str, ...]

    @classmethod
    def of(cls, log: AttemptLog) -> Skips:
        """Every skip of the log."""
        column = one_chunk(log.attempts["skipped"])
        attempt = numbers(pc.list_parent_indices(column)).astype(np.int64)
        processor, processors = dictionary(pc.struct_field(pc.list_flatten(column), "processor"))
        named = processor >= 0
        return cls(attempt[named], processor[named], processors)


def shut_out(log: AttemptLog, per: Sequence[str] = ()) -> dict[str, Stretches]:
    """The stretches of every processor that was ever passed over, by name in alphabetical order.

    ``per`` names the payment fields (columns of ``payments``) that have a health of their own under the policy, so
    that what befalls one bank's payments is not taken for the return of another's.
    """
    attempts, skips = log.attempts, Skips.of(log)
    if not skips.processors:
        return {}
    sent_us = numbers(attempts["sent_at"])
    at, processors = dictionary(attempts["processor"])
    ordinary = encode(attempts["decision"], _ORDINARY) >= 0
    lane = _lanes(log, per)[log.payment_row]
    stretches = {}
    for number, name in enumerate(skips.processors):
        skipped = np.zeros(len(at), dtype=bool)
        skipped[skips.attempt[skips.processor == number]] = True
        opened = ordinary & (at == processors.index(name)) if name in processors else np.zeros(len(at), dtype=bool)
        seen = np.flatnonzero(skipped | opened)
        stretches[name] = _stretches(lane[seen], sent_us[seen], skipped[seen])
    return stretches


def _lanes(log: AttemptLog, per: Sequence[str]) -> Ints:
    """A number per payment for its values of the fields ``per``."""
    lane = np.zeros(log.payments.num_rows, dtype=np.int64)
    for name in per:
        code, names = dictionary(one_chunk(log.payments[name]))
        lane = np.unique(lane * (len(names) + 1) + code + 1, return_inverse=True)[1].astype(np.int64)
    return lane


def _stretches(lane: Ints, at_us: Ints, shut: Bools) -> Stretches:
    order = np.lexsort((at_us, lane))
    lane, at_us, shut = lane[order], at_us[order], shut[order]
    opens_lane = np.diff(lane, prepend=-1) != 0
    goes_on = np.append(~opens_lane[1:], False)
    first = np.flatnonzero(shut & (opens_lane | ~np.append(False, shut[:-1])))
    last = np.flatnonzero(shut & ~(goes_on & np.append(shut[1:], False)))
    before = np.where(opens_lane[first], at_us[first], at_us[np.maximum(first - 1, 0)])
    after = np.where(goes_on[last], at_us[np.minimum(last + 1, len(at_us) - 1)], FOREVER)
    return Stretches(lane[first], before, at_us[first], at_us[last], after, last - first + 1)
