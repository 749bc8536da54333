"""Attempt log → figures. With arrival A, sent s_k, answered a_k for the attempts k = 1 … n of a payment.

Every metric's formula is in the catalogue; only payments that arrived in the measured window count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from routesim.policies.vocabulary import Fee, Refusal
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.metrics.columns import ABSENT, APPROVED, REFUSED, TIMEOUT, Columns
from routesim.reports.metrics.darktime import darktime_min
from routesim.reports.metrics.support import Support
from routesim.reports.metrics.tallies import Series, series
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.customers import CUSTOMER_GONE, DELIBERATE_DELAY_S
from routesim.sim.log import AttemptLog

DELIBERATE_DELAY_US = round(DELIBERATE_DELAY_S * 1e6) - 1_000
"""A gap of this much or more between an answer and the next attempt is not waited through by the customer: a
millisecond less than the 15 minutes, since times in the log are rounded."""


@dataclass(frozen=True)
class Measured:
    """One replication under one policy: ``figures`` by name (NaN where undefined) and the tallies that add."""

    figures: dict[str, float]
    series: Series


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def sat_through(columns: Columns) -> Bools:
    """Per attempt: whether no deliberate delay lies between its payment's arrival and it."""
    before_us = np.empty_like(columns.sent_us)
    before_us[1:] = columns.answered_us[:-1]
    before_us[columns.first] = columns.arrived_us[columns.first_payment]
    delayed = columns.sent_us - before_us >= DELIBERATE_DELAY_US
    delays = np.cumsum(delayed)
    before_first: Ints = delays[columns.first] - delayed[columns.first]
    per_payment = np.diff(np.append(columns.first, len(columns.payment)))
    return np.asarray(delays == np.repeat(before_first, per_payment))


def waits_ms(columns: Columns) -> Floats:
    """The wait of each payment that had an attempt before its first deliberate delay, in ms."""
    waited_ms = payment_waits_ms(columns)
    return waited_ms[~np.isnan(waited_ms)]


def payment_waits_ms(columns: Columns) -> Floats:
    """The wait of each payment in ms, shape (N,); NaN where it had no attempt before its first deliberate delay."""
    waiting = sat_through(columns)
    last_us = np.full(len(columns.arrived_us), ABSENT, dtype=np.int64)
    np.maximum.at(last_us, columns.payment[waiting], columns.answered_us[waiting])
    return np.where(last_us != ABSENT, (last_us - columns.arrived_us) / 1e3, np.nan)


def fees_usd(columns: Columns, fees: Mapping[str, Fee]) -> Floats:
    """The fee of each attempt. A refused attempt never reached its processor and costs nothing, nor does an attempt
    at a processor without fees."""
    terms = [fees.get(name, Fee()) for name in columns.processors]
    fixed, bps, declined = (
        np.array([getattr(fee, part) for fee in terms], dtype=np.float64)[columns.processor]
        for part in ("fixed_usd", "percent_bps", "declined_usd")
    )
    approved_usd = fixed + columns.amount_usd[columns.payment] * bps / 10_000
    cost = np.where(columns.outcome == APPROVED, approved_usd, declined)
    return np.asarray(np.where(columns.outcome == REFUSED, 0.0, cost))


def _orders_approved(columns: Columns) -> int:
    counted = columns.approved & (columns.order >= 0)
    return int((np.bincount(columns.order[counted], minlength=columns.orders) > 0).sum())


def _first_approved(columns: Columns) -> float:
    """The share approved at once of the payments that are there under every policy: no customer came back with them."""
    won = columns.first_payment[columns.outcome[columns.first] == APPROVED]
    return _ratio((~columns.follows[won]).sum(), (~columns.follows).sum())


