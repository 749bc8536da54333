"""A run of the small scenario that kept every log, and its export in a database that enforces every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from routesim.reports.athia.tables import duckdb_ddl, platform_tables
from routesim.scenarios.running.runner import run
from tests.small import Small


def logged_run(small: Small, folder: Path) -> Path:
    """A run in ``folder`` with the logs of 3 policies in 4 replications, without its page, which takes as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("routesim.reports.pages.run.render", lambda run_dir: None)
        return run(small.prepare(folder, "log=all"), folder / "run", workers=1)


def loaded(folder: Path) -> duckdb.DuckDBPyConnection:
    """The exported rows in tables that enforce every key of the DDL: an insert that breaks one fails."""
    connection = duckdb.connect()
    for statement in duckdb_ddl():
        connection.execute(statement)
    for name in platform_tables():
        connection.from_arrow(pq.read_table(folder / f"{name}.parquet")).insert_into(name)
    return connection


def one(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The first value of the first row."""
    return connection.execute(query).fetchall()[0][0]
