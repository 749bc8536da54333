"""The health monitor against the theory of its hidden Markov chain."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import permutations
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.linalg import expm

from routesim.policies.failover.health_filter import DOWN_LOSS, KINDS, SILENT, Beliefs, HealthBelief, State, Usual
from routesim.policies.failover.health_monitor import HealthMonitor, HealthMonitorFailover
from routesim.policies.vocabulary import Answer, Choice, Outcome, Skip, SkipReason
from routesim.sim.draws import generator
from tests.policy_world import ARRIVED_AT, Luck, payment, view

BELIEFS = Beliefs(begin_per_s=1 / 259_200, end_per_s=1 / 1_500, partial_loss=0.45, slow_factor=4.0)
RANK = (Choice("A"), Choice("B"))
MEDIAN_S, SIGMA, TIMEOUTS, UNAVAILABLE = 1.5, 0.5, 0.005, 0.015


# --- the filter


def chain() -> np.ndarray[Any, np.dtype[np.float64]]:
    """The generator of the chain: up, partial, down, slow."""
    rates = np.zeros((4, 4))
    rates[0, 1:] = BELIEFS.begin_per_s * np.array(KINDS)
    rates[1:, 0] = BELIEFS.end_per_s
    return rates - np.diag(rates.sum(axis=1))


@pytest.mark.parametrize("elapsed_s", [0.0, 0.3, 30.0, 900.0, 86_400.0])
def test_time_alone_follows_the_chain(elapsed_s: float) -> None:
    start = State(0.2, 0.1, 0.6, 0.1)
    later = HealthBelief(BELIEFS, 0.0)._later(start, elapsed_s)
    assert later == pytest.approx(np.array(start) @ expm(chain() * elapsed_s))


def test_answers_in_any_order_are_filed_under_when_they_were_sent() -> None:
    sent = (10.0, 12.0, 13.0, 17.0)
    came: tuple[tuple[Outcome, float], ...] = (
        ("timeout", 30.0), ("approved", 1.2), ("unavailable", 0.4), ("declined", 6.0))  # fmt: skip
    begins = HealthBelief(BELIEFS, 0.0)
    expected, at = np.array(begins.state(0.0)), 0.0
    for sent_at, (outcome, latency_s) in zip(sent, came, strict=True):
        ratios = np.array([1.0, *Usual().answered(outcome, latency_s, BELIEFS)])
        expected = expected @ expm(chain() * (sent_at - at)) * ratios
        at = sent_at
    expected = expected @ expm(chain() * (50.0 - at))
    for order in permutations((1, 2, 3)):  # the first is answered last, so that nothing is learnt before
        health = HealthBelief(BELIEFS, 0.0)
        attempts = [health.sent(sent_at, sent_at + 31.0) for sent_at in sent]
        for i in (*order, 0):
            health.answered(attempts[i], *came[i], 50.0)
        assert health.state(50.0) == pytest.approx(expected / expected.sum(), rel=1e-9)


def test_silence_turns_into_the_timeout_that_it_becomes() -> None:
    usual = Usual()
    ages = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 29.9]
    down = [usual.silent(age, BELIEFS)[1] for age in ages]
    assert down == sorted(down)
    assert down[0] == pytest.approx(1.0, abs=0.02)  # nobody answers so soon: no evidence
    patient = Usual()
    patient.location, patient.scale = log(MEDIAN_S), 0.2  # here all that answer have answered by 30 s
    assert patient.silent(30.0, BELIEFS) == pytest.approx(patient.answered("timeout", 30.0, BELIEFS), rel=0.02)


def test_what_is_usual_is_learnt() -> None:
    usual, rng = Usual(), generator("usual")
    for latency_s in np.exp(log(4.0) + 0.4 * rng.standard_normal(4_000)).tolist():
        u = rng.random()
        outcome: Outcome = "timeout" if u < 0.03 else "unavailable" if u < 0.08 else "approved"
        usual.learn(outcome, latency_s, 1.0)
    assert usual.timeout == pytest.approx(0.03, abs=4 * (0.03 / 4_000) ** 0.5)
    assert usual.unavailable == pytest.approx(0.05, abs=4 * (0.05 / 4_000) ** 0.5)
    remembered = Usual.MEMORY_ANSWERS * 2  # weights that fall by 1 - 1/m have twice m as effective size
    assert usual.location == pytest.approx(log(4.0), abs=4 * 0.4 / remembered**0.5)
    assert usual.later(4.0) == pytest.approx(0.5, abs=0.1)


# --- the part, on a stream of payments


class World(NamedTuple):
    """What befalls each attempt: arrivals (n,) and latencies (n,) in seconds, uniforms (n,) for the technical luck."""

    at: list[float]
    latency_s: list[float]
    luck: list[float]


def world(name: str, n: int, gap_s: float, regular: bool = False, median_s: float = MEDIAN_S,
          sigma: float = SIGMA) -> World:
    rng = generator("health monitor", name)
    gaps = np.full(n, gap_s) if regular else rng.exponential(gap_s, n)
    latency_s = np.exp(log(median_s) + sigma * rng.standard_normal(n))
    return World((ARRIVED_AT + np.cumsum(gaps)).tolist(), latency_s.tolist(), rng.random(n).tolist())


def live(part: HealthMonitorFailover, of: World, lost_from: float = float("inf"), loss: float = 1.0,
         slower: float = 1.0, timeouts: float = TIMEOUTS) -> Iterator[tuple[float, str, tuple[Skip, ...]]]:
    """Send everything through ``part``: (when, where, what it passed over) of each payment. A loses ``loss`` from
    ``lost_from`` on."""
    flying: list[tuple[float, int, Answer]] = []
    payments = [payment(payment_id=f"p{i}") for i in range(len(of.at))]
    for i, (now, latency_s, luck) in enumerate(zip(*of, strict=True)):
        while flying and flying[0][0] <= now:
            _, which, answer = heappop(flying)
            part.observe(payments[which], answer)
        admission = part.admit(view(payments[i], now=now), Luck(i), RANK)
        where = admission.ranked[0].processor
        hit = where == "A" and now >= lost_from
        lost = timeouts + (loss if hit else 0.0)
        latency_s *= slower if hit else 1.0
        outcome: Outcome = "timeout" if luck < lost or latency_s > 30.0 else \
            "unavailable" if luck > 1 - UNAVAILABLE else "approved"
        until = now + (30.0 if outcome == "timeout" else latency_s)
        heappush(flying, (until, i, Answer(1, where, now, until, outcome, None, None)))
        yield now, where, admission.skipped


def monitor(**parameters: Any) -> HealthMonitorFailover:
    return HealthMonitorFailover(HealthMonitor.model_validate(parameters))


def first_diverted(part: HealthMonitorFailover, of: World, begins: float, **what: float) -> float:
    """Seconds from the beginning of the outage to the first payment that goes elsewhere because of it."""
    for now, where, _ in live(part, of, begins, **what):
        if where == "B":
            assert now >= begins, "a false ejection"
            return now - begins
    raise AssertionError("never seen")


@pytest.mark.parametrize("divert_slow", [False, True])
@pytest.mark.parametrize("gap_s", [30.0, 3.0, 0.3])
def test_a_total_outage_is_seen_once_enough_attempts_are_silent(gap_s: float, divert_slow: bool) -> None:
    """Odds of down: prior x (lost / timeouts)^n must pass c / (1 - c); the prior is what began since the last answer.

    Then the n-th lost attempt is silent for longer than is usual: n gaps and a latency, at most its 99.9 % quantile
    and one more gap; where slowness is left alone, longer than is usual when slow (95 %). The breaker needs four gaps
    and 30 s.
    """
    healthy = 2_000
    part, of = monitor(divert_slow=divert_slow), world(f"total {gap_s}", healthy + 300, gap_s, regular=True)
    begins = of.at[healthy] - gap_s / 2
    seen = first_diverted(part, of, begins)
    timeouts = (TIMEOUTS * healthy + 1.0) / (healthy + 100.0)  # as learnt, in expectation
    n = 1
    while BELIEFS.begin_per_s * KINDS[1] * n * gap_s * (DOWN_LOSS * SILENT / timeouts) ** n < 0.98 / 0.02:
        n += 1
    longest_s = MEDIAN_S * (exp(3.1 * SIGMA) if divert_slow else BELIEFS.slow_factor * exp(1.65 * SIGMA))
    assert MEDIAN_S <= seen <= (n + 1) * gap_s + longest_s
    assert seen < 0.75 * (4 * gap_s + 30.0)


def test_a_partial_outage_is_seen_after_as_many_attempts_as_the_evidence_needs() -> None:
    """Wald: attempts to a bound of log-odds ~ bound / mean evidence an attempt, here at 30 % lost where 45 % is
    assumed. The mean of 30 outages must lie within four standard errors, the overshoot of one timeout and the time
    in which a loss is not heard yet (some three attempts) allowed for."""
    gap_s, needed = 3.0, []
    timeouts = (TIMEOUTS * 600 + 1.0) / 700
    for i in range(30):
        part, of = monitor(), world(f"partial {i}", 900, gap_s, regular=True)
        begins = of.at[600] - gap_s / 2
        needed.append(first_diverted(part, of, begins, loss=0.3) / gap_s)
    bound = log(0.98 / 0.02) - log(BELIEFS.begin_per_s * KINDS[0] * gap_s / BELIEFS.partial_loss)
    timeout = log(BELIEFS.partial_loss * SILENT / timeouts)
    drift = 0.3 * timeout + 0.7 * log(1 - BELIEFS.partial_loss)
    slack = 4 * np.std(needed, ddof=1) / len(needed) ** 0.5
    assert bound / drift - slack - timeout / drift <= np.mean(needed) <= (bound + timeout) / drift + slack + 3


@pytest.mark.parametrize(
    ("name", "gap_s", "timeouts", "median_s", "sigma"),
    [("usual", 3.0, 0.005, 1.5, 0.5), ("busy", 0.3, 0.005, 1.5, 0.5), ("thin", 30.0, 0.005, 1.5, 0.5),
     ("many timeouts", 3.0, 0.03, 1.5, 0.5), ("long tail", 3.0, 0.005, 2.0, 1.0),
     ("slow by nature", 3.0, 0.005, 6.0, 0.5)],
)  # fmt: skip
def test_false_ejections_are_rarer_than_one_in_fifty_outages(
    name: str, gap_s: float, timeouts: float, median_s: float, sigma: float
) -> None:
    """With certainty .98 at most 2 % of the ejections may be false, so at one outage in 3 days fewer than 7 in 1,000
    days; here 15,000 payments (from one hour to 5 days) must bring none."""
    part, of = monitor(), world(f"healthy {name}", 15_000, gap_s, False, median_s, sigma)
    assert [now for now, where, _ in live(part, of, timeouts=timeouts) if where != "A"] == []


def test_slowness_is_left_alone_unless_it_is_asked_for() -> None:
    of = world("slow", 1_600, 3.0)
    begins = of.at[1_000]
    assert all(where == "A" for _, where, _ in live(monitor(), of, begins, loss=0.0, slower=4.0))
    went = [(now, why) for now, where, why in live(monitor(divert_slow=True), of, begins, loss=0.0, slower=4.0)
            if where == "B"]
    assert went[0][1] == (Skip("A", SkipReason.SLOW),)
    assert begins < went[0][0] < begins + 60


def test_what_comes_late_from_before_the_end_does_not_count_against_what_came_since() -> None:
    part = monitor()
    for i in range(200):
        about = payment(payment_id=f"w{i}")
        part.admit(view(about, now=ARRIVED_AT + i), Luck(i), RANK)
        part.observe(about, Answer(1, "A", ARRIVED_AT + i, ARRIVED_AT + i + 0.9, "approved", None, None))
    now = ARRIVED_AT + 200.0
    lost = [payment(payment_id=f"l{i}") for i in range(8)]
    for i, about in enumerate(lost):
        part.admit(view(about, now=now + i), Luck(i), RANK[:1])  # alone in its rank, so it is tried whatever is known
    kept = part.admit(view(payment(payment_id="x"), now=now + 12), Luck("x", **{"probe A 0": 0.99}), RANK)
    assert (list(kept.ranked), kept.decision) == ([Choice("B")], "failover")
    assert kept.skipped == (Skip("A", SkipReason.DOWN),)
    for i in range(4):
        about = payment(payment_id=f"g{i}")
        part.admit(view(about, now=now + 13 + i), Luck(i), RANK[:1])
        part.observe(about, Answer(1, "A", now + 13 + i, now + 13.9 + i, "approved", None, None))
    for i, about in enumerate(lost):
        part.observe(about, Answer(1, "A", now + i, now + 30 + i, "timeout", None, None))
    assert part.admit(view(payment(payment_id="y"), now=now + 38), Luck("y"), RANK).decision is None


def test_an_attempt_that_was_never_sent_is_dropped_as_unknown() -> None:
    part = monitor()
    for i in range(20):
        part.admit(view(payment(payment_id=f"never{i}"), now=ARRIVED_AT + i / 10), Luck(i), RANK[:1])
    health = part._health["A"]
    assert health.state(ARRIVED_AT + 20).down > 0.98
    assert health.state(ARRIVED_AT + 40) == pytest.approx(HealthBelief(BELIEFS, ARRIVED_AT).state(ARRIVED_AT + 40))
    about = payment(payment_id="p")
    part.admit(view(about, now=ARRIVED_AT + 41), Luck(), RANK)
    part.observe(about, Answer(1, "A", ARRIVED_AT + 41, ARRIVED_AT + 42, "approved", None, None))
    assert (health._attempts, health._pending) == ([], [])


def test_an_answer_of_another_processor_than_its_choice_is_filed_under_that_one() -> None:
    part = monitor()
    for i in range(6):
        about = payment(payment_id=f"p{i}")
        part.admit(view(about, now=ARRIVED_AT + i), Luck(i), RANK)  # A leads, and the engine takes B
        part.observe(about, Answer(1, "B", ARRIVED_AT + i, ARRIVED_AT + i + 0.5, "unavailable", None, None))
    assert part._health["B"].state(ARRIVED_AT + 7).down > 0.5
    assert part._health["A"].state(ARRIVED_AT + 60).up > 0.99