def _recovery(columns: Columns) -> tuple[float, float]:
    """Median delay in hours and the share never recovered, over MIT payments whose first attempt failed."""
    failed = columns.merchant_initiated[columns.first_payment] & (columns.outcome[columns.first] != APPROVED)
    payment = columns.first_payment[failed]
    if not len(payment):
        return float("nan"), float("nan")
    approved_us = np.full(len(columns.arrived_us), ABSENT, dtype=np.int64)
    won = np.flatnonzero(columns.outcome == APPROVED)[::-1]  # the first approval is written last, and stays
    approved_us[columns.payment[won]] = columns.answered_us[won]
    recovered = payment[columns.approved[payment]]
    due_us = np.where(columns.due_us == ABSENT, columns.arrived_us, columns.due_us)[recovered]
    delay_h = (approved_us[recovered] - due_us) / 3.6e9
    median = float(np.median(delay_h)) if len(delay_h) else float("nan")
    return median, 1.0 - len(recovered) / len(payment)


def lift_unsupported_pp(policy: Columns, baseline: Columns) -> float:
    """The part of the lift that rests on payments with an unsupported attempt under the policy or the baseline.

    With U those payments, r the baseline's approval rate, and N_p, N_b the payments of each log (comebacks make them
    differ): 100 · [Σ_{i in U, policy} (approved_i - r) / N_p - Σ_{i in U, baseline} (approved_i - r) / N_b].
    Over all payments this is lift_pp itself, so the parts add up; where both logs hold the same payments it is
    100 · Σ_{i in U} (approved by policy - approved by baseline) / N. NaN without a Support.
    """
    if policy.unsupported is None or baseline.unsupported is None:
        return float("nan")
    ours, theirs = _touched(policy), _touched(baseline)
    if policy.payment_id.equals(baseline.payment_id):
        ours = theirs = ours | theirs
    else:
        match = pd.Index(baseline.payment_id.to_pandas()).get_indexer(pd.Index(policy.payment_id.to_pandas()))
        here = np.flatnonzero(match >= 0)
        there = match[here]
        either = ours[here] | theirs[there]
        ours[here], theirs[there] = either, either
    n_policy, n_baseline = len(ours), len(theirs)
    if not n_policy or not n_baseline:
        return float("nan")
    rate = float(baseline.approved.mean())
    gained = float((policy.approved[ours] - rate).sum()) / n_policy
    return 100.0 * (gained - float((baseline.approved[theirs] - rate).sum()) / n_baseline)


def _touched(columns: Columns) -> Bools:
    touched = np.zeros(len(columns.arrived_us), dtype=bool)
    touched[columns.payment[columns.unsupported]] = True
    return touched


def _delayed_retries(columns: Columns) -> int:
    """Attempts behind a deliberate delay, of payments that no merchant initiated; a first attempt is no retry."""
    behind = ~sat_through(columns)
    behind[columns.first] = False
    return int((behind & ~columns.merchant_initiated[columns.payment]).sum())


def _late_approvals(columns: Columns) -> dict[str, float]:
    """The figures on late approvals; NaN where it is not known of every timeout, as in history."""
    names = ("late_approvals", "reversals_usd", "duplicates")
    if (columns.late_approval[columns.outcome == TIMEOUT] < 0).any():
        return dict.fromkeys(names, float("nan"))
    payment = columns.payment[columns.late_approval == 1]
    late = np.bincount(payment, minlength=len(columns.approved))
    charged_again = np.maximum(late + columns.approved - 1, 0)
    values = (len(payment), columns.amount_usd[payment].sum(), charged_again.sum())
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _percentiles(prefix: str, ms: Floats) -> dict[str, float]:
    values = np.percentile(ms, (50, 95, 99)) if len(ms) else np.full(3, np.nan)
    return {f"{prefix}.p{p}": float(value) for p, value in zip((50, 95, 99), values, strict=True)}


def _against(columns: Columns, baseline: Columns | None) -> dict[str, float]:
    if baseline is None:
        return {name: float("nan") for name, metric in METRICS.items() if metric.against_baseline}
    by_payment = _ratio(columns.approved.sum(), len(columns.approved))
    by_order = _ratio(_orders_approved(columns), columns.orders)
    return {
        "lift_pp": 100 * (by_payment - _ratio(baseline.approved.sum(), len(baseline.approved))),
        "order_lift_pp": 100 * (by_order - _ratio(_orders_approved(baseline), baseline.orders)),
        "first_attempt_lift_pp": 100 * (_first_approved(columns) - _first_approved(baseline)),
        "lift_unsupported_pp": lift_unsupported_pp(columns, baseline),
    }


