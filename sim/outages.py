"""Outages as a world brings them: drawn from the model's semi-Markov processes, added by a scenario, or observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from routesim.policies.vocabulary import Payment
from routesim.sim.draws import Luck
from routesim.sim.log import MICROSECONDS
from routesim.sim.model import Model, OutageKind
from routesim.sim.model import Outages as OutageModel
from routesim.sim.trace import timestamps

if TYPE_CHECKING:
    from collections.abc import Mapping

_CYCLES = 4096  # gap-and-outage cycles among which the one that spans the window's start is chosen

OUTAGES = pa.schema([("processor", pa.string()), ("kind", pa.string()), ("start", MICROSECONDS),
                     ("end", MICROSECONDS), ("loss", pa.float64()), ("latency_factor", pa.float64())])


@dataclass(frozen=True)
class Outage:
    """One outage of one processor, in seconds since the epoch.

    An attempt that meets it is lost with probability ``loss`` (answered ``code``, or a timeout where that is None);
    one that is not takes ``latency_factor`` times as long. ``applies`` None means all payments.
    """

    processor: str
    kind: OutageKind
    start: float
    end: float
    loss: float
    latency_factor: float = 1.0
    code: str | None = None
    applies: Callable[[Payment], bool] | None = None


def draw_outages(model: Model, luck: Luck, start: float, end: float) -> list[Outage]:
    """The outages of every processor that touch [start, end), keyed by processor, ordered by start.

    Raises nothing: a processor without an outage process has none.
    """
    found: list[Outage] = []
    for name, processor in sorted(model.processors.items()):
        if processor.outages is not None:
            found += _renewal(processor.outages, [name], luck, f"outages/{name}", start, end)
    for joint in model.joint_outages:
        found += _renewal(joint, joint.processors, luck, "joint/" + "+".join(joint.processors), start, end)
    return sorted(found, key=lambda o: (o.start, o.processor, o.end))


def _renewal(process: OutageModel, processors: Sequence[str], luck: Luck, name: str, start: float,
             end: float) -> list[Outage]:
    """Alternate gaps and durations, in their steady state at ``start``: the cycle that spans it is chosen in proportion
    to its length, at a uniform place (the inspection paradox; Cox, Renewal Theory, 1962), so that no burn-in is needed.
    """
    kinds = sorted(process.kinds.items())
    shares = np.array([effect.share for _, effect in kinds])
    if not kinds or shares.sum() <= 0:
        return []
    generator = luck.generator(name)
    spanning = np.clip(generator.uniform(size=(_CYCLES, 2)), 1e-12, 1 - 1e-12)
    cycles = np.stack([process.gap_h.ppf(spanning[:, 0]) * 3600, process.duration_min.ppf(spanning[:, 1]) * 60], axis=1)
    whole = np.cumsum(cycles.sum(axis=1))
    place, offset = generator.uniform(size=2)
    first = cycles[int(np.searchsorted(whole, place * whole[-1], side="right").clip(max=_CYCLES - 1))]
    now = start - offset * float(first.sum())
    found: list[Outage] = []
    while now < end:
        u = np.clip(generator.uniform(size=(256, 3)), 1e-12, 1 - 1e-12)
        gaps = process.gap_h.ppf(u[:, 0]) * 3600
        durations = process.duration_min.ppf(u[:, 1]) * 60
        if now <= start:
            gaps[0], durations[0] = first
        which = np.searchsorted(np.cumsum(shares / shares.sum()), u[:, 2], side="right").clip(max=len(kinds) - 1)
        starts = now + np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(durations)[:-1]])
        for begin, duration, k in zip(starts, durations, which, strict=True):
            kind, effect = kinds[int(k)]
            if begin + duration > start and begin < end:
                found += [Outage(p, kind, float(begin), float(begin + duration), effect.loss, effect.latency_factor,
                                 process.code) for p in processors]
        now = float(starts[-1] + durations[-1])
    return found


def outage_table(outages: Iterable[Outage]) -> pa.Table:
    """Outages as a table of the OUTAGES schema."""
    rows = list(outages)
    columns: Mapping[str, pa.Array] = {
        "processor": pa.array([o.processor for o in rows], pa.string()),
        "kind": pa.array([o.kind for o in rows], pa.string()),
        "start": timestamps(np.array([o.start for o in rows], dtype=np.float64)),
        "end": timestamps(np.array([o.end for o in rows], dtype=np.float64)),
        "loss": pa.array([o.loss for o in rows], pa.float64()),
        "latency_factor": pa.array([o.latency_factor for o in rows], pa.float64()),
    }
    return pa.table(columns, schema=OUTAGES)
