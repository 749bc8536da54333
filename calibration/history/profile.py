"""A source's profile: which views and columns it has, the queries that read them, and what its words mean.

A profile is a YAML file, so that a foreign layout needs no code. Everything that a source's owner might
name, code or measure differently lives there, never in Python.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from routesim.policies.payment_fields import Known, PaymentField
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS
from routesim.sim.errors import BadInput
from routesim.sim.log import ATTEMPTS, PAYMENTS

PROFILES = Path(__file__).parent / "profiles"
QUERIES = Path(__file__).parent / "queries"
SUFFIXES = (".yaml", ".yml")

ColumnType = Literal["VARCHAR", "INTEGER", "FLOAT", "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "VARIANT"]
FailedOutcome = Literal["declined", "unavailable", "timeout", "refused"]
Kind = Literal["soft", "hard"]
_TAKEN = {*PAYMENT_FIELDS, *PAYMENTS.names, *ATTEMPTS.names, "further", "paid_at", "previous_code",
          "previous_processor", "policy", "world", "luck"}
Status = Literal["approved", "declined", "error", "timeout", "refused", "pending"]


class CodeMeaning(NamedTuple):
    """What a decline code says: the attempt's outcome and, where an issuer declined, whether it is soft or hard."""

    outcome: FailedOutcome
    kind: Kind | None = None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Column(_Part):
    """A source column. ``also`` lists other names under which it may come; ``needed`` makes its absence an error."""

    type: ColumnType
    also: tuple[str, ...] = Field(default=(), strict=False)
    needed: bool = False


class ViewSpec(_Part):
    """A view of the source. ``files`` are the names (without suffix) under which a folder may hold it; "*" is any."""

    columns: dict[str, Column]
    files: tuple[str, ...] = Field(default=(), strict=False)
    needed: bool = False

    @field_validator("columns", mode="before")
    @classmethod
    def _type_alone(cls, value: Any) -> Any:
        """``NAME: VARCHAR`` is short for ``NAME: {type: VARCHAR}``."""
        if not isinstance(value, dict):
            return value
        return {name: {"type": column} if isinstance(column, str) else column for name, column in value.items()}


class Meaning(_Part):
    """A decline code's or category's meaning; ``kind`` belongs to ``declined`` alone and is soft where not told."""

    outcome: FailedOutcome
    kind: Kind | None = None

    @model_validator(mode="after")
    def _kind_of_declined(self) -> Self:
        if self.kind is not None and self.outcome != "declined":
            raise ValueError(f"kind belongs to outcome declined, not {self.outcome}")
        return self

    @property
    def meaning(self) -> CodeMeaning:
        """As the attempt log has it."""
        return CodeMeaning(self.outcome, self.kind or "soft" if self.outcome == "declined" else None)


class FeeSpec(_Part):
    """A fee per attempt in ``currency``: ``fixed`` plus ``percent_bps`` if approved, else ``declined``."""

    currency: str = "USD"
    fixed: float = Field(default=0.0, ge=0)
    percent_bps: float = Field(default=0.0, ge=0)
    declined: float = Field(default=0.0, ge=0)


class CapacityTerms(_Part):
    """Attempts that a processor handles at once, and how many may queue for it."""

    concurrent: int = Field(ge=1)
    queue: int = Field(default=0, ge=0)


class ProcessorSpec(_Part):
    """A processor: the names, codes and ids by which the source calls it, and its published terms where known."""

    names: tuple[str, ...] = Field(default=(), strict=False)
    fee: FeeSpec | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    currencies: tuple[str, ...] | None = Field(default=None, strict=False)
    card_brands: tuple[str, ...] | None = Field(default=None, strict=False)
    capacity: CapacityTerms | None = None


