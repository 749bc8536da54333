"""A small world whose history is confounded: the router sends the payments of good banks to the worse processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from routesim.calibration.sequences import Sequences, sequences
from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View, Wait
from routesim.sim.log import AttemptLog
from routesim.sim.model import Model
from routesim.sim.trace import Trace
from tests.worlds import model_of, poisson_arrivals, simulate, trace_of

BANKS = ("good", "plain", "poor")
TRUTH: dict[str, Any] = {"frailty": 1.5, "repeat": -0.5, "A-B": 0.5, "bank": 0.9, "funds": -1.6, "dead": -3.0,
                         "mean_h": 20.0, "recovers": 0.8, "A/96": 0.03, "B/96": 0.01}
_FIRST = {"good": (("B", 0.8), ("A", 0.1), ("C", 0.1)), "plain": (("A", 0.4), ("B", 0.4), ("C", 0.2)),
          "poor": (("A", 0.8), ("B", 0.1), ("C", 0.1))}
_DELAYS_S = (3.0, 3.0, 6 * 3600.0, 30 * 3600.0)


def confounded_world(**changes: Any) -> Model:
    """Three processors, a frailty, funds that come back, dead cards, technical failures."""
    issuer: dict[str, Any] = {
        "approval": {"intercept": 1.2, "terms": [
            {"by": ["processor"], "effects": {"A": TRUTH["A-B"], "B": 0.0, "C": 0.2}},
            {"by": ["bank"], "effects": {"good": TRUTH["bank"], "plain": 0.0, "poor": -TRUTH["bank"]}}]},
        "frailty_sd": TRUTH["frailty"], "repeat": TRUTH["repeat"],
        "judgement_codes": {"": {"05": 0.9, "51": 0.1}},
        "blocks": {"funds": {"codes": {"51": 1.0}, "odds": {"intercept": TRUTH["funds"]}, "recovers_share":
                             TRUTH["recovers"], "recovers_h": {"family": "exponential", "mean": TRUTH["mean_h"]}},
                   "dead": {"codes": {"14": 1.0}, "odds": {"intercept": TRUTH["dead"]}}}}
    return model_of({"A": {"technical": {"96": TRUTH["A/96"]}}, "B": {"technical": {"96": TRUTH["B/96"]}},
                     "C": {"technical": {"96": 0.01}}}, **(issuer | changes))


@dataclass
class BankRouter:
    """First by the bank, at random; up to three attempts, at the same or another processor, soon or much later."""

    def decide(self, view: View, draw: Draw) -> Action:
        made = len(view.answers)
        if made and (view.answers[-1].decline_kind == "hard" or made >= 3):
            return Stop()
        if made and not view.waited:
            return Wait(view.now + _DELAYS_S[int(draw.uniform(f"delay {made}") * len(_DELAYS_S))])
        u = draw.uniform(f"where {made}")
        if made and u < 0.35:
            return Send((Choice(view.answers[-1].processor),), "retry")
        u = (u - 0.35) / 0.65 if made else u
        a, b, _ = (share for _, share in _FIRST[view.payment.bank or "plain"])
        names = [name for name, _ in _FIRST[view.payment.bank or "plain"]]
        return Send((Choice(names[(u >= a) + (u >= a + b)]),), "retry" if made else "rank")

    def observe(self, payment: Payment, answer: Answer) -> None:
        pass


def confounded_log(n: int, seed: int, model: Model | None = None, days: float = 28.0) -> AttemptLog:
    """The history of ``n`` payments under BankRouter."""
    bank = np.random.default_rng(seed).choice(BANKS, n).tolist()
    trace = trace_of(poisson_arrivals(n / (days * 86_400), n, seed), bank=bank)
    return simulate(trace, model or confounded_world(), BankRouter(), seed=seed).log


def as_sequences(log: AttemptLog) -> Sequences:
    """With every attempt that was not lost as informative."""
    outcome = np.array(log.attempts["outcome"].to_pylist(), dtype=str)
    return sequences(log, Trace(log.payments), ~np.isin(outcome, ["timeout", "refused"]))
