"""What a scenario assumes of the world: outages that are added, processors that change or appear, other traffic."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from routesim.policies.conditions import When
from routesim.policies.description import Description, key_error
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.scenarios.document.moments import Moment

Share = Annotated[float, Field(gt=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class AddedOutage(Description):
    """An outage that is added to those of the model: ``loss`` is the share of attempts that it takes.

    An attempt that it takes ends as a timeout, or, where ``code`` is given, as unavailable with that code.
    """

    processors: list[str] = Field(min_length=1)
    when: When = Field(default={}, description="which payments it touches; left out, all of them")
    start: Moment
    duration: PositiveDuration
    kind: Literal["down", "partial", "slow"] = "down"
    loss: Share | None = Field(default=None, description="share of attempts lost: 1 when down, needed when partial")
    code: str | None = Field(default=None, description="the decline code it answers with, where it does answer")
    latency_factor: Positive | None = Field(default=None, description="latencies are multiplied by it; needed if slow")

    @model_validator(mode="after")
    def _whole(self) -> AddedOutage:
        if self.kind == "partial" and self.loss is None:
            raise ValueError("a partial outage needs its loss, the share of attempts that it takes")
        if self.kind == "slow" and self.latency_factor is None:
            raise ValueError("a slow outage needs its latency_factor")
        return self

    @property
    def start_s(self) -> float:
        """Its begin, in seconds since the epoch."""
        return self.start.timestamp()

    @property
    def end_s(self) -> float:
        """Its end, in seconds since the epoch."""
        return self.start.timestamp() + parse_duration(self.duration)

    @property
    def loss_share(self) -> float:
        """The share of attempts that it takes: as given, else 1 when down and 0 when slow."""
        if self.loss is not None:
            return self.loss
        return 1.0 if self.kind == "down" else 0.0


class ScenarioOutages(Description):
    """Where outages come from."""

    base: Literal["calibrated", "observed", "none"] = Field(
        default="calibrated", description="drawn from the model, those found in the trace's own window, or none"
    )
    add: list[AddedOutage] = Field(default=[])


class ApprovalShift(Description):
    """A assumed difference in approval, in pp: each world draws it from a normal distribution."""

    mean: float
    sd: NotNegative = 0.0


def _shift(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"mean": value} if is_number else value


Shift = Annotated[ApprovalShift, BeforeValidator(_shift)]


class FeeChange(Description):
    """Fees that differ from the model's; what is left out stays."""

    fixed_usd: NotNegative | None = None
    percent_bps: NotNegative | None = None
    declined_usd: NotNegative | None = None


class CapacityChange(Description):
    """How many attempts a processor takes at one time, and how many more may queue."""

    concurrent: int = Field(ge=1)
    queue: int = Field(default=0, ge=0)


class LatencyChange(Description):
    """Latencies multiplied by a factor."""

    factor: Positive


class ProcessorChange(Description):
    """What is assumed of one processor. ``like`` makes a new one out of one that the model knows.

    An answer that comes after the router gave up is a late approval whenever the issuer approved; ``late_approvals``
    is about the timeouts in which the answer was lost, of which history cannot tell how many reached the issuer.
    """

    like: str | None = None
    approval_pp: Shift | None = Field(default=None, description="a number, or {mean, sd}")
    fee: FeeChange | None = None
    capacity: CapacityChange | None = None
    latency: LatencyChange | None = None
    timeout: PositiveDuration | None = None
    late_approvals: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of lost attempts whose request reached the issuer, who may have approved it; "
                                  "0 unless told")
    currencies: list[str] | None = Field(default=None, min_length=1, description="replaces those of the model")
    card_brands: list[str] | None = Field(default=None, min_length=1, description="replaces those of the model")

    @field_validator("currencies")
    @classmethod
    def _upper(cls, currencies: list[str] | None) -> list[str] | None:
        return currencies and [each.upper() for each in currencies]

    @field_validator("card_brands")
    @classmethod
    def _lower(cls, brands: list[str] | None) -> list[str] | None:
        return brands and [each.lower() for each in brands]


class ApprovalChange(Description):
    """A change of a processor's approval from ``at`` on, for good or until ``until``."""

    at: Moment
    until: Moment | None = None
    processor: str
    when: When = Field(default={}, description="which payments it is about; left out, all of them")
    approval_pp: Shift

    @model_validator(mode="after")
    def _in_order(self) -> ApprovalChange:
        if self.until is not None and self.until <= self.at:
            raise key_error("until", "until must come after at")
        return self


class Arrivals(Description):
    """Traffic multiplied by a factor."""

    factor: Positive = 1.0


class AssumedPatience(Description):
    """How long customers still want what they asked for: a lognormal time from arrival, after which a payment that is
    to be tried again ends. Merchant-initiated payments have no customer who waits."""

    median: PositiveDuration
    sigma: Positive = Field(default=1.0, description="of the logarithm: two thirds lie within a factor e^sigma")
    initiators: list[Literal["CIT", "unknown"]] = Field(default=["CIT", "unknown"], min_length=1)


class WhatIfs(Description):
    """Every what-if about the world; each is marked as assumed in the report."""

    processors: dict[str, ProcessorChange] = Field(default={})
    changes: list[ApprovalChange] = Field(default=[])
    arrivals: Arrivals = Field(default=Arrivals())
    patience: AssumedPatience | None = Field(default=None, description="left out, customers wait for ever")
    stored_credential: Literal["required", "assumed"] = Field(
        default="assumed", description="what a payment that no merchant initiated needs to be tried again after 15 "
                                       "minutes or more: stored_credential true, or nothing")

    @field_validator("processors")
    @classmethod
    def _likes_end(cls, processors: dict[str, ProcessorChange]) -> dict[str, ProcessorChange]:
        for name in processors:
            chain = [name]
            while (like := processors[chain[-1]].like if chain[-1] in processors else None) is not None:
                chain.append(like)
                if like in chain[:-1]:
                    raise key_error(name, f"`like` goes round in a circle: {' -> '.join(chain)}")
        return processors
