"""The figures of an experiment in plain words: should it be run, for how long, and by which rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from routesim.reports.experiment.looks import ExperimentPlan
from routesim.reports.experiment.rules import RULES
from routesim.reports.statistics.platform_rule import ALPHA, WinnerCondition
from routesim.reports.words import number, percent, signed

_PREFERRED = ("obrien_fleming", "pocock", "fixed_horizon", "always_valid")  # the sooner it stops, the sooner it stands
_WORTH = 0.03
"""A rule that stops sooner may find this much less often."""
_WHOLE_COUNTS = 0.001  # a boundary is made for normal values, and counts of payments are whole
_UNKNOWN = (WinnerCondition.LATENCY, WinnerCondition.REVENUE)  # guards that the direct way takes as met
_SHOWN_PP = 0.1  # a difference that is smaller is not worth a sentence

Figures = Mapping[str, Any]


def chance_of(figures: Figures, setting: str, rule: str, winner: str | None) -> Figures:
    """The chance that the rule declares that variant the winner (None: any), {value, low, high, direct}.

    From independent payments, which are surer, where they apply: where both ways agree on the rule in either
    setting and, for the platform's, its guards of latency and revenue, which they do not know, never held a lift back.
    Else from the full simulator with its interval.
    """
    quick = figures["direct"].get(setting, {}).get(rule)
    direct = quick is not None and _direct_holds(figures, rule)
    found = quick if direct else figures["rules"][setting][rule]
    one = found["p_any"] if winner is None else found["p_wins"][winner]
    reach = 1.96 * (one["standard_error"] or 0.0)
    low, high = (one["value"] - reach, one["value"] + reach) if direct else (one["low"], one["high"])
    return {"value": one["value"], "low": low, "high": high, "direct": direct}


def _direct_holds(figures: Figures, rule: str) -> bool:
    agree = all(row["agrees"] for rows in figures["direct"]["agreement"].values() for row in rows
                if row["rule"] == rule)
    guarded = rule == "auto_winner" and any(
        figures["guards"][setting]["trips"][guard]["value"] for setting in ("truth", "alike") for guard in _UNKNOWN)
    return agree and not guarded


def best(variants: Sequence[str], figures: Figures) -> str:
    """The treatment with the greatest simulated lift."""
    def lift(name: str) -> float:
        value = figures["lift_pp"][name]["value"]
        return -math.inf if value is None else value

    return max(variants[1:], key=lift)


def recommended(variants: Sequence[str], figures: Figures) -> str | None:
    """The rule that keeps its level and finds the better variant about as often as any, the sooner the better; None
    where no rule keeps its level: the low end of its false winners' 95 % interval is above 5 %."""
    kept = [rule for rule in _PREFERRED
            if (chance_of(figures, "alike", rule, None)["low"] or 0.0) <= ALPHA + _WHOLE_COUNTS]
    winner = _better(variants[0], best(variants, figures), figures)
    finds = {rule: chance_of(figures, "truth", rule, winner)["value"] or 0.0 for rule in kept}
    return next((rule for rule in kept if finds[rule] >= max(finds.values()) - _WORTH), None)


def _better(control: str, name: str, figures: Figures) -> str:
    """The variant that a test should declare the winner: the best treatment, or the control where that is worse."""
    return name if (figures["lift_pp"][name]["value"] or 0.0) >= 0 else control


def advice(plan: ExperimentPlan, figures: Figures) -> list[str]:
    """A few sentences, each from the figures."""
    control, name = plan.variants[0], best(plan.variants, figures)
    return [_lift(control, name, figures), *_size(plan, name, figures), *_platform(plan, control, name, figures),
            *_instead(control, name, figures), *_limits(plan, name, figures)]


def _lift(control: str, name: str, figures: Figures) -> str:
    lift = figures["lift_pp"][name]
    if lift["low"] is None:
        return f"{name} differs from {control} by {signed(lift['value'])} pp in one replication, which shows nothing."
    between = f"than {control} (95 % interval {signed(lift['low'])} to {signed(lift['high'])})."
    if lift["low"] > 0:
        return f"Given all of the traffic, {name} would approve {number(lift['value'], 2)} pp more {between}"
    if lift["high"] < 0:
        return f"Given all of the traffic, {name} would approve {number(-lift['value'], 2)} pp less {between}"
    return (f"The simulation does not separate {name} from {control}: {signed(lift['value'])} pp "
            f"(95 % interval {signed(lift['low'])} to {signed(lift['high'])}).")


def _size(plan: ExperimentPlan, name: str, figures: Figures) -> list[str]:
    expected, near = figures["sizes"][name]["expected"], figures["sizes"][name]["end_nearest_0"]
    if expected is None:
        return []
    text = (f"To prove that live with a chance of 80 % takes {number(expected['n_treatment'])} payments in {name}, "
            f"{_days(expected['days'])} at {number(figures['payments_per_day'])} payments a day")
    if near is not None:
        text += f"; {_days(near['days'])} if it is only {signed(near['lift_pp'])} pp, the end of the interval nearest 0"
    if expected["days"] > plan.days:
        return [f"{text}. The {plan.days} days of this test are too few: make it longer, or nearer to equal shares."]
    spare = "leave room" if near is not None and near["days"] <= plan.days else "are enough for the expected lift alone"
    return [f"{text}. The {plan.days} days of this test {spare}."]


