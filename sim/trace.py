"""The trace: the payments that the world brings, in order of arrival, with the columns that models look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from routesim.policies.payment_fields import NOTHING_FURTHER, FurtherFields
from routesim.policies.vocabulary import PAYMENT_FIELDS, Payment
from routesim.sim.arrays import Bools, Floats, Ints, Keys
from routesim.sim.draws import identities
from routesim.sim.log import further_fields, payments_schema

CHUNK = 4096  # payments whose draws and objects are made together

_COPIED = tuple(name for name, field in PAYMENT_FIELDS.items() if field.origin != "clock" and field.kind != "moment")
_OF_CARD = tuple(name for name, field in PAYMENT_FIELDS.items() if field.of_card)


@dataclass(frozen=True)
class Levels:
    """A column as codes: ``codes`` (n,) int64 into ``names``; an absent value has the name ""."""

    codes: Ints
    names: tuple[str, ...]


class Trace:
    """Payments in order of arrival (the PAYMENTS schema of ``sim.log``, and the columns of a profile's fields behind).

    ``timezone`` governs the hours and days that policies see, ``model_timezone`` those that the model was fitted in.
    ``forerunner`` (n,) is the row of the failed payment of the same order that a payment follows, or -1 for an
    exogenous one; ``follower`` is its inverse.
    """

    def __init__(self, payments: pa.Table, timezone: str = "UTC", model_timezone: str | None = None) -> None:
        order = pc.sort_indices(payments, sort_keys=[("arrived_at", "ascending"), ("payment_id", "ascending")])
        schema = payments_schema(further_fields(payments.schema))
        self.table: pa.Table = payments.take(order).select(schema.names).cast(schema).combine_chunks()
        self.timezone = ZoneInfo(timezone)
        self.model_timezone = ZoneInfo(model_timezone or timezone)
        self._objects: dict[int, list[Payment]] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def arrived_at(self) -> Floats:
        """Seconds since the epoch, (n,)."""
        return seconds(self.table["arrived_at"])

    @cached_property
    def keys(self) -> Keys:
        """The identities that draws are keyed by, (n,)."""
        return identities(self.table["payment_id"].to_pylist())

    @cached_property
    def forerunner(self) -> Ints:
        index = pd.Index(self.table["payment_id"].to_pandas())
        rows = index.get_indexer(pd.Index(self.table["previous_payment_id"].to_pandas()))
        rows[self.table["previous_payment_id"].is_null().to_numpy()] = -1
        rows[rows >= np.arange(len(rows))] = -1  # a forerunner that arrives later is none
        return np.asarray(rows, dtype=np.int64)

    @cached_property
    def follower(self) -> Ints:
        rows = np.full(len(self), -1, dtype=np.int64)
        later = np.flatnonzero(self.forerunner >= 0)
        rows[self.forerunner[later]] = later
        return rows

    @cached_property
    def same_token(self) -> Bools:
        """Whether a payment and its forerunner both have a card token, and the same."""
        token = self.levels("card_token")
        known = np.array([name != "" for name in token.names])[token.codes]
        same = np.zeros(len(self), dtype=bool)
        rows = np.flatnonzero(self.forerunner >= 0)
        before = self.forerunner[rows]
        same[rows] = known[rows] & known[before] & (token.codes[rows] == token.codes[before])
        return same

    @cached_property
    def same_card(self) -> Bools:
        """Whether a payment uses its forerunner's card: by token where both have one, else by BIN, brand and bank."""
        same = np.zeros(len(self), dtype=bool)
        rows = np.flatnonzero(self.forerunner >= 0)
        before = self.forerunner[rows]
        alike = np.ones(len(rows), dtype=bool)
        for column in ("card_bin", "card_brand", "bank"):
            codes = self.levels(column).codes
            alike &= codes[rows] == codes[before]
        token = self.levels("card_token")
        known = np.array([name != "" for name in token.names])[token.codes]
        both = known[rows] & known[before]
        same[rows] = np.where(both, self.same_token[rows], alike)
        return same

    @cached_property
    def warm_up(self) -> Bools:
        return self.table["warm_up"].to_numpy()

    @cached_property
    def _levels(self) -> dict[str, Levels]:
        return {}

    def levels(self, column: str) -> Levels:
        """A text column (or ``comeback``, ``hour``, ``weekday``) as codes."""
        if column not in self._levels:
            self._levels[column] = self._encode(column)
        return self._levels[column]

    def _encode(self, column: str) -> Levels:
        if column == "comeback":
            return Levels((self.forerunner >= 0).astype(np.int64), ("no", "yes"))
        if column in ("hour", "weekday"):
            names = tuple(str(i) for i in range(24 if column == "hour" else 7))
            return Levels(self._local(self.model_timezone)[column], names)
        encoded = pc.fill_null(self.table[column].cast(pa.string()), "").combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)  # codes by name, not by first appearance
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        return Levels(rank[encoded.indices.to_numpy()], tuple(names[i] for i in order))

    @cached_property
    def log_amount_usd(self) -> Floats:
        return np.log(np.maximum(self.table["amount_usd"].to_numpy(), 0.01))

    def _local(self, zone: ZoneInfo) -> dict[str, Ints]:
        local = pd.DatetimeIndex(self.table["arrived_at"].to_pandas()).tz_convert(zone)
        return {name: np.asarray(values, dtype=np.int64)
                for name, values in (("hour", local.hour), ("weekday", local.day_of_week), ("day", local.day))}

    @cached_property
    def _policy_clock(self) -> dict[str, Ints]:
        return self._local(self.timezone)

    def payments(self, chunk: int) -> list[Payment]:
        """The payments of one chunk as policies see them; kept, since every policy and replication asks again."""
        if chunk not in self._objects:
            self._objects[chunk] = self._build(chunk)
        return self._objects[chunk]

    def _build(self, chunk: int) -> list[Payment]:
        start = chunk * CHUNK
        part = self.table.slice(start, CHUNK)
        columns = {name: part[name].to_pylist() for name in _COPIED}
        due = [None if d is None else d.timestamp() for d in part["due_at"].to_pylist()]
        local = {name: values[start:start + CHUNK].tolist() for name, values in self._policy_clock.items()}
        arrived = self.arrived_at[start:start + CHUNK].tolist()
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        further = self._further(part)
        return [Payment(**row, arrived_at=arrived[i], due_at=due[i], hour=local["hour"][i],
                        weekday=local["weekday"][i], day=local["day"][i], further=further[i])
                for i, row in enumerate(rows)]

    def _further(self, part: pa.Table) -> list[FurtherFields]:
        """The values of the profile's fields that are known at arrival, of each payment of a part of the table."""
        names = [field.name for field in further_fields(part.schema) if field.known == "at arrival"]
        if not names:
            return [NOTHING_FURTHER] * part.num_rows
        columns = [part[name].to_pylist() for name in names]
        return [FurtherFields(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def comeback_payment(self, row: int, payment_id: str, forerunner: Payment, arrived_at: float) -> Payment:
        """A payment that history did not bring: the customer of ``forerunner`` returns, with the card of ``row``."""
        donor = self.payments(row // CHUNK)[row % CHUNK]
        local = datetime.fromtimestamp(arrived_at, UTC).astimezone(self.timezone)
        fields: dict[str, Any] = {name: getattr(forerunner, name) for name in _COPIED}
        for name in _OF_CARD:
            fields[name] = getattr(donor, name)
        fields |= {"payment_id": payment_id, "previous_payment_id": forerunner.payment_id, "logged_processor": None,
                   "further": forerunner.further}
        return Payment(**fields, arrived_at=arrived_at, due_at=None, hour=local.hour, weekday=local.weekday(),
                       day=local.day)


def seconds(column: pa.ChunkedArray) -> Floats:
    """A timestamp column as seconds since the epoch."""
    return column.cast(pa.int64()).to_numpy() / 1e6


def timestamps(values: Floats) -> pa.Array:
    """Seconds since the epoch as timestamps to the microsecond, UTC."""
    return pa.array(np.round(np.asarray(values) * 1e6).astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))
