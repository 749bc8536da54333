"""Logging in to Snowflake with the user's own connection, and what to say when it fails.

Connections live in the user's ``connections.toml``; the official connector reads it. No credential passes through our
files, outputs or messages: what Snowflake or the connector says is shown with every secret setting removed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from routesim.policies.spelling import nearest
from routesim.sim.errors import BadInput

SCHEME = "snowflake://"
DATABASE = "PAYMENT_ML"
SCHEMA = "SOURCES"
LOGIN_TIMEOUT_S = 60

# Settings whose values may be shown. Any other text of a connection is taken for a secret.
_OPEN = {"account", "application", "authenticator", "database", "host", "port", "private_key_file", "protocol",
         "region", "role", "schema", "token_file_path", "user", "warehouse"}  # fmt: skip
_KEY = "a PEM file in PKCS#8, with its passphrase in private_key_file_pwd if it is encrypted"
_LOGIN = {
    251001: 'the connection names no account; add account = "ORGANISATION-ACCOUNT"',
    251005: "the connection names no user",
    251006: "the connection has neither a password nor a key; add private_key_file, or another authenticator",
    251008: f"the private key is not usable; it must be {_KEY}",
    390100: "wrong user or password",
    390144: "the key pair is refused: the user's RSA_PUBLIC_KEY must belong to private_key_file, this machine's clock "
            "must be right, and the account must be written with '-' where it has '.'",
    390189: "{role} does not exist, or is not granted to the user",
    390110: "the saved token is expired; log in again",
    390195: "the saved token is not valid; log in again",
    390303: "the OAuth token is not valid",
    390318: "the OAuth token is expired",
    390422: "the account's network policy does not let this machine in",
}  # fmt: skip
_RUN = {
    606: "there is no warehouse to run it: name one in the connection that the role may use (warehouse = ...)",
    3001: "{role} lacks a privilege",
}


@dataclass
class Login:
    """An open connection, and what of its settings is needed; ``role`` in words. ``secrets`` are never to be shown."""

    connection: Any
    database: str
    schema: str
    role: str
    warnings: list[str]
    secrets: tuple[str, ...] = field(repr=False)


def connection_name(address: str) -> str:
    """NAME of ``snowflake://NAME``. Raises BadInput for anything else, without showing it: it may hold a password."""
    name = address.removeprefix(SCHEME).rstrip("/")
    if not re.fullmatch(r"[\w.-]+", name):
        raise BadInput("an address is snowflake:// and the name of a connection in your connections.toml, no more; "
                       "account, user and secrets stay in that file", SCHEME + "...")
    return name


