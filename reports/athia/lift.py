"""The rows of ATHIA_EXPERIMENT_LIFT: a run's simulated lifts, and the looks of a simulated experiment."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from statsmodels.stats.proportion import confint_proportions_2indep

from routesim.reports.athia.rows import read_columns, run_id, simulated_id
from routesim.reports.athia.tables import platform_tables
from routesim.reports.experiment.folder import LOOKS, ExperimentFolder
from routesim.reports.experiment.rules import RULES
from routesim.reports.run.folder import Run, only
from routesim.sim.errors import BadInput
from routesim.sim.folders import recover

LIFT = "ATHIA_EXPERIMENT_LIFT"

Row = dict[str, Any]


def lift_batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """The rows in the table's schema, 65,536 at a time; what a row does not name is null."""
    coming = iter(rows)
    while some := list(islice(coming, 65_536)):
        yield pa.RecordBatch.from_pylist(some, schema=platform_tables()[LIFT].schema)


def comparison_rows(run: Run, policies: Sequence[str]) -> Iterator[Row]:
    """One row for each of ``policies`` but the baseline: its simulated lift over all replications, with the interval.

    Samples and approvals are those of a mean replication, rounded: the replications replay the same payments, so that
    their sum would make a test on it far too sure. Latency is the wait's 95th percentile, as a customer meets it.
    """
    baseline, own_id = str(run.summary["baseline"]), run_id(run)
    for policy in policies:
        if policy == baseline:
            continue
        lift = run.figure(policy, "lift_pp")
        yield {
            "EXPERIMENT_LIFT_ID": simulated_id("lift", own_id, baseline, policy),
            "EXPERIMENT_ID": own_id, "RUN_ID": own_id, "EXPERIMENT_NAME": str(run.summary["scenario"]),
            "LIFT_KIND": "simulated_comparison", "IS_SIMULATED": True,
            "LIFT_PP": _known(lift["value"]), "LIFT_LOW_PP": _known(lift["low"]), "LIFT_HIGH_PP": _known(lift["high"]),
        } | _arm("CONTROL", _simulated(run, baseline)) | _arm("TREATMENT", _simulated(run, policy))


def _simulated(run: Run, policy: str) -> Row:
    """A policy's measured payments in a mean replication, and its figures."""
    hours, processors = (only(table, policy=policy).to_pylist() for table in (run.hours, run.processors))
    payments, approved = (sum(row[name] for row in hours) for name in ("payments", "approved"))
    replications = hours[0]["replications"] if hours else 1
    return {
        "variant": policy, "samples": round(payments / replications), "approvals": round(approved / replications),
        "rate": run.figure(policy, "approval_rate")["value"],
        "p95_ms": run.figure(policy, "latency_ms.wait.p95")["value"],
        "revenue_usd": sum(row["approved_usd"] for row in processors) / payments if payments else None,
    }


def _arm(side: str, arm: Mapping[str, Any]) -> Row:
    return {
        f"{side}_VARIANT": arm["variant"], f"{side}_SAMPLES": arm["samples"], f"{side}_APPROVALS": arm["approvals"],
        f"{side}_APPROVAL_RATE": _known(arm["rate"]), f"{side}_LATENCY_P95_MS": _known(arm["p95_ms"]),
        f"{side}_REVENUE_USD": _known(arm["revenue_usd"]),
    }


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def experiment_rows(folder: Path) -> Iterator[Row]:
    """One row for each look, treatment and rule of an experiment's folder (LOOKS of experiment.folder).

    The lift's interval is that of two independent proportions from their own Wilson intervals, which does not pass
    100 pp on either side (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10). Raises BadInput where the
    folder holds no such thing.
    """
    where = ExperimentFolder(folder)
    recover(folder)
    name, variants = _experiment(where.figures)
    looks = read_columns(where.looks, LOOKS.names, "experiment")
    control = variants[0]
    own_id = simulated_id("experiment", hashlib.sha256(where.figures.read_bytes()).hexdigest())
    rows = (row for batch in looks.to_batches() for row in batch.to_pylist())
    for place, group in groupby(rows, lambda row: (row["setting"], row["replication"], row["day"])):
        arms = {row["variant"]: row for row in group}
        lacking = [each for each in variants if each not in arms]
        if lacking:
            raise BadInput(f"setting {place[0]}, replication {place[1]}, day {place[2]} has no row of {lacking[0]!r}; "
                           f"run the experiment again", str(where.looks))
        for variant in variants[1:]:
            row = arms[variant]
            shared = {
                "EXPERIMENT_ID": own_id, "EXPERIMENT_NAME": name, "LIFT_KIND": "simulated_experiment",
                "IS_SIMULATED": True, "SETTING": place[0], "REPLICATION": place[1], "WORLD": row["world"],
                "LUCK": row["luck"], "LOOK_DAY": place[2], "P_VALUE": _known(row["p_value"]),
                "SAMPLE_RATIO_P_VALUE": _known(row["sample_ratio_p"]), "UNMET": row["unmet"],
            } | _arm("CONTROL", _looked(arms[control])) | _arm("TREATMENT", _looked(row))
            shared |= _lift(shared)
            for rule in RULES:
                yield shared | {
                    "EXPERIMENT_LIFT_ID": simulated_id("look", own_id, *place, control, variant, rule),
                    "STOPPING_RULE": rule, "VERDICT": row[f"verdict_{rule}"],
                }


def _experiment(where: Path) -> tuple[str, list[str]]:
    """The scenario's name and the variants, control first."""
    if not where.is_file():
        raise BadInput(f"not the folder of an experiment: it holds no {where.name}", str(where.parent))
    try:
        told = json.loads(where.read_text(encoding="utf-8"))
        name, variants = str(told["scenario"]), list(told["variants"])
    except (ValueError, OSError, KeyError, TypeError):
        raise BadInput("not the figures of an experiment; run it again", str(where)) from None
    return name, variants


def _looked(row: Mapping[str, Any]) -> Row:
    n = row["n"]
    return {
        "variant": row["variant"], "samples": n, "approvals": row["approvals"], "p95_ms": row["p95_ms"],
        "rate": row["approvals"] / n if n else None, "revenue_usd": row["revenue_usd"] / n if n else None,
    }


def _lift(row: Row) -> Row:
    p, q = row["CONTROL_APPROVAL_RATE"], row["TREATMENT_APPROVAL_RATE"]
    if p is None or q is None:
        return {}
    low, high = confint_proportions_2indep(
        row["TREATMENT_APPROVALS"], row["TREATMENT_SAMPLES"], row["CONTROL_APPROVALS"], row["CONTROL_SAMPLES"],
        method="newcomb", compare="diff")
    return {"LIFT_PP": 100 * (q - p), "LIFT_LOW_PP": 100 * float(low), "LIFT_HIGH_PP": 100 * float(high)}
