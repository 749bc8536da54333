"""Does calibration find the truth as often as it says? Many made-up histories of one known world, each fitted anew.

Slow: `make test-slow`, or `python -m tests.test_recovery N` for N histories and the table of figures in the docs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial

import joblib
import numpy as np
import pytest
from scipy import special, stats

from routesim.calibration.calibrate import calibrate
from routesim.calibration.history.profile import CodeMeaning
from routesim.calibration.history.read import History, Quarantine
from routesim.calibration.made_up import described_world, legacy_factory, make_trace
from routesim.policies.catalog import build
from routesim.policies.vocabulary import Policy
from routesim.reports.statistics.intervals import interval
from routesim.sim.draws import Luck
from routesim.sim.engine import RUN_OUT_S, Engine
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import AttemptLog
from routesim.sim.model import Model, World
from routesim.sim.outages import draw_outages
from routesim.sim.trace import Trace
from tests.policy_world import AnyDescription

HISTORIES = 40
DAYS, PER_DAY = 21, 500
WEEK = 7
WORLDS = 16
_ROUTE = [
    {"when": {"card_brand": "amex"}, "to": ["Amex"]},
    {"when": {"currency": "MXN"}, "to": ["MIT", "Elavon", "Worldpay"]},
    {"when": {"currency": "USD"}, "to": ["Worldpay", "Elavon"]},
    {"to": ["Worldpay"]},
]
_MIT = {"when": {"initiator": "MIT"}, "after": "soft", "max_attempts": 4, "delay": "24h", "next": "cycle"}
_TWO = {"after": "soft", "max_attempts": 2, "delay": "3s", "next": "rank"}
POLICIES = {
    "base": {"route": _ROUTE, "retry": [_MIT, _TWO]},
    "no_retry": {"route": _ROUTE, "retry": "none"},
    "three": {"route": _ROUTE, "retry": [_MIT, _TWO | {"max_attempts": 3}]},
    "funds_24h": {"route": _ROUTE, "retry": [
        _MIT, {"after": ["51"], "max_attempts": 2, "delay": "24h", "next": "rank"}, _TWO]},
    "elavon": {"route": [_ROUTE[0], {"when": {"currency": "MXN"}, "to": ["Elavon", "MIT", "Worldpay"]}, *_ROUTE[2:]],
               "retry": [_MIT, _TWO]},
}
LIFTS = [name for name in POLICIES if name != "base"]


def simulate(world: World, trace: Trace, policy: Policy, luck: Luck) -> AttemptLog:
    end = float(trace.arrived_at[-1])
    outages = draw_outages(world.model, luck, float(trace.arrived_at[0]), end + RUN_OUT_S)
    return Engine(trace, IssuerDecisions(world, trace), policy, luck, outages).run().log


def approval(log: AttemptLog) -> float:
    return float((log.attempts["outcome"].to_numpy(zero_copy_only=False) == "approved").sum() / log.payments.num_rows)


def lifts(world: World, trace: Trace, luck: Luck) -> list[float]:
    policies = {name: build(AnyDescription.validate_python(parts))() for name, parts in POLICIES.items()}
    rates = {name: approval(simulate(world, trace, policy, luck)) for name, policy in policies.items()}
    return [100 * (rates[name] - rates["base"]) for name in LIFTS]


def parameters(model: Model, trace: Trace) -> dict[str, float]:
    """The main parameters on scales where their estimates are about normal, and the levels that matter."""
    issuer = model.issuer
    decisions = IssuerDecisions(World(model), trace)
    blocked = np.diff(decisions.block_cumulative, axis=1, prepend=0.0)
    funds = next(g for g, b in enumerate(decisions.blocks) if max(b.codes, key=b.codes.__getitem__) == "51")
    found = {"log frailty sd": float(np.log(issuer.frailty_sd)), "repeat": issuer.repeat,
             "logit blocked": float(special.logit(blocked.sum(axis=1).mean())),
             "logit without funds": float(special.logit(blocked[:, funds].mean()))}
    recovery = decisions.blocks[funds]
    assert recovery.recovers_h is not None
    day = recovery.recovers_share * (1 - float(recovery.recovers_h.sf(np.array([24.0]))[0]))
    found["logit funds back in a day"] = float(special.logit(day))
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    for name in ("MIT", "Elavon", "Worldpay"):
        takes = trace.levels("currency").codes == trace.levels("currency").names.index("MXN")
        eta = decisions.approval_logits(name)[takes][:, None] + issuer.frailty_sd * nodes
        found[f"logit judged approval at {name}"] = float(special.logit(
            ((special.expit(eta) * weights).sum(axis=1) / weights.sum()).mean()))
    for name in ("MIT", "Elavon", "Worldpay"):
        processor = model.processors[name]
        found[f"log latency p50 at {name}"] = float(np.log(processor.latency.approved.quantile(0.5)))
        found[f"log latency p95 at {name}"] = float(np.log(processor.latency.approved.quantile(0.95)))
    assert model.comebacks is not None
    found["logit comebacks"] = float(special.logit(model.comebacks.probability[""]))
    return found


def as_history(log: AttemptLog, model: Model) -> History:
    """A simulated log as if it had been read."""
    payments = log.payments
    attempts = zip(log.payment_row.tolist(), log.attempts["processor"].to_pylist(),
                   log.attempts["attempt_number"].to_pylist(), strict=True)
    first = {row: name for row, name, number in attempts if number == 1}
    approved = set(log.payment_row[log.attempts["outcome"].to_numpy(zero_copy_only=False) == "approved"].tolist())
    for name, values in (("logged_processor", [first.get(i) for i in range(payments.num_rows)]),
                         ("logged_approved", [i in approved for i in range(payments.num_rows)])):
        where = payments.schema.get_field_index(name)
        field = payments.schema.field(name)
        payments = payments.set_column(where, field, [values])
    codes = {name: CodeMeaning(code.outcome, code.kind) for name, code in model.codes.items()}
    nothing = payments.slice(0, 0)
    same = AttemptLog(payments, log.attempts, log.payment_row)
    return History(same, codes, Quarantine({}, {}, nothing, []), {}, nothing)


def one_history(number: int, truth: Mapping[str, float], true_lifts: list[float]) -> dict[str, tuple[float, bool]]:
    """z of each estimate, and whether its 95 % interval holds the truth."""
    world = described_world()
    trace = Trace(make_trace(DAYS, PER_DAY, seed=1000 + number), world.timezone)
    log = simulate(World(world), trace, legacy_factory()(), Luck(5000 + number))
    fitted = calibrate(as_history(log, world), world.timezone).model
    week = evaluation_trace()
    draws = [parameters(fitted.draw(w, number).model, week) for w in range(60)]
    estimate = parameters(fitted.model, week)
    found = {}
    for name, value in truth.items():
        sd = float(np.std([d[name] for d in draws], ddof=1))
        z = (estimate[name] - value) / sd
        found[name] = (z, abs(z) < stats.norm.ppf(0.975))
    table = np.array([[lifts(fitted.draw(w, number), week, Luck(number, w, k)) for k in range(2)]
                      for w in range(WORLDS)])
    for i, name in enumerate(LIFTS):
        known = interval(table[:, :, i])
        assert known.low is not None
        assert known.high is not None
        half = (known.high - known.low) / 2
        found[f"lift of {name}"] = ((known.value - true_lifts[i]) / max(half / 1.96, 1e-9),
                                    known.low <= true_lifts[i] <= known.high)
    return found


def evaluation_trace() -> Trace:
    return Trace(make_trace(WEEK, PER_DAY, seed=7), described_world().timezone)


def study(histories: int) -> dict[str, tuple[int, float, float]]:
    """Figure → (intervals that hold the truth, mean z, sd of z)."""
    world, week = described_world(), evaluation_trace()
    truth = parameters(world, week)
    run = joblib.Parallel(n_jobs=-1)
    many = np.array(run(joblib.delayed(lifts)(World(world), week, Luck(99, 0, k)) for k in range(60)))
    results = run(joblib.delayed(partial(one_history, truth=truth, true_lifts=many.mean(axis=0).tolist()))(n)
                  for n in range(histories))
    names = list(results[0])
    return {name: (sum(r[name][1] for r in results), float(np.mean([r[name][0] for r in results])),
                   float(np.std([r[name][0] for r in results], ddof=1))) for name in names}


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    found = study(HISTORIES)
    held = sum(hits for hits, _, _ in found.values())
    assert 0.92 <= held / (HISTORIES * len(found)) <= 0.98
    for name, (hits, _, _) in found.items():
        p_value = stats.binomtest(hits, HISTORIES, 0.95).pvalue
        assert p_value > 0.05 / len(found), f"{name}: {hits} of {HISTORIES}"


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else HISTORIES
    table = study(count)
    for figure, (hits, mean, sd) in table.items():
        print(f"| {figure} | {hits}/{count} | {mean:+.2f} | {sd:.2f} |")
    print(f"pooled {sum(h for h, _, _ in table.values()) / (count * len(table)):.3f}")