def log_in(address: str, timezone: str) -> Login:
    """Log in with the connection that the address names; the session's time zone becomes ``timezone``.

    Database and schema are the connection's own, else PAYMENT_ML and SOURCES. Raises BadInput, in one line, for each
    way in which that fails.
    """
    name = connection_name(address)
    where = SCHEME + name
    try:
        import snowflake.connector as connector
    except ImportError as error:
        raise BadInput(f"Snowflake's connector is not installed ({error}): pip install 'routesim[snowflake]'",
                       where) from None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        settings = _settings(name, where)
        secrets = tuple(sorted(_secrets(settings), key=len, reverse=True))
        database = str(settings.get("database") or DATABASE)
        schema = str(settings.get("schema") or SCHEMA)
        told = {
            "database": database, "schema": schema, "application": "routesim",
            "login_timeout": settings.get("login_timeout", LOGIN_TIMEOUT_S),
            "session_parameters": {"QUERY_TAG": "routesim", **settings.get("session_parameters", {}),
                                   "TIMEZONE": timezone, "MULTI_STATEMENT_COUNT": 1,
                                   "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "ARROW"},
        }  # fmt: skip
        try:
            connection = connector.connect(connection_name=name, **told)
        except Exception as error:  # errors of the libraries beneath pass through the connector as they are
            raise BadInput(_login_problem(error, settings, secrets), where) from None
    said = {one_line(str(each.message), secrets) for each in heard if each.category is UserWarning}
    return Login(connection, database, schema, _role(settings), sorted(said), secrets)


@contextmanager
def speaking(login: Login, where: str) -> Iterator[None]:
    """Turn whatever goes wrong while Snowflake is asked into a BadInput of one line."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # as above
        raise BadInput(_query_problem(error, login), where) from None


def one_line(text: str, secrets: tuple[str, ...]) -> str:
    """A message as one line of at most 240 characters, without any secret."""
    for secret in secrets:
        text = text.replace(secret, "***")
    line = " ".join(text.split())
    return line if len(line) <= 240 else line[:237] + "..."


def _settings(name: str, where: str) -> Mapping[str, Any]:
    """The connection's settings, as the connector will read them."""
    from snowflake.connector.config_manager import CONFIG_MANAGER
    from snowflake.connector.constants import CONNECTIONS_FILE

    try:
        known: Any = CONFIG_MANAGER["connections"]
        known = getattr(known, "unwrap", lambda: known)()
    except Exception as error:
        raise BadInput(_unreadable(error), str(CONNECTIONS_FILE)) from None
    if not known:
        raise BadInput(f"no connection is known: write a section [{name}] with account, user and private_key_file into "
                       f"{CONNECTIONS_FILE}", where)
    if name not in known:
        raise BadInput(f"no such connection in {CONNECTIONS_FILE}{nearest(name, map(str, known))}", where)
    if not isinstance(known[name], dict):
        raise BadInput(f"[{name}] of {CONNECTIONS_FILE} is no section of settings", where)
    return dict(known[name])


def _unreadable(error: Exception) -> str:
    """Why the connections file cannot be read; its content, which holds secrets, is not shown."""
    cause = error.__cause__ or error
    line = getattr(cause, "line", None)
    if isinstance(line, int):
        return f"not valid TOML, line {line}"
    if isinstance(cause, OSError):
        return f"cannot be read: {cause.strerror}"
    if "writable by group or others" in str(error):
        return "others may write it, so it is not trusted; chmod 600"
    return "not a file of connections in TOML"


def _secrets(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif key not in _OPEN and isinstance(value, str) and value:
            yield value
            yield from (part for part in value.splitlines() if len(part) > 7)  # of a key


def _role(settings: Mapping[str, Any]) -> str:
    return f"the role {settings['role']!r}" if settings.get("role") else "the user's default role"


def _login_problem(error: Exception, settings: Mapping[str, Any], secrets: tuple[str, ...]) -> str:
    from snowflake.connector import errors

    code = getattr(error, "errno", None)
    said = one_line(str(getattr(error, "raw_msg", None) or error), secrets)
    if isinstance(error, errors.Error):
        if code in _LOGIN:
            return f"{_LOGIN[code].format(role=_role(settings))} (Snowflake's error {code})"
        if 390000 <= error.errno < 400000:
            return f"the login is refused (Snowflake's error {code}): {said}"
        # the connector's errors of HTTP begin at 290000
        if isinstance(error, errors.OperationalError | errors.InterfaceError) or error.errno >= 290000:
            return (f"the account {settings.get('account')!r} cannot be reached (error {code}); is it spelt "
                    f"ORGANISATION-ACCOUNT, and does the network let it through? {said}")
        return f"the login failed (error {code}): {said}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}, which the connection names: {error.strerror}"
    key = settings.get("private_key_file")
    if key and isinstance(error, ValueError | TypeError):
        return f"{key}: not a usable private key, or its passphrase is wrong; it must be {_KEY}"
    return f"the login failed: {said}"


def _query_problem(error: Exception, login: Login) -> str:
    code = getattr(error, "errno", None)
    said = one_line(str(getattr(error, "raw_msg", None) or error), login.secrets)
    query = f" (query {error.sfqid})" if getattr(error, "sfqid", None) else ""  # type: ignore[attr-defined]
    known = _RUN.get(code) if isinstance(code, int) else None
    if known:
        return f"{known.format(role=login.role)}: {said}{query}"
    return f"Snowflake does not run it: {said}{query}"
