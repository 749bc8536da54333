"""History by ``snowflake://``: the same as by Parquet, each failure one clear line, and never a credential."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from routesim.calibration.history.profile import QUERIES, load_profile
from routesim.calibration.history.read import History, read_history
from routesim.calibration.history.snowflake import Snowflake
from routesim.calibration.made_up import make_history
from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running.runner import prepare
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel
from tests.conftest import Command
from tests.extracts import Extract, two_payments
from tests.small import SCENARIO, Small
from tests.snowflake_servers import SECRET, Fake, connections, fakesnow_python, fakesnow_server, refusing_server

NO_CONNECTOR = "Snowflake's connector is not installed: pip install .[snowflake]"


@pytest.fixture
def connector() -> Any:
    """The official connector, with none of this machine's own connections."""
    return pytest.importorskip("snowflake.connector", reason=NO_CONNECTOR)


@pytest.fixture(scope="module")
def running() -> Iterator[Fake]:
    """One fakesnow server for all tests here."""
    pytest.importorskip("snowflake.connector", reason=NO_CONNECTOR)
    python = fakesnow_python()
    if python is None:
        pytest.skip("fakesnow is not installed: make .venv/fakesnow/installed")
    with fakesnow_server(python) as fake:
        yield fake


@pytest.fixture
def fake(running: Fake, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """The server, and connections of the names of the databases that tests load."""
    databases = {name: {"database": name} for name in ("tiny", "texts", "made_up", "small")}
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(running.port, **databases))
    running.received()
    return running


def refusal(address: str = "snowflake://local", **window: Any) -> str:
    """The one line with which reading is refused."""
    with pytest.raises(BadInput) as refused:
        read_history(address, **window)
    line = str(refused.value)
    assert "\n" not in line
    assert SECRET not in line
    assert len(line) < 420
    return line


def rich() -> Extract:
    """Two payments, one more whose events are lost, a row of the router for it, and a processor passed over."""
    extract = two_payments().payment("P3", 60).attempt("P3", 1, events=False, code="05")
    return extract.routed("P3", 61.25, 800, "05").routed("P1", 0.1, 0, processor="mit", skipped="DOWN")


def assert_same(ours: History, theirs: History) -> None:
    for name in ("payments", "attempts"):
        assert getattr(ours.log, name).equals(getattr(theirs.log, name))
    assert ours.skips.equals(theirs.skips)
    assert ours.codes == theirs.codes
    assert ours.quarantine.summary() == theirs.quarantine.summary()
    assert ours.quarantine.rows.equals(theirs.quarantine.rows)
    left_out = {"source", "warnings"}
    assert {k: v for k, v in ours.provenance.items() if k not in left_out} == {
        k: v for k, v in theirs.provenance.items() if k not in left_out}


# ---------------------------------------------------------------- the wire

def test_a_tiny_history_is_the_same_as_by_parquet(fake: Fake, tmp_path: Path) -> None:
    folder = rich().write(tmp_path)
    fake.load(folder, "TINY")
    by_wire, by_file = read_history("snowflake://tiny"), read_history(folder)
    assert by_file.log.attempts.num_rows == 4
    assert by_file.skips.num_rows == 1
    assert_same(by_wire, by_file)
    hidden = {w.replace(", or hidden from the role", "") for w in by_wire.quarantine.warnings}
    assert hidden == set(by_file.quarantine.warnings)
    assert by_wire.provenance["source"] == "snowflake://tiny"


def test_a_dirty_made_up_history_is_the_same_as_by_parquet(fake: Fake, tmp_path: Path) -> None:
    make_history(tmp_path / "history", days=2, per_day=400, seed=4)
    fake.load(tmp_path / "history", "MADE_UP")
    by_file = read_history(tmp_path / "history")
    assert by_file.quarantine.mended  # there was dirt to tell of
    assert_same(read_history("snowflake://made_up"), by_file)


def test_the_queries_arrive_byte_for_byte(fake: Fake, tmp_path: Path) -> None:
    fake.load(rich().write(tmp_path), "TINY")
    read_history("snowflake://tiny")
    received = fake.received()
    files = {file.stem: file.read_text() for file in (QUERIES / "payment_ml").glob("*.sql")}
    derived = {"attempt_once", "router_row"}
    assert files.keys() == {*derived, "payments", "attempts", "skips", "census"}
    for name in files.keys() - derived:
        (sent,) = [sql for sql in received if sql.endswith(f"SELECT * FROM (\n{files[name]}\n)")]
        for part in derived:
            assert f'"{part.upper()}" AS (\n{files[part]}\n)' in sent
    assert all(sql.startswith(("SELECT", "WITH")) for sql in received)  # nothing is made, changed or set


