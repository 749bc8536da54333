"""History straight from Snowflake: ``snowflake://CONNECTION``, the profile's queries verbatim, Arrow back.

Nothing is made in the database, so a role that may only read will do. What a folder of files gets as DuckDB views comes
here as common table expressions before the query, whose text follows byte for byte::

    WITH VW_ATHENA_PAYMENT AS (SELECT ... FROM PAYMENT_ML.SOURCES.VW_ATHENA_PAYMENT), ...,
    ATTEMPT_ONCE AS (
    (the text of attempt_once.sql)
    ), ...
    SELECT * FROM (
    (the text of payments.sql)
    )

Each view's expression gives exactly the profile's columns, of its types: synonyms are resolved, and what the view lacks
is NULL. Queries run one after the other on living views: a history that ends a little before now is whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa

from routesim.calibration.history.profile import Column, LoadedProfile, ViewSpec
from routesim.calibration.history.snowflake_login import SCHEME, connection_name, log_in, one_line, speaking
from routesim.policies.spelling import nearest
from routesim.sim.errors import BadInput

_TYPES = {"INTEGER": "NUMBER(38, 0)", "TIMESTAMP": "TIMESTAMP_NTZ"}
_AS_IT_IS = {
    "VARCHAR": {"TEXT"}, "INTEGER": {"FIXED"}, "FLOAT": {"REAL", "FIXED"}, "BOOLEAN": {"BOOLEAN"}, "DATE": {"DATE"},
    "TIME": {"TIME"}, "TIMESTAMP": {"TIMESTAMP_NTZ"}, "VARIANT": {"VARIANT", "OBJECT", "ARRAY"},
}  # fmt: skip
_OF_TEXT = {
    "INTEGER": "TRY_TO_NUMBER(TRIM({0}))", "FLOAT": "TRY_TO_DOUBLE(TRIM({0}))", "BOOLEAN": "TRY_TO_BOOLEAN(TRIM({0}))",
    "DATE": "TRY_TO_DATE({0})", "TIME": "TRY_TO_TIME({0})", "VARIANT": "TRY_PARSE_JSON({0})",
    # the session's time zone is the profile's, so a text without a zone is read in it
    "TIMESTAMP": "CONVERT_TIMEZONE('{1}', TRY_TO_TIMESTAMP_TZ({0}))::TIMESTAMP_NTZ",
}  # fmt: skip
_ABSENT = (2003, 2043)  # Snowflake's errors for what does not exist, or is hidden from the role


@dataclass
class Snowflake:
    """The profile's views in a Snowflake schema, read through one connection of the user's connections.toml.

    A view or column that is not needed may be absent, with a warning. Raises BadInput, in one line, where logging in
    fails, what is needed is absent (or hidden from the role, which Snowflake does not tell apart), or a query fails.
    """

    address: str
    profile: LoadedProfile
    rows_read: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = SCHEME + connection_name(self.address)
        self._login = log_in(self.address, self.profile.spec.timezone)
        self.warnings.extend(self._login.warnings)
        self._schema = f"{_identifier(self._login.database)}.{_identifier(self._login.schema)}"
        self._doubtful: dict[tuple[str, str], str] = {}
        try:
            self._expressions = {
                view: self._expression(view, spec) for view, spec in self.profile.spec.views.items()
            }
            self._count()
        except BaseException:
            self.close()
            raise

    def query(self, text: str, where: str) -> pa.Table:
        """The rows of a query in Snowflake's dialect over the profile's views."""
        return self._fetch(self.statement(text), where)

    def statement(self, text: str) -> str:
        """What is sent for a query: its text, byte for byte, behind the expressions that it may name."""
        expressions = {**self._expressions, **self.profile.queries.derived}
        before = ",\n".join(f"{_quoted(name)} AS (\n{body}\n)" for name, body in expressions.items())
        return f"WITH {before}\nSELECT * FROM (\n{text}\n)"

    def close(self) -> None:
        """Log out."""
        if not self._login.connection.is_closed():
            self._login.connection.close()

    def _expression(self, view: str, spec: ViewSpec) -> str:
        """The view as the profile has it."""
        present = self._describe(view)
        if present is None:
            if spec.needed:
                raise BadInput(
                    f"the schema {self._schema} lacks the view {view}, which the profile {self.profile.spec.profile} "
                    f"needs, or {self._login.role} may not read it", self.name
                )
            self.warnings.append(f"the view {view} is absent, or hidden from the role: its columns are null")
            self.rows_read[view] = 0
            nulls = ", ".join(f"{_null(column)} AS {_quoted(name)}" for name, column in spec.columns.items())
            return f"SELECT {nulls} FROM (SELECT 1 AS ONE) AS NOTHING WHERE 1 = 0"
        projected = []
        for name, column in spec.columns.items():
            known = next((n.upper() for n in (name, *column.also) if n.upper() in present), None)
            if known is None:
                if column.needed:
                    hint = nearest(name, [original for original, _ in present.values()])
                    raise BadInput(f"the view {view} lacks the column {name}, which is needed{hint}", self.name)
                self.warnings.append(f"{view} lacks the column {name}: it is null")
                projected.append(f"{_null(column)} AS {_quoted(name)}")
                continue
            original, kind = present[known]
            source = '"' + original.replace('"', '""') + '"'
            expression = _cast(source, kind, column, self.profile.spec.timezone)
            projected.append(f"{expression} AS {_quoted(name)}")
            if kind == "TEXT" and column.type != "VARCHAR":
                self._doubtful[view, name] = f"COUNT_IF({source} IS NOT NULL AND {expression} IS NULL)"
        return f"SELECT {', '.join(projected)} FROM {self._schema}.{_quoted(view)}"

    def _describe(self, view: str) -> dict[str, tuple[str, str]] | None:
        """The view's columns in upper case, as they are spelt and of which type; None where there is no such view."""
        from snowflake.connector.constants import FIELD_TYPES
        from snowflake.connector.errors import ProgrammingError

        with speaking(self._login, f"{self.name}, {self._schema}.{view}"), self._login.connection.cursor() as cursor:
            try:
                columns = cursor.describe(f"SELECT * FROM {self._schema}.{_quoted(view)}")
            except ProgrammingError as error:
                if error.errno not in _ABSENT:
                    raise
                said = one_line(str(error.raw_msg), self._login.secrets)
                wider = re.search(r"\b(Database|Schema) '", said)
                if wider:
                    raise BadInput(
                        f"the {wider[1].lower()} of {self._schema} does not exist, or {self._login.role} may not "
                        "use it; database and schema are the connection's own settings", self.name
                    ) from None
                return None
        return {column.name.upper(): (column.name, FIELD_TYPES[column.type_code].name) for column in columns}

    def _count(self) -> None:
        """The rows of each view, and the cells that are not of their column's type."""
        views = [view for view in self._expressions if view not in self.rows_read]
        counts = [(view, "", "COUNT(*)") for view in views]
        counts += [(view, name, count) for (view, name), count in self._doubtful.items()]
        parts = [
            f"SELECT '{view}' AS VIEW_NAME, '{name}' AS COLUMN_NAME, {count} AS N FROM {self._schema}.{_quoted(view)}"
            for view, name, count in counts
        ]
        for row in self._fetch("\nUNION ALL\n".join(parts), self.name).to_pylist():
            if not row["COLUMN_NAME"]:
                self.rows_read[row["VIEW_NAME"]] = int(row["N"])
            elif row["N"]:
                self.unreadable[f"{row['VIEW_NAME']}.{row['COLUMN_NAME']}"] = int(row["N"])

    def _fetch(self, sql: str, where: str) -> pa.Table:
        with speaking(self._login, where), self._login.connection.cursor() as cursor:
            cursor.execute(sql)
            batches = list(cursor.fetch_arrow_batches(force_microsecond_precision=True))
            if not batches:
                return cursor.fetch_arrow_all(force_return_table=True, force_microsecond_precision=True)
            # Snowflake gives each batch's whole numbers the narrowest type that holds them.
            return pa.concat_tables(batches, promote_options="permissive")


