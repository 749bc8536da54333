"""When a policy passed a processor over: the stretches in which its attempt log shows it shut out.

The log tells it of any policy. ``skip_reason`` names who was passed over before the processor that an attempt went to,
in the form that the PAYMENT_ML source uses ("MIT: circuit_open", several joined by "; "). An ordinary attempt (rank,
retry or failover) at a processor shows that it was open; a probe shows neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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


def passed_over(skip_reason: str) -> set[str]:
    """The processors that a skip reason names. A reason without a processor names none."""
    named = (part.partition(": ") for part in skip_reason.split("; "))
    return {processor for processor, colon, _ in named if colon}


def shut_out(log: AttemptLog, per: Sequence[str] = ()) -> dict[str, Stretches]:
    """The stretches of every processor that was ever passed over, by name in alphabetical order.

    ``per`` names the payment fields (columns of ``payments``) that have a health of their own under the policy, so
    that what befalls one bank's payments is not taken for the return of another's.
    """
    attempts = log.attempts
    reason, reasons = dictionary(attempts["skip_reason"])
    if not reasons:
        return {}
    sent_us = numbers(attempts["sent_at"])
    at, processors = dictionary(attempts["processor"])
    ordinary = encode(attempts["decision"], _ORDINARY) >= 0
    lane = _lanes(log, per)[log.payment_row]
    named = [passed_over(text) for text in reasons]
    found = {}
    for name in sorted(set().union(*named)):
        skipped = np.array([name in who for who in named] + [False])[reason]  # -1, no reason, is the last one
        opened = ordinary & (at == processors.index(name)) if name in processors else np.zeros(len(at), dtype=bool)
        seen = np.flatnonzero(skipped | opened)
        found[name] = _stretches(lane[seen], sent_us[seen], skipped[seen])
    return found


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
