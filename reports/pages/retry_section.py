"""The run page's section on retries: what they recover, how late, at whose risk, and what was assumed for it."""

from __future__ import annotations

from routesim.reports.pages.tables import TableColumn
from routesim.reports.run.folder import Run
from routesim.reports.words import number

RETRIES = (
    *(TableColumn(name, with_interval=True)
      for name in ("recovered", "never_recovered", "recovery_delay_h", "rule_breaches")),
    TableColumn("network_breaches", below="network_fees_usd"),
    *(TableColumn(name, with_interval=True) for name in ("duplicate_risk", "late_approvals", "duplicates")),
)
"""The columns of the section's table."""


def late_retries(run: Run) -> str:
    """What retries after a deliberate delay rest on, in a sentence; empty where customers' payments have none."""
    delayed = {policy: run.figure(policy, "delayed_retries")["value"] or 0.0 for policy in run.policies}
    most = max(delayed, key=lambda policy: delayed[policy], default=None)
    if most is None or delayed[most] == 0:
        return ""
    assumed = run.manifest.get("retries_assume") or "the scenario does not say who would still be there"
    return (f"Up to {number(delayed[most])} attempts a replication ({most}) come 15 minutes or more after a customer's "
            f"own payment failed. They rest on a card on file and on a customer who still wants to pay: {assumed}.")
