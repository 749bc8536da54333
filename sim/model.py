"""The model: what the world is like, as inert data that a person can read and write.

A model is a folder. ``model.json`` holds this module's ``Model`` document; ``uncertainty.parquet``, where present,
holds how well each of its numbers is known, and ``draw`` turns the two into one plausible world.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from routesim.policies.vocabulary import Fee, Terms
from routesim.sim.distributions import Distribution
from routesim.sim.errors import BadInput
from routesim.sim.files import write_text
from routesim.sim.folders import publishing, recover
from routesim.sim.model_folder import MODEL, ModelFolder
from routesim.sim.uncertainty import Uncertainty

FORMAT: Literal["routesim-model"] = "routesim-model"
VERSION = 1

OutageKind = Literal["down", "partial", "slow"]
OUTAGE_KINDS: tuple[OutageKind, ...] = ("down", "partial", "slow")


class Part(BaseModel):
    """A part of the document: unknown keys are errors, values are checked on assignment of the whole."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Term(Part):
    """One term of a linear predictor: an effect per level of ``by`` (joined with "|"; absent values are empty).

    With ``of`` (``log_amount_usd``) the effect is a slope on that column less ``centre``. A level that has no effect
    is unknown: its effect is 0, and N(0, ``sd``²) in a drawn world.
    """

    by: list[str] = []
    of: Literal["log_amount_usd"] | None = None
    centre: float = 0.0
    sd: float = Field(default=0.0, ge=0)
    effects: dict[str, float] = {}


class Predictor(Part):
    """A linear predictor: intercept plus terms."""

    intercept: float = 0.0
    terms: list[Term] = []


class FeeDocument(Part):
    """A processor's fees: an approved attempt costs fixed plus basis points, any other ``declined_usd``."""

    fixed_usd: float = Field(default=0.0, ge=0)
    percent_bps: float = Field(default=0.0, ge=0)
    declined_usd: float = Field(default=0.0, ge=0)


class Capacity(Part):
    """At most ``concurrent`` attempts at once, ``queue`` waiting; what finds the queue full is answered ``code``."""

    concurrent: int = Field(gt=0)
    queue: int = Field(default=0, ge=0)
    code: str = "96"


class Latency(Part):
    """Answer times in ms by outcome, all times ``factor``; ``declined`` and ``unavailable`` default to ``approved``."""

    approved: Distribution
    declined: Distribution | None = None
    unavailable: Distribution | None = None
    factor: float = Field(default=1.0, gt=0)


class OutageEffect(Part):
    """What an outage of one kind does: its share among outages, the share of attempts lost, the slowing."""

    share: float = Field(ge=0)
    loss: float = Field(default=0.0, ge=0, le=1)
    latency_factor: float = Field(default=1.0, gt=0)


class Outages(Part):
    """A semi-Markov process: gaps (end to next start, hours) and durations (minutes), and a kind for each outage.

    Lost attempts time out, or are answered ``code`` where it is given.
    """

    gap_h: Distribution
    duration_min: Distribution
    kinds: dict[OutageKind, OutageEffect]
    code: str | None = None


class JointOutages(Outages):
    """Outages of a switch that several processors share."""

    processors: list[str]


class Processor(Part):
    """One PSP. ``technical`` is the probability of each technical failure code per attempt while it is up.

    ``late_approval_share`` is the share of lost attempts (timed out without an answer on its way) whose request did
    reach the issuer. A router cannot see it in its history, so it is 0 unless a scenario assumes otherwise.
    """

    currencies: list[str] | None = None
    card_brands: list[str] | None = None
    fee: FeeDocument = FeeDocument()
    capacity: Capacity | None = None
    timeout_s: float = Field(default=30.0, gt=0)
    latency: Latency
    technical: dict[str, float] = {}
    late_approval_share: float = Field(default=0.0, ge=0, le=1)
    outages: Outages | None = None

    def terms(self, name: str) -> Terms:
        """What the processor publishes."""
        return Terms(
            processor=name,
            currencies=None if self.currencies is None else frozenset(self.currencies),
            card_brands=None if self.card_brands is None else frozenset(self.card_brands),
            timeout_s=self.timeout_s,
            fee=Fee(**self.fee.model_dump()),
        )


class Code(Part):
    """What a decline code means: the outcome under which it is logged, whether it may be tried again, and the
    Mastercard merchant advice code that comes with it, where one is known."""

    outcome: Literal["declined", "unavailable", "timeout", "refused"] = "declined"
    kind: Literal["soft", "hard"] | None = "soft"
    merchant_advice: str | None = None


PayDay = Annotated[int, Field(ge=1, le=31)] | Literal["last"]
HourKind = Literal["pay day, 0 to 6", "pay day, 6 to 12", "pay day, 12 to 18", "pay day, 18 to 24",
                   "day after a pay day", "Friday before a weekend's pay day", "weekend", "weekday, 0 to 6",
                   "weekday, 18 to 24"]


class PayDays(Part):
    """The days of the month on which a country's wages are paid, and its currency."""

    currency: str
    days: list[PayDay] = Field(min_length=1)


