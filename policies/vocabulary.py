"""The words in which the engine and a policy speak: what a policy sees, and what it may answer.

All times are seconds since 1970-01-01T00:00:00Z as floats, all amounts US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from routesim.policies.payment_fields import NOTHING_FURTHER, FieldValue, PaymentField, fields_of

Outcome = Literal["approved", "declined", "unavailable", "timeout", "refused"]
DeclineKind = Literal["soft", "hard"]
Decision = Literal["rank", "retry", "failover", "probe"]
Initiator = Literal["CIT", "MIT", "unknown"]
BASIS_POINTS = 10_000  # in the whole
MOST_CHOICES = 3  # what one Send may hold


@dataclass(slots=True, eq=False)
class Payment:
    """One authorisation wish, as the router is asked to fulfil it.

    Here each field is written once: everything else that lists them follows from ``PAYMENT_FIELDS``, the table of this
    class. An absent value is None. ``further`` holds those of the source's own fields, declared by its profile, that
    are known at arrival: ``payment.further["rfm_segment"]``. ``hour`` (0-23), ``weekday`` (0 = Monday) and ``day`` (of
    the month) are those of its arrival in the scenario's time zone. ``logged_processor`` is where history sent its
    first attempt; a router in production would not know it, so only a route that asks for it by name
    (``logged_first``, ``logged``) may use it.

    >>> paid = rs.testing.payment(amount_usd=80.0, currency="MXN", further={"rfm_segment": "loyal"})
    >>> paid.amount_usd, paid.currency, paid.initiator, paid.further["rfm_segment"]
    (80.0, 'MXN', 'CIT', 'loyal')
    """

    payment_id: Annotated[str, PaymentField("one authorisation wish", in_cells=False)]
    order_id: Annotated[str, PaymentField("the purchase that the payment pays for", in_cells=False)]
    previous_payment_id: Annotated[str | None, PaymentField(
        "the failed payment of the same order that this one follows", origin="attempts", in_cells=False)]
    merchant_id: Annotated[str | None, PaymentField("the merchant")]
    customer_id: Annotated[str | None, PaymentField("hash of the customer", in_cells=False)]
    card_token: Annotated[str | None, PaymentField("hash of the card", in_cells=False, of_card=True)]
    arrived_at: Annotated[float, PaymentField(
        "when the payment reached the router", "UTC", kind="moment", in_conditions=False, in_cells=False)]
    due_at: Annotated[float | None, PaymentField(
        "when a merchant-initiated payment fell due", "UTC", kind="moment", in_conditions=False, in_cells=False)]
    amount_usd: Annotated[float, PaymentField("amount", "USD")]
    currency: Annotated[str, PaymentField("currency of presentment, ISO 4217", case="upper")]
    card_brand: Annotated[str | None, PaymentField(
        "visa, mastercard, amex, ..., in lower case", of_card=True, case="lower")]
    card_bin: Annotated[str | None, PaymentField(
        "the card number's first six digits, the most that is ever kept", of_card=True)]
    bank: Annotated[str | None, PaymentField("the issuer, in lower case", of_card=True, case="lower")]
    card_country: Annotated[str | None, PaymentField("the issuer's country, ISO 3166", of_card=True, case="upper")]
    channel: Annotated[str | None, PaymentField("web, app, call_center, ...", case="lower")]
    device: Annotated[str | None, PaymentField("kind of device (never its id)", case="lower")]
    initiator: Annotated[Initiator, PaymentField("CIT, MIT or unknown")]
    stored_credential: Annotated[bool | None, PaymentField("whether the card is on file")]
    installments: Annotated[int | None, PaymentField("number of instalments", bits=16)]
    mcc: Annotated[str | None, PaymentField("merchant category code")]
    three_ds: Annotated[bool | None, PaymentField("whether 3-D Secure was used")]
    logged_processor: Annotated[str | None, PaymentField(
        "where history sent the first attempt", origin="attempts", in_conditions=False, in_cells=False)]
    hour: Annotated[int, PaymentField(
        "hour of its arrival in the scenario's time zone", origin="clock", least=0, most=23)]
    weekday: Annotated[int, PaymentField(
        "day of the week of its arrival, 0 = Monday", origin="clock", least=0, most=6,
        words=("mon", "tue", "wed", "thu", "fri", "sat", "sun"))]
    day: Annotated[int, PaymentField(
        "day of the month of its arrival", origin="clock", in_cells=False, least=1, most=31)]
    further: Mapping[str, FieldValue] = field(default_factory=lambda: NOTHING_FURTHER)


PAYMENT_FIELDS: Mapping[str, PaymentField] = fields_of(Payment)
"""The table of a payment's fields, by name: all but those that a profile adds."""


