"""A run's folder: where everything lies in it, and the part of it that reports write and read back.

``summary.json`` and, as Parquet, ``replications`` (policy, world, luck, figure, value), ``hours``, ``latency``,
``processors``, ``codes`` (tallies summed over a policy's replications; ``hours`` holds their number beside them),
``outages`` (world, luck, processor, kind, start, end), ``outage_costs`` (what each cost each policy) and ``timeline``
(one outage as each policy lived it, in the first replication). The page needs nothing else: it is rebuilt without
simulating.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from routesim.reports.metrics.tallies import Series, Tally, table
from routesim.reports.outages.costs import OUTAGE_COSTS
from routesim.reports.outages.timeline import TIMELINE
from routesim.reports.run.comparison import REPLICATIONS, Comparison
from routesim.sim.errors import BadInput
from routesim.sim.files import write_table, write_text
from routesim.sim.folders import Kind, held, publish_file, recover
from routesim.sim.log import MICROSECONDS, AttemptLog

OUTAGES = pa.schema([
    pa.field("world", pa.int32()),
    pa.field("luck", pa.int32()),
    pa.field("processor", pa.string()),
    pa.field("kind", pa.string()),
    pa.field("start", MICROSECONDS),
    pa.field("end", MICROSECONDS),
])
_POLICY = pa.field("policy", pa.string())
_COUNT = pa.float64()
HOURS = pa.schema([
    _POLICY, pa.field("hour", MICROSECONDS), *(pa.field(name, _COUNT) for name in ("payments", "approved", "dark")),
    pa.field("replications", pa.int32()),
])
LATENCY = pa.schema([
    _POLICY, *(pa.field(name, pa.string()) for name in ("kind", "processor", "outcome")),
    pa.field("bin", pa.int32()), pa.field("count", _COUNT),
])
PROCESSORS = pa.schema([
    _POLICY, pa.field("processor", pa.string()),
    *(pa.field(name, _COUNT) for name in ("attempts", "first_attempts", "approvals", "approved_usd", "cost_usd")),
])
CODES = pa.schema([
    _POLICY, pa.field("processor", pa.string()), pa.field("decline_code", pa.string()), pa.field("attempts", _COUNT),
])
SCHEMAS = {
    "replications": REPLICATIONS, "hours": HOURS, "latency": LATENCY, "processors": PROCESSORS, "codes": CODES,
    "outages": OUTAGES, "outage_costs": OUTAGE_COSTS, "timeline": TIMELINE,
}


_SUMMARY, _SCENARIO, _MANIFEST, _TIMING, _PAGE = (
    "summary.json", "scenario.yaml", "manifest.json", "timing.json", "report.html")
_COMPARISON = "compare_with_*.html"
_PAYMENTS, _ATTEMPTS, _PART = "payments", "attempts", "part-0.parquet"
SHARED_NAMES = (_SCENARIO, _MANIFEST, _TIMING, _PAGE)
"""The files that the folders of a run and of an experiment have in common."""
RUN = Kind("run", (*SHARED_NAMES, _SUMMARY, _PAYMENTS, _ATTEMPTS, _COMPARISON,
                   *(f"{name}.parquet" for name in SCHEMAS)), mark=_SUMMARY)


@dataclass(frozen=True)
class ScenarioFolder:
    """Where that lies which the folders of a run and of an experiment have in common."""

    path: Path

    @property
    def scenario(self) -> Path:
        """The scenario in full, which runs again."""
        return self.path / _SCENARIO

    @property
    def manifest(self) -> Path:
        """What went in: versions, hashes, assumptions and warnings."""
        return self.path / _MANIFEST

    @property
    def timing(self) -> Path:
        """What this machine took for it: the one file that is not the same for the same inputs."""
        return self.path / _TIMING

    @property
    def page(self) -> Path:
        """The report."""
        return self.path / _PAGE

    def write_inputs(self, scenario: str, manifest: Mapping[str, Any]) -> None:
        """Write the scenario and the manifest."""
        write_text(self.scenario, scenario)
        write_text(self.manifest, json.dumps(manifest, indent=1, sort_keys=True) + "\n")

    def write_timing(self, timing: Mapping[str, Any]) -> None:
        """Write what this machine took."""
        write_text(self.timing, json.dumps(timing, indent=1) + "\n")

    def write_page(self, html: Callable[[], str]) -> Path:
        """Write the report, which ``html`` makes of what the folder holds while no other process writes it; its path.

        Raises BadInput where one does.
        """
        with held(self.path):
            publish_file(self.page, html().encode())
        return self.page


@dataclass(frozen=True)
class LogPart:
    """The two files that hold the log of one replication of one policy."""

    policy: str
    world: int
    luck: int
    payments: Path
    attempts: Path

    def write(self, log: AttemptLog) -> None:
        """Write both."""
        write_table(self.payments, log.payments)
        write_table(self.attempts, log.attempts)


class RunFolder(ScenarioFolder):
    """Where everything lies in a run's folder."""

    @property
    def summary(self) -> Path:
        """Every policy's figures with their intervals."""
        return self.path / _SUMMARY

    def table(self, name: str) -> Path:
        """One of the tables of SCHEMAS."""
        return self.path / f"{name}.parquet"

    def comparison(self, other: str) -> Path:
        """The page that compares the run with another of that name."""
        return self.path / _COMPARISON.replace("*", re.sub(r"[^\w.-]+", "_", other))

    def log_part(self, policy: str, world: int, luck: int) -> LogPart:
        """The log of one replication of one policy, there or not."""
        inside = Path(f"policy={policy}", f"world={world:03d}", f"luck={luck:03d}", _PART)
        return LogPart(policy, world, luck, self.path / _PAYMENTS / inside, self.path / _ATTEMPTS / inside)

    def log_parts(self, policy: str) -> list[LogPart]:
        """The logs of a policy that were kept, by world and luck."""
        found = []
        for file in (self.path / _ATTEMPTS / f"policy={policy}").glob(f"world=*/luck=*/{_PART}"):
            world, luck = (int(name.partition("=")[2]) for name in file.parts[-3:-1])
            found.append(self.log_part(policy, world, luck))
        return sorted(found, key=lambda part: (part.world, part.luck))


