"""Attempt logs from compact rows, for tests.

Times are seconds after START; what a row does not name takes a plain default.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from routesim.sim.log import ATTEMPTS, MICROSECONDS, PAYMENTS, AttemptLog

START = datetime(2026, 2, 2, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The moment that many seconds after START."""
    return START + timedelta(seconds=seconds)


def payment(payment_id: str, arrived_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A row of ``payments``: 100 USD, CIT, visa, its own order; ``due_s`` gives due_at in seconds."""
    due_s = fields.pop("due_s", None)
    row: dict[str, Any] = dict.fromkeys(PAYMENTS.names)
    row |= {
        "payment_id": payment_id, "order_id": f"order-{payment_id}", "arrived_at": at(arrived_s), "amount_usd": 100.0,
        "due_at": None if due_s is None else at(due_s), "currency": "USD", "card_brand": "visa", "bank": "a bank",
        "initiator": "CIT", "warm_up": False,
    }
    return row | fields


def attempt(
    payment_id: str, number: int, processor: str, sent_s: float, took_s: float, outcome: str, **fields: Any
) -> dict[str, Any]:
    """A row of ``attempts`` that was answered ``took_s`` seconds after it was sent."""
    row: dict[str, Any] = dict.fromkeys(ATTEMPTS.names)
    row |= {
        "payment_id": payment_id, "attempt_number": number, "processor": processor, "sent_at": at(sent_s),
        "answered_at": at(sent_s + took_s), "latency_ms": took_s * 1e3, "outcome": outcome, "decision": "rank",
    }
    return row | fields


def log(payments: Iterable[dict[str, Any]], attempts: Iterable[dict[str, Any]]) -> AttemptLog:
    """The log of these rows, sorted as AttemptLog asks."""
    by_arrival = sorted(payments, key=lambda row: row["arrived_at"])
    by_answer = sorted(attempts, key=lambda row: row["answered_at"])
    return AttemptLog(
        pa.Table.from_pylist(by_arrival, schema=PAYMENTS), pa.Table.from_pylist(by_answer, schema=ATTEMPTS)
    )


def outages(*rows: tuple[str, str, float, float]) -> pa.Table:
    """Outages from (processor, kind, start, end) in seconds after START."""
    schema = pa.schema([("processor", pa.string()), ("kind", pa.string()), ("start", MICROSECONDS),
                        ("end", MICROSECONDS)])
    return pa.Table.from_pylist(
        [{"processor": p, "kind": k, "start": at(start), "end": at(end)} for p, k, start, end in rows], schema=schema
    )
