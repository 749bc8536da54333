"""A live test: its size, and the test itself, run in the simulator before it is run live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pyarrow as pa

from routesim._arguments import AnyPath, Progress, path_of, quiet, workers_of
from routesim._scenario import scenario_of
from routesim._temporary import TemporaryFolder, target_of
from routesim.reports.experiment.folder import EXPERIMENT, ExperimentFolder, read_experiment
from routesim.reports.statistics.auto_winner import UNTIL_DAY, Trial, rule_named
from routesim.reports.statistics.auto_winner import auto_winner as _auto_winner
from routesim.reports.statistics.platform_rule import FROM_DAY
from routesim.reports.statistics.power import ratio_of_split
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.running.experiment_run import prepare_experiment, run_experiment
from routesim.sim.files import read_table
from routesim.sim.folders import claimed, publish_file


def auto_winner(baseline: float, lift_pp: float, per_day: int, *, split_bps: tuple[int, int] = (5_000, 5_000),
                from_day: int = FROM_DAY, until_day: int = UNTIL_DAY, rule: str = "auto_winner",
                replications: int = 100_000, seed: int = 1) -> pd.DataFrame:
    """What daily looks at a live test would call, over so many simulated tests; payments count as independent.

    ``baseline``: control's approval rate, a share; ``lift_pp``: the true lift of treatment; ``per_day``: payments a
    day, both arms together; ``split_bps``: the shares of control and treatment; ``rule``: the platform's, or another
    stopping rule, as pocock. Columns ``value`` and ``standard_error`` (not a number where nothing was won), a row a
    figure: p_treatment_wins, p_control_wins, p_any, mean_day_if_treatment_wins, mean_day_capped,
    mean_lift_if_treatment_wins_pp and exaggeration (that lift over the true one). Raises BadInput for values that no
    test can have, and an unknown rule.

    >>> called = rs.auto_winner(0.85, 0.0, 2000, rule="fixed_horizon", replications=20_000)
    >>> p = called.loc["p_any"]
    >>> bool(abs(p["value"] - 0.05) < 4 * p["standard_error"])  # one look at p < .05
    True
    """
    ratio_of_split(*split_bps)
    trial = Trial(baseline, lift_pp, per_day, split_bps[1], from_day, until_day)
    outcome = _auto_winner(trial, rule_named(rule), replications, seed)
    figures = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    return pd.DataFrame([[one.value, one.standard_error] for one in figures.values()],
                        pd.Index(figures, name="figure"), ["value", "standard_error"], dtype=float)


def experiment(scenario: Scenario | AnyPath, *, out: AnyPath | None = None, workers: int | None = None,
               overrides: Sequence[str] = (), progress: Progress | None = None) -> ExperimentResult:
    """Run a scenario's live test in the simulator: who would win it, how often, when, and how wrongly.

    The scenario has a block ``experiment``; all arguments are as those of ``run``. Raises BadInput for whatever cannot
    be used, as a trace that is shorter than the test.

    >>> test = rs.experiment("experiment.yaml", workers=1, overrides=["replications={worlds: 2, luck: 1}"])
    >>> test.control, test.treatments
    ('legacy', ('three_attempts',))
    """
    count = workers_of(workers)
    loaded = scenario_of(scenario, overrides)
    target, temporary = target_of(out, loaded.scenario)
    with claimed(target, EXPERIMENT) as claim:
        trials, manifest = prepare_experiment(loaded)
        run_experiment(trials, manifest, claim, count, progress or quiet)
    return ExperimentResult(target, MappingProxyType(read_experiment(target).figures), temporary)


@dataclass(frozen=True, eq=False, repr=False)
class ExperimentResult:
    """A live test that was simulated many times, and as often with all variants alike. Shows itself in a notebook.

    ``path`` is its folder; ``figures`` is all that ``experiment.json`` holds.

    >>> test = rs.experiment("experiment.yaml", workers=1, overrides=["replications={worlds: 2, luck: 1}"])
    >>> wins = test.wins.loc["truth"]  # all variants as they are; "alike": as if they were one
    >>> bool(wins["value"].between(0, 1).all())
    True
    >>> sorted(set(test.looks.to_pandas()["variant"]))
    ['legacy', 'three_attempts']
    >>> len(test.advice) > 0
    True
    """

    path: Path
    figures: Mapping[str, Any]
    _temporary: TemporaryFolder | None = None  # lives as long as the result

    @property
    def control(self) -> str:
        """The first variant."""
        return next(iter(self.figures["variants"]))

    @property
    def treatments(self) -> tuple[str, ...]:
        """The other variants."""
        return tuple(self.figures["variants"])[1:]

    @property
    def advice(self) -> tuple[str, ...]:
        """The lift that there is to prove and the test that would prove it, in sentences."""
        return tuple(self.figures["advice"])

    @cached_property
    def wins(self) -> pd.DataFrame:
        """How often each rule declares each variant the winner, indexed by (setting, rule, variant).

        Settings: ``truth``, and ``alike``, where all have control's policy, so that every win is a false one. Columns:
        ``value`` (a share of the tests), and ``low`` and ``high`` of its 95 % interval.
        """
        rows = {(setting, rule, variant): [found[part] for part in ("value", "low", "high")]
                for setting, rules in self.figures["rules"].items() for rule, one in rules.items()
                for variant, found in one["p_wins"].items()}
        index = pd.MultiIndex.from_tuples(rows, names=("setting", "rule", "variant"))
        return pd.DataFrame(list(rows.values()), index, ["value", "low", "high"], dtype=float)

    @property
    def looks(self) -> pa.Table:
        """Every look of every simulated test, a row a variant; the schema's metadata say what the columns hold."""
        return read_table(ExperimentFolder(self.path).looks)

    def report(self, path: AnyPath) -> Path:
        """Write the experiment's page, one self-contained HTML file, and return its path."""
        target = path_of(path, "path")
        publish_file(target, ExperimentFolder(self.path).page.read_bytes())
        return target

    def __repr__(self) -> str:
        return f"ExperimentResult({self.figures['scenario']}: {self.control} against {', '.join(self.treatments)})"

    def _repr_html_(self) -> str:
        advice = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.advice)
        wins = self.wins["value"].unstack("variant")
        return f"{advice}{wins.to_html(float_format='{:.1%}'.format)}"