def _lost(columns: Columns, outages: pa.Table, without: Columns | None) -> dict[str, float]:
    if without is None:  # with no outage there is nothing to take away
        nothing = 0.0 if outages.num_rows == 0 else float("nan")
        return {"lost_to_outages": nothing, "lost_to_outages_usd": nothing}
    usd = without.amount_usd[without.approved].sum() - columns.amount_usd[columns.approved].sum()
    return {
        "lost_to_outages": float(without.approved.sum() - columns.approved.sum()),
        "lost_to_outages_usd": float(usd),
    }


def measure(
    log: AttemptLog | Columns,
    *,
    outages: pa.Table,
    fees: Mapping[str, Fee],
    support: Support | None = None,
    baseline: AttemptLog | Columns | None = None,
    without_outages: AttemptLog | Columns | None = None,
    refusals: Mapping[Refusal, int] | None = None,
    false_ejections: tuple[float, float] = (float("nan"), float("nan")),
) -> Measured:
    """Every figure of one replication under one policy.

    ``outages`` (processor, kind, start, end): those of this replication. ``baseline``: the baseline's log of the same
    world and luck (its own log for the baseline itself); ``without_outages``: this policy's log under the same draws
    with the outages taken away; ``refusals``: how often the engine refused an action, and why; ``false_ejections``:
    their number and minutes (``outage_costs``). A log that is used
    more than once may be given as ``Columns.of(log, support.unsupported)``. Figures that need what was not given are
    NaN.
    """
    ours = _columns(log, support)
    n, n_attempts = len(ours.approved), len(ours.payment)
    after_timeout: Ints = np.flatnonzero((ours.outcome[:-1] == TIMEOUT) & (ours.payment[1:] == ours.payment[:-1]))
    wait_ms, fee_usd = waits_ms(ours), fees_usd(ours, fees) + ours.network_fee_usd
    recovery_delay_h, never_recovered = _recovery(ours)
    figures = {
        "approval_rate": _ratio(ours.approved.sum(), n),
        "order_approval_rate": _ratio(_orders_approved(ours), ours.orders),
        "approval_rate_by_amount": _ratio(ours.amount_usd[ours.approved].sum(), ours.amount_usd.sum()),
        "first_attempt_rate": _ratio((ours.outcome[ours.first] == APPROVED).sum(), n),
        "attempts_per_payment": _ratio(n_attempts, n),
        "payments_per_order": _ratio((ours.order >= 0).sum(), ours.orders),
        "recovered": _ratio((ours.approved & (ours.attempts > 1)).sum(), n),
        "dark_payments": ours.dark.sum(),
        "darktime_min": darktime_min(ours, outages),
        "recovery_delay_h": recovery_delay_h,
        "never_recovered": never_recovered,
        "cost_usd": fee_usd.sum(),
        "network_fees_usd": ours.network_fee_usd.sum(),
        "unsupported_share": float("nan") if ours.unsupported is None else _ratio(ours.unsupported.sum(), n_attempts),
        "rule_breaches": sum(n for refusal, n in (refusals or {}).items() if refusal.breaks_rule),
        "network_breaches": ours.breach.sum(),
        "delayed_retries": _delayed_retries(ours),
        "customers_gone": (refusals or {}).get(CUSTOMER_GONE, 0),
        "duplicate_risk": len(after_timeout),
        **_late_approvals(ours),
        "payments": n,
        "orders": ours.orders,
        **_against(ours, None if baseline is None else _columns(baseline, support)),
        **_lost(ours, outages, None if without_outages is None else _columns(without_outages, None)),
        "false_ejections": false_ejections[0],
        "false_ejection_min": false_ejections[1],
        **_percentiles("latency_ms.attempt", (ours.answered_us - ours.sent_us) / 1e3),
        **_percentiles("latency_ms.wait", wait_ms),
    }
    return Measured({name: float(figures[name]) for name in METRICS}, series(ours, wait_ms, fee_usd))


def _columns(log: AttemptLog | Columns, support: Support | None) -> Columns:
    if isinstance(log, Columns):
        return log
    return Columns.of(log, None if support is None else support.unsupported)
