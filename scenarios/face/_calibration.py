"""A model: calibrated on a history, and checked against another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

import pandas as pd

from routesim._arguments import AnyPath, Progress, path_of, quiet, workers_of, wrong_kind
from routesim._history import read_history
from routesim.calibration.calibrate import Calibration
from routesim.calibration.calibrate import calibrate as _fit
from routesim.calibration.check.examine import check as _examine
from routesim.calibration.check.findings import FALSE_ALARM
from routesim.calibration.history.read import History
from routesim.scenarios.document.moments import DEFAULT_TIMEZONE, known_timezone
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel

_SHOWN = 12


def calibrate(history: History | AnyPath, *, timezone: str = DEFAULT_TIMEZONE, name: str = "model",
              progress: Callable[[str], None] | None = None) -> Calibration:
    """Fit a model, with its uncertainty, to a history (or to the PAYMENT_ML extract at a path).

    ``timezone`` governs the hours of the day; ``progress`` is told what is being fitted. Raises BadInput where the
    history holds no attempt.

    >>> model = rs.calibrate(rs.read_history("extracts/january", until="2026-01-10"))
    >>> model.save("models/mine")
    """
    try:
        zone = known_timezone(timezone)
    except ValueError as error:
        raise BadInput(str(error), "timezone") from None
    return _fit(_history_of(history), zone, name, progress or (lambda what: None))


def check(model: Calibration | AnyPath, history: History | AnyPath, *, workers: int | None = None,
          progress: Progress | None = None) -> CheckResult:
    """Does a model predict a history that it has not seen?

    ``model`` is what ``calibrate`` gave, or the folder where it was saved; ``history`` what ``read_history`` gave, or
    the path of a PAYMENT_ML extract. All figures are judged as one family. Raises BadInput where the model or the
    history cannot be used, or the model does not know a processor.

    >>> verdict = rs.check("models/mine", "extracts/january", workers=1)
    >>> verdict.passed == all(verdict.figures["passed"])
    True
    """
    if isinstance(model, Calibration):
        calibrated = model.model
    elif isinstance(model, CalibratedModel | History):
        raise wrong_kind(model, "model", "what `calibrate` gave, or the folder of a model")
    else:
        calibrated = CalibratedModel.load(path_of(model, "model"))
    read = _history_of(history)
    findings = _examine(calibrated, read, workers_of(workers), progress=progress or quiet)
    return CheckResult(all(one.passed for one in findings), pd.DataFrame([asdict(one) for one in findings]),
                       f"model {calibrated.model.name} · {read.log.payments.num_rows:,} payments")


def _history_of(history: History | AnyPath) -> History:
    if isinstance(history, History):
        return history
    if isinstance(history, Calibration):
        raise wrong_kind(history, "history", "what `read_history` gave, or the path of an extract")
    return read_history(history)


@dataclass(frozen=True, eq=False, repr=False)
class CheckResult:
    """Whether a model predicts a history; true where it does.

    ``figures``: a row a figure, the least likely first: ``figure``, ``observed`` in the history, ``expected`` of the
    model, ``sd`` of what would be observed, ``p_value``, ``passed`` (by Holm's procedure over all figures, with a
    chance of 1 % that a right model fails) and ``look_at`` (what to look at in the model where it fails).

    >>> verdict = rs.check("models/mine", "extracts/january", workers=1)
    >>> list(verdict.figures)
    ['figure', 'observed', 'expected', 'sd', 'p_value', 'passed', 'look_at']
    >>> verdict.report("check.html").exists()
    True
    """

    passed: bool
    figures: pd.DataFrame
    about: str

    def report(self, path: AnyPath) -> Path:
        """Write the page of the check, and return its path."""
        from routesim.reports.pages.check import render  # draws with matplotlib, which takes a second to import

        return render(path_of(path, "path"), [{str(name): value for name, value in row.items()}
                                              for row in self.figures.to_dict("records")], FALSE_ALARM, self.about)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        failed = int((~self.figures["passed"]).sum())
        verdict = "all are predicted" if self.passed else f"{failed} are not predicted"
        return f"CheckResult({self.about}: of {len(self.figures)} figures {verdict})"

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(repr(self))}</b></p>{self.figures.head(_SHOWN).to_html(index=False)}"
