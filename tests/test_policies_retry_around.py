"""Parts around a retry part: the budget that bounds its retries, and the reputation that slows or stops them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.catalog import build
from routesim.policies.composed import NO_RETRY, RANK_SPENT
from routesim.policies.listing import listing
from routesim.policies.vocabulary import Answer, Outcome, Payment, Policy, Send, Wait
from tests.policy_world import ARRIVED_AT, AnyDescription, Luck, answer, chain, names, payment, policy, view
from tests.worlds import model_of, poisson_arrivals, simulate, trace_of

ROUTE = [{"to": ["A", "B"]}]
NOW = [{"after": "soft", "max_attempts": 2, "next": "rank"}]
HOUR = 3_600.0


def budgeted(**parameters: Any) -> Policy:
    return policy(route=ROUTE, retry={"budget": {"of": NOW} | parameters})


def first_attempts(router: Policy, number: int, at: float, outcome: Outcome = "approved") -> None:
    for each in range(number):
        router.observe(payment(payment_id=f"first {each}"), answer(1, "A", at, outcome))


def granted(router: Policy, number: int, at: float, initiator: str = "CIT") -> int:
    """How many of so many payments that fail at ``at`` are tried again."""
    asked = (payment(payment_id=f"{initiator} {at} {each}", initiator=initiator) for each in range(number))
    return sum(isinstance(router.decide(view(each, answer(1, "A", at)), Luck()), Send) for each in asked)


def test_retries_are_at_most_the_share_of_first_attempts_and_the_minimum() -> None:
    router = budgeted(share=0.2, minimum=3, reserved=0.0)
    first_attempts(router, 50, ARRIVED_AT)
    assert granted(router, 40, ARRIVED_AT + 1) == 13
    assert granted(router, 40, ARRIVED_AT + 2) == 0


def test_the_window_slides() -> None:
    router = budgeted(share=0.2, minimum=0, reserved=0.0, per="1h")
    first_attempts(router, 50, ARRIVED_AT)
    first_attempts(router, 20, ARRIVED_AT + 0.5 * HOUR)
    assert granted(router, 40, ARRIVED_AT + 0.75 * HOUR) == 14
    assert granted(router, 40, ARRIVED_AT + 1.25 * HOUR) == 0  # 20 first attempts count, and 14 retries too
    assert granted(router, 40, ARRIVED_AT + 3 * HOUR) == 0


def test_merchants_payments_come_first() -> None:
    router = budgeted(share=0.2, minimum=0, reserved=0.5)
    first_attempts(router, 100, ARRIVED_AT)
    assert granted(router, 40, ARRIVED_AT + 1) == 10  # the other half is kept
    assert granted(router, 40, ARRIVED_AT + 2, "MIT") == 10
    router = budgeted(share=0.2, minimum=0, reserved=0.5)
    first_attempts(router, 100, ARRIVED_AT)
    assert granted(router, 16, ARRIVED_AT + 1, "MIT") == 16  # they may use all of it
    assert granted(router, 40, ARRIVED_AT + 2) == 4  # the remainder


def test_a_delayed_retry_is_charged_when_it_is_sent() -> None:
    router = policy(route=ROUTE, retry={"budget": {"of": [{"delay": "2h"}], "minimum": 1, "share": 0.0, "reserved": 0}})
    one, other = payment(payment_id="one"), payment(payment_id="other")
    failed = answer(1, "A", ARRIVED_AT + 1)
    for each in (one, other):
        assert isinstance(router.decide(view(each, failed), Luck()), Wait)
    later = ARRIVED_AT + 1 + 2 * HOUR
    assert isinstance(router.decide(view(one, failed, now=later, waited=True), Luck()), Send)
    assert router.decide(view(other, failed, now=later, waited=True), Luck()) == NO_RETRY


def test_a_spent_rank_costs_no_budget() -> None:
    router = policy(route=[{"to": "A"}], retry={"budget": {"of": NOW, "minimum": 1, "share": 0.0, "reserved": 0}})
    for _ in range(3):
        assert router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 1)), Luck()) == RANK_SPENT


def test_a_storm_is_bounded_through_the_engine() -> None:
    """Everything fails: of 2,000 payments in some hours a fifth is tried again, and the minimum of each window."""
    model = model_of(["A", "B"], approval={"intercept": -30.0})
    trace = trace_of(poisson_arrivals(0.1, 2_000, seed=4))
    rules = [{"after": "soft", "max_attempts": 4, "next": "cycle"}]

    def retries(retry: Any) -> int:
        log = simulate(trace, model, policy(route=ROUTE, retry=retry), outages=[]).log
        return log.attempts.num_rows - len(trace)

    hours = float(trace.arrived_at[-1] - trace.arrived_at[0]) / HOUR
    assert retries(rules) == 3 * 2_000
    bounded = retries({"budget": {"share": 0.2, "minimum": 10, "reserved": 0.0, "of": rules}})
    assert 0.15 * 2_000 < bounded <= 0.2 * 2_000 + 10 * (hours + 1)


# --- reputation

def trusted(**parameters: Any) -> Policy:
    return policy(route=ROUTE, retry={"reputation": {"of": NOW} | parameters})


def hear(router: Policy, processor: str, number: int, attempt: int, outcome: Outcome, at: float = ARRIVED_AT) -> None:
    for _ in range(number):
        router.observe(payment(), answer(attempt, processor, at, outcome))


def test_few_retries_are_not_judged() -> None:
    router = trusted(minimum=20)
    hear(router, "B", 100, 1, "approved")
    hear(router, "B", 19, 2, "declined")
    assert names(router.decide(view(payment(), answer(1, "A", ARRIVED_AT)), Luck())) == ["B"]


def test_retries_that_are_rarely_approved_are_slowed_and_then_stopped() -> None:
    router = trusted(slow_below=0.10, stop_below=0.03, delay_at_least="1h")
    seen = view(payment(), answer(1, "A", ARRIVED_AT))
    hear(router, "B", 300, 1, "approved")
    hear(router, "B", 4, 2, "approved")
    hear(router, "B", 36, 2, "declined")
    assert isinstance(router.decide(seen, Luck()), Send)  # 4 of 40, not below a tenth
    hear(router, "B", 20, 2, "declined")
    assert router.decide(seen, Luck()) == Wait(ARRIVED_AT + HOUR)
    hear(router, "B", 80, 2, "declined")
    assert router.decide(seen, Luck()) == NO_RETRY


def test_too_many_retries_are_slowed_and_then_stopped() -> None:
    router = trusted(slow_above=0.30, stop_above=0.50)
    seen = view(payment(), answer(1, "A", ARRIVED_AT))
    hear(router, "B", 70, 1, "declined")
    hear(router, "B", 30, 2, "approved")
    assert isinstance(router.decide(seen, Luck()), Send)
    hear(router, "B", 10, 2, "approved")
    assert isinstance(router.decide(seen, Luck()), Wait)
    hear(router, "B", 31, 2, "approved")
    assert router.decide(seen, Luck()) == NO_RETRY


def test_a_stopped_processor_is_passed_over_for_another() -> None:
    router = policy(route=[{"to": ["A", "B", "C"]}], retry={"reputation": {"of": NOW}})
    hear(router, "B", 100, 1, "approved")
    hear(router, "B", 60, 2, "declined")
    assert names(router.decide(view(payment(), answer(1, "A", ARRIVED_AT)), Luck())) == ["C"]


def test_a_slowed_delay_is_multiplied_and_sent_when_it_has_passed() -> None:
    inner = [{"after": "soft", "max_attempts": 3, "delay": "6h"}]
    router = policy(route=ROUTE, retry={"reputation": {"of": inner, "delay_factor": 3.0}})
    hear(router, "B", 200, 1, "approved")
    hear(router, "B", 60, 2, "declined")
    hear(router, "B", 4, 2, "approved")
    failed = answer(1, "A", ARRIVED_AT)
    assert router.decide(view(payment(), failed), Luck()) == Wait(ARRIVED_AT + 18 * HOUR)
    woken = view(payment(), failed, now=ARRIVED_AT + 18 * HOUR, waited=True)
    assert names(router.decide(woken, Luck())) == ["B"]


def slowed(inner: Any, predictor: Any = None) -> Policy:
    """A, then B and C; of B's 64 retries 4 were approved, which slows the next."""
    described = AnyDescription.validate_python({
        "route": [{"to": ["A", "B", "C"]}], "retry": {"reputation": {"of": inner, "half_life": "999d"}}})
    router = build(described, predictor=(lambda: predictor) if predictor is not None else None)()
    hear(router, "B", 300, 1, "approved", ARRIVED_AT - 1)
    hear(router, "B", 60, 2, "declined", ARRIVED_AT - 1)
    hear(router, "B", 4, 2, "approved", ARRIVED_AT - 1)
    return router


