"""The card networks' limits on reattempts: counted right over payments, amounts and windows, refused or priced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routesim.policies.vocabulary import Choice, Fee, Refusal, Send
from routesim.reports.metrics.measure import measure
from routesim.sim import network_rules as module
from routesim.sim.engine import REATTEMPT_AFTER_HARD_DECLINE, Simulated
from routesim.sim.model import Code
from routesim.sim.network_rules import ReattemptCounts, network_rules
from tests import logs
from tests.policy_world import payment
from tests.worlds import START, InOrder, model_of, simulate, trace_of

H, DAY = 3600.0, 86_400.0
ADVISED = {"05": Code(), "03": Code(merchant_advice="03"), "21": Code(merchant_advice="21"), "51": Code()}


def at(day: str) -> float:
    """Noon of a day, UTC."""
    return datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()


def declining(brand: str = "visa", codes: dict[str, Any] | None = None, code: str = "05") -> Any:
    """A world in which every attempt is declined with ``code``, after one second."""
    model = model_of(["A", "B"], approval={"intercept": -100.0}, judgement_codes={"": {code: 1.0}})
    return type(model).model_validate(model.model_dump() | {"codes": codes or {code: {}}})


def attempts_by_payment(done: Simulated) -> list[int]:
    counted = dict.fromkeys(done.log.payments["payment_id"].to_pylist(), 0)
    for each in done.log.attempts["payment_id"].to_pylist():
        counted[each] += 1
    return [counted[name] for name in sorted(counted)]


# --- the data


def test_every_rule_tells_its_source_and_its_dates_ascend() -> None:
    rules = network_rules().rules
    assert len({rule.rule for rule in rules}) == len(rules)
    for rule in rules:
        assert all(rule.source)
        for dated in (rule.limits, rule.fees):
            days = [each.from_ for each in dated]
            assert None not in days[1:]
            told = [day for day in days if day is not None]
            assert told == sorted(set(told))


@pytest.mark.parametrize(("day", "limit", "fee"), [
    ("2021-03-31", None, None), ("2021-04-01", 15, 0.0), ("2022-04-02", 15, 0.10), ("2025-05-24", 15, 0.10),
    ("2025-05-25", 20, 0.10), ("2026-01-05", 20, 0.10),
])
def test_visa_limit_and_fee_are_those_of_the_day(day: str, limit: int | None, fee: float | None) -> None:
    counts, of, now = ReattemptCounts({}), payment(card_brand="visa"), at(day)
    for made in range(25):  # `made` attempts were declined, the first of them no reattempt
        found = counts.breach(of, 1, now)
        if limit is None or made <= limit:
            assert found is None
        else:
            assert found == ("visa_reattempt_limit", fee)
        counts.answered(of, 1, "declined", "51", now)


@pytest.mark.parametrize(("day", "limit", "fee"), [
    ("2022-09-30", 20, 0.0), ("2022-10-01", 10, 0.10), ("2023-10-31", 10, 0.10), ("2023-11-01", 10, 0.15),
    ("2024-06-01", 10, 0.30), ("2024-12-31", 10, 0.30), ("2025-01-01", 10, 0.50),
])
def test_mastercard_daily_limit_and_fee_are_those_of_the_day(day: str, limit: int, fee: float) -> None:
    counts, of, now = ReattemptCounts({}), payment(card_brand="mastercard"), at(day)
    for made in range(25):
        found = counts.breach(of, 1, now)
        assert found == (None if made < limit else ("mastercard_declines_in_a_row", fee))
        counts.answered(of, 1, "unavailable", "96", now)


# --- the counting


class Naive:
    """The rules in force in 2026, worked out from the whole history of a card each time."""

    def __init__(self) -> None:
        self.past: list[tuple[float, str, float, str, str | None]] = []

    def forbidden(self, brand: str, amount: float, now: float) -> str | None:
        same = [each for each in self.past if each[2] == amount]
        bad = ("declined", "unavailable")
        if brand == "visa":
            if any(outcome in bad and code in ("41", "57") for _, _, _, outcome, code in same):
                return "visa_never_reattempt"
            chain: list[float] = []
            for when, _, _, outcome, _ in same:
                if outcome == "approved" or (outcome in bad and chain and when - chain[-1] >= 30 * DAY):
                    chain = []
                if outcome in bad:
                    chain.append(when)
            again = [when for when in chain[1:] if when > now - 30 * DAY]
            return "visa_reattempt_limit" if len(again) >= 20 else None
        if any(outcome in bad and code in ("03", "21") and when > now - 30 * DAY for when, _, _, outcome, code in same):
            return "mastercard_never_reattempt"
        row: list[float] = []
        for when, _, _, outcome, _ in self.past:
            row = [] if outcome == "approved" else [*row, when] if outcome in bad else row
        if sum(when > now - DAY for when in row) >= 10:
            return "mastercard_declines_in_a_row"
        month = [when for when, _, _, outcome, _ in same if outcome in bad and when > now - 30 * DAY]
        return "mastercard_reattempt_limit" if len(month) >= 35 else None


STEPS = st.lists(st.tuples(
    st.sampled_from([60.0, 600.0, 2 * H, 3 * H, 10 * H, DAY, 2 * DAY, 29 * DAY, 30 * DAY]),
    st.sampled_from([50.0, 50.0, 50.0, 80.0]),
    st.sampled_from(["declined"] * 12 + ["unavailable", "timeout", "refused", "approved"]),
    st.sampled_from(["51"] * 30 + ["41", "57", "03", "21"]),
), min_size=30, max_size=120)


@pytest.mark.parametrize("brand", ["visa", "mastercard"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=STEPS)
def test_counts_agree_with_the_whole_history(brand: str, steps: list[tuple[float, float, str, str]]) -> None:
    counts, naive, now = ReattemptCounts(ADVISED), Naive(), START
    for gap, amount, outcome, code in steps:
        now += gap
        of = payment(card_brand=brand, amount_usd=amount)
        found = counts.breach(of, 1, now)
        assert (found.rule if found else None) == naive.forbidden(brand, amount, now)
        said = code if outcome == "declined" else None
        counts.answered(of, 1, outcome, said, now)  # type: ignore[arg-type]
        naive.past.append((now, brand, amount, outcome, said))


def test_other_cards_merchants_and_amounts_count_apart() -> None:
    counts = ReattemptCounts({})
    of = payment(card_brand="visa", card_token=None)
    for _ in range(21):
        counts.answered(of, 1, "declined", "51", START)
    assert counts.breach(of, 1, START)
    assert not counts.breach(of, 2, START)
    for fields in ({"merchant_id": "other"}, {"amount_usd": 50.01}, {"card_token": "t1"}):
        assert not counts.breach(payment(**{"card_brand": "visa", "card_token": None} | fields), 1, START)
    # a token is the card, whatever order it is used in
    for card in range(21):
        counts.answered(payment(card_brand="visa", card_token="t9"), card, "declined", "51", START)
    assert counts.breach(payment(card_brand="visa", card_token="t9"), 99, START)


@pytest.mark.parametrize("brand", ["amex", None, "discover"])
def test_networks_without_a_published_limit_have_none(brand: str | None) -> None:
    counts, of = ReattemptCounts({}), payment(card_brand=brand)
    for _ in range(200):
        counts.answered(of, 1, "declined", "41", START)
    assert counts.breach(of, 1, START) is None


def test_cards_are_forgotten_when_their_windows_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_AFTER", 100)
    counts = ReattemptCounts({})
    for number in range(20_000):  # a card every ten minutes, for 139 days
        of = payment(card_brand="mastercard", card_token=f"t{number}")
        counts.answered(of, number, "declined", "51", START + number * 600.0)
    held = len(counts._declined)
    assert 30 * 144 <= held <= 3 * 30 * 144  # the cards of 30 days, at 144 a day, and not all 20,000
    assert all(len(count.chains) <= held for count in counts._by_network["mastercard"])


# --- the engine


@pytest.mark.parametrize(("brand", "delay_s", "made", "rule", "fee"), [
    ("visa", H, 21, "visa_reattempt_limit", 0.10),
    ("mastercard", 60.0, 10, "mastercard_declines_in_a_row", 0.50),
    ("mastercard", 2.8 * H, 35, "mastercard_reattempt_limit", 0.50),
])
def test_the_engine_refuses_prices_or_lets_go(brand: str, delay_s: float, made: int, rule: str, fee: float) -> None:
    trace, policy = trace_of([0.0], card_brand=brand), InOrder(("A", "B"), attempts=40, delay_s=delay_s)
    for mode, sent in (("enforce", made), ("priced", 40), ("off", 40)):
        done = simulate(trace, declining(), policy, network_rules=mode)
        assert attempts_by_payment(done) == [sent]
        assert dict(done.refusals) == ({Refusal(rule): 1} if mode == "enforce" else {})
        breaches = 40 - made if mode == "priced" else 0
        assert done.log.attempts["network_rule"].to_pylist() == [None] * (sent - breaches) + [rule] * breaches
        found = measure(done.log, outages=logs.outages(), fees={"A": Fee(declined_usd=0.02)}).figures
        assert found["network_breaches"] == breaches
        assert found["network_fees_usd"] == pytest.approx(breaches * fee)
        assert found["cost_usd"] == pytest.approx(breaches * fee + 0.02 * -(-sent // 2))


def test_no_rule_stops_what_stays_within_it() -> None:
    for brand, attempts, delay_s in (("visa", 21, H), ("mastercard", 10, 60.0), ("amex", 40, 60.0)):
        done = simulate(trace_of([0.0], card_brand=brand), declining(), InOrder(("A",), attempts, delay_s),
                        network_rules="enforce")
        assert attempts_by_payment(done) == [attempts]
        assert not done.refusals


def test_payments_of_one_card_share_its_limits() -> None:
    """Thirty payments of the merchant's own, an hour apart: with one card all but 21 are stopped, with two cards in
    turn none is. What a customer tries with a new payment goes out all the same, and is a breach."""
    hours = [i * H for i in range(30)]
    one = simulate(trace_of(hours, card_token="t", merchant_id="m", initiator="MIT"), declining(), InOrder(("A",)),
                   network_rules="enforce")
    assert attempts_by_payment(one) == [1] * 21 + [0] * 9
    assert dict(one.refusals) == {Refusal("visa_reattempt_limit"): 9}
    tokens = ["t" if i % 2 else "u" for i in range(30)]
    two = simulate(trace_of(hours, card_token=tokens, merchant_id="m", initiator="MIT"), declining(), InOrder(("A",)),
                   network_rules="enforce")
    assert attempts_by_payment(two) == [1] * 30
    customers = simulate(trace_of(hours, card_token="t", merchant_id="m"), declining(), InOrder(("A",)),
                         network_rules="enforce")
    assert attempts_by_payment(customers) == [1] * 30
    assert not customers.refusals
    assert customers.log.attempts["network_rule"].to_pylist() == [None] * 21 + ["visa_reattempt_limit"] * 9


def test_who_comes_back_with_the_same_card_is_counted_on_and_with_another_afresh() -> None:
    """No tokens here: the engine's own identity of the card decides."""
    for same, second in ((1.0, 1), (0.0, 10)):
        model = declining()
        model = type(model).model_validate(model.model_dump() | {"comebacks": {
            "probability": {"": 1.0}, "delay_min": {"family": "constant", "value": 5.0}, "same_card_share": same}})
        done = simulate(trace_of([0.0], card_brand="mastercard"), model, InOrder(("A",), 10, 60.0),
                        network_rules="enforce")
        assert attempts_by_payment(done) == [10, second]


