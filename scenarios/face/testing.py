"""Help for testing a router alone: what it sees (a View), and its luck (a Draw), without a simulation.

>>> class Patient:
...     '''Waits an hour after a lack of funds, then tries where it was; gives anything else up.'''
...     def decide(self, view, draw):
...         if not view.answers or view.waited:
...             return rs.Send((rs.Choice("Worldpay"),))
...         return rs.Wait(view.now + 3600) if view.answers[-1].decline_code == "51" else rs.Stop()
...     def observe(self, payment, answer):
...         pass
>>> def test_patient_waits_an_hour_and_sends_again():
...     router, draw = Patient(), rs.testing.draw()
...     poor = [rs.testing.answer("Worldpay", "declined", "51")]
...     assert router.decide(rs.testing.view(amount_usd=80), draw).choices[0].processor == "Worldpay"
...     view = rs.testing.view(amount_usd=80, answers=poor)
...     assert router.decide(view, draw) == rs.Wait(view.now + 3600)
...     assert router.decide(rs.testing.view(answers=poor, waited=True), draw).choices[0].processor == "Worldpay"
...     assert router.decide(rs.testing.view(answers=[rs.testing.answer("MIT", "declined", "14")]), draw) == rs.Stop()
>>> test_patient_waits_an_hour_and_sends_again()
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, get_args
from zoneinfo import ZoneInfo

from routesim.policies.payment_fields import FurtherFields
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import PAYMENT_FIELDS, Answer, DeclineKind, Draw, Fee, Outcome, Payment, Terms, View
from routesim.scenarios.document.moments import known_timezone
from routesim.sim.draws import Luck, identity
from routesim.sim.errors import BadInput
from routesim.sim.flow import PolicyDraw

__all__ = ["answer", "draw", "payment", "view"]

NOON = datetime(2026, 2, 2, 12, tzinfo=UTC).timestamp()
"""When a payment arrives unless told, s since 1970 UTC: a Monday's noon."""
PROCESSORS = ("Worldpay", "Elavon", "MIT", "Amex")
_UNLESS_TOLD: Mapping[str, Any] = MappingProxyType({
    "payment_id": "P1", "order_id": "O1", "arrived_at": NOON, "amount_usd": 100.0, "currency": "USD",
    "initiator": "CIT"})


def payment(*, timezone: str = "UTC", **known: Any) -> Payment:
    """A payment of which ``known`` is known, by the names of Payment's fields.

    Unless told it is a customer's own of 100 USD, P1 of order O1, that arrives on Monday, 2026-02-02, at noon UTC; all
    else is absent. Hour, weekday and day follow from its arrival in ``timezone``; ``further`` maps the names of a
    profile's fields to their values. Raises BadInput for a field that no payment has, or a time zone that there is not.

    >>> paid = rs.testing.payment(amount_usd=80.0, currency="MXN", timezone="America/Mexico_City")
    >>> paid.amount_usd, paid.currency, paid.hour, paid.weekday, paid.bank
    (80.0, 'MXN', 6, 0, None)
    """
    names = [field.name for field in fields(Payment)]
    for name in known:
        if name not in names:
            raise BadInput(f"a payment has no field {name!r}{nearest(name, names)}")
    values: dict[str, Any] = {name: _UNLESS_TOLD.get(name) for name in PAYMENT_FIELDS} | known
    values["further"] = FurtherFields(known.get("further", {}))
    local = datetime.fromtimestamp(values["arrived_at"], _zone(timezone))
    clock = {"hour": local.hour, "weekday": local.weekday(), "day": local.day}
    return Payment(**(values | {name: value for name, value in clock.items() if name not in known}))


def answer(processor: str = "Worldpay", outcome: Outcome = "declined", decline_code: str | None = None,
           decline_kind: DeclineKind | None = None, *, sent_at: float = NOON, latency_s: float = 1.0) -> Answer:
    """An answer to one attempt, sent at ``sent_at`` (s since 1970 UTC) and back ``latency_s`` later.

    A failure is soft unless told. ``view`` numbers a payment's answers. Raises BadInput for an outcome that there is
    not.

    >>> back = rs.testing.answer("Elavon", "timeout", latency_s=30)
    >>> back.outcome, back.decline_kind, back.answered_at - back.sent_at
    ('timeout', 'soft', 30.0)
    """
    if outcome not in get_args(Outcome):
        raise BadInput(f"no outcome is called {outcome!r}{nearest(outcome, get_args(Outcome))}", "outcome")
    kind: DeclineKind | None = None if outcome == "approved" else decline_kind or "soft"
    return Answer(1, processor, sent_at, sent_at + latency_s, outcome, decline_code, kind)


def view(*, answers: Sequence[Answer] = (), now: float | None = None, waited: bool = False,
         processors: Iterable[str | Terms] = PROCESSORS, timezone: str = "UTC", **known: Any) -> View:
    """What a router sees of a payment (see ``payment`` for ``known``) when it must decide.

    ``answers`` are those to its attempts so far, numbered here in their order; ``now`` (s since 1970 UTC) is by default
    the last answer's time, or the payment's arrival. ``processors`` are Terms, or names of processors that take every
    payment for nothing and answer within 30 s.

    >>> seen = rs.testing.view(amount_usd=80, answers=[rs.testing.answer("MIT", "declined", "51")])
    >>> seen.answers[0].attempt_number, seen.now - seen.payment.arrived_at, "Elavon" in seen.terms
    (1, 1.0, True)
    """
    paid = payment(timezone=timezone, **known)
    numbered = [each._replace(attempt_number=number) for number, each in enumerate(answers, 1)]
    latest = numbered[-1].answered_at if numbered else paid.arrived_at
    terms = [each if isinstance(each, Terms) else Terms(each, None, None, 30.0, Fee()) for each in processors]
    return View(paid, latest if now is None else now, {each.processor: each for each in terms}, _zone(timezone),
                numbered, waited)


def draw(seed: int = 0, payment_id: str = "P1", *, fixed: Mapping[str, float] = MappingProxyType({})) -> Draw:
    """A router's luck on one payment, as in a simulation with that seed; ``fixed`` sets the numbers that it names.

    >>> luck = rs.testing.draw(seed=7, fixed={"coin": 0.01})
    >>> luck.uniform("coin"), luck.uniform("first") == rs.testing.draw(seed=7).uniform("first")
    (0.01, True)
    """
    return _Draw(PolicyDraw(identity(payment_id), Luck(seed)), fixed)


class _Draw:
    """The engine's draw, but for the numbers that a test has set."""

    def __init__(self, drawn: Draw, fixed: Mapping[str, float]) -> None:
        self._drawn, self._fixed = drawn, dict(fixed)

    def uniform(self, name: str) -> float:
        return self._fixed[name] if name in self._fixed else self._drawn.uniform(name)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(known_timezone(name))
    except ValueError as error:
        raise BadInput(str(error), "timezone") from None
