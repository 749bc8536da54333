"""Which outage lost which payment.

Lost payments (and USD): approvals with the outages taken away - approvals with them, under the same draws. Each
payment whose approval differs counts for the outage that touched it (one in which it lost an attempt before any
other, then the earliest); else for the latest begun outage of a processor that the payment was passed over at; else
as the failed payment of the order that it follows; else for the latest outage begun by its last attempt. Every one is
counted once, so the sum over outages is ``lost_to_outages``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from routesim.reports.metrics.columns import encode, numbers
from routesim.reports.outages.hits import Attempts, Incident
from routesim.reports.outages.shut_out import Skips
from routesim.sim.arrays import Floats, Ints
from routesim.sim.log import AttemptLog


def lost_payments(log: AttemptLog, calm: AttemptLog | None, outages: Sequence[Incident], attempts: Attempts,
                  touches: Sequence[Ints]) -> tuple[Ints, Floats, dict[str, int]]:
    """Per outage the payments and the USD that it lost, and +1 or -1 of every payment whose approval differs."""
    lost, usd = np.zeros(len(outages), dtype=np.int64), np.zeros(len(outages))
    change: dict[str, int] = {}
    if calm is None or not outages:
        return lost, usd, change
    here, there = _approved(log), _approved(calm)
    rows = pd.Index(log.payments["payment_id"].to_pandas())
    home = _touched_by(log, attempts, touches)
    starts = np.array([outage.start_us for outage in outages])
    for ids, sign, source, amounts in ((sorted(there.keys() - here.keys()), 1, calm, there),
                                       (sorted(here.keys() - there.keys()), -1, log, here)):
        index = pd.Index(source.payments["payment_id"].to_pandas()).get_indexer(pd.Index(ids, dtype=object))
        forerunners = source.payments["previous_payment_id"].take(pa.array(index)).to_pylist()
        own, before = (rows.get_indexer(pd.Index(names, dtype=object)) for names in (ids, forerunners))
        last_us = np.maximum(numbers(source.payments["arrived_at"])[index], _last_sent_us(log, attempts, own))
        _passed_over_for(log, attempts, outages, np.union1d(own, before), home)
        for name, row, forerunner, moment in zip(ids, own, before, last_us, strict=True):
            which = next((int(home[r]) for r in (row, forerunner) if r >= 0 and home[r] >= 0), -1)
            if which < 0:
                which = max(0, int(np.searchsorted(starts, moment, side="right")) - 1)
            lost[which] += sign
            usd[which] += sign * amounts[name]
            change[name] = sign
    return lost, usd, change


def _last_sent_us(log: AttemptLog, attempts: Attempts, rows: Ints) -> Ints:
    """When the last attempt of each payment was sent; -1 for one that is not there or had none."""
    last = np.full(log.payments.num_rows + 1, -1, dtype=np.int64)  # one more, for the row -1
    np.maximum.at(last, log.payment_row, attempts.sent_us)
    return np.asarray(last[rows])


def _touched_by(log: AttemptLog, attempts: Attempts, touches: Sequence[Ints]) -> Ints:
    """Per payment the index of the outage that touched it, one that it lost an attempt in first; -1: none did."""
    lost_in = np.full(log.payments.num_rows, -1, dtype=np.int64)
    met = lost_in.copy()
    for i in range(len(touches) - 1, -1, -1):  # the earliest outage is written last, and stays
        met[log.payment_row[touches[i]]] = i
        lost_in[log.payment_row[touches[i][attempts.lost[touches[i]]]]] = i
    return np.where(lost_in >= 0, lost_in, met)


def _passed_over_for(log: AttemptLog, attempts: Attempts, outages: Sequence[Incident], rows: Ints, home: Ints) -> None:
    """Fill ``home`` at those of ``rows`` that no outage touched, from what their attempts were passed over for."""
    skips = Skips.of(log)
    wanted = rows[(rows >= 0) & (home[rows] < 0)]
    for k in np.flatnonzero(np.isin(log.payment_row[skips.attempt], wanted)):
        at, name = skips.attempt[k], skips.processors[skips.processor[k]]
        latest = max((i for i, outage in enumerate(outages) if outage.start_us <= attempts.sent_us[at]
                      and name in outage.processors), default=-1)
        home[log.payment_row[at]] = max(home[log.payment_row[at]], latest)


def _approved(log: AttemptLog) -> dict[str, float]:
    """USD of every measured payment that was approved, by payment_id."""
    approved = np.zeros(log.payments.num_rows, dtype=bool)
    approved[log.payment_row[encode(log.attempts["outcome"], ("approved",)) == 0]] = True
    approved &= ~numbers(log.payments["warm_up"]).astype(np.bool_)
    those = log.payments.filter(pa.array(approved))
    return dict(zip(those["payment_id"].to_pylist(), those["amount_usd"].to_pylist(), strict=True))
