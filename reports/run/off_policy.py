"""The off-policy cross-check on the page: what history's own outcomes show of each policy's first choices.

Judged is the lift in first attempts approved, of payments that follow no failed one: the simulated lift against the
doubly robust estimate, which was chosen beforehand. They disagree where they lie farther apart than
sqrt(h_simulated² + h_estimate²), the h being half-widths of intervals at 1 - 0.05/m for m policies judged (Bonferroni),
so that with nothing wrong one run in twenty raises an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from routesim.reports.words import between, number, percent, signed

JUDGE = "DR"
SHOWN = ("DR", "Switch-DR", "SNIPS", "IPS", "DM")
MOST_UNSUPPORTED = 0.05  # of the payments whose first choice changes; with more, the estimate is of another policy
FEWEST_EFFECTIVE = 50.0

AGREES, DISAGREES = "agrees", "disagrees"
NO_SUPPORT, TOO_THIN, SAME, ASSUMED = "no support", "too thin", "same first choices", "assumed world"
MEANING = {
    AGREES: "agree within their errors",
    DISAGREES: "disagree beyond their errors",
    NO_SUPPORT: "history has no support",
    TOO_THIN: "too few payments to decide",
    SAME: "same first choices as the baseline",
    ASSUMED: "not comparable: the scenario assumes another world",
}
_JUDGED = (AGREES, DISAGREES)


def judged(check: Mapping[str, Any], simulated: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """The check with ``simulated`` (value, low, high, pp) and ``verdict`` beside each policy's estimates."""
    verdicts = {name: _verdict(estimated, bool(check["assumed"])) for name, estimated in check["policies"].items()}
    family = sum(verdict in _JUDGED for verdict in verdicts.values())
    policies = {}
    for name, estimated in check["policies"].items():
        ours = {key: simulated[name][key] for key in ("value", "low", "high")}
        verdict = verdicts[name]
        if verdict in _JUDGED:
            verdict = DISAGREES if _apart(ours, estimated["estimates"][JUDGE], family) else AGREES
        policies[name] = {"verdict": verdict, "simulated": ours} | estimated
    return {key: value for key, value in check.items() if key != "policies"} | {"policies": policies}


def _verdict(estimated: Mapping[str, Any], assumed: bool) -> str:
    if not estimated["changed"]:
        return SAME
    if estimated["unsupported_share"] > MOST_UNSUPPORTED:
        return NO_SUPPORT
    if assumed:
        return ASSUMED
    estimate = estimated["estimates"].get(JUDGE)
    if not estimate or estimate["low"] is None or estimated["effective_sample_size"] < FEWEST_EFFECTIVE:
        return TOO_THIN
    return AGREES


def _apart(simulated: Mapping[str, float | None], estimate: Mapping[str, float], family: int) -> bool:
    value, low, high = simulated["value"], simulated["low"], simulated["high"]
    if value is None:
        return False
    ours = 0.0 if low is None or high is None else (high - low) / 2  # a single replication shows no error of its own
    wider = float(stats.norm.ppf(1 - 0.025 / family) / stats.norm.ppf(0.975))
    return abs(value - estimate["value"]) > wider * math.hypot(ours, (estimate["high"] - estimate["low"]) / 2)


def alarms(check: Mapping[str, Any]) -> list[str]:
    """What the reader must know before the figures: a sentence for each policy that disagrees or lacks support."""
    sentences = []
    for name, estimated in (check.get("policies") or {}).items():
        if estimated["verdict"] == DISAGREES:
            estimate = estimated["estimates"][JUDGE]
            sentences.append(
                f"{name}: the simulation and history's own outcomes disagree beyond their errors. Lift in first "
                f"attempts approved: simulated {_with_interval(estimated['simulated'])}, off-policy "
                f"{_with_interval(estimate)}. Find out why before acting on it: a processor may have changed since the "
                "calibration, or the merchant's router goes by something that is in no column.")
        elif estimated["verdict"] == NO_SUPPORT:
            sentences.append(
                f"{name}: history has no support for {percent(estimated['unsupported_share'], 0)} of the payments "
                "whose first choice changes: it sent hardly any like them to where this policy or the baseline would. "
                "No outcome can confirm that part of the lift; it rests on the model alone.")
    return sentences


def _with_interval(lift: Mapping[str, float | None]) -> str:
    ends = between(lift["low"], lift["high"])
    return f"{signed(lift['value'])} pp" + (f" ({ends})" if ends else "")


def checked(check: Mapping[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """A row of the page's table for each policy in ``order`` whose first choices differ from the baseline's."""
    rows = []
    policies = check.get("policies") or {}
    for name in order:
        estimated = policies.get(name)
        if estimated is None or estimated["verdict"] == SAME:
            continue
        estimates = [estimated["estimates"].get(method) for method in SHOWN]
        rows.append({
            "policy": name,
            "verdict": MEANING[estimated["verdict"]],
            "alarm": estimated["verdict"] in (DISAGREES, NO_SUPPORT),
            "simulated": _cell(estimated["simulated"]),
            "estimates": [_cell(estimate) for estimate in estimates],
            "changed": percent(estimated["changed_share"], 0),
            "unsupported": percent(estimated["unsupported_share"], 0),
            "effective": number(estimated["effective_sample_size"]),
            "max_weight": number(estimated.get("max_weight"), 1),
            "mean_weight": number(estimated.get("mean_weight"), 2),
            "clipping": [(largest, _cell(estimate)) for largest, estimate in estimated["clipping"].items()],
        })
    return rows


def _cell(estimate: Mapping[str, float | None] | None) -> dict[str, str]:
    """An estimate as text: its value, its interval, and half of the interval's width."""
    if estimate is None:
        return {"value": signed(None), "between": "", "half": ""}
    low, high = estimate["low"], estimate["high"]
    half = "" if low is None or high is None else f"± {number((high - low) / 2, 2)}"
    return {"value": signed(estimate["value"]), "between": between(low, high), "half": half}
