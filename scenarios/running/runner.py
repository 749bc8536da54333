"""Runs a scenario: reads what it names, replicates it on local processes, and writes the run's folder.

Everything is made in a folder beside the target, which also keeps finished replications; see ``sim.folders``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routesim.calibration.calibrate import NO_FEES, PACKAGES
from routesim.calibration.history.read import read_history
from routesim.calibration.off_policy.cross_check import cross_check
from routesim.calibration.outages.find import find_outages
from routesim.policies.durations import parse_duration
from routesim.reports.metrics.support import Support
from routesim.reports.run.comparison import Comparison
from routesim.reports.run.folder import OUTAGES, RUN, RunFolder, write
from routesim.scenarios.document.loading import resolved
from routesim.scenarios.document.schema import AdaptiveLuck, Scenario
from routesim.scenarios.running import checkpoint
from routesim.scenarios.running.assumptions import assumed_processors, assumed_world, in_words, retries_assume, traffic
from routesim.scenarios.running.replicate import (
    PICTURED_REPLICATION,
    SAMPLED_REPLICATION,
    Replication,
    Study,
    decision_quantiles_ms,
    replicate,
)
from routesim.sim.errors import BadInput
from routesim.sim.files import read_table
from routesim.sim.folders import Claim, claimed
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel
from routesim.sim.model_folder import ModelFolder
from routesim.sim.outages import Outage
from routesim.sim.parallel import on_processes
from routesim.sim.trace import Trace, seconds

Progress = Callable[[int, int], None]  # replications done, and to do


@dataclass(frozen=True)
class Prepared:
    """A study and what the manifest says of where it came from."""

    study: Study
    manifest: dict[str, Any]
    off_policy: dict[str, Any] = field(default_factory=dict)


def prepare(scenario: Scenario) -> Prepared:
    """Read the model and the trace that a scenario names. Raises BadInput for whatever cannot be used."""
    study, manifest, logged = read_study(scenario)
    return Prepared(study, manifest, judge_by_history(study, logged))


def judge_by_history(study: Study, logged: AttemptLog) -> dict[str, Any]:
    """What history's own outcomes say of the policies' first choices; see ``off_policy.cross_check``."""
    scenario, model, world = study.scenario, study.model.model, study.scenario.world
    terms = {name: p.terms(name) for name, p in assumed_processors(scenario, model).items()}
    assumed = bool(world.processors or world.changes or scenario.outages.add or scenario.outages.base == "none")
    trace = Trace(logged.payments, scenario.timezone, model.timezone)
    return cross_check(trace, logged, study.factories, scenario.baseline, terms, scenario.seed, model.provenance,
                       assumed, scenario.outages.base == "observed")


def read_study(scenario: Scenario) -> tuple[Study, dict[str, Any], AttemptLog]:
    """The study of a scenario, what its manifest says, and history's own log. Raises BadInput as ``prepare`` does."""
    model = CalibratedModel.load(scenario.model_path)
    source = scenario.trace_source
    history = read_history(source, scenario.trace_profile, scenario.trace.from_, scenario.trace.until)
    logged = AttemptLog(_warm_up(history.log.payments, scenario), history.log.attempts)
    payments = traffic(Trace(logged.payments, scenario.timezone), scenario.world.arrivals.factor, scenario.seed).table
    if pc.all(payments["warm_up"]).as_py() is not False:  # None where there is no payment at all
        raise BadInput("world.arrivals.factor: leaves no payment to measure; make it larger",
                       scenario.source.mark(("world", "arrivals", "factor")).where)
    observed: Sequence[Outage] = ()
    if scenario.outages.base == "observed":
        observed = find_outages(history.log, history.health_skips).outages
    support = None
    folder = ModelFolder(scenario.model_path if scenario.model_path.is_dir() else scenario.model_path.parent)
    if folder.support.exists():
        support = Support.from_table(read_table(folder.support))
    study = Study(scenario, model, payments, support, observed)
    _ = study.factories  # what cannot be made, or a world that cannot be assumed, is told before anything runs
    if scenario.world.processors or scenario.world.changes:
        assumed_world(scenario, model.point(), study.trace)
    return study, _manifest(scenario, study, history.provenance, history.quarantine.warnings), logged


def _warm_up(payments: pa.Table, scenario: Scenario) -> pa.Table:
    """Mark the payments of the first ``warm_up`` of the window: they are simulated and count in no figure."""
    length_s = parse_duration(scenario.trace.warm_up)
    arrived = seconds(payments["arrived_at"])
    begin = scenario.trace.from_.timestamp() if scenario.trace.from_ else float(arrived.min())
    mark = arrived < begin + length_s
    if mark.all():
        raise BadInput("trace.warm_up: takes up the whole trace, so nothing would be measured; make it shorter",
                       scenario.source.mark(("trace", "warm_up")).where)
    where = payments.schema.get_field_index("warm_up")
    return payments.set_column(where, payments.schema.field("warm_up"), pa.array(mark))


