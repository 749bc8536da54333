"""The figures of an experiment in plain words: should it be run, for how long, and by which rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from routesim.reports.experiment import Plan
from routesim.reports.words import number, percent, signed

NAMES = {
    "auto_winner": "the platform's rule", "fixed_horizon": "a single look on the last day",
    "obrien_fleming": "O'Brien and Fleming's boundary", "pocock": "Pocock's boundary",
    "always_valid": "the always-valid sequence", "cuped": "a single look with CUPED",
}
_PREFERRED = ("obrien_fleming", "pocock", "fixed_horizon", "always_valid")  # the sooner it stops, the sooner it stands
_WORTH = 0.03
"""A rule that stops sooner may find this much less often."""
_SHOWN_PP = 0.1  # a difference that is smaller is not worth a sentence

Figures = Mapping[str, Any]


def chance_of(figures: Figures, setting: str, rule: str, winner: str | None) -> float | None:
    """The chance that the rule crowns that variant (None: any), from independent payments where they can tell it, else
    from the full simulator."""
    direct = figures["direct"].get(setting, {}).get(rule)
    found = direct or figures["rules"][setting][rule]
    value = (found["p_any"] if winner is None else found["p_wins"][winner])["value"]
    return None if value is None else float(value)


def best(variants: Sequence[str], figures: Figures) -> str:
    """The treatment with the greatest simulated lift."""
    return max(variants[1:], key=lambda name: figures["lift_pp"][name]["value"] or -math.inf)


def recommended(variants: Sequence[str], figures: Figures) -> str:
    """The rule that keeps its level and finds the best treatment about as often as any, the sooner the better."""
    name = best(variants, figures)
    winner = name if (figures["lift_pp"][name]["value"] or 0.0) >= 0 else variants[0]
    finds = {rule: chance_of(figures, "truth", rule, winner) or 0.0 for rule in _PREFERRED}
    return next(rule for rule in _PREFERRED if finds[rule] >= max(finds.values()) - _WORTH)


def advice(plan: Plan, figures: Figures, rule: str) -> list[str]:
    """A few sentences, each from the figures."""
    control, name = plan.variants[0], best(plan.variants, figures)
    return [_lift(control, name, figures), *_size(plan, name, figures), *_platform(plan, control, name, figures),
            *_instead(plan, name, figures), *_limits(plan, name, figures)]


def _lift(control: str, name: str, figures: Figures) -> str:
    lift = figures["lift_pp"][name]
    if lift["low"] is None:
        return f"{name} differs from {control} by {signed(lift['value'])} pp in one replication, which shows nothing."
    between = f"than {control} (95 % interval {signed(lift['low'])} to {signed(lift['high'])})."
    if lift["low"] > 0:
        return f"Given all of the traffic, {name} would approve {number(lift['value'], 2)} pp more {between}"
    if lift["high"] < 0:
        return f"Given all of the traffic, {name} would approve {number(-lift['value'], 2)} pp less {between}"
    return (f"The simulation does not tell {name} from {control}: {signed(lift['value'])} pp "
            f"(95 % interval {signed(lift['low'])} to {signed(lift['high'])}).")


def _size(plan: Plan, name: str, figures: Figures) -> list[str]:
    expected, low = figures["sizes"][name]["expected"], figures["sizes"][name]["low_end"]
    if expected is None:
        return []
    text = (f"To prove that live with a chance of 80 % takes {number(expected['n_treatment'])} payments in {name}, "
            f"{_days(expected['days'])} at {number(figures['payments_per_day'])} payments a day")
    if low is not None:
        text += f"; {_days(low['days'])} if it is only the low end of the interval"
    if expected["days"] > plan.days:
        return [f"{text}. The {plan.days} days of this test are too few: make it longer, or nearer to equal shares."]
    spare = "leave room" if low is not None and low["days"] <= plan.days else "are enough for the expected lift alone"
    return [f"{text}. The {plan.days} days of this test {spare}."]


def _platform(plan: Plan, control: str, name: str, figures: Figures) -> list[str]:
    right = chance_of(figures, "truth", "auto_winner", name)
    wrong = chance_of(figures, "truth", "auto_winner", control)
    false = chance_of(figures, "alike", "auto_winner", None)
    text = (f"The platform's rule would crown {name} in {percent(right, 1)} of such tests and {control} in "
            f"{percent(wrong, 1)}; were both the same, it would still crown one of them in {percent(false, 1)}.")
    worth = figures["rules"]["truth"]["auto_winner"]["exaggeration"]
    if worth["value"] is not None and worth["count"] > 1:
        text += (f" The lift that it shows on the day it calls {name} is on average "
                 f"{number(worth['value'], 2)} times the true one{_error(worth)}.")
    return [text]


def _instead(plan: Plan, name: str, figures: Figures) -> list[str]:
    rule = figures["recommended"]
    finds, errs = (chance_of(figures, *which) for which in (("truth", rule, name), ("alike", rule, None)))
    day = figures["rules"]["truth"][rule]["mean_day_if_called"]["value"]
    text = (f"Use {NAMES[rule]} instead: it finds {name} in {percent(finds, 1)} of tests"
            + ("" if day is None else f", on day {number(day, 1)} on average")
            + f", and calls a winner in {percent(errs, 1)} where there is none.")
    cuped = figures["cuped"]
    if cuped is not None:
        removed = cuped["variance_removed"]["value"]
        text += (f" What customers did before the test explains {percent(removed, 1)} of the variance, "
                 + ("so CUPED is worth its trouble." if removed > 0.05 else "so CUPED gains hardly anything here."))
    return [text]


def _limits(plan: Plan, name: str, figures: Figures) -> list[str]:
    said: list[str] = []
    off = figures["observed_lift_pp"][name]["less_rollout"]
    if off["standard_error"] and abs(off["value"]) > max(3 * off["standard_error"], _SHOWN_PP):
        size = "small" if off["value"] < 0 else "large"
        said.append(f"A test shows the lift {number(abs(off['value']), 2)} pp too {size}"
                    f"{_error(off)}: the variants share processors"
                    + (", and customers who come back after a failure may meet the other variant, which bucketing by "
                       "order avoids." if plan.unit == "payment" else "."))
    if figures["naive_level"] > 0.06:
        said.append(f"Payments of one unit are alike (design effect {number(figures['design_effect'], 2)}): a p-value "
                    f"that takes them as independent errs in {percent(figures['naive_level'], 1)} of tests, not 5 %.")
    stale = figures["stale"]["truth"]["share"]["value"] or 0.0
    if stale > 0.001:
        said.append(f"{percent(stale, 1)} of the payments kept an assignment that the split of their day would not "
                    f"give: leave the first day after each change out of the verdict.")
    ramp = figures["ramp"]["truth"]
    if ramp is not None and ramp["difference_pp"]["value"] is not None:
        said.append(f"The ramp moves the lift of all payments together by {signed(ramp['difference_pp']['value'])} pp"
                    f"{_error(ramp['difference_pp'])}: read it stage by stage.")
    apart = {NAMES[row["rule"]]: None for rows in figures["direct"].get("agreement", {}).values() for row in rows
             if not row["agrees"]}
    if apart:
        said.append(f"The full simulator and independent payments differ for {', '.join(apart)}: trust the full "
                    f"simulator there.")
    return said


def _error(found: Figures) -> str:
    return "" if found["standard_error"] is None else f" (± {number(found['standard_error'], 2)})"


def _days(days: float) -> str:
    whole = math.ceil(days)
    return f"{number(whole)} {'day' if whole == 1 else 'days'}"
