"""Runs an experiment: replicates it on local processes, gathers its figures, and writes its folder.

All but the timing are the same bytes for the same inputs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.policies.durations import parse_duration
from routesim.reports.experiment.folder import EXPERIMENT, ExperimentFolder, looks_table, read_experiment
from routesim.reports.experiment.strata import Strata
from routesim.reports.experiment.summary import summary
from routesim.reports.statistics.intervals import tidy
from routesim.scenarios.document.experiment_block import DAY_S, ExperimentBlock
from routesim.scenarios.document.loading import resolved
from routesim.scenarios.document.moments import format_moment
from routesim.scenarios.document.schema import AdaptiveLuck, Scenario
from routesim.scenarios.running.experiment import Replicated, Trials, replicate_experiment
from routesim.scenarios.running.replicate import Study
from routesim.scenarios.running.runner import read_study
from routesim.sim.errors import BadInput
from routesim.sim.files import write_text
from routesim.sim.folders import Claim, claimed
from routesim.sim.parallel import on_processes
from routesim.sim.trace import seconds

Progress = Callable[[int, int], None]  # replications done, and to do
QUIET_S = 0.25 * DAY_S
"""A trace that ends this much too early may end in a night without payments: it is long enough."""


def prepare_experiment(scenario: Scenario) -> tuple[Trials, dict[str, Any]]:
    """Read what the scenario names; the trials, and what the manifest says of them.

    Raises BadInput where the scenario has no experiment, its trace is too short for it, luck is adaptive, nobody
    belongs to the merchants, or whatever else cannot be used.
    """
    block = scenario.experiment
    if block is None:
        raise BadInput("experiment: is missing; add a block as `experiment: {variants: {legacy: 5000, candidate: 5000},"
                       " days: 28}`", scenario.source.mark(()).where)
    if isinstance(scenario.replications.luck, AdaptiveLuck):
        raise BadInput("replications.luck: an experiment needs a number here, as 4",
                       scenario.source.mark(("replications", "luck")).where)
    study, manifest, _ = read_study(scenario)
    start_s = _start(scenario, study)
    _long_enough(scenario, block, study, start_s)
    arrived = seconds(study.payments["arrived_at"])
    payments = study.payments.filter(pa.array(arrived < start_s + block.days * DAY_S))
    _in_scope(scenario, block, payments)
    if not block.salt:
        manifest["warnings"].append(
            "experiment: without a salt its buckets are those of every other experiment that has none; run two at the "
            "same time and each one's lift contains the other's")
    manifest["experiment"] = {"starts": _moment(start_s), "ends": _moment(start_s + block.days * DAY_S)}
    strata = Strata.of(payments, scenario.timezone)
    return Trials(replace(study, payments=payments), block, start_s, strata), manifest


def _start(scenario: Scenario, study: Study) -> float:
    """The experiment begins where the warm-up ends, s since 1970 UTC."""
    window = scenario.trace.from_
    first_s = window.timestamp() if window else float(seconds(study.payments["arrived_at"]).min())
    return first_s + parse_duration(scenario.trace.warm_up)


def _long_enough(scenario: Scenario, block: ExperimentBlock, study: Study, start_s: float) -> None:
    last_s = float(seconds(study.payments["arrived_at"]).max())
    if start_s + block.days * DAY_S > last_s + QUIET_S:
        there = max(0.0, (last_s - start_s) / DAY_S)
        raise BadInput(
            f"experiment.days: {block.days} days are asked for, and the trace holds {there:.1f} after its warm-up; "
            f"take a longer trace or fewer days (a trace is never replayed twice in a row: for more payments a day "
            f"there is world.arrivals.factor)", scenario.source.mark(("experiment", "days")).where)


def _in_scope(scenario: Scenario, block: ExperimentBlock, payments: pa.Table) -> None:
    if block.merchants is not None:
        there = sorted(name for name in payments["merchant_id"].unique().to_pylist() if name is not None)
        for number, name in enumerate(block.merchants):
            if name not in there:
                raise BadInput(f"experiment.merchants: the trace has no payment of {name!r}; it has "
                               f"{', '.join(there[:5]) or 'no merchants'}{', ...' if len(there) > 5 else ''}",
                               scenario.source.mark(("experiment", "merchants", number)).where)
    name = {"payment": "payment_id", "order": "order_id", "customer": "customer_id"}[block.unit]
    if payments[name].null_count == payments.num_rows:
        raise BadInput(f"experiment.unit: no payment of the trace tells its {block.unit}; take payment or order",
                       scenario.source.mark(("experiment", "unit")).where)


def run_experiment(trials: Trials, manifest: dict[str, Any], out: Path | Claim, workers: int | None = None,
                   progress: Progress = lambda done, todo: None) -> Path:
    """Run a prepared experiment into the folder ``out``, which is replaced if it holds an earlier one; its path.

    ``workers`` None uses all cores; the outputs but the timing do not depend on it.
    """
    begun = time.perf_counter()
    scenario = trials.study.scenario
    with claimed(out, EXPERIMENT) as claim, claim.work(json.dumps(manifest, sort_keys=True)) as work:
        keys = [(w, k) for w in range(scenario.replications.worlds) for k in range(scenario.replications.most_luck)]
        done = _load(work.kept)
        todo = [key for key in keys if key not in done]
        count = min(workers or os.cpu_count() or 1, len(keys))
        progress(len(done), len(keys))
        for one in on_processes(replicate_experiment, trials, todo, count):
            write_text(work.kept / f"{one.world:03d}-{one.luck:03d}.json", json.dumps(one.plain()))
            done[one.world, one.luck] = one
            progress(len(done), len(keys))
        folder = ExperimentFolder(work.made)
        _write(folder, trials, manifest, [done[key] for key in keys])
        folder.write_timing({"wall_s": round(time.perf_counter() - begun, 3), "workers": count,
                             "replications": len(keys)})
        from routesim.reports.pages.experiment import render_experiment  # draws with matplotlib: a second to import

        render_experiment(work.made)
    return claim.out


def _write(folder: ExperimentFolder, trials: Trials, manifest: dict[str, Any], done: list[Replicated]) -> None:
    scenario, block = trials.study.scenario, trials.block
    worlds, luck = scenario.replications.worlds, scenario.replications.most_luck
    lifts = np.full((len(block.variants), worlds, luck), np.nan)
    rates = np.full((len(block.variants), worlds, luck), np.nan)
    for one in done:
        for variant, (n, yes) in enumerate(one.rollout or ()):
            rates[variant, one.world, one.luck] = yes / n if n else np.nan
    lifts = 100 * (rates - rates[:1])
    figures = summary(trials.plan, [one.truth for one in done], [one.alike for one in done], rates, lifts,
                      [one.acted for one in done], block.rule, scenario.seed)
    about = {
        "scenario": scenario.scenario, "seed": scenario.seed, "replications": {"worlds": worlds, "luck": luck},
        "experiment": block.model_dump(by_alias=True), "starts": _moment(trials.start_s),
    }
    table = looks_table(trials.plan, [(one.world, one.luck, {"truth": one.truth, "alike": one.alike}) for one in done])
    folder.write_inputs(resolved(scenario), manifest)
    folder.write(_tidy(about | figures), table)
    read_experiment(folder.path)


def _load(kept: Path) -> dict[tuple[int, int], Replicated]:
    """The replications that were kept; a file that was cut short is as if it had not been."""
    found = {}
    for path in sorted(kept.glob("*.json")):
        try:
            one = Replicated.of_plain(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):
            continue
        found[one.world, one.luck] = one
    return found


def _tidy(value: Any) -> Any:
    """Numbers to ten significant digits, so that the last bits of a sum do not show; null where not finite."""
    if isinstance(value, dict):
        return {str(name): _tidy(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(each) for each in value]
    return tidy(value) if isinstance(value, float) else value


def _moment(at_s: float) -> str:
    return format_moment(datetime.fromtimestamp(at_s, UTC))
