"""What the model predicts of one payment: as the filter over a whole history does, and as often as it then happens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from routesim.calibration.check.predictions import predict
from routesim.calibration.issuer.likelihood import FINE_NODES
from routesim.calibration.sequences import sequences
from routesim.policies.vocabulary import Answer, Payment
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import AttemptLog
from routesim.sim.model import Model, World
from routesim.sim.predictor import ModelPredictor
from routesim.sim.trace import CHUNK, Trace, seconds
from tests.worlds import InOrder, model_of, poisson_arrivals, simulate, trace_of

PAYMENTS = 5_000


@cache
def world_and_log() -> tuple[Model, Trace, AttemptLog]:
    """Two processors, an account that fills, a card that is dead, a strong frailty; up to four attempts 9 h apart."""
    model = model_of({"A": {"technical": {"96": 0.03, "TO": 0.02}}, "B": {"technical": {"96": 0.01}}},
                     frailty_sd=1.2, repeat=-0.4, repeat_codes=["05"],
                     approval={"intercept": 0.6, "terms": [
                         {"by": ["processor"], "effects": {"A": 0.0, "B": -0.4}},
                         {"by": ["initiator"], "effects": {"CIT": 0.5, "MIT": -0.5}}]},
                     judgement_codes={"": {"05": 0.7, "14": 0.1, "51": 0.2}},
                     blocks={"funds": {"codes": {"51": 1.0}, "odds": {"intercept": -1.5}, "recovers_share": 0.8,
                                       "recovers_h": {"family": "weibull", "scale": 20.0, "shape": 0.8}},
                             "dead": {"codes": {"14": 0.5, "05": 0.5}, "odds": {"intercept": -3.0}}})
    trace = trace_of(poisson_arrivals(0.02, PAYMENTS, seed=2), initiator=["CIT", "MIT"] * (PAYMENTS // 2))
    log = simulate(trace, model, InOrder(("A", "B", "B", "A"), attempts=4, delay_s=9 * 3600.0), outages=[]).log
    return model, trace, log


def payment_of(trace: Trace, row: int) -> Payment:
    return trace.payments(row // CHUNK)[row % CHUNK]


def histories(log: AttemptLog) -> list[tuple[int, list[Answer]]]:
    """The row and the answers of each payment of a log."""
    columns = {name: log.attempts[name].to_pylist() for name in
               ("payment_id", "attempt_number", "processor", "outcome", "decline_code", "decline_kind")}
    sent, answered = seconds(log.attempts["sent_at"]).tolist(), seconds(log.attempts["answered_at"]).tolist()
    found: dict[str, list[Answer]] = {}
    for i, name in enumerate(columns["payment_id"]):
        found.setdefault(name, []).append(Answer(
            columns["attempt_number"][i], columns["processor"][i], sent[i], answered[i], columns["outcome"][i],
            columns["decline_code"][i], columns["decline_kind"][i]))
    return [(int(name[1:]), sorted(answers)) for name, answers in found.items()]


def test_it_agrees_with_the_filter_over_a_history() -> None:
    model, trace, log = world_and_log()
    informative = np.array([outcome != "timeout" for outcome in log.attempts["outcome"].to_pylist()])
    data = sequences(log, trace, informative)
    model = model.model_copy(deep=True)
    model.processors["A"].technical = {"96": 0.03}  # the history's filter leaves timeouts out of the question
    expected = predict(World(model), data)[:, 0]
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace, nodes=FINE_NODES)
    answers = dict(histories(log))
    compared = later = 0
    for first, last in zip(data.start[:-1], data.start[1:], strict=True):
        row = int(data.payment[first])
        for place in range(first, last):
            before = [a for a in answers[row] if a.sent_at < data.sent_at[place] - 1e-3]
            found = predictor.probability(payment_of(trace, row), before, data.processors[data.processor[place]],
                                          float(data.sent_at[place]))
            assert found == pytest.approx(expected[place], abs=1e-6)
            compared += 1
            later += len(before) >= 2
    assert compared > PAYMENTS
    assert later > 500


def test_what_it_foresees_happens_as_often() -> None:
    """In the world of the model itself: of the attempts predicted alike the share approved is within 3.5 s.e. of it."""
    model, trace, log = world_and_log()
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace)
    predicted: list[tuple[float, bool]] = []
    for row, answers in histories(log):
        for number in range(1, len(answers)):
            asked = answers[number]
            p = predictor.probability(payment_of(trace, row), answers[:number], asked.processor, asked.sent_at)
            predicted.append((p, asked.outcome == "approved"))
    p, happened = np.array([each[0] for each in predicted]), np.array([each[1] for each in predicted])
    edges = np.quantile(p, np.linspace(0, 1, 9))
    for low, high in pairwise(edges.tolist()):
        inside = (p >= low) & (p <= high)
        spread = np.sqrt((p[inside] * (1 - p[inside])).sum())
        assert abs((happened[inside] - p[inside]).sum()) < 3.5 * spread
    assert edges[-2] - edges[1] > 0.15  # the bins tell payments apart


def test_a_soft_failure_and_what_comes_after_it() -> None:
    """P(soft failure at A now, then approved at B a day later) by the look-ahead, against the log's frequency."""
    model, trace, _ = world_and_log()
    log = simulate(trace, model, InOrder(("A", "B"), attempts=2, delay_s=24 * 3600.0), outages=[]).log
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace)
    expected = spread = happened = soft = 0.0
    for row, answers in histories(log):
        payment = payment_of(trace, row)
        failure, then = predictor.prediction(payment, []).soft_failure("A", payment.arrived_at)
        p = failure * then.approval("B", payment.arrived_at + 86_400)
        expected += p
        soft += failure
        spread += p * (1 - p)
        happened += len(answers) == 2 and answers[1].outcome == "approved"
    assert abs(happened - expected) < 3.5 * np.sqrt(spread)
    failed_softly = sum(answers[0].outcome != "approved" and answers[0].decline_kind != "hard"
                        for _, answers in histories(log))
    assert abs(failed_softly - soft) < 3.5 * np.sqrt(soft)


