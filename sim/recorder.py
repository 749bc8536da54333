"""Gathers the rows of a simulation by column and makes the attempt log of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from routesim.policies.vocabulary import Decision, DeclineKind, Initiator, Outcome, Payment, Skip
from routesim.sim.log import ATTEMPTS, PAYMENTS, AttemptLog
from routesim.sim.network_rules import Breach
from routesim.sim.trace import Trace, timestamps

_FLUSH_ROWS = 65_536


class AttemptRecord(NamedTuple):
    """One answered attempt of the payment in ``row`` of the log; fields as the columns of ATTEMPTS.

    ``sent_at`` and ``answered_at`` are seconds since the epoch; ``skipped`` is None where nothing was passed over,
    ``breach`` where the attempt broke no rule of the card network.
    """

    row: int
    attempt_number: int
    processor: str
    message_initiator: Initiator
    message_avs: bool | None
    message_mcc: str | None
    sent_at: float
    answered_at: float
    outcome: Outcome
    decline_code: str | None
    decline_kind: DeclineKind | None
    decision: Decision
    rank_position: int
    propensity: float | None
    skipped: tuple[Skip, ...] | None
    late_approval: bool | None
    breach: Breach | None


class Recorder:
    """Rows are appended as they happen and turned into Arrow columns every 65,536, so that Python objects are few."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._trace_rows: list[int] = []
        self._comebacks: list[tuple[int, Payment, bool]] = []
        self._rows: list[AttemptRecord] = []
        self._batches: list[pa.RecordBatch] = []

    def payment(self, trace_row: int) -> int:
        """A payment of the trace has arrived; its row in the log."""
        self._trace_rows.append(trace_row)
        return len(self._trace_rows) - 1

    def comeback(self, donor_row: int, payment: Payment, warm_up: bool) -> int:
        """A payment has arrived that history did not bring."""
        self._comebacks.append((len(self._trace_rows), payment, warm_up))
        self._trace_rows.append(donor_row)
        return len(self._trace_rows) - 1

    def attempt(self, record: AttemptRecord) -> None:
        """An attempt was answered, or given up at its timeout."""
        self._rows.append(record)
        if len(self._rows) >= _FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        names = AttemptRecord._fields
        columns = dict(zip(names, zip(*self._rows, strict=True) if self._rows else ((),) * len(names), strict=True))
        arrays: dict[str, pa.Array] = {"row": pa.array(columns["row"], pa.int64())}
        sent, answered = (np.array(columns[name], dtype=np.float64) for name in ("sent_at", "answered_at"))
        for field in ATTEMPTS:
            if field.name in ("sent_at", "answered_at"):
                arrays[field.name] = timestamps(sent if field.name == "sent_at" else answered)
            elif field.name == "latency_ms":
                # From the rounded times, so that the column is what its definition says.
                latency = np.round(answered * 1e6) - np.round(sent * 1e6)
                arrays[field.name] = pa.array(latency / 1000)
            elif field.name in ("network_rule", "network_fee_usd"):
                part = "rule" if field.name == "network_rule" else "fee_usd"
                arrays[field.name] = pa.array([b and getattr(b, part) for b in columns["breach"]], field.type)
            elif field.name != "payment_id":
                arrays[field.name] = pa.array(columns[field.name], field.type)
        self._batches.append(pa.record_batch(arrays))
        self._rows = []

    def log(self) -> AttemptLog:
        """The finished log: payments in order of arrival, attempts in order of answer."""
        self._flush()
        payments = self._payments()
        table = pa.Table.from_batches(self._batches).combine_chunks()
        rows = table["row"].to_numpy()
        ids = payments["payment_id"].take(table["row"])
        attempts = pa.table([ids if f.name == "payment_id" else table[f.name] for f in ATTEMPTS], schema=ATTEMPTS)
        return AttemptLog(payments, attempts.combine_chunks(), rows)

    def _payments(self) -> pa.Table:
        rows = pa.array(self._trace_rows, pa.int64())
        if not self._comebacks:
            return self._trace.table.take(rows)
        # Those whom history did not bring are rows of their own behind the trace's, and take their place by index.
        index = np.array(self._trace_rows, dtype=np.int64)
        where = [at for at, _, _ in self._comebacks]
        index[where] = len(self._trace) + np.arange(len(where))
        schema = self._trace.table.schema
        returned = [{f.name: getattr(payment, f.name, None) for f in PAYMENTS} | dict(payment.further)
                    | {"warm_up": warm_up} for _, payment, warm_up in self._comebacks]
        moments = timestamps(np.array([payment.arrived_at for _, payment, _ in self._comebacks]))
        columns = [moments if f.name == "arrived_at" else pa.array([row.get(f.name) for row in returned], f.type)
                   for f in schema]
        return pa.concat_tables([self._trace.table, pa.table(columns, schema=schema)]).take(pa.array(index))
