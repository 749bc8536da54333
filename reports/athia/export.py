"""Writes the platform's tables: Parquet, DuckDB, and the DDL with what was exported beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from routesim.reports.athia.lift import LIFT, Row, comparison_rows, experiment_rows, lift_batches
from routesim.reports.athia.rows import Rows, chosen_policies, parts, run_id
from routesim.reports.athia.tables import ddl, duckdb_ddl, platform_tables
from routesim.reports.experiment.folder import ExperimentFolder
from routesim.reports.run.folder import LogPart, Run, RunFolder, read
from routesim.sim.errors import BadInput
from routesim.sim.files import write_text, writing
from routesim.sim.folders import Claim, Kind, claimed, recover

Format = Literal["parquet", "duckdb", "both"]
DDL_FILE, DUCKDB_FILE, EXPORT_JSON = "athia_snowflake.sql", "athia.duckdb", "export.json"
EXPORT = Kind("export")
Progress = Callable[[int, int], None]  # parts done, and to do


def export(run_dir: Path, out: Path, policies: Iterable[str] = (), form: Format = "parquet",
           experiment: Path | None = None, progress: Progress = lambda done, todo: None) -> dict[str, int]:
    """Write a run's rows for the platform's tables into the folder ``out``; how many rows each table has.

    ``policies``: only these, all where none is named; ``experiment``: the folder of a simulated experiment, whose looks
    fill ATHIA_EXPERIMENT_LIFT in place of the run's own lifts. ``run_dir`` may be such a folder too: the other tables
    are then empty. The Parquet files, the DDL and export.json are the same bytes for the same inputs; the DuckDB file
    holds the same rows. Raises BadInput for a folder that is no run, that kept no log, or that cannot be written, for
    an unknown policy, and where ``out`` is not empty.
    """
    with claimed(out, EXPORT) as claim:
        recover(run_dir)
        if experiment is None and ExperimentFolder(run_dir).figures.is_file():
            experiment = run_dir
        if experiment == run_dir and not RunFolder(run_dir).summary.is_file():
            if list(policies):
                raise BadInput("goes with the folder of a run; this is an experiment's", "--policy")
            return _write(claim, None, [], experiment_rows(run_dir), form, progress)
        run = read(run_dir)
        chosen = chosen_policies(run, list(policies))
        lifts = comparison_rows(run, chosen) if experiment is None else experiment_rows(experiment)
        return _write(claim, run, parts(run, chosen), lifts, form, progress)


def _write(claim: Claim, run: Run | None, found: list[LogPart], lifts: Iterable[Row], form: Format, progress: Progress
           ) -> dict[str, int]:
    with claim.work() as work:
        holding = work.scratch if form == "duckdb" else work.made
        with writing(claim.out):
            written = _write_parquet(run, found, lifts, holding, work.scratch, progress)
            if form != "parquet":
                _write_duckdb(holding, work.made / DUCKDB_FILE)
        write_text(work.made / DDL_FILE, ddl())
        write_text(work.made / EXPORT_JSON, json.dumps(_document(run, found, written), indent=1) + "\n")
    return written


def _write_parquet(run: Run | None, found: list[LogPart], lifts: Iterable[Row], folder: Path, scratch: Path,
                   progress: Progress) -> dict[str, int]:
    tables = platform_tables()
    written = dict.fromkeys(tables, 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context(pq.ParquetWriter(
            folder / f"{name}.parquet", table.schema, compression="zstd",
            use_dictionary=[column.name for column in table.columns if column.role != "key"]))  # ids hardly repeat
            for name, table in tables.items()}

        def write(name: str, batch: pa.RecordBatch) -> None:
            files[name].write_batch(batch)
            written[name] += batch.num_rows

        for batch in lift_batches(lifts):
            write(LIFT, batch)
        if run is not None:
            rows = stack.enter_context(Rows(run, scratch))
            for done, part in enumerate(found):
                progress(done, len(found))
                for name, batch in rows.of(part):
                    write(name, batch)
    progress(len(found), len(found))
    return written


def _write_duckdb(parquet: Path, path: Path) -> None:
    """One DuckDB file of the Parquet files. Without key constraints: their indexes would not fit in memory for a large
    run, and the keys hold by construction."""
    with duckdb.connect(str(path)) as connection:
        for statement in duckdb_ddl(keys=False):
            connection.execute(statement)
        for name in platform_tables():
            # through Arrow, since DuckDB would read a folder's [ or * as a pattern
            file = pq.ParquetFile(parquet / f"{name}.parquet")
            connection.from_arrow(pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches())
                                  ).insert_into(name)


def _document(run: Run | None, found: list[LogPart], written: dict[str, int]) -> dict[str, Any]:
    """What was exported of what: enough to tell a part from the whole."""
    if run is None:
        return {"rows": written}
    return {
        "run_id": run_id(run), "scenario": run.summary["scenario"], "baseline": run.summary["baseline"],
        "policies": list(dict.fromkeys(part.policy for part in found)),
        "replications": {"of_the_run": run.summary["replications"],
                         "exported": len({(part.world, part.luck) for part in found})},
        "rows": written,
    }
