"""What each outage cost a policy, from its attempt log: how fast it was found, what it took, how fast traffic returned.

With an outage from S to E of some processors, and W_E the later of E and the last answer that it touched (an attempt
in flight at one of them between S and E), a stretch in which one of them was passed over (shut_out) belongs to the
outage when it may have begun by W_E and had not ended at S: timeouts are heard late, so a short outage may be
acted on after its end. Over the stretches that belong to it:

- **detect** (s): S → the first attempt that passes the processor over; 0 where it was shut already. NaN: never.
- **drained** (attempts): attempts that it touched and that ended as timeout or unavailable: sent before the divert,
  as probes, or let back in too early.
- **failback** (s): E → the next ordinary attempt at the processor after the last stretch; 0 where it was back before
  the end; NaN where it was never passed over or never came back.

Where several processors, or several lanes with a health of their own, were passed over, detect and failback are means
weighted by the attempts that passed them over. Stretches that belong to no outage are **false ejections**.

**Lost payments** and USD: as lost_to_outages tells them apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from routesim.reports.metrics.catalogue import OUTAGE_METRICS
from routesim.reports.metrics.columns import numbers
from routesim.reports.outages.hits import NAMES, Attempts, Incident
from routesim.reports.outages.lost import lost_payments
from routesim.reports.outages.shut_out import FOREVER, Stretches, shut_out
from routesim.reports.statistics.intervals import interval, tidy
from routesim.sim.arrays import Bools
from routesim.sim.log import MICROSECONDS, AttemptLog

OUTAGE_COSTS = pa.schema([
    pa.field("policy", pa.string()),
    pa.field("world", pa.int32()),
    pa.field("luck", pa.int32()),
    pa.field("processors", NAMES),
    pa.field("kind", pa.string()),
    pa.field("start", MICROSECONDS),
    pa.field("end", MICROSECONDS),
    pa.field("added", pa.bool_()),
    pa.field("detect_s", pa.float64()),
    pa.field("drained", pa.float64()),
    pa.field("failback_s", pa.float64()),
    pa.field("lost_payments", pa.float64()),
    pa.field("lost_usd", pa.float64()),
])
"""One row per policy, world, luck and outage. ``added``: by the scenario, so the same in all replications."""

ReplicationKey = tuple[int, int]
"""World and luck."""

_REACTIONS = ("detect_s", "drained", "failback_s")
_LOSSES = ("lost_payments", "lost_usd")


@dataclass(frozen=True)
class Cost:
    """What one outage cost a policy; see the module."""

    detect_s: float
    drained: int
    failback_s: float
    lost_payments: int
    lost_usd: float


@dataclass(frozen=True)
class OutageCosts:
    """What the outages of a replication cost a policy: ``costs`` of those that matter, and the false ejections.

    ``lost`` maps payment_id to +1 (approved only without the outages) or -1 (only with them).
    """

    costs: Mapping[Incident, Cost]
    false_ejections: int
    false_ejection_min: float
    lost: Mapping[str, int]


def outage_costs(log: AttemptLog, calm: AttemptLog | None, outages: Sequence[Incident],
                 per: Sequence[str] = ()) -> OutageCosts:
    """What ``outages`` cost the policy of ``log``; ``calm`` is its log under the same draws without them.

    ``per``: payment fields that have a health of their own under the policy (see shut_out). Without outages ``calm``
    may be None. Costs are given of outages that touch the measured part of the trace, or lost a payment.
    """
    warm_up = numbers(log.payments["warm_up"]).astype(np.bool_)
    arrived_us = numbers(log.payments["arrived_at"])[~warm_up]
    began, ended = (int(arrived_us[0]), int(arrived_us[-1])) if len(arrived_us) else (0, 0)
    attempts = Attempts(log)
    stretches = shut_out(log, per)
    belongs = {name: np.zeros(len(of.first_us), dtype=bool) for name, of in stretches.items()}
    touches = [attempts.touched(outage) for outage in outages]
    lost, lost_usd, change = lost_payments(log, calm, outages, attempts, touches)
    costs: dict[Incident, Cost] = {}
    for i, (outage, touched) in enumerate(zip(outages, touches, strict=True)):
        answered = attempts.answered_us[touched]
        until = max(outage.end_us, int(answered.max())) if len(answered) else outage.end_us
        reactions: list[tuple[float, float, int]] = []
        for name in outage.processors:
            if name in stretches:
                hit = stretches[name].overlapping(outage.start_us, until)
                belongs[name] |= hit
                reactions += _reactions(stretches[name], hit, outage)
        if lost[i] or (outage.start_us <= ended and outage.end_us > began):
            drained = int((attempts.lost[touched] & ~warm_up[log.payment_row[touched]]).sum())
            costs[outage] = Cost(_mean(reactions, 0), drained, _mean(reactions, 1), int(lost[i]), float(lost_usd[i]))
    false = {name: ~belongs[name] & (of.first_us >= began) for name, of in stretches.items()}
    return OutageCosts(costs, sum(int(those.sum()) for those in false.values()),
                 float(sum(stretches[name].minutes[those].sum() for name, those in false.items())), change)


def _reactions(of: Stretches, hit: Bools, outage: Incident) -> list[tuple[float, float, int]]:
    """(detect_s, failback_s, passes) of each lane that was passed over for the outage."""
    reactions = []
    for lane in np.unique(of.lane[hit]):
        mine = np.flatnonzero(hit & (of.lane == lane))
        returned = int(of.returned_us[mine[-1]])
        reactions.append((max(0, int(of.first_us[mine[0]]) - outage.start_us) / 1e6,
                          float("nan") if returned == FOREVER else max(0, returned - outage.end_us) / 1e6,
                          int(of.passes[mine].sum())))
    return reactions


def _mean(reactions: Sequence[tuple[float, float, int]], which: int) -> float:
    known = [(one[which], one[2]) for one in reactions if np.isfinite(one[which])]
    return sum(value * passes for value, passes in known) / sum(passes for _, passes in known) if known \
        else float("nan")


def cost_rows(costs: Mapping[Incident, Cost], policy: str, world: int, luck: int) -> list[dict[str, Any]]:
    """The costs as rows of OUTAGE_COSTS; NaN is null."""
    return [{
        "policy": policy, "world": world, "luck": luck, "processors": list(outage.processors), "kind": outage.kind,
        "start": outage.start_us, "end": outage.end_us, "added": outage.added,
        **{name: None if np.isnan(value) else float(value) for name, value in vars(cost).items()},
    } for outage, cost in costs.items()]


def costs_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of cost_rows as a table of OUTAGE_COSTS."""
    return pa.Table.from_pylist(list(rows), schema=OUTAGE_COSTS)


