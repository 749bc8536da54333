"""A router that runs an experiment: each payment meets the policy of its variant, and that policy alone hears of it.

The variants share the processors, so what one sends there is felt by the other; what they learn they do not share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from routesim.policies.experiment.assignment import Assignment
from routesim.policies.vocabulary import Action, Answer, Draw, Payment, Policy, Stop, View


class Assigned(NamedTuple):
    """A payment's variant, and whether the split of its arrival would not have given it."""

    variant: str
    stale: bool


class ExperimentPolicy:
    """Sends each payment to the policy of its variant, from its arrival to its end, whatever the split does meanwhile.

    ``variants``: a fresh policy for each; ``control``: whose policy also takes the payments that are not in the
    experiment. ``assigned`` maps the payments in it to their variants, which the report needs of every one; the policy
    that a payment meets is kept until it is approved or given up. Raises ValueError where a stage names a variant
    that has no policy.
    """

    def __init__(self, assignment: Assignment, variants: Mapping[str, Policy], control: str) -> None:
        named = {name: None for stage in assignment.experiment.stages for name, _ in stage.split}
        lacking = [name for name in (*named, control) if name not in variants]
        if lacking:
            raise ValueError(f"experiment {assignment.experiment.name!r}: no policy is called {lacking[0]!r}")
        self.assigned: dict[str, Assigned] = {}
        self._assignment = assignment
        self._variants = dict(variants)
        self._control = variants[control]
        self._met: dict[str, Policy] = {}
        self._told = {(name, stale): Assigned(name, stale) for name in self._variants for stale in (False, True)}

    def decide(self, view: View, draw: Draw) -> Action:
        """What the payment's variant decides."""
        payment = view.payment
        action = (self._met.get(payment.payment_id) or self._assign(payment, view.now)).decide(view, draw)
        if type(action) is Stop:
            del self._met[payment.payment_id]
        return action

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Tell the payment's variant, and no other, of the answer."""
        self._met[payment.payment_id].observe(payment, answer)
        if answer.outcome == "approved":
            del self._met[payment.payment_id]

    def _assign(self, payment: Payment, now_s: float) -> Policy:
        variant = self._assignment.variant(payment, now_s)
        if variant is None:
            policy = self._control
        else:
            policy = self._variants[variant]
            self.assigned[payment.payment_id] = self._told[variant, self._assignment.stale(payment, now_s)]
        self._met[payment.payment_id] = policy
        return policy
