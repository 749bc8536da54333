"""What a payment that is tried again later needs of its customer: that he still wants it, and a card on file.

Merchant-initiated payments need neither: nobody waits for them, and their credential is on file by definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from scipy import special

from routesim.policies.vocabulary import Initiator, Payment, Refusal
from routesim.sim.draws import Luck, uniform

DELIBERATE_DELAY_S = 15 * 60.0
"""A gap of this much or more between an answer and the next attempt is not waited through at the checkout."""

CUSTOMER_GONE = Refusal("customer_gone", breaks_rule=False)
NO_STORED_CREDENTIAL = Refusal("no_stored_credential")

_ROUNDING_S = 1e-3  # a wait of exactly the delay is one, however times of 1.8e9 s are rounded


@dataclass(frozen=True)
class Patience:
    """How long customers still want what they asked for: lognormal from arrival, ``median_s`` (s) and ``sigma`` (of
    the logarithm), for payments from these ``initiators``."""

    median_s: float
    sigma: float = 1.0
    initiators: frozenset[Initiator] = frozenset(("CIT", "unknown"))

    def lasts_s(self, key: int, luck: Luck) -> float:
        """Seconds from arrival until the customer of the payment with this key is gone, whatever the policy does."""
        return self.median_s * exp(self.sigma * float(special.ndtri(uniform(key, luck.purpose("patience")))))


@dataclass(frozen=True)
class Customers:
    """What is assumed of customers; ``needs_credential``: a delayed retry needs a stored credential."""

    patience: Patience | None = None
    needs_credential: bool = False

    def refusal(self, payment: Payment, key: int, luck: Luck, arrived_at: float, last_at: float,
                now: float) -> Refusal | None:
        """Why an attempt at ``now`` cannot be made, or None. ``last_at`` is the last answer, or the arrival; all times
        in seconds since the epoch.
        """
        if payment.initiator == "MIT":
            return None
        patience = self.patience
        if (patience is not None and now > arrived_at and payment.initiator in patience.initiators
                and now - arrived_at >= patience.lasts_s(key, luck)):
            return CUSTOMER_GONE
        if (self.needs_credential and payment.stored_credential is not True
                and now - last_at >= DELIBERATE_DELAY_S - _ROUNDING_S):
            return NO_STORED_CREDENTIAL
        return None
