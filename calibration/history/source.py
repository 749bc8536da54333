"""Where history is read from: a folder of files (one a view) or one file, read by the embedded DuckDB, or Snowflake.

A ``Source`` runs the text of a profile's queries, written in Snowflake's dialect, and returns Arrow. The embedded one
compiles the text; Snowflake gets it verbatim.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from routesim.calibration.history.dialect import compile_query
from routesim.calibration.history.profile import Column, LoadedProfile, ViewSpec
from routesim.calibration.history.snowflake import Snowflake
from routesim.calibration.history.snowflake_login import SCHEME
from routesim.policies.spelling import nearest
from routesim.sim.errors import BadInput

_PARQUET = (".parquet", ".pq")
_CSV = (".csv", ".csv.gz", ".tsv")
_DUCKDB_TYPES = {"FLOAT": "DOUBLE", "INTEGER": "BIGINT", "VARIANT": "JSON"}


class Source(Protocol):
    """A place that holds the profile's views.

    ``rows_read`` counts the rows of each view, ``unreadable`` the cells that were not of the column's type and are
    read as NULL, ``warnings`` what is lacking.
    """

    name: str
    rows_read: dict[str, int]
    unreadable: dict[str, int]
    warnings: list[str]

    def query(self, text: str, where: str) -> pa.Table:
        """The rows of a query in Snowflake's dialect over the profile's views. ``where`` names it in errors."""
        ...

    def close(self) -> None:
        """Let go of what the source holds; it may be called again."""
        ...


@dataclass
class Files:
    """A folder of Parquet or CSV files, one a view, or a single file.

    Every view of the profile becomes a DuckDB view that has exactly the profile's columns, of its types: synonyms are
    resolved, a column that the source lacks is NULL (with a warning), one that the profile does not name is ignored.
    CSV is read as text first, so codes keep their zeros. Raises BadInput for what cannot be read.
    """

    path: Path
    profile: LoadedProfile
    rows_read: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = str(self.path)
        self._files: dict[str, list[Path]] = {}
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET preserve_insertion_order = false")
        self._connection.execute("CREATE SCHEMA source")
        self._find_views()
        for view, spec in self.profile.spec.views.items():
            self._open(view, spec)
        for name, text in self.profile.queries.derived.items():
            where = f"{self.profile.file}, queries.derived.{name}"
            self._run(f"CREATE TABLE {_quoted(name)} AS {compile_query(text, where)}", where)

    def query(self, text: str, where: str) -> pa.Table:
        """The rows of a query in Snowflake's dialect over the profile's views."""
        return self._run(compile_query(text, where), where)

    def close(self) -> None:
        """Let go of the files."""
        self._connection.close()

    def _find_views(self) -> None:
        views = self.profile.spec.views
        if not self.path.exists():
            raise BadInput("no such file or folder", self.name)
        if self.path.is_file():
            _suffix(self.path)
            match = [view for view, spec in views.items() if _stem(self.path) in _names(view, spec)]
            match = match or [view for view, spec in views.items() if "*" in spec.files]
            if not match:
                name = self.profile.spec.profile
                raise BadInput(f"the profile {name} reads a folder with a file for each of its views", self.name)
            self._files[match[0]] = [self.path]
        else:
            self._find_in_folder()
        for view, spec in views.items():
            if view not in self._files and spec.needed:
                raise BadInput(
                    f"the {'folder' if self.path.is_dir() else 'file'} lacks the view {view}, which the profile "
                    f"{self.profile.spec.profile} needs ({view.lower()}.parquet or .csv)", self.name
                )

    def _find_in_folder(self) -> None:
        found: dict[str, list[Path]] = {}
        for path in sorted(self.path.iterdir()):
            parts = [path] if path.is_file() else sorted(path.rglob("*"))
            usable = [part for part in parts if part.name.lower().endswith((*_PARQUET, *_CSV)) and part.is_file()]
            if usable:
                found.setdefault(_stem(path), []).extend(usable)
        if not found:
            raise BadInput("the folder holds no Parquet or CSV file", self.name)
        for view, spec in self.profile.spec.views.items():
            names = _names(view, spec)
            files = [file for stem in found if stem in names for file in found[stem]]
            if not files and "*" in spec.files:
                files = [file for group in found.values() for file in group]
            if files:
                self._files[view] = files

    def _open(self, view: str, spec: ViewSpec) -> None:
        files = self._files.get(view)
        if files is None:
            self.warnings.append(f"the view {view} is absent: its columns are null")
            columns = [f"CAST(NULL AS {_duckdb_type(c)}) AS {_quoted(n)}" for n, c in spec.columns.items()]
            self._connection.execute(f"CREATE VIEW {_quoted(view)} AS SELECT {', '.join(columns)} WHERE FALSE")
            self.rows_read[view] = 0
            return
        scan = _scan(files)
        described = self._run(f"DESCRIBE SELECT * FROM {scan}", str(files[0]), files).to_pylist()
        present = {row["column_name"].strip().upper(): (row["column_name"], row["column_type"]) for row in described}
        named = dict.fromkeys(n.upper() for name, column in spec.columns.items() for n in (name, *column.also))
        chosen = ", ".join(_quoted(present[name][0]) for name in named if name in present) or "*"
        # A CSV becomes a table: in a view, DuckDB moves casts into its reader, where they fail in place of giving NULL.
        kind_of_relation = "TABLE" if _suffix(files[0]) == "csv" else "VIEW"
        self._run(
            f"CREATE {kind_of_relation} source.{_quoted(view)} AS SELECT {chosen} FROM {scan}", str(files[0]), files
        )
        projected, doubtful = [], {}
        for name, column in spec.columns.items():
            known = next((n for n in (name, *column.also) if n.upper() in present), None)
            if known is None:
                if column.needed:
                    hint = nearest(name, [original for original, _ in present.values()])
                    raise BadInput(f"the view {view} lacks the column {name}, which is needed{hint}", str(files[0]))
                self.warnings.append(f"{view} lacks the column {name}: it is null")
                projected.append(f"CAST(NULL AS {_duckdb_type(column)}) AS {_quoted(name)}")
                continue
            original, kind = present[known.upper()]
            expression = _cast(_quoted(original), kind, column, self.profile.spec.timezone)
            projected.append(f"{expression} AS {_quoted(name)}")
            if column.type != "VARCHAR" and kind != _duckdb_type(column) and not kind.startswith('"NULL'):
                doubtful[name] = f"COUNT_IF({_quoted(original)} IS NOT NULL AND {expression} IS NULL)"
        self._connection.execute(
            f"CREATE VIEW {_quoted(view)} AS SELECT {', '.join(projected)} FROM source.{_quoted(view)}"
        )
        counts = ["COUNT(*) AS rows_read", *(f"{count} AS {_quoted(name)}" for name, count in doubtful.items())]
        rows = self._run(f"SELECT {', '.join(counts)} FROM source.{_quoted(view)}", str(files[0]), files)
        counted = rows.to_pylist()[0]
        self.rows_read[view] = counted.pop("rows_read")
        for name, unreadable in counted.items():
            if unreadable:
                self.unreadable[f"{view}.{name}"] = unreadable

    def _run(self, sql: str, where: str, files: list[Path] | None = None) -> pa.Table:
        try:
            rows = self._connection.sql(sql)
            return pa.table({}) if rows is None else rows.to_arrow_table()
        except duckdb.Error as error:
            for file in files or [file for group in self._files.values() for file in group]:
                problem = _damage(file)
                if problem:
                    raise BadInput(problem, str(file)) from None
            raise BadInput(f"cannot be run: {_one_line(error)}", where) from None


def open_source(source: str | Path, profile: LoadedProfile) -> Source:
    """The source that the text names: a folder, a file, or a connection to Snowflake. Raises BadInput where it is none.
    """
    text = str(source)
    if text.startswith(SCHEME):
        return Snowflake(text, profile)
    if "://" in text:
        kind = text.split("://", 1)[0]
        raise BadInput(f"a source is a folder, a file or {SCHEME}CONNECTION, not {kind}://", f"{kind}://...")
    return Files(Path(source), profile)


def _scan(files: list[Path]) -> str:
    suffixes = {_suffix(file) for file in files}
    if len(suffixes) > 1:
        raise BadInput("the files of one view are of one kind, Parquet or CSV", str(files[0].parent))
    listed = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    if suffixes == {"parquet"}:
        return f"read_parquet([{listed}], union_by_name = true)"
    return f"read_csv([{listed}], header = true, all_varchar = true, union_by_name = true)"


def _suffix(file: Path) -> str:
    name = file.name.lower()
    if name.endswith(_PARQUET):
        return "parquet"
    if name.endswith(_CSV):
        return "csv"
    raise BadInput("neither a Parquet nor a CSV file (by its suffix)", str(file))


def _stem(path: Path) -> str:
    name = path.name.upper()
    for suffix in (*_PARQUET, *_CSV):
        name = name.removesuffix(suffix.upper())
    return name


def _names(view: str, spec: ViewSpec) -> set[str]:
    return {name.upper() for name in (view, *spec.files)}


def _duckdb_type(column: Column) -> str:
    return _DUCKDB_TYPES.get(column.type, column.type)


def _cast(name: str, kind: str, column: Column, zone: str) -> str:
    """The column as the profile's type; what is not of it becomes NULL. Zoned times come to the profile's zone."""
    if column.type in ("TIMESTAMP", "DATE", "TIME"):
        if kind == "TIMESTAMP WITH TIME ZONE":
            name = f"({name} AT TIME ZONE '{zone}')"
        elif kind == "VARCHAR" and column.type == "TIMESTAMP":
            zoned = f"regexp_matches({name}, '(Z|[+-][0-9]{{2}}:?([0-9]{{2}})?)$') AND {name} LIKE '%:%'"
            name = (
                f"(CASE WHEN {zoned} THEN TRY_CAST({name} AS TIMESTAMPTZ) AT TIME ZONE '{zone}' "
                f"ELSE TRY_CAST({name} AS TIMESTAMP) END)"
            )
        elif kind == "TIMESTAMP" and column.type == "TIME":
            name = f"CAST({name} AS TIME)"
    if column.type in ("FLOAT", "INTEGER", "BOOLEAN") and kind == "VARCHAR":
        name = f"TRIM({name})"
    if column.type == "VARCHAR" and kind in ("FLOAT", "DOUBLE"):  # so is a code of digits: 51.0
        return f"IF({name} = TRUNC({name}), CAST(TRY_CAST({name} AS BIGINT) AS VARCHAR), CAST({name} AS VARCHAR))"
    if column.type == "INTEGER" and kind in ("VARCHAR", "FLOAT", "DOUBLE"):
        name = f"TRY_CAST({name} AS DOUBLE)"  # pandas writes a whole number with gaps as 3.0
    return f"TRY_CAST({name} AS {_duckdb_type(column)})"


def _damage(file: Path) -> str | None:
    """What is wrong with a file that DuckDB could not read, or None."""
    try:
        if _suffix(file) == "parquet":
            reader = pq.ParquetFile(file)
            for _ in reader.iter_batches():
                pass
        else:
            duckdb.connect().execute(f"SELECT COUNT(*) FROM {_scan([file])}").fetchall()
    except (pa.ArrowException, OSError, duckdb.Error) as error:
        kind = "Parquet" if _suffix(file) == "parquet" else "CSV"
        return f"not a readable {kind} file, perhaps cut short: {_one_line(error)}"
    return None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip()[:160]
