"""The scenario of a run or an experiment, as a program gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from routesim._arguments import AnyPath, path_of, wrong_kind
from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.document.schema import Scenario
from routesim.sim.errors import BadInput


def scenario_of(scenario: Scenario | AnyPath, overrides: Sequence[str]) -> Scenario:
    """The scenario that was given, or that the file at the path holds, with ``overrides`` (KEY=VALUE) in it.

    Raises BadInput as ``load_scenario`` does, and for overrides of a scenario that was made in Python.
    """
    if isinstance(overrides, str):
        raise BadInput(f"give a list of them, as [{overrides!r}]", "overrides")
    if isinstance(scenario, Mapping):
        raise wrong_kind(scenario, "scenario", "a file's path, or Scenario(...) of these keys")
    if not isinstance(scenario, Scenario):
        return load_scenario(path_of(scenario, "scenario"), overrides)
    if overrides:
        raise BadInput("go with a scenario's file; make a Scenario in Python with the values that you want",
                       "overrides")
    return scenario
