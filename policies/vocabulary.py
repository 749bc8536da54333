"""The words in which the engine and a policy speak: what a policy sees, and what it may answer.

All times are seconds since 1970-01-01T00:00:00Z as floats, all amounts US dollars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

Outcome = Literal["approved", "declined", "unavailable", "timeout", "refused"]
DeclineKind = Literal["soft", "hard"]
Decision = Literal["rank", "retry", "failover", "probe"]
Initiator = Literal["CIT", "MIT", "unknown"]
BASIS_POINTS = 10_000  # in the whole


@dataclass(slots=True, eq=False)
class Payment:
    """One authorisation wish, as the router is asked to fulfil it.

    ``hour`` (0-23), ``weekday`` (0 = Monday) and ``day`` (of the month) are those of its arrival in the
    scenario's time zone. An absent value is None. ``logged_processor`` is where history sent its first
    attempt; a router in production would not know it, so only a route that asks for it by name
    (``logged_first``, ``logged``) may use it.

    >>> paid = rs.testing.payment(amount_usd=80.0, currency="MXN")
    >>> paid.amount_usd, paid.currency, paid.initiator
    (80.0, 'MXN', 'CIT')
    """

    payment_id: str
    order_id: str
    previous_payment_id: str | None
    merchant_id: str | None
    customer_id: str | None
    card_token: str | None
    arrived_at: float
    due_at: float | None
    amount_usd: float
    currency: str
    card_brand: str | None
    card_bin: str | None
    bank: str | None
    card_country: str | None
    channel: str | None
    device: str | None
    initiator: Initiator
    stored_credential: bool | None
    installments: int | None
    mcc: str | None
    three_ds: bool | None
    logged_processor: str | None
    hour: int
    weekday: int
    day: int


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
        """Whether the processor takes payments in this currency with this brand of card."""
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


class Send(NamedTuple):
    """Send the payment to the first of ``choices`` (at most three, best first) that is legal.

    ``timeout_s`` shortens the processor's own timeout. ``skip_reason`` says why a better processor was passed over.

    >>> action = rs.Send((rs.Choice("Worldpay"), rs.Choice("Elavon")), timeout_s=8.0)
    >>> [choice.processor for choice in action.choices]
    ['Worldpay', 'Elavon']
    """

    choices: tuple[Choice, ...]
    decision: Decision = "rank"
    timeout_s: float | None = None
    skip_reason: str | None = None


class Wait(NamedTuple):
    """Ask again at ``until`` (which must lie in the future).

    >>> view = rs.testing.view()
    >>> rs.Wait(view.now + 24 * 3600).until > view.now
    True
    """

    until: float


class Stop(NamedTuple):
    """Give the payment up.

    >>> rs.Stop().reason
    'spent'
    """

    reason: str = "spent"


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
