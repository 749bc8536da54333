"""The stress scenarios of the gallery as tables: `python -m tests.stress DEMO`, DEMO being what `routesim demo` made.

Each scenario is run into DEMO/stress/NAME unless it lies there already, and printed as docs/failover.md has it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running.runner import prepare, run

SCENARIOS = ("long_outage", "partial", "answers_91", "slow", "flapping", "joint_switch", "currency_scoped",
             "issuer_turns", "thundering_return")


def told(figure: Any, digits: int, scale: float = 1.0, least: float = 0.0) -> str:
    """A figure with its 95 % interval, cut at ``least``; a hyphen where there is none."""
    if not isinstance(figure, dict) or figure.get("value") is None:
        return "-"
    value = f"{scale * figure['value']:.{digits}f}"
    if figure.get("low") is None:
        return value
    return f"{value} ({max(least, scale * figure['low']):.{digits}f} to {scale * figure['high']:.{digits}f})"


def table(folder: Path) -> str:
    """The policies of one run, the fewest payments lost first."""
    policies = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["policies"]
    # Seconds until found are those of the replications in which it was found at all.
    lines = ["| policy | payments lost | lift, pp | found after, s | attempts drained | back after, s "
             "| false ejections | min shut | wait p95, s |", "|---|---|---|---|---|---|---|---|---|"]
    ranked = sorted(policies, key=lambda name: (policies[name]["lost_to_outages"]["value"] or 0.0,
                                                -(policies[name]["lift_pp"]["value"] or 0.0)))
    for name in ranked:
        found = policies[name]
        added = (found.get("outage_costs") or {}).get("added") or [{}]
        first = added[0]
        share = first.get("share_detected")
        partly = f" in {100 * share:.0f} %" if share is not None and 0 < share < 1 else ""
        drained = [each["drained"]["value"] for each in added if each.get("drained")]
        lines.append(f"| {name} | {told(found['lost_to_outages'], 1, least=-1e9)} "
                     f"| {told(found['lift_pp'], 2, least=-100)} | {told(first.get('detect_s'), 0)}{partly} "
                     f"| {sum(drained):.0f} | {told(added[-1].get('failback_s'), 0)} "
                     f"| {told(found.get('false_ejections'), 1)} | {told(found.get('false_ejection_min'), 1)} "
                     f"| {told(found['latency_ms']['wait']['p95'], 1, 0.001)} |")
    return "\n".join(lines)


def main(demo: Path) -> None:
    for name in SCENARIOS:
        folder = demo / "stress" / name
        if not (folder / "summary.json").exists():
            run(prepare(load_scenario(demo / f"{name}.yaml")), folder)
        print(f"\n### {name}\n\n{table(folder)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
