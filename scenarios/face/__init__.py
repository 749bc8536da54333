"""routesim: what would have happened to these card payments had we routed, retried and failed over differently?

A history is read and a model calibrated on it; a scenario replays payments in the model's worlds under several policies
and tells, with intervals, how they differ. Whatever is wrong with what you give raises BadInput, in one line.

>>> import routesim as rs
>>> history = rs.read_history("extracts/january", until="2026-01-10")
>>> model = rs.calibrate(history)
>>> model.save("models/mine")
>>> run = rs.run("scenario.yaml", workers=1)
>>> lift = run.lift("three_attempts")
>>> lift.low <= lift.value <= lift.high  # percentage points of approval, and their 95 % interval
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from routesim import testing
    from routesim._calibration import CheckResult, calibrate, check
    from routesim._catalog import catalog
    from routesim._experiment import ExperimentResult, auto_winner, experiment
    from routesim._history import make_history, read_history
    from routesim._run import Lift, RunResult, read_run, run
    from routesim.calibration.calibrate import Calibration
    from routesim.calibration.history.read import History
    from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, Policy, Send, Skip, Stop, View, Wait
    from routesim.reports.statistics.sizing import PowerResult, power
    from routesim.scenarios.document.schema import Scenario
    from routesim.sim.errors import BadInput

    __version__: str

__all__ = [
    "Answer", "BadInput", "Calibration", "CheckResult", "Choice", "Draw", "ExperimentResult", "History", "Lift",
    "Payment", "Policy", "PowerResult", "RunResult", "Scenario", "Send", "Skip", "Stop", "View", "Wait", "__version__",
    "auto_winner", "calibrate", "catalog", "check", "experiment", "make_history", "power", "read_history", "read_run",
    "run", "testing",
]

_HOMES = {  # module to its public names: each is imported when it is first asked for
    "routesim._history": ("make_history", "read_history"),
    "routesim.calibration.history.read": ("History",),
    "routesim._calibration": ("calibrate", "check", "CheckResult"),
    "routesim.calibration.calibrate": ("Calibration",),
    "routesim.scenarios.document.schema": ("Scenario",),
    "routesim._run": ("run", "read_run", "RunResult", "Lift"),
    "routesim._experiment": ("experiment", "ExperimentResult", "auto_winner"),
    "routesim.reports.statistics.sizing": ("power", "PowerResult"),
    "routesim._catalog": ("catalog",),
    "routesim.policies.vocabulary": ("Policy", "View", "Draw", "Payment", "Answer", "Choice", "Send", "Skip", "Wait",
                                    "Stop"),
    "routesim.sim.errors": ("BadInput",),
}

if not TYPE_CHECKING:  # else a type checker would take every name for known

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            value = version("routesim")
        elif name == "testing":
            return import_module("routesim.testing")
        else:
            home = next((module for module, names in _HOMES.items() if name in names), None)
            if home is None:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
            value = getattr(import_module(home), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return __all__
