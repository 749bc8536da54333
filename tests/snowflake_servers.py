"""Servers on localhost for the real connector: fakesnow, which runs queries, and one that only refuses logins.

fakesnow speaks Snowflake's wire protocol over DuckDB. What it shows is that our statements arrive whole and that their
answers come back whole; it is no evidence of what Snowflake itself would answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pyarrow.parquet as pq

from routesim.calibration.history.profile import load_profile

SECRET = "s3ntinel-Pa55word"


def connections(port: int, **more: dict[str, str]) -> str:
    """A connections.toml of connections to a local server: ``local``, and one for each keyword with its settings."""
    base = {"account": "org-shop", "user": "ana", "password": SECRET, "host": "127.0.0.1", "protocol": "http"}
    sections = {"local": {}, **more}
    return "\n".join(
        f"[{name}]\nport = {port}\nlogin_timeout = 2\n"
        + "\n".join(f'{key} = "{value}"' for key, value in {**base, **settings}.items() if value)
        for name, settings in sections.items()
    )


@dataclass
class Fake:
    """A running fakesnow server."""

    port: int

    def load(self, folder: Path, database: str, kinds: dict[str, str] | None = None) -> None:
        """A database with a schema SOURCES and in it each Parquet file of ``folder`` as a table.

        Columns that the profile payment_ml names are of the profile's types, or of those that ``kinds`` gives.
        """
        types = {"INTEGER": "BIGINT", "FLOAT": "DOUBLE", "VARIANT": "JSON"}
        views = load_profile("payment_ml").spec.views
        self._ask("database", name=database)
        for file in sorted(folder.glob("*.parquet")):
            if file.stem not in views:
                continue
            spec = {also: column.type for name, column in views[file.stem].columns.items()
                    for also in (name, *column.also)}
            cast = ", ".join(
                f'CAST("{name}" AS {(kinds or {}).get(name) or types.get(spec[name], spec[name])}) AS "{name}"'
                if name in spec else f'"{name}"' for name in pq.read_schema(file).names
            )
            self.run(f"CREATE OR REPLACE TABLE {database}.SOURCES.{file.stem} AS SELECT {cast} FROM '{file}'")

    def run(self, sql: str) -> Any:
        """Run a statement of DuckDB's on the server's own database."""
        return self._ask("run", sql=sql)

    def received(self) -> list[str]:
        """The statements as they came over the wire, since last asked."""
        return list(self._ask("received"))

    def _ask(self, path: str, **what: str) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}/test/{path}", json.dumps(what).encode())
        with urlopen(request) as answer:
            return json.load(answer)


def fakesnow_python() -> str | None:
    """A Python that has fakesnow: that of the environment which `make test` makes for it, or this one; else None."""
    own = Path(__file__).parents[1] / ".venv/fakesnow/bin/python"
    if own.exists():
        return str(own)
    return sys.executable if find_spec("fakesnow") and find_spec("uvicorn") else None


@contextmanager
def fakesnow_server(python: str) -> Iterator[Fake]:
    """Run fakesnow's server under this Python."""
    script = Path(__file__).with_name("fakesnow_process.py")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=alone) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline()
        assert port, "fakesnow's server did not start"
        yield Fake(int(port))
        process.stdin.close()


@contextmanager
def refusing_server(code: str, message: str, status: int = 200) -> Iterator[int]:
    """A server that answers every login with Snowflake's error ``code``, or with an HTTP ``status``; its port."""
    answer = json.dumps({"success": False, "code": code, "message": message, "data": {}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
