"""Timeouts that the issuer approved all the same: how many, which, and that they change nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special

from routesim.policies.vocabulary import Choice, Send, Stop
from routesim.reports.metrics.measure import measure
from routesim.sim.outages import Outage
from routesim.sim.trace import Trace
from tests import logs
from tests.worlds import START, InOrder, model_of, poisson_arrivals, simulate, trace_of

N = 6_000
DOWN = [Outage("A", "down", START - 1, START + 1e7, 1.0)]


def world(share: float, **a: Any) -> Any:
    """A is given by its parts, B approves four in five and is always well."""
    return model_of({"A": {"late_approval_share": share, "timeout_s": 30.0} | a, "B": {}},
                    approval={"intercept": 1.4}, frailty_sd=1.0)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return trace_of(poisson_arrivals(0.5, N, seed=6))


def attempts(trace: Trace, model: Any, policy: Any, outages: list[Outage]) -> pd.DataFrame:
    found: pd.DataFrame = simulate(trace, model, policy, outages=outages).log.attempts.to_pandas()
    return found.sort_values(["payment_id", "attempt_number"], ignore_index=True)


def late(found: pd.DataFrame) -> set[str]:
    return set(found["payment_id"][found["late_approval"] == True])  # noqa: E712 (null is neither)


def approved(found: pd.DataFrame) -> set[str]:
    return set(found["payment_id"][found["outcome"] == "approved"])


class Hasty(InOrder):
    """Waits for half a second only, which no answer takes less than."""

    def decide(self, view: Any, draw: Any) -> Any:
        action = super().decide(view, draw)
        return action._replace(timeout_s=0.5) if isinstance(action, Send) else action


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("lost_by", ["outage", "technical failure", "outage in flight"])
def test_the_share_is_that_of_reached_and_approved(share: float, lost_by: str) -> None:
    apart = trace_of([i * 2.0 for i in range(N)])
    if lost_by == "technical failure":
        found = attempts(apart, world(share, technical={"TO": 1.0}), InOrder(("A",)), [])
    elif lost_by == "outage":
        found = attempts(apart, world(share), InOrder(("A",)), DOWN)
    else:  # all are sent at once, and the outage begins before the first answer
        begins = [Outage("A", "down", START + 0.5, START + 100, 1.0)]
        found = attempts(trace_of([0.0] * N), world(share), InOrder(("A",)), begins)
    assert set(found["outcome"]) == {"timeout"}
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = share * float((weights * special.expit(1.4 + nodes)).sum() / weights.sum())
    assert abs(len(late(found)) / N - expected) < 3 * np.sqrt(expected * (1 - expected) / N)


def test_by_default_nothing_that_was_lost_was_approved(trace: Trace) -> None:
    found = attempts(trace, world(0.0), InOrder(("A",)), DOWN)
    assert found["late_approval"].eq(False).all()


def test_an_answer_that_the_router_did_not_wait_for_is_the_one_that_it_would_have_had(trace: Trace) -> None:
    """Whatever the share: here nothing was lost, only left."""
    patient, hasty = (attempts(trace, world(0.0), policy, []) for policy in (InOrder(("A",)), Hasty(("A",))))
    assert set(hasty["outcome"]) == {"timeout"}
    assert late(hasty) == approved(patient)
    assert 0.6 * N < len(late(hasty)) < 0.9 * N
    assert patient["late_approval"].isna().all()


def test_the_issuer_decides_as_if_nothing_had_been_lost(trace: Trace) -> None:
    """With every request reaching him, the late approvals are the approvals of a world without the outage."""
    without, hit = (attempts(trace, world(1.0), InOrder(("A",)), outages) for outages in ([], DOWN))
    assert late(hit) == approved(without)


def test_a_blocked_card_is_never_approved_late() -> None:
    funds = {"codes": {"51": 1.0}, "odds": {"intercept": 0.0}, "recovers_h": {"family": "constant", "value": 1.0}}
    model = model_of({"A": {"late_approval_share": 1.0}}, approval={"intercept": 100.0}, blocks={"funds": funds})
    trace = trace_of(poisson_arrivals(0.5, 3_000, seed=8))
    for policy in (InOrder(("A",)), Hasty(("A",))):
        found = attempts(trace, model, policy, DOWN if type(policy) is InOrder else [])
        assert abs(len(late(found)) / 3_000 - 0.5) < 3 * np.sqrt(0.25 / 3_000)  # the others approve for certain
    after = attempts(trace, model, InOrder(("A",), 2, 3 * 3600.0), DOWN)
    second = after[after["attempt_number"] == 2]
    assert second["late_approval"].eq(True).all()  # funds are there again


def test_the_same_attempts_are_late_under_every_policy_and_share(trace: Trace) -> None:
    direct = attempts(trace, world(0.3), InOrder(("A",)), DOWN)
    by_way_of_b = attempts(trace, world(0.3), InOrder(("B", "A"), 2), DOWN)
    tried = set(by_way_of_b["payment_id"][by_way_of_b["processor"] == "A"])
    assert len(tried) > 500
    assert late(by_way_of_b) == late(direct) & tried
    assert late(direct) < late(attempts(trace, world(0.6), InOrder(("A",)), DOWN))


def test_the_share_changes_nothing_that_the_router_sees(trace: Trace) -> None:
    logs_of = [attempts(trace, world(share), InOrder(("A", "B", "A"), 3, 5.0), [
        Outage("A", "partial", START, START + 8_000, 0.5)]) for share in (0.0, 1.0)]
    assert late(logs_of[0]) < late(logs_of[1])
    assert logs_of[0].drop(columns="late_approval").equals(logs_of[1].drop(columns="late_approval"))


def test_a_limited_processor_approves_late_what_it_had_in_service_and_not_what_queued() -> None:
    """One at a time for a second; the router waits 1.5 s: the second is being served then, the third is not."""
    model = model_of({"A": {"capacity": {"concurrent": 1, "queue": 5}, "timeout_s": 1.5, "late_approval_share": 1.0}},
                     approval={"intercept": 100.0})
    found = attempts(trace_of([0.0, 0.0, 0.0]), model, InOrder(("A",)), [])
    assert found["outcome"].tolist() == ["approved", "timeout", "timeout"]
    assert found["late_approval"].tolist() == [None, True, False]


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_a_limited_processors_lost_answers_follow_the_share(share: float, expected: bool) -> None:
    model = model_of({"A": {"capacity": {"concurrent": 9}, "timeout_s": 5.0, "late_approval_share": share}},
                     approval={"intercept": 100.0})
    for begins in (-1.0, 0.5):  # sent into the outage, and overtaken by it in flight
        found = attempts(trace_of([0.0, 0.1]), model, InOrder(("A",)),
                         [Outage("A", "down", START + begins, START + 100, 1.0)])
        assert found["outcome"].tolist() == ["timeout"] * 2
        assert found["late_approval"].tolist() == [expected] * 2


def test_charged_elsewhere_too_is_a_duplicate(trace: Trace) -> None:
    done = simulate(trace, world(1.0), InOrder(("A", "B"), 2), outages=DOWN)
    figures = measure(done.log, outages=logs.outages(), fees={}).figures
    found = done.log.attempts.to_pandas()
    both = late(found) & approved(found)
    assert figures["late_approvals"] == len(late(found)) > len(both) == figures["duplicates"] > 0
    assert figures["reversals_usd"] == 100.0 * len(late(found))
    assert figures["duplicate_risk"] == N  # what a router must fear without knowing more


def test_figures_by_hand() -> None:
    def timeout(payment_id: str, number: int, came: bool | None) -> dict[str, Any]:
        return logs.attempt(payment_id, number, "A", 40.0 * number, 30, "timeout", late_approval=came)

    payments = [logs.payment("p1", amount_usd=10.0), logs.payment("p2", 1, amount_usd=20.0), logs.payment("p3", 2)]
    rows = [timeout("p1", 1, True), timeout("p1", 2, True), timeout("p2", 1, True),
            logs.attempt("p2", 2, "B", 80, 1, "approved"), timeout("p3", 1, False)]
    found = measure(logs.log(payments, rows), outages=logs.outages(), fees={}).figures
    assert (found["late_approvals"], found["reversals_usd"], found["duplicates"]) == (3, 40.0, 2)
    unknown = measure(logs.log(payments, [*rows[:-1], timeout("p3", 1, None)]), outages=logs.outages(), fees={}).figures
    assert np.isnan([unknown[name] for name in ("late_approvals", "reversals_usd", "duplicates")]).all()


def test_a_shorter_timeout_brings_more_late_approvals() -> None:
    """That is what it costs: an answer takes 1 to 3 s, and the router that waits less leaves more of them."""

    class Waiting(InOrder):
        timeout_s = 30.0

        def decide(self, view: Any, draw: Any) -> Any:
            return Stop() if view.answers else Send((Choice("A"),), timeout_s=self.timeout_s)

    model = model_of({"A": {"latency": {"approved": {"family": "lognormal", "median": 2000.0, "sigma": 0.5}}}},
                     approval={"intercept": 100.0})
    trace = trace_of(poisson_arrivals(0.5, N, seed=6))
    shares = []
    for timeout_s in (8.0, 4.0, 2.0):
        policy = Waiting(("A",))
        policy.timeout_s = timeout_s
        found = attempts(trace, model, policy, [])
        shares.append(len(late(found)) / N)
        expected = float(special.ndtr(-np.log(timeout_s / 2.0) / 0.5))
        assert abs(shares[-1] - expected) < 3 * np.sqrt(expected * (1 - expected) / N)
    assert shares == sorted(shares)
