"""The merchant's own router, as tables: its shares, retries and delays recovered, and the two ends of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from routesim.calibration.logged import first_choice_agreement, fit_logged
from routesim.policies.logged import Logged, LoggedTables
from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View, Wait
from routesim.sim.log import AttemptLog
from routesim.sim.trace import seconds
from tests.worlds import START, model_of, poisson_arrivals, simulate, trace_of

N, DAYS = 12_000, 14
SHARE_A = {"MXN": 0.8, "USD": 0.3}
RETRY = {"51": 0.6, "05": 0.3}
DAY = 86_400.0


@dataclass
class Router:
    """First to A by shares of the currency; a retry elsewhere by the code, MIT a day and more later, CIT soon."""

    def decide(self, view: View, draw: Draw) -> Action:
        payment = view.payment
        if not view.answers:
            return Send((Choice("A" if draw.uniform("first") < SHARE_A[payment.currency] else "B"),))
        last = view.answers[-1]
        if len(view.answers) > 1 or draw.uniform("retry") >= RETRY[last.decline_code or "05"]:
            return Stop()
        if not view.waited:
            u = draw.uniform("delay")
            delay_s = 5 + 10 * u if payment.initiator == "CIT" else DAY * (1 + u)
            return Wait(view.now + delay_s)
        return Send((Choice("B" if last.processor == "A" else "A"),), "retry")

    def observe(self, payment: Payment, answer: Answer) -> None:
        pass


def history(policy: object, seed: int, known_first: list[str] | None = None) -> AttemptLog:
    random = np.random.default_rng(1)
    trace = trace_of(poisson_arrivals(N / (DAYS * DAY), N, seed=2), currency=random.choice(["MXN", "USD"], N).tolist(),
                     initiator=random.choice(["CIT", "MIT"], N).tolist(), logged_processor=known_first)
    model = model_of(["A", "B"], approval={"intercept": 0.0}, judgement_codes={"": {"05": 0.5, "51": 0.5}})
    return simulate(trace, model, policy, seed=seed).log


def cut(log: AttemptLog, end: float) -> AttemptLog:
    """What a copy of the database at ``end`` holds."""
    kept = seconds(log.attempts["answered_at"]) < end
    attempts = log.attempts.filter(kept)
    ids = set(attempts["payment_id"].to_pylist())
    return AttemptLog(log.payments.filter(np.array([i in ids for i in log.payments["payment_id"].to_pylist()])),
                      attempts)


@pytest.fixture(scope="module")
def log() -> AttemptLog:
    return cut(history(Router(), seed=3), START + DAYS * DAY)


@pytest.fixture(scope="module")
def tables(log: AttemptLog) -> LoggedTables:
    return fit_logged(log, START + DAYS * DAY)


def cells(levels: list, *by: str) -> dict:  # type: ignore[type-arg]
    return {cell.key: cell for level in levels if tuple(level.by) == by for cell in level.cells}


def test_first_choices_are_recovered(tables: LoggedTables) -> None:
    for (currency,), cell in cells(tables.first, "currency").items():
        p = SHARE_A[currency]
        assert abs(cell.shares["A"] - p) < 3.5 * np.sqrt(p * (1 - p) / cell.rows)
    assert set(cells(tables.first, "currency")) == {("MXN",), ("USD",)}


def test_retries_are_recovered_though_the_window_cuts_the_last_days(log: AttemptLog, tables: LoggedTables) -> None:
    found = cells(tables.retries, "initiator", "decline_code", "attempt_number")
    for initiator in ("CIT", "MIT"):
        for code, p in RETRY.items():
            cell = found[initiator, code, 1]
            assert abs(cell.probability - p) < 3.5 * np.sqrt(p * (1 - p) / cell.rows), (initiator, code)
            delays = np.array(cell.delays_s)
            low, high = (5, 15) if initiator == "CIT" else (DAY, 2 * DAY)
            assert delays[0] == pytest.approx(low, rel=0.05)
            assert delays[-1] == pytest.approx(high, rel=0.05)
            assert delays[5] == pytest.approx((low + high) / 2, rel=0.06)
            assert found[initiator, code, 2].probability == 0
    # Both wrong ways are seen: to count all that was not followed yet, or to keep of the last days only what was.
    frame = log.attempts.to_pandas().sort_values(["payment_id", "attempt_number"])
    frame["followed"] = frame.groupby("payment_id")["processor"].shift(-1).notna()
    frame["initiator"] = np.array(log.payments["initiator"].to_pylist())[
        log.payments["payment_id"].to_pandas().searchsorted(frame["payment_id"])]
    late = (frame["initiator"] == "MIT") & (frame["decline_code"] == "51") & (frame["attempt_number"] == 1)
    all_of_them = frame.loc[late, "followed"]
    se = np.sqrt(0.6 * 0.4 / late.sum())
    assert all_of_them.mean() < 0.6 - 2.5 * se
    ends = (START + DAYS * DAY - frame["answered_at"].astype("int64") / 1e6) > 2 * DAY
    only_followed = frame.loc[late & (frame["followed"] | ends), "followed"]
    settled = frame.loc[late & ends, "followed"]
    assert only_followed.mean() > settled.mean() + 0.005  # of the last two days, a quarter is all successes


def test_next_choices_are_elsewhere(tables: LoggedTables) -> None:
    assert {key[0]: cell.shares for key, cell in cells(tables.next, "processor").items()} == {
        "A": {"B": 1.0}, "B": {"A": 1.0}}
    assert tables.max_attempts == 2


def test_the_fitted_router_makes_the_same_history(log: AttemptLog, tables: LoggedTables) -> None:
    """Replayed with other luck: the shares, retries and approvals of the original, within their errors."""
    again = cut(history(Logged(tables), seed=9), START + DAYS * DAY)
    for name in ("processor", "outcome"):
        for value in ("A", "approved"):
            if value not in log.attempts[name].to_pylist():
                continue
            one, other = (np.mean(np.array(x.attempts[name].to_pylist()) == value) for x in (log, again))
            n = min(log.attempts.num_rows, again.attempts.num_rows)
            assert abs(one - other) < 3.5 * np.sqrt(2 * one * (1 - one) / n)
    ratio = [x.attempts.num_rows / x.payments.num_rows for x in (log, again)]
    assert abs(ratio[0] - ratio[1]) < 3.5 * np.sqrt(2 * 0.25 / N)


def test_agreement_is_the_largest_share_of_a_router_that_splits(log: AttemptLog) -> None:
    expected = (SHARE_A["MXN"] + 1 - SHARE_A["USD"]) / 2
    assert abs(first_choice_agreement(log) - expected) < 3.5 * np.sqrt(expected * (1 - expected) / (N / 2))


def test_a_router_of_rules_is_predicted_wholly() -> None:
    @dataclass
    class Rules(Router):
        def decide(self, view: View, draw: Draw) -> Action:
            if not view.answers:
                return Send((Choice("A" if view.payment.currency == "MXN" else "B"),))
            return Stop()

    assert first_choice_agreement(history(Rules(), seed=4)) == 1.0


def test_where_history_knows_the_first_choice_it_is_replayed(tables: LoggedTables) -> None:
    known = np.random.default_rng(8).choice(["A", "B"], N).tolist()
    frame = history(Logged(tables), 5, known).attempts.to_pandas()
    first = frame[frame["attempt_number"] == 1].sort_values("payment_id")["processor"].tolist()
    assert first == known
