"""Every metric of a run, one record each: what the outputs call it, its formula, its unit, and how it reads.

``metrics.measure`` computes them from a log, under the same names; the summary, the pages, the terminal and the
comparison of two runs take everything else from here. Only payments that arrived in the measured window count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from routesim.reports.words import between, duration, number, percent, points, signed, signed_duration, span

Scale = Literal["share", "count", "ratio", "money", "time", "difference"]
"""``share``: part of a whole; ``count``: how many in a replication; ``ratio``: so many of one thing per other;
``money``, ``time``: amounts of them; ``difference``: of two such values, so it may be negative."""

Better = Literal["higher", "lower", "neither"]


_TIMES = {"ms": duration, "s": span}
"""Units whose values are shown in the unit that suits their size."""


@dataclass(frozen=True)
class Metric:
    """``label`` is for people, without the unit; ``digits`` are those shown after the point, of a share as per cent.

    ``low`` and ``high`` bound the values that are possible; None: no bound. ``against_baseline``: the metric measures a
    policy against its run's baseline, so of the baseline itself it is zero by definition.

    >>> approval = METRICS["approval_rate"]
    >>> approval.text(0.8614), approval.difference_text(0.0308), approval.better
    ('86.14 %', '+3.08 pp', 'higher')
    """

    name: str
    label: str
    unit: str
    scale: Scale
    better: Better
    formula: str
    digits: int = 0
    low: float | None = 0.0
    high: float | None = None
    against_baseline: bool = False

    @property
    def heading(self) -> str:
        """The label, with the unit where the values don't show it themselves."""
        return f"{self.label}, {self.unit}" if self.unit in ("pp", "USD", "min", "h") else self.label

    def text(self, value: float | None, digits: int | None = None) -> str:
        """A value; ``digits`` instead of the metric's own. A dash where unknown."""
        places = self.digits if digits is None else digits
        if self.unit == "share":
            return percent(value, places)
        if self.unit == "pp":
            return signed(value, places)
        if self.unit in _TIMES:
            return _TIMES[self.unit](value)
        return number(value, places)

    def difference_text(self, value: float | None, digits: int | None = None) -> str:
        """The difference of two values, with its sign: of shares in percentage points."""
        places = self.digits if digits is None else digits
        if self.unit == "share":
            return points(value, places)
        return signed_duration(value) if self.unit == "ms" else signed(value, places)

    def in_unit(self, value: float | None) -> str:
        """A value in the metric's unit, with two digits and more below a thousand: for the table of everything."""
        if self.unit == "share":
            return percent(value, max(2, self.digits))
        return number(value, max(2, self.digits) if value is not None and abs(value) < 1_000 else self.digits)

    def between(self, low: float | None, high: float | None) -> str:
        """The two ends of an interval of the metric; empty where there is none."""
        return between(low, high, self.text)


def _share(name: str, label: str, better: Better, formula: str, digits: int = 2) -> Metric:
    return Metric(name, label, "share", "share", better, formula, digits, high=1.0)


def _lift(name: str, label: str, better: Better, formula: str) -> Metric:
    return Metric(name, label, "pp", "difference", better, formula, 2, low=-100.0, high=100.0, against_baseline=True)


def _latency(name: str, label: str, formula: str) -> Metric:
    return Metric(name, label, "ms", "time", "lower", formula)


