"""What each failover part does in one outage, in the engine."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from routesim.policies.catalog import PARTS
from routesim.sim.outages import Outage
from tests.policy_world import policy
from tests.worlds import START, model_of, poisson_arrivals, simulate, trace_of


class InOutage(NamedTuple):
    """What a part did in one outage: minutes to detect and to fail back, attempts lost, payments diverted in vain."""

    detect_min: float
    failback_min: float
    lost: int
    probes_lost: int
    false: int


def in_outage(part: str) -> InOutage:
    """20 payments a minute for 12 hours; after 4 hours A loses everything for 30 minutes. B is as good as A."""
    begins, ends = START + 4 * 3_600, START + 4.5 * 3_600
    latency = {"approved": {"family": "lognormal", "median": 1_500.0, "sigma": 0.5}}
    usual = {"latency": latency, "technical": {"TO": 0.005, "96": 0.015}}
    router = policy(route=[{"to": ["A", "B"]}], failover=part,
                    retry=[{"after": ["timeout", "unavailable"], "max_attempts": 2, "delay": "0s", "next": "rank"}])
    arrivals = trace_of(poisson_arrivals(20 / 60, 14_400, seed=1))
    outage = Outage("A", "down", begins, ends, 1.0)
    log_ = simulate(arrivals, model_of({"A": usual, "B": usual}), router, outages=[outage]).log
    a = log_.attempts.select(["sent_at", "attempt_number", "processor", "outcome", "decision"]).to_pandas()
    a["at"] = (a["sent_at"] - pd.Timestamp("1970-01-01", tz=a["sent_at"].dt.tz)).dt.total_seconds()
    a = a[a["attempt_number"] == 1].sort_values("at")
    during = a[(a["at"] >= begins) & (a["at"] < ends)]
    diverted = during.loc[during["decision"] == "failover", "at"]
    detected = float(diverted.min()) if len(diverted) else float("nan")
    lost = during[(during["processor"] == "A") & (during["outcome"] == "timeout")]
    after = a[a["at"] >= ends]
    back = ((after["processor"] == "A") & (after["decision"] == "rank")).to_numpy()
    settled = np.convolve(back, np.ones(5), "valid") == 5  # five in a row: it is taken back, not just tried
    far = a[(a["at"] < begins) | (a["at"] > ends + 3 * 3_600)]
    return InOutage(
        (detected - begins) / 60,
        (float(after["at"].to_numpy()[settled.argmax()]) - ends) / 60 if settled.any() else float("nan"),
        len(lost), int((lost["at"] > detected).sum()), int((far["decision"] == "failover").sum()),
    )  # fmt: skip


def test_beside_the_other_parts() -> None:
    table = {part: in_outage(part) for part in PARTS["failover"] if part != "none"}
    for part, row in table.items():
        print(f"{part:18} detect {row.detect_min:5.2f} min  failback {row.failback_min:6.2f} min  lost {row.lost:4d} "
              f"(after detection {row.probes_lost:4d})  diverted in vain {row.false}")
    ours = table.pop("health_monitor")
    breaker = table["circuit_breaker"]
    assert ours.detect_min < min(row.detect_min for row in table.values() if row.detect_min == row.detect_min)
    assert ours.failback_min < 3  # a payment in 3 s probes with the chance that grows by 1/1500 a second
    assert ours.lost < breaker.lost
    assert all(ours.lost <= row.lost for row in table.values())
    assert ours.false == 0
