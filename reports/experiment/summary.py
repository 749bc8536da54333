"""The figures of an experiment over its replications: what experiment.json holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.experiment.advice import advice, recommended
from routesim.reports.experiment.direct_chances import agreement, direct
from routesim.reports.experiment.looks import ExperimentPlan
from routesim.reports.experiment.operating import corrected, guards, operating, ramped, stale
from routesim.reports.experiment.record import Record, lift_pp
from routesim.reports.experiment.strata import in_order
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.statistics.by_world import Figures, by_world, mean
from routesim.reports.statistics.design_effects import naive_false_positives
from routesim.reports.statistics.intervals import interval
from routesim.reports.statistics.power import LIFTS_PP, ExperimentDesign, arms, power, size
from routesim.reports.statistics.sample_ratio import payments_to_detect
from routesim.sim.arrays import Floats

LOST = (0.005, 0.01, 0.02, 0.05)
"""Shares of the treatment's units that a log may lose: how soon is it seen?"""
DIRECT_REPLICATIONS = 20_000  # over all worlds: each chance to .0035 or better
LEVEL = 0.05
POWER = 0.8
MOST_CURVE_DAYS = 365


def summary(plan: ExperimentPlan, truth: Sequence[Record], alike: Sequence[Record], rates: Floats, lifts: Floats,
            acted: Sequence[Sequence[tuple[int, int]] | None], rule: str, seed: int) -> dict[str, Any]:
    """All figures. ``rates`` and ``lifts`` (pp): of each variant given all of the traffic, shape (variants, W, K), NaN
    where not run; ``acted``: for each test, payments and approvals with the winner acted upon, and without, None where
    nobody was; ``rule``: whose winner. The tests of a world come in a row."""
    worlds = lifts.shape[1]
    found_lifts = {plan.variants[t]: interval(lifts[t], METRICS["lift_pp"]).as_json() for t in plan.treatments}
    true, none = _true_lifts(lifts, len(truth)), np.zeros((len(alike), len(plan.treatments)))
    effect = float(np.mean([test.design_effect for test in truth]))
    per_day = float(np.mean([sum(n for n, _ in test.counts) for test in truth])) / plan.days
    by_rule = {"truth": operating(plan, truth, true, worlds), "alike": operating(plan, alike, none, worlds)}
    quick = _quick(plan, by_rule, rates, per_day, truth, seed)
    control = interval(rates[0]).value or 0.0
    figures: dict[str, Any] = {
        "variants": {name: {"share_bps": plan.stages[-1][1][v],
                            "approval_rate": interval(rates[v], METRICS["approval_rate"]).as_json()}
                     for v, name in enumerate(plan.variants)},
        "lift_pp": found_lifts,
        "observed_lift_pp": {plan.variants[t]: _observed(truth, lifts, t) for t in plan.treatments},
        "payments_per_day": per_day,
        "design_effect": effect,
        "naive_level": naive_false_positives(effect),
        "sizes": {plan.variants[t]: _sizes(plan, t, control, found_lifts[plan.variants[t]], per_day, effect)
                  for t in plan.treatments},
        "days_by_lift": _days_by_lift(plan, control, per_day, effect),
        "power_by_day": {plan.variants[t]: _curve(plan, t, control, found_lifts[plan.variants[t]], per_day, effect)
                         for t in plan.treatments},
        "rules": by_rule,
        "direct": quick,
        "guards": {"truth": guards(truth, worlds), "alike": guards(alike, worlds)},
        "stale": {"truth": stale(truth, worlds), "alike": stale(alike, worlds)},
        "ramp": {"truth": ramped(truth, worlds), "alike": ramped(alike, worlds)},
        "winners_lift": corrected(plan, truth, true, worlds),
        "winners_lift_alike": corrected(plan, alike, none, worlds),
        "winners_lift_fixed_horizon": corrected(plan, truth, true, worlds, "fixed_horizon"),
        "cuped": _cuped(truth, worlds),
        "sample_ratio": _sample_ratio(plan, float(np.mean([test.units for test in truth])) / plan.days),
        "strata": _strata(truth, worlds),
        "acted": _acted(acted, rule, worlds),
    }
    figures["recommended"] = recommended(plan.variants, figures)
    figures["advice"] = advice(plan, figures)
    return figures