class Message(NamedTuple):
    """The variable fields of a request to a processor."""

    initiator: Initiator = "unknown"
    avs: bool | None = None
    mcc: str | None = None


class Answer(NamedTuple):
    """What came back for one attempt. ``attempt_number`` counts from 1; a timeout is answered when it expires.

    >>> back = rs.testing.answer("Elavon", "declined", "51")
    >>> back.processor, back.outcome, back.decline_code, back.decline_kind
    ('Elavon', 'declined', '51', 'soft')
    """

    attempt_number: int
    processor: str
    sent_at: float
    answered_at: float
    outcome: Outcome
    decline_code: str | None
    decline_kind: DeclineKind | None


@dataclass(frozen=True, slots=True)
class Fee:
    """What a processor charges: an attempt costs ``declined_usd`` unless approved, else fixed plus basis points."""

    fixed_usd: float = 0.0
    percent_bps: float = 0.0
    declined_usd: float = 0.0

    def of(self, amount_usd: float, approved: bool) -> float:
        """The fee of one attempt in USD."""
        if not approved:
            return self.declined_usd
        return self.fixed_usd + amount_usd * self.percent_bps / 10_000


@dataclass(frozen=True, slots=True)
class Terms:
    """A processor's published terms. ``currencies`` and ``card_brands`` None means all."""

    processor: str
    currencies: frozenset[str] | None
    card_brands: frozenset[str] | None
    timeout_s: float
    fee: Fee

    def supports(self, payment: Payment) -> bool:
        """Whether the processor takes payments in this currency with this brand of card; a brand that is not known it
        takes."""
        if self.currencies is not None and payment.currency not in self.currencies:
            return False
        return self.card_brands is None or payment.card_brand is None or payment.card_brand in self.card_brands


class Choice(NamedTuple):
    """One ranked route. ``propensity`` is the probability with which the policy ranks it first, where it randomises.

    >>> rs.Choice("Elavon", propensity=0.28).processor
    'Elavon'
    """

    processor: str
    message: Message | None = None  # None: the payment's own fields
    score: float | None = None
    propensity: float | None = None


class Refusal(NamedTuple):
    """Why the engine does not do what a policy asks of it.

    ``name`` is one word for it; ``breaks_rule`` is false where no rule forbids the action, but the world has no room
    for it: a customer who is gone. Each refusal is defined beside the code that decides it.
    """

    name: str
    breaks_rule: bool = True


UNKNOWN_PROCESSOR = Refusal("unknown_processor")
UNSUPPORTED_PROCESSOR = Refusal("unsupported_processor")


def refusal_of(choice: Choice, payment: Payment, terms: Mapping[str, Terms]) -> Refusal | None:
    """Why the payment may not be sent where ``choice`` says, by the processors' published ``terms``; None: it may."""
    published = terms.get(choice.processor)
    if published is None:
        return UNKNOWN_PROCESSOR
    return None if published.supports(payment) else UNSUPPORTED_PROCESSOR


class SkipReason(StrEnum):
    """Why a failover part of the catalog passes a processor over."""

    CIRCUIT_OPEN = "circuit_open"  # circuit_breaker, window_breaker
    BUCKET_FULL = "bucket_full"  # leaky_bucket
    EJECTED = "ejected"  # outlier_ejection
    SCORE_LOW = "score_low"  # score_elimination
    DOWN = "down"  # random_sampling, health_monitor
    PARTIAL = "partial"  # health_monitor
    SLOW = "slow"  # health_monitor


class Skip(NamedTuple):
    """A processor that was passed over. ``reason`` is a SkipReason, or a word of a failover part of your own.

    >>> rs.Send((rs.Choice("Elavon"),), "failover", skipped=(rs.Skip("MIT", "maintenance"),)).skipped[0].processor
    'MIT'
    """

    processor: str
    reason: str