@dataclass(frozen=True)
class Run:
    """A run's folder, read. ``manifest`` and ``scenario_text`` are empty where the folder lacks them."""

    folder: RunFolder
    summary: dict[str, Any]
    replications: pa.Table
    hours: pa.Table
    latency: pa.Table
    processors: pa.Table
    codes: pa.Table
    outages: pa.Table
    outage_costs: pa.Table
    timeline: pa.Table
    manifest: dict[str, Any]
    scenario_text: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder.path

    @property
    def policies(self) -> list[str]:
        """Names in the scenario's order."""
        return list(self.summary["policies"])

    def figure(self, policy: str, name: str) -> dict[str, float | None]:
        """{value, low, high, one_run_low, one_run_high} of a figure by its flattened name; all None where absent."""
        place: Any = self.summary["policies"][policy]
        for part in name.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        return place if isinstance(place, dict) else dict.fromkeys(
            ("value", "low", "high", "one_run_low", "one_run_high"))


def write(run_dir: Path, comparison: Comparison, outages: pa.Table, timeline: pa.Table | None = None) -> None:
    """Write the summary and the tables into ``run_dir`` (made where missing).

    ``outages`` follows OUTAGES, ``timeline`` TIMELINE.
    """
    folder = RunFolder(run_dir)
    sums = {policy: comparison.series(policy) for policy in comparison.policies}

    def tallies(pick: Callable[[Series], Tally], schema: pa.Schema) -> pa.Table:
        return table({policy: pick(one) for policy, one in sums.items()}, schema)

    hours = tallies(lambda one: one.hours, pa.schema([
        HOURS.field(0), pa.field("hour", pa.int64()), *list(HOURS)[2:5]]))
    replications = [sums[policy].replications for policy in hours["policy"].to_pylist()]
    hours = hours.append_column(HOURS.field("replications"), pa.array(replications, type=pa.int32())).cast(HOURS)
    tables = {
        "replications": comparison.replications_table(),
        "hours": hours,
        "latency": tallies(lambda one: one.latency, LATENCY),
        "processors": tallies(lambda one: one.processors, PROCESSORS),
        "codes": tallies(lambda one: one.codes, CODES),
        "outages": outages.select(OUTAGES.names).cast(OUTAGES).sort_by(
            [(name, "ascending") for name in ("world", "luck", "start", "processor", "kind")]),
        "outage_costs": (OUTAGE_COSTS.empty_table() if comparison.costs is None else comparison.costs).combine_chunks(),
        "timeline": (TIMELINE.empty_table() if timeline is None else timeline).combine_chunks(),
    }
    for name, content in tables.items():
        write_table(folder.table(name), content)
    document = json.dumps(comparison.summary(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(folder.summary, document)  # last: its presence says that the rest is there


def read(run_dir: Path) -> Run:
    """Read a run's folder. Raises BadInput where it is none, or where a file is missing or broken."""
    folder = RunFolder(run_dir)
    recover(run_dir)
    if not run_dir.is_dir():
        raise BadInput("there is no such folder; give the folder that `routesim run --out` wrote", str(run_dir))
    if not folder.summary.is_file():
        raise BadInput(f"not the folder of a run: it holds no {folder.summary.name}", str(run_dir))
    summary = _json(folder.summary)
    lacking = [key for key in ("scenario", "seed", "replications", "payments", "baseline", "policies")
               if key not in summary]
    if lacking or not isinstance(summary["policies"], dict) or summary["baseline"] not in summary["policies"]:
        what = f"it lacks {', '.join(lacking)}" if lacking else "its baseline is not among its policies"
        raise BadInput(f"not the summary of a run: {what}", str(folder.summary))
    return Run(
        folder=folder,
        summary=summary,
        **{name: _parquet(folder.table(name), schema) for name, schema in SCHEMAS.items()},
        manifest=_json(folder.manifest) if folder.manifest.is_file() else {},
        scenario_text=folder.scenario.read_text(encoding="utf-8") if folder.scenario.is_file() else "",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput(f"not readable as JSON ({error}); run the scenario again", str(path)) from error
    if not isinstance(document, dict):
        raise BadInput("an object was expected; run the scenario again", str(path))
    return document


def _parquet(path: Path, schema: pa.Schema) -> pa.Table:
    if not path.is_file():
        raise BadInput("the file is missing; run the scenario again", str(path))
    try:
        content = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"not readable as Parquet ({error}); run the scenario again", str(path)) from error
    missing = [name for name in schema.names if name not in content.column_names]
    if missing:
        raise BadInput(f"the column {missing[0]!r} is missing; run the scenario again", str(path))
    return content.select(schema.names)


def only(content: pa.Table, **equal: str) -> pa.Table:
    """The rows whose columns equal the given values."""
    for name, value in equal.items():
        content = content.filter(pc.equal(content[name], value))
    return content
