"""A scenario: what is replayed, in which worlds, and which policies are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from routesim.calibration.history.profile import is_name, load_profile
from routesim.policies.catalog import PolicyDescription, PolicyParts
from routesim.policies.conditions import CONTEXT
from routesim.policies.description import Description, key_error
from routesim.policies.durations import Duration, parse_duration
from routesim.policies.payment_fields import Fields
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS
from routesim.scenarios.document.complaints import complaint
from routesim.scenarios.document.experiment_block import ExperimentBlock
from routesim.scenarios.document.in_python import plain_values, source_of
from routesim.scenarios.document.likes import expand_likes
from routesim.scenarios.document.moments import Moment, Timezone, format_moment
from routesim.scenarios.document.what_ifs import ScenarioOutages, WhatIfs
from routesim.scenarios.document.yaml_reader import YamlSource
from routesim.sim.errors import BadInput
from routesim.sim.network_rules import Enforcement

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class AdaptiveLuck(Description):
    """As many draws of luck as bring the Monte Carlo error of every lift below ``mc_error_pp``, at most ``max``."""

    max: int = Field(ge=2)
    mc_error_pp: float = Field(gt=0)


def _luck_tag(value: Any) -> str:
    return "(adaptive)" if isinstance(value, dict | AdaptiveLuck) else "(number)"


class Replications(Description):
    """``worlds`` draws of the model, each with ``luck`` draws of luck."""

    worlds: int = Field(ge=1)
    luck: Annotated[
        Annotated[int, Field(ge=1), Tag("(number)")] | Annotated[AdaptiveLuck, Tag("(adaptive)")],
        Discriminator(_luck_tag),
    ] = 1

    @property
    def most_luck(self) -> int:
        """The draws of luck, or the most that there may be."""
        return self.luck.max if isinstance(self.luck, AdaptiveLuck) else self.luck


def _replications(value: Any) -> Any:
    return value if isinstance(value, dict | Replications) else {"worlds": value}


class TraceWindow(Description):
    """The payments to replay. ``from`` and ``until`` bound their arrivals; those of the first ``warm_up`` of that
    window are simulated but count in no figure."""

    source: str
    profile: str = Field(default="payment_ml", description="a profile by name, or a YAML file")
    from_: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    warm_up: Duration = "0s"

    @model_validator(mode="after")
    def _in_order(self) -> TraceWindow:
        if self.from_ is not None and self.until is not None:
            if self.until <= self.from_:
                found = f"from {format_moment(self.from_)} until {format_moment(self.until)}"
                raise key_error("until", f"the window must end after it begins; found {found}")
            if parse_duration(self.warm_up) >= (self.until - self.from_).total_seconds():
                raise key_error("warm_up", "warm_up takes up the whole window, so nothing would be measured")
        return self


class Scenario(Description):
    """A scenario: what is replayed, in which worlds, and which policies are compared.

    Its keys are those of a scenario's file, given as a mapping, as keywords, or as both (keywords win). A moment may be
    a datetime, a path a Path, and a router of your own its class, in place of its dotted path. Paths are relative to
    ``folder``, by default the current folder; ``source`` tells where the parts stand in a file. Raises BadInput, in one
    line, for the first thing that is wrong: reading is as strict as that of a file.

    >>> scenario = rs.Scenario(
    ...     scenario="one_more_attempt", timezone="America/Mexico_City", replications={"worlds": 2, "luck": 2},
    ...     model="models/mine", trace={"source": "extracts/january", "from": "2026-01-10"}, baseline="legacy",
    ...     policies={
    ...         "legacy": {"route": [{"to": ["Worldpay", "Elavon"]}]},
    ...         "retried": {"like": "legacy", "retry": [{"after": "soft", "max_attempts": 2, "delay": "3s",
    ...                                                  "next": "rank"}]},
    ...     })
    >>> list(scenario.policies)
    ['legacy', 'retried']
    >>> rs.Scenario(scenario="lacks_all_else")
    Traceback (most recent call last):
    routesim.sim.errors.BadInput: scenario: 'model' is missing (and 3 more)
    """

    scenario: str
    seed: int = Field(default=0, ge=0)
    timezone: Timezone = Field(default="UTC", description="governs hours, days and pay days; moments are in UTC")
    replications: Annotated[Replications, BeforeValidator(_replications)] = Field(default=Replications(worlds=20))
    model: str
    trace: TraceWindow
    outages: ScenarioOutages = Field(default=ScenarioOutages())
    world: WhatIfs = Field(default=WhatIfs())
    baseline: str
    policies: dict[str, PolicyDescription] = Field(min_length=1)
    network_rules: Enforcement = Field(
        default="enforce",
        description="what becomes of an attempt that a card network's limit on reattempts forbids: refused, let out "
        "for the network's fee (priced), or let out for nothing (off); the first attempt of a customer's own new "
        "payment is never refused",
    )
    experiment: ExperimentBlock | None = Field(
        default=None, description="a live test of some of the policies, which `routesim experiment` runs"
    )
    log: Literal["all", "sample", "none"] = Field(default="all", description="how much of the attempt log is kept")

    _folder: Path = PrivateAttr(default=Path())
    _source: YamlSource = PrivateAttr(default_factory=lambda: YamlSource("scenario"))

    def __init__(self, document: Mapping[str, Any] | None = None, /, *, folder: str | Path = ".",
                 source: YamlSource | None = None, **keys: Any) -> None:
        data = plain_values({**(document or {}), **keys})
        source = source or source_of(data)
        if isinstance(data.get("policies"), dict):
            data["policies"] = expand_likes(data["policies"], source)
        context = {CONTEXT: _payment_fields(data.get("trace"), Path(folder), source)}
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self, context=context)
        except ValidationError as error:
            raise complaint(error, source) from None
        self._folder, self._source = Path(folder), source

    @field_validator("scenario")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return _plain(name)

    @field_validator("policies")
    @classmethod
    def _plain_names(cls, policies: dict[str, PolicyParts]) -> dict[str, PolicyParts]:
        for name in policies:
            try:
                _plain(name)
            except ValueError as error:
                raise key_error(name, str(error)) from None
        return policies

    @model_validator(mode="after")
    def _known_baseline(self) -> Scenario:
        if self.baseline not in self.policies:
            hint = nearest(self.baseline, self.policies)
            raise key_error("baseline", f"{self.baseline!r} is none of the policies{hint}")
        return self

    @model_validator(mode="after")
    def _known_variants(self) -> Scenario:
        if self.experiment is not None:
            for name in self.experiment.variants:
                if name not in self.policies:
                    raise key_error("experiment", f"the variant {name!r} is none of the policies"
                                                  f"{nearest(name, self.policies)}")
        return self

    @property
    def folder(self) -> Path:
        """The folder of the scenario's file."""
        return self._folder

    @property
    def source(self) -> YamlSource:
        """Where the scenario's parts stand in its file."""
        return self._source

    @property
    def zone(self) -> ZoneInfo:
        """The time zone that governs hours, days and pay days."""
        return ZoneInfo(self.timezone)

    @property
    def model_path(self) -> Path:
        """The model's folder."""
        return self._folder / self.model

    @property
    def trace_source(self) -> str | Path:
        """The trace's file or folder, or its ``snowflake://`` address as it stands."""
        return self.trace.source if "://" in self.trace.source else self._folder / self.trace.source

    @property
    def trace_profile(self) -> str | Path:
        """The trace's profile: its name as it stands, or its file."""
        return _located(self.trace.profile, self._folder)


def _payment_fields(trace: Any, folder: Path, source: YamlSource) -> Fields:
    """The fields that rules may name: a payment's own, and those of the profile that ``trace``, as written, names.

    Raises BadInput where there is no such profile, or it cannot be read.
    """
    profile = trace.get("profile", TraceWindow.model_fields["profile"].default) if isinstance(trace, dict) else None
    if not isinstance(profile, str):
        return PAYMENT_FIELDS  # validation tells what is wrong with it
    try:
        return load_profile(_located(profile, folder)).spec.all_fields()
    except BadInput as error:
        raise BadInput(f"trace.profile: {error}", source.mark(("trace", "profile")).where) from None


def _located(profile: str, folder: Path) -> str | Path:
    """A profile as a scenario in ``folder`` names it: a built-in one by its name, or a file relative to the folder."""
    return profile if is_name(profile) else folder / profile


def _plain(name: str) -> str:
    """Names become names of files and columns. Raises ValueError where one could not."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a name; use letters, digits, _ - and .")
    return name


