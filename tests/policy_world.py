"""What tests of policies stand on: payments, answers, views, and a draw whose numbers the test can set."""

from __future__ import annotations

from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from routesim.policies.catalog import PolicyDescription, PolicyParts, build
from routesim.policies.vocabulary import Action, Answer, Fee, Outcome, Payment, Policy, Send, Terms, View

ARRIVED_AT = 1_770_000_000.0  # 2026-02-02T02:40:00Z, a Monday
TERMS = {name: Terms(name, None, None, 30.0, Fee()) for name in ("A", "B", "C", "D")}

AnyDescription: TypeAdapter[PolicyParts] = TypeAdapter(PolicyDescription)


def payment(**fields: Any) -> Payment:
    """A payment like any other, but for ``fields``."""
    usual: dict[str, Any] = dict(
        payment_id="p1", order_id="o1", previous_payment_id=None, merchant_id="m", customer_id="c1", card_token="t1",
        arrived_at=ARRIVED_AT, due_at=None, amount_usd=50.0, currency="MXN", card_brand="visa", card_bin="411111",
        bank="hsbc", card_country="MX", channel="web", device=None, initiator="CIT", stored_credential=False,
        installments=None, mcc="4511", three_ds=None, logged_processor=None, hour=20, weekday=6, day=1,
    )  # fmt: skip
    return Payment(**(usual | fields))


def answer(number: int, processor: str, at: float, outcome: Outcome = "declined", code: str | None = "51",
           kind: Any = "soft") -> Answer:
    """An answer at ``at``; timeouts and unavailable ones have no decline kind."""
    declined = outcome == "declined"
    return Answer(number, processor, at - 1.0, at, outcome, code if declined else None, kind if declined else None)


def view(of: Payment, *answers: Answer, now: float | None = None, waited: bool = False, **terms: Terms) -> View:
    """What a router sees at ``now`` (left out: at the last answer, or at arrival)."""
    moment = now if now is not None else answers[-1].answered_at if answers else of.arrived_at
    return View(of, moment, TERMS | terms, ZoneInfo("America/Mexico_City"), list(answers), waited)


class Luck:
    """Draws keyed by name, from a seed; ``fixed`` sets some."""

    def __init__(self, seed: object = 0, **fixed: float) -> None:
        self.seed = seed
        self.fixed = {name.replace("__", ":"): value for name, value in fixed.items()}

    def uniform(self, name: str) -> float:
        known = self.fixed.get(name)
        if known is not None:
            return known
        return (int.from_bytes(sha256(f"{self.seed}/{name}".encode()).digest()[:8], "big") + 0.5) / 2**64


def policy(**parts: Any) -> Policy:
    """A fresh policy as its YAML would describe it."""
    return build(AnyDescription.validate_python(parts))()


def names(action: Action) -> list[str]:
    """The processors of a Send, best first."""
    assert isinstance(action, Send), action
    return [choice.processor for choice in action.choices]


def chain(of: Policy, about: Payment, outcomes: list[Outcome], luck: Luck | None = None) -> list[tuple[str, float]]:
    """The (processor, sent at) of each attempt on a payment, where attempt k ends as ``outcomes[k]`` 1 s later."""
    draw, answers, sent = luck or Luck(), [], []
    now, waited = about.arrived_at, False
    for _ in range(50):
        action = of.decide(view(about, *answers, now=now, waited=waited), draw)
        if isinstance(action, Send):
            sent.append((action.choices[0].processor, now))
            now, waited = now + 1.0, False
            answers.append(answer(len(sent), sent[-1][0], now, outcomes[len(sent) - 1]))
            of.observe(about, answers[-1])
            if outcomes[len(sent) - 1] == "approved":
                return sent
        elif hasattr(action, "until"):
            assert action.until > now
            now, waited = action.until, True
        else:
            return sent
    raise AssertionError("the chain does not end")
