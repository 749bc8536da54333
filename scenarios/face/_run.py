"""A run: a scenario's policies compared, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd
import pyarrow as pa

from routesim._arguments import AnyPath, Progress, path_of, quiet, workers_of
from routesim._scenario import scenario_of
from routesim._temporary import TemporaryFolder, target_of
from routesim.policies.spelling import nearest
from routesim.reports.athia.rows import parts, read_columns
from routesim.reports.run.answers import answer, headline
from routesim.reports.run.folder import RUN, Run
from routesim.reports.run.folder import read as _read
from routesim.reports.run.two_runs import read_two
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.running.runner import prepare
from routesim.scenarios.running.runner import run as _run
from routesim.sim.errors import BadInput
from routesim.sim.folders import claimed, publish_file
from routesim.sim.log import ATTEMPTS, PAYMENTS

_INTERVAL = ("value", "low", "high", "one_run_low", "one_run_high")
_SHOWN = ("lift_pp", "approval_rate", "lost_to_outages", "latency_ms.wait.p95", "cost_usd")


def run(scenario: Scenario | AnyPath, *, out: AnyPath | None = None, workers: int | None = None,
        overrides: Sequence[str] = (), progress: Progress | None = None) -> RunResult:
    """Run a scenario: every policy in every drawn world, under the same draws.

    ``scenario`` is a file's path, or a Scenario made in Python. ``out`` is the run's folder, which is replaced if it
    holds an earlier run; without it the run lies in a temporary folder that goes with the result. ``workers`` are
    local processes, all cores unless told: the figures do not depend on them. ``overrides`` (as
    ``replications.worlds=4``) replace values of a file. ``progress`` is told the replications that are done, and all.
    Raises BadInput for whatever cannot be used.

    >>> run = rs.run("scenario.yaml", workers=1, overrides=["replications={worlds: 2, luck: 1}"])
    >>> run.policies
    ('legacy', 'three_attempts', 'breaker')
    >>> rs.run("scenario.yaml", workers=0)
    Traceback (most recent call last):
    routesim.sim.errors.BadInput: workers: a number of processes is a whole number from 1 on; found 0
    """
    count = workers_of(workers)
    loaded = scenario_of(scenario, overrides)
    target, temporary = target_of(out, loaded.scenario)
    with claimed(target, RUN) as claim:
        _run(prepare(loaded), claim, count, progress or quiet)
    return RunResult(target, _read(target), temporary)


def read_run(path: AnyPath) -> RunResult:
    """Read the folder of an earlier run. Raises BadInput where it is none.

    >>> rs.read_run("runs/mine").baseline
    'legacy'
    >>> rs.read_run("extracts")
    Traceback (most recent call last):
    routesim.sim.errors.BadInput: extracts: not the folder of a run: it holds no summary.json
    """
    folder = path_of(path, "path")
    return RunResult(folder, _read(folder))


@dataclass(frozen=True)
class Lift:
    """How much a policy's approval rate lies above the baseline's, percentage points.

    ``low`` and ``high`` bound the 95 % interval, which holds calibration error and luck; None where there is none.
    ``verdict`` is better, worse, undecided or unknown, and ``sentence`` says it all.

    >>> lift = rs.read_run("runs/mine").lift("three_attempts")
    >>> lift.low <= lift.value <= lift.high
    True
    >>> lift.verdict in ("better", "worse", "undecided")
    True
    """

    policy: str
    baseline: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.policy} {self.sentence}"


@dataclass(frozen=True, eq=False, repr=False)
class RunResult:
    """A run, done: its figures with their intervals, its attempts and its page. Shows itself in a notebook.

    ``path`` is the run's folder.

    >>> run = rs.read_run("runs/mine")
    >>> list(run.summary.loc["breaker"].index[:2]), list(run.summary.columns[:3])
    (['approval_rate', 'lift_pp'], ['value', 'low', 'high'])
    >>> print(run.lift("legacy").value)  # the baseline does not differ from itself
    0.0
    >>> attempts = run.attempts("breaker").to_pandas()
    >>> bool((attempts.groupby(["world", "luck"])["payment_id"].nunique() > 0).all())
    True
    >>> run.report("page.html").exists()
    True
    >>> run.lift("braker")
    Traceback (most recent call last):
    routesim.sim.errors.BadInput: policy: the run has no policy 'braker'; did you mean 'breaker'?
    """

    path: Path
    _run: Run
    _temporary: TemporaryFolder | None = None  # lives as long as the result

    @property
    def policies(self) -> tuple[str, ...]:
        """Their names, in the scenario's order."""
        return tuple(self._run.policies)

    @property
    def baseline(self) -> str:
        """The policy that the others are compared with."""
        return str(self._run.summary["baseline"])

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Every figure of every policy, indexed by (policy, figure).

        Columns: ``value``, ``low`` and ``high`` (of the 95 % interval), ``one_run_low`` and ``one_run_high`` (the range
        of a single run); not a number where there is none. Units stand in the figures' names; rates are shares.
        """
        rows = {(policy, name): [found[part] for part in _INTERVAL] for policy in self.policies
                for name, found in _figures(self._run.summary["policies"][policy], ())}
        index = pd.MultiIndex.from_tuples(rows, names=("policy", "figure"))
        return pd.DataFrame(list(rows.values()), index, list(_INTERVAL), dtype=float)

    @property
    def replications(self) -> pa.Table:
        """Every figure of every replication: policy, world, luck, figure, value."""
        return self._run.replications

    def lift(self, policy: str) -> Lift:
        """A policy's lift on the baseline. Raises BadInput for a policy that the run does not have."""
        self._known(policy)
        found, said = self._run.figure(policy, "lift_pp"), answer(self._run, policy)
        return Lift(policy, self.baseline, found["value"], found["low"], found["high"], said.verdict, said.sentence)

    def attempts(self, policy: str) -> pa.Table:
        """The policy's attempts, with ``world`` and ``luck``, as far as the run's ``log`` kept them.

        Raises BadInput for an unknown policy, or where none was kept.
        """
        return self._log(policy, "attempts", ATTEMPTS)

    def payments(self, policy: str) -> pa.Table:
        """The policy's payments (comebacks make them differ), as ``attempts``."""
        return self._log(policy, "payments", PAYMENTS)

    def _log(self, policy: str, table: str, schema: pa.Schema) -> pa.Table:
        self._known(policy)
        tables = []
        for part in parts(self._run, [policy]):
            rows = read_columns(getattr(part, table), schema.names, "scenario")
            for name, number in (("world", part.world), ("luck", part.luck)):
                rows = rows.append_column(name, pa.array([number] * rows.num_rows, pa.int32()))
            tables.append(rows)
        return pa.concat_tables(tables)

    def _known(self, policy: str) -> None:
        if policy not in self.policies:
            raise BadInput(f"the run has no policy {policy!r}{nearest(policy, self.policies)}", "policy")

    def compare(self, other: RunResult | AnyPath, *, page: AnyPath | None = None) -> pd.DataFrame:
        """This run less another one, for every figure of the policies that both have, indexed by (policy, figure).

        Columns: ``first`` (this run's value), ``second``, and ``difference`` with its 95 % interval's ``low`` and
        ``high``. ``page``: where to write the page that also tells what differs between the two. Raises BadInput where
        the other is no run, or has none of the policies.
        """
        runs = read_two(self.path, other.path if isinstance(other, RunResult) else path_of(other, "other"))
        if page is not None:
            from routesim.reports.pages.two_runs import render_two  # draws with matplotlib: a second to import

            render_two(runs, path_of(page, "page"))
        rows = {(policy, one.metric.name): [one.first["value"], one.second["value"], one.between.value, one.between.low,
                                       one.between.high]
                for policy in runs.policies for one in runs.differences(policy)}
        index = pd.MultiIndex.from_tuples(rows, names=("policy", "figure"))
        return pd.DataFrame(list(rows.values()), index, ["first", "second", "difference", "low", "high"], dtype=float)

    def export(self, folder: AnyPath, *, policies: Sequence[str] = (), form: str = "parquet") -> dict[str, int]:
        """Write the rows for the serving platform's ATHIA tables into an empty folder; how many rows each table has.

        ``policies``: only these, all unless told; ``form``: parquet, duckdb or both. Raises BadInput as ``attempts``
        does, and for a folder that is not empty.
        """
        from routesim.reports.athia.export import Format, export

        for policy in policies:
            self._known(policy)
        if form not in get_args(Format):
            raise BadInput(f"found {form!r}{nearest(form, get_args(Format))}", "form")
        return export(self.path, path_of(folder, "folder"), policies, cast(Format, form))

    def report(self, path: AnyPath) -> Path:
        """Write the run's page, one self-contained HTML file, and return its path."""
        from routesim.reports.pages.run import html  # draws with matplotlib, which takes a second to import

        target = path_of(path, "path")
        publish_file(target, html(self._run).encode())
        return target

    def __repr__(self) -> str:
        return f"RunResult({self._run.summary['scenario']}: {headline(self._run)})"

    def _repr_html_(self) -> str:
        table = self.summary.loc[(slice(None), list(_SHOWN)), ["value", "low", "high"]]
        return f"<p><b>{escape(headline(self._run))}</b></p>{table.to_html(float_format='{:,.4g}'.format)}"


def _figures(document: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each figure by its dotted name; what has no interval is none."""
    for name, found in document.items():
        if isinstance(found, dict):
            if set(_INTERVAL) <= set(found):
                yield ".".join((*path, name)), found
            else:
                yield from _figures(found, (*path, name))