def _cast(name: str, kind: str, column: Column, zone: str) -> str:
    """The column as the profile's type; text that is not of it becomes NULL. Zoned times come to the profile's zone."""
    if kind in ("TIMESTAMP_TZ", "TIMESTAMP_LTZ") and column.type in ("TIMESTAMP", "DATE", "TIME"):
        name, kind = f"CONVERT_TIMEZONE('{zone}', {name})::TIMESTAMP_NTZ", "TIMESTAMP_NTZ"
    if kind in _AS_IT_IS[column.type]:
        return name
    if kind == "TEXT":
        return _OF_TEXT[column.type].format(name, zone)
    return f"CAST({name} AS {_TYPES.get(column.type, column.type)})"


def _null(column: Column) -> str:
    return f"CAST(NULL AS {_TYPES.get(column.type, column.type)})"


def _quoted(name: str) -> str:
    """A name as the profile's queries call it: without quotes, so in upper case."""
    return '"' + name.upper().replace('"', '""') + '"'


def _identifier(name: str) -> str:
    """A database or schema as the connection's settings spell it: quoted there if its case or characters matter."""
    if re.fullmatch(r'[A-Za-z_][\w$]*|"(?:[^"]|"")+"', name):
        return name
    return '"' + name.replace('"', '""') + '"'