_ALL = (
    _share("approval_rate", "Approval rate", "higher", "approved payments / payments"),
    _lift("lift_pp", "Lift on the baseline", "higher",
          "100 · (approval rate of the policy - of the baseline), same world and luck"),
    _share("order_approval_rate", "Orders approved", "higher", "orders with an approved payment / orders"),
    _lift("order_lift_pp", "Lift in orders approved", "higher",
          "100 · (order approval rate of the policy - of the baseline), same world and luck"),
    _share("approval_rate_by_amount", "Approval rate by amount", "higher",
           "USD of approved payments / USD of payments"),
    _share("first_attempt_rate", "First attempts approved", "higher",
           "payments whose first attempt was approved / payments"),
    _lift("first_attempt_lift_pp", "Lift in first attempts approved", "higher",
          "100 · (share of first attempts approved by the policy - by the baseline) over the payments that follow no "
          "failed one, same world and luck"),
    Metric("attempts_per_payment", "Attempts per payment", "number", "ratio", "neither", "attempts / payments", 3),
    Metric("payments_per_order", "Payments per order", "number", "ratio", "neither",
           "payments / orders: above 1, customers came back after a failure", 3, low=1.0),
    _share("recovered", "Recovered by a retry", "neither", "payments approved with more than one attempt / payments"),
    Metric("dark_payments", "Dark payments", "payments", "count", "lower",
           "payments whose last attempt brought no answer of an issuer (timeout, unavailable)"),
    Metric("darktime_min", "Darktime", "min", "time", "lower",
           "Σ over outages of |W| · max(0, dark share of payments arriving in W - dark share outside all windows), "
           "W from the outage's start to the last answer of an attempt that it hit", 1),
    Metric("lost_to_outages", "Payments lost to outages", "payments", "difference", "lower",
           "approvals with the outages taken away - approvals with them, same draws", low=None),
    Metric("lost_to_outages_usd", "Amount lost to outages", "USD", "difference", "lower",
           "approved USD with the outages taken away - with them, same draws", low=None),
    Metric("false_ejections", "False ejections", "number", "count", "lower",
           "stretches in which a processor was passed over and no outage of it explains why", 1),
    Metric("false_ejection_min", "Time in false ejections", "min", "time", "lower",
           "Σ over false ejections of the first attempt that passed the processor over → the next ordinary attempt at "
           "it", 1),
    _latency("latency_ms.attempt.p50", "Latency of an attempt, median", "median of answered - sent over attempts"),
    _latency("latency_ms.attempt.p95", "Latency of an attempt, 95th percentile",
             "95th percentile of answered - sent over attempts"),
    _latency("latency_ms.attempt.p99", "Latency of an attempt, 99th percentile",
             "99th percentile of answered - sent over attempts"),
    _latency("latency_ms.wait.p50", "Wait, median",
             "median of the wait: last answer - arrival over the attempts before the first deliberate delay of 15 "
             "minutes or more"),
    _latency("latency_ms.wait.p95", "Wait, 95th percentile", "95th percentile of the wait"),
    _latency("latency_ms.wait.p99", "Wait, 99th percentile", "99th percentile of the wait"),
    Metric("recovery_delay_h", "MIT recovered after", "h", "time", "lower",
           "median of due (or arrival) → approved over merchant-initiated payments that failed at first and were "
           "approved later", 1, low=None),  # an attempt may be approved before the payment falls due
    _share("never_recovered", "MIT never recovered", "lower",
           "merchant-initiated payments that failed at first and were never approved / those that failed at first"),
    Metric("cost_usd", "Cost", "USD", "money", "lower",
           "fees of all attempts, the card networks' for breaches of their rules included"),
    Metric("network_fees_usd", "Network fees", "USD", "money", "lower",
           "what the card networks charge for attempts that broke their rules on reattempts", 2),
    _share("unsupported_share", "Attempts unsupported", "lower",
           "attempts in cells with fewer than 30 attempts in history / attempts"),
    _lift("lift_unsupported_pp", "Lift that rests on unsupported attempts", "neither",
          "the part of lift_pp from payments with an unsupported attempt under either policy"),
    Metric("rule_breaches", "Refused by a rule", "number", "count", "lower",
           "actions that the engine refused because a rule forbids them", 1),
    Metric("network_breaches", "Network breaches", "attempts", "count", "lower",
           "attempts that went out though a card network's rule on reattempts forbids them", 1),
    Metric("delayed_retries", "Delayed retries", "attempts", "count", "neither",
           "attempts of payments that no merchant initiated, behind a deliberate delay of 15 minutes or more: they "
           "need a card on file and a customer who still wants it"),
    Metric("customers_gone", "Customers gone", "payments", "count", "neither",
           "payments that were to be tried again when their customer was gone"),
    Metric("duplicate_risk", "Retries after a timeout", "attempts", "count", "lower",
           "attempts right after a timeout of the same payment, which may yet be approved"),
    Metric("late_approvals", "Late approvals", "attempts", "count", "neither",
           "attempts that timed out and that the issuer approved all the same: each must be reversed", 1),
    Metric("reversals_usd", "Amount to reverse", "USD", "money", "neither", "amount of the late approvals"),
    Metric("duplicates", "Charged twice", "attempts", "count", "lower",
           "late approvals of payments that were charged elsewhere too: Σ over payments of max(0, approvals + late "
           "approvals - 1)", 1),
    Metric("payments", "Payments", "payments", "count", "neither", "payments, comebacks included"),
    Metric("orders", "Orders", "orders", "count", "neither",
           "orders whose first payment lies in the measured window"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""By name, in the order of the outputs."""

OUTAGE_METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    Metric("lost_payments", "Payments lost", "payments", "difference", "lower",
           "payments approved only with the outages taken away - approved only with them, same draws", 1, low=None),
    Metric("lost_usd", "Amount lost", "USD", "difference", "lower",
           "USD of payments approved only with the outages taken away - of those approved only with them", low=None),
    Metric("detect_s", "Detected after", "s", "time", "lower",
           "the outage's start → the first attempt that passes the processor over"),
    Metric("drained", "Attempts drained", "attempts", "count", "lower",
           "attempts at the processor during the outage that timed out or that no issuer answered, probes included", 1),
    Metric("failback_s", "Traffic back after", "s", "time", "lower",
           "the outage's end → the next ordinary attempt at the processor"),
)}
"""What one outage costs a policy (outages.costs computes them), by name, in the order of the page."""


def metric(name: str) -> Metric:
    """The record; one that claims nothing for a metric of another version's run, which this one doesn't know."""
    return METRICS.get(name) or Metric(name, name, "", "difference", "neither", "", 2, low=None)