def test_text_columns_are_cast_and_what_is_no_number_is_counted(fake: Fake, tmp_path: Path) -> None:
    extract = rich()
    extract.payments[2]["PAYMENT_AMOUNT_USD"] = "free"
    for row in extract.payments[:2]:
        row["PAYMENT_AMOUNT_USD"] = " 100.0"
    folder = extract.write(tmp_path)
    fake.load(folder, "TEXTS", {name: "VARCHAR" for name in (
        "PAYMENT_AMOUNT_USD", "PAYMENT_DATE", "PATMENT_TIME", "PAYMENT_ATTEMPT_SEQUENCE_ORDER",
        "PAYMENT_ATTEMPT_APPROVED_INDICATOR", "DYNAMIC_ROUTING_DETAIL")})
    by_wire, by_file = read_history("snowflake://texts"), read_history(folder)
    told = "cells not of the column's type read as null"
    assert by_wire.quarantine.mended["VW_ATHENA_PAYMENT.PAYMENT_AMOUNT_USD", told] == 1
    assert by_wire.log.payments.num_rows == 2
    assert_same(by_wire, by_file)


def test_what_may_be_absent_is_null_and_what_is_needed_is_named(fake: Fake, tmp_path: Path) -> None:
    fake.load(rich().write(tmp_path), "TINY")
    table = "TINY.SOURCES.VW_ATHENA_PAYMENT_ATTEMPT"
    fake.run(f"ALTER TABLE {table} DROP COLUMN PAYMENT_ATTEMPT_ERROR_CATEGORY")
    fake.run("DROP TABLE TINY.SOURCES.VW_ATHENA_PAYMENT_EVENTS")
    fake.run("DROP TABLE TINY.SOURCES.VW_ATHENA_ORDER")
    extract = rich()
    for row in extract.attempts:
        del row["PAYMENT_ATTEMPT_ERROR_CATEGORY"]
    folder = extract.write(tmp_path / "less", without=("events", "orders"))
    for row in extract.router:
        assert row["ORIGINAL_TIMESTAMP"] is not None
    by_wire = read_history("snowflake://tiny")
    assert_same(by_wire, read_history(folder))
    assert "VW_ATHENA_PAYMENT_ATTEMPT lacks the column PAYMENT_ATTEMPT_ERROR_CATEGORY: it is null" in (
        by_wire.quarantine.warnings)
    fake.run(f"ALTER TABLE {table} RENAME PAYMENT_ATTEMPT_PROCESSOR_NAME TO PROCESSOR")
    line = refusal("snowflake://tiny")
    assert "the view VW_ATHENA_PAYMENT_ATTEMPT lacks the column PAYMENT_ATTEMPT_PROCESSOR_NAME, which is needed" in line
    fake.run(f"DROP TABLE {table}")
    line = refusal("snowflake://tiny")
    assert line.startswith("snowflake://tiny: the schema tiny.SOURCES lacks the view VW_ATHENA_PAYMENT_ATTEMPT")
    assert "role" in line


def test_a_query_that_snowflake_refuses_is_named(fake: Fake, tmp_path: Path) -> None:
    fake.load(rich().write(tmp_path), "TINY")
    profile = load_profile("payment_ml")
    opened = Snowflake("snowflake://tiny", profile)
    with pytest.raises(BadInput, match=r"^my\.sql: Snowflake does not run it: .*PAYMENT_IDX") as refused:
        opened.query("SELECT PAYMENT_IDX FROM VW_ATHENA_PAYMENT", "my.sql")
    assert "\n" not in str(refused.value)
    assert opened.query("SELECT COUNT(*) AS N FROM VW_ATHENA_PAYMENT -- to the end", "my.sql").to_pylist() == [{"N": 3}]
    assert opened.query("SELECT PAYMENT_ID, PAYMENT_DATE FROM VW_ATHENA_PAYMENT WHERE 1 = 0", "my.sql").num_rows == 0
    opened.close()
    opened.close()


