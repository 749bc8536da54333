"""The attempts that share one issuer's state, in order: a payment's own, and those of a return with the same card.

A return is known to be with the same card only by its token. Where history has none, cards of one BIN and bank cannot
be told apart: a few strangers among them would look like empty accounts that fill within minutes, and taken for
strangers all of them would look like a population of failing cards. Such returns are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog
from routesim.sim.trace import Trace, seconds

MAX_LENGTH = 12  # attempts of one sequence that are looked at; longer ladders tell no more of the issuer's state


@dataclass(frozen=True)
class Sequences:
    """Attempts sorted by sequence and time. All arrays but ``start`` have one entry an attempt.

    ``start`` (n_sequences + 1,) bounds each sequence; ``payment`` is the trace row of its payment; ``code`` is 0 for
    an approval, else 1 + index into ``codes``; ``since_h`` hours since the sequence began; ``repeats`` the earlier
    judgement-like declines of the sequence at the same processor.
    """

    trace: Trace
    processors: tuple[str, ...]
    codes: tuple[str, ...]
    start: Ints
    payment: Ints
    processor: Ints
    code: Ints
    since_h: Floats
    sent_at: Floats

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.start)

    def part(self, which: Ints) -> tuple[Sequences, Ints]:
        """The sequences numbered ``which``, and the rows of their attempts among all."""
        counts = self.lengths[which]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.start[which] - start[:-1], counts) + np.arange(start[-1])
        return replace(self, start=start, **{name: getattr(self, name)[rows] for name in
                                             ("payment", "processor", "code", "since_h", "sent_at")}), rows

    def repeats(self, counted_codes: Sequence[str]) -> Floats:
        """Earlier declines of the same sequence at the same processor with one of ``counted_codes``, (n,)."""
        of_code = np.array([False, *(c in set(counted_codes) for c in self.codes)])
        counts: Floats = np.zeros(len(self.code))
        counted = of_code[self.code]
        for first, last in zip(self.start[:-1][self.lengths > 1], self.start[1:][self.lengths > 1], strict=True):
            seen: dict[int, int] = {}
            for i in range(first, last):
                p = int(self.processor[i])
                counts[i] = seen.get(p, 0)
                if counted[i]:
                    seen[p] = seen.get(p, 0) + 1
        return counts


def issuer_spoke(log: AttemptLog, inside: Bools) -> Bools:
    """Which attempts may tell something of the issuer, (attempts,); ``inside`` marks those that met an outage.

    A timeout and a refusal never do, and no more does an unavailable answer inside an outage.
    """
    outcome = np.array(log.attempts["outcome"].to_pylist(), dtype=str)
    return ~(np.isin(outcome, ["timeout", "refused"]) | (inside & (outcome == "unavailable")))


def attempt_rows(log: AttemptLog, trace: Trace) -> Ints:
    """The trace row of each attempt's payment, (attempts,)."""
    ids = {name: row for row, name in enumerate(trace.table["payment_id"].to_pylist())}
    own = np.array([ids[name] for name in log.payments["payment_id"].to_pylist()], dtype=np.int64)
    return own[log.payment_row]


def sequences(log: AttemptLog, trace: Trace, informative: Bools) -> Sequences:
    """Sequences of a log whose payments are ``trace``'s.

    ``informative`` (one per attempt) is false where no issuer spoke for a reason that lies with the processor (a
    timeout, an attempt inside an outage): such attempts say nothing of the issuer and are left out.
    """
    payment = attempt_rows(log, trace)
    root = np.arange(len(trace), dtype=np.int64)
    for row in np.flatnonzero(trace.same_token):  # rows ascend, so a forerunner's root is final when it is read
        root[row] = root[trace.forerunner[row]]
    sent = seconds(log.attempts["sent_at"])
    doubtful = trace.same_card & ~trace.same_token
    order = np.lexsort((log.attempts["attempt_number"].to_numpy(), sent, root[payment]))
    order = order[(informative & ~doubtful[payment])[order]]
    roots = root[payment][order]
    # a sequence's clock starts at its first request, whether or not that one told anything
    begun = np.full(len(trace), np.inf)
    np.minimum.at(begun, root[payment], sent)
    changes = np.flatnonzero(np.diff(roots)) + 1
    rank = np.arange(len(order)) - np.repeat(np.concatenate([[0], changes]), np.diff([0, *changes, len(order)]))
    keep = rank < MAX_LENGTH
    order, roots = order[keep], roots[keep]
    start = np.concatenate([[0], np.flatnonzero(np.diff(roots)) + 1, [len(order)]]) if len(order) else np.zeros(1)
    processors, processor = _codes(log.attempts["processor"].take(order))
    decline = pc.fill_null(log.attempts["decline_code"].take(order), "")
    outcome = log.attempts["outcome"].take(order).to_pylist()
    text = ["" if o == "approved" else (c or UNSTATED) for o, c in zip(outcome, decline.to_pylist(), strict=True)]
    codes = tuple(sorted(set(text) - {""}))
    index = {"": 0} | {name: i + 1 for i, name in enumerate(codes)}
    return Sequences(trace, processors, codes, start.astype(np.int64), payment[order], processor,
                     np.array([index[t] for t in text], dtype=np.int64),
                     (sent[order] - begun[roots]) / 3600, sent[order])


UNSTATED = "declined"  # the code under which a decline without a code is modelled


def _codes(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    names, codes = np.unique(np.array(column.to_pylist(), dtype=str), return_inverse=True)
    return tuple(str(n) for n in names), codes.astype(np.int64)
