"""Customers who come back after a failure, from orders with more than one payment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import special

from routesim.calibration.sequences import attempt_rows
from routesim.calibration.times import fit_time
from routesim.sim.log import AttemptLog
from routesim.sim.model import Comebacks
from routesim.sim.trace import Trace, seconds
from routesim.sim.uncertainty import Block, Scale, pointer

DELAYS = ("lognormal", "weibull", "gamma")
_ENOUGH = 20
_WEIGHT = 20.0  # a code's rate leans on the common one as if that had been seen in this many payments more


@dataclass(frozen=True)
class FittedComebacks:
    """``comebacks`` is None where history holds none, or too few to fit."""

    comebacks: Comebacks | None
    uncertainty: tuple[Block, ...]


def fit_comebacks(log: AttemptLog, trace: Trace) -> FittedComebacks:
    """First returns only: of first payments that failed, who came back, how soon, and with the same card."""
    row = attempt_rows(log, trace)
    order = np.argsort(seconds(log.attempts["answered_at"]), kind="stable")
    code = np.full(len(trace), "", dtype=object)
    ended = np.full(len(trace), np.nan)
    code[row[order]] = log.attempts["decline_code"].fill_null("").take(pa.array(order)).to_pylist()
    ended[row[order]] = seconds(log.attempts["answered_at"])[order]
    approved = np.zeros(len(trace), dtype=bool)
    np.logical_or.at(approved, row, np.array(log.attempts["outcome"].to_pylist(), dtype=str) == "approved")
    first_failed = (trace.forerunner < 0) & ~approved & np.isfinite(ended)
    initiator = np.array(trace.table["initiator"].to_pylist(), dtype=str)
    came = trace.follower >= 0
    initiators = sorted({str(i) for i in initiator[first_failed & came]})
    mine = first_failed & np.isin(initiator, initiators)
    back = np.flatnonzero(mine & came)
    if len(back) < _ENOUGH:
        return FittedComebacks(None, ())
    rate = len(back) / mine.sum()
    probability = {"": float(rate)}
    errors = [1 / np.sqrt(mine.sum() * rate * (1 - rate))]
    for name in sorted({str(c) for c in code[mine]} - {""}):
        these = mine & (code == name)
        seen = float(these.sum()) + _WEIGHT
        share = (float((these & came).sum()) + _WEIGHT * rate) / seen
        probability[name] = float(share)
        errors.append(1 / np.sqrt(seen * share * (1 - share)))
    followers = trace.follower[back]
    delay_min = np.maximum((trace.arrived_at[followers] - ended[back]) / 60, 1 / 60)
    delay = fit_time(delay_min, families=DELAYS)
    same = float(np.clip(trace.same_card[followers].mean(), 0.01, 0.99))
    pointers = [pointer("comebacks", "probability", name) for name in probability]
    names: list[str] = [*pointers, pointer("comebacks", "same_card_share")]
    scales: list[Scale] = ["logit"] * len(names)
    errors.append(1 / np.sqrt(len(back) * same * (1 - same)))
    values = np.array([*probability.values(), same])
    shares = Block("comebacks", tuple(names), tuple(scales), np.asarray(special.logit(values)), np.diag(errors))
    where = [pointer("comebacks", "delay_min", n) for n in delay.names]
    times = Block.of("comeback delay", where, delay.scales, [getattr(delay.distribution, n) for n in delay.names],
                     delay.covariance)
    return FittedComebacks(Comebacks(probability=probability, delay_min=delay.distribution, same_card_share=same,
                                     initiators=initiators), (shares, times))
