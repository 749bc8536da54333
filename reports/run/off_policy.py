"""The off-policy cross-check on the page: what history's own outcomes say of each policy's first choices.

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

from routesim.reports.words import number, percent, signed

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
    TOO_THIN: "too few payments to tell",
    SAME: "same first choices as the baseline",
    ASSUMED: "not comparable: the scenario supposes another world",
}
_JUDGED = (AGREES, DISAGREES)


def judged(check: Mapping[str, Any], simulated: Mapping[str, Mapping[str, float | None]]) -> dict[str, Any]:
    """The check with ``simulated`` (value, low, high, pp) and ``verdict`` beside each policy's estimates."""
    verdicts = {name: _verdict(found, bool(check["assumed"])) for name, found in check["policies"].items()}
    family = sum(verdict in _JUDGED for verdict in verdicts.values())
    policies = {}
    for name, found in check["policies"].items():
        ours = {key: simulated[name][key] for key in ("value", "low", "high")}
        verdict = verdicts[name]
        if verdict in _JUDGED:
            verdict = DISAGREES if _apart(ours, found["estimates"][JUDGE], family) else AGREES
        policies[name] = {"verdict": verdict, "simulated": ours} | found
    return {key: value for key, value in check.items() if key != "policies"} | {"policies": policies}


def _verdict(found: Mapping[str, Any], assumed: bool) -> str:
    if not found["changed"]:
        return SAME
    if found["unsupported_share"] > MOST_UNSUPPORTED:
        return NO_SUPPORT
    if assumed:
        return ASSUMED
    estimate = found["estimates"].get(JUDGE)
    if not estimate or estimate["low"] is None or found["effective_sample_size"] < FEWEST_EFFECTIVE:
        return TOO_THIN
    return AGREES


def _apart(simulated: Mapping[str, float | None], estimate: Mapping[str, float], family: int) -> bool:
    value, low, high = simulated["value"], simulated["low"], simulated["high"]
    if value is None:
        return False
    ours = 0.0 if low is None or high is None else (high - low) / 2  # a single replication tells no error of its own
    wider = float(stats.norm.ppf(1 - 0.025 / family) / stats.norm.ppf(0.975))
    return abs(value - estimate["value"]) > wider * math.hypot(ours, (estimate["high"] - estimate["low"]) / 2)


def alarms(check: Mapping[str, Any]) -> list[str]:
    """What the reader must know before the figures: a sentence for each policy that disagrees or lacks support."""
    said = []
    for name, found in (check.get("policies") or {}).items():
        if found["verdict"] == DISAGREES:
            estimate = found["estimates"][JUDGE]
            said.append(
                f"{name}: the simulation and history's own outcomes disagree beyond their errors. Lift in first "
                f"attempts approved: simulated {_told(found['simulated'])}, off-policy {_told(estimate)}. Find out why "
                "before acting on it: a processor may have changed since the calibration, or the merchant's router "
                "goes by something that is in no column.")
        elif found["verdict"] == NO_SUPPORT:
            said.append(
                f"{name}: history has no support for {percent(found['unsupported_share'], 0)} of the payments whose "
                "first choice changes: it sent hardly any like them to where this policy or the baseline would. No "
                "outcome can confirm that part of the lift; it rests on the model alone.")
    return said


def _told(found: Mapping[str, float | None]) -> str:
    value = f"{signed(found['value'])} pp"
    return value if found["low"] is None else f"{value} ({signed(found['low'])} to {signed(found['high'])})"


def checked(check: Mapping[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """A row of the page's table for each policy in ``order`` whose first choices differ from the baseline's."""
    rows = []
    policies = check.get("policies") or {}
    for name in order:
        found = policies.get(name)
        if found is None or found["verdict"] == SAME:
            continue
        estimates = [found["estimates"].get(method) for method in SHOWN]
        rows.append({
            "policy": name,
            "verdict": MEANING[found["verdict"]],
            "alarm": found["verdict"] in (DISAGREES, NO_SUPPORT),
            "simulated": _cell(found["simulated"]),
            "estimates": [_cell(estimate) for estimate in estimates],
            "changed": percent(found["changed_share"], 0),
            "unsupported": percent(found["unsupported_share"], 0),
            "effective": number(found["effective_sample_size"]),
            "max_weight": number(found.get("max_weight"), 1),
            "mean_weight": number(found.get("mean_weight"), 2),
            "clipping": [(largest, _cell(estimate)) for largest, estimate in found["clipping"].items()],
        })
    return rows


def _cell(found: Mapping[str, float | None] | None) -> dict[str, str]:
    if found is None:
        return {"value": signed(None), "between": "", "half": ""}
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return {"value": signed(found["value"]), "between": "", "half": ""}
    return {"value": signed(found["value"]), "between": f"{signed(low)} to {signed(high)}",
            "half": f"± {number((high - low) / 2, 2)}"}
