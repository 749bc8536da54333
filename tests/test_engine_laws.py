"""Laws that any engine of payments must obey, against theory within stated standard errors."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from scipy import special

from routesim.sim.outages import Outage
from routesim.sim.trace import seconds
from tests.worlds import START, InOrder, model_of, poisson_arrivals, simulate, trace_of


def erlang_c_wait_s(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean wait in an M/M/c queue (Erlang 1917)."""
    load = arrival_rate / service_rate
    busy = load**servers / factorial(servers) * servers / (servers - load)
    wait_probability = busy / (sum(load**k / factorial(k) for k in range(servers)) + busy)
    return wait_probability / (servers * service_rate - arrival_rate)


def batch_mean_se(values: np.ndarray, batches: int = 40) -> float:
    """Standard error of a mean of correlated values, by batch means."""
    means = np.array([b.mean() for b in np.array_split(values, batches)])
    return float(means.std(ddof=1) / np.sqrt(batches))


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.7), (3, 2.4)])
def test_limited_processor_waits_as_erlang_c_says(servers: int, rate: float) -> None:
    model = model_of({"A": {"capacity": {"concurrent": servers, "queue": 10_000}, "timeout_s": 100_000.0,
                            "latency": {"approved": {"family": "exponential", "mean": 1000.0}}}})
    trace = trace_of(poisson_arrivals(rate, 60_000, seed=3))
    log = simulate(trace, model, InOrder(("A",))).log
    assert log.attempts.num_rows == len(trace)
    order = np.argsort(log.payment_row)
    sojourn_s = log.attempts["latency_ms"].to_numpy()[order] / 1000
    expected = erlang_c_wait_s(rate, 1.0, servers) + 1.0
    assert abs(sojourn_s.mean() - expected) < 3.5 * batch_mean_se(sojourn_s)
    assert abs(sojourn_s.mean() - (expected - 1.0)) > 3.5 * batch_mean_se(sojourn_s)  # the test can fail

    # Little's law: the time-average number in the system is arrival rate times mean sojourn, exactly, on a run
    # that begins and ends empty.
    sent, answered = seconds(log.attempts["sent_at"]), seconds(log.attempts["answered_at"])
    moments = np.concatenate([sent, answered])
    steps = np.concatenate([np.ones_like(sent), -np.ones_like(answered)])
    by_time = np.lexsort((-steps, moments))
    inside = np.cumsum(steps[by_time])
    horizon = moments.max() - moments.min()
    average = float((inside[:-1] * np.diff(moments[by_time])).sum() / horizon)
    assert inside.min() >= 0
    assert inside[-1] == 0
    assert average == pytest.approx(len(trace) / horizon * sojourn_s.mean(), rel=1e-6)


def test_full_queue_answers_at_once() -> None:
    model = model_of({"A": {"capacity": {"concurrent": 2, "queue": 1}}})
    log = simulate(trace_of([0.0] * 5), model_all_approve(model), InOrder(("A",))).log
    outcomes = log.attempts["outcome"].to_pylist()
    assert sorted(outcomes) == ["approved"] * 3 + ["unavailable"] * 2
    latencies = sorted(log.attempts["latency_ms"].to_pylist())
    assert latencies == [50.0, 50.0, 1000.0, 1000.0, 2000.0]


def test_router_gives_up_but_the_processor_goes_on() -> None:
    """Three sent at once to a processor that serves one at a time for 1 s; the router waits 1.5 s at most."""
    model = model_of({"A": {"capacity": {"concurrent": 1, "queue": 5}, "timeout_s": 1.5}})
    log = simulate(trace_of([0.0, 0.0, 0.0, 1.7]), model_all_approve(model), InOrder(("A",))).log
    rows = sorted(zip(log.payment_row.tolist(), log.attempts["outcome"].to_pylist(),
                      log.attempts["latency_ms"].to_pylist(), strict=True))
    # The second is in service from 1.0 to 2.0 although its router left at 1.5; the third never begins service.
    assert rows == [(0, "approved", 1000.0), (1, "timeout", 1500.0), (2, "timeout", 1500.0), (3, "approved", 1300.0)]


def model_all_approve(model):  # type: ignore[no-untyped-def]
    model.issuer.approval.intercept = 100.0
    return model