def summary(costs: pa.Table, policy: str, ran: Collection[ReplicationKey]) -> dict[str, Any]:
    """What the outages cost one policy over the replications ``ran``: ``added`` and ``drawn``.

    ``added``: one entry per outage of the scenario, in order of start; its detect_s, drained, failback_s,
    lost_payments and lost_usd as {value, low, high, ...}; share_detected, the replications in which it was passed
    over; and share_returned, those of them in which traffic came back (None: never passed over). ``drawn``: None
    without any, else of all the others together: ``outages`` (a replication), both shares (of outages), the medians
    of detect_s, drained and failback_s, and lost_payments and lost_usd a replication. Where a share is below 1,
    detect_s or failback_s tells of the rest only, and so is too short.
    """
    frame = costs.to_pandas()
    frame = frame[frame["policy"] == policy]
    key = [frame["start"], frame["end"], frame["kind"], frame["processors"].map(tuple)]
    added = [_added(rows, ran) for _, rows in frame[frame["added"]].groupby(key, sort=True)]
    drawn = frame[~frame["added"]]
    return {"added": added, "drawn": _drawn(drawn, ran) if len(drawn) else None}


def _added(rows: pd.DataFrame, ran: Collection[ReplicationKey]) -> dict[str, Any]:
    one = rows.iloc[0]
    return {
        "processors": list(one["processors"]), "kind": one["kind"],
        "start": f"{one['start']:%Y-%m-%dT%H:%M:%SZ}", "end": f"{one['end']:%Y-%m-%dT%H:%M:%SZ}",
        "share_detected": tidy(float(rows["detect_s"].notna().sum()) / len(ran)),
        "share_returned": _returned(rows),
        **{name: _interval(rows, name, ran) for name in (*_REACTIONS, *_LOSSES)},
    }


def _drawn(rows: pd.DataFrame, ran: Collection[ReplicationKey]) -> dict[str, Any]:
    return {
        "outages": tidy(len(rows) / len(ran)),
        "share_detected": tidy(float(rows["detect_s"].notna().mean())),
        "share_returned": _returned(rows),
        **{name: tidy(float(rows[name].median())) for name in _REACTIONS},
        **{name: _interval(rows, name, ran, absent=0.0) for name in _LOSSES},
    }


def _returned(rows: pd.DataFrame) -> float | None:
    """Of the rows in which the outage was passed over, the share in which traffic came back; None without any."""
    detected = rows["detect_s"].notna()
    return tidy(float(rows.loc[detected, "failback_s"].notna().mean())) if detected.any() else None


def _interval(rows: pd.DataFrame, name: str, ran: Collection[ReplicationKey],
              absent: float = np.nan) -> dict[str, float | None]:
    """The interval of a column's sum in each replication; ``absent`` is the value of one without a row."""
    sums = rows.groupby(["world", "luck"])[name].sum(min_count=1)
    worlds, lucks = sorted({world for world, _ in ran}), sorted({luck for _, luck in ran})
    values = np.array([[sums.get((world, luck), absent) if (world, luck) in ran else np.nan for luck in lucks]
                       for world in worlds])
    return interval(values, OUTAGE_METRICS[name]).as_json()
