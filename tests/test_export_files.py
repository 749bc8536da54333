"""What an export writes beside its rows: DDL, DuckDB, documentation, an experiment's looks; and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from ruamel.yaml import YAML
from sqlglot import exp

from routesim.reports.athia.export import DDL_FILE, DUCKDB_FILE, EXPORT_JSON, export
from routesim.reports.athia.tables import PlatformTable, ddl, duckdb_ddl, platform_tables
from routesim.reports.experiment.folder import LOOKS
from routesim.reports.experiment.rules import RULES
from tests.conftest import Command
from tests.exports import loaded, logged_run, one
from tests.small import Small, contents

DOCS = Path(__file__).resolve().parents[1] / "docs" / "platform_tables.md"
PART = "policy=legacy/world=000/luck=000/part-0.parquet"


@pytest.fixture(scope="module")
def done(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logged_run(small, tmp_path_factory.mktemp("export"))


# --- the DDL, DuckDB and the documentation


def test_ddl_is_snowflakes_and_means_the_schemas() -> None:
    statements = [each for each in sqlglot.parse(ddl(), read="snowflake") if each is not None]
    made = [each for each in statements if isinstance(each, exp.Create)]
    assert not any(isinstance(each, exp.Command) for each in statements)  # what sqlglot does not understand
    tables = platform_tables()
    assert [each.this.this.name for each in made] == list(tables)
    comments = sum(isinstance(each, exp.Comment) for each in statements)
    assert comments == len(tables) + sum(len(table.columns) for table in tables.values())
    connection = duckdb.connect()
    for statement in duckdb_ddl():
        connection.execute(statement)
    for name, table in tables.items():
        arrow = connection.sql(f"SELECT * FROM {name}").to_arrow_table().schema
        assert [(field.name, field.type) for field in arrow] == [(f.name, f.type) for f in table.schema]
        keys = connection.execute("SELECT constraint_type FROM duckdb_constraints() WHERE table_name = ?",
                                  [name]).fetchall()
        assert [kind for (kind,) in keys].count("FOREIGN KEY") == len(table.references)
        told = one(connection, f"SELECT comment FROM duckdb_columns() WHERE table_name = '{name}' AND column_name = "
                               f"'{table.key}'")
        assert told == next(column.comment for column in table.columns if column.name == table.key)


def test_duckdb_holds_the_same_rows(done: Path, tmp_path: Path) -> None:
    exported = tmp_path / "out"
    export(done, exported, ["breaker"], "both")
    parquet = {f"{name}.parquet" for name in platform_tables()}
    assert contents(exported).keys() == {*parquet, DUCKDB_FILE, DDL_FILE, EXPORT_JSON}
    export(done, tmp_path / "alone", ["breaker"], "duckdb")
    assert contents(tmp_path / "alone").keys() == {DUCKDB_FILE, DDL_FILE, EXPORT_JSON}
    with duckdb.connect(str(exported / DUCKDB_FILE), read_only=True) as connection:
        for name in platform_tables():
            rows = pq.read_table(exported / f"{name}.parquet")
            stored = connection.sql(f"SELECT * FROM {name}").to_arrow_table()
            assert stored.cast(rows.schema).equals(rows)


def listed(table: PlatformTable) -> str:
    """The table's columns as the documentation has them."""
    rows = [(each.name, each.type, "yes" if each.nullable else "no", each.role, each.comment) for each in table.columns]
    head = [("column", "type", "may be NULL", "role", "meaning"), ("---",) * 5]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


def test_the_documentation_lists_every_column() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, table in platform_tables().items():
        assert f"## {name}\n" in text
        assert table.doc in text
        assert listed(table) in text


def test_names_and_types_are_the_owners_where_there_are_any(shared: Path) -> None:
    schema = YAML(typ="safe", pure=True).load((shared / "payment_ml" / "schema.yaml").read_text(encoding="utf-8"))
    assert set(schema["athia_tables"]) == set(platform_tables())
    theirs: dict[str, set[str]] = {}
    for view in schema["schemas"]["SOURCES"].values():
        for name, kind in view["columns"].items():
            theirs.setdefault(name, set()).add(kind.partition("(")[0])
    met = set()
    for table in platform_tables().values():
        for column in table.columns:
            if column.name in theirs:
                met.add(column.name)
                ours = column.type.partition("(")[0]
                assert {"INTEGER": "NUMBER"}.get(ours, ours) in theirs[column.name]
    assert {"PAYMENT_ID", "PAYMENT_ATTEMPT_ID", "COMMERCE_ID", "CARD_BIN", "PAYMENT_ATTEMPT_APPROVED_INDICATOR"} <= met


# --- an experiment