class RecoveryCalendar(Part):
    """When in the local calendar states end sooner or later than the memoryless law says (``sim.recovery_clock``).

    ``effects`` are logs of the hazard's factor by kind of hour, against a weekday's daytime (0 where a kind is not
    named); ``pay_days`` are those that the kinds speak of, by the card's country.
    """

    pay_days: dict[str, PayDays] = {}
    effects: dict[HourKind, float] = {}


class IssuerBlock(Part):
    """A state of the card or account in which every processor's attempt is declined, with one of ``codes`` (shares).

    ``odds`` is the log-odds of the state against none. It ends after a time ``recovers_h`` for the share
    ``recovers_share`` of payments, and never for the others; with ``recovers_h`` None it never ends. Where there is a
    ``calendar``, ``recovers_h`` counts the hours of its clock.
    """

    codes: dict[str, float]
    odds: Predictor
    recovers_h: Distribution | None = None
    recovers_share: float = Field(default=1.0, ge=0, le=1)
    calendar: RecoveryCalendar | None = None


class Issuer(Part):
    """The issuer's decision. In this order: a block declines; else a judgement, whose logit of approval is
    ``approval`` + the payment's frailty N(0, ``frailty_sd``²) + ``repeat`` for each earlier decline of the payment at
    the same processor with one of ``repeat_codes`` (None: any judgement). ``judgement_codes`` are the shares of its
    decline codes, by processor ("" = any).
    """

    approval: Predictor
    frailty_sd: float = Field(default=0.0, ge=0)
    repeat: float = 0.0
    repeat_codes: list[str] | None = None
    blocks: dict[str, IssuerBlock] = {}
    judgement_codes: dict[str, dict[str, float]]


class Comebacks(Part):
    """Customers who return with a new payment after a failed one: probability by last code ("" = any other),
    minutes until they do, and the share that uses the same card. A customer returns at most once per order."""

    probability: dict[str, float] = {}
    delay_min: Distribution
    same_card_share: float = Field(default=1.0, ge=0, le=1)
    initiators: list[str] = ["CIT", "unknown"]


class Model(Part):
    """The whole document."""

    format: Literal["routesim-model"] = FORMAT
    version: int = VERSION
    name: str = "model"
    timezone: str = "UTC"
    processors: dict[str, Processor]
    issuer: Issuer
    codes: dict[str, Code]
    timeout_code: str = "TO"
    joint_outages: list[JointOutages] = []
    comebacks: Comebacks | None = None
    logged: dict[str, Any] | None = None
    provenance: dict[str, Any] = {}

    def code(self, name: str) -> Code:
        """The meaning of a code; a code that the model does not list is a soft decline."""
        return self.codes.get(name) or Code()


class World:
    """One plausible world: a model whose every number is fixed. ``number`` None is the model's own point estimate."""

    def __init__(self, model: Model, seed: int = 0, number: int | None = None) -> None:
        self.model, self.seed, self.number = model, seed, number


class CalibratedModel:
    """A model and how well it is known."""

    def __init__(self, model: Model, uncertainty: Uncertainty | None = None) -> None:
        self.model = model
        self.uncertainty = uncertainty or Uncertainty.none()

    def draw(self, world: int, seed: int = 0) -> World:
        """World number ``world``: every number drawn from the calibration's sampling distribution, keyed by name."""
        values = self.uncertainty.draw(seed, world)
        if not values:
            return World(self.model, seed, world)
        document = self.model.model_dump(mode="json")
        for pointer, value in values.items():
            _assign(document, pointer, value)
        return World(Model.model_validate(document), seed, world)

    def point(self) -> World:
        """The world at the point estimates."""
        return World(self.model)

    def save(self, folder: Path) -> None:
        """Publish the model folder: the earlier one is replaced as a whole. Raises BadInput as ``folders.claimed``."""
        with publishing(folder, MODEL) as made:
            self.write(made)

    def write(self, folder: Path) -> None:
        """Write the model's own files into a folder that is being made, the document last."""
        text = json.dumps(self.model.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
        self.uncertainty.save(ModelFolder(folder).uncertainty)
        write_text(ModelFolder(folder).document, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> CalibratedModel:
        """Read a model folder (or a lone model.json). Raises BadInput when it is none, or of a newer version."""
        recover(folder)
        path = ModelFolder(folder).document if folder.is_dir() else folder
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput("no model here; `routesim calibrate SOURCE --out MODEL` makes one", str(path)) from None
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot be read as a model: {error}", str(path)) from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise BadInput(f'not a model: "format" must be "{FORMAT}"', str(path))
        if not isinstance(document.get("version"), int) or document["version"] > VERSION:
            raise BadInput(f"model of version {document.get('version')}; this routesim reads versions up to {VERSION}",
                           str(path))
        try:
            model = Model.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"{'/'.join(map(str, first['loc']))}: {first['msg']}", str(path)) from None
        return cls(model, Uncertainty.load(ModelFolder(path.parent).uncertainty))


def _assign(document: Any, pointer: str, value: float) -> None:
    """Set the number at a JSON pointer (RFC 6901)."""
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    for part in parents:
        document = document[int(part)] if isinstance(document, list) else document[part]
    document[int(last) if isinstance(document, list) else last] = value
