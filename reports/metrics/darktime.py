"""Darktime: how many minutes without any issuer's answer outages cost, counted as if all payments went without."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.columns import ABSENT, REFUSED, Columns, numbers

Outage = tuple[tuple[str, ...], int, int]
"""Processors, start and end in µs since 1970 UTC."""

FOREVER = np.iinfo(np.int64).max


def grouped(outages: pa.Table) -> list[Outage]:
    """The outages in order of start. Rows that share kind, start and end are one outage of several processors
    (a shared switch), so that its darktime counts once. A null end means that it outlives the trace."""
    start, end = numbers(outages["start"]), numbers(outages["end"])
    together: dict[tuple[int, int, str], list[str]] = {}
    names = outages["processor"].to_pylist()
    for i, (processor, kind) in enumerate(zip(names, outages["kind"].to_pylist(), strict=True)):
        until = FOREVER if end[i] == ABSENT else int(end[i])
        together.setdefault((int(start[i]), until, kind), []).append(processor)
    return [(tuple(sorted(set(who))), start, end) for (start, end, _), who in sorted(together.items())]


def darktime_min(columns: Columns, outages: pa.Table) -> float:
    """Σ over outages o of |W_o| · max(0, dark share of payments arriving in W_o - dark share outside all windows).

    ``outages``: processor, kind, start, end. W_o runs from the outage's start to the answer of the last attempt
    that it hit: one that was in flight at an affected processor (sent before its end, answered after its
    start). An outage that hit nothing has no window. Windows are cut to the measured part of the trace. The
    share outside is 0 when no payment lies outside. Minutes.
    """
    if not len(columns.arrived_us):
        return 0.0
    began = int(columns.arrived_us[0])
    windows: list[tuple[int, int]] = []
    for processors, start, end in grouped(outages):
        who = np.isin(np.array(columns.processors, dtype=str), np.array(processors, dtype=str))
        hit = who[columns.processor] & (columns.sent_us < end) & (columns.answered_us > start)
        hit &= columns.outcome != REFUSED
        if hit.any():
            windows.append((max(start, began), int(columns.answered_us[hit].max())))
    dark = columns.dark
    inside = [(columns.arrived_us >= low) & (columns.arrived_us <= high) for low, high in windows]
    outside = ~np.logical_or.reduce(inside) if inside else np.ones(len(dark), dtype=bool)
    share_outside = float(dark[outside].mean()) if outside.any() else 0.0
    minutes = 0.0
    for (low, high), within in zip(windows, inside, strict=True):
        if within.any():
            minutes += (high - low) / 60e6 * max(0.0, float(dark[within].mean()) - share_outside)
    return minutes
