"""fakesnow's server as a process of its own, in an environment of its own: fakesnow pins versions that we do not.

``python fakesnow_process.py`` prints its port and serves until its input ends. Beside Snowflake's own paths it answers
``/test/run`` (a DuckDB statement), ``/test/database`` (makes a database with a schema SOURCES) and ``/test/received``
(the statements that came over the wire since last asked). One defect of fakesnow's is mended: it sends a NULL time as
1970. Imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from typing import Any

import fakesnow.arrow
import fakesnow.server
import pyarrow as pa
import pyarrow.compute as pc
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

received: list[str] = []
parse, times = fakesnow.server.parse_one, fakesnow.arrow.timestamp_to_sf_struct


def hear(sql: str, *rest: Any) -> Any:
    """Parse a statement, and keep it as it came."""
    received.append(sql)
    return parse(sql, *rest)


def times_with_nulls(column: Any) -> Any:
    """Times as Snowflake sends them, NULL where they are NULL."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = times(column.fill_null(0))
    return pa.StructArray.from_arrays(whole.flatten(), fields=list(whole.type), mask=pc.is_null(column))


async def run(request: Request) -> JSONResponse:
    """Run a DuckDB statement on the server's own database; its rows."""
    rows = fakesnow.server.shared_fs.duck_conn.cursor().execute((await request.json())["sql"]).fetchall()
    return JSONResponse([[str(cell) for cell in row] for row in rows])


async def database(request: Request) -> JSONResponse:
    """Make a database and its schema SOURCES, where they are not there."""
    fakesnow.server.shared_fs.connect((await request.json())["name"], "SOURCES")
    return JSONResponse([])


async def tell_received(_: Request) -> JSONResponse:
    """The statements that came since last asked."""
    told = received.copy()
    received.clear()
    return JSONResponse(told)


def serve() -> None:
    """Serve until standard input ends: with the process that started this one, this one ends too."""
    warnings.simplefilter("ignore")
    fakesnow.server.parse_one, fakesnow.arrow.timestamp_to_sf_struct = hear, times_with_nulls
    for path, answer in (("run", run), ("database", database), ("received", tell_received)):
        fakesnow.server.app.routes.append(Route(f"/test/{path}", answer, methods=["POST"]))
    server = uvicorn.Server(uvicorn.Config(fakesnow.server.app, host="127.0.0.1", port=0, log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    sys.stdin.read()
    os._exit(0)  # nothing is to be kept


if __name__ == "__main__":
    serve()