def test_calibrate_and_a_scenarios_trace_take_the_address(
    fake: Fake, small: Small, tmp_path: Path, command: Command
) -> None:
    fake.load(small.history, "SMALL")
    ended = command("calibrate", "snowflake://small", "--out", tmp_path / "model")
    assert ended.code == 0, ended.err
    by_wire, by_file = CalibratedModel.load(tmp_path / "model"), CalibratedModel.load(small.model)
    ours, theirs = (model.model.model_dump() for model in (by_wire, by_file))
    assert ours["provenance"].pop("source") == "snowflake://small"
    assert theirs["provenance"].pop("source") == str(small.history)
    assert ours == theirs
    for file in (p for p in small.model.rglob("*") if p.is_file()):
        twin = tmp_path / "model" / file.relative_to(small.model)
        assert twin.read_bytes() == file.read_bytes() or file.name == "model.json", file.name  # which names the source
    assert all(SECRET.encode() not in p.read_bytes() for p in (tmp_path / "model").rglob("*") if p.is_file())
    text = SCENARIO.replace("HISTORY", "snowflake://small")
    prepared = prepare(load_scenario(small.write(tmp_path, text), []))
    assert prepared.study.payments.equals(small.prepare(tmp_path / "other").study.payments)


# ---------------------------------------------------------------- logging in

@pytest.mark.parametrize(("code", "words"), [
    ("390100", "wrong user or password (Snowflake's error 390100)"),
    ("390144", "RSA_PUBLIC_KEY must belong to private_key_file"),
    ("390189", "the role 'analyst' does not exist, or is not granted to the user"),
    ("390422", "network policy"),
    ("390999", "the login is refused (Snowflake's error 390999): Failed to connect to DB: 127.0.0.1:PORT. no *** here"),
])  # fmt: skip
def test_each_refusal_of_a_login_is_told(
    connector: Any, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    with refusing_server(code, f"no {SECRET}\nhere") as port:
        monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(port, boss={"role": "analyst"}))
        line = refusal("snowflake://boss")
    assert line.startswith("snowflake://boss: ")
    assert words.replace("PORT", str(port)) in line


def test_an_account_that_cannot_be_reached(connector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with refusing_server("0", "", status=403) as port:
        monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(port))
        assert "the account 'org-shop' cannot be reached" in refusal()
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(port))  # where nothing listens any more
    assert "the account 'org-shop' cannot be reached" in refusal()


@pytest.mark.parametrize(("settings", "words"), [
    ({"account": ""}, "names no account"),
    ({"user": ""}, "names no user"),
    ({"password": ""}, "neither a password nor a key"),
    ({"private_key_file": "KEY/none.p8"}, "none.p8, which the connection names: No such file or directory"),
    ({"private_key_file": "KEY/text.p8"}, "text.p8: not a usable private key"),
    ({"private_key_file": "KEY/locked.p8"}, "locked.p8: not a usable private key, or its passphrase is wrong"),
    ({"private_key_file": "KEY/locked.p8", "private_key_file_pwd": SECRET}, "its passphrase is wrong"),
    ({"private_key": SECRET}, "the private key is not usable"),
])  # fmt: skip
def test_what_a_connection_lacks_is_told(
    connector: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    (tmp_path / "text.p8").write_text(SECRET)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "locked.p8").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"another")))
    told = {name: value.replace("KEY", str(tmp_path)) for name, value in settings.items()}
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(1, lacking=told))
    assert words in refusal("snowflake://lacking")


