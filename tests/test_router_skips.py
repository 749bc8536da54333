"""A router that kept traffic away from an ill processor: its skips give the outages their length back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from routesim.calibration.history.profile import load_profile
from routesim.calibration.history.read import SKIPS, read_history
from routesim.calibration.history.router_skips import (
    SHUT_RATIO,
    means_unhealthy,
    router_rest_s,
    shut_evidence,
    skip_times,
)
from routesim.calibration.outages.find import Found, find_outages
from routesim.policies.vocabulary import SkipReason
from routesim.sim.log import AttemptLog
from routesim.sim.outages import Outage
from routesim.sim.trace import seconds
from tests.array_log import Arrivals, attempts_of
from tests.extracts import START as EXTRACT_START
from tests.extracts import two_payments
from tests.worlds import START

DAY, HOUR = 86_400.0, 3600.0
PER_MIN = 0.7


def spaced_outages(days: int, median_min: float, seed: int) -> list[Outage]:
    """An outage a day at a random hour of its first half, so that none runs into the next."""
    random = np.random.default_rng(seed)
    minutes = np.minimum(median_min * np.exp(0.7 * random.standard_normal(days)), 600.0)
    begins = START + DAY * np.arange(days) + random.uniform(0, 12 * HOUR, days)
    return [Outage("A", "down", b, b + 60 * m, 0.97) for b, m in zip(begins.tolist(), minutes.tolist(), strict=True)]


@dataclass
class Kept:
    """A processor behind a router that shuts it out after ``after`` timeouts in a row, and what both left behind."""

    log: AttemptLog
    skips: np.ndarray
    truth: list[Outage]

    @classmethod
    def away(cls, truth: list[Outage], days: float, seed: int, rest_s: float | None, after: int = 3) -> Kept:
        """``rest_s`` is a breaker's rest, after which it probes with one payment; None is a router whose health check
        of its own tells it within half a minute that the processor is well again."""
        arrivals = Arrivals(truth, START, days, PER_MIN, seed)
        sent, skips, row, shut_until = [], [], 0, -np.inf
        for i, (now, outage) in enumerate(zip(arrivals.at.tolist(), arrivals.outage, strict=True)):
            if now < shut_until:
                skips.append(now)
                continue
            sent.append(i)
            row = row + 1 if arrivals.lost[i] else 0
            if row >= after:
                row = after - 1 if rest_s is not None else 0
                shut_until = now + 20 + rest_s if rest_s is not None else (outage.end if outage else now) + 30
        log = attempts_of(["A"] * len(sent), arrivals.at[sent], arrivals.latency_ms[sent], arrivals.lost[sent])
        return cls(log, np.array(skips), truth)

    def found(self, skips: bool) -> Found:
        return find_outages(self.log, {"A": self.skips} if skips else None)

    def log_ratios(self, found: Found) -> np.ndarray:
        """Log of found to true length, of those found; an outage that was not found by anything is left out."""
        pairs = [(o, [f for f in found.outages if f.start < o.end and o.start < f.end]) for o in self.truth]
        return np.array([np.log((m[-1].end - m[0].start) / (o.end - o.start)) for o, m in pairs if m])


def error(ratios: np.ndarray) -> float:
    return float(ratios.std(ddof=1) / np.sqrt(len(ratios)))


def test_a_router_that_knows_hides_the_length_of_outages_and_its_skips_tell_it() -> None:
    kept = Kept.away(spaced_outages(28, 35.0, 1), 28, 1, rest_s=None)
    short, whole = kept.log_ratios(kept.found(skips=False)), kept.log_ratios(kept.found(skips=True))
    assert len(whole) >= 26
    assert short.mean() < -0.3  # a quarter too short at least
    # half a minute until the router knows, and the gap between payments, are all that is left of the error
    assert abs(whole.mean()) < 3.5 * error(whole) + np.log1p(0.5 / 20)
    assert whole.std() < 0.25
    assert all(any(f.start < o.end and o.start < f.end for o in kept.truth) for f in kept.found(skips=True).outages)


@pytest.mark.parametrize("rest_min", [1, 15])
def test_a_timer_s_skips_say_nothing_that_its_probes_do_not(rest_min: int) -> None:
    """The end lies anywhere between the last lost probe and the first that was answered, however many skips between."""
    kept = Kept.away(spaced_outages(28, 35.0, 2), 28, 2, rest_s=60.0 * rest_min)
    whole = kept.log_ratios(kept.found(skips=True))
    assert len(whole) >= 26
    assert abs(whole.mean()) < 3.5 * error(whole) + 0.03
    assert whole.std() < 0.15 + 0.02 * rest_min


def test_a_timer_longer_than_its_outages_is_recognised_by_its_regularity() -> None:
    kept = Kept.away(spaced_outages(28, 12.0, 3), 28, 3, rest_s=1800.0)
    short, whole = kept.log_ratios(kept.found(skips=False)), kept.log_ratios(kept.found(skips=True))
    # a stale belief must not make outages as long as the rest: at worst what attempts alone say
    assert whole.mean() < short.mean() + 3.5 * error(short)


def test_an_outage_cut_short_by_a_quick_breaker_is_found_by_its_skips() -> None:
    """Two timeouts shut it out: too few to be told from chance, but for the router's verdict."""
    kept = Kept.away(spaced_outages(10, 30.0, 4), 10, 4, rest_s=None, after=2)
    assert len(kept.found(skips=False).outages) < 5 <= 9 <= len(kept.found(skips=True).outages)


