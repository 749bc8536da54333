"""How soon the parts see a total outage, against their own arithmetic and against the least that is possible."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection import PARTS, least, minutes_to_detect, theory

RATE, SEEDS = 20, 8
FAILURES = {"circuit_breaker": 5, "score_elimination (threshold 0.35)": 21}


@pytest.mark.parametrize("name", sorted(FAILURES))
def test_a_part_that_counts_failures_is_as_late_as_its_count_and_the_timeout_make_it(name: str) -> None:
    found = [minutes_to_detect(PARTS[name], RATE, seed) for seed in range(SEEDS)]
    expected = theory(name, RATE)
    assert expected is not None
    # The sum of k + 1 exponential gaps has the sd sqrt(k + 1) / rate.
    error = np.sqrt(FAILURES[name] + 1) / RATE / np.sqrt(SEEDS)
    assert abs(np.mean(found) - expected) < 3.5 * error


def test_the_monitor_is_near_the_least_possible_and_nobody_is_below_it() -> None:
    found = np.array([minutes_to_detect("health_monitor", RATE, seed) for seed in range(SEEDS)])
    counted = np.array([minutes_to_detect("circuit_breaker", RATE, seed) for seed in range(SEEDS)])
    error = found.std(ddof=1) / np.sqrt(SEEDS)
    assert found.mean() > least(RATE) - 3 * error
    assert found.mean() < 2 * least(RATE) + 3 * error
    assert (found < counted).all()


def test_the_least_falls_with_traffic_and_rises_with_caution() -> None:
    assert least(2) > least(20) > least(200) > 1 / 200
    assert least(20, false_every_days=300) > least(20, false_every_days=3)
