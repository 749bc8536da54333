"""Draws: uniform, independent of each other whatever tells them apart, and functions of names alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from routesim.sim.draws import Luck, generator, identities, identity, key, uniform, uniforms

N = 40_000
NAMES = [f"P{i:08d}" for i in range(N)]  # sequential, as a database's ids are
LIMIT = 4 / np.sqrt(N)  # four standard errors of the correlation of independent samples


@pytest.fixture(scope="module")
def who() -> np.ndarray:
    return identities(NAMES)


def columns(who: np.ndarray) -> dict[str, np.ndarray]:
    """Draws that differ in one of purpose, processor, visit, seed, world, luck or identity."""
    base = Luck(5, 1, 0)
    return {
        "base": uniforms(who, base.purpose("judgement", "A", "0")),
        "purpose": uniforms(who, base.purpose("latency", "A", "0")),
        "processor": uniforms(who, base.purpose("judgement", "B", "0")),
        "visit": uniforms(who, base.purpose("judgement", "A", "1")),
        "seed": uniforms(who, Luck(6, 1, 0).purpose("judgement", "A", "0")),
        "world": uniforms(who, Luck(5, 2, 0).purpose("judgement", "A", "0")),
        "luck": uniforms(who, Luck(5, 1, 1).purpose("judgement", "A", "0")),
        "identity": uniforms(identities([f"{name}+1" for name in NAMES]), base.purpose("judgement", "A", "0")),
    }


def test_draws_are_uniform_in_the_body_and_in_the_tails(who: np.ndarray) -> None:
    for name, values in columns(who).items():
        assert stats.kstest(values, "uniform").pvalue > 1e-4, name
        for p in (0.001, 0.999):  # rare failures and long latencies live here
            share = (values < p).mean()
            assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / N), name
    assert stats.kstest(columns(who)["base"] ** 1.03, "uniform").pvalue < 1e-4  # the test can fail


def test_identities_that_are_consecutive_numbers_draw_uniformly() -> None:
    """The mixer itself, without BLAKE2b before it: counters, and counters far apart by a power of two."""
    for step in (1, 1 << 12, 1 << 40):
        values = uniforms(np.arange(N, dtype=np.uint64) * np.uint64(step), key("a purpose"))
        assert stats.kstest(values, "uniform").pvalue > 1e-4
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < LIMIT


def test_draws_that_differ_in_one_name_are_independent(who: np.ndarray) -> None:
    drawn = columns(who)
    for (one, a), (other, b) in combinations(drawn.items(), 2):
        for power in (1, 2):  # linear, and in how far from the middle they fall
            corr = np.corrcoef(np.abs(a - 0.5) if power == 2 else a, np.abs(b - 0.5) if power == 2 else b)[0, 1]
            assert abs(corr) < LIMIT, (one, other, power)
    for name, values in drawn.items():
        for lag in (1, 2, 4096):  # neighbours in order of id, and in the next chunk
            assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < LIMIT, (name, lag)


def test_a_key_that_is_only_added_would_be_seen(who: np.ndarray) -> None:
    """The wrong mixer: one sum of identity and purpose, so that two identities keep their distance for all purposes."""
    naive = [((who + np.uint64(key(p))) >> np.uint64(12)).astype(float) / 2.0**52 for p in ("one", "other")]
    differences = (naive[0] - naive[1]) % 1
    assert differences.std() < 1e-9
    real = [uniforms(who, key(p)) for p in ("one", "other")]
    assert stats.kstest((real[0] - real[1]) % 1, "uniform").pvalue > 1e-4


def test_scalar_and_vectorised_draws_are_the_same() -> None:
    who = identities(NAMES[:500])
    for purpose in (key("a"), 0, (1 << 64) - 1):
        assert [uniform(identity(n), purpose) for n in NAMES[:500]] == uniforms(who, purpose).tolist()
    extremes = np.array([0, 1, (1 << 63), (1 << 64) - 1], dtype=np.uint64)
    assert [uniform(int(w), key("b")) for w in extremes] == uniforms(extremes, key("b")).tolist()


def test_draws_depend_on_names_and_not_on_order_or_company(who: np.ndarray) -> None:
    purpose = Luck(1).purpose("x")
    alone = uniforms(who, purpose)
    shuffled = np.random.default_rng(1).permutation(N)
    assert (uniforms(who[shuffled], purpose) == alone[shuffled]).all()
    assert (uniforms(who[:10], purpose) == alone[:10]).all()
    first = Luck(1).generator("outages/A").uniform(size=4)
    Luck(1).generator("outages/B").uniform(size=1000)
    assert (Luck(1).generator("outages/A").uniform(size=4) == first).all()


def test_names_that_join_alike_are_different_keys() -> None:
    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("ab", "c", ""), key("1"), key(1)}) == 6
    assert len({key("luck", s, w, k) for s in range(10) for w in range(10) for k in range(10)}) == 1000


def test_draws_stay_off_zero_and_one(who: np.ndarray) -> None:
    purpose = key("x")
    values = uniforms(who, purpose)
    assert values.min() > 0
    assert values.max() < 1
    highest = ((1 << 52) - 1) / float(1 << 52) + 0.5 / (1 << 52)  # the largest that the formula can give
    assert highest < 1
    assert np.isfinite(stats.norm.ppf(highest))


def test_generators_of_different_names_are_independent() -> None:
    a, b = (generator("luck", 1, 0, 0, f"outages/{p}").uniform(size=N) for p in "AB")
    assert stats.kstest(a, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(a, b)[0, 1]) < LIMIT