def test_a_category_1_decline_is_never_followed_though_the_model_calls_it_soft() -> None:
    policy = InOrder(("A", "B"), attempts=3, delay_s=60.0)
    done = simulate(trace_of([0.0, 40 * DAY], card_token="t"), declining(code="57"), policy, network_rules="enforce")
    assert attempts_by_payment(done) == [1, 1]  # for ever: a customer may try anew, the router not again
    assert dict(done.refusals) == {Refusal("visa_never_reattempt"): 2}
    other = simulate(trace_of([0.0], card_brand="mastercard"), declining(code="57"), policy, network_rules="enforce")
    assert attempts_by_payment(other) == [3]


@pytest.mark.parametrize(("advice", "made"), [("03", 1), ("21", 1), ("02", 3), (None, 3)])
def test_mastercards_advice_never_to_try_again_binds(advice: str | None, made: int) -> None:
    model = declining(codes={"05": {"merchant_advice": advice}})
    policy = InOrder(("A", "B"), attempts=3, delay_s=60.0)
    done = simulate(trace_of([0.0], card_brand="mastercard"), model, policy, network_rules="enforce")
    assert attempts_by_payment(done) == [made]


def test_a_hard_decline_is_refused_in_every_mode() -> None:
    class Again(InOrder):
        def decide(self, view: Any, draw: Any) -> Any:
            return Send((Choice("A"),))

    for mode in ("enforce", "priced", "off"):
        model = declining(codes={"05": {"kind": "hard"}})
        done = simulate(trace_of([0.0]), model, Again(("A",)), network_rules=mode)
        assert attempts_by_payment(done) == [1]
        assert dict(done.refusals) == {REATTEMPT_AFTER_HARD_DECLINE: 1}


def test_what_is_refused_in_the_warm_up_counts_in_no_figure() -> None:
    done = simulate(trace_of([0.0], warm_up=True, card_brand="mastercard"), declining(), InOrder(("A",), 12, 60.0),
                    network_rules="enforce")
    assert attempts_by_payment(done) == [10]
    assert not done.refusals