class Broken:
    """A connection whose every question ends in an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def cursor(self) -> Broken:
        return self

    def __enter__(self) -> Broken:
        return self

    def __exit__(self, *raised: object) -> None:
        return None

    def describe(self, sql: str) -> None:
        raise self.error

    def is_closed(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("errno", "said", "words"), [
    (2003, "SQL compilation error:\nDatabase 'PAYMENT_ML' does not exist or not authorized.",
     "the database of PAYMENT_ML.SOURCES does not exist, or the user's default role may not use it"),
    (2003, "SQL compilation error:\nSchema 'PAYMENT_ML.SOURCES' does not exist or not authorized.",
     "the schema of PAYMENT_ML.SOURCES does not exist"),
    (2003, "SQL compilation error:\nObject 'PAYMENT_ML.SOURCES.VW_ATHENA_PAYMENT' does not exist or not authorized.",
     "the schema PAYMENT_ML.SOURCES lacks the view VW_ATHENA_PAYMENT, which the profile payment_ml needs"),
    (606, "No active warehouse selected in the current session.", "there is no warehouse to run it"),
    (3001, "SQL access control error:\nInsufficient privileges to operate on schema 'SOURCES'", "lacks a privilege"),
    (100132, f"JavaScript execution error {SECRET}", "Snowflake does not run it: JavaScript execution error ***"),
])  # fmt: skip
def test_what_snowflake_lacks_is_told(
    connector: Any, monkeypatch: pytest.MonkeyPatch, errno: int, said: str, words: str
) -> None:
    broken = Broken(connector.errors.ProgrammingError(said, errno=errno, sqlstate="42S02", sfqid="01b2"))
    told: dict[str, Any] = {}

    def connect(**settings: Any) -> Broken:
        told.update(settings)
        warnings.warn(f"Bad owner or permissions on connections.toml {SECRET}", stacklevel=1)
        return broken

    monkeypatch.setattr(connector, "connect", connect)
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(1))
    line = refusal()
    assert words in line
    assert line.startswith("snowflake://local")
    assert broken.closed
    assert SECRET not in str(told)  # the connector reads the secrets itself
    assert told["session_parameters"]["MULTI_STATEMENT_COUNT"] == 1  # no second statement behind a query
    assert (told["connection_name"], told["database"], told["schema"]) == ("local", "PAYMENT_ML", "SOURCES")


@pytest.mark.parametrize(("problem", "raised"), [("lost", ConnectionResetError(f"reset by {SECRET}")),
                                                 ("odd", KeyError(SECRET))])  # fmt: skip
def test_errors_that_are_not_the_connectors_are_told_too(
    connector: Any, monkeypatch: pytest.MonkeyPatch, problem: str, raised: Exception
) -> None:
    monkeypatch.setenv("SNOWFLAKE_CONNECTIONS", connections(1))
    monkeypatch.setattr(connector, "connect", lambda **_: Broken(raised))
    assert "Snowflake does not run it: " in refusal()

    def connect(**_: Any) -> None:
        raise raised

    monkeypatch.setattr(connector, "connect", connect)
    assert "the login failed: " in refusal()


def test_the_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    line = refusal("snowflake://shop")
    assert line.startswith("snowflake://shop: Snowflake's connector is not installed (")
    assert line.endswith("pip install 'routesim[snowflake]'")


@pytest.mark.parametrize("address", [
    f"snowflake://ana:{SECRET}@org-shop/PAYMENT_ML", f"snowflake://shop?password={SECRET}", "snowflake://",
    "snowflake://shop/PAYMENT_ML/SOURCES",
])  # fmt: skip
def test_an_address_with_more_than_a_name_is_refused_unshown(address: str) -> None:
    from datetime import datetime

    for window in ({}, {"from_": datetime(2026, 1, 2), "until": datetime(2026, 1, 1)}, {"warm_up_s": -1}):
        assert refusal(address, **window).startswith("snowflake://...: an address is snowflake:// and the name of a")


# ---------------------------------------------------------------- connections.toml, and what is printed

def calibrate(home: Path, name: str, model: Path) -> subprocess.CompletedProcess[str]:
    """The console command in a process of its own, with a Snowflake home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SNOWFLAKE_")}
    words = [sys.executable, "-m", "routesim.scenarios.cli", "calibrate", f"snowflake://{name}", "--out", str(model)]
    return subprocess.run(words, env={**kept, "SNOWFLAKE_HOME": str(home), "COLUMNS": "500"}, capture_output=True,
                          text=True, check=False)


def test_a_failing_login_leaves_no_credential_anywhere(connector: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with refusing_server("390100", f"Incorrect username or password was specified: {SECRET}") as port:
        (home / "connections.toml").write_text(connections(port))
        (home / "connections.toml").chmod(0o600)
        ended = calibrate(home, "local", tmp_path / "model")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "routesim: snowflake://local: wrong user or password (Snowflake's error 390100)\n"
    others = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "connections.toml"]
    assert not [p for p in others if SECRET.encode() in p.read_bytes()]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("content", "mode", "words"), [
    (None, 0o600, "snowflake://locl: no connection is known: write a section [locl] with account, user"),
    ("", 0o600, "connections.toml; did you mean 'local'?"),
    ("locl = 3", 0o600, "is no section of settings"),
    (f'[a\npassword = "{SECRET}"', 0o600, "connections.toml: not valid TOML, line 1"),
    ("", 0o666, "connections.toml: others may write it, so it is not trusted; chmod 600"),
])  # fmt: skip
def test_a_connections_file_that_does_not_help_is_told(
    connector: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, mode: int, words: str
) -> None:
    from snowflake.connector import constants
    from snowflake.connector.config_manager import CONFIG_MANAGER

    file = tmp_path / "connections.toml"
    if content is not None:
        file.write_text(content or connections(1))
        file.chmod(mode)
    monkeypatch.delenv("SNOWFLAKE_CONNECTIONS", raising=False)
    monkeypatch.setattr(constants, "CONNECTIONS_FILE", file)
    monkeypatch.setattr(CONFIG_MANAGER, "file_path", tmp_path / "config.toml")
    monkeypatch.setattr(CONFIG_MANAGER, "_slices", [each._replace(path=file) for each in CONFIG_MANAGER._slices])
    monkeypatch.setattr(CONFIG_MANAGER, "conf_file_cache", None)
    assert words in refusal("snowflake://locl")
