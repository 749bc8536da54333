"""One replication of an experiment: a drawn world, a draw of luck, a salt of the assignment, and one simulation in
which every payment meets one variant.

Payments of different variants are different payments, so their draws are independent as in life, though each is keyed
by name: nothing is compared under common random numbers but the policies on all of the traffic, whose lift is the truth
that the experiment tries to find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from routesim.policies.experiment.assignment import Assignment, Experiment, Stage
from routesim.policies.experiment.router import ExperimentPolicy
from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.experiment.looks import ExperimentPlan, Outcomes, outcomes
from routesim.reports.experiment.record import Record, record
from routesim.reports.experiment.strata import Strata
from routesim.scenarios.document.experiment_block import DAY_S, ExperimentBlock
from routesim.scenarios.running.assumptions import assumed_world, outages_of
from routesim.scenarios.running.replicate import Study
from routesim.sim.draws import Luck
from routesim.sim.engine import RUN_OUT_S, Engine, Simulated

ROLLOUT_LUCKS = 2
"""Draws of luck in a world under which every variant is given all of the traffic. Common random numbers make their
lift so sure that more would tell nothing."""


@dataclass(frozen=True)
class Trials:
    """What all replications of an experiment share: inert, so that worker processes can be handed it.

    ``start_s``: when it begins, s since 1970 UTC. The study's payments end with the experiment.
    """

    study: Study
    block: ExperimentBlock
    start_s: float
    strata: Strata

    @property
    def plan(self) -> ExperimentPlan:
        """What the reports need to know of it."""
        stages = tuple(((stage.from_s - self.start_s) / DAY_S, tuple(points for _, points in stage.split))
                       for stage in self.block.stages(self.start_s))
        return ExperimentPlan(tuple(self.block.variants), self.block.days, stages, self.block.matures_s / DAY_S,
                    self.block.unit)


@dataclass(frozen=True)
class Replicated:
    """The tests of one world and luck.

    ``truth``: with each variant's own policy; ``alike``: with control's in all. ``rollout``: of each variant, given all
    of the traffic, its payments and those approved; None beyond the first draws of luck. ``acted``: payments and
    approvals of the whole traffic when the winner takes it over, and when nobody acts; None where nobody won.
    """

    world: int
    luck: int
    truth: Record
    alike: Record
    rollout: list[tuple[int, int]] | None
    acted: list[tuple[int, int]] | None

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**asdict(self), "truth": self.truth.plain(), "alike": self.alike.plain()}

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Replicated:
        """What ``plain`` was made of. Raises KeyError or TypeError where it is none."""
        pairs = {name: None if data[name] is None else [(int(n), int(yes)) for n, yes in data[name]]
                 for name in ("rollout", "acted")}
        return cls(data["world"], data["luck"], Record.of_plain(data["truth"]), Record.of_plain(data["alike"]), **pairs)


def replicate_experiment(trials: Trials, world: int, luck_number: int) -> Replicated:
    """Run the experiment, the same with all variants alike, and (in the first draws of luck) each variant alone."""
    block, start_s = trials.block, trials.start_s
    # in life the salt is one; over replications it varies as luck does, for who is in which variant is luck
    salt = f"{block.salt}#{trials.study.scenario.seed}.{world}.{luck_number}"
    met = _World(trials, world, luck_number)
    own = {name: name for name in block.variants}
    usual = block.experiment(start_s, salt)
    done, found = met.run(usual, own)
    truth = record(trials.plan, found, _labels(trials, done, found))
    rollout = None
    if luck_number < ROLLOUT_LUCKS:
        rollout = []
        for name in block.variants:
            alone = replace(usual, stages=(_all_to(name, start_s),))
            rollout.append(_approved(met.run(alone, own)[1]))
    acted = None
    winner = truth.decided(block.rule) if block.act else None
    if winner is not None:
        day, name = winner
        at_s = start_s + day * DAY_S  # until then every draw, and so every payment, is as before
        stages = (*(stage for stage in usual.stages if stage.from_s < at_s), _all_to(name, at_s))
        moved = replace(usual, stages=stages, until_s=math.inf)
        acted = [_approved(met.run(moved, own)[1]), _approved(found)]
    alike = record(trials.plan, met.run(usual, dict.fromkeys(own, block.control))[1])
    return Replicated(world, luck_number, truth, alike, rollout, acted)


class _World:
    """One world under one luck, in which any experiment can be run."""

    def __init__(self, trials: Trials, world: int, luck_number: int) -> None:
        study, scenario = trials.study, trials.study.scenario
        self._trials, self._trace = trials, study.trace
        self._known = assumed_world(scenario, study.model.draw(world, scenario.seed), self._trace)
        self._luck = Luck(scenario.seed, world, luck_number)
        start, end = float(self._trace.arrived_at[0]), float(self._trace.arrived_at[-1])
        self._outages = outages_of(scenario, self._known.decisions.world.model, self._luck, study.observed, start,
                                   end + RUN_OUT_S)
        self._factories = study.factories

    def run(self, experiment: Experiment, policies: Mapping[str, str]) -> tuple[Simulated, Outcomes]:
        """Simulate with a fresh policy for every variant, ``policies`` saying which, and tell what became of it."""
        block, known = self._trials.block, self._known
        router = ExperimentPolicy(Assignment(experiment),
                                  {variant: self._factories[name]() for variant, name in policies.items()},
                                  block.control)
        done = Engine(self._trace, known.decisions, router, self._luck, self._outages, known.changes, None,
                      known.network_rules, known.customers).run()
        place = {name: number for number, name in enumerate(block.variants)}
        assigned = {who: (place[each.variant], each.stale) for who, each in router.assigned.items()}
        return done, outcomes(done.log, assigned, self._trials.start_s, block.unit)


def _all_to(name: str, from_s: float) -> Stage:
    return Stage(from_s, ((name, BASIS_POINTS),))


def _approved(found: Outcomes) -> tuple[int, int]:
    return len(found.variant), int(found.approved.sum())


def _labels(trials: Trials, done: Simulated, found: Outcomes) -> dict[str, pa.Array]:
    return trials.strata.labels(done.log.payments.take(pa.array(found.row)))
