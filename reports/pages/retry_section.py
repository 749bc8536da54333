"""The page's section on retries: what they recover, how late, at whose risk, and what was supposed for it."""

from __future__ import annotations

from routesim.reports.pages.pictures import by_lift
from routesim.reports.run.folder import Run
from routesim.reports.words import number, percent

_COLUMNS = ("recovered", "never_recovered", "recovery_delay_h", "rule_breaches", "network_breaches",
            "network_fees_usd", "duplicate_risk", "late_approvals", "duplicates")
_SHARES = {"recovered", "never_recovered"}
_DIGITS = {"recovery_delay_h": 1, "rule_breaches": 1, "network_breaches": 1,
           "network_fees_usd": 2, "late_approvals": 1, "duplicates": 1}


def retry_rows(run: Run) -> list[dict[str, str]]:
    """One row a policy, the baseline first: every column as text, with its interval below ``<column> between``."""
    rows = []
    for policy in [run.summary["baseline"], *by_lift(run)]:
        row = {"policy": policy}
        for column in _COLUMNS:
            found = run.figure(policy, column)

            def show(value: float | None, column: str = column) -> str:
                return percent(value) if column in _SHARES else number(value, _DIGITS.get(column, 0))

            row[column] = show(found["value"])
            row[f"{column} between"] = "" if found["low"] is None else f"{show(found['low'])} to {show(found['high'])}"
        rows.append(row)
    return rows


def late_retries(run: Run) -> str:
    """What retries after a deliberate delay rest on, in a sentence; empty where customers' payments have none."""
    found = {policy: run.figure(policy, "delayed_retries")["value"] or 0.0 for policy in run.policies}
    most = max(found, key=lambda policy: found[policy], default=None)
    if most is None or found[most] == 0:
        return ""
    supposed = run.manifest.get("retries_suppose") or "the scenario does not say who would still be there"
    return (f"Up to {number(found[most])} attempts a replication ({most}) come 15 minutes or more after a customer's "
            f"own payment failed. They rest on a card on file and on a customer who still wants to pay: {supposed}.")
