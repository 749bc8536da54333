"""The ``experiment:`` block of a scenario: a live test that is first run in the simulator."""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from routesim.policies.description import Description, key_error
from routesim.policies.durations import Duration, PositiveDuration, parse_duration
from routesim.policies.experiment.assignment import Experiment, Stage, Unit
from routesim.policies.vocabulary import BASIS_POINTS
from routesim.reports.statistics.auto_winner import RULES as DIRECT

DAY_S = 86_400.0
MOST_DAYS = 365

RuleName = Literal["auto_winner", "fixed_horizon", "obrien_fleming", "pocock", "always_valid", "cuped"]
Split = dict[str, Annotated[int, Field(ge=0, le=BASIS_POINTS)]]


class RampStage(Description):
    """A stretch at the beginning of the test with a split of its own."""

    for_: PositiveDuration = Field(alias="for", description="how long it lasts")
    split: Split = Field(description="the variants' basis points, which sum to 10,000")


class ExperimentBlock(Description):
    """A live test of two policies of the scenario or more, the first of which is the control.

    It begins where the trace's warm-up ends and lasts ``days``; looks come at the end of each of them.
    """

    unit: Unit = Field(default="payment", description="what is bucketed")
    variants: Split = Field(min_length=2, description="policies and their basis points, which sum to 10,000; the first "
                                                      "is the control")
    days: int = Field(default=28, ge=1, le=MOST_DAYS)
    rule: RuleName = Field(default="auto_winner", description="the rule whose winner `act` follows")
    act: bool = Field(default=False, description="the winner gets all traffic from then on; else it is only recorded")
    matures_after: Duration = Field(default="0s", description="a look counts the payments that are as old as this")
    salt: str = Field(default="", description="put before each id, so that experiments at the same time do not mix")
    ramp: list[RampStage] = Field(default=[], description="splits of the first stretches; `variants` is the last one")
    cache: Duration = Field(default="24h", description="for how long an assignment is kept when the split changes")
    merchants: list[str] | None = Field(default=None, min_length=1, description="only these; left out, all")
    looks: Literal["daily"] = Field(default="daily", description="when the rules are asked")

    @field_validator("rule", mode="before")
    @classmethod
    def _one_name(cls, rule: object) -> object:
        """A rule of ``routesim power`` that no experiment asks is told as that."""
        if isinstance(rule, str) and rule in DIRECT and rule not in get_args(RuleName):
            raise ValueError(f"{rule} is a rule of `routesim power --rule` alone; an experiment asks "
                             f"{', '.join(get_args(RuleName))}")
        return rule

    @field_validator("variants")
    @classmethod
    def _whole(cls, variants: Split) -> Split:
        _sums(variants)
        for name, points in variants.items():
            if points == 0:
                raise key_error(name, "a variant needs a share above 0; leave it out otherwise")
        return variants

    @model_validator(mode="after")
    def _fits(self) -> ExperimentBlock:
        length_s = self.days * DAY_S
        if parse_duration(self.matures_after) >= length_s:
            raise key_error("matures_after", f"no payment of {self.days} days would ever count; make the test longer "
                                             f"or matures_after shorter")
        if sum(parse_duration(stage.for_) for stage in self.ramp) >= length_s:
            raise key_error("ramp", f"its stages take up all {self.days} days, so that the split of `variants` would "
                                    f"never come")
        for stage in self.ramp:
            if set(stage.split) != set(self.variants):
                raise key_error("ramp", f"a split must name just the variants ({', '.join(self.variants)}), 0 included")
            _sums(stage.split)
        return self

    @property
    def control(self) -> str:
        """The first variant."""
        return next(iter(self.variants))

    @property
    def matures_s(self) -> float:
        """The age in s from which a payment counts."""
        return parse_duration(self.matures_after)

    def stages(self, start_s: float) -> tuple[Stage, ...]:
        """The ramp's stages and the last one, in the order of ``variants``; ``start_s`` in s since 1970 UTC."""
        found, at_s = [], start_s
        for stage in self.ramp:
            found.append(Stage(at_s, tuple((name, stage.split[name]) for name in self.variants)))
            at_s += parse_duration(stage.for_)
        return (*found, Stage(at_s, tuple(self.variants.items())))

    def experiment(self, start_s: float, salt: str, stages: tuple[Stage, ...] | None = None,
                   until_s: float | None = None) -> Experiment:
        """How payments are assigned from ``start_s`` on, for ``days`` unless ``until_s`` says otherwise."""
        return Experiment("experiment", stages or self.stages(start_s), self.unit, salt,
                          None if self.merchants is None else frozenset(self.merchants),
                          math.inf if until_s == math.inf else until_s or start_s + self.days * DAY_S,
                          parse_duration(self.cache))


def _sums(split: Split) -> None:
    if sum(split.values()) != BASIS_POINTS:
        told = ", ".join(f"{name}: {points}" for name, points in split.items())
        raise ValueError(f"the basis points must sum to {BASIS_POINTS:,}; {told} sum to {sum(split.values()):,}")
