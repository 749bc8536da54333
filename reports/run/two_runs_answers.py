"""What two runs answer beside each other, in sentences: which policy approves more in which, and how sure that is."""

from __future__ import annotations

from routesim.reports.run.answers import answer
from routesim.reports.run.two_runs import Difference, TwoRuns
from routesim.reports.words import between, listed

_HINT = "run both with the same `seed`, `model`, `trace` and `replications`, and the difference is found more sharply"


def difference_text(one: Difference, value: float | None) -> str:
    """A difference in words, with digits enough to show it."""
    return one.metric.difference_text(value, _digits(one))


def difference_interval(one: Difference) -> str:
    """The interval of a difference; empty where there is none."""
    return between(one.between.low, one.between.high, lambda value: difference_text(one, value))


def value_digits(one: Difference) -> int:
    """The digits of a metric's values in both runs: small ones need more."""
    if one.metric.unit in ("share", "pp"):
        return one.metric.digits
    return max(one.metric.digits, _needed(one.first["value"], one.second["value"]))


def _digits(one: Difference) -> int:
    ends = (one.between.value, one.between.low, one.between.high)
    if one.metric.unit == "share":
        small = any(ends) and all(abs(100 * value) < 0.1 for value in ends if value)
        return max(one.metric.digits, 3 if small else 2)
    if one.metric.unit == "pp" or not any(ends):
        return value_digits(one)
    return max(value_digits(one), _needed(*ends))


def _needed(*values: float | None) -> int:
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return 3 if 0 < largest < 10 else 1 if largest < 1_000 else 0


def sentence(runs: TwoRuns, policy: str) -> tuple[str, str]:
    """The verdict on a policy's approval in the first run, and a sentence on it."""
    one = runs.difference(policy, "approval_rate")
    verdict, value = one.verdict, one.between.value
    first, second = runs.names
    if value is None:
        return "unknown", "has no measured approval rate in both runs."
    shown, interval = difference_text(one, value), difference_interval(one).replace(" pp to", " to")
    if verdict == "unknown":
        return verdict, (f"approves {shown} in {first} less {second}, without an interval: that shows nothing "
                         "yet.")
    if verdict == "same":
        return verdict, "approves just as much in both, in every replication."
    if verdict == "undecided":
        return verdict, f"is not shown to approve more or less: {shown} (95 % interval {interval})."
    more = "more" if verdict == "better" else "less"
    return verdict, f"approves {shown[1:]} {more} in {first} than in {second} (95 % interval {interval})."


def headline(runs: TwoRuns) -> str:
    """The answer in one sentence."""
    first, second = runs.names
    answers = {policy: sentence(runs, policy) for policy in runs.policies}
    if agree(runs):
        return f"{first} and {second} agree in every figure of every policy that both ran."
    apart = [policy for policy in runs.policies if answers[policy][0] in ("better", "worse")]
    if apart:
        most = max(apart, key=lambda policy: abs(runs.difference(policy, "approval_rate").between.value or 0.0))
        return f"{most} {answers[most][1]}"
    if all(verdict == "same" for verdict, _ in answers.values()):
        return f"Approval is the same in {first} and {second}, in every replication; other figures differ."
    if all(verdict == "unknown" for verdict, _ in answers.values()):
        return "Whether approval differs is not known: a single replication gives no interval. Add worlds and luck."
    return f"Approval is not shown to differ between {first} and {second}, for any policy."


def agree(runs: TwoRuns) -> bool:
    """Whether every figure that both runs measured is the same in every replication."""
    return runs.is_paired and not any(
        one.between.value or one.between.low or one.between.high
        for policy in runs.policies for one in runs.differences(policy))


def how(runs: TwoRuns) -> str:
    """Paired or not, why, and what follows."""
    first, second = runs.names
    if runs.is_paired:
        return (f"The replications are paired: {first} and {second} have the same seed, model, trace and replications, "
                "so each policy met the same payments, worlds and luck in both, and what they share cancels in the "
                "difference.")
    shares = not any("model" in why for why in runs.why_not_paired)
    wide = " Both rest on one model, whose error is counted twice here: the intervals are wider than need be." \
        if shares else ""
    return (f"The runs are compared as independent estimates, for {listed(runs.why_not_paired)}. Their spreads add "
            f"up.{wide} Where it can be had: {_HINT}.")


def warnings(runs: TwoRuns) -> list[str]:
    """What a reader must know before believing a difference."""
    found = []
    ours, theirs = runs.first.summary["baseline"], runs.second.summary["baseline"]
    changed = any(one.startswith((f"policies.{ours}.", f"policies.{ours}:"))
                  for one in runs.differs.get("Scenario", []))
    if ours != theirs:
        found.append(f"Lift is measured on {ours} in {runs.names[0]} and on {theirs} in {runs.names[1]}: a difference "
                     "of lifts holds the difference of these baselines too.")
    elif changed:
        found.append(f"The baseline {ours} has other settings in the two runs: a difference of lifts holds what that "
                     "changes too.")
    bases = {(run.summary.get("intervals") or {}).get("basis") for run in (runs.first, runs.second)}
    if "luck" in bases:
        found.append("At least one run has a single world: its part of the intervals holds luck alone, and none of the "
                     "calibration's uncertainty. They are too narrow to decide on.")
    if "none" in bases:
        found.append("At least one run has a single replication, so the differences have no intervals.")
    moved = set(runs.differs) - {"In name only", "Assumed, or warned of"}
    if not moved and not runs.not_recorded and not agree(runs):
        found.append("Nothing that is recorded differs, yet the figures do: the program, or a policy of your own, was "
                     "changed between the runs.")
    return found


def decisions(runs: TwoRuns) -> list[str]:
    """Policies whose verdict against their baseline is not the same in both runs."""
    found = []
    for policy in runs.policies:
        if policy not in (runs.first.summary["baseline"], runs.second.summary["baseline"]):
            ours, theirs = answer(runs.first, policy).verdict, answer(runs.second, policy).verdict
            if ours != theirs:
                found.append(f"{policy} is {ours} in {runs.names[0]}, {theirs} in {runs.names[1]}")
    return found
