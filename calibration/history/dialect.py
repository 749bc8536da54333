"""Queries written once, in Snowflake's dialect, compiled to DuckDB behind a check.

Snowflake gets a query's text verbatim. The embedded reader compiles it with sqlglot, which translates most of the
dialect faithfully and some of it silently wrong. What is known (measured) not to carry over is mended here or
refused with what to write in its place; a query that passes means the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError, UnsupportedError

from routesim.sim.errors import BadInput

_Type = exp.DataType.Type
_TEXT = (_Type.TEXT, _Type.VARCHAR, _Type.CHAR, _Type.NVARCHAR, _Type.NCHAR)
_FLOATS = (_Type.DOUBLE, _Type.FLOAT)
_INTEGERS = (_Type.INT, _Type.BIGINT, _Type.SMALLINT, _Type.TINYINT, _Type.DECIMAL)
_ZONED = (_Type.TIMESTAMPTZ, _Type.TIMESTAMPLTZ)
_TIMES = (_Type.TIMESTAMP, _Type.TIMESTAMPNTZ, *_ZONED)

_NOT_REPRODUCIBLE = "is not reproducible"
_NEVER: dict[type, str] = {
    exp.Bracket: "x[...] is off by one in DuckDB, and keeps JSON's quotes; write GET_PATH(x, '[0].name')::TYPE",
    exp.GetExtract: "GET(...) keeps JSON's quotes; write x:name::TYPE or GET_PATH(x, '[0].name')::TYPE",
    exp.ArgMax: "MAX_BY skips NULLs in DuckDB and not in Snowflake; write QUALIFY ROW_NUMBER() OVER (...) = 1",
    exp.ArgMin: "MIN_BY skips NULLs in DuckDB and not in Snowflake; write QUALIFY ROW_NUMBER() OVER (...) = 1",
    exp.Lateral: "LATERAL does not carry over; give the rows by a join",
    exp.Unnest: "FLATTEN does not carry over; read the elements with GET_PATH(x, '[0].name')::TYPE",
    exp.Explode: "FLATTEN does not carry over; read the elements with GET_PATH(x, '[0].name')::TYPE",
    exp.Parameter: "positional columns ($1) do not carry over; name the column",
    exp.TableSample: f"SAMPLE {_NOT_REPRODUCIBLE}; leave it out",
    exp.CurrentTimestamp: f"the present time {_NOT_REPRODUCIBLE}; give the time as a literal",
    exp.CurrentDate: f"the present date {_NOT_REPRODUCIBLE}; give the date as a literal",
    exp.Rand: f"RANDOM {_NOT_REPRODUCIBLE}; order by a key",
    exp.Uuid: f"UUID_STRING {_NOT_REPRODUCIBLE}; make a key of the row's own columns",
    exp.Seq8: f"SEQ8 {_NOT_REPRODUCIBLE}; write ROW_NUMBER() OVER (ORDER BY ...)",
    exp.AnyValue: f"ANY_VALUE {_NOT_REPRODUCIBLE}; write MIN or MAX",
    exp.ApproxDistinct: "approximate counts differ between engines; write COUNT(DISTINCT ...)",
    exp.Median: "MEDIAN of whole numbers is rounded in Snowflake; write PERCENTILE_CONT over ::FLOAT",
}


@lru_cache(maxsize=64)
def compile_query(text: str, where: str) -> str:
    """A query in Snowflake's dialect, as DuckDB's.

    ``where`` names the query (for errors). Raises BadInput when the text is no single SELECT or holds something that
    does not mean the same in DuckDB, with what to write in its place.
    """
    tree = _parse(text, where)
    for problem in _problems(tree):
        raise BadInput(problem, where)
    carried = tree.transform(_json_as_text)
    try:
        return str(carried.sql("duckdb", unsupported_level=ErrorLevel.RAISE))
    except UnsupportedError as error:
        raise BadInput(f"does not carry over from Snowflake to DuckDB: {_one_line(error)}", where) from None


def _parse(text: str, where: str) -> exp.Query:
    try:
        trees = [tree for tree in sqlglot.parse(text, read="snowflake") if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        line = f", line {first['line']}" if first.get("line") else ""
        near = f" near {first['highlight']!r}" if first.get("highlight") else ""
        raise BadInput(f"not a query in Snowflake's dialect{near}", f"{where}{line}") from None
    except SqlglotError as error:
        raise BadInput(f"not a query in Snowflake's dialect: {_one_line(error)}", where) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise BadInput("a query is a single SELECT (or WITH ... SELECT)", where)
    return trees[0]


def _problems(tree: exp.Query) -> Iterator[str]:
    for node in tree.walk():
        if type(node) in _NEVER:
            yield f"{node.sql('snowflake')[:60]}: {_NEVER[type(node)]}"
        for kind, check in _CHECKS:
            if isinstance(node, kind):
                problem = check(node)
                if problem:
                    yield f"{node.sql('snowflake')[:60]}: {problem}"


def _unknown_function(node: exp.Expression) -> str:
    return f"no such function is known to carry over ({node.name})"


def _json_without_type(node: exp.Expression) -> str | None:
    parent = node.parent
    if isinstance(parent, exp.Cast | exp.JSONExtract) or (isinstance(parent, exp.Is) and parent.this is node):
        return None
    return "without a type it keeps JSON's quotes in DuckDB; write x:name::STRING (or another type)"


def _format_dropped(node: exp.Expression) -> str | None:
    if node.args.get("format"):
        return "DuckDB drops the format; write DATE_TRUNC or EXTRACT"
    if isinstance(node.this, exp.JSONExtract):
        return "it keeps JSON's quotes in DuckDB; write x:name::STRING"
    return None


def _whole_division(node: exp.Expression) -> str | None:
    if any(_is_float(side) for side in (node.args["this"], node.args["expression"])):
        return None
    return "Snowflake rounds a quotient of whole numbers to six digits; write x::FLOAT / y"


def _whole_average(node: exp.Expression) -> str | None:
    return None if _is_float(node.this) else "Snowflake rounds an average of whole numbers; write AVG(x::FLOAT)"


def _fraction_of_unit(node: exp.Expression) -> str | None:
    amount = node.args["expression"]
    while isinstance(amount, exp.Neg | exp.Paren):
        amount = amount.this
    if isinstance(amount, exp.Cast) and amount.to.this in _INTEGERS:
        return None
    if isinstance(amount, exp.Literal) and not amount.is_string and str(amount.this).isdigit():
        return None
    return "Snowflake rounds the amount to a whole number and DuckDB does not; write DATEADD(unit, ROUND(x)::INT, t)"


def _session_zone(node: exp.Expression) -> str | None:
    if not node.args.get("source_tz"):
        return "it depends on the session's time zone; name both zones: CONVERT_TIMEZONE('from', 'to', t)"
    return None


def _epoch(node: exp.Expression) -> str | None:
    if node.name.lower() in {"epoch", "epoch_second", "epoch_seconds"}:
        return "DuckDB rounds it and Snowflake truncates; write DATE_PART('epoch_microsecond', t)"
    return None


def _unordered(node: exp.Expression) -> str | None:
    if isinstance(node.parent, exp.WithinGroup) or node.find(exp.Order):
        return None
    return f"{_NOT_REPRODUCIBLE} without an order; write {node.sql('snowflake')[:40]} WITHIN GROUP (ORDER BY ...)"


def _cast(node: exp.Expression) -> str | None:
    to, inner = node.args["to"].this, node.this
    if to in _ZONED:
        return "it depends on the session's time zone; times are TIMESTAMP_NTZ, and the profile names their zone"
    if to in _TEXT and isinstance(inner, exp.Cast):
        if inner.to.this in _FLOATS:
            return "a FLOAT's text differs ('7' in Snowflake, '7.0' in DuckDB); cast to NUMBER(38, s) first"
        if inner.to.this in _TIMES:
            return "a time's text differs (Snowflake keeps three digits of the second); compare times as times"
    return None


_CHECKS: list[tuple[type[exp.Expression], Callable[[exp.Expression], str | None]]] = [
    (exp.Anonymous, _unknown_function),
    (exp.JSONExtract, _json_without_type),
    (exp.ToChar, _format_dropped),
    (exp.Div, _whole_division),
    (exp.Avg, _whole_average),
    (exp.DateAdd, _fraction_of_unit),
    (exp.ConvertTimezone, _session_zone),
    (exp.Extract, _epoch),
    (exp.GroupConcat, _unordered),
    (exp.ArrayAgg, _unordered),
    (exp.Cast, _cast),
]


def _is_float(node: exp.Expression) -> bool:
    while isinstance(node, exp.Paren | exp.Neg):
        node = node.this
    if isinstance(node, exp.Cast):
        return node.to.this in _FLOATS
    if isinstance(node, exp.Mul | exp.Add | exp.Sub | exp.Div):
        return _is_float(node.this) or _is_float(node.expression)
    if isinstance(node, exp.Sum | exp.Min | exp.Max | exp.Avg | exp.Coalesce | exp.Nullif | exp.Abs):
        return _is_float(node.this)
    return False


def _json_as_text(node: exp.Expression) -> exp.Expression:
    """``x:name::TYPE``: take the value as text (``->>``) and cast that, else a string keeps its quotes."""
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.JSONExtract):
        path = node.this
        text = exp.JSONExtractScalar(this=path.this, expression=path.args["expression"])
        return exp.Paren(this=text) if node.to.this in _TEXT else type(node)(this=text, to=node.to)
    return node


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
