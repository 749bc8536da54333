"""Every figure on tiny hand-made logs, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from routesim.policies.vocabulary import UNSUPPORTED_PROCESSOR, Fee, Refusal
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.metrics.columns import Columns
from routesim.reports.metrics.measure import measure
from routesim.sim.log import AttemptLog
from tests.logs import attempt, log, outages, payment

NONE = outages()
FEES = {"A": Fee(fixed_usd=0.1, percent_bps=100, declined_usd=0.02), "B": Fee(fixed_usd=0.3)}


def figures(of: AttemptLog | Columns, **given: Any) -> dict[str, float]:
    return measure(of, **({"outages": NONE, "fees": FEES} | given)).figures


def four_payments() -> AttemptLog:
    """One approved at once, one on the second attempt, one declined twice, one timed out; and one in the warm-up."""
    return log(
        [
            payment("warm", -3_600, warm_up=True, amount_usd=9_999.0),
            payment("p1", 0, amount_usd=50.0),
            payment("p2", 10, amount_usd=150.0),
            payment("p3", 20, amount_usd=200.0),
            payment("p4", 30, amount_usd=100.0),
        ],
        [
            attempt("warm", 1, "A", -3_600, 99, "timeout"),
            attempt("p1", 1, "A", 0, 1, "approved"),
            attempt("p2", 1, "A", 10, 2, "declined", decline_code="51", decline_kind="soft"),
            attempt("p2", 2, "B", 15, 1, "approved"),
            attempt("p3", 1, "A", 20, 1, "declined", decline_code="05", decline_kind="soft"),
            attempt("p3", 2, "B", 22, 1, "declined", decline_code="14", decline_kind="hard"),
            attempt("p4", 1, "A", 30, 30, "timeout"),
        ],
    )


def test_the_plain_rates_are_counts_over_payments() -> None:
    found = figures(four_payments())
    assert found["payments"] == 4
    assert found["orders"] == 4
    assert found["approval_rate"] == 2 / 4
    assert found["order_approval_rate"] == 2 / 4
    assert found["approval_rate_by_amount"] == 200 / 500
    assert found["first_attempt_rate"] == 1 / 4
    assert found["attempts_per_payment"] == 6 / 4
    assert found["recovered"] == 1 / 4
    assert found["dark_payments"] == 1
    assert found["payments_per_order"] == 1


def test_every_figure_is_there_and_in_order() -> None:
    assert list(figures(four_payments())) == list(METRICS)


def test_cost_charges_approvals_and_declines_by_processor() -> None:
    # p1: 0.1 + 50 · 1 %; p2: 0.02 at A, then 0.3 at B; p3: 0.02 at A, nothing at B; p4: 0.02 for the timeout
    assert figures(four_payments())["cost_usd"] == pytest.approx(0.6 + 0.32 + 0.02 + 0.02)


def test_a_refused_attempt_costs_nothing_and_is_not_dark() -> None:
    of = log([payment("p1")], [attempt("p1", 1, "A", 0, 1, "refused")])
    found = figures(of)
    assert found["cost_usd"] == 0
    assert found["dark_payments"] == 0
    assert found["approval_rate"] == 0


def test_a_payment_that_was_never_sent_counts_as_a_payment_and_not_as_dark() -> None:
    found = figures(log([payment("p1"), payment("p2", 1)], [attempt("p2", 1, "A", 1, 1, "approved")]))
    assert found["payments"] == 2
    assert found["approval_rate"] == 0.5
    assert found["dark_payments"] == 0


def test_an_empty_log_has_undefined_rates_and_zero_counts() -> None:
    found = figures(log([], []))
    assert found["payments"] == 0
    assert math.isnan(found["approval_rate"])
    assert math.isnan(found["latency_ms.wait.p95"])
    assert found["cost_usd"] == 0


def test_attempt_latencies_are_percentiles_of_answered_minus_sent() -> None:
    found = figures(four_payments())
    # 1, 2, 1, 1, 1, 30 seconds
    assert found["latency_ms.attempt.p50"] == 1_000
    assert found["latency_ms.attempt.p95"] == pytest.approx(np.percentile([1, 1, 1, 1, 2, 30], 95) * 1e3)


def test_the_wait_ends_before_the_first_deliberate_delay() -> None:
    of = log(
        [payment("p1", 0), payment("p2", 100), payment("p3", 200)],
        [
            attempt("p1", 1, "A", 0, 2, "declined"),
            attempt("p1", 2, "B", 5, 1, "declined"),  # 3 s later: still waited through, until 6 s
            attempt("p1", 3, "A", 6 + 900, 1, "declined"),  # 15 min later: deliberate
            attempt("p1", 4, "B", 910, 1, "approved"),  # soon after, but behind the delay
            attempt("p2", 1, "A", 100, 4, "declined"),
            attempt("p2", 2, "A", 104 + 899, 1, "approved"),  # a second short of deliberate: waited through
            attempt("p3", 1, "A", 200 + 1_000, 1, "approved"),  # delayed before anything was sent: no wait to measure
        ],
    )
    waits = sorted([6.0, 904.0])
    found = figures(of)
    for p in (50, 95, 99):
        assert found[f"latency_ms.wait.p{p}"] == pytest.approx(np.percentile(waits, p) * 1e3)


def test_duplicate_risk_counts_only_attempts_right_after_a_timeout() -> None:
    of = log(
        [payment("p1"), payment("p2", 1), payment("p3", 2)],
        [
            attempt("p1", 1, "A", 0, 30, "timeout"),
            attempt("p1", 2, "B", 31, 30, "timeout"),
            attempt("p1", 3, "A", 62, 1, "declined"),
            attempt("p1", 4, "B", 64, 1, "approved"),
            attempt("p2", 1, "A", 1, 30, "timeout"),  # the next row in order belongs to p3
            attempt("p3", 1, "A", 2, 1, "approved"),
        ],
    )
    assert figures(of)["duplicate_risk"] == 2


def test_recovery_runs_from_due_or_arrival_to_the_first_approval() -> None:
    h = 3_600
    of = log(
        [
            payment("m1", 0, initiator="MIT", due_s=-h),
            payment("m2", 0, initiator="MIT"),
            payment("m3", 0, initiator="MIT"),
            payment("m4", 0, initiator="MIT"),  # approved at once: it never failed
            payment("c1", 0),
        ],
        [
            attempt("m1", 1, "A", 0, 1, "declined"),
            attempt("m1", 2, "A", 24 * h - 1, 1, "approved"),  # 25 h after it was due
            attempt("m2", 1, "A", 0, 1, "timeout"),
            attempt("m2", 2, "B", 5 * h - 1, 1, "approved"),  # 5 h after it arrived
            attempt("m3", 1, "A", 0, 1, "declined"),
            attempt("m4", 1, "A", 0, 1, "approved"),
            attempt("c1", 1, "A", 0, 1, "declined"),
        ],
    )
    found = figures(of)
    assert found["recovery_delay_h"] == pytest.approx(15)
    assert found["never_recovered"] == pytest.approx(1 / 3)


def test_an_order_is_approved_by_any_payment_and_counts_where_it_began() -> None:
    of = log(
        [
            payment("w1", -10, order_id="early", warm_up=True),
            payment("w2", 5, order_id="early", previous_payment_id="w1"),
            payment("p1", 0, order_id="o1"),
            payment("p2", 60, order_id="o1", previous_payment_id="p1"),
            payment("p3", 70, order_id="o2"),
        ],
        [
            attempt("w1", 1, "A", -10, 1, "declined"),
            attempt("w2", 1, "A", 5, 1, "approved"),
            attempt("p1", 1, "A", 0, 1, "declined"),
            attempt("p2", 1, "A", 60, 1, "approved"),
            attempt("p3", 1, "A", 70, 1, "declined"),
        ],
    )
    found = figures(of)
    assert found["orders"] == 2
    assert found["order_approval_rate"] == 1 / 2
    assert found["payments_per_order"] == 3 / 2
    assert found["payments"] == 4
    assert found["approval_rate"] == 2 / 4


def test_lift_is_the_difference_of_rates_with_comebacks_in_one_log_only() -> None:
    ours = log(
        [payment("p1", 0, order_id="o1"), payment("p2", 10, order_id="o2")],
        [attempt("p1", 1, "A", 0, 1, "approved"), attempt("p2", 1, "A", 10, 1, "declined")],
    )
    theirs = log(
        [
            payment("p1", 0, order_id="o1"), payment("p2", 10, order_id="o2"),
            payment("p1-again", 50, order_id="o1", previous_payment_id="p1"),
        ],
        [
            attempt("p1", 1, "A", 0, 1, "declined"), attempt("p2", 1, "A", 10, 1, "declined"),
            attempt("p1-again", 1, "A", 50, 1, "approved"),
        ],
    )
    found = figures(ours, baseline=theirs)
    assert found["lift_pp"] == pytest.approx(100 * (1 / 2 - 1 / 3))
    assert found["order_lift_pp"] == pytest.approx(0)


def test_the_baseline_has_no_lift_on_itself() -> None:
    of = four_payments()
    found = figures(of, baseline=of)
    assert found["lift_pp"] == found["order_lift_pp"] == 0


def test_what_was_not_given_is_undefined() -> None:
    found = figures(four_payments(), outages=outages(("A", "down", 0, 60)))
    for name in ("lift_pp", "order_lift_pp", "lift_unsupported_pp", "unsupported_share", "lost_to_outages"):
        assert math.isnan(found[name]), name
    assert figures(four_payments())["lost_to_outages"] == 0  # no outage: nothing is lost


def test_lost_to_outages_is_what_the_same_draws_approve_without_them() -> None:
    without = log(
        [payment("p1", 0, amount_usd=70.0), payment("p2", 1, amount_usd=30.0)],
        [attempt("p1", 1, "A", 0, 1, "approved"), attempt("p2", 1, "A", 1, 1, "approved")],
    )
    with_them = log(
        [payment("p1", 0, amount_usd=70.0), payment("p2", 1, amount_usd=30.0)],
        [attempt("p1", 1, "A", 0, 30, "timeout"), attempt("p2", 1, "A", 1, 1, "approved")],
    )
    found = figures(with_them, outages=outages(("A", "down", 0, 1)), without_outages=without)
    assert found["lost_to_outages"] == 1
    assert found["lost_to_outages_usd"] == pytest.approx(70)


def test_refusals_are_added_up() -> None:
    refusals = {UNSUPPORTED_PROCESSOR: 3, Refusal("a network's rule"): 2, Refusal("gone", breaks_rule=False): 7}
    assert figures(four_payments(), refusals=refusals)["rule_breaches"] == 5


def test_columns_made_once_give_the_same_figures() -> None:
    of = four_payments()
    assert figures(Columns.of(of), baseline=Columns.of(of)) == pytest.approx(figures(of, baseline=of), nan_ok=True)


def test_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="outcome"):
        figures(log([payment("p1")], [attempt("p1", 1, "A", 0, 1, "lost")]))


def dark_log() -> AttemptLog:
    """A payment a minute for 100 minutes; those of minutes 20 to 39 go to A, which is down, and time out after 1 min.

    Payments 0 and 90 are dark for reasons of their own.
    """
    rows, sent = [], []
    for i in range(100):
        rows.append(payment(f"p{i:03d}", 60 * i))
        processor = "A" if 20 <= i < 40 else "B"
        dark = 20 <= i < 40 or i in (0, 90)
        sent.append(attempt(f"p{i:03d}", 1, processor, 60 * i, 60 if dark else 1, "timeout" if dark else "approved"))
    return log(rows, sent)


def test_darktime_is_window_times_excess_dark_share() -> None:
    # The outage of A: minutes 20 to 50. Its last attempt is answered at minute 40, so W = 20 to 40, with the 20 dark
    # payments of minutes 20-39 and the approved one of minute 40 inside; outside, 2 of 79 are dark.
    found = figures(dark_log(), outages=outages(("A", "down", 20 * 60, 50 * 60)))
    assert found["darktime_min"] == pytest.approx(20 * (20 / 21 - 2 / 79))


def test_darktime_adds_over_outages_and_never_falls_below_zero() -> None:
    one = ("A", "down", 20 * 60, 50 * 60)
    harmless = ("B", "slow", 60 * 60, 70 * 60)  # W = 60 to 69 min + 1 s: 10 payments, none dark
    found = figures(dark_log(), outages=outages(one, harmless))
    assert found["darktime_min"] == pytest.approx(20 * (20 / 21 - 2 / 69))


def test_an_outage_that_touched_nothing_has_no_darktime() -> None:
    assert figures(dark_log(), outages=outages(("A", "down", 60 * 60, 70 * 60)))["darktime_min"] == 0


def test_a_shared_outage_counts_once() -> None:
    shared = outages(("A", "down", 20 * 60, 50 * 60), ("C", "down", 20 * 60, 50 * 60))
    alone = outages(("A", "down", 20 * 60, 50 * 60))
    assert figures(dark_log(), outages=shared)["darktime_min"] == figures(dark_log(), outages=alone)["darktime_min"]


def test_a_window_is_cut_to_the_measured_part() -> None:
    of = log(
        [payment("w", -600, warm_up=True), payment("p1", 0), payment("p2", 600)],
        [
            attempt("w", 1, "A", -600, 60, "timeout"), attempt("p1", 1, "A", 0, 60, "timeout"),
            attempt("p2", 1, "A", 600, 1, "approved"),
        ],
    )
    assert figures(of, outages=outages(("A", "down", -1_200, 300)))["darktime_min"] == pytest.approx(1)


def test_tallies_count_and_add() -> None:
    of = four_payments()
    one = measure(of, outages=NONE, fees=FEES).series
    assert one.hours.rows() == [{"hour": one.hours.rows()[0]["hour"], "payments": 4.0, "approved": 2.0, "dark": 1.0}]
    assert {row["processor"]: (row["attempts"], row["first_attempts"], row["approvals"], row["approved_usd"])
            for row in one.processors.rows()} == {"A": (4, 4, 1, 50.0), "B": (2, 0, 1, 150.0)}
    assert {(row["processor"], row["decline_code"]): row["attempts"] for row in one.codes.rows()} == {
        ("A", "05"): 1, ("A", "51"): 1, ("B", "14"): 1}
    kinds = {kind: sum(row["count"] for row in one.latency.rows() if row["kind"] == kind)
             for kind in ("attempt", "wait")}
    assert kinds == {"attempt": 6, "wait": 4}
    both = one + one
    assert both.replications == 2
    assert both.hours.rows()[0]["payments"] == 8
    with pytest.raises(ValueError, match="do not add"):
        one.hours + one.codes
