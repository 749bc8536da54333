"""Builders of tiny PAYMENT_ML extracts, written on the fly."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

START = datetime(2026, 1, 5, 12, 0, 0)
VIEWS = {
    "payments": "VW_ATHENA_PAYMENT",
    "attempts": "VW_ATHENA_PAYMENT_ATTEMPT",
    "events": "VW_ATHENA_PAYMENT_EVENTS",
    "router": "VW_SMART_ROUTING_ATTEMPTS",
    "orders": "VW_ATHENA_ORDER",
}


@dataclass
class Extract:
    """Rows of the views, by which a test says what it needs and no more. Times are seconds after START."""

    payments: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    router: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)

    def payment(self, payment_id: str, at_s: float = 0, order: str | None = None, **other: Any) -> Extract:
        """A payment at a whole second, and its order where that is new."""
        order = order or f"O{payment_id}"
        at = START + timedelta(seconds=int(at_s))
        self.payments.append({
            "PAYMENT_ID": payment_id, "ORDER_ID": order, "COMMERCE_ID": "shop", "PAYMENT_DATE": at.date(),
            "PATMENT_TIME": at.time().isoformat(), "CARD_BIN": "41111122", "CARD_BRAND": "visa", "BANK": "HSBC",
            "PAYMENT_AMOUNT_USD": 100.0, "MCI_MSI_TYPE": "CIT", "PREVIOUS_ORDER_ERROR_CODE": None,
            "PREVIOUS_ORDER_PROCESSOR": None, **other,
        })  # fmt: skip
        if not any(row["ORDER_ID"] == order for row in self.orders):
            self.orders.append({"ORDER_ID": order, "TARGET_USER_ID": "ana@example.com", "PAYMENT_CURRENCY": "MXN",
                                "CARD_COUNTRY": "mx", "CHANNEL_ID": 1})  # fmt: skip
        return self

    def attempt(
        self, payment_id: str, number: int, sent_s: float | None = 0, latency_s: float = 0.5, code: str | None = None,
        processor: str = "Worldpay", events: bool = True, **other: Any,
    ) -> Extract:  # fmt: skip
        """An attempt (approved unless it has a code), its two events, unless told not, and its row of the router's."""
        attempt_id = other.pop("attempt_id", f"{payment_id}-{number}")
        approved = code is None
        self.attempts.append({
            "PAYMENT_ATTEMPT_ID": attempt_id, "PAYMENT_ID": payment_id, "PAYMENT_ATTEMPT_SEQUENCE_ORDER": number,
            "PAYMENT_ATTEMPT_STATUS": "APPROVED" if approved else "DECLINED",
            "PAYMENT_ATTEMPT_PROCESSOR_NAME": processor, "PAYMENT_ATTEMPT_PROCESSOR_CODE": processor.lower(),
            "MERCHANT_PAYMENT_PROCESSOR_ID": "76", "PAYMENT_ATTEMPT_ERROR_CODE": code,
            "PAYMENT_ATTEMPT_ERROR_CATEGORY": None, "PAYMENT_ATTEMPT_HARD_SOFT_TYPE": None,
            "PAYMENT_ATTEMPT_APPROVED_INDICATOR": approved, "DENIED_BY_PSP_OR_FRAUD": None,
            "PAYMENT_ATTEMPT_ACCEPTANCE_RATE_INDICATOR": True,
            "DYNAMIC_ROUTING_DETAIL": f'{{"position": {number}}}', **other,
        })  # fmt: skip
        if events and sent_s is not None:
            self.event(attempt_id, 1, "REQUESTED", sent_s)
            self.event(attempt_id, 2, "APPROVED" if approved else "DECLINED", sent_s + latency_s)
        return self

    def event(self, attempt_id: str, index: int, status: str, at_s: float, kind: str = "AUTHORIZATION") -> Extract:
        """An event of an attempt."""
        self.events.append({"PAYMENT_ATTEMPT_ID": attempt_id, "PAYMENT_ATTEMP_EVENT_INDEX": index, "EVENT_TYPE": kind,
                            "EVENT_STATUS": status, "EVENT_CREATED_AT": START + timedelta(seconds=at_s),
                            "EVENT_ERROR_CODE": None})  # fmt: skip
        return self

    def routed(
        self, payment_id: str, answered_s: float, latency_ms: float, code: str | None = None,
        processor: str = "worldpay", skipped: str | None = None,
    ) -> Extract:  # fmt: skip
        """A row of the router's own log."""
        self.router.append({"PROPERTIES_TRANSACTION_ID": payment_id, "PROPERTIES_PROCESSOR_CODE": processor,
                            "PROPERTIES_RESULT_ERROR_CODE": code, "PROPERTIES_RESULT_PROCESS_TIME": latency_ms,
                            "PROPERTIES_RESULT_SKIPPED_REASON": skipped,
                            "ORIGINAL_TIMESTAMP": START + timedelta(seconds=answered_s)})  # fmt: skip
        return self

    def write(self, folder: Path, kind: str = "parquet", without: tuple[str, ...] = ()) -> Path:
        """Write the views that have rows, but for those of ``without``; return the folder."""
        folder.mkdir(exist_ok=True)
        for name, view in VIEWS.items():
            rows = getattr(self, name)
            if rows and name not in without:
                write_view(folder, view, rows, kind)
        return folder


def write_view(folder: Path, view: str, rows: list[dict[str, Any]], kind: str = "parquet") -> None:
    """One view's file."""
    frame = pd.DataFrame(rows)
    if kind == "csv":
        frame.to_csv(folder / f"{view}.csv", index=False)
    else:
        frame.to_parquet(folder / f"{view}.parquet", index=False)


def two_payments() -> Extract:
    """P1: declined 51 at Worldpay, approved at Elavon 3 s later. P2: approved at once at MIT, an hour later."""
    extract = Extract()
    extract.payment("P1", 0).attempt("P1", 1, 0.25, 0.5, "51").attempt("P1", 2, 3.75, 1.0, None, "Elavon")
    extract.payment("P2", 3600).attempt("P2", 1, 3600.5, 0.75, None, "MIT")
    return extract
