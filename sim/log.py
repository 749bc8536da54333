"""The attempt log: one flat record per payment and per attempt, the same for history and for simulation.

Every metric is a function of these two tables, so a figure means the same on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from routesim.sim.arrays import Ints

MICROSECONDS = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()


def _field(name: str, kind: pa.DataType, doc: str, unit: str | None = None, nullable: bool = True) -> pa.Field:
    metadata = {"doc": doc} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


PAYMENTS = pa.schema([
    _field("payment_id", _TEXT, "one authorisation wish", nullable=False),
    _field("order_id", _TEXT, "the purchase that the payment pays for", nullable=False),
    _field("previous_payment_id", _TEXT, "the failed payment of the same order that this one follows"),
    _field("merchant_id", _TEXT, "the merchant"),
    _field("customer_id", _TEXT, "hash of the customer"),
    _field("card_token", _TEXT, "hash of the card"),
    _field("arrived_at", MICROSECONDS, "when the payment reached the router", "UTC", nullable=False),
    _field("due_at", MICROSECONDS, "when a merchant-initiated payment fell due", "UTC"),
    _field("amount_usd", pa.float64(), "amount", "USD", nullable=False),
    _field("currency", _TEXT, "currency of presentment, ISO 4217", nullable=False),
    _field("card_brand", _TEXT, "visa, mastercard, amex, ..., in lower case"),
    _field("card_bin", _TEXT, "the card number's first six digits, the most that is ever kept"),
    _field("bank", _TEXT, "the issuer, in lower case"),
    _field("card_country", _TEXT, "the issuer's country, ISO 3166"),
    _field("channel", _TEXT, "web, app, call_center, ..."),
    _field("device", _TEXT, "kind of device (never its id)"),
    _field("initiator", _TEXT, "CIT, MIT or unknown", nullable=False),
    _field("stored_credential", pa.bool_(), "whether the card is on file"),
    _field("installments", pa.int16(), "number of instalments"),
    _field("mcc", _TEXT, "merchant category code"),
    _field("three_ds", pa.bool_(), "whether 3-D Secure was used"),
    _field("logged_processor", _TEXT, "where history sent the first attempt"),
    _field("logged_approved", pa.bool_(), "whether history approved it in the end"),
    _field("warm_up", pa.bool_(), "arrived before the measured window: it counts in no figure", nullable=False),
])

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
    _field("skip_reason", _TEXT, "why a better processor was passed over"),
    _field("late_approval", pa.bool_(), "of a timeout: whether the issuer approved all the same; null in history"),
    _field("network_rule", _TEXT, "the card network's rule on reattempts that it breaks"),
    _field("network_fee_usd", pa.float64(), "what the network charges for that", "USD"),
])


@dataclass(frozen=True)
class AttemptLog:
    """Payments and their attempts.

    ``payments`` follows PAYMENTS in order of arrival, ``attempts`` follows ATTEMPTS in order of ``answered_at``.
    ``payment_row`` (int64, one per attempt) points into ``payments``; it is derived from payment_id when not given.
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
