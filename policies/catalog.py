"""The catalog: parts and policies by name, their parameters and defaults, and the way from a description to a policy.

A part is written as a name (``none``), a name with parameters (``{circuit_breaker: {open_for: 60s}}``), a list of
rules, or the user's own class by dotted path (``my.module:Class`` or ``{my.module:Class: {threshold: 3}}``). A whole
policy is written ``{policy: logged, parameters: {...}}``, ``{policy: my.module:Class, ...}``, or as the bare name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

from routesim.policies.composed import Composed
from routesim.policies.description import Description
from routesim.policies.dotted import is_dotted, load_class, make
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.circuit_breaker import BreakerFailover, CircuitBreaker
from routesim.policies.failover.health_monitor import HealthMonitor, HealthMonitorFailover
from routesim.policies.failover.leaky_bucket import LeakyBucket, LeakyBucketFailover
from routesim.policies.failover.outlier_ejection import OutlierEjection, OutlierEjectionFailover
from routesim.policies.failover.random_sampling import RandomSampling, RandomSamplingFailover
from routesim.policies.failover.score_elimination import ScoreElimination, ScoreEliminationFailover
from routesim.policies.failover.window_breaker import WindowBreaker, WindowBreakerFailover
from routesim.policies.logged import Logged, LoggedParameters, LoggedTables
from routesim.policies.parts import Failover, Messenger, Retry, RetryAmong, Route
from routesim.policies.retry.budget import Budget, BudgetedRetry
from routesim.policies.retry.ladder import Ladder, LadderRetry
from routesim.policies.retry.predicted import Predicted, PredictedRetry
from routesim.policies.retry.predictor import PredictorSource
from routesim.policies.retry.reputation import Reputation, ReputationRetry
from routesim.policies.retry.rules import RetryRule, RetryRules, RuleRetry
from routesim.policies.route.rules import RouteRule, RouteRules, RuleRoute
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Policy

PartKind = Literal["route", "message", "retry", "failover"]


class NoParameters(Description):
    """A part without parameters."""


@dataclass(frozen=True)
class Entry:
    """A part of the catalog. ``build`` takes the described parameters; ``of`` describes what the user writes.

    ``source`` is where the part and its defaults come from: the description's own ``source``, empty where it has none.
    """

    doc: str
    described_by: type[Description]
    build: Callable[..., Any]
    of: type[Description]

    @property
    def source(self) -> str:
        return str(getattr(self.described_by, "source", ""))


def _entry(described_by: type[Description], build: Callable[..., Any], of: type[Description] | None = None) -> Entry:
    return Entry(_first_paragraph(described_by.__doc__), described_by, build, of or described_by)


def _first_paragraph(doc: str | None) -> str:
    return " ".join((doc or "").split("\n\n")[0].split())


def _none(doc: str) -> Entry:
    return Entry(doc, NoParameters, lambda parameters: None, NoParameters)


PARTS: dict[PartKind, dict[str, Entry]] = {
    "route": {"rules": _entry(RouteRules, RuleRoute, RouteRule)},
    "message": {"own": _none("Every message carries the payment's own fields.")},
    "retry": {
        "none": _none("A payment has one attempt."),
        "rules": _entry(RetryRules, RuleRetry, RetryRule),
        "ladder": _entry(Ladder, LadderRetry),
        "predicted": _entry(Predicted, PredictedRetry),
    },
    "failover": {
        "none": _none("No processor is passed over."),
        "circuit_breaker": _entry(CircuitBreaker, BreakerFailover),
        "window_breaker": _entry(WindowBreaker, WindowBreakerFailover),
        "outlier_ejection": _entry(OutlierEjection, OutlierEjectionFailover),
        "leaky_bucket": _entry(LeakyBucket, LeakyBucketFailover),
        "score_elimination": _entry(ScoreElimination, ScoreEliminationFailover),
        "random_sampling": _entry(RandomSampling, RandomSamplingFailover),
        "health_monitor": _entry(HealthMonitor, HealthMonitorFailover),
    },
}
WHOLE: dict[str, Entry] = {"logged": _entry(LoggedParameters, lambda parameters: None)}
_ASKED: dict[PartKind, str] = {"route": "rank", "message": "message", "retry": "plan", "failover": "admit"}


@dataclass(frozen=True)
class CatalogPart:
    """A part as described: a name of the catalog, or a dotted path, and its parameters."""

    kind: PartKind
    name: str
    parameters: Description | dict[str, Any]

    def plain(self) -> Any:
        """The part as it would be written, defaults included."""
        if isinstance(self.parameters, RouteRules | RetryRules):
            return self.parameters.model_dump(by_alias=True)["rules"]
        written = self.parameters if isinstance(self.parameters, dict) else self.parameters.model_dump(by_alias=True)
        return {self.name: written} if written else self.name

    def named_processors(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Every processor that the part names and where it stands; a user's own class names none that we know of."""
        if not isinstance(self.parameters, RouteRules):
            return []
        return [
            (name, (place, "to", *path))
            for place, rule in enumerate(self.parameters.rules)
            for name, path in rule.named_processors()
        ]