class Foreseen:
    """Foresees B, and a little less C, approved at any time; A never."""

    def prediction(self, payment: Payment, answers: Sequence[Answer]) -> Foreseen:
        return self

    def approval(self, processor: str, at: float) -> float:
        return {"A": 0.0, "B": 0.5, "C": 0.4}[processor]

    def soft_failure(self, processor: str, at: float) -> tuple[float, Foreseen]:
        return 1 - self.approval(processor, at), self


LADDER = {"days": [1], "next": "rank"}
PREDICTED = {"max_attempts": 2, "delays": ["3s"]}


@pytest.mark.parametrize(
    ("inner", "initiator", "after_s"),
    [
        ([{"delay": "3s"}], "CIT", HOUR),  # no bound: at least an hour
        ([{"delay": "3s", "within": "3601s"}], "CIT", HOUR),  # the answer comes a second after the arrival
        ([{"delay": "3s", "within": "3600s"}], "CIT", None),
        ([{"delay": "3s", "within": "1m"}], "CIT", None),
        ({"ladder": LADDER}, "MIT", 4 * 24 * HOUR),
        ({"ladder": LADDER | {"within": "5d"}}, "MIT", 4 * 24 * HOUR),
        ({"ladder": LADDER | {"within": "4d"}}, "MIT", None),
        ({"ladder": LADDER | {"else": [{"delay": "3s", "within": "1m"}]}}, "CIT", None),
        ({"predicted": PREDICTED}, "CIT", HOUR),
        ({"predicted": PREDICTED | {"within": "1m"}}, "CIT", None),
        ({"predicted": PREDICTED | {"within": "1m"}}, "MIT", None),
        ({"predicted": PREDICTED | {"customer_delay": "1h"}}, "CIT", HOUR),
        ({"predicted": PREDICTED | {"customer_delay": "59m"}}, "CIT", None),
        ({"predicted": PREDICTED | {"customer_delay": "59m"}}, "MIT", HOUR),
        ({"predicted": PREDICTED | {"when": {"bank": "x"}, "else": [{"delay": "3s", "within": "1m"}]}}, "CIT", None),
        ({"budget": {"of": [{"delay": "3s", "within": "1m"}]}}, "CIT", None),
        ({"reputation": {"of": [{"delay": "3s", "within": "1m"}], "minimum": 1e9}}, "CIT", None),
    ],
)
def test_nothing_is_slowed_beyond_what_the_inner_part_allows(inner: Any, initiator: str, after_s: float | None) -> None:
    """Where B's slowed retry would be too late it is C's turn, at the moment that was planned."""
    sent = chain(slowed(inner, Foreseen()), payment(initiator=initiator), ["declined", "approved"])
    planned_s = 24 * HOUR if isinstance(inner, dict) and "ladder" in inner and initiator == "MIT" else 3.0
    expected = ("B", after_s) if after_s is not None else ("C", planned_s)
    assert [(processor, at - ARRIVED_AT - 1.0) for processor, at in sent[1:]] == [expected]