def run(prepared: Prepared, out: Path | Claim, workers: int | None = None,
        progress: Progress = lambda done, todo: None) -> Path:
    """Run a prepared scenario into the folder ``out``, which is replaced if it holds an earlier run; its path.

    ``workers`` None uses all cores. The outputs but the timing do not depend on it.
    """
    begun = time.perf_counter()
    study, scenario = prepared.study, prepared.study.scenario
    count = min(workers or os.cpu_count() or 1, scenario.replications.worlds * scenario.replications.most_luck)
    with claimed(out, RUN) as claim, claim.work(json.dumps(prepared.manifest, sort_keys=True)) as work:
        folder = RunFolder(work.made)
        done = checkpoint.load(work.kept)
        for batch in _batches(scenario, done):
            todo = [key for key in batch if key not in done]
            total = len(done) + len(todo)
            progress(len(done), total)
            for one in _replications(study, todo, folder, count):
                checkpoint.save(work.kept, one)
                done[one.world, one.luck] = one
                progress(len(done), total)
        comparison = _compare(study, done, prepared.off_policy)
        outages = pa.concat_tables([_numbered(done[key]) for key in sorted(done)])
        write(folder.path, comparison, outages, done[PICTURED_REPLICATION].timeline)
        folder.write_inputs(resolved(scenario), prepared.manifest)
        folder.write_timing(_timing(study, done, count, time.perf_counter() - begun))
        from routesim.reports.pages.run import render  # draws with matplotlib, which takes a second to import

        render(folder.path)
    return claim.out


def _batches(scenario: Scenario, done: dict[tuple[int, int], Replication]) -> Iterator[list[tuple[int, int]]]:
    """All replications at once; or, with adaptive luck, a draw of luck in every world at a time until it is enough."""
    worlds, luck = range(scenario.replications.worlds), scenario.replications.luck
    if not isinstance(luck, AdaptiveLuck):
        yield [(w, k) for w in worlds for k in range(luck)]
        return
    for k in range(luck.max):
        yield [(w, k) for w in worlds]
        if k >= 1 and monte_carlo_error_pp(scenario, done, k + 1) <= luck.mc_error_pp:
            return


def monte_carlo_error_pp(scenario: Scenario, done: dict[tuple[int, int], Replication], lucks: int) -> float:
    """The largest standard error of a lift that more luck would shrink: sqrt(MS_within / (W K)), pp.

    Over the first ``lucks`` draws of luck in every world: a run that goes on may hold some of the next already.
    """
    worst = 0.0
    for policy in scenario.policies:
        table = np.array([[done[w, k].measured[policy].figures["lift_pp"] for k in range(lucks)]
                          for w in range(scenario.replications.worlds)])
        if np.isfinite(table).all():
            worst = max(worst, float(np.sqrt(table.var(axis=1, ddof=1).mean() / table.size)))
    return worst


def _replications(study: Study, todo: Sequence[tuple[int, int]], run_folder: RunFolder, count: int
                  ) -> Iterator[Replication]:
    keep = study.scenario.log

    def folder(key: tuple[int, int]) -> RunFolder | None:
        return run_folder if keep == "all" or (keep == "sample" and key == SAMPLED_REPLICATION) else None

    yield from on_processes(replicate, study, [(*key, folder(key)) for key in todo], count)


def _compare(study: Study, done: dict[tuple[int, int], Replication], off_policy: dict[str, Any]) -> Comparison:
    scenario = study.scenario
    measured = {(policy, *key): done[key].measured[policy] for policy in scenario.policies for key in sorted(done)}
    payments = int(pc.sum(pc.invert(study.payments["warm_up"])).as_py())
    return Comparison(scenario.scenario, scenario.seed, scenario.baseline, list(scenario.policies), measured, payments,
                      off_policy=off_policy, costs=pa.concat_tables([done[key].costs for key in sorted(done)]))


def _numbered(one: Replication) -> pa.Table:
    rows = one.outages.num_rows
    table = one.outages.append_column("world", pa.array([one.world] * rows, pa.int32()))
    return table.append_column("luck", pa.array([one.luck] * rows, pa.int32())).select(OUTAGES.names).cast(OUTAGES)


def _timing(study: Study, done: dict[tuple[int, int], Replication], workers: int, wall_s: float) -> dict[str, Any]:
    """What this machine did: not part of the reproducible outputs."""
    decisions = {policy: decision_quantiles_ms([s for key in sorted(done) for s in done[key].decision_s[policy]])
                 for policy in study.scenario.policies}
    return {"wall_s": round(wall_s, 3), "workers": workers, "replications": len(done),
            "decision_ms": decisions}


def _manifest(scenario: Scenario, study: Study, trace: dict[str, Any], warnings: Sequence[str]) -> dict[str, Any]:
    """What went in: enough to tell two runs apart, and nothing of when, where or on how many cores."""
    model = study.model.model
    provenance = dict(model.provenance)
    priced = any(change.fee is not None for change in scenario.world.processors.values())
    return {
        "scenario": scenario.scenario,
        "seed": scenario.seed,
        "versions": {package: version(package) for package in PACKAGES},
        "hashes": {
            "scenario": _sha256(resolved(scenario).encode()),
            "model": _sha256(json.dumps(model.model_dump(mode="json"), sort_keys=True).encode()),
            "uncertainty": _sha256(b"".join(b.estimates.tobytes() + b.factor.tobytes()
                                            for b in study.model.uncertainty.blocks)),
            "trace": _sha256(json.dumps([str(study.payments[n].to_pylist()) for n in study.payments.column_names]
                                        ).encode()),
        },
        "assumed": in_words(scenario),
        "retries_assume": retries_assume(scenario),
        "warnings": [*(f"model: {w}" for w in provenance.pop("warnings", []) if not (priced and w == NO_FEES)),
                     *(f"trace: {w}" for w in [*warnings, *_no_card_on_file(scenario, study.payments)])],
        "model": provenance | {"name": model.name},
        "trace": {k: v for k, v in trace.items() if k != "warnings"} | {"source": scenario.trace.source},
    }


def _no_card_on_file(scenario: Scenario, payments: pa.Table) -> list[str]:
    if scenario.world.stored_credential != "required" or payments["stored_credential"].null_count < len(payments):
        return []
    return ["it does not tell of any payment whether the card is on file, so with `stored_credential: required` every "
            "delayed retry of a customer's payment is refused"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