def describe_part(kind: PartKind, value: Any, context: Any = None) -> CatalogPart:
    """The part that ``value`` describes, read in pydantic's validation ``context``.

    Raises ValueError (a pydantic ValidationError where parameters are wrong).
    """
    known = PARTS[kind]
    if isinstance(value, CatalogPart):
        return value
    if isinstance(value, list) and "rules" in known:
        if not value and "none" in known:
            return CatalogPart(kind, "none", NoParameters())
        return CatalogPart(kind, "rules", known["rules"].described_by.model_validate({"rules": value}, context=context))
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, parameters),) = value.items()
    else:
        name, parameters = value, {}
    names = [each for each in known if each != "rules"]
    if "rules" in known and isinstance(value, Mapping) and set(value) & set(known["rules"].of.model_fields):
        raise ValueError(f"a {kind} is a list of rules; begin each with a dash")
    if not isinstance(name, str) or (not is_dotted(name) and not names):
        shapes = ["a list of rules"] if "rules" in known else []
        shapes += ["one of " + ", ".join(names)] if names else []
        raise ValueError(f"a {kind} is {', '.join(shapes)}, {{NAME: parameters}} or my.module:Class")
    if is_dotted(name):
        return CatalogPart(kind, name, TypeAdapter(dict[str, dict[str, Any]]).validate_python({name: parameters})[name])
    if name not in names:
        raise ValueError(f"no {kind} is called {name!r}{nearest(name, names)}")
    return CatalogPart(kind, name, _under(name, known[name].described_by, parameters, context))


def _under(key: str, described_by: type[Description], parameters: Any, context: Any) -> Description:
    """``parameters`` read as those of ``key``, so that the path of an error holds the key."""
    adapter: TypeAdapter[dict[str, Description]] = TypeAdapter(dict[str, described_by])  # type: ignore[valid-type]
    return adapter.validate_python({key: parameters}, context=context)[key]


def _part_field(kind: PartKind) -> Any:
    def described(value: Any, info: ValidationInfo) -> CatalogPart:
        return describe_part(kind, value, info.context)

    return PlainValidator(described)


_plainly = PlainSerializer(lambda part: None if part is None else part.plain())


class BudgetOf(Budget):
    """Keeps the retries of another retry part to a share of the first attempts, the most deserving ones first."""

    of: Annotated[CatalogPart, _part_field("retry"), _plainly] = Field(
        description="that part, as any retry: a list of rules, a name, or {NAME: parameters}"
    )


class ReputationOf(Reputation):
    """Slows or stops the retries of another retry part at a processor whose retries harm the merchant's standing."""

    of: Annotated[CatalogPart, _part_field("retry"), _plainly] = Field(
        description="that part, as any retry: a list of rules, a name, or {NAME: parameters}; a budget goes around it, "
        "not into it"
    )


PARTS["retry"]["budget"] = _entry(BudgetOf, BudgetedRetry)
PARTS["retry"]["reputation"] = _entry(ReputationOf, ReputationRetry)


def _policy_shape(value: Any) -> Any:
    return {"policy": value} if isinstance(value, str) else value


