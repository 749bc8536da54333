"""An experiment's folder: where everything lies in it, and the part of it that reports write and read back.

``experiment.json`` holds the figures, ``looks.parquet`` every look of every test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from routesim.reports.experiment.looks import ExperimentPlan
from routesim.reports.experiment.record import Record
from routesim.reports.experiment.rules import RULES
from routesim.reports.run.folder import SHARED_NAMES, ScenarioFolder
from routesim.reports.statistics.platform_rule import (
    ALPHA,
    FROM_DAY,
    LEAST_LIFT_PP,
    LEAST_SAMPLES,
    MOST_LATENCY_REGRESSION,
    MOST_REVENUE_LOSS,
    Unmet,
    WinnerCondition,
)
from routesim.sim.errors import BadInput
from routesim.sim.files import write_table, write_text
from routesim.sim.folders import Kind, recover

_FIGURES, _LOOKS = "experiment.json", "looks.parquet"
EXPERIMENT = Kind("experiment", (*SHARED_NAMES, _FIGURES, _LOOKS), mark=_FIGURES)
_INT, _REAL, _TEXT = pa.int64(), pa.float64(), pa.string()


def _field(name: str, kind: pa.DataType, doc: str) -> pa.Field:
    return pa.field(name, kind, metadata={"doc": doc})


LOOKS = pa.schema([
    _field("setting", _TEXT, "truth: each variant has its own policy; alike: all have the control's"),
    _field("replication", _INT, "a number for each world and luck"),
    _field("world", _INT, "draw of the model"),
    _field("luck", _INT, "draw of luck in it"),
    _field("day", _INT, "the look comes at the end of this day, 1 the first"),
    _field("variant", _TEXT, "control first"),
    _field("n", _INT, "payments that count by then"),
    _field("approvals", _INT, "of those, approved by then"),
    _field("p95_ms", _REAL, "95th percentile of the wait, ms"),
    _field("revenue_usd", _REAL, "amount approved by then, USD"),
    _field("lift_pp", _REAL, "against the control, pp; null for the control"),
    _field("p_value", _REAL, "of the pooled two-sided z test against the control; null for the control"),
    _field("design_effect", _REAL, "variance of the lift, as units are bucketed, over that of independent "
                                   "payments; null for the control"),
    _field("sample_ratio_p", _REAL, "p-value of the variants' shares against those promised"),
    _field("unmet", _TEXT, "what keeps the platform's rule from calling; null for the control, or where nothing does"),
    *(_field(f"verdict_{rule}", _TEXT, f"whom the rule calls at this look: {text.doc}")
      for rule, text in RULES.items()),
])


def looks_table(plan: ExperimentPlan, tests: Sequence[tuple[int, int, Mapping[str, Record]]]) -> pa.Table:
    """Every look of every test, by (world, luck, setting to record), a row a variant."""
    columns: dict[str, list[Any]] = {name: [] for name in LOOKS.names}
    for number, (world, luck, settings) in enumerate(tests):
        for setting, test in settings.items():
            for i, look in enumerate(test.looks):
                for variant, name in enumerate(plan.variants):
                    row = {
                        "setting": setting, "replication": number, "world": world, "luck": luck, "day": look.day,
                        "variant": name, "n": look.n[variant], "approvals": look.approvals[variant],
                        "p95_ms": look.p95_ms[variant], "revenue_usd": look.revenue_usd[variant],
                        "lift_pp": look.lift_pp(variant) if variant else None,
                        "p_value": test.p_values[variant - 1][i] if variant else None,
                        "design_effect": look.effect(variant) if variant else None,
                        "sample_ratio_p": look.srm_p,
                        "unmet": ("; ".join(map(in_words, test.unmet[variant - 1][i])) or None) if variant else None,
                        **{f"verdict_{rule}": test.calls[rule][i] for rule in RULES},
                    }
                    for column, value in row.items():
                        columns[column].append(value)
    return pa.table(columns, schema=LOOKS)


def in_words(unmet: Unmet) -> str:
    """A condition of the platform's rule that is not met, for people to read."""
    match unmet.condition:
        case WinnerCondition.DAY:
            return f"day {unmet.found:.0f} of at least {FROM_DAY}"
        case WinnerCondition.SAMPLES:
            return f"{unmet.found:,.0f} samples of at least {LEAST_SAMPLES:,} a variant"
        case WinnerCondition.P_VALUE:
            return f"p = {unmet.found:.3g}, not below {ALPHA:g}"
        case WinnerCondition.LIFT:
            return f"a lift of {unmet.found:+.2f} pp, smaller than {LEAST_LIFT_PP:g} pp"
        case WinnerCondition.LATENCY:
            return f"latency worse by more than {MOST_LATENCY_REGRESSION:.0%}"
        case WinnerCondition.REVENUE:
            return f"revenue lower by more than {MOST_REVENUE_LOSS:.0%}"


class ExperimentFolder(ScenarioFolder):
    """Where everything lies in an experiment's folder."""

    @property
    def figures(self) -> Path:
        """The chances, lifts, sizes and advice."""
        return self.path / _FIGURES

    @property
    def looks(self) -> Path:
        """The table of LOOKS."""
        return self.path / _LOOKS

    def write(self, figures: Mapping[str, Any], looks: pa.Table) -> None:
        """Write both; the figures last, since their presence says that the rest is there."""
        write_table(self.looks, looks)
        write_text(self.figures, json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@dataclass(frozen=True)
class ExperimentRun:
    """An experiment's folder, read: what the page is made of."""

    figures: dict[str, Any]
    manifest: dict[str, Any]
    scenario_text: str


def read_experiment(path: Path) -> ExperimentRun:
    """Read an experiment's folder. Raises BadInput where it is none."""
    folder = ExperimentFolder(path)
    recover(path)
    if not folder.figures.is_file():
        raise BadInput(f"not the folder of an experiment: it holds no {folder.figures.name}", str(path))
    try:
        figures = json.loads(folder.figures.read_text(encoding="utf-8"))
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
        text = folder.scenario.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"not readable ({error}); run the experiment again", str(path)) from None
    return ExperimentRun(figures, manifest, text)