def test_skips_alone_make_no_outage() -> None:
    kept = Kept.away([], 7, 5, rest_s=None)
    imagined = START + DAY + np.arange(0, 2 * HOUR, 30.0)
    sent = seconds(kept.log.attempts["sent_at"])
    away = (sent > imagined[0]) & (sent < imagined[-1])
    assert away.sum() > 50
    log = AttemptLog(kept.log.payments, kept.log.attempts.filter(pa.array(~away)))
    assert find_outages(log, {"A": imagined}).outages == []
    assert not find_outages(log, {"A": imagined}).inside.any()
    assert find_outages(log, {"B": imagined}).outages == []  # a processor without attempts has no health to tell


def test_skips_of_some_payments_beside_answers_of_others_make_no_outage() -> None:
    """A router that keeps health per currency shuts a processor out for one of them, rightly or not."""
    kept = Kept.away([], 7, 6, rest_s=None)
    some = START + DAY + np.arange(0, 6 * HOUR, 45.0)
    assert find_outages(kept.log, {"A": some}).outages == find_outages(kept.log).outages == []


def test_the_evidence_of_a_spell() -> None:
    """Skips at 0, 60, 120 and 180 s, an answer at 240 s; the router's rest is a minute."""
    times, skipped = np.array([0.0, 60, 120, 180, 240, 5000]), np.array([True] * 4 + [False, True])
    none = np.zeros(6, dtype=bool)
    against, began = shut_evidence(times, skipped, none, 60.0)
    assert began.tolist() == [True, False, False, False, False, True]
    # shut for sure until 180 s: three minutes at one per minute; the last minute may be a stale belief
    assert against.sum() == pytest.approx(3.0 + 2 * np.log(SHUT_RATIO))
    assert against[:5].tolist() == pytest.approx([0.5 + np.log(SHUT_RATIO), 1.0, 1.0, 0.5, 0.0])
    # a spell within the rest says only that the router shut it
    assert shut_evidence(times, skipped, none, 600.0)[0].sum() == pytest.approx(2 * np.log(SHUT_RATIO))
    # an answer amid the skips: only some payments were kept away
    assert not shut_evidence(np.append(times[:5], 300.0), skipped, none, 60.0)[0].any()
    # the count of skips does not matter, their span does
    dense = np.concatenate([np.arange(0.0, 181, 1), [240.0, 5000.0]])
    flags = np.array([True] * 181 + [False, True])
    assert shut_evidence(dense, flags, np.zeros(183, dtype=bool), 60.0)[0].sum() == pytest.approx(against.sum())


def test_the_router_s_rest() -> None:
    def spells(lengths: list[float], lost: list[bool]) -> float:
        times = np.cumsum([x for length in lengths for x in (1000.0, length)])
        return router_rest_s([times], [np.array([True, False] * len(lengths))],
                             [np.array([x for fate in lost for x in (False, fate)])])

    assert spells([900.0, 910, 905, 900], [True, False, True, False]) == pytest.approx(902.5)  # probes that were lost
    assert spells([900.0, 910, 905, 900], [False] * 4) == pytest.approx(902.5)  # one length
    assert spells([400.0, 2000, 1200, 700, 5000], [False] * 5) == 60.0  # as long as outages are: it knows
    assert spells([2000.0, 900], [True, True]) == 60.0  # two tell nothing


def test_words_that_mean_unhealthy() -> None:
    words = load_profile("payment_ml").spec.values.unhealthy
    for reason in (SkipReason.CIRCUIT_OPEN, SkipReason.DOWN, SkipReason.EJECTED, "Circuit Open", "PSP_DOWN",
                   "MIT: unhealthy (5 timeouts)", "not-responding"):
        assert means_unhealthy(reason, words), reason
    for reason in ("currency not supported", "downgraded", "amount over limit", "cost", "", "open"):
        assert not means_unhealthy(reason, words), reason
    assert not means_unhealthy("down", ())


def test_a_history_tells_its_skips_for_health(tmp_path: Path) -> None:
    extract = two_payments().routed("P1", 2.0, 0, None, "mit", "circuit open").routed(
        "P2", 3601.0, 0, None, "elavon", "currency not supported")
    history = read_history(extract.write(tmp_path))
    assert history.skips.num_rows == 2
    # the reason's words decide, and the times are the router's own
    assert {name: times.tolist() for name, times in history.health_skips.items()} == {
        "MIT": [EXTRACT_START.replace(tzinfo=UTC).timestamp() + 2.0]}
    empty = pa.Table.from_pylist([{"payment_id": "p", "processor": None, "at": None, "reason": "down"}], schema=SKIPS)
    assert skip_times(empty, ("down",)) == {}