class PolicyParts(Description):
    """A policy as described: a route and what goes with it, or a whole policy by name."""

    route: Annotated[CatalogPart | None, _part_field("route"), _plainly] = Field(
        default=None, description="where it goes")
    message: Annotated[CatalogPart, _part_field("message"), _plainly] = Field(
        default=CatalogPart("message", "own", NoParameters()), description="the variable fields of the request"
    )
    retry: Annotated[CatalogPart, _part_field("retry"), _plainly] = Field(
        default=CatalogPart("retry", "none", NoParameters()), description="what is tried again, when and where"
    )
    failover: Annotated[CatalogPart, _part_field("failover"), _plainly] = Field(
        default=CatalogPart("failover", "none", NoParameters()), description="which processors are passed over"
    )
    timeout: PositiveDuration | None = Field(
        default=None, description="how long the router waits for an answer, where the processor's timeout is longer"
    )
    policy: str | None = Field(default=None, description="a whole policy in place of the parts: a name or dotted path")
    parameters: dict[str, Any] = Field(default={}, description="the parameters of `policy`")

    @model_validator(mode="after")
    def _parts_or_whole(self, info: ValidationInfo) -> PolicyParts:
        if self.policy is None:
            if self.route is None:
                raise ValueError("a policy needs a route (or `like`, or `policy`)")
            if self.parameters:
                raise ValueError("parameters go with `policy`; the parameters of a part stand in the part")
            return self
        if parts := self.model_fields_set - {"policy", "parameters"}:
            raise ValueError(f"`policy` names a whole policy, so it cannot have {', '.join(sorted(parts))} of its own")
        if self.policy in WHOLE:
            _under("parameters", WHOLE[self.policy].described_by, self.parameters, info.context)
        elif not is_dotted(self.policy):
            raise ValueError(f"no whole policy is called {self.policy!r}{nearest(self.policy, WHOLE)}")
        return self

    def plain(self) -> dict[str, Any]:
        """The policy as it would be written, defaults included."""
        if self.policy is not None:
            return {"policy": self.policy} | ({"parameters": self.parameters} if self.parameters else {})
        return self.model_dump(exclude={"parameters"})


PolicyDescription = Annotated[PolicyParts, BeforeValidator(_policy_shape)]


def build(
    description: PolicyParts,
    logged_tables: LoggedTables | None = None,
    folder: Path | None = None,
    predictor: PredictorSource | None = None,
) -> Callable[[], Policy]:
    """A factory of fresh policies.

    ``logged_tables`` is what ``logged`` needs, ``predictor`` what ``predicted`` does; dotted paths are looked for in
    ``folder`` and then on Python's path.
    Raises ValueError where either is missing or a user's class cannot be found or does not take its parameters.
    """
    if description.policy == "logged":
        if logged_tables is None:
            raise ValueError("the logged policy needs a model that was fitted to history, and this one holds no tables")
        parameters = LoggedParameters.model_validate(description.parameters)
        return partial(Logged, logged_tables, parameters)
    if description.policy is not None:
        own = load_class(description.policy, ("decide", "observe"), folder)
        make(own, description.policy, description.parameters)
        return cast(Callable[[], Policy], partial(make, own, description.policy, description.parameters))
    assert description.route is not None
    makers = [
        _part_maker(part, folder, predictor)
        for part in (description.route, description.message, description.retry, description.failover)
    ]
    timeout_s = parse_duration(description.timeout) if description.timeout else None

    def composed() -> Policy:
        route, message, retry, failover = (maker() for maker in makers)
        return Composed(
            cast(Route, route),
            cast(Messenger | None, message),
            cast(Retry | RetryAmong | None, retry),
            cast(Failover | None, failover),
            timeout_s,
        )

    composed()  # so that a user's class that refuses its parameters says so now
    return composed


def _part_maker(part: CatalogPart, folder: Path | None, predictor: PredictorSource | None) -> Callable[[], object]:
    if isinstance(part.parameters, dict):
        own = load_class(part.name, (_ASKED[part.kind],), folder)
        return partial(make, own, part.name, part.parameters)
    make_part = partial(PARTS[part.kind][part.name].build, part.parameters)
    if isinstance(part.parameters, BudgetOf | ReputationOf):
        make_inner = _part_maker(part.parameters.of, folder, predictor)
        return lambda: make_part(make_inner())
    if isinstance(part.parameters, Predicted):
        if predictor is None:
            raise ValueError("the predicted retry asks a calibrated model how likely an approval is, and there is none")
        return partial(make_part, predictor)
    return make_part