class Values(_Part):
    """The source's words for our values. Keys are compared without regard to case and outer space. ``unhealthy`` are
    words or phrases in the reason of a skip that mean that the router thought the processor down or slow."""

    status: dict[str, Status] = {}
    initiator: dict[str, Literal["CIT", "MIT"]] = {}
    kind: dict[str, Kind] = {}
    refused: dict[str, bool] = {}
    card_brand: dict[str, str] = {}
    bank: dict[str, str] = {}
    channel: dict[str, str] = {}
    device: dict[str, str] = {}
    country: dict[str, str] = {}
    unhealthy: tuple[str, ...] = Field(default=(), strict=False)
    absent: tuple[str, ...] = Field(default=("", "null", "none", "n/a", "unknown"), strict=False)


class Units(_Part):
    """Factors that bring the source's numbers to ours."""

    latency_ms: float = Field(default=1.0, gt=0, description="ms per unit of the source's latency")
    amount_usd: float = Field(default=1.0, gt=0, description="USD per unit of the source's amount")


class Queries(_Part):
    """Queries in Snowflake's dialect: text, or the name of a .sql file. Their columns are history's staging columns.

    ``derived`` are views made of views, in order, for the others to use.
    """

    payments: str
    attempts: str
    skips: str | None = None
    census: str | None = None
    derived: dict[str, str] = {}


class FurtherField(_Part):
    """A field of payments that the source has and no other: an RFM segment, a fraud score, the kind of device, tenure,
    geography, an airline's route.

    The ``payments`` query gives a column of its name. What is absent or cannot be used is null, and the latter is
    counted. ``known`` says when a router in production knows the value. What is known ``at arrival`` reaches policies
    (``payment.further["rfm_segment"]``), may be named by rules (``when``, ``split: by``, ``per``) and what-ifs, and the
    off-policy check may split payments by it. What is known only ``later``, as a chargeback, is kept in the log, and no
    policy sees it: history knows it, but the router would have had to predict it.
    """

    type: Literal["text", "number", "whole number", "true or false"]
    known: Known
    unit: str | None = None
    doc: str = ""


_PERSONAL = {
    "a card number": r"(pan|card_?(number|no|num)|account_?(number|no)|iban|last_?(4|four)(_digits)?|cv[vc]2?)",
    "an e-mail address": r"(e_?mail|mail)(_?(address|hash))?",
    "an IP address": r"ip(v[46])?(_?(address|addr|hash))?",
    "a device's id": r"(device_?(id|uuid|hash|token|fingerprint)|fingerprint|imei|idfa|gaid|mac_address|cookie_?(id)?)",
    "a phone number": r"(phone|mobile|telephone|msisdn)(_?(number|no))?",
    "a person's name, birth or papers": r"((full|first|last|sur|customer|(card_?)?holder)_?name|cardholder"
                                        r"|birth_?(date|day)|date_of_birth|dob|passport(_?(number|no))?|ssn|curp|rfc)",
}  # the last words of a name: email_age_days and ip_country tell of no person


def _further_name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ValueError(f"{name!r} cannot name a field; use small letters, digits and _, a letter first")
    if name in _TAKEN:
        raise ValueError(f"{name!r} is already the name of a field or column of ours; give it another")
    for what, words in _PERSONAL.items():
        if re.fullmatch(rf"(.*_)?{words}", name):
            raise ValueError(f"{name!r} reads like {what}: personal content is never kept")
    return name


