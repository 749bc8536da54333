"""What one outage did under each policy, in bins of time: the data of the page's picture of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.columns import encode, numbers
from routesim.reports.outages.costs import Cost, OutageCosts
from routesim.reports.outages.hits import NAMES, Incident
from routesim.sim.arrays import Ints
from routesim.sim.log import MICROSECONDS, AttemptLog

BINS_PER_OUTAGE = 40
_BINS_BEFORE, _BINS_AFTER = 10, 20

TIMELINE = pa.schema([
    pa.field("policy", pa.string()),
    pa.field("processors", NAMES),
    pa.field("kind", pa.string()),
    pa.field("start", MICROSECONDS),
    pa.field("end", MICROSECONDS),
    pa.field("bin", MICROSECONDS),
    pa.field("bin_s", pa.float64()),
    pa.field("attempts", pa.int64()),
    pa.field("at_processors", pa.int64()),
    pa.field("lost_payments", pa.int64()),
])
"""One row per policy and bin of one outage. ``attempts``: sent in the bin, ``at_processors``: those of them that went
to one of its processors; ``lost_payments``: of the payments that arrived in it, those approved only without the
outages - those approved only with them."""


def chosen(costs: Mapping[Incident, Cost]) -> Incident | None:
    """The outage to picture: the first that the scenario adds, else the one that lost most payments; None: none."""
    added = [outage for outage in costs if outage.added]
    if added:
        return added[0]
    return max(costs, key=lambda outage: (costs[outage].lost_payments, -outage.start_us), default=None)


def timeline(log: AttemptLog, policy: str, outage: Incident, costs: OutageCosts) -> pa.Table:
    """The policy's rows of TIMELINE: from a quarter of the outage's length before it to half of it after, as far as
    the trace goes."""
    width_us = max(1, (outage.end_us - outage.start_us) // BINS_PER_OUTAGE)
    edges = outage.start_us + width_us * np.arange(-_BINS_BEFORE, BINS_PER_OUTAGE + _BINS_AFTER + 1, dtype=np.int64)
    arrived_us = numbers(log.payments["arrived_at"])
    if len(arrived_us):
        edges = edges[(edges >= arrived_us[0] - width_us) & (edges <= arrived_us[-1] + width_us)]
    ids = log.payments["payment_id"]
    rows = np.flatnonzero(encode(ids, tuple(costs.lost)) >= 0)
    change = np.array([costs.lost[name] for name in ids.take(pa.array(rows)).to_pylist()], dtype=np.int64)
    sent_us = numbers(log.attempts["sent_at"])
    hit = encode(log.attempts["processor"], outage.processors) >= 0
    n = max(0, len(edges) - 1)
    return pa.table([
        pa.array([policy] * n, pa.string()), pa.array([list(outage.processors)] * n, NAMES),
        pa.array([outage.kind] * n, pa.string()),
        *(pa.array([moment] * n, pa.int64()).cast(MICROSECONDS) for moment in (outage.start_us, outage.end_us)),
        pa.array(edges[:n]).cast(MICROSECONDS), pa.array([width_us / 1e6] * n),
        _count(sent_us, edges), _count(sent_us[hit], edges),
        _count(arrived_us[rows[change > 0]], edges) - _count(arrived_us[rows[change < 0]], edges),
    ], schema=TIMELINE)


def _count(moments_us: Ints, edges: Ints) -> Ints:
    """How many lie in each bin."""
    return np.diff(np.searchsorted(np.sort(moments_us), edges)) if len(edges) else np.empty(0, dtype=np.int64)