def experiment(folder: Path) -> Path:
    """Two looks of one replication, with 80 of 100 payments approved against 90 on each day; day 2 calls a winner."""
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"scenario": "ab", "variants": {"old": {}, "new": {}}}))
    plain = dict.fromkeys(LOOKS.names)
    rows = [plain | {"setting": "truth", "replication": 0, "world": 0, "luck": 0, "day": day, "variant": variant,
                     "n": 100 * day, "approvals": yes * day, "p95_ms": 1_500.0, "revenue_usd": 50.0 * yes * day,
                     "p_value": None if variant == "old" else 0.04, "sample_ratio_p": 1.0,
                     "verdict_auto_winner": "new" if day == 2 else None}
            for day in (1, 2) for variant, yes in (("old", 80), ("new", 90))]
    pq.write_table(pa.Table.from_pylist(rows, schema=LOOKS), folder / "looks.parquet")
    return folder


def test_looks_fill_the_lifts(done: Path, tmp_path: Path, command: Command) -> None:
    folder = experiment(tmp_path / "ab")
    assert command("export", done, "--out", tmp_path / "out", "--policy", "legacy", "--experiment", folder).code == 0
    rows = pq.read_table(tmp_path / "out" / "ATHIA_EXPERIMENT_LIFT.parquet").to_pylist()
    assert [(row["LOOK_DAY"], row["STOPPING_RULE"]) for row in rows] == [
        (day, rule) for day in (1, 2) for rule in RULES]
    assert [(row["LOOK_DAY"], row["STOPPING_RULE"], row["VERDICT"]) for row in rows if row["VERDICT"]] == [
        (2, "auto_winner", "new")]
    assert len({row["EXPERIMENT_LIFT_ID"] for row in rows}) == len(rows)
    for row in rows:
        assert (row["CONTROL_VARIANT"], row["TREATMENT_VARIANT"]) == ("old", "new")
        assert (row["LIFT_KIND"], row["SETTING"], row["P_VALUE"]) == ("simulated_experiment", "truth", 0.04)
        assert (row["CONTROL_REVENUE_USD"], row["TREATMENT_REVENUE_USD"]) == (40.0, 45.0)
        assert row["LIFT_PP"] == pytest.approx(10)
    z2 = 1.959963985**2 / 100
    # Wilson's ends of 80 and 90 of 100 are the roots of (p - x)² = z² x (1 - x) / 100; then √ of squared distances
    (low_c, high_c), (low_t, high_t) = (np.sort(np.roots([1 + z2, -2 * p - z2, p * p])) for p in (0.8, 0.9))
    assert rows[0]["LIFT_LOW_PP"] == pytest.approx(10 - 100 * math.hypot(0.9 - low_t, high_c - 0.8))
    assert rows[0]["LIFT_HIGH_PP"] == pytest.approx(10 + 100 * math.hypot(high_t - 0.9, 0.8 - low_c))
    assert command("export", folder, "--out", tmp_path / "alone").code == 0
    assert pq.read_table(tmp_path / "alone" / "ATHIA_EXPERIMENT_LIFT.parquet").to_pylist() == rows
    loaded(tmp_path / "alone")
    refused = command("export", folder, "--out", tmp_path / "never", "--policy", "old")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


# --- bad input


def test_bad_input_is_told_in_one_line(done: Path, tmp_path: Path, command: Command) -> None:
    def told(*words: str | Path, out: Path = tmp_path / "out") -> str:
        ended = command("export", *words, "--out", out)
        assert ended.code == 2
        assert ended.err.count("\n") == 1
        assert not out.is_dir() or not list(out.glob("ATHIA*"))
        return ended.err

    assert "no such folder" in told(tmp_path / "nowhere")
    assert "did you mean 'breaker'" in told(done, "--policy", "braker")
    assert "did you mean 'duckdb'" in told(done, "--format", "duckbd")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    assert "not empty" in told(done, out=full)
    assert "is a file" in told(done, out=full / "mine.txt")
    assert "holds no experiment.json" in told(done, "--experiment", full)
    bare = tmp_path / "bare"
    shutil.copytree(done, bare)
    shutil.rmtree(bare / "attempts")
    assert "log: none" in told(bare)
    shutil.copytree(done / "attempts", bare / "attempts")
    part = bare / "attempts" / PART
    part.write_bytes(part.read_bytes()[:1000])
    assert "cannot be read as Parquet" in told(bare)
    pq.write_table(pq.ParquetFile(done / "attempts" / PART).read().drop_columns(["outcome"]), part)
    assert "'outcome' is missing" in told(bare)
    (bare / "payments" / PART).unlink()
    assert "missing" in told(bare)
    (bare / "manifest.json").unlink()
    assert "manifest.json" in told(bare)
    assert sorted(path.name for path in full.iterdir()) == ["mine.txt"]
    assert not list(tmp_path.glob(".*part"))  # nothing half-written stays
