"""One replication: a drawn world, a draw of luck in it, and every policy simulated under the same draws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.policies.logged import LoggedTables
from routesim.policies.vocabulary import Policy
from routesim.reports.metrics.columns import Columns
from routesim.reports.metrics.measure import Measured, measure
from routesim.reports.metrics.support import Support
from routesim.reports.outages.costs import OUTAGE_COSTS, cost_rows, costs_table, outage_costs
from routesim.reports.outages.hits import Incident, OutageKey, incidents
from routesim.reports.outages.timeline import TIMELINE, chosen, timeline
from routesim.reports.run.folder import RunFolder
from routesim.scenarios.document.loading import policy_factories
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.running.assumptions import AssumedWorld, assumed_world, outages_of
from routesim.sim.draws import Luck
from routesim.sim.engine import RUN_OUT_S, Engine, Simulated
from routesim.sim.model import CalibratedModel
from routesim.sim.outages import Outage, outage_table
from routesim.sim.predictor import ModelPredictor
from routesim.sim.trace import Trace

SAMPLED_REPLICATION = (0, 0)  # with `log: sample` this one is kept
PICTURED_REPLICATION = (0, 0)  # the one of which the page pictures an outage


@dataclass(frozen=True)
class Study:
    """Everything that a replication needs, read once: inert, so that worker processes can be handed it.

    ``trace``, ``factories`` and what they build upon are made when they are first asked for, once in each process.
    """

    scenario: Scenario
    model: CalibratedModel
    payments: pa.Table
    support: Support | None
    observed: Sequence[Outage]

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made when it is asked for: each process makes its own."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @cached_property
    def trace(self) -> Trace:
        """The payments to replay."""
        return Trace(self.payments, self.scenario.timezone, self.model.model.timezone)

    @cached_property
    def factories(self) -> dict[str, Callable[[], Policy]]:
        """A factory of each policy. Raises BadInput for a policy that cannot be made."""
        logged = self.model.model.logged
        tables = None if logged is None else LoggedTables.model_validate(logged)
        return policy_factories(self.scenario, tuple(self.model.model.processors), tables, self._predictor)

    def _predictor(self) -> ModelPredictor:
        """What the model's point estimates predict, worked out when a policy first asks. What the scenario assumes of
        a processor the router is taken to know; changes in mid-course it is not."""
        return self._foreseen

    @cached_property
    def _foreseen(self) -> ModelPredictor:
        return ModelPredictor(assumed_world(self.scenario, self.model.point(), self.trace).decisions, self.trace)


@dataclass(frozen=True)
class Replication:
    """The measured policies of one world and luck, its outages, and how long decisions took (s, a sample).

    ``costs``: what the outages cost each policy (OUTAGE_COSTS); ``timeline``: one of them under each policy
    (TIMELINE), in PICTURED_REPLICATION alone.
    """

    world: int
    luck: int
    measured: dict[str, Measured]
    outages: pa.Table
    decision_s: dict[str, list[float]] = field(default_factory=dict)
    costs: pa.Table = field(default_factory=OUTAGE_COSTS.empty_table)
    timeline: pa.Table = field(default_factory=TIMELINE.empty_table)


def replicate(study: Study, world: int, luck_number: int, log_folder: RunFolder | None,
              progress: Callable[[], Any] = lambda: None) -> Replication:
    """Simulate every policy under one world and luck; ``progress`` is called after each. Logs go below
    ``log_folder``."""
    scenario = study.scenario
    trace = study.trace
    known = assumed_world(scenario, study.model.draw(world, scenario.seed), trace)
    luck = Luck(scenario.seed, world, luck_number)
    start = float(trace.arrived_at[0])
    end = float(trace.arrived_at[-1])
    outages = outages_of(scenario, known.decisions.world.model, luck, study.observed, start, end + RUN_OUT_S)
    seen = outage_table(o for o in outages if o.start < end and o.end > start)
    fees = {name: p.terms(name).fee for name, p in known.decisions.world.model.processors.items()}
    unsupported = study.support.unsupported if study.support is not None else None
    factories = study.factories
    order = [scenario.baseline, *(name for name in factories if name != scenario.baseline)]
    measured: dict[str, Measured] = {}
    decision_s: dict[str, list[float]] = {}
    baseline: Columns | None = None
    known_outages = incidents(outages, _added(scenario))
    costs: list[dict[str, Any]] = []
    pictured: Incident | None = None
    timelines = [TIMELINE.empty_table()]
    for name in order:
        done = _simulate(trace, known, factories[name](), luck, outages)
        columns = Columns.of(done.log, unsupported)
        baseline = baseline or columns
        calm = _simulate(trace, known, factories[name](), luck, []).log if outages else None
        without = None if calm is None else Columns.of(calm)
        outages_cost = outage_costs(done.log, calm, known_outages, health_per(scenario, name))
        costs += cost_rows(outages_cost.costs, name, world, luck_number)
        if (world, luck_number) == PICTURED_REPLICATION:
            pictured = chosen(outages_cost.costs) if name == scenario.baseline else pictured
            if pictured is not None:
                timelines.append(timeline(done.log, name, pictured, outages_cost))
        measured[name] = measure(columns, outages=seen, fees=fees, baseline=baseline, without_outages=without,
                                 refusals=done.refusals,
                                 false_ejections=(outages_cost.false_ejections, outages_cost.false_ejection_min))
        decision_s[name] = done.decision_s
        if log_folder is not None:
            log_folder.log_part(name, world, luck_number).write(done.log)
        progress()
    return Replication(world, luck_number, {name: measured[name] for name in scenario.policies}, seen, decision_s,
                       costs_table(costs), pa.concat_tables(timelines))


def _added(scenario: Scenario) -> set[OutageKey]:
    """The outages that the scenario adds."""
    return {(processor, each.kind, each.start_s, each.end_s)
            for each in scenario.outages.add for processor in each.processors}


def health_per(scenario: Scenario, policy: str) -> list[str]:
    """The payment fields that have a health of their own under a policy, as its failover part describes them."""
    per = getattr(scenario.policies[policy].failover.parameters, "per", ["processor"])
    return [name for name in per if name != "processor"]


def _simulate(trace: Trace, known: AssumedWorld, policy: Policy, luck: Luck, outages: Sequence[Outage]) -> Simulated:
    return Engine(trace, known.decisions, policy, luck, outages, known.changes, time.perf_counter,
                  known.network_rules, known.customers).run()


def decision_quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 of decision times, ms."""
    values = np.asarray(seconds) * 1000
    return {f"p{p}": round(float(np.percentile(values, p)), 6) for p in (50, 95, 99)} if len(values) else {}
