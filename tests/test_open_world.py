"""The world with a known truth: predictions from four weeks of history against what the fifth really would have been.

Slow: `make test-slow`, or `python -m tests.test_open_world` for the table (20 worlds, 2 draws of luck in each).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from routesim.calibration.calibrate import calibrate
from routesim.calibration.history.read import read_history
from routesim.reports.statistics.intervals import interval
from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running.runner import prepare, run
from routesim.sim.files import read_table
from tests.conftest import SHARED
from tests.small import LEGACY

SCENARIO = """
scenario: open_world
seed: 20260202
timezone: America/Mexico_City
replications: {{worlds: {worlds}, luck: 2}}
model: {model}
trace: {{source: {holdout}}}
log: none
"""
RETRIED_CODES = '["51", "05", "91", "96", "61", "94", "TO"]'
POLICIES = ("""
baseline: legacy
policies:
""" + LEGACY.replace("{split: {Worldpay: 72, Elavon: 28}, by: customer_id, then: [MIT]}",
                     "{logged_first: [Worldpay, Elavon]}").replace("soft", "RETRIED_CODES") + """\
    failover: none
  mxn_elavon_first:
    like: legacy
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: [Elavon, MIT, Worldpay]}
      - {when: {currency: USD}, to: {logged_first: [Worldpay, Elavon]}}
      - {to: [Worldpay]}
  mxn_mit_first:
    like: legacy
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: [MIT, Elavon, Worldpay]}
      - {when: {currency: USD}, to: {logged_first: [Worldpay, Elavon]}}
      - {to: [Worldpay]}
  usd_elavon_first:
    like: legacy
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: {logged_first: [MIT, Elavon, Worldpay]}}
      - {when: {currency: USD}, to: [Elavon, Worldpay]}
      - {to: [Worldpay]}
  worldpay_only:
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {to: [Worldpay]}
    retry: none
  no_retry: {like: legacy, retry: none}
  three_attempts:
    like: legacy
    retry:
      - {when: {initiator: MIT}, after: RETRIED_CODES, max_attempts: 4, delay: 24h, next: cycle}
      - {after: RETRIED_CODES, max_attempts: 3, delay: 3s, next: rank}
  breaker:
    like: legacy
    failover: {circuit_breaker: {per: [processor], consecutive_timeouts: 5, open_for: 60s, probes: 1}}
  breaker_15m:
    like: legacy
    failover: {circuit_breaker: {per: [processor], consecutive_timeouts: 5, open_for: 15m, probes: 1}}
  funds_24h:
    like: legacy
    retry:
      - {when: {initiator: MIT}, after: RETRIED_CODES, max_attempts: 4, delay: 24h, next: cycle}
      - {after: ["51"], max_attempts: 2, delay: 24h, next: rank}
      - {after: ["05", "91", "96", "61", "94", "TO"], max_attempts: 2, delay: 3s, next: rank}
  breaker_noretry: {like: breaker, retry: none}
  mxn_elavon_noretry: {like: mxn_elavon_first, retry: none}
  mxn_mit_noretry: {like: mxn_mit_first, retry: none}
  mxn_worldpay_noretry:
    like: no_retry
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: [Worldpay, MIT, Elavon]}
      - {when: {currency: USD}, to: {logged_first: [Worldpay, Elavon]}}
      - {to: [Worldpay]}
  usd_elavon_noretry: {like: usd_elavon_first, retry: none}
""").replace("RETRIED_CODES", RETRIED_CODES)


def predicted_and_true(folder: Path, worlds: int, calibrated: Path | None = None,
            policies: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
    """Policy → predicted and true figures: levels, lifts on the truth's own base (pp) with their intervals, attempts.

    ``calibrated`` is a model to use in place of a new one, ``policies`` those to run (their bases among them).
    """
    world = SHARED / "worlds" / "open"
    model = calibrated or folder / "model"
    if calibrated is None:
        calibrate(read_history(world / "history"), "America/Mexico_City").save(model)
    path = folder / "open.yaml"
    path.write_text(SCENARIO.format(worlds=worlds, model=model, holdout=world / "holdout") + POLICIES, encoding="utf-8")
    scenario = load_scenario(path)
    if policies is not None:
        chosen = {name: scenario.policies[name] for name in policies}
        scenario = scenario.model_copy(update={"policies": chosen})
    out = run(prepare(scenario), folder / "run")
    found = json.loads((out / "summary.json").read_text(encoding="utf-8"))["policies"]
    rates = read_table(out / "replications.parquet").to_pandas().query("figure == 'approval_rate'").pivot_table(
        index="world", columns=["policy", "luck"], values="value")
    truth = json.loads((world / "truth.json").read_text(encoding="utf-8"))["policies"]
    table = {}
    for name, figures in found.items():
        true, base = truth[name], truth[name]["base"]
        known = interval(100 * (rates[name] - rates[base]).to_numpy())
        table[name] = {
            "base": base, "approval": figures["approval_rate"]["value"], "true approval": true["approval"],
            "orders": figures["order_approval_rate"]["value"], "true orders": true["order_approval"],
            "lift": known.value, "low": known.low, "high": known.high,
            "true lift": true["lift_pp"], "true se": true["lift_se_pp"],
            "extra": figures["attempts_per_payment"]["value"] - 1, "true extra": true["attempts"] - 1,
        }
    return table


def holds(row: dict[str, Any]) -> bool:
    """Whether the interval of a lift holds the truth, two of the truth's own standard errors allowed."""
    return bool(row["low"] - 2 * row["true se"] <= row["true lift"] <= row["high"] + 2 * row["true se"])


@pytest.mark.slow
def test_predictions_are_right(shared: Path, tmp_path: Path) -> None:
    table = predicted_and_true(tmp_path, worlds=8)
    level = {name: 100 * abs(row["approval"] - row["true approval"]) for name, row in table.items()}
    assert level["legacy"] < 1.0
    assert level["no_retry"] < 1.0
    assert max(level.values()) < 1.0
    for row in table.values():
        if row["true extra"] > 0:
            assert abs(row["extra"] / row["true extra"] - 1) < 0.10
    retried = [abs(row["lift"] - row["true lift"]) for name, row in table.items()
               if row["base"] == "legacy" and name != "legacy"]
    assert np.mean(retried) < 0.2
    assert np.mean([holds(row) for row in table.values()]) >= 0.9


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print("| policy | approval | true | lift pp | true | extra attempts | true |")
    print("|---|---|---|---|---|---|---|")
    for policy, row in predicted_and_true(target, worlds=20).items():
        print(f"| {policy} | {row['approval']:.4f} | {row['true approval']:.4f} | {row['lift']:+.3f} "
              f"| {row['true lift']:+.3f} | {row['extra']:.4f} | {row['true extra']:.4f} |")
