"""A history: read, or made up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from routesim._arguments import AnyPath, moment_of, path_of
from routesim.calibration.history.read import History
from routesim.calibration.history.read import read_history as _read
from routesim.calibration.made_up import make_history as _make
from routesim.sim.errors import BadInput


def read_history(source: AnyPath, profile: AnyPath | None = None, *, from_: str | datetime | None = None,
                 until: str | datetime | None = None) -> History:
    """Read and clean the payments that arrived in [from_, until).

    ``source`` is a folder of Parquet or CSV files, one a view, or one file, or ``snowflake://CONNECTION``, a connection
    of your connections.toml; ``profile`` a built-in profile's name or a YAML file, ``payment_ml`` unless told (a single
    file needs one). Moments are datetimes or ISO 8601, in UTC unless they say otherwise. Raises BadInput for a source,
    a profile or a window that cannot be used; rows that cannot be are set aside in ``quarantine``.

    >>> history = rs.read_history("extracts/january", profile="payment_ml", until="2026-01-10")
    >>> history.payments.num_rows <= history.attempts.num_rows
    True
    >>> rs.read_history("extracts/janury")
    Traceback (most recent call last):
    routesim.sim.errors.BadInput: extracts/janury: no such file or folder
    """
    address = source if isinstance(source, str) and "://" in source else path_of(source, "source")
    named = profile if profile is None or isinstance(profile, str) else path_of(profile, "profile")
    return _read(address, named, moment_of(from_, "from_"), moment_of(until, "until"))


def make_history(folder: AnyPath, *, days: int = 28, per_day: float = 2600, seed: int = 1,
                 progress: Callable[[str], None] | None = None) -> Path:
    """Write a made-up PAYMENT_ML extract into ``folder``, its truth beside it, and return the folder.

    ``days`` days of ``per_day`` orders from 2026-01-05 on; the same seed gives the same bytes. Raises BadInput where
    ``folder`` holds anything but an earlier made-up history.

    >>> folder = rs.make_history("extracts/made_up", days=1, per_day=40)
    >>> (folder / "truth" / "truth.json").exists()
    True
    """
    out = path_of(folder, "folder")
    for value, name, right in ((days, "days", 1), (per_day, "per_day", 1), (seed, "seed", 0)):
        if not isinstance(value, int | float) or value < right:
            raise BadInput(f"must be at least {right}; found {value!r}", name)
    _make(out, days, per_day, seed, progress=progress)
    return out