class Profile(_Part):
    """How to read one kind of source.

    ``payment_fields`` declares the fields of payments that only this source has, by name (``FurtherField``)::

        payment_fields:
          rfm_segment: {type: text, known: at arrival, doc: "recency, frequency, money"}
          tenure_days: {type: whole number, known: at arrival, unit: d}
          charged_back: {type: true or false, known: later}

    ``timezone`` is that of times without a zone. ``clock_skew_s``: an answer this much before its request is mended,
    beyond it the attempt is quarantined. ``arrival_tolerance_s``: where the first request lies so near the payment's
    time, it is the arrival. ``longest_answer_s``: an answer that takes longer is no answer to that request.
    """

    profile: str
    views: dict[str, ViewSpec] = Field(min_length=1)
    queries: Queries
    processors: dict[str, ProcessorSpec] = {}
    values: Values = Values()
    codes: dict[str, Meaning] = {}
    categories: dict[str, Meaning] = {}
    payment_fields: dict[Annotated[str, AfterValidator(_further_name)], FurtherField] = {}
    units: Units = Units()
    latency: Literal["measured", "absent"] = "measured"
    timezone: str = "UTC"
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")
    usd_per: dict[str, float] = {}
    hashed: tuple[str, ...] = Field(default=("customer_id", "card_token"), strict=False)
    clock_skew_s: float = Field(default=5.0, ge=0)
    arrival_tolerance_s: float = Field(default=2.0, ge=0)
    longest_answer_s: float = Field(default=86_400.0, gt=0)
    earliest: str = "2000-01-01"
    latest: str = "2100-01-01"

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"unknown time zone {value!r}{nearest(value, available_timezones())}")
        return value

    @field_validator("earliest", "latest")
    @classmethod
    def _date(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, processor in self.processors.items():
            if processor.fee and processor.fee.currency not in {"USD", *self.usd_per}:
                raise ValueError(f"processors.{name}.fee is in {processor.fee.currency}, of which usd_per says nothing")
        for name in ("customer_id", "card_token"):
            if name not in self.hashed:
                raise ValueError(f"hashed must name {name}: it is never kept in the clear")
        claimed: dict[str, str] = {}
        for name, processor in self.processors.items():
            for alias in {word.strip().lower() for word in (name, *processor.names)}:
                if alias in claimed:
                    raise ValueError(f"processors.{name} and processors.{claimed[alias]} both claim the name {alias!r}")
                claimed[alias] = name
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of times without one."""
        return ZoneInfo(self.timezone)

    def further_fields(self) -> tuple[PaymentField, ...]:
        """The fields that the source adds to a payment's own, in the profile's order."""
        return tuple(
            PaymentField(spec.doc, spec.unit, name, spec.type, known=spec.known, further=True)
            for name, spec in self.payment_fields.items()
        )

    def all_fields(self) -> dict[str, PaymentField]:
        """Every field of a payment that the source can tell, by name: a payment's own and those that it adds."""
        return {**PAYMENT_FIELDS, **{field.name: field for field in self.further_fields()}}

    def processor_names(self) -> dict[str, str]:
        """Each name by which the source calls a processor, in lower case, and ours."""
        return {
            word.strip().lower(): name
            for name, processor in self.processors.items()
            for word in (name, *processor.names)
        }

    def code_meanings(self) -> dict[str, CodeMeaning]:
        """Decline codes as they come, and what they mean."""
        return {code: spec.meaning for code, spec in self.codes.items()}

    def terms(self) -> dict[str, dict[str, Any]]:
        """The published terms that the profile tells, by processor: those of fee, timeout_s, currencies, card_brands
        and capacity that are known. Fees are in USD: ``{fixed_usd, percent_bps, declined_usd}``.
        """
        known: dict[str, dict[str, Any]] = {}
        for name, spec in self.processors.items():
            terms = spec.model_dump(exclude={"names", "fee"}, exclude_none=True, mode="json")
            if spec.fee:
                rate = self.usd_per.get(spec.fee.currency, 1.0)
                terms["fee"] = {
                    "fixed_usd": spec.fee.fixed * rate,
                    "percent_bps": spec.fee.percent_bps,
                    "declined_usd": spec.fee.declined * rate,
                }
            known[name] = terms
        return known


@dataclass(frozen=True)
class LoadedProfile:
    """A profile, the file that it came from, and the SHA-256 over that file and the query files that it names."""

    spec: Profile
    file: Path
    sha256: str
    queries: Queries


def load_profile(profile: str | Path) -> LoadedProfile:
    """Read a built-in profile by name, or a profile's YAML file (a name with a suffix or a slash is a path).

    Raises BadInput where there is none, or where it is not a valid profile, naming file and key.
    """
    file = _find(profile)
    content = file.read_bytes()
    digest = hashlib.sha256(content)
    spec = _parse(content, file)
    queries = _queries(spec.queries, file, digest)
    return LoadedProfile(spec, file, digest.hexdigest(), queries)


@lru_cache(maxsize=8)
def _parse(content: bytes, file: Path) -> Profile:
    try:
        document = YAML(typ="safe", pure=True).load(content)
    except RecursionError:
        raise BadInput("not a YAML file that can be read: it is nested too deeply", str(file)) from None
    except (YAMLError, ValueError, OverflowError) as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"{file}, line {mark.line + 1}" if mark else str(file)
        problem = error.problem if isinstance(error, MarkedYAMLError) and error.problem else "not readable"
        raise BadInput(f"not a YAML file: {' '.join(str(problem).split())}", where) from None
    if not isinstance(document, dict):
        raise BadInput("a profile is a mapping (profile, views, queries, ...)", str(file))
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise _bad_key(error, file) from None


def is_name(profile: str | Path) -> bool:
    """Whether a profile is named (a built-in one) and not a file."""
    return isinstance(profile, str) and Path(profile).suffix not in SUFFIXES and len(Path(profile).parts) == 1


def _find(profile: str | Path) -> Path:
    path = Path(profile)
    if is_name(profile):
        built_in = PROFILES / f"{profile}.yaml"
        if not built_in.is_file():
            known = (file.stem for file in PROFILES.glob("*.yaml"))
            hint = nearest(str(profile), known)
            raise BadInput(f"unknown profile {profile!r} (a name, or the path of a YAML file){hint}")
        return built_in
    if not path.is_file():
        raise BadInput("no such profile", str(path))
    return path


def _queries(queries: Queries, file: Path, digest: Any) -> Queries:
    """The queries' texts: those that name a .sql file are read from beside the profile, built-in ones from QUERIES."""
    folder = QUERIES if file.parent == PROFILES else file.parent

    def text(key: str, query: str | None) -> str | None:
        if query is None or not query.strip().lower().endswith(".sql") or "\n" in query.strip():
            return query
        path = folder / query.strip()
        if not path.is_file():
            raise BadInput(f"no such query file {path}", f"{file}, queries.{key}")
        content = path.read_bytes()
        digest.update(content)
        return content.decode()

    return Queries(
        payments=text("payments", queries.payments) or "",
        attempts=text("attempts", queries.attempts) or "",
        skips=text("skips", queries.skips),
        census=text("census", queries.census),
        derived={name: text(f"derived.{name}", query) or "" for name, query in queries.derived.items()},
    )


_PARTS: dict[tuple[str, ...], type[_Part]] = {
    (): Profile,
    ("queries",): Queries,
    ("values",): Values,
    ("units",): Units,
    ("views", "*"): ViewSpec,
    ("views", "*", "columns", "*"): Column,
    ("processors", "*"): ProcessorSpec,
    ("processors", "*", "fee"): FeeSpec,
    ("processors", "*", "capacity"): CapacityTerms,
    ("codes", "*"): Meaning,
    ("categories", "*"): Meaning,
    ("payment_fields", "*"): FurtherField,
}


def _bad_key(error: ValidationError, file: Path) -> BadInput:
    first = min(error.errors(), key=lambda told: told["type"] != "extra_forbidden")  # a misspelt key explains the rest
    keys = tuple(str(key) for key in first["loc"] if key != "[key]")  # pydantic's word for a key's own fault
    where = f"{file}, {'.'.join(keys)}" if keys else str(file)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        for pattern, part in _PARTS.items():
            if len(pattern) == len(keys) - 1 and all(a in ("*", b) for a, b in zip(pattern, keys, strict=False)):
                return BadInput(f"unknown key {keys[-1]!r}{nearest(keys[-1], part.model_fields)}", where)
        return BadInput(f"unknown key {keys[-1]!r}", where)
    if first["type"] == "missing":
        return BadInput(f"the key {keys[-1]!r} is needed", where)
    shown = repr(first.get("input"))
    return BadInput(message if len(shown) > 60 else f"{message} (got {shown})", where)
