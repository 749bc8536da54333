"""An attempt log from arrays, for tests of what looks at attempts alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from routesim.sim.log import ATTEMPTS, PAYMENTS, AttemptLog
from routesim.sim.outages import Outage
from routesim.sim.trace import timestamps

LOSS = {"down": 0.97, "partial": 0.5, "slow": 0.05}
TECHNICAL = 0.001  # attempts lost outside outages
TIMEOUT_MS, USUAL_MS = 20_000.0, 900.0


def attempts_of(processor: list[str], sent_at: np.ndarray[Any, Any], latency_ms: np.ndarray[Any, Any],
                lost: np.ndarray[Any, Any]) -> AttemptLog:
    """Attempts (n,) at ``sent_at`` seconds since the epoch: lost ones time out, the others are approved."""
    n = len(sent_at)
    known: dict[str, pa.Array] = {
        "payment_id": pa.array([f"p{i}" for i in range(n)]), "attempt_number": pa.array([1] * n),
        "processor": pa.array(processor), "outcome": pa.array(np.where(lost, "timeout", "approved")),
        "latency_ms": pa.array(latency_ms), "sent_at": timestamps(sent_at),
        "answered_at": timestamps(sent_at + latency_ms / 1000)}
    columns = [known[f.name].cast(f.type) if f.name in known else pa.nulls(n, f.type) for f in ATTEMPTS]
    return AttemptLog(PAYMENTS.empty_table(), pa.table(columns, schema=ATTEMPTS))


class Arrivals:
    """Payments (n,) for one processor, uniform over ``days`` from ``start``, and what would befall each if it were sent
    in one of ``outages`` (which do not overlap)."""

    def __init__(self, outages: list[Outage], start: float, days: float, per_min: float, seed: int) -> None:
        random = np.random.default_rng(seed)
        n = int(days * 1440 * per_min)
        self.at = np.sort(start + random.uniform(0, days * 86_400, n))
        begins = np.array([o.start for o in outages])
        latest = np.searchsorted(begins, self.at) - 1
        self.outage = [outages[k] if k >= 0 and at < outages[k].end else None
                       for k, at in zip(latest.tolist(), self.at.tolist(), strict=True)]
        loss = np.array([TECHNICAL if o is None else LOSS[o.kind] for o in self.outage])
        self.lost = random.uniform(size=n) < loss
        slow = np.array([4.0 if o is not None and o.kind == "slow" else 1.0 for o in self.outage])
        self.latency_ms = np.where(self.lost, TIMEOUT_MS, USUAL_MS * np.exp(0.4 * random.standard_normal(n)) * slow)
