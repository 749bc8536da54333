"""The parts of traffic in which an experiment is read: by device, country, BIN, merchant, hour, day, pay day and value.

Which levels are told apart is laid down from the trace alone, before anything is simulated: the largest of each
dimension, the rest together. So no level is picked for what came out in it.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

MOST_LEVELS = 6
REST = "others"
UNKNOWN = "unknown"
COLUMNS = {"device": "device", "country": "card_country", "BIN": "card_bin", "merchant": "merchant_id"}
DIMENSIONS = (*COLUMNS, "hour", "day", "pay day", "customer value")
_LAST = (REST, UNKNOWN)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TERCILES = ("low", "middle", "high")


@dataclass(frozen=True)
class Strata:
    """How payments are told apart: the ``levels`` of each column that are kept, and each customer's tercile by the USD
    that it wished to pay over the trace."""

    timezone: str
    levels: Mapping[str, tuple[str, ...]]
    tercile: Mapping[str, str]

    @classmethod
    def of(cls, payments: pa.Table, timezone: str) -> Strata:
        """From the payments of the trace (PAYMENTS)."""
        levels = {}
        for dimension, column in COLUMNS.items():
            counts = payments[column].drop_null().value_counts().to_pylist()
            counts.sort(key=lambda each: (-each["counts"], each["values"]))
            levels[dimension] = tuple(each["values"] for each in counts[:MOST_LEVELS])
        spent = payments.filter(payments["customer_id"].is_valid()).group_by("customer_id").aggregate(
            [("amount_usd", "sum")]).sort_by("customer_id")
        usd = spent["amount_usd_sum"].to_numpy()
        cuts = np.quantile(usd, [1 / 3, 2 / 3]) if len(usd) else np.zeros(2)
        names = np.array(_TERCILES)[np.searchsorted(cuts, usd, side="left")]
        return cls(timezone, levels, dict(zip(spent["customer_id"].to_pylist(), names.tolist(), strict=True)))

    def labels(self, payments: pa.Table) -> dict[str, pa.Array]:
        """By dimension, the level of each payment (PAYMENTS); dimensions with one level alone are left out."""
        found: dict[str, pa.Array] = {}
        for dimension, column in COLUMNS.items():
            told = pc.fill_null(payments[column].cast(pa.string()), UNKNOWN).combine_chunks()
            known = pc.is_in(told, value_set=pa.array([*self.levels[dimension], UNKNOWN], pa.string()))
            found[dimension] = pc.if_else(known, told, REST)
        local = pd.DatetimeIndex(payments["arrived_at"].to_pandas()).tz_convert(ZoneInfo(self.timezone))
        block = np.asarray(local.hour) // 6 * 6
        found["hour"] = pa.array([f"{start:02d} to {start + 6:02d} h" for start in block.tolist()], pa.string())
        found["day"] = pa.array([_DAYS[day] for day in local.day_of_week], pa.string())
        found["pay day"] = pa.array(["pay day" if _pay_day(each.year, each.month, each.day) else "other days"
                                     for each in local], pa.string())
        found["customer value"] = pa.array([self.tercile.get(each, UNKNOWN) if each else UNKNOWN
                                            for each in payments["customer_id"].to_pylist()], pa.string())
        return {name: column for name, column in found.items() if len(column.unique()) > 1}


def in_order(place: tuple[str, str]) -> tuple[int, int, int, str]:
    """Sorts (dimension, level) as a reader expects them."""
    dimension, level = place
    ranked = {name: i for i, name in enumerate((*_DAYS, *_TERCILES))}
    return DIMENSIONS.index(dimension), _LAST.index(level) + 1 if level in _LAST else 0, ranked.get(level, 0), level


def _pay_day(year: int, month: int, day: int) -> bool:
    """The 15th and the last of the month, when Mexico pays its wages (quincenas), and the day after each."""
    return day in (15, 16, monthrange(year, month)[1], 1)
