"""The rows of a run's attempt log for the platform's tables, one replication of one policy at a time.

Ids are SHA-256 over what names the row (run, policy, world, luck, payment, attempt): the same run gives the same ids,
two exports of it join, and rows of different runs never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from routesim.policies.spelling import nearest
from routesim.reports.athia.tables import HERE, platform_tables
from routesim.reports.metrics.measure import DELIBERATE_DELAY_US
from routesim.reports.run.folder import LogPart, Run
from routesim.sim.errors import BadInput
from routesim.sim.files import read_table
from routesim.sim.log import ATTEMPTS, PAYMENTS

FROM_LOG = ("ATHIA_SESSION_SUMMARY", "ATHIA_PREDICTIONS", "ATHIA_FEEDBACK", "ATHIA_TRAINING_DATASET",
            "ATHIA_STAGE_OUTCOMES")
"""The tables that come of the attempt log, one query each."""
_BATCH_ROWS = 65_536
_PART = pa.schema([
    ("run_id", pa.string()), ("policy", pa.string()), ("world", pa.int32()), ("luck", pa.int32()),
    ("timezone", pa.string()), ("deliberate_delay_us", pa.int64()),
])


def simulated_id(*words: str | int) -> str:
    """An id of 32 characters: sim_ and the first 28 hexadecimal digits (112 bits) of the words' SHA-256.

    The words are joined by the character 31, as CONCAT_WS(CHR(31), ...) does. 32 is the width of the owner's
    PAYMENT_ATTEMPT_ID.
    """
    return "sim_" + hashlib.sha256("\x1f".join(map(str, words)).encode()).hexdigest()[:28]


def run_id(run: Run) -> str:
    """The run's id: of its manifest, which tells everything that went in. Raises BadInput where it is missing."""
    if not run.manifest:
        raise BadInput("the file is missing, and ids are made of it; run the scenario again",
                       str(run.folder.manifest))
    return simulated_id(json.dumps(run.manifest, sort_keys=True))


def chosen_policies(run: Run, wanted: list[str]) -> list[str]:
    """The policies to export, in the scenario's order; all where none is named. Raises BadInput for an unknown one."""
    for name in wanted:
        if name not in run.policies:
            raise BadInput(f"the run has no policy {name!r}{nearest(name, run.policies)}", "--policy")
    return [name for name in run.policies if not wanted or name in wanted]


def parts(run: Run, policies: list[str]) -> list[LogPart]:
    """The logs that the run kept of these policies. Raises BadInput where there is none."""
    found = [part for policy in policies for part in run.folder.log_parts(policy)]
    if not found:
        raise BadInput("the run kept no attempt log (log: none); run the scenario with --set log=sample or log=all",
                       str(run.path))
    return found


def timezone(run: Run) -> str:
    """The scenario's time zone. Raises BadInput where the run's scenario cannot be read."""
    try:
        return str(YAML(typ="safe", pure=True).load(run.scenario_text)["timezone"])
    except (YAMLError, KeyError, TypeError):
        raise BadInput("tells no timezone; run the scenario again", str(run.folder.scenario)) from None


class Rows:
    """Makes the rows of one part after the other. Memory holds one part, as the simulation did."""

    def __init__(self, run: Run, scratch: Path) -> None:
        """``scratch``: a folder for what does not fit in memory. Raises BadInput as ``run_id`` and ``timezone`` do."""
        self._run_id, self._timezone = run_id(run), timezone(run)
        # One thread: sums of USD are then taken in one order, so that the same run gives the same bytes everywhere.
        self._connection = duckdb.connect(config={"threads": 1, "temp_directory": str(scratch)})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._queries = {name: (HERE / f"{name.lower()}.sql").read_text(encoding="utf-8") for name in FROM_LOG}
        self._prepare = [(HERE / f"{name}.sql").read_text(encoding="utf-8") for name in ("payment", "attempt")]

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def of(self, part: LogPart) -> Iterator[tuple[str, pa.RecordBatch]]:
        """(table's name, rows in its schema), table after table. Raises BadInput for a log that cannot be used."""
        connection = self._connection
        known = [self._run_id, part.policy, part.world, part.luck, self._timezone, DELIBERATE_DELAY_US]
        connection.register("part", pa.table([pa.array([value]) for value in known], schema=_PART))
        connection.register("payments", read_columns(part.payments, PAYMENTS.names, "scenario"))
        connection.register("attempts", read_columns(part.attempts, ATTEMPTS.names, "scenario"))
        try:
            for query in self._prepare:
                connection.execute(query)
            for name in FROM_LOG:
                for batch in self._rows(name):
                    yield name, batch
        except (duckdb.Error, pa.ArrowException, ValueError) as error:  # as a null where the log must have none
            raise BadInput(f"cannot be exported: {str(error).splitlines()[0]}", str(part.attempts)) from None

    def _rows(self, name: str) -> Iterator[pa.RecordBatch]:
        table = platform_tables()[name]
        # Kept for the tables that build on it; columns are matched by name, whatever their order in the query.
        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {self._queries[name]}")
        columns = ", ".join(f'{column.name} AS "{column.name}"' for column in table.columns)
        for batch in self._connection.sql(f"SELECT {columns} FROM {name}").to_arrow_reader(_BATCH_ROWS):
            yield from pa.Table.from_batches([batch]).cast(table.schema).to_batches()


def read_columns(path: Path, names: list[str], again: str) -> pa.Table:
    """These columns of a Parquet file. Raises BadInput where one is missing; ``again`` is what to run anew."""
    if not path.is_file():
        raise BadInput(f"the file is missing; run the {again} again", str(path))
    table = read_table(path)
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        raise BadInput(f"the column {lacking[0]!r} is missing; run the {again} again", str(path))
    return table.select(names)
