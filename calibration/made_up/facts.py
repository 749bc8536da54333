"""What several views of the extract tell, worked out once; and how columns become tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from routesim.calibration.made_up.cut import Cut
from routesim.calibration.made_up.rules import MerchantRules
from routesim.sim.arrays import Bools, Floats
from routesim.sim.trace import timestamps

PROCESSOR_IDS = {"Worldpay": 76, "MIT": 85, "Elavon": 91, "Amex": 97}
CHANNEL_IDS = {"web": 1, "app": 2, "call_center": 3}
CATEGORIES = {"05": "DO_NOT_HONOR", "14": "INVALID_CARD", "41": "LOST_CARD", "43": "STOLEN_CARD",
              "51": "INSUFFICIENT_FUNDS", "54": "EXPIRED_CARD", "59": "FRAUD", "61": "LIMIT_EXCEEDED",
              "65": "LIMIT_EXCEEDED", "91": "ISSUER_UNAVAILABLE", "96": "PROCESSOR_ERROR", "TO": "TIMEOUT"}
_STATUS = {"approved": "APPROVED", "declined": "DECLINED", "unavailable": "DECLINED", "timeout": "ERROR",
           "refused": "DECLINED"}

Columns = dict[str, Any]
Object = npt.NDArray[np.object_]


class Facts:
    """The cut, and by attempt: status, code, category, kind, processor's id and code; by payment: rule and bank.

    ``first_of_order`` holds each order's first payment, whose amount, currency and card are the order's.
    """

    def __init__(self, cut: Cut, rules: MerchantRules, merchant: str, timeout_code: str) -> None:
        self.payments, self.attempts, self.orders, self.merchant = cut.payments, cut.attempts, cut.orders, merchant
        outcome = self.attempts["outcome"].astype(object)
        self.status: Object = np.where(self.attempts["pending"], "PENDING", outcome.map(_STATUS)).astype(object)
        failed = (outcome.notna() & (outcome != "approved")).to_numpy()
        code = self.attempts["decline_code"].astype(object)
        code = code.where(code.notna() | (outcome != "timeout"), timeout_code)
        self.code = or_none(failed, code.to_numpy(object))
        self.category = categories(self.code)
        # What is no issuer's word may be tried again, so that the source calls it soft.
        self.kind = or_none(failed, self.attempts["decline_kind"].fillna("soft").str.upper().to_numpy(object))
        self.processor_id: Object = np.array([PROCESSOR_IDS.get(p) for p in self.attempts["processor"]], dtype=object)
        self.processor_code: Object = self.attempts["processor"].str.lower().to_numpy(object)
        rule = rules.met_by(self.payments)
        self.rule_id = or_none(rule >= 0, rule.astype(str).astype(object))
        self.rule_label: Object = np.array([rules.labels[i] if i >= 0 else None for i in rule], dtype=object)
        self.bank: Object = self.payments["bank"].str.upper().to_numpy(object)
        self.first_of_order = self.payments.iloc[self.orders["first"].to_numpy()].reset_index(drop=True)

    def of_last(self, values: Object) -> Object:
        """By payment, a value of its last attempt; None where it has no attempt."""
        return np.array([*values, None], dtype=object)[self.payments["last"].to_numpy()]

    def of_payment(self, column: str) -> Object:
        """By attempt, a column of its payment."""
        return self.payments[column].to_numpy(object)[self.attempts["row"].to_numpy()]


def or_none(known: Bools, values: Object) -> Object:
    """The values where they are known, else None."""
    chosen = values.copy()
    chosen[~known] = None
    return chosen


def texts(values: Object) -> list[str | None]:
    """The values as text; None stays."""
    return [None if value is None else str(value) for value in values]


def categories(codes: Object) -> Object:
    """The source's word for each code; None stays."""
    return np.array([None if code is None else CATEGORIES.get(code, "OTHER") for code in codes], dtype=object)


def date_and_time(moments: Floats) -> tuple[pa.Array, pa.Array]:
    """Seconds since the epoch as a date and a time of whole seconds."""
    whole = np.floor(moments).astype(np.int64)
    days, clock = (whole // 86_400).astype(np.int32), (whole % 86_400).astype(np.int32)
    return pa.array(days, pa.int32()).cast(pa.date32()), pa.array(clock, pa.int32()).cast(pa.time32("s"))


def naive(moments: Floats) -> pa.Array:
    """Seconds since the epoch as timestamps without a zone."""
    return timestamps(moments).cast(pa.timestamp("us"))


def as_table(schema: pa.Schema, columns: Columns) -> pa.Table:
    """The columns in the schema's order and types; those not given are null."""
    unknown = set(columns) - set(schema.names)
    assert not unknown, f"no column of the view: {sorted(unknown)}"
    n = len(next(iter(columns.values())))
    return pa.table([_column(columns.get(field.name), field.type, n) for field in schema], schema=schema)


def _column(values: Any, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if isinstance(values, pd.Series):
        values = values.to_numpy(object if kind == pa.string() else None)
    return pa.array(values, kind, from_pandas=True)
