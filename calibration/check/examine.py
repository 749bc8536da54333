"""Does a model predict a history? An examination in three parts, judged as one family.

One step ahead (``check_steps``), conditional on what history did; the processors' latency, timeouts and outages
(``check_processors``); and a replay through the merchant's own router (``check_replay``).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from routesim.calibration.check.findings import Finding, judge
from routesim.calibration.check.processors import check_processors
from routesim.calibration.check.replay import Replays, check_replay, figures, replay
from routesim.calibration.check.steps import check_steps
from routesim.calibration.history.read import History
from routesim.calibration.outages.find import find_outages
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel
from routesim.sim.parallel import on_processes

WORLDS, LUCK = 20, 2


def check(model: CalibratedModel, history: History, workers: int | None = None, seed: int = 0,
          progress: Callable[[int, int], None] = lambda done, todo: None) -> list[Finding]:
    """All findings, the least likely first. Raises BadInput for a model without the merchant's router, or a history
    of processors that the model does not know."""
    if model.model.logged is None:
        raise BadInput("the model holds no `logged` router, so history cannot be replayed; calibrate it on a history")
    log = history.log
    unknown = set(log.attempts["processor"].unique().to_pylist()) - set(model.model.processors)
    if unknown:
        raise BadInput(f"history has processors that the model does not know: {', '.join(sorted(unknown))}; "
                       "calibrate on a history that has them", history.provenance.get("source"))
    runs = [(world, luck) for world in range(WORLDS) for luck in range(LUCK)]
    simulated = []
    for one in on_processes(replay, Replays(model, log, seed), runs, workers or os.cpu_count() or 1, ordered=True):
        simulated.append(one)
        progress(len(simulated), len(runs) + 1)
    found = find_outages(log, history.health_skips)
    surprises = [*check_steps(model, log, found, WORLDS, seed), *check_processors(model, log, found, WORLDS, seed),
                 *check_replay(figures(log), simulated)]
    progress(len(runs) + 1, len(runs) + 1)
    return judge(surprises)