class Send(NamedTuple):
    """Send the payment to the first of ``choices`` (MOST_CHOICES at most, best first) that is legal (``refusal_of``).

    ``timeout_s`` shortens the processor's own timeout. ``skipped`` names the better processors that were passed over,
    best first, each with its reason; a text in its place is refused when the engine meets it.

    >>> action = rs.Send((rs.Choice("Worldpay"), rs.Choice("Elavon")), timeout_s=8.0)
    >>> [choice.processor for choice in action.choices]
    ['Worldpay', 'Elavon']
    """

    choices: tuple[Choice, ...]
    decision: Decision = "rank"
    timeout_s: float | None = None
    skipped: tuple[Skip, ...] = ()


class Wait(NamedTuple):
    """Ask again at ``until`` (which must lie in the future).

    >>> view = rs.testing.view()
    >>> rs.Wait(view.now + 24 * 3600).until > view.now
    True
    """

    until: float


class StopReason(StrEnum):
    """Why a policy of the catalog gives a payment up."""

    NO_ROUTE = "no_route"  # the route ranks no processor for it
    NO_RETRY = "no_retry"  # no retry rule takes it up
    RANK_SPENT = "rank_spent"  # the retry rule's processors are all tried
    GIVEN_UP = "given_up"  # no more is said


class Stop(NamedTuple):
    """Give the payment up. ``reason`` is a StopReason, or a word of a router of your own; nothing depends on it.

    >>> rs.Stop("too dear").reason
    'too dear'
    """

    reason: str = StopReason.GIVEN_UP


Action = Send | Wait | Stop


@dataclass(slots=True)
class View:
    """What a router knows when it must decide.

    ``answers`` are the answers to this payment's attempts so far, in order; ``waited`` is true when the policy's
    last action on this payment was a Wait that has now ended.

    >>> view = rs.testing.view(currency="MXN", answers=[rs.testing.answer("MIT", "timeout", latency_s=30)])
    >>> view.answers[-1].outcome, [name for name, terms in view.terms.items() if terms.supports(view.payment)]
    ('timeout', ['Worldpay', 'Elavon', 'MIT', 'Amex'])
    """

    payment: Payment
    now: float
    terms: Mapping[str, Terms]
    timezone: ZoneInfo
    answers: list[Answer] = field(default_factory=list)
    waited: bool = False


class Draw(Protocol):
    """The policy's own luck on this payment: the same name gives the same number, whatever was asked before.

    >>> draw = rs.testing.draw(seed=1)
    >>> draw.uniform("first") == draw.uniform("first"), 0 < draw.uniform("first") < 1
    (True, True)
    """

    def uniform(self, name: str) -> float:
        """A number in (0, 1), keyed by the replication's luck, the payment and ``name``."""
        ...


class Policy(Protocol):
    """A router. A factory makes a fresh one for every replication, so it may keep state between payments.

    A class that has both methods is one; a scenario names it by its dotted path, as ``policy: my_module:Cheapest``.

    >>> class Cheapest:
    ...     def decide(self, view: rs.View, draw: rs.Draw) -> rs.Send | rs.Stop:
    ...         if view.answers:
    ...             return rs.Stop()
    ...         fees = {name: terms.fee.of(view.payment.amount_usd, approved=True)
    ...                 for name, terms in view.terms.items() if terms.supports(view.payment)}
    ...         return rs.Send((rs.Choice(min(fees, key=fees.get)),))
    ...     def observe(self, payment: rs.Payment, answer: rs.Answer) -> None:
    ...         pass
    >>> router: rs.Policy = Cheapest()
    >>> router.decide(rs.testing.view(processors=["Worldpay"]), rs.testing.draw()).choices[0].processor
    'Worldpay'
    """

    def decide(self, view: View, draw: Draw) -> Action:
        """What to do with the payment now. Called at arrival, after every failed answer and when a Wait ends."""
        ...

    def observe(self, payment: Payment, answer: Answer) -> None:
        """An answer has arrived (before ``decide`` is called for that payment). Must not keep ``payment``'s truth."""
        ...
