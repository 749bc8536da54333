"""A live test as its daily looks see it: who counts by then, with what is known by then.

A look at the end of day d, in days from the test's begin, counts the payments that arrived at d - m or before, m being
the age from which a payment counts (0: all); approved is what was approved by d. So a retry that waits a day is missing
from the young payments, in whichever variant retries later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.metrics.columns import ABSENT, APPROVED, Columns, numbers, one_chunk, plain_text
from routesim.reports.metrics.measure import payment_waits_ms
from routesim.reports.statistics.sample_ratio import sample_ratio
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog


@dataclass(frozen=True)
class ExperimentPlan:
    """What was laid down before the test: its variants, control first; its length; its splits.

    ``stages``: from which day on (0 the first) which basis points, in the order of ``variants``. ``matures_days``: the
    age from which a payment counts. ``unit``: what is bucketed.
    """

    variants: tuple[str, ...]
    days: int
    stages: tuple[tuple[float, tuple[int, ...]], ...]
    matures_days: float = 0.0
    unit: str = "payment"

    @property
    def treatments(self) -> range:
        """The places of the variants but the control."""
        return range(1, len(self.variants))

    def stage(self, age_days: Floats) -> Ints:
        """The stage of payments that arrived so many days after the begin, shape (n,)."""
        return np.searchsorted([start for start, _ in self.stages], age_days, side="right").astype(np.int64) - 1

    def planned(self, variant: int) -> Floats:
        """A variant's payments that count at each look, shape (days,), in days of the whole volume."""
        ends = [*(start for start, _ in self.stages[1:]), float(self.days)]
        counted = np.maximum(0.0, np.arange(1, self.days + 1) - self.matures_days)
        return np.sum([np.clip(counted - start, 0, end - start) * split[variant] / BASIS_POINTS
                       for (start, split), end in zip(self.stages, ends, strict=True)], axis=0)

    def information(self, treatment: int) -> Floats:
        """Planned information at each look over that at the last, shape (days,): 1 / (1/n_c + 1/n_t), 0 before both."""
        return _information(self, treatment)


@lru_cache(maxsize=32)
def _information(plan: ExperimentPlan, treatment: int) -> Floats:
    control, treated = plan.planned(0), plan.planned(treatment)
    both = (control > 0) & (treated > 0)
    known = np.zeros(plan.days)
    known[both] = 1 / (1 / control[both] + 1 / treated[both])
    return known / known[-1] if known[-1] > 0 else known


@dataclass(frozen=True)
class Outcomes:
    """The n payments of a test in order of arrival.

    ``variant``: its place in the plan. ``age_days``: arrival, from the begin. ``approved_days``: approval, likewise;
    infinite where never. ``wait_ms``: what the customer sat through; NaN where nothing was sent. ``unit``: a number for
    each payment, order or customer, as is bucketed. ``before``: the customer's approval rate before the test, NaN where
    there was none. ``row``: its row in the log's payments.
    """

    variant: Ints
    age_days: Floats
    approved_days: Floats
    amount_usd: Floats
    wait_ms: Floats
    unit: Ints
    stale: Bools
    before: Floats
    row: Ints

    @property
    def approved(self) -> Bools:
        """Whether it was approved in the end."""
        return np.isfinite(self.approved_days)


def outcomes(log: AttemptLog, assigned: Mapping[str, tuple[int, bool]], start_s: float, unit: str) -> Outcomes:
    """The payments of ``log`` that are in the test. ``assigned``: a payment's variant and whether that is stale;
    ``start_s``: the begin, s since 1970 UTC; ``unit``: payment, order or customer."""
    columns = Columns.of(log)
    ids = columns.payment_id.to_pylist()
    kept = np.array([i for i, each in enumerate(ids) if each in assigned], dtype=np.int64)
    told = [assigned[ids[i]] for i in kept]
    approved_us = np.full(len(ids), ABSENT, dtype=np.int64)
    won = np.flatnonzero(columns.outcome == APPROVED)[::-1]  # the first approval is written last, and stays
    approved_us[columns.payment[won]] = columns.answered_us[won]
    never = approved_us[kept] == ABSENT
    begin_us, day_us = round(start_s * 1e6), 86_400e6
    row = np.flatnonzero(~numbers(log.payments["warm_up"]).astype(np.bool_))[kept]
    name = {"payment": "payment_id", "order": "order_id", "customer": "customer_id"}[unit]
    return Outcomes(
        variant=np.array([variant for variant, _ in told], dtype=np.int64),
        age_days=(columns.arrived_us[kept] - begin_us) / day_us,
        approved_days=np.where(never, np.inf, (approved_us[kept] - begin_us) / day_us),
        amount_usd=columns.amount_usd[kept],
        wait_ms=payment_waits_ms(columns)[kept],
        unit=_numbered(one_chunk(log.payments[name]).take(pa.array(row))),
        stale=np.array([stale for _, stale in told], dtype=np.bool_),
        before=_before(log)[row],
        row=row,
    )


def _before(log: AttemptLog) -> Floats:
    """Per payment of the log, its customer's approval rate over the warm-up; NaN where there is no such payment."""
    customer = _numbered(log.payments["customer_id"])
    size = int(customer.max(initial=-1)) + 2
    approved = np.zeros(len(customer))
    approved[log.payment_row[numbers(pc.equal(log.attempts["outcome"], "approved"))]] = 1.0
    early = numbers(log.payments["warm_up"]).astype(np.bool_) & (customer >= 0)
    count = np.bincount(customer[early], minlength=size).astype(np.float64)
    yes = np.bincount(customer[early], approved[early], minlength=size)
    return np.where(count > 0, yes / np.maximum(count, 1), np.nan)[customer]  # -1: the last place, which is empty