def test_more_nodes_change_little() -> None:
    model, trace, log = world_and_log()
    decisions = IssuerDecisions(World(model), trace)
    usual, fine = ModelPredictor(decisions, trace), ModelPredictor(decisions, trace, nodes=41)
    worst = max(abs(usual.probability(payment_of(trace, row), answers[:1], "B", answers[0].answered_at + 1)
                    - fine.probability(payment_of(trace, row), answers[:1], "B", answers[0].answered_at + 1))
                for row, answers in histories(log)[:500])
    assert worst < 0.002


def outlooks(predictor: ModelPredictor, payment: Payment, answers: Sequence[Answer]) -> list[float]:
    return [predictor.probability(payment, answers, name, payment.arrived_at + 60.0) for name in "AB"]


def test_a_comeback_is_foreseen_by_the_payment_that_it_follows_and_a_stranger_by_the_average() -> None:
    model, trace, _ = world_and_log()
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace)
    known = payment_of(trace, 4)
    back = trace.comeback_payment(4, "p0000004+1", known, known.arrived_at)
    assert outlooks(predictor, back, []) == outlooks(predictor, known, [])
    stranger = trace.comeback_payment(4, "unheard of", known, known.arrived_at)
    stranger.previous_payment_id = "neither"
    one, other = (outlooks(predictor, payment_of(trace, row), [])[0] for row in (4, 5))
    assert min(one, other) < outlooks(predictor, stranger, [])[0] < max(one, other)


def test_an_answer_that_no_state_explains_changes_nothing() -> None:
    model, trace, _ = world_and_log()
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace)
    payment = payment_of(trace, 0)
    at = payment.arrived_at
    fresh = outlooks(predictor, payment, [])
    for outcome, code in (("declined", "77"), ("timeout", None), ("declined", None)):
        odd = Answer(1, "A", at, at + 1, outcome, code, "soft")  # type: ignore[arg-type]
        assert outlooks(predictor, payment, [odd]) == pytest.approx(fresh)
    assert outlooks(predictor, payment, [Answer(1, "A", at, at + 1, "declined", "51", "soft")])[0] < fresh[0] - 0.2


def test_answers_of_another_policy_are_not_mixed_up() -> None:
    model, trace, _ = world_and_log()
    predictor = ModelPredictor(IssuerDecisions(World(model), trace), trace)
    payment = payment_of(trace, 0)
    at = payment.arrived_at
    first = outlooks(predictor, payment, [Answer(1, "A", at, at + 1, "declined", "05", "soft")])
    second = outlooks(predictor, payment, [Answer(1, "B", at, at + 1, "declined", "05", "soft")])
    assert first != second
    assert outlooks(predictor, payment, [Answer(1, "A", at, at + 1, "declined", "05", "soft")]) == first
