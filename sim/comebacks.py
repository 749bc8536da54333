"""Customers who return after a failure, with a new payment on the same order.

Where history saw the forerunner fail, history decides: the payment that followed it enters, or none does. Where the
forerunner failed in the simulation but not in history, or history has no word, the model's comebacks decide.
"""

from __future__ import annotations

from typing import NamedTuple

from routesim.policies.vocabulary import Payment
from routesim.sim.draws import Luck, identity, uniform
from routesim.sim.fate import Card, Fates
from routesim.sim.model import Comebacks
from routesim.sim.trace import CHUNK, Trace

_DONOR_TRIES = 16


class Return(NamedTuple):
    """A payment that will arrive: ``own_row`` is its row in the trace or -1, ``row`` the one whose features it has."""

    payment: Payment
    own_row: int
    row: int
    key: int
    card: Card
    at: float


class ComebackRule:
    """Decides for one replication who returns, when, and with which card."""

    def __init__(self, trace: Trace, model: Comebacks | None, fates: Fates, luck: Luck) -> None:
        self._trace, self._model, self._fates, self._luck = trace, model, fates, luck
        self._logged_approved: list[bool | None] = trace.table["logged_approved"].to_pylist()

    def after(self, payment: Payment, own_row: int, row: int, key: int, card: Card, last_code: str | None,
              now: float) -> Return | None:
        """Who follows a payment that ended unapproved at ``now``; None when nobody does."""
        follower = int(self._trace.follower[own_row]) if own_row >= 0 else -1
        if follower >= 0:
            return self._logged(follower, key, card, now)
        model = self._model
        history_saw_it_fail = own_row >= 0 and self._logged_approved[own_row] is False
        if model is None or history_saw_it_fail or payment.initiator not in model.initiators:
            return None
        if payment.previous_payment_id is not None:
            return None  # one comeback per order: the model is fitted to first returns
        if self._uniform(key, "comeback") >= model.probability.get(last_code or "", model.probability.get("", 0.0)):
            return None
        return self._invented(model, payment, row, key, card, now)

    def _logged(self, follower: int, key: int, card: Card, now: float) -> Return:
        at = float(self._trace.arrived_at[follower])
        if at <= now:  # the simulation's failure came later than history's
            at = now + self._delay_s(key)
        payment = self._trace.payments(follower // CHUNK)[follower % CHUNK]
        same = bool(self._trace.same_card[follower])
        return Return(payment, follower, follower, int(self._trace.keys[follower]),
                      card if same else self._fates.card(follower, at), at)

    def _invented(self, model: Comebacks, payment: Payment, row: int, key: int, card: Card, now: float) -> Return:
        at = now + self._delay_s(key)
        payment_id = f"{payment.payment_id}+1"
        own_key = identity(payment_id)
        if self._uniform(key, "comeback card") < model.same_card_share:
            donor = row
        else:
            donor = self._donor(payment, row, key)
            card = self._fates.new_card(donor, own_key, at)
        returning = self._trace.comeback_payment(donor, payment_id, payment, at)
        return Return(returning, -1, donor, own_key, card, at)

    def _donor(self, payment: Payment, row: int, key: int) -> int:
        """A row of the trace with another card, of a payment in the same currency from the same kind of initiator."""
        for number in range(_DONOR_TRIES):
            candidate = int(self._uniform(key, f"comeback donor {number}") * len(self._trace))
            other = self._trace.payments(candidate // CHUNK)[candidate % CHUNK]
            if other.currency == payment.currency and other.initiator == payment.initiator:
                return candidate
        return row

    def _delay_s(self, key: int) -> float:
        if self._model is None:
            return 60.0
        return 60 * self._model.delay_min.quantile(self._uniform(key, "comeback delay"))

    def _uniform(self, key: int, purpose: str) -> float:
        return uniform(key, self._luck.purpose(purpose))
