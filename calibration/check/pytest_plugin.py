"""A pytest plugin: calibration checks in a merchant's own test suite, one test a figure.

    pytest --routesim-model models/mine --routesim-history extracts/last_week

Imports are made when they are needed, for pytest loads every installed plugin at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from routesim.calibration.check.findings import Finding


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; without the first two the plugin does nothing."""
    group = parser.getgroup("routesim", "calibration checks of a routesim model")
    group.addoption("--routesim-model", metavar="MODEL", help="the model's folder")
    group.addoption("--routesim-history", metavar="SOURCE", help="the history that it must predict")
    group.addoption("--routesim-profile", metavar="NAME|FILE", default=None, help="the history's profile")
    group.addoption("--routesim-from", metavar="TIME", default=None, help="begin of the window that is checked")
    group.addoption("--routesim-until", metavar="TIME", default=None, help="its end")


def pytest_configure(config: pytest.Config) -> None:
    """One option without the other is a mistake in the call."""
    model, history = config.getoption("--routesim-model"), config.getoption("--routesim-history")
    if (model is None) != (history is None):
        raise pytest.UsageError("--routesim-model and --routesim-history go together")
    config.addinivalue_line("markers", "routesim: a figure that a routesim model must predict")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Examine the model, and add a test for each figure."""
    if config.getoption("--routesim-model") is None:
        return
    suite = CalibrationChecks.from_parent(session, name="routesim", nodeid="routesim")
    items.extend(FigureCheck.from_parent(suite, name=f.figure, finding=f) for f in _findings(config))


def _findings(config: pytest.Config) -> list[Finding]:
    from datetime import UTC, datetime
    from pathlib import Path

    from routesim.calibration.check.examine import check
    from routesim.calibration.history.read import read_history
    from routesim.sim.errors import BadInput
    from routesim.sim.model import CalibratedModel

    def moment(option: str) -> datetime | None:
        text = config.getoption(option)
        if text is None:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise pytest.UsageError(f"{option}: {text!r} is no time; write it as 2026-02-02T00:00:00") from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    try:
        model = CalibratedModel.load(Path(config.getoption("--routesim-model")))
        history = read_history(config.getoption("--routesim-history"), config.getoption("--routesim-profile"),
                               moment("--routesim-from"), moment("--routesim-until"))
        return sorted(check(model, history), key=lambda f: f.figure)
    except BadInput as error:
        raise pytest.UsageError(f"routesim: {error}") from None


class CalibrationChecks(pytest.Collector):
    """The parent of the figures' tests."""

    def collect(self) -> list[pytest.Item]:
        return []


class FigureCheck(pytest.Item):
    """One figure."""

    def __init__(self, *, finding: Finding, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.finding = finding
        self.add_marker("routesim")

    def runtest(self) -> None:
        """Fail where the model does not predict the figure."""
        if not self.finding.passed:
            raise NotForetold

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if not excinfo.errisinstance(NotForetold):
            return str(super().repr_failure(excinfo))
        f = self.finding
        return (f"{f.figure}\n  history   {f.observed:.5g}\n  predicted  {f.expected:.5g} ± {f.sd:.2g}\n"
                f"  p-value   {f.p_value:.2g}, too small for a family whose false-alarm rate is held\n"
                f"  look at   {f.look_at}")

    def reportinfo(self) -> tuple[str, None, str]:
        return "routesim", None, f"routesim: {self.name}"


class NotForetold(Exception):
    """The history's figure lies too far from what the model predicts."""