def busy_world():  # type: ignore[no-untyped-def]
    model = model_of(
        {name: {"latency": {"approved": {"family": "lognormal", "median": 900.0, "sigma": 0.8}}, "timeout_s": 10.0,
                "technical": {"96": 0.02, "TO": 0.01},
                "outages": {"gap_h": {"family": "exponential", "mean": 3.0},
                            "duration_min": {"family": "lognormal", "median": 20.0, "sigma": 1.0},
                            "kinds": {"down": {"share": 0.6, "loss": 0.98}, "partial": {"share": 0.2, "loss": 0.5},
                                      "slow": {"share": 0.2, "latency_factor": 8.0}}}} for name in "ABC"},
        frailty_sd=1.0, repeat=-0.5,
        blocks={"funds": {"codes": {"51": 1.0}, "odds": {"intercept": -2.0}, "recovers_h":
                          {"family": "exponential", "mean": 20.0}},
                "dead": {"codes": {"14": 1.0}, "odds": {"intercept": -3.0}}})
    model.comebacks = type(model).model_validate(model.model_dump() | {
        "comebacks": {"probability": {"": 0.5}, "delay_min": {"family": "constant", "value": 3.0},
                      "same_card_share": 0.5}}).comebacks
    return model


def test_every_payment_ends_once_and_attempts_never_overlap() -> None:
    trace = trace_of(poisson_arrivals(0.05, 9_000, seed=5))
    done = simulate(trace, busy_world(), InOrder(("A", "B", "C"), attempts=5, delay_s=40.0))
    log = done.log
    ids = log.payments["payment_id"].to_pylist()
    assert len(ids) == len(set(ids)) > len(trace)  # all of the trace, and some who came back
    assert set(trace.table["payment_id"].to_pylist()) <= set(ids)
    assert done.unfinished == 0
    frame = log.attempts.to_pandas().sort_values(["payment_id", "attempt_number"])
    by_payment = frame.groupby("payment_id")
    assert set(frame["payment_id"]) == set(ids)
    assert (by_payment["outcome"].apply(lambda o: (o == "approved").sum()) <= 1).all()
    # an approval, and a hard decline, end the payment
    last = by_payment.tail(1)
    assert (frame["outcome"] == "approved").sum() == (last["outcome"] == "approved").sum()
    assert (frame["decline_kind"] == "hard").sum() == (last["decline_kind"] == "hard").sum()
    assert (by_payment["attempt_number"].transform("cumcount") + 1 == frame["attempt_number"]).all()
    assert (frame["answered_at"] > frame["sent_at"]).all()
    before = by_payment["answered_at"].shift()
    assert (frame["sent_at"][before.notna()] >= before[before.notna()]).all()
    assert set(frame["outcome"]) == {"approved", "declined", "unavailable", "timeout"}


def test_no_router_has_a_lift_where_processors_are_the_same() -> None:
    """Identical processors, no outages, capacity or repeat effects: only luck is left between two rankings."""
    model = model_of(["A", "B", "C"], frailty_sd=1.5, blocks={
        "funds": {"codes": {"51": 1.0}, "odds": {"intercept": -2.0}}})
    trace = trace_of(poisson_arrivals(1.0, 40_000, seed=7))
    approved = {}
    for ranks in (("A", "B"), ("C", "A"), ("B", "B")):
        log = simulate(trace, model, InOrder(ranks, attempts=2)).log
        ok = np.zeros(len(trace))
        ok[log.payment_row[log.attempts["outcome"].to_numpy(zero_copy_only=False) == "approved"]] = 1
        approved[ranks] = ok
    base = approved["A", "B"]
    for other in (("C", "A"), ("B", "B")):
        difference = approved[other] - base
        assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(len(trace))

    # The level is what the model says: the block shuts some out, the others have two judgements with one frailty.
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    decline = 1 - special.expit(1.0 + 1.5 * nodes)
    expected = special.expit(2.0) * float((weights * (1 - decline**2)).sum() / weights.sum())
    assert abs(base.mean() - expected) < 3 * base.std() / np.sqrt(len(trace))
    independent = special.expit(2.0) * (1 - float((weights * decline).sum() / weights.sum()) ** 2)
    assert abs(base.mean() - independent) > 10 * base.std() / np.sqrt(len(trace))  # correlation is seen


