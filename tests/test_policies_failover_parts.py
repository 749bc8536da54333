"""The failover parts of the field, each against its documented state machine, and what all of them must keep."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from routesim.policies.catalog import PARTS, describe_part
from routesim.policies.parts import Failover
from routesim.policies.vocabulary import Answer, Choice, Outcome, Skip, SkipReason
from tests.policy_world import ARRIVED_AT, Luck, payment, view

NOW = ARRIVED_AT  # a multiple of 10 s, so a sweep of the outlier ejection falls on it
RANK = (Choice("A"), Choice("B"), Choice("C"))
ALL = [name for name in PARTS["failover"] if name != "none"]


class Router:
    """A failover part and its correspondence: ``hear`` answers, ``ask`` says where a payment would go."""

    def __init__(self, part: str, **parameters: Any) -> None:
        described = describe_part("failover", {part: parameters})
        self.part: Failover = PARTS["failover"][part].build(described.parameters)

    def hear(self, processor: str, *outcomes: Outcome, at: float = NOW, of: str = "old", lasting: float = 1.0,
             **fields: Any) -> None:
        for outcome in outcomes:
            answer = Answer(1, processor, at - lasting, at, outcome, None, None)
            self.part.observe(payment(payment_id=of, **fields), answer)

    def ask(self, at: float, of: str = "new", rank: Any = RANK, luck: Luck | None = None, **fields: Any) -> tuple[
            str, str | None, tuple[Skip, ...]]:
        """The first choice, the decision, and what was passed over."""
        about = view(payment(payment_id=of, **fields), now=at)
        admission = self.part.admit(about, luck or Luck(of), rank)
        return admission.ranked[0].processor, admission.decision, admission.skipped

    def order(self, at: float, rank: Any = RANK) -> list[str]:
        return [c.processor for c in self.part.admit(view(payment(), now=at), Luck(), rank).ranked]


# --- resilience4j's breaker


def test_the_window_decides_from_its_minimum_on() -> None:
    router = Router("window_breaker", window=10, minimum_calls=6)
    router.hear("A", *["timeout"] * 5)
    assert router.ask(NOW) == ("A", None, ())
    router.hear("A", "approved")
    assert router.ask(NOW) == ("B", "failover", (Skip("A", SkipReason.CIRCUIT_OPEN),))


def test_half_the_calls_open_it_and_fewer_do_not() -> None:
    router = Router("window_breaker", window=10)  # the minimum of 100 is cut to the window
    router.hear("A", *["timeout"] * 4, *["approved"] * 5, "declined")
    assert router.ask(NOW)[0] == "A"
    router.hear("A", *["unavailable"] * 4)  # these push the four timeouts out
    assert router.ask(NOW)[0] == "A"
    router.hear("A", "unavailable")
    assert router.ask(NOW)[0] == "B"


def test_a_window_of_time_forgets() -> None:
    router = Router("window_breaker", window="60s", minimum_calls=4)
    router.hear("A", "timeout", "timeout", at=NOW)
    router.hear("A", "approved", "timeout", at=NOW + 60)  # the first two are 60 s old: out
    assert router.ask(NOW + 60)[0] == "A"
    router.hear("A", "timeout", "approved", at=NOW + 119)
    assert router.ask(NOW + 119)[0] == "B"


def test_half_open_lets_its_calls_through_and_closes_or_opens_by_their_share() -> None:
    router = Router("window_breaker", window=4, half_open_calls=4)
    router.hear("A", *["timeout"] * 4)
    assert router.ask(NOW + 59.9)[1] == "failover"
    trial = [router.ask(NOW + 60, of=f"t{i}") for i in range(6)]
    assert [decision for _, decision, _ in trial] == ["probe"] * 4 + ["failover"] * 2
    for i, outcome in enumerate(("timeout", "timeout", "approved")):
        router.hear("A", outcome, at=NOW + 61 + i, of=f"t{i}")  # type: ignore[arg-type]
    assert router.ask(NOW + 64)[1] == "failover"  # three of four have answered: nothing is decided
    router.hear("A", "approved", at=NOW + 65, of="t3")
    assert router.ask(NOW + 124)[1] == "failover"  # half failed: open anew for 60 s
    for i in range(4):
        assert router.ask(NOW + 125, of=f"u{i}")[1] == "probe"
        router.hear("A", "timeout" if i == 0 else "declined", at=NOW + 126, of=f"u{i}")
    assert router.ask(NOW + 126) == ("A", None, ())
    router.hear("A", *["timeout"] * 3, at=NOW + 127)
    assert router.ask(NOW + 127)[0] == "A"  # the window begins empty


def test_a_trial_call_that_was_never_sent_gives_its_place_up() -> None:
    router = Router("window_breaker", window=1, half_open_calls=1)
    router.hear("A", "timeout")
    assert router.ask(NOW + 60, of="never sent")[1] == "probe"
    assert router.ask(NOW + 90)[1] == "failover"
    assert router.ask(NOW + 92)[1] == "probe"


def test_slow_calls_open_it_too() -> None:
    router = Router("window_breaker", window=4, slow_after="5s", slow_share=0.75)
    router.hear("A", "approved", "approved", lasting=5.1)
    router.hear("A", "approved", lasting=5.0)
    router.hear("A", "approved")
    assert router.ask(NOW)[0] == "A"
    router.hear("A", *["approved"] * 3, lasting=6.0)
    assert router.ask(NOW)[0] == "B"


# --- Envoy's outlier detection


def eject(router: Router, at: float, processor: str = "A") -> None:
    router.hear(processor, *["timeout"] * 5, at=at)


def test_five_failures_in_a_row_eject_at_once_and_a_sweep_takes_it_back() -> None:
    router = Router("outlier_ejection")
    router.ask(NOW)
    router.hear("A", *["unavailable"] * 4, "approved", *["timeout"] * 4, at=NOW + 3)
    assert router.ask(NOW + 3)[0] == "A"
    router.hear("A", "timeout", at=NOW + 3)
    assert router.ask(NOW + 3) == ("B", "failover", (Skip("A", SkipReason.EJECTED),))
    assert router.ask(NOW + 39.9)[0] == "B"  # its 30 s are over at 33, the next sweep is at 40
    assert router.ask(NOW + 40) == ("A", None, ())


def test_each_ejection_is_longer_up_to_the_longest_and_good_health_shortens_them() -> None:
    router = Router("outlier_ejection", eject_for_at_most="60s")
    router.ask(NOW)
    back = NOW
    for lasts in (30, 60, 60):  # 30 x 1, x 2, x 3 cut to 60; ejected at a sweep, so back at one
        eject(router, back)
        assert router.ask(back + lasts - 0.1)[0] == "B"
        assert router.ask(back + lasts)[0] == "A"
        back += lasts
    # Two healthy sweeps take the multiplier from 3 to 1, so the next ejection is the second again.
    eject(router, back + 20)
    assert router.ask(back + 79.9)[0] == "B"
    assert router.ask(back + 80)[0] == "A"


def test_the_multiplier_falls_to_nothing_however_long_nobody_asks() -> None:
    router = Router("outlier_ejection")
    router.ask(NOW)
    eject(router, NOW)
    eject(router, NOW + 86_400)
    assert router.ask(NOW + 86_429.9)[0] == "B"
    assert router.ask(NOW + 86_430)[0] == "A"


def test_no_more_are_ejected_than_the_share_allows_but_one_always() -> None:
    router = Router("outlier_ejection")
    router.ask(NOW)
    eject(router, NOW)
    eject(router, NOW, "B")
    assert router.order(NOW) == ["B", "C"]
    generous = Router("outlier_ejection", max_ejected_share=0.67)
    generous.ask(NOW)
    eject(generous, NOW)
    eject(generous, NOW, "B")
    assert generous.order(NOW) == ["C"]
    strict = Router("outlier_ejection", always_eject_one=False)
    strict.ask(NOW)
    eject(strict, NOW)
    assert strict.order(NOW) == ["A", "B", "C"]


def test_the_share_is_of_its_own_cluster() -> None:
    router = Router("outlier_ejection", per=["processor", "currency"])
    for currency in ("MXN", "USD"):
        router.ask(NOW, currency=currency)
        router.hear("A", *["timeout"] * 5, currency=currency)
        assert router.ask(NOW, currency=currency)[0] == "B"


# --- Hyperswitch's leaky bucket


def test_the_bucket_fills_leaks_and_stays_full_no_longer() -> None:
    router = Router("leaky_bucket")
    router.hear("A", *["timeout"] * 4, "approved", "approved")
    assert router.ask(NOW)[0] == "A"
    router.hear("A", *["timeout"] * 7)  # it holds five
    assert router.ask(NOW) == ("B", "failover", (Skip("A", SkipReason.BUCKET_FULL),))
    assert router.order(NOW + 59.9) == ["B", "C", "A"]
    assert router.order(NOW + 60) == ["A", "B", "C"]
    router.hear("A", "timeout", at=NOW + 61)
    assert router.order(NOW + 119.9) == ["B", "C", "A"]  # full again, until the leak of the second minute
    assert router.order(NOW + 120) == ["A", "B", "C"]


def test_a_slow_drip_never_fills_it() -> None:
    router = Router("leaky_bucket")
    for minute in range(60):
        router.hear("A", "timeout", at=NOW + 60 * minute)
        assert router.ask(NOW + 60 * minute)[0] == "A"


# --- the decision engine's score


def fall_below(threshold: float) -> int:
    """Failures in a row until 1 x 0.95^n < threshold."""
    score, n = 1.0, 0
    while score >= threshold:
        score, n = score * 0.95, n + 1
    return n


@pytest.mark.parametrize(("threshold", "failures"), [(0.05, 59), (0.35, 21)])
def test_the_score_falls_by_a_twentieth(threshold: float, failures: int) -> None:
    assert fall_below(threshold) == failures
    router = Router("score_elimination", threshold=threshold)
    router.hear("A", *["declined"] * (failures - 1))
    assert router.order(NOW) == ["A", "B", "C"]
    router.hear("A", "timeout")
    assert router.ask(NOW) == ("B", "failover", (Skip("A", SkipReason.SCORE_LOW),))
    assert router.order(NOW) == ["B", "C", "A"]
    router.hear("A", "approved")  # x 0.95 x 1.0526 is just below 1, so one approval undoes one failure...
    router.hear("A", "refused")  # ...and what no processor answered does nothing
    assert router.order(NOW) == ["A", "B", "C"]


def test_the_score_never_passes_one_and_expires() -> None:
    router = Router("score_elimination", threshold=0.35)
    router.hear("A", *["approved"] * 100)
    router.hear("A", *["timeout"] * 21, at=NOW + 60)
    assert router.ask(NOW + 60)[0] == "B"
    assert router.ask(NOW + 15 * 60 - 1)[0] == "B"
    assert router.ask(NOW + 15 * 60)[0] == "A"


def test_a_rank_with_scores_is_sorted_by_them_anew() -> None:
    router = Router("score_elimination", threshold=0.35)
    router.hear("A", *["timeout"] * 21)
    close = (Choice("A", score=0.9), Choice("B", score=0.8), Choice("C", score=0.1))
    assert router.order(NOW, close) == ["B", "A", "C"]
    far = (Choice("A", score=0.9), Choice("B", score=0.05), Choice("C", score=0.04))
    assert router.order(NOW, far) == ["A", "B", "C"]
    assert router.ask(NOW, rank=far) == ("A", None, ())


# --- random sampling


def test_the_sample_is_random_and_of_the_given_share() -> None:
    router = Router("random_sampling", sample=0.1)
    router.hear("A", *["timeout"] * 5)
    n = 4_000
    decisions = [router.ask(NOW + i, of=f"p{i}")[:2] for i in range(n)]
    probes = sum(each == ("A", "probe") for each in decisions)
    assert probes + sum(each == ("B", "failover") for each in decisions) == n
    assert abs(probes - 0.1 * n) < 4 * (n * 0.1 * 0.9) ** 0.5


PROBE = Luck(**{"sample A 0": 0.01})


def test_three_successes_in_a_row_fail_back() -> None:
    router = Router("random_sampling")
    router.hear("A", *["timeout"] * 5)
    for i, outcome in enumerate(("approved", "declined", "timeout", "approved", "declined")):
        assert router.ask(NOW + i, of=f"p{i}", luck=PROBE) == ("A", "probe", ())
        router.hear("A", outcome, at=NOW + i, of=f"p{i}")  # type: ignore[arg-type]
    router.hear("A", "approved", "approved", "approved")  # no probes: sent before
    assert router.ask(NOW + 9, luck=PROBE)[1] == "probe"
    router.hear("A", "declined", at=NOW + 10, of="new")
    assert router.ask(NOW + 10, luck=PROBE) == ("A", None, ())


def test_a_ramp_doubles_the_share_and_a_failure_sets_it_back() -> None:
    router = Router("random_sampling", sample=0.2, successes=1, ramp=True)
    router.hear("A", *["timeout"] * 5)

    def share_is(share: float) -> bool:
        below, above = (Luck(**{"sample A 0": share + step}) for step in (-0.01, 0.01))
        return router.ask(NOW, luck=below)[1] == "probe" and router.ask(NOW, luck=above)[1] == "failover"

    assert share_is(0.2)
    router.hear("A", "approved", of="new")
    assert share_is(0.4)
    router.hear("A", "timeout", of="new")
    assert share_is(0.2)
    for share in (0.4, 0.8):
        router.hear("A", "approved", of="new")
        assert share_is(share)
    router.hear("A", "approved", of="new")
    assert router.ask(NOW) == ("A", None, ())


def test_a_share_of_failures_takes_it_down_as_well() -> None:
    router = Router("random_sampling", consecutive_failures=None, failure_share=0.3, calls=10)
    router.hear("A", "timeout", *["approved"] * 7, "timeout")
    assert router.ask(NOW)[0] == "A"
    router.hear("A", "unavailable")
    assert router.ask(NOW, luck=Luck(**{"sample A 0": 0.5})) == ("B", "failover", (Skip("A", SkipReason.DOWN),))


# --- what all must keep


@pytest.mark.parametrize(
    ("part", "parameters", "message"),
    [
        ("window_breaker", {"window": 0}, "is no window"),
        ("window_breaker", {"window": "60"}, "is not a duration"),
        ("window_breaker", {"window": 10, "minimum_calls": 11}, "more than the window's 10 calls"),
        ("window_breaker", {"failures": ["timeuot"]}, "'timeout'"),
        ("outlier_ejection", {"eject_for_at_most": "10s"}, "shorter than eject_for 30s"),
        ("leaky_bucket", {"leak_evry": "1s"}, "did you mean 'leak_every'"),
        ("score_elimination", {"threshold": 1.0}, "less than 1"),
        ("random_sampling", {"consecutive_failures": None}, "nothing takes a processor down"),
        ("health_monitor", {"certainty": 0.4}, "greater than 0.5"),
    ],
)
def test_refused(part: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        describe_part("failover", {part: parameters})


def test_every_part_names_its_source() -> None:
    assert [name for name in ALL if not PARTS["failover"][name].source] == []


EVENTS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from(["approved", "declined", "unavailable", "timeout"]),
              st.floats(0, 90), st.integers(1, 8)),
    max_size=40)  # fmt: skip


@pytest.mark.parametrize("part", ALL)
@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(events=EVENTS)
def test_never_empty_order_kept_and_keys_apart(part: str, events: Any) -> None:
    quick = {"window_breaker": {"window": 8}, "score_elimination": {"threshold": 0.7}}.get(part, {})
    router = Router(part, per=["processor", "currency"], **quick)
    now, place = NOW, {choice.processor: i for i, choice in enumerate(RANK)}
    for number, (processor, outcome, gap, times) in enumerate(events):
        now += gap
        for again in range(times):
            router.hear(processor, outcome, at=now, of=f"{number} {again}")
        admission = router.part.admit(view(payment(payment_id=f"p{number}"), now=now), Luck(number), RANK)
        went = [choice.processor for choice in admission.ranked]
        assert went
        assert len(set(went)) == len(went)
        assert set(went) <= set(place)
        if part in ("leaky_bucket", "score_elimination"):
            assert set(went) == set(place)  # they only reorder
        else:
            assert went == sorted(went, key=place.__getitem__)
        assert [skip.processor for skip in admission.skipped] == list("ABC")[: place[went[0]]]
        assert all(skip.reason in SkipReason for skip in admission.skipped)
        assert (admission.decision == "failover") <= bool(admission.skipped) <= (admission.decision is not None)
        # another currency has seen nothing of all this
        assert router.ask(now, of=f"q{number}", currency="USD") == ("A", None, ())
        router.hear("A", "approved", at=now, of=f"q{number}", currency="USD")


@pytest.mark.parametrize("part", ALL)
def test_deciding_is_cheap(part: str) -> None:
    router = Router(part)
    about = [view(payment(payment_id=f"p{i}"), now=NOW + i) for i in range(2_000)]
    seconds = []
    for _ in range(3):
        begin = perf_counter()
        for i, each in enumerate(about):
            router.part.admit(each, Luck(), RANK)
            router.part.observe(each.payment, Answer(1, "A" if i % 50 else "B", each.now, each.now + 0.9,
                                                     "timeout" if i % 100 == 0 else "approved", None, None))
        seconds.append(perf_counter() - begin)
    assert min(seconds) / len(about) < 200e-6  # measured at 2 to 12 microseconds
