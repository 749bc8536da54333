"""Each known trap between Snowflake's dialect and DuckDB is mended, or refused with what to write in its place."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import duckdb
import pytest
import sqlglot

from routesim.calibration.history.dialect import compile_query
from routesim.sim.errors import BadInput

ROW = """CREATE TABLE t AS SELECT
    '{"a": "x", "n": "7", "yes": true, "nothing": null, "l": [{"p": 7}, {"p": 8}]}'::JSON AS v,
    TIMESTAMP '2026-01-02 03:04:05.5' AS ts, 7 AS i, 'A1 b' AS s"""


def value(expression: str) -> Any:
    """What the expression gives in DuckDB."""
    with duckdb.connect() as connection:
        connection.execute(ROW)
        return connection.sql(compile_query(f"SELECT {expression} AS x FROM t", "q.sql")).fetchall()[0][0]


@pytest.mark.parametrize(("expression", "in_snowflake"), [
    ("v:a::STRING", "x"),
    ("v:a::VARCHAR = 'x'", True),
    ("UPPER(v:a::STRING)", "X"),
    ("COALESCE(v:none::STRING, 'q')", "q"),
    ("v:nothing::STRING", None),
    ("v:n::INT", 7),
    ("v:yes::BOOLEAN", True),
    ("TRY_CAST(v:n::STRING AS INT)", 7),
    ("GET_PATH(v, 'l[0].p')::INT", 7),
    ("GET_PATH(v, 'l[1].p')::INT", 8),
    ("v:l[1].p::INT", 8),
    ("i::FLOAT / 2", 3.5),
    ("SUM(i)::FLOAT / COUNT(*)", 7.0),
    ("AVG(i::FLOAT)", 7.0),
    ("DATEADD(second, -5, ts)", datetime(2026, 1, 2, 3, 4, 0, 500_000)),
    ("DATEADD(second, 1.6::INT, ts)", datetime(2026, 1, 2, 3, 4, 7, 500_000)),
    ("TIMESTAMP_NTZ_FROM_PARTS(ts::DATE, '01:02:03'::TIME)", datetime(2026, 1, 2, 1, 2, 3)),
    ("CONVERT_TIMEZONE('America/Mexico_City', 'UTC', ts)", datetime(2026, 1, 2, 9, 4, 5, 500_000)),
    ("DATE_PART('epoch_microsecond', ts)", 1_767_323_045_500_000),
    ("REGEXP_SUBSTR(s, '[0-9]+')", "1"),
    ("REGEXP_SUBSTR(s, '[x-z]+')", None),
    ("REGEXP_LIKE(s, 'A')", False),  # the whole text must match
    ("GREATEST(i, NULL)", None),
    ("s || NULL", None),
    ("SHA2(s, 256)", hashlib.sha256(b"A1 b").hexdigest()),
    ("LISTAGG(s, ',') WITHIN GROUP (ORDER BY i)", "A1 b"),
])  # fmt: skip
def test_what_passes_means_the_same(expression: str, in_snowflake: Any) -> None:
    assert value(expression) == in_snowflake


@pytest.mark.parametrize(("expression", "hint"), [
    ("v:a", "x:name::STRING"),
    ("v:a = 'x'", "x:name::STRING"),
    ("LOWER(v:a)", "x:name::STRING"),
    ("TO_VARCHAR(v:a)", "x:name::STRING"),
    ("SPLIT(s, ' ')[0]", "off by one"),
    ("v['a']::STRING", "GET_PATH"),
    ("GET(v, 'a')::STRING", "GET_PATH"),
    ("TO_VARCHAR(ts, 'YYYY-MM')", "drops the format"),
    ("TO_CHAR(ts, 'YYYY')", "drops the format"),
    ("i / 2", "::FLOAT"),
    ("SUM(i) / COUNT(*)", "::FLOAT"),
    ("DIV0(i, 2)", "::FLOAT"),
    ("AVG(i)", "AVG(x::FLOAT)"),
    ("MEDIAN(i)", "PERCENTILE_CONT"),
    ("DATEADD(millisecond, -934.5, ts)", "whole number"),
    ("DATEADD(millisecond, i, ts)", "whole number"),
    ("CONVERT_TIMEZONE('UTC', ts)", "session's time zone"),
    ("ts::TIMESTAMP_LTZ", "session's time zone"),
    ("DATE_PART(epoch_second, ts)", "epoch_microsecond"),
    ("EXTRACT(epoch FROM ts)", "epoch_microsecond"),
    ("MAX_BY(s, i)", "skips NULLs"),
    ("i::FLOAT::STRING", "'7.0' in DuckDB"),
    ("ts::TIMESTAMP_NTZ::STRING", "compare times as times"),
    ("LISTAGG(s, ',')", "WITHIN GROUP"),
    ("ARRAY_AGG(i)", "WITHIN GROUP"),
    ("RANDOM()", "not reproducible"),
    ("CURRENT_TIMESTAMP()", "not reproducible"),
    ("CURRENT_DATE", "not reproducible"),
    ("UUID_STRING()", "not reproducible"),
    ("ANY_VALUE(i)", "MIN or MAX"),
    ("HASH(s)", "no such function"),
    ("TO_TIMESTAMP_NTZ(s)", "no such function"),
    ("SHA2(s, 512)", "SHA256"),
    ("$1", "name the column"),
])  # fmt: skip
def test_what_does_not_carry_over_is_refused(expression: str, hint: str) -> None:
    with pytest.raises(BadInput) as refused:
        compile_query(f"SELECT {expression} FROM t", "q.sql")
    assert refused.value.where == "q.sql"
    assert hint in refused.value.message
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "hint"), [
    ("SELECT 1; SELECT 2", "single SELECT"),
    ("DELETE FROM t", "single SELECT"),
    ("CREATE TABLE x AS SELECT 1", "single SELECT"),
    ("", "single SELECT"),
    ("SELECT a FROM", "not a query"),
    ("SELECT 'a", "not a query"),
    ("SELECT * FROM t SAMPLE (10)", "not reproducible"),
    ("SELECT f.value:p::INT FROM t, LATERAL FLATTEN(input => t.v) f", "does not carry over"),
])  # fmt: skip
def test_only_a_single_select_is_a_query(text: str, hint: str) -> None:
    with pytest.raises(BadInput, match=hint):
        compile_query(text, "q.sql")


def test_the_traps_are_real() -> None:
    """Were sqlglot or DuckDB to change, the check could be relaxed: what it mends is wrong without it."""
    with duckdb.connect() as connection:
        connection.execute(ROW)
        plain = sqlglot.transpile("SELECT v:a::STRING FROM t", read="snowflake", write="duckdb")[0]
        assert connection.sql(plain).fetchall()[0][0] == '"x"'
        connection.execute("CREATE TABLE u AS SELECT * FROM (VALUES ('a', 1), (NULL, 2)) AS r(code, nth)")
        skipped = sqlglot.transpile("SELECT MAX_BY(code, nth) FROM u", read="snowflake", write="duckdb")[0]
        assert connection.sql(skipped).fetchall()[0][0] == "a"