def test_outage_changes_nothing_outside_its_processor_before_the_first_retry() -> None:
    model = busy_world()
    trace = trace_of(poisson_arrivals(0.5, 6_000, seed=9))
    policy = InOrder(("A", "B", "C"), attempts=3, delay_s=5.0)

    class Spread(InOrder):
        def decide(self, view, draw):  # type: ignore[no-untyped-def]
            first = "ABC".index("ABC"[int(view.payment.payment_id[1:8]) % 3])
            self.ranks = tuple("ABC"[(first + i) % 3] for i in range(3))
            return super().decide(view, draw)

    outage = Outage("A", "down", START + 2_000, START + 6_000, 0.98)
    logs = [simulate(trace, model, Spread(policy.ranks, 3, 5.0), outages=o).log for o in ([], [outage])]
    frames = [log.attempts.to_pandas() for log in logs]
    begin, end = (np.datetime64(int(t * 1e6), "us") for t in (outage.start - 1, outage.end))
    sent = frames[1]["sent_at"].dt.tz_localize(None)
    at_a = (frames[1]["processor"] == "A") & (frames[1]["outcome"] == "timeout")
    lost = frames[1][at_a & (sent > begin) & (sent < end)]
    touched = set(lost["payment_id"].str.removesuffix("+1"))
    assert len(touched) > 300
    # every order that the outage did not touch is the same to the microsecond
    apart = [f[~f["payment_id"].str.removesuffix("+1").isin(touched)].sort_values(
        ["payment_id", "attempt_number"]).reset_index(drop=True) for f in frames]
    assert len(apart[0]) > 5_000
    assert apart[0].equals(apart[1])
    first = [f[(f["attempt_number"] == 1) & (f["processor"] != "A")].sort_values("payment_id").reset_index(drop=True)
             for f in frames]
    original = [f[~f["payment_id"].str.endswith("+1")].reset_index(drop=True) for f in first]
    assert original[0].equals(original[1])


def test_attempt_in_flight_when_an_outage_begins_is_lost() -> None:
    model = model_all_approve(model_of({"A": {"timeout_s": 30.0}}))
    log = simulate(trace_of([0.0, 9.5, 20.0]), model, InOrder(("A",)),
                   outages=[Outage("A", "down", START + 10, START + 15, 1.0)]).log
    rows = sorted(zip(log.payment_row.tolist(), log.attempts["outcome"].to_pylist(),
                      log.attempts["latency_ms"].to_pylist(), strict=True))
    assert rows == [(0, "approved", 1000.0), (1, "timeout", 30000.0), (2, "approved", 1000.0)]


def test_funds_come_back_with_time_and_not_elsewhere() -> None:
    """All accounts are empty and fill after an exponential time: a retry succeeds with 1 - exp(-delay/mean)."""
    model = model_all_approve(model_of(["A", "B"], blocks={
        "funds": {"codes": {"51": 1.0}, "odds": {"intercept": 50.0},
                  "recovers_h": {"family": "exponential", "mean": 24.0}, "recovers_share": 0.8}}))
    trace = trace_of(poisson_arrivals(1.0, 8_000, seed=11))
    for hours in (0.0, 6.0, 24.0):
        log = simulate(trace, model, InOrder(("A", "B"), attempts=2, delay_s=hours * 3600)).log
        frame = log.attempts.to_pandas()
        second = (frame[frame["attempt_number"] == 2]["outcome"] == "approved").mean()
        expected = 0.8 * (1 - np.exp(-(hours * 3600 + 1) / (24 * 3600)))
        assert abs(second - expected) <= 3.5 * np.sqrt(expected * (1 - expected) / len(trace)) + 1e-12


def test_attempt_is_answered_at_its_timeout() -> None:
    model = model_of({"A": {"timeout_s": 0.8}})
    log = simulate(trace_of([0.0]), model, InOrder(("A", "A"), attempts=2)).log
    assert log.attempts["outcome"].to_pylist() == ["timeout", "timeout"]
    assert log.attempts["latency_ms"].to_pylist() == [800.0, 800.0]
    assert log.attempts["decline_code"].to_pylist() == ["TO", "TO"]
