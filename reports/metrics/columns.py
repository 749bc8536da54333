"""An attempt log as plain NumPy arrays: what every metric is computed from.

Only payments that arrived in the measured window are kept (``warm_up`` is false), with their attempts sorted by
payment and attempt number. Text is encoded once; the metrics never touch a string.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog

OUTCOMES = ("approved", "declined", "unavailable", "timeout", "refused")
APPROVED, DECLINED, UNAVAILABLE, TIMEOUT, REFUSED = range(5)
ABSENT = np.iinfo(np.int64).min
"""Stands for an absent time or an absent index."""


@dataclass(frozen=True)
class Columns:
    """N measured payments in order of arrival and their n attempts, sorted by payment and attempt number.

    Payments: ``payment_id``, ``arrived_us`` and ``due_us`` (µs since 1970 UTC; ABSENT where null), ``amount_usd``,
    ``merchant_initiated``, ``follows`` (whether it follows a failed payment of its order), ``order`` (0 … orders-1;
    -1 for an order that began in the warm-up), ``approved``,
    ``attempts`` (how many), ``last_outcome`` (an index into OUTCOMES; -1 when nothing was sent).
    Attempts: ``payment`` (row), ``sent_us``, ``answered_us``, ``outcome``, ``processor`` (an index into
    ``processors``), ``code`` (an index into ``codes``; -1 where there is none), ``unsupported`` (None when unknown),
    ``late_approval`` (1 yes, 0 no, -1 unknown or no timeout), ``breach`` (whether it broke a network's rule) and
    ``network_fee_usd`` (0 where it did not).
    ``first`` holds the position of each payment's first attempt and ``first_payment`` that payment's row.
    """

    payment_id: pa.Array
    arrived_us: Ints
    due_us: Ints
    amount_usd: Floats
    merchant_initiated: Bools
    follows: Bools
    order: Ints
    orders: int
    payment: Ints
    sent_us: Ints
    answered_us: Ints
    outcome: Ints
    processor: Ints
    processors: tuple[str, ...]
    code: Ints
    codes: tuple[str, ...]
    unsupported: Bools | None
    late_approval: Ints
    breach: Bools
    network_fee_usd: Floats
    first: Ints
    first_payment: Ints
    approved: Bools
    attempts: Ints
    last_outcome: Ints

    @classmethod
    def of(cls, log: AttemptLog, unsupported: Callable[[AttemptLog], Bools] | None = None) -> Columns:
        """The columns of ``log``; ``unsupported`` gives the attempts that lack support (Support.unsupported).

        Raises ValueError for an outcome that is not one of OUTCOMES.
        """
        payments, attempts = log.payments, log.attempts
        counted = ~numbers(payments["warm_up"]).astype(np.bool_)
        order, orders = _orders(payments["order_id"], counted)
        rows = np.flatnonzero(counted)
        new_row = np.cumsum(counted) - 1

        old_payment = log.payment_row
        kept = np.flatnonzero(counted[old_payment])
        kept = kept[by_payment(old_payment[kept], numbers(attempts["attempt_number"])[kept])]
        payment = new_row[old_payment[kept]]
        outcome = encode(attempts["outcome"], OUTCOMES)[kept]
        if (outcome < 0).any():
            raise ValueError(f"an attempt's outcome is none of {', '.join(OUTCOMES)}")
        processor, processors = dictionary(attempts["processor"])
        code, codes = dictionary(attempts["decline_code"])

        n_payments = len(rows)
        first = np.flatnonzero(np.diff(payment, prepend=-1))
        count = np.bincount(payment, minlength=n_payments).astype(np.int64)
        approved = np.bincount(payment[outcome == APPROVED], minlength=n_payments) > 0
        last_outcome = np.full(n_payments, -1, dtype=np.int64)
        last_outcome[payment] = outcome  # sorted by attempt number, so the last one written stays
        return cls(
            payment_id=one_chunk(payments["payment_id"]).take(pa.array(rows)),
            arrived_us=numbers(payments["arrived_at"])[rows],
            due_us=numbers(payments["due_at"])[rows],
            amount_usd=numbers(payments["amount_usd"])[rows].astype(np.float64),
            merchant_initiated=encode(payments["initiator"], ("MIT",))[rows] == 0,
            follows=~numbers(payments["previous_payment_id"].is_null())[rows].astype(np.bool_),
            order=order[rows],
            orders=orders,
            payment=payment,
            sent_us=numbers(attempts["sent_at"])[kept],
            answered_us=numbers(attempts["answered_at"])[kept],
            outcome=outcome,
            processor=processor[kept],
            processors=processors,
            code=code[kept],
            codes=codes,
            unsupported=None if unsupported is None else unsupported(log)[kept],
            late_approval=numbers(one_chunk(attempts["late_approval"]).cast(pa.int64()).fill_null(-1))[kept],
            breach=numbers(one_chunk(attempts["network_rule"]).is_valid())[kept],
            network_fee_usd=numbers(one_chunk(attempts["network_fee_usd"]).fill_null(0.0))[kept],
            first=first,
            first_payment=payment[first],
            approved=approved,
            attempts=count,
            last_outcome=last_outcome,
        )

    @property
    def dark(self) -> Bools:
        """Per payment: whether it ended without an issuer's answer."""
        return np.asarray((self.last_outcome == UNAVAILABLE) | (self.last_outcome == TIMEOUT))


def one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one contiguous array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def numbers(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A number, boolean or time column as NumPy; times as int64 µs, with ABSENT for null."""
    array = one_chunk(column)
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", tz="UTC") if array.type.tz else pa.timestamp("us"))
        array = array.cast(pa.int64()).fill_null(int(ABSENT))
    return np.asarray(array.to_numpy(zero_copy_only=False))


def plain_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A text column without dictionary encoding."""
    array = one_chunk(column)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def encode(column: pa.ChunkedArray | pa.Array, known: tuple[str | None, ...]) -> Ints:
    """The index of each value in ``known``; -1 where it is not there."""
    codes = pc.index_in(plain_text(column), value_set=pa.array(known, type=pa.string()))
    return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def dictionary(column: pa.ChunkedArray | pa.Array) -> tuple[Ints, tuple[str, ...]]:
    """Codes (-1 for null) and the names they stand for, in alphabetical order."""
    array = one_chunk(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names: list[str | None] = array.dictionary.to_pylist()
    known = sorted({name for name in names if name is not None})
    place = np.array([-1 if name is None else known.index(name) for name in names] + [-1], dtype=np.int64)
    codes = np.asarray(array.indices.fill_null(len(names)).to_numpy(zero_copy_only=False), dtype=np.int64)
    return place[codes], tuple(known)


def by_payment(payment_row: Ints, attempt_number: npt.NDArray[Any]) -> Ints:
    """The permutation that sorts attempts by payment, then by attempt number."""
    return np.asarray(np.argsort(payment_row * 65_536 + attempt_number.astype(np.int64), kind="stable"))


def _orders(order_id: pa.ChunkedArray, counted: Bools) -> tuple[Ints, int]:
    """Per payment the number of its order, renumbered over the orders whose first payment is counted; else -1."""
    codes = np.asarray(plain_text(order_id).dictionary_encode().indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    if not len(codes):
        return codes, 0
    # codes are given in order of first appearance, so a code above all before it is the order's first payment
    is_first = np.diff(np.maximum.accumulate(codes), prepend=-1) > 0
    began_counted = counted[is_first]
    renumbered = np.where(began_counted, np.cumsum(began_counted) - 1, -1)
    return renumbered[codes], int(began_counted.sum())