def test_a_payment_whose_only_retry_would_be_slowed_too_far_is_given_up() -> None:
    router = slowed([{"delay": "3s", "within": "1m", "next": "same"}])
    assert router.decide(view(payment(), answer(1, "B", ARRIVED_AT + 1)), Luck()) == NO_RETRY
    unbounded = slowed([{"delay": "3s", "next": "same"}])
    assert unbounded.decide(view(payment(), answer(1, "B", ARRIVED_AT + 1)), Luck()) == Wait(ARRIVED_AT + 1 + HOUR)


def test_the_past_fades() -> None:
    """60 declined retries of weight 1 weigh 15 after two half-lives, which is too little to judge."""
    router = trusted(half_life="6h", minimum=20)
    hear(router, "B", 100, 1, "approved")
    hear(router, "B", 60, 2, "declined")
    stopped = view(payment(), answer(1, "A", ARRIVED_AT + 9 * HOUR))
    assert router.decide(stopped, Luck()) == NO_RETRY
    assert isinstance(router.decide(view(payment(), answer(1, "A", ARRIVED_AT + 12 * HOUR)), Luck()), Send)


def test_parts_nest_and_hear_through_each_other() -> None:
    nested = {"budget": {"minimum": 50, "of": {"reputation": {"of": {"ladder": {"days": [1], "next": "rank"}}}}}}
    router = policy(route=ROUTE, retry=nested)
    hear(router, "B", 300, 1, "approved")
    hear(router, "B", 100, 2, "declined")
    assert len(chain(router, payment(initiator="MIT"), ["declined"] * 3)) == 1
    described = AnyDescription.validate_python({"route": ROUTE, "retry": nested})
    assert AnyDescription.validate_python(described.plain()) == described


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ({"budget": {}}, "Field required"),
        ({"budget": {"of": "laddder"}}, "did you mean 'ladder'"),
        ({"budget": {"of": {"ladder": {"name": "strype"}}}}, "did you mean 'stripe'"),
        ({"budget": {"of": NOW, "shares": 0.2}}, "did you mean 'share'"),
        ({"budget": {"of": NOW, "reserved": 2.0}}, "less than or equal to 1"),
        ({"reputation": {"of": [{"after": "sofft"}]}}, "did you mean 'soft'"),
        ({"reputation": {"of": NOW, "stop_below": 0.5}}, "must not lie above"),
        ({"reputation": {"of": NOW, "stop_above": 0.1}}, "must not lie below"),
    ],
)
def test_refused(retry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AnyDescription.validate_python({"route": ROUTE, "retry": retry})


def test_every_part_tells_its_parameters_and_source() -> None:
    told = {each.name: each for each in listing() if each.kind == "retry"}
    assert {"none", "rules", "ladder", "predicted", "budget", "reputation"} == set(told)
    assert Counter(name for name, *_ in told["budget"].parameters)["of"] == 1
    assert [name for name, *_ in told["ladder"].parameters][-1] == "else"
    assert all(doc for each in told.values() for *_, doc in each.parameters)
    assert "Finagle" in told["budget"].source