def _numbered(column: pa.ChunkedArray | pa.Array) -> Ints:
    """A number for each different text, in the order of their appearance; -1 where there is none."""
    codes = plain_text(column).dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(zero_copy_only=False), dtype=np.int64)


@dataclass(frozen=True)
class Look:
    """What is known at the end of ``day``, a value for each variant in the plan's order.

    ``p95_ms``: 95th percentile of the wait, None where nothing was sent. ``srm_p``: p-value of the sample ratio of the
    units that came in the present stage; None where there is nothing to compare. ``design_effect``: the variance
    of each variant's lift, as units are bucketed, over that of independent payments (the control's place: 1); empty
    where every unit has one payment.
    """

    day: int
    n: tuple[int, ...]
    approvals: tuple[int, ...]
    p95_ms: tuple[float | None, ...]
    revenue_usd: tuple[float, ...]
    srm_p: float | None
    design_effect: tuple[float, ...] = ()

    def effect(self, treatment: int) -> float:
        """The design effect of that treatment's lift."""
        return self.design_effect[treatment] if self.design_effect else 1.0

    def lift_pp(self, treatment: int) -> float | None:
        """The observed lift; None where an arm is empty."""
        if min(self.n[0], self.n[treatment]) == 0:
            return None
        return 100 * (self.approvals[treatment] / self.n[treatment] - self.approvals[0] / self.n[0])


def daily_looks(plan: ExperimentPlan, found: Outcomes) -> list[Look]:
    """A look at the end of every day of the plan."""
    size = len(plan.variants)
    ratio = _sample_ratios(plan, found)
    alone = len(np.unique(found.unit)) == len(found.unit)  # nothing to allow for
    looks = []
    for day in range(1, plan.days + 1):
        # a look at the very end of the test leaves out nobody for the rounding of a moment
        counted = int(np.searchsorted(found.age_days, day - plan.matures_days + 1e-12, side="right"))
        variant, wait_ms = found.variant[:counted], found.wait_ms[:counted]
        yes = found.approved_days[:counted] <= day
        effects = () if alone else (1.0, *(
            cluster_ratio([(yes[variant == v].astype(np.float64), found.unit[:counted][variant == v])
                           for v in (0, treatment)]) for treatment in plan.treatments))
        waits = [wait_ms[(variant == v) & ~np.isnan(wait_ms)] for v in range(size)]
        looks.append(Look(
            day,
            tuple(np.bincount(variant, minlength=size).tolist()),
            tuple(np.bincount(variant[yes], minlength=size).tolist()),
            tuple(float(np.percentile(each, 95)) if len(each) else None for each in waits),
            tuple(np.bincount(variant[yes], found.amount_usd[:counted][yes], minlength=size).tolist()),
            ratio[day - 1], effects))
    return looks


def _sample_ratios(plan: ExperimentPlan, found: Outcomes) -> list[float | None]:
    """The p-value at each look. Units are counted once a stage, by their first payment in it: the payments of a
    customer share a bucket, so they are one draw and not many."""
    stage = plan.stage(found.age_days)
    firsts = []
    for number in range(len(plan.stages)):
        rows = np.flatnonzero(stage == number)
        firsts.append(rows[np.unique(found.unit[rows], return_index=True)[1]])
    p_values: list[float | None] = []
    for day in range(1, plan.days + 1):
        number = int(plan.stage(np.array([day - 1e-9]))[0])
        rows = firsts[number]
        count = np.bincount(found.variant[rows[found.age_days[rows] <= day]], minlength=len(plan.variants))
        split = plan.stages[number][1]
        shared = [v for v, points in enumerate(split) if points > 0]
        if len(shared) < 2 or count[shared].sum() == 0:
            p_values.append(None)
        else:
            p_values.append(sample_ratio(count[shared].tolist(), [split[v] for v in shared]).p_value)
    return p_values


def cluster_ratio(arms: Sequence[tuple[Floats, Ints]]) -> float:
    """The variance of a difference of means when whole units are bucketed, over that of independent values:
    Σ_arms Σ_units (Σ (y - mean))² / n² over Σ_arms Σ (y - mean)² / n² (the linearised cluster variance).

    ``arms``: the values and the numbers of their units (-1 or more), each of shape (n,). 1 where nothing varies.
    """
    clustered = independent = 0.0
    for values, unit in arms:
        n = len(values)
        if n > 1:
            rest = values - values.mean()
            clustered += float((np.bincount(unit + 1, rest) ** 2).sum()) / n**2
            independent += float(rest @ rest) / n**2
    return clustered / independent if independent > 0 and clustered > 0 else 1.0


def design_effect(found: Outcomes) -> float:
    """The design effect of the unit for the lift between the first two variants, by what became of all payments."""
    yes = found.approved.astype(np.float64)
    return cluster_ratio([(yes[found.variant == v], found.unit[found.variant == v]) for v in (0, 1)])


def phase_counts(plan: ExperimentPlan, found: Outcomes) -> list[list[tuple[int, int]]]:
    """For each stage and variant: its payments, and those approved in the end."""
    stage = plan.stage(found.age_days)
    return [[(int(mine.sum()), int(found.approved[mine].sum()))
             for mine in ((stage == number) & (found.variant == v) for v in range(len(plan.variants)))]
            for number in range(len(plan.stages))]
