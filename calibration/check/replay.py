"""The check's third part: a replay through the merchant's own router. Does the whole come out right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc
from scipy import stats

from routesim.calibration.check.findings import Surprise
from routesim.policies.logged import Logged, LoggedTables
from routesim.reports.metrics.columns import Columns
from routesim.reports.metrics.measure import waits_ms
from routesim.sim.draws import Luck
from routesim.sim.engine import RUN_OUT_S, Engine
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel
from routesim.sim.outages import draw_outages
from routesim.sim.trace import Trace


@dataclass(frozen=True)
class Replays:
    """What all replays of a history have in common; the trace and the router's tables are made once a process."""

    model: CalibratedModel
    log: AttemptLog
    seed: int

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made when it is asked for: each process makes its own."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @cached_property
    def trace(self) -> Trace:
        """The payments to replay."""
        return Trace(self.log.payments, self.model.model.timezone)

    @cached_property
    def tables(self) -> LoggedTables:
        """The merchant's own router."""
        return LoggedTables.model_validate(self.model.model.logged)


def replay(replays: Replays, world: int, luck_number: int) -> dict[str, float]:
    """The figures of one replay of a history's payments, in one drawn world."""
    trace = replays.trace
    drawn = replays.model.draw(world, replays.seed)
    luck = Luck(replays.seed, world, luck_number)
    outages = draw_outages(drawn.model, luck, float(trace.arrived_at[0]), float(trace.arrived_at[-1]) + RUN_OUT_S)
    return figures(Engine(trace, IssuerDecisions(drawn, trace), Logged(replays.tables), luck, outages).run().log)


def figures(log: AttemptLog) -> dict[str, float]:
    """What is compared, computed by the report's own metrics."""
    columns = Columns.of(log)
    own = columns.order >= 0
    orders = np.bincount(columns.order[own], columns.approved[own], minlength=columns.orders) > 0
    waits = waits_ms(columns)
    found = {
        "replay: approval rate": float(columns.approved.mean()),
        "replay: order approval rate": float(orders.mean()),
        "replay: attempts per payment": len(columns.payment) / len(columns.approved),
        "replay: payments per order": float(own.sum() / columns.orders),
    }
    timed = pc.max(log.attempts["latency_ms"]).as_py() or 0.0
    if len(waits) and timed > 0:  # a history that tells no latency tells no wait
        found |= {f"replay: wait p{p} ms": float(np.percentile(waits, p)) for p in (50, 95)}
    return found


def check_replay(observed: Mapping[str, float], simulated: Sequence[Mapping[str, float]]) -> list[Surprise]:
    """Each figure against a new realisation: Student's t on the replays' mean and spread."""
    surprises = []
    for name, value in observed.items():
        draws = np.array([s[name] for s in simulated if name in s])
        if len(draws) < 3:
            continue
        mean, sd = float(draws.mean()), float(draws.std(ddof=1))
        z = (value - mean) / (max(sd, 1e-9) * np.sqrt(1 + 1 / len(draws)))
        surprises.append(Surprise(name, value, mean, sd, 2 * float(stats.t.sf(abs(z), len(draws) - 1))))
    return surprises