def _true_lifts(lifts: Floats, tests: int) -> Floats:
    """The lift of each treatment in the world of each test, pp, shape (tests, treatments)."""
    worlds = lifts.shape[1]
    known = np.isfinite(lifts[1:])
    own = np.where(known, lifts[1:], 0.0).sum(axis=2) / np.maximum(1, known.sum(axis=2))
    return np.repeat(own.T, tests // worlds, axis=0)


def _quick(plan: ExperimentPlan, by_rule: Figures, rates: Floats, per_day: float, tests: Sequence[Record],
           seed: int) -> Figures:
    known = [(float(np.nanmean(rates[0, w])), float(np.nanmean(rates[1, w]))) for w in range(rates.shape[1])]
    if not all(0 < p < 1 for pair in known for p in pair):
        return {"why_not": "a rate is 0 or 1"}
    each = max(2, DIRECT_REPLICATIONS // len(known))
    effects = [float(np.mean([test.looks[day].effect(1) for test in tests])) for day in range(plan.days)]
    found = direct(plan, known, per_day, effects, each, seed)
    if isinstance(found, str):
        return {"why_not": found}
    truth, alike = found
    return {"truth": truth, "alike": alike, "replications": each * len(known),
            "agreement": {"truth": agreement(plan, by_rule["truth"], truth, len(tests)),
                          "alike": agreement(plan, by_rule["alike"], alike, len(tests))}}


def _observed(tests: Sequence[Record], lifts: Floats, treatment: int) -> Figures:
    """What the test sees of the lift: at its last look, and when all outcomes are in; and what sharing processors, and
    customers who change the variant, do to it: its lift less that of the same replication's rollout."""
    in_the_end = by_world([test.lift_pp(treatment) for test in tests], lifts.shape[1])
    last = by_world([test.looks[-1].lift_pp(treatment) for test in tests], lifts.shape[1])
    return {"last_look": mean(last), "in_the_end": mean(in_the_end),
            "less_rollout": mean(in_the_end - lifts[treatment])}


def _ratio(plan: ExperimentPlan, treatment: int) -> float:
    split = plan.stages[-1][1]
    return split[0] / split[treatment]


def _one(control: float, lift: float | None, ratio: float, share: float, per_day: float, effect: float,
         ) -> Figures | None:
    """Sizes and days of a test for one lift (pp), at the power of 80 %; None where there is nothing to find."""
    if lift is None or lift == 0 or not (0 < control < 1 and 0 <= control + lift / 100 <= 1) or per_day <= 0:
        return None
    design = ExperimentDesign(LEVEL, 2, ratio)
    n_control, n_treatment = arms(effect * size(control, control + lift / 100, POWER, design), ratio)
    return {"lift_pp": lift, "n_control": n_control, "n_treatment": n_treatment,
            "days": (n_control + n_treatment) / (per_day * share)}


def _sizes(plan: ExperimentPlan, treatment: int, control: float, lift: Figures, per_day: float,
           effect: float) -> Figures:
    ratio, split = _ratio(plan, treatment), plan.stages[-1][1]
    share = (split[0] + split[treatment]) / BASIS_POINTS
    ends = [end for end in (lift["low"], lift["high"]) if end is not None]
    near = min(ends, key=abs, default=None)
    if ends and min(ends) <= 0 <= max(ends):
        near = None  # no size shows a lift of 0
    return {"expected": _one(control, lift["value"], ratio, share, per_day, effect),
            "end_nearest_0": _one(control, near, ratio, share, per_day, effect), "power": POWER, "level": LEVEL}


def _days_by_lift(plan: ExperimentPlan, control: float, per_day: float, effect: float) -> list[Figures]:
    split = plan.stages[-1][1]
    share = (split[0] + split[1]) / BASIS_POINTS
    rows = [_one(control, lift, _ratio(plan, 1), share, per_day, effect) for lift in LIFTS_PP]
    return [row for row in rows if row is not None]


def _curve(plan: ExperimentPlan, treatment: int, control: float, lift: Figures, per_day: float,
           effect: float) -> Figures:
    """The power of one look after so many days, for the lift and both ends of its interval."""
    share = plan.stages[-1][1][treatment] / BASIS_POINTS
    design = ExperimentDesign(LEVEL, 2, _ratio(plan, treatment))
    days = list(range(1, min(MOST_CURVE_DAYS, max(2 * plan.days, 28)) + 1))

    def at(one: float | None) -> list[float] | None:
        if one is None or not (0 < control < 1 and 0 <= control + one / 100 <= 1) or per_day <= 0:
            return None
        return [power(control, control + one / 100, max(1e-9, day * per_day * share / effect), design) for day in days]

    return {"day": days, **{name: at(lift[name]) for name in ("value", "low", "high")}}


def _cuped(tests: Sequence[Record], worlds: int) -> Figures | None:
    """What a customer's approvals before the test explain; None without a pre-period."""
    known = [[each["variance_removed"] for each in test.adjusted if each is not None] for test in tests]
    if not any(known):
        return None
    return {"variance_removed": mean(by_world([sum(each) / len(each) if each else None for each in known], worlds))}


def _sample_ratio(plan: ExperimentPlan, units_per_day: float) -> list[Figures]:
    """How soon the guard finds (with 80 % chance) that the log loses a share of the treatment's units, which it counts
    once each; ``units_per_day``: new ones, on average."""
    split = plan.stages[-1][1]
    both = split[0] + split[1]
    promised, rows = split[1] / both, []
    for lost in LOST:
        kept = promised * (1 - lost) / (1 - promised * lost)
        n = payments_to_detect(promised, kept)
        rows.append({"lost_share": lost, "units": n,
                     "days": n / max(1e-9, units_per_day * both / BASIS_POINTS)})
    return rows


def _strata(tests: Sequence[Record], worlds: int) -> list[Figures]:
    """The lift of the first treatment in each stratum, with intervals that hold for all strata at once (Bonferroni),
    and how far off one test alone may be."""
    places = sorted({(dimension, level) for test in tests for dimension, level, _ in test.strata}, key=in_order)
    per_test: list[dict[tuple[str, str], list[tuple[int, int]]]] = [
        {(dimension, level): counts for dimension, level, counts in test.strata} for test in tests]
    level = 1 - LEVEL / max(1, len(places))
    rows = []
    for place in places:
        counts = [found[place] for found in per_test if place in found]
        values = [lift_pp(found[place], 1) if place in found else None for found in per_test]
        table = np.array([np.nan if each is None else each for each in values]).reshape(worlds, -1)
        seen = interval(table, METRICS["lift_pp"], level)
        n_c, n_t = (float(np.mean([each[v][0] for each in counts])) for v in (0, 1))
        yes = sum(each[v][1] for each in counts for v in (0, 1))
        rate = yes / max(1, sum(each[v][0] for each in counts for v in (0, 1)))
        half = (float(-ndtri((1 - level) / 2)) * 100 * math.sqrt(rate * (1 - rate) * (1 / n_c + 1 / n_t))
                if n_c > 0 and n_t > 0 else None)
        rows.append({"dimension": place[0], "level": place[1], "payments": n_c + n_t, "approval_rate": rate,
                     "lift_pp": {"value": seen.value, "low": seen.low, "high": seen.high},
                     "one_test_half_width_pp": half})
    return rows


def _acted(acted: Sequence[Sequence[tuple[int, int]] | None], rule: str, worlds: int) -> Figures | None:
    """What acting on the winner gains over the test's own days, pp of all its payments, in the tests that called
    one (``gain_pp.count``); None where nobody acted."""
    if not any(acted):
        return None
    gained = [None if both is None else 100 * (both[0][1] / max(1, both[0][0]) - both[1][1] / max(1, both[1][0]))
              for both in acted]
    return {"rule": rule, "gain_pp": mean(by_world(gained, worlds))}
