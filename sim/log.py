"""The attempt log: one flat record per payment and per attempt, the same for history and for simulation.

Every metric is a function of these two tables, so a figure means the same on both. The columns of a payment follow from
its fields (``policies.payment_fields``); only those that no policy may see are written here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa

from routesim.policies.payment_fields import Kind, Known, PaymentField
from routesim.policies.vocabulary import PAYMENT_FIELDS
from routesim.sim.arrays import Ints

MICROSECONDS = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_SKIPS = pa.list_(pa.field("element", pa.struct([("processor", _TEXT), ("reason", _TEXT)])))  # as Parquet gives it back


def _field(name: str, kind: pa.DataType, doc: str, unit: str | None = None, nullable: bool = True) -> pa.Field:
    metadata = {"doc": doc} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


_ARROW: dict[Kind, pa.DataType] = {"text": _TEXT, "number": pa.float64(), "whole number": pa.int64(),
                                   "true or false": pa.bool_(), "moment": MICROSECONDS}


def _column(field: PaymentField) -> pa.Field:
    assert field.kind is not None
    kind = pa.int16() if field.bits == 16 else _ARROW[field.kind]
    column = _field(field.name, kind, field.doc, field.unit, field.nullable)
    return column.with_metadata(column.metadata | {b"known": field.known.encode()}) if field.further else column


PAYMENTS = pa.schema([
    *(_column(field) for field in PAYMENT_FIELDS.values() if field.origin != "clock"),
    _field("logged_approved", pa.bool_(), "whether history approved it in the end"),
    _field("warm_up", pa.bool_(), "arrived before the measured window: it counts in no figure", nullable=False),
])


def payments_schema(further: Iterable[PaymentField]) -> pa.Schema:
    """PAYMENTS and, behind it, the columns of the fields that a source's profile declares."""
    return pa.schema([*PAYMENTS, *(_column(field) for field in further)])


def further_fields(schema: pa.Schema) -> tuple[PaymentField, ...]:
    """The profile's fields among the columns of a table of payments, which tell all that there is to know of them."""
    kinds = {kind: name for name, kind in _ARROW.items()}
    return tuple(
        PaymentField(told[b"doc"].decode(), told[b"unit"].decode() if b"unit" in told else None, column.name,
                     kinds[column.type], known=cast(Known, told[b"known"].decode()), further=True)
        for column in schema if column.name not in PAYMENTS.names and b"known" in (told := column.metadata or {})
    )


ATTEMPTS = pa.schema([
    _field("payment_id", _TEXT, "the payment", nullable=False),
    _field("attempt_number", pa.int16(), "1 for the first", nullable=False),
    _field("processor", _TEXT, "the PSP that took the request", nullable=False),
    _field("message_initiator", _TEXT, "the initiator flag that was sent"),
    _field("message_avs", pa.bool_(), "whether address data was sent"),
    _field("message_mcc", _TEXT, "the merchant category code that was sent"),
    _field("sent_at", MICROSECONDS, "request", "UTC", nullable=False),
    _field("answered_at", MICROSECONDS, "answer, or the moment the router gave up waiting", "UTC", nullable=False),
    _field("latency_ms", pa.float64(), "answered_at - sent_at", "ms", nullable=False),
    _field("outcome", _TEXT, "approved, declined, unavailable, timeout or refused", nullable=False),
    _field("decline_code", _TEXT, "as the processor gave it"),
    _field("decline_kind", _TEXT, "soft or hard"),
    _field("decision", _TEXT, "why it was sent: rank, retry, failover or probe"),
    _field("rank_position", pa.int16(), "1 for the policy's first choice"),
    _field("propensity", pa.float64(), "probability with which the policy ranked it first", "probability"),
    _field("skipped", _SKIPS, "better processors that were passed over, best first, and why; null: none"),
    _field("late_approval", pa.bool_(), "of a timeout: whether the issuer approved all the same; null in history"),
    _field("network_rule", _TEXT, "the card network's rule on reattempts that it breaks"),
    _field("network_fee_usd", pa.float64(), "what the network charges for that", "USD"),
])


@dataclass(frozen=True)
class AttemptLog:
    """Payments and their attempts.

    ``payments`` follows PAYMENTS in order of arrival, the columns of a profile's fields behind it; ``attempts`` follows
    ATTEMPTS in order of ``answered_at``. ``payment_row`` (int64, one per attempt) points into ``payments``; it is
    derived from payment_id when not given.
    """

    payments: pa.Table
    attempts: pa.Table
    known_rows: Ints | None = None

    @cached_property
    def payment_row(self) -> Ints:
        """Row in ``payments`` of each attempt's payment. Raises ValueError where an attempt has no payment."""
        if self.known_rows is not None:
            return self.known_rows
        index = pd.Index(self.payments["payment_id"].to_pandas())
        rows = index.get_indexer(pd.Index(self.attempts["payment_id"].to_pandas()))
        if (rows < 0).any():
            raise ValueError(f"{int((rows < 0).sum())} attempts belong to no payment of the log")
        return np.asarray(rows, dtype=np.int64)