def _platform(plan: ExperimentPlan, control: str, name: str, figures: Figures) -> list[str]:
    right = chance_of(figures, "truth", "auto_winner", name)
    wrong = chance_of(figures, "truth", "auto_winner", control)
    false = chance_of(figures, "alike", "auto_winner", None)
    others = [f"{each} in {_chance(chance_of(figures, 'truth', 'auto_winner', each))}"
              for each in plan.variants[1:] if each != name]
    alike = "both were" if len(plan.variants) == 2 else "all were"
    text = (f"The platform's rule would declare {name} the winner in {_chance(right)} of such tests"
            f"{''.join(f', {each}' for each in others)} and {control} in {_chance(wrong)}; if {alike} the same, it "
            f"would still declare one of them the winner in {_chance(false)}.")
    worth = figures["rules"]["truth"]["auto_winner"]["exaggeration"]
    if worth["value"] is not None and worth["count"] > 1:
        called = name if len(plan.variants) == 2 else "a treatment"
        text += (f" The lift that it shows on the day it calls {called} is on average "
                 f"{number(worth['value'], 2)} times the true one of that test{_error(worth)}.")
    return [text]


def _instead(control: str, name: str, figures: Figures) -> list[str]:
    rule, winner = figures["recommended"], _better(control, name, figures)
    if rule is None:
        sentences = [f"No rule keeps its {100 * ALPHA:.0f} % here: each calls winners where there are none more often. "
                f"Bucket by payment, or look once at more payments."]
    else:
        finds = chance_of(figures, "truth", rule, winner)
        errs = chance_of(figures, "alike", rule, None)
        day = figures["rules"]["truth"][rule]["mean_day_if_called"]["value"]
        what = winner if winner == name else f"that {control} is better"
        sentences = [f"Use {RULES[rule].label} instead: it finds {what} in {_chance(finds)} of tests"
                + ("" if day is None else f", on day {number(day, 1)} on average if it calls one")
                + f", and calls a winner in {_chance(errs)} where there is none."]
    cuped = figures["cuped"]
    if cuped is not None:
        removed = cuped["variance_removed"]["value"]
        sentences.append(f"What customers did before the test explains {percent(removed, 1)} of the variance, "
                    + ("so CUPED is worth its trouble." if removed > 0.05 else "so CUPED gains hardly anything here."))
    return sentences


def _chance(found: Figures) -> str:
    """A chance; its interval where it is from the full simulator's tests alone."""
    if found["direct"] or found["low"] is None:
        return percent(found["value"], 1)
    return f"{percent(found['value'], 1)} ({number(100 * found['low'], 1)} to {number(100 * found['high'], 1)} %)"


def _limits(plan: ExperimentPlan, name: str, figures: Figures) -> list[str]:
    limits: list[str] = []
    off = figures["observed_lift_pp"][name]["less_rollout"]
    if _beyond(off) and abs(off["value"]) > _SHOWN_PP:
        lift = figures["lift_pp"][name]["value"] or 0.0
        size = "small" if off["value"] * lift < 0 else "large"
        limits.append(f"A test shows the lift {number(abs(off['value']), 2)} pp too {size}"
                      f"{_error(off)}: the variants share processors"
                      + (", and customers who come back after a failure may meet the other variant, which bucketing by "
                         "order avoids." if plan.unit == "payment" else "."))
    if figures["naive_level"] > 0.06:
        limits.append(f"Payments of one unit are alike (design effect {number(figures['design_effect'], 2)}): a "
                      f"p-value that takes them as independent, as the platform's rule does, errs in "
                      f"{percent(figures['naive_level'], 1)} of tests, not 5 %; the other rules allow for it.")
    stale = figures["stale"]["truth"]["share"]["value"] or 0.0
    if stale > 0.001:
        limits.append(f"{percent(stale, 1)} of the payments kept an assignment that the split of their day would not "
                      f"give: leave the first day after each change out of the verdict.")
    ramp = figures["ramp"]["truth"]
    if ramp is not None and _beyond(ramp["difference_pp"]):
        limits.append(f"The ramp moves the lift of all payments together by "
                      f"{signed(ramp['difference_pp']['value'])} pp{_error(ramp['difference_pp'])}: read it stage by "
                      f"stage.")
    apart = {RULES[row["rule"]].label: None for rows in figures["direct"].get("agreement", {}).values() for row in rows
             if not row["agrees"]}
    if apart:
        limits.append(f"The full simulator and independent payments differ for {', '.join(apart)}: trust the full "
                      f"simulator there.")
    return limits


def _beyond(found: Figures) -> bool:
    """Whether a mean is beyond three standard errors of 0."""
    return bool(found["standard_error"]) and abs(found["value"]) > 3 * found["standard_error"]


def _error(found: Figures) -> str:
    return "" if found["standard_error"] is None else f" (± {number(found['standard_error'], 2)})"


def _days(days: float) -> str:
    whole = math.ceil(days)
    return f"{number(whole)} {'day' if whole == 1 else 'days'}"
