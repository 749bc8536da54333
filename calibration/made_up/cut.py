"""What is known of a simulation at the moment when the database is copied: later answers are not in the copy."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd

from routesim.sim.arrays import Bools, Ints
from routesim.sim.log import AttemptLog
from routesim.sim.trace import seconds


@dataclass(frozen=True)
class Cut:
    """Payments by arrival and their attempts by payment and number, as the copy has them.

    ``payments`` has the columns of PAYMENTS and ``arrived_s``, ``order`` (row in ``orders``), ``forerunner`` (row, or
    -1), ``first`` and ``last`` (rows of its first and last attempt, or -1), ``attempts`` (how many), ``approved``.
    ``attempts`` has the columns of ATTEMPTS and ``row`` (the payment's), ``sent_s``, ``answered_s``, ``pending`` (sent
    but not answered in time for the copy: its outcome is unknown), ``is_last`` and ``attempt_id``.
    ``orders`` has ``first`` and ``last`` (rows of its first and last payment), ``attempts``, ``approved``.
    """

    payments: pd.DataFrame
    attempts: pd.DataFrame
    orders: pd.DataFrame


def cut_at(log: AttemptLog, end_s: float, seed: int) -> Cut:
    """The log as it stands at ``end_s``. Payments get fresh ids in order of arrival, so that none tells its making."""
    arrived = seconds(log.payments["arrived_at"])
    n = int(np.searchsorted(arrived, end_s, side="left"))
    payments = log.payments.slice(0, n).drop(["arrived_at", "due_at"]).to_pandas()
    payments["arrived_s"] = arrived[:n]
    index = pd.Index(payments["payment_id"])
    payments["forerunner"] = index.get_indexer(pd.Index(payments["previous_payment_id"]))
    payments.loc[payments["previous_payment_id"].isna(), "forerunner"] = -1
    payments["payment_id"] = [f"P{i:08d}" for i in range(n)]
    payments["order"], _ = pd.factorize(payments["order_id"])

    attempts = _attempts(log, n, end_s)
    attempts["attempt_id"] = [_hex(f"made-up attempt {seed} {row} {number}") for row, number in
                              zip(attempts["row"].tolist(), attempts["attempt_number"].tolist(), strict=True)]
    row = attempts["row"].to_numpy()
    is_first = np.append(True, row[1:] != row[:-1]) if len(row) else np.zeros(0, dtype=bool)
    attempts["is_last"] = np.append(is_first[1:], True) if len(row) else is_first
    payments["first"], payments["last"] = _places(row, is_first, n), _places(row, attempts["is_last"].to_numpy(), n)
    payments["attempts"] = np.bincount(row, minlength=n)
    approved = (attempts["outcome"] == "approved").to_numpy()
    payments["approved"] = np.bincount(row[approved], minlength=n) > 0
    return Cut(payments, attempts, _orders(payments))


def _attempts(log: AttemptLog, n: int, end_s: float) -> pd.DataFrame:
    sent, answered = seconds(log.attempts["sent_at"]), seconds(log.attempts["answered_at"])
    known = np.flatnonzero((log.payment_row < n) & (sent < end_s))
    number = log.attempts["attempt_number"].to_numpy()[known]
    known = known[np.lexsort((number, log.payment_row[known]))]
    attempts = log.attempts.drop(["sent_at", "answered_at", "payment_id"]).take(known).to_pandas()
    attempts["row"], attempts["sent_s"], attempts["answered_s"] = log.payment_row[known], sent[known], answered[known]
    attempts["pending"] = attempts["answered_s"] >= end_s
    for column in ("outcome", "decline_code", "decline_kind"):
        attempts[column] = attempts[column].astype(object).where(attempts[column].notna() & ~attempts["pending"], None)
    return attempts


def _places(row: Ints, wanted: Bools, n: int) -> Ints:
    places = np.full(n, -1, dtype=np.int64)
    at = np.flatnonzero(wanted)
    places[row[at]] = at
    return places


def _orders(payments: pd.DataFrame) -> pd.DataFrame:
    grouped = payments.groupby("order", sort=True)
    places = pd.Series(np.arange(len(payments)), index=payments.index).groupby(payments["order"])
    return pd.DataFrame({"first": places.min(), "last": places.max(), "attempts": grouped["attempts"].sum(),
                         "approved": grouped["approved"].any()})


def _hex(name: str) -> str:
    return blake2b(name.encode(), digest_size=16).hexdigest()
