"""The catalogue of metrics: its ranges hold of random logs, and its words read as a reader expects."""

from __future__ import annotations

import doctest
import math
import re

import numpy as np
import pytest

from routesim.policies.vocabulary import Fee
from routesim.reports.metrics import catalogue
from routesim.reports.metrics.catalogue import METRICS, OUTAGE_METRICS, Metric, metric
from routesim.reports.metrics.measure import measure
from routesim.reports.metrics.support import Support
from routesim.reports.outages.costs import OUTAGE_COSTS
from routesim.sim.engine import REATTEMPT_AFTER_HARD_DECLINE
from routesim.sim.log import AttemptLog
from tests.logs import attempt, log, outages, payment

OUTCOMES = ("approved", "declined", "unavailable", "timeout", "refused")
FEES = {"A": Fee(0.1, 100, 0.02), "B": Fee(0.3, 0, 0.05)}


def random_log(rng: np.random.Generator, payments: int) -> AttemptLog:
    """Up to four attempts a payment, some hours apart; every third payment comes back to the order before it."""
    rows, sent = [], []
    for i in range(payments):
        came_back = i % 3 == 2
        rows.append(payment(
            f"p{i}", 60.0 * i, order_id=f"o{i - came_back}", previous_payment_id=f"p{i - 1}" if came_back else None,
            initiator=str(rng.choice(["CIT", "MIT"])), due_s=float(rng.choice([60.0 * i, 60.0 * i - 3_600])),
            amount_usd=float(rng.uniform(1, 900)), warm_up=bool(i == 0)))
        at_s = 60.0 * i
        for number in range(1, int(rng.integers(0, 5)) + 1):
            outcome, took_s = str(rng.choice(OUTCOMES)), float(rng.uniform(0.1, 30))
            late = bool(rng.random() < 0.5) if outcome == "timeout" else None
            broke = bool(rng.random() < 0.2)
            sent.append(attempt(f"p{i}", number, str(rng.choice(["A", "B"])), at_s, took_s, outcome,
                                late_approval=late, network_rule="visa_reattempts" if broke else None,
                                network_fee_usd=0.1 if broke else None))
            at_s += took_s + float(rng.choice([0.0, 2.0, 7_200.0]))
            if outcome == "approved":
                break
    return log(rows, sent)


def test_the_example_holds() -> None:
    result = doctest.testmod(catalogue)
    assert result.attempted
    assert not result.failed


def test_every_metric_keeps_its_range_in_random_logs() -> None:
    rng = np.random.default_rng(20260102)
    seen: dict[str, list[float]] = {name: [] for name in METRICS}
    for _ in range(120):
        n = int(rng.integers(1, 30))
        ours, theirs, calm = (random_log(rng, n) for _ in range(3))
        measured = measure(
            ours, outages=outages(("A", "down", 30, 900)), fees=FEES, support=Support.from_log(random_log(rng, 40)),
            baseline=theirs, without_outages=calm, refusals={REATTEMPT_AFTER_HARD_DECLINE: int(rng.integers(0, 3))},
            false_ejections=(int(rng.integers(0, 3)), float(rng.uniform(0, 9))))
        for name, value in measured.figures.items():
            if not math.isnan(value):
                seen[name].append(value)
    for name, values in seen.items():
        low, high = METRICS[name].low, METRICS[name].high
        assert values, name
        assert low is None or min(values) >= low, name
        assert high is None or max(values) <= high + 1e-9, name
        assert METRICS[name].scale == "difference" or low is not None or name == "recovery_delay_h"
    assert min(seen["lost_to_outages"]) < 0 < max(seen["lost_to_outages"])  # no bound at zero: it is a difference


def test_a_policy_is_better_where_the_catalogue_says_so() -> None:
    """One payment approved at once against one that failed twice: whatever has a better end takes that side."""
    good = log([payment("p1")], [attempt("p1", 1, "A", 0, 1, "approved")])
    bad = log([payment("p1")], [attempt("p1", 1, "A", 0, 9, "timeout", late_approval=False),
                                attempt("p1", 2, "B", 10, 20, "declined")])
    ours, theirs = (measure(one, outages=outages(), fees={"A": Fee(), "B": Fee(declined_usd=1.0)}, baseline=other)
                    for one, other in ((good, bad), (bad, good)))
    differing = set()
    for name, one in METRICS.items():
        apart = ours.figures[name] - theirs.figures[name]
        if one.better != "neither" and not math.isnan(apart) and apart:
            assert (apart > 0) == (one.better == "higher"), name
            differing.add(name)
    assert {"approval_rate", "lift_pp", "order_lift_pp", "dark_payments", "duplicate_risk", "cost_usd",
            "latency_ms.wait.p95", "latency_ms.attempt.p50"} - differing == {"dark_payments"}  # the last was declined


@pytest.mark.parametrize(("name", "value", "text", "difference"), [
    ("approval_rate", 0.86137, "86.14 %", "+86.14 pp"),
    ("lift_pp", -0.714, "\N{MINUS SIGN}0.71", "\N{MINUS SIGN}0.71"),
    ("latency_ms.wait.p95", 2_430.0, "2.4 s", "+2.4 s"),
    ("attempts_per_payment", 1.16349, "1.163", "+1.163"),
    ("cost_usd", 35_397.6, "35,398", "+35,398"),
    ("of_another_version", 1.5, "1.50", "+1.50"),
])
def test_a_value_reads_by_its_record(name: str, value: float, text: str, difference: str) -> None:
    assert metric(name).text(value) == text
    assert metric(name).difference_text(value) == difference
    assert metric(name).text(None) == metric(name).difference_text(None) == "—"
    assert metric(name).between(None, None) == ""
    assert metric(name).between(value, value) == f"{text} to {text}"


def test_labels_and_headings_differ_and_name_the_unit_once() -> None:
    every: list[Metric] = [*METRICS.values(), *OUTAGE_METRICS.values()]
    assert len({one.heading for one in METRICS.values()}) == len(METRICS)
    assert all(one.label and one.formula for one in every)
    assert not [one.name for one in every if len(re.findall(rf"\b{one.unit}\b", one.heading)) > 1]
    assert set(OUTAGE_METRICS) < set(OUTAGE_COSTS.names)
