"""A small made-up history, the model that was calibrated on it, and a scenario over both, for end-to-end tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.running.runner import Prepared, prepare

DAYS, PER_DAY, SEED = 6, 250, 7
TIMEZONE = "America/Mexico_City"
UNREPRODUCIBLE = {"timing.json"}  # the only file of a run that may differ between two runs

# What the merchant of the made-up history does, as a policy of a scenario.
LEGACY = """\
  legacy:
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: {logged_first: [MIT, Elavon, Worldpay]}}
      - {when: {currency: USD}, to: {split: {Worldpay: 72, Elavon: 28}, by: customer_id, then: [MIT]}}
      - {to: [Worldpay]}
    retry:
      - {when: {initiator: MIT}, after: soft, max_attempts: 4, delay: 24h, next: cycle}
      - {after: soft, max_attempts: 2, delay: 3s, next: rank}
"""

# The last of the six days is replayed, so that a replication of a policy takes some twenty milliseconds.
SCENARIO = """\
scenario: small
seed: 5
timezone: America/Mexico_City
replications: {worlds: 2, luck: 2}
model: MODEL
trace: {source: HISTORY, from: 2026-01-10T00:00:00, warm_up: 3h}
baseline: legacy
policies:
""" + LEGACY + """\
  three_attempts:
    like: legacy
    retry: [{after: soft, max_attempts: 3, delay: 3s, next: rank}]
  breaker:
    like: legacy
    failover: {circuit_breaker: {per: [processor], consecutive_timeouts: 2, open_for: 15m, probes: 1}}
"""

# Four days are replayed, the first of which comes before the experiment.
EXPERIMENT = SCENARIO.replace("from: 2026-01-10T00:00:00, warm_up: 3h", "from: 2026-01-07T00:00:00, warm_up: 1d") + """\
experiment:
  variants: {legacy: 5000, three_attempts: 5000}
  days: 3
  salt: small
"""


@dataclass(frozen=True)
class Small:
    """Where the small history and its model lie."""

    history: Path
    model: Path

    def write(self, folder: Path, text: str = SCENARIO, name: str = "small.yaml") -> Path:
        """The scenario as a file in ``folder``, its MODEL and HISTORY named; its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(text.replace("MODEL", str(self.model)).replace("HISTORY", str(self.history)), encoding="utf-8")
        return path

    def load(self, folder: Path, *overrides: str, text: str = SCENARIO) -> Scenario:
        """The scenario with ``overrides`` (KEY=VALUE)."""
        return load_scenario(self.write(folder, text), overrides)

    def prepare(self, folder: Path, *overrides: str, text: str = SCENARIO) -> Prepared:
        """The scenario with its model and trace read."""
        return prepare(self.load(folder, *overrides, text=text))


def contents(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` but those that may differ between runs, by its relative path, with its digest."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNREPRODUCIBLE}
