"""The hand-written documents of the made-up merchant: its world, its traffic, its rules, its database's columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML

from routesim.policies.catalog import PolicyParts, build
from routesim.policies.vocabulary import Policy
from routesim.sim.model import Model

_FOLDER = Path(__file__).parent
_ARROW = {"VARCHAR": pa.string(), "VARIANT": pa.string(), "NUMBER": pa.int64(), "FLOAT": pa.float64(),
          "BOOLEAN": pa.bool_(), "DATE": pa.date32(), "TIME": pa.time32("s"), "TIMESTAMP": pa.timestamp("us")}

Share = Annotated[float, Field(ge=0, le=1)]
Weights = dict[str, Annotated[float, Field(ge=0)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Amount(_Part):
    """A lognormal amount."""

    median_usd: float = Field(gt=0)
    sigma: float = Field(gt=0)


class Installments(_Part):
    """Payments in months without interest: the share of those that qualify, and the weight of each term."""

    share: Share
    least_usd: float
    months: dict[int, float]


class Bank(_Part):
    """An issuer: its share of customers, its cards' brands by weight, and the BINs of each, most frequent first."""

    country: str
    share: float = Field(ge=0)
    amount_factor: float = Field(default=1.0, gt=0)
    brands: Weights
    bins: dict[str, list[Annotated[str, Field(pattern=r"^\d{6}$")]]]

    @model_validator(mode="after")
    def _bins_for_brands(self) -> Bank:
        if set(self.brands) != set(self.bins):
            raise ValueError("brands and bins must name the same brands")
        return self


class Traffic(_Part):
    """Who pays, how much and when; see traffic.yaml."""

    timezone: str
    merchant: str
    mcc: str
    mit_share: Share
    stored_share: Share
    second_card_share: Share
    second_card_use: Share
    customers_per_payment: float = Field(gt=0)
    frequency_sigma: float = Field(gt=0)
    hours: dict[str, Annotated[list[float], Field(min_length=24, max_length=24)]]
    weekdays: dict[str, Annotated[list[float], Field(min_length=7, max_length=7)]]
    channels: Weights
    devices: Weights
    three_ds_share: Share
    installments: Installments
    amounts: dict[str, Amount]
    mit_amount_factor: float = Field(gt=0)
    currencies: dict[str, Weights]
    banks: dict[str, Bank]


def _read(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(_FOLDER / name)


def described_world() -> Model:
    """The made-up world: four processors, their outages, the issuers and the customers (a fresh document)."""
    return Model.model_validate(_read("world.yaml"))


@lru_cache(maxsize=1)
def described_traffic() -> Traffic:
    """The made-up merchant's traffic."""
    return Traffic.model_validate(_read("traffic.yaml"))


@lru_cache(maxsize=1)
def legacy_policy() -> PolicyParts:
    """The merchant's own rules, as a scenario describes a policy."""
    return PolicyParts.model_validate(_read("legacy.yaml"))


def legacy_text() -> str:
    """The same as written."""
    return (_FOLDER / "legacy.yaml").read_text(encoding="utf-8")


def legacy_factory() -> Callable[[], Policy]:
    """Makes a fresh policy of the merchant's own rules."""
    return build(legacy_policy())


@lru_cache(maxsize=1)
def view_schemas() -> dict[str, pa.Schema]:
    """The extract's views: their columns in order, with their Arrow types."""
    return {view: pa.schema([(name, _ARROW[kind]) for name, kind in columns.items()])
            for view, columns in _read("views.yaml").items()}
