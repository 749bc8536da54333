"""When money comes: a clock by which accounts fill, which runs faster on pay days and at other times of the calendar.

With the hazard of recovery λ(t) = exp(effect of the kind of hour t) / mean, the time to recovery is exponential in the
clock's hours C(t) = ∫ exp(effect of the kind of hour s) ds rather than in the wall's: P(not yet) =
exp(-(C(t) - C(t_0)) / mean). Without effects the clock is the wall's, and recovery is memoryless. ``pay_days.yaml``
says on which days wages are paid, by country, with sources.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from routesim.sim.arrays import Floats, Ints
from routesim.sim.model import HourKind, PayDay, PayDays

HOUR_KINDS: tuple[HourKind, ...] = get_args(HourKind)
PAY_DAY_KINDS: tuple[HourKind, ...] = tuple(kind for kind in HOUR_KINDS if "pay day" in kind)
_USUAL = -1  # weekdays' daytime, against which the effects count
_BLOCK_H = 24 * 32  # hours that a clock is extended by at once, so that the order of questions moves no bit
_FILE = Path(__file__).with_name("pay_days.yaml")


@cache
def known_pay_days() -> dict[str, PayDays]:
    """Pay days by country, as ``pay_days.yaml`` tells them."""
    document = YAML(typ="safe", pure=True).load(_FILE.read_text(encoding="utf-8"))
    return {country: PayDays(currency=entry["currency"], days=entry["days"])
            for country, entry in document["countries"].items()}


def countries(card_country: Sequence[str], currency: Sequence[str], pay_days: Mapping[str, PayDays]) -> list[str]:
    """The country whose pay days matter to each payment: the card's, else the currency's; empty for none that is known.

    >>> countries(["MX", "", "FR"], ["USD", "MXN", "EUR"], known_pay_days())
    ['MX', 'MX', '']
    """
    of_currency = {entry.currency: country for country, entry in pay_days.items()}
    return [card if card in pay_days else "" if card else of_currency.get(money, "")
            for card, money in zip(card_country, currency, strict=True)]


def hour_kinds(first_hour: int, hours: int, zone: ZoneInfo, days: Sequence[PayDay]) -> Ints:
    """The kind of each of ``hours`` hours from ``first_hour`` (hours since 1970 UTC) on, (hours,): an index into
    HOUR_KINDS, or -1 for a weekday's daytime. ``days`` are the country's pay days.

    Where a pay day falls on a weekend, wages may come on the Friday before, which is a kind of its own.
    """
    moments = pd.to_datetime((first_hour + np.arange(hours)) * 3600, unit="s", utc=True).tz_convert(zone)
    date = moments.tz_localize(None).normalize()
    pays = _pays(date, days)
    weekday, hour = moments.day_of_week.to_numpy(), moments.hour.to_numpy()
    day = pd.Timedelta(days=1)
    eve = (weekday == 4) & (_pays(date + day, days) | _pays(date + 2 * day, days))
    kinds = np.full(hours, _USUAL, dtype=np.int64)
    names: dict[str, int] = {name: number for number, name in enumerate(HOUR_KINDS)}
    kinds[(hour < 6)] = names["weekday, 0 to 6"]
    kinds[(hour >= 18)] = names["weekday, 18 to 24"]
    kinds[weekday >= 5] = names["weekend"]
    kinds[eve] = names["Friday before a weekend's pay day"]
    kinds[_pays(date - day, days)] = names["day after a pay day"]
    for start, name in ((0, "pay day, 0 to 6"), (6, "pay day, 6 to 12"), (12, "pay day, 12 to 18"),
                        (18, "pay day, 18 to 24")):
        kinds[pays & (hour >= start) & (hour < start + 6)] = names[name]
    return kinds


def _pays(date: pd.DatetimeIndex, days: Sequence[PayDay]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    numbers = [day for day in days if day != "last"]
    paid = np.isin(date.day.to_numpy(), numbers)
    return np.asarray(paid | date.is_month_end) if "last" in days else paid


class Exposure:
    """Hours of each kind since a fixed moment, for one country: a clock before its effects are known."""

    def __init__(self, from_s: float, until_s: float, zone: ZoneInfo, days: Sequence[PayDay]) -> None:
        first = int(np.floor(from_s / 3600))
        hours = int(np.ceil(until_s / 3600)) - first + 1
        kinds = hour_kinds(first, hours, zone, days)
        inside = np.zeros((hours, len(HOUR_KINDS) + 1))
        inside[np.arange(hours), kinds] = 1.0  # -1, the usual kind, is the last column
        self._edges = np.arange(hours + 1, dtype=np.float64) + first
        self._sums = np.concatenate([np.zeros((1, inside.shape[1])), np.cumsum(inside, axis=0)])

    def at(self, moment_s: Floats) -> Floats:
        """Hours of each kind up to each moment, (n, kinds + 1); the last column is a weekday's daytime."""
        hours = moment_s / 3600
        return np.stack([np.interp(hours, self._edges, column) for column in self._sums.T], axis=1)


class RecoveryClock:
    """The clock of one kind of block in one country, from ``from_s`` (seconds since 1970 UTC) on."""

    def __init__(self, from_s: float, zone: ZoneInfo, days: Sequence[PayDay],
                 effects: Mapping[HourKind, float]) -> None:
        self._first = int(np.floor(from_s / 3600))
        self._zone, self._days = zone, tuple(days)
        self._rates = np.exp([effects.get(kind, 0.0) for kind in HOUR_KINDS] + [0.0])
        self._sums = [0.0]  # the clock's reading at each whole hour of the wall's from the first on

    def hours(self, moment_s: float) -> float:
        """The clock's reading at a moment, in its own hours."""
        whole, part = divmod(moment_s / 3600 - self._first, 1.0)
        place = max(int(whole), 0)
        self._reach(place + 1)
        if whole < 0:
            return whole + part
        return self._sums[place] + part * (self._sums[place + 1] - self._sums[place])

    def between(self, from_s: float, until_s: float) -> float:
        """Hours of the clock from one moment to a later one."""
        return self.hours(until_s) - self.hours(from_s)

    def after(self, from_s: float, hours: float) -> float:
        """The moment (s since 1970 UTC) at which ``hours`` of the clock have passed since ``from_s``; infinite beyond
        two years of the wall's."""
        wanted = self.hours(from_s) + hours
        farthest = int(from_s / 3600) - self._first + 2 * 366 * 24
        while self._sums[-1] < wanted:
            if len(self._sums) > farthest:
                return float("inf")
            self._reach(len(self._sums))
        place = bisect_right(self._sums, wanted) - 1
        if place + 1 >= len(self._sums):
            self._reach(place + 1)
        step = self._sums[place + 1] - self._sums[place]
        return 3600.0 * (self._first + place + (wanted - self._sums[place]) / step)

    def _reach(self, place: int) -> None:
        while len(self._sums) <= place:
            kinds = hour_kinds(self._first + len(self._sums) - 1, _BLOCK_H, self._zone, self._days)
            rates = self._rates[kinds].tolist()
            at = self._sums[-1]
            for rate in rates:
                at += rate
                self._sums.append(at)
