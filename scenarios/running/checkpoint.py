"""Finished replications kept on disk while a run goes on, so that an interrupted run resumes where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.reports.metrics.measure import Measured
from routesim.reports.metrics.tallies import Series, Tally
from routesim.scenarios.running.replicate import Replication
from routesim.sim.errors import BadInput
from routesim.sim.files import read_table, write_table, write_text

_TABLES = ("outages", "costs", "timeline")
_TALLIES = ("hours", "latency", "processors", "codes")


def save(folder: Path, done: Replication) -> None:
    """Keep a replication; the JSON file comes last, so that its presence says that all is there."""
    name = f"{done.world:03d}-{done.luck:03d}"
    for table in _TABLES:
        write_table(folder / f"{name}.{table}.parquet", getattr(done, table))
    document = {
        "world": done.world, "luck": done.luck, "decision_s": done.decision_s,
        "measured": {policy: _plain(one) for policy, one in done.measured.items()},
    }
    write_text(folder / f"{name}.json", json.dumps(document))


def load(folder: Path) -> dict[tuple[int, int], Replication]:
    """All that were kept; a file that was cut short is as if it had not been."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            tables: dict[str, pa.Table] = {name: read_table(path.with_suffix(f".{name}.parquet")) for name in _TABLES}
            measured = {policy: _measured(one) for policy, one in document["measured"].items()}
        except (ValueError, KeyError, BadInput):
            continue
        done = Replication(document["world"], document["luck"], measured, decision_s=document["decision_s"], **tables)
        found[done.world, done.luck] = done
    return found


def _plain(one: Measured) -> dict[str, Any]:
    figures = {name: None if np.isnan(value) else float(value) for name, value in one.figures.items()}
    tallies = {name: _plain_tally(getattr(one.series, name)) for name in _TALLIES}
    return {"figures": figures, "tallies": tallies, "replications": one.series.replications}


def _plain_tally(tally: Tally) -> dict[str, Any]:
    return {"keys": tally.key_names, "values": tally.value_names,
            "counts": [[list(key), np.asarray(values).tolist()] for key, values in sorted(tally.counts.items())]}


def _measured(document: dict[str, Any]) -> Measured:
    figures = {name: float("nan") if value is None else value for name, value in document["figures"].items()}
    tallies = {name: Tally(tuple(t["keys"]), tuple(t["values"]),
                           {tuple(key): np.array(values) for key, values in t["counts"]})
               for name, t in document["tallies"].items()}
    return Measured(figures, Series(**tallies, replications=document["replications"]))
