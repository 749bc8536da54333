"""A small merchant whose customers' accounts fill on pay days, and its router, which tries again after 3 s or a day."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View, Wait
from routesim.sim.log import AttemptLog
from routesim.sim.model import HourKind, Model
from routesim.sim.trace import Trace
from tests.confounded import BANKS, confounded_world
from tests.worlds import poisson_arrivals, simulate, trace_of

DAY_S = 86_400.0
PAY_DAY: dict[HourKind, float] = {"pay day, 0 to 6": float(np.log(60.0))}  # 360 of a mean of 240 hours within six


def pay_day_world(effects: dict[HourKind, float] | None) -> Model:
    """The confounded world with a slow memoryless recovery of funds, and with ``effects`` of the calendar, if any."""
    document = confounded_world().model_dump(mode="json")
    funds = document["issuer"]["blocks"]["funds"]
    funds |= {"recovers_h": {"family": "exponential", "mean": 240.0}, "recovers_share": 0.9}
    if effects:
        funds["calendar"] = {"pay_days": {"MX": {"currency": "MXN", "days": [15, "last"]}}, "effects": effects}
    return Model.model_validate(document)


@dataclass
class Daily:
    """Four attempts at most: three tenths of the payments wait a day before each further one, the others 3 s."""

    attempts: int = 4
    waiting: float = 0.3

    def decide(self, view: View, draw: Draw) -> Action:
        made = len(view.answers)
        if made and (view.answers[-1].decline_kind == "hard" or made >= self.attempts):
            return Stop()
        if made and not view.waited:
            return Wait(view.now + (DAY_S if draw.uniform("waits") < self.waiting else 3.0))
        return Send((Choice("ABC"[int(draw.uniform(f"where {made}") * 3)]),), "retry" if made else "rank")

    def observe(self, payment: Payment, answer: Answer) -> None:
        pass


def pay_day_trace(n: int, seed: int, days: float, start_day: float = 0.0) -> Trace:
    """``n`` payments with Mexican cards over ``days`` from 2026-01-05 + ``start_day`` on."""
    bank = np.random.default_rng(seed).choice(BANKS, n).tolist()
    arrivals = start_day * DAY_S + poisson_arrivals(n / (days * DAY_S), n, seed)
    return trace_of(arrivals, bank=bank, card_country="MX")


def pay_day_log(n: int, seed: int, days: float, effects: dict[HourKind, float] | None = None) -> AttemptLog:
    """The history of that merchant."""
    return simulate(pay_day_trace(n, seed, days), pay_day_world(effects), Daily(), seed=seed).log
