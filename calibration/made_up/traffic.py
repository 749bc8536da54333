"""The payments that the made-up merchant's customers bring: when, who, with which card, how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from routesim.calibration.made_up.described import Traffic, described_traffic
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.draws import generator, identities
from routesim.sim.errors import BadInput
from routesim.sim.log import PAYMENTS
from routesim.sim.trace import timestamps

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_HOUR_S = 3600.0



class _Cards(NamedTuple):
    """Cards of the pool, by row: bank (its place in the document), brand, BIN and opaque token."""

    bank: Ints
    brand: npt.NDArray[np.object_]
    bin: npt.NDArray[np.object_]
    token: npt.NDArray[np.object_]


def make_trace(days: int, per_day: float, seed: int, start: datetime = MONDAY) -> pa.Table:
    """A table of PAYMENTS: ``days`` days (of UTC) from ``start``, ``per_day`` payments a day on the mean of a week.

    Arrivals are Poisson with the local hours' and weekdays' rhythm; every payment is an order of its own (who comes
    back after a failure is the simulation's affair). The same arguments give the same table. Raises BadInput where
    there would be nothing to make.
    """
    if days < 1:
        raise BadInput(f"a history lasts at least one day; found {days}", "days")
    if not 0 < per_day < 1e7:
        raise BadInput(f"between 0 and 10,000,000 payments a day can be made up; found {per_day:g}", "per_day")
    about = described_traffic()
    start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    arrived, is_mit = _arrivals(about, days, per_day, seed, start)
    return pa.table(_columns(about, arrived, is_mit, days * per_day, seed), schema=PAYMENTS)


def _arrivals(about: Traffic, days: int, per_day: float, seed: int,
              start: datetime) -> tuple[Floats, Bools]:
    """Seconds since the epoch in order, and which of them are merchant-initiated."""
    hours = pd.date_range(start, periods=24 * days, freq="h").tz_convert(ZoneInfo(about.timezone))
    streams = []
    for initiator, share in (("CIT", 1 - about.mit_share), ("MIT", about.mit_share)):
        luck = generator("made-up", seed, "arrivals", initiator)
        by_hour, by_weekday = (np.array(w[initiator]) / np.mean(w[initiator]) for w in (about.hours, about.weekdays))
        expected = per_day * share / 24 * by_hour[hours.hour] * by_weekday[hours.day_of_week]
        hour = np.repeat(np.arange(len(hours)), luck.poisson(expected))
        streams.append(start.timestamp() + _HOUR_S * (hour + luck.random(len(hour))))
    arrived = np.concatenate(streams)
    order = np.argsort(arrived, kind="stable")
    return arrived[order], order >= len(streams[0])


def _columns(about: Traffic, arrived: Floats, is_mit: Bools, expected: float,
             seed: int) -> list[pa.Array]:
    n = len(arrived)
    customers = max(20, round(expected * about.customers_per_payment))
    names = _opaque("customer", "U", customers, seed)
    frequency = np.exp(about.frequency_sigma * generator("made-up", seed, "frequency").standard_normal(customers))
    stored = generator("made-up", seed, "stored").random(customers) < about.stored_share
    stored[0] |= not stored.any()  # a tiny pool: merchant-initiated payments need someone
    has_second = generator("made-up", seed, "second card").random(customers) < about.second_card_share
    device = _pick(about.devices, customers, seed, "device")
    cards = _cards(about, 2 * customers, seed)

    customer = np.where(is_mit, _choose(frequency * stored, n, seed, "MIT customer"),
                        _choose(frequency, n, seed, "CIT customer"))
    luck = generator("made-up", seed, "payment").random((n, 5))
    second = has_second[customer] & (luck[:, 0] < about.second_card_use) & ~is_mit
    card = customer + customers * second
    bank, bank_names, banks = cards.bank[card], np.array(list(about.banks), dtype=object), list(about.banks.values())
    country = np.array([b.country for b in banks], dtype=object)[bank]
    currency = _by_group(country, {c: (list(w), list(w.values())) for c, w in about.currencies.items()}, luck[:, 1])
    channel = _pick(about.channels, n, seed, "channel")
    amount = _amounts(about, currency, np.array([b.amount_factor for b in banks])[bank], is_mit, seed)

    # Months without interest: pesos on a Mexican card, asked for by the customer.
    terms = about.installments
    qualifies = (currency == "MXN") & (country == "MX") & ~is_mit & (amount >= terms.least_usd)
    months = np.array(list(terms.months))[_inverse(list(terms.months.values()), luck[:, 3])]
    installments = np.where(qualifies & (luck[:, 2] < terms.share), months, 1)

    values: dict[str, object] = {
        "payment_id": [f"P{i:08d}" for i in range(n)],
        "order_id": [f"O{i:08d}" for i in range(n)],
        "merchant_id": [about.merchant] * n,
        "customer_id": names[customer],
        "card_token": cards.token[card],
        "arrived_at": timestamps(arrived),
        "due_at": _due(arrived, is_mit),
        "amount_usd": amount,
        "currency": currency,
        "card_brand": cards.brand[card],
        "card_bin": cards.bin[card],
        "bank": bank_names[bank],
        "card_country": country,
        "channel": channel,
        "device": device[customer],
        "initiator": np.where(is_mit, "MIT", "CIT").astype(object),
        "stored_credential": is_mit | stored[customer] & ~second,
        "installments": installments,
        "mcc": [about.mcc] * n,
        "three_ds": ~is_mit & (channel != "call_center") & (luck[:, 4] < about.three_ds_share),
        "warm_up": np.zeros(n, dtype=bool),
    }
    return [_array(values.get(field.name), field.type, n) for field in PAYMENTS]


def _array(values: object, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _due(arrived: Floats, is_mit: Bools) -> pa.Array:
    """A merchant-initiated payment falls due on the hour and is sent within it."""
    due = timestamps(np.floor(arrived / _HOUR_S) * _HOUR_S)
    return pa.array(np.where(is_mit, due.cast(pa.int64()).to_numpy(), 0), mask=~is_mit).cast(due.type)


def _cards(about: Traffic, n: int, seed: int) -> _Cards:
    banks = list(about.banks.values())
    luck = generator("made-up", seed, "cards").random((n, 3))
    bank = _inverse([b.share for b in banks], luck[:, 0])
    brand = _by_group(bank, {i: (list(b.brands), list(b.brands.values())) for i, b in enumerate(banks)}, luck[:, 1])
    # A bank's BINs fall off as 1/rank.
    groups = {f"{i}|{name}": (bins, [1 / (1 + r) for r in range(len(bins))])
              for i, b in enumerate(banks) for name, bins in b.bins.items()}
    of_card = np.array([f"{i}|{name}" for i, name in zip(bank, brand, strict=True)], dtype=object)
    bins = _by_group(of_card, groups, luck[:, 2])
    return _Cards(bank, brand, bins, _opaque("card", "T", n, seed))


def _opaque(kind: str, letter: str, n: int, seed: int) -> npt.NDArray[np.object_]:
    """Names that tell nothing. The letter keeps one of sixteen digits from looking like a card's number."""
    return np.array([f"{letter}{k:016x}" for k in identities(f"made-up {kind} {seed} {i}" for i in range(n))],
                    dtype=object)


def _amounts(about: Traffic, currency: npt.NDArray[np.object_], factor: Floats, is_mit: Bools,
             seed: int) -> Floats:
    median, sigma = np.ones(len(currency)), np.ones(len(currency))
    for name, amount in about.amounts.items():
        median[currency == name], sigma[currency == name] = amount.median_usd, amount.sigma
    z = generator("made-up", seed, "amount").standard_normal(len(currency))
    usd = median * factor * np.where(is_mit, about.mit_amount_factor, 1.0) * np.exp(sigma * z)
    return np.maximum(np.round(usd, 2), 1.0)


def _inverse(weights: Sequence[float] | Floats, u: Floats) -> Ints:
    """The index that each uniform draw falls on, by weight."""
    bounds = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(bounds, u, side="right"), len(bounds) - 1)


def _choose(weights: Floats, n: int, seed: int, purpose: str) -> Ints:
    return _inverse(weights, generator("made-up", seed, purpose).random(n))


def _pick(weights: Mapping[str, float], n: int, seed: int, purpose: str) -> npt.NDArray[np.object_]:
    u = generator("made-up", seed, purpose).random(n)
    return np.array(list(weights), dtype=object)[_inverse(list(weights.values()), u)]


def _by_group(of: npt.NDArray[Any], choices: Mapping[Any, tuple[list[str], list[float]]],
              u: Floats) -> npt.NDArray[np.object_]:
    """For each row a name out of those of its group, by weight."""
    chosen = np.empty(len(of), dtype=object)
    for group, (names, weights) in choices.items():
        rows = np.flatnonzero(of == group)
        chosen[rows] = np.array(names, dtype=object)[_inverse(weights, u[rows])]
    return chosen
