"""What a run answers, in sentences: whether each policy approves more than the baseline, and which is best."""

from __future__ import annotations

from dataclasses import dataclass

from routesim.reports.run.folder import Run
from routesim.reports.words import between, listed, number, signed


@dataclass(frozen=True)
class PolicyAnswer:
    """What one policy does, in a sentence; ``verdict`` is better, worse, undecided or unknown."""

    policy: str
    verdict: str
    sentence: str


def answer(run: Run, policy: str) -> PolicyAnswer:
    """The sentence on one policy's lift."""
    found, baseline = run.figure(policy, "lift_pp"), run.summary["baseline"]
    value, low, high = found["value"], found["low"], found["high"]
    if value is None:
        return PolicyAnswer(policy, "unknown", "has no measured lift.")
    if low is None or high is None:
        return PolicyAnswer(policy, "unknown", f"differs from {baseline} by {signed(value)} pp in a single run; "
                                         "without an interval that shows nothing yet.")
    interval = f"(95 % interval {between(low, high)})"
    if low > 0:
        return PolicyAnswer(policy, "better", f"approves {number(value, 2)} pp more than {baseline} {interval}.")
    if high < 0:
        return PolicyAnswer(policy, "worse", f"approves {number(-value, 2)} pp less than {baseline} {interval}.")
    if low == high == 0:
        return PolicyAnswer(policy, "undecided", f"approves just as much as {baseline} in every replication.")
    return PolicyAnswer(policy, "undecided", f"is not shown to differ from {baseline}: {signed(value)} pp {interval}.")


def headline(run: Run) -> str:
    """The overall answer in one sentence."""
    baseline, ranked = run.summary["baseline"], by_lift(run)
    if not ranked:
        return f"Only {baseline} was run, so there is nothing to compare it with."
    answers = {name: answer(run, name) for name in ranked}
    better = [name for name in ranked if answers[name].verdict == "better"]
    if better:
        found = run.figure(better[0], "lift_pp")
        sentence = (f"Best: {better[0]}, {signed(found['value'])} pp approval lift on {baseline} "
                    f"(95 % interval {between(found['low'], found['high'])}).")
        lows = found["low"] or 0.0
        rivals = [name for name in better[1:] if (run.figure(name, "lift_pp")["high"] or 0.0) >= lows]
        if rivals:
            sentence += f" Its interval overlaps that of {listed(rivals)}, so which is best is not settled."
        return sentence
    if all(answers[name].verdict == "worse" for name in ranked):
        return f"Keep {baseline}: every other policy approves less."
    if all(answers[name].verdict == "unknown" for name in ranked):
        return "No policy is shown to be better: one run gives no interval. Add worlds and luck draws."
    return f"No policy is shown to be better than {baseline}: no interval lies entirely above zero."


def by_lift(run: Run) -> list[str]:
    """The policies but the baseline, the greatest lift first; equal ones in the scenario's order."""
    others = [name for name in run.policies if name != run.summary["baseline"]]
    return sorted(others, key=lambda name: -(run.figure(name, "lift_pp")["value"] or 0.0))
