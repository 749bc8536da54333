"""The platform's tables as data (tables.yaml), and from it Arrow schemas, the DDL and the documentation's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyarrow as pa
from ruamel.yaml import YAML

HERE = Path(__file__).parent
_ARROW = {
    "INTEGER": pa.int32(), "BIGINT": pa.int64(), "FLOAT": pa.float64(), "BOOLEAN": pa.bool_(),
    "TIMESTAMP_NTZ(6)": pa.timestamp("us"),
}


@dataclass(frozen=True)
class PlatformColumn:
    """A column: ``type`` in Snowflake's words, ``unknown`` why a simulation leaves it NULL, where it does."""

    name: str
    type: str
    role: str
    doc: str
    nullable: bool
    unknown: str | None = None

    @property
    def comment(self) -> str:
        """What it holds, in one sentence."""
        return self.doc if self.unknown is None else f"{self.doc}. NULL in simulated rows: {self.unknown}"

    @property
    def arrow(self) -> pa.Field:
        """Text of any length is Arrow's string; its metadata tells ``doc`` and ``role``."""
        kind = pa.string() if self.type.startswith("VARCHAR") else _ARROW[self.type]
        return pa.field(self.name, kind, self.nullable, {"doc": self.comment, "role": self.role})


@dataclass(frozen=True)
class PlatformTable:
    """A table: its primary ``key``, what else is ``unique``, and which column ``references`` which table's key."""

    name: str
    doc: str
    status: str
    key: str
    columns: tuple[PlatformColumn, ...]
    unique: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of its rows."""
        return pa.schema([column.arrow for column in self.columns], {"doc": self.doc})


@cache
def platform_tables() -> dict[str, PlatformTable]:
    """The tables by name, each behind those that it references."""
    document = YAML(typ="safe", pure=True).load((HERE / "tables.yaml").read_text(encoding="utf-8"))
    known = document["columns"]

    def column(told: str) -> PlatformColumn:
        name = told.rstrip("?")
        return PlatformColumn(name, **known[name], nullable=told.endswith("?"))

    return {
        name: PlatformTable(
            name, table["doc"], table["status"], table["key"], tuple(map(column, table["columns"])),
            tuple(table.get("unique", ())), table.get("references", {}))
        for name, table in document["tables"].items()
    }


def ddl(keys: bool = True) -> str:
    """The CREATE TABLE statements in Snowflake's dialect, with comments; with ``keys`` the constraints too.

    Snowflake takes key constraints as a note to readers and planners and enforces NOT NULL alone (its documentation,
    "Overview of Constraints").
    """
    head = "-- The serving platform's tables as routesim fills them; simulated rows say so in IS_SIMULATED.\n\n"
    return head + "\n".join(statement for table in platform_tables().values() for statement in _ddl(table, keys)) + "\n"


def _ddl(table: PlatformTable, keys: bool) -> Iterator[str]:
    lines = [f"{column.name} {column.type}{'' if column.nullable else ' NOT NULL'}" for column in table.columns]
    if keys:
        lines.append(f"PRIMARY KEY ({table.key})")
        lines += [f"UNIQUE ({name})" for name in table.unique]
        lines += [f"FOREIGN KEY ({name}) REFERENCES {other} ({platform_tables()[other].key})"
                  for name, other in table.references.items()]
    body = ",\n    ".join(lines)
    yield f"CREATE TABLE IF NOT EXISTS {table.name} (\n    {body}\n);"
    yield f"COMMENT ON TABLE {table.name} IS {_quoted(f'{table.doc} Status: {table.status}.')};"
    for column in table.columns:
        yield f"COMMENT ON COLUMN {table.name}.{column.name} IS {_quoted(column.comment)};"
    yield ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def duckdb_ddl(keys: bool = True) -> list[str]:
    """The same statements in DuckDB's dialect. Raises sqlglot's UnsupportedError where one does not carry over."""
    import sqlglot  # takes half a second to import
    from sqlglot.errors import ErrorLevel

    return sqlglot.transpile(ddl(keys), read="snowflake", write="duckdb", unsupported_level=ErrorLevel.RAISE)
