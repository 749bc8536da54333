"""Small worlds, traces and policies for tests of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View, Wait
from routesim.sim.arrays import Floats
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine, Simulated
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import PAYMENTS
from routesim.sim.model import Model, World
from routesim.sim.outages import Outage, draw_outages
from routesim.sim.trace import Trace, timestamps
from routesim.sim.uncertainty import Block

START = 1_767_571_200.0  # 2026-01-05T00:00:00Z, a Monday


def standard_errors(block: Block) -> Floats:
    """Of each of the block's numbers, on its transformed scale."""
    return np.sqrt((block.factor**2).sum(axis=1))


def trace_of(arrived_at: Sequence[float], **columns: Any) -> Trace:
    """A trace with these arrivals (seconds after START); every other column is a constant or a sequence."""
    n = len(arrived_at)
    values: dict[str, Any] = {
        "payment_id": [f"p{i:07d}" for i in range(n)], "order_id": [f"o{i:07d}" for i in range(n)],
        "amount_usd": 100.0, "currency": "MXN", "card_brand": "visa", "bank": "bank a", "initiator": "CIT",
        "warm_up": False} | columns
    arrays = []
    for field in PAYMENTS:
        if field.name == "arrived_at":
            arrays.append(timestamps(START + np.asarray(arrived_at, dtype=np.float64)))
            continue
        value = values.get(field.name)
        listed = list(value) if isinstance(value, list | tuple | np.ndarray) else [value] * n
        arrays.append(pa.array(listed, field.type))
    return Trace(pa.table(arrays, schema=PAYMENTS))


def poisson_arrivals(rate_per_s: float, n: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """n arrivals of a Poisson stream, seconds."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, n))


def model_of(processors: dict[str, dict[str, Any]] | Sequence[str], **issuer: Any) -> Model:
    """A model from few words; each processor answers after exactly one second unless told otherwise."""
    named = processors if isinstance(processors, dict) else {name: {} for name in processors}
    latency = {"approved": {"family": "constant", "value": 1000.0}}
    return Model.model_validate({
        "processors": {name: {"latency": latency} | parts for name, parts in named.items()},
        "issuer": {"approval": {"intercept": 1.0}, "judgement_codes": {"": {"05": 1.0}}} | issuer,
        "codes": {"05": {}, "51": {}, "14": {"kind": "hard"}, "96": {"outcome": "unavailable"},
                  "TO": {"outcome": "timeout"}},
    })


@dataclass
class InOrder:
    """Sends to ``ranks`` in order after ``delay_s``, at most ``attempts`` times; stops after a hard decline."""

    ranks: tuple[str, ...]
    attempts: int = 1
    delay_s: float = 0.0

    def decide(self, view: View, draw: Draw) -> Action:
        made = len(view.answers)
        if made and view.answers[-1].decline_kind == "hard":
            return Stop("hard")
        if made >= self.attempts:
            return Stop()
        if made and self.delay_s and not view.waited:
            return Wait(view.now + self.delay_s)
        return Send((Choice(self.ranks[made % len(self.ranks)]),), "retry" if made else "rank")

    def observe(self, payment: Payment, answer: Answer) -> None:
        pass


def simulate(trace: Trace, model: Model, policy: Any, seed: int = 1, luck: int = 0,
             outages: Sequence[Outage] | None = None, **assumed: Any) -> Simulated:
    """One replication at the model's own numbers; ``outages`` None draws them from the model. ``assumed``: the
    engine's ``network_rules`` and ``customers``."""
    draws = Luck(seed, 0, luck)
    if outages is None:
        end = float(trace.arrived_at[-1]) + 86_400
        outages = draw_outages(model, draws, float(trace.arrived_at[0]), end)
    return Engine(trace, IssuerDecisions(World(model), trace), policy, draws, outages, **assumed).run()
