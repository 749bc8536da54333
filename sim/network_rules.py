"""The card networks' limits on reattempts: what they say, as data, and how much of them each card has used up.

``network_rules.yaml`` holds the rules with their dates, fees and sources. A card is known by its token where there is
one, else by the identity that the simulation gives it, so that another card of the same customer counts apart.
Counts begin with the trace: what a card was declined before it is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from routesim.policies.vocabulary import Outcome, Payment
from routesim.sim.model import Code

Enforcement = Literal["enforce", "priced", "off"]
"""What the engine does about a breach: refuse the attempt, let it out for its fee, or nothing."""

_FILE = Path(__file__).with_name("network_rules.yaml")
_DAY_S = 86_400.0
_SWEEP_AFTER = 50_000  # declines between two looks for cards whose windows have passed

_Key = tuple[str | int, str | None, float | None]  # card, merchant, amount in USD where the rule asks for it


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limit(_Strict):
    """At most ``max`` of what the rule counts, from a date (UTC) on; without one, always."""

    from_: date | None = Field(default=None, alias="from")
    max: int = Field(ge=0)


class NetworkFee(_Strict):
    """What each attempt beyond the limit costs, in USD, from a date (UTC) on; without one, always."""

    from_: date | None = Field(default=None, alias="from")
    usd: float = Field(ge=0)


class NetworkRule(_Strict):
    """One rule of one network, as ``network_rules.yaml`` explains it. ``codes`` and ``advice``: code to its meaning;
    where both are empty every decline counts. ``window_days`` None: for ever."""

    rule: str
    network: str
    codes: dict[str, str] = {}
    advice: dict[str, str] = {}
    same_amount: bool
    window_days: float | None = Field(gt=0)
    counts: Literal["declines", "reattempts"]
    cleared_by_approval: bool
    limits: list[Limit] = Field(min_length=1)
    fees: list[NetworkFee] = Field(min_length=1)
    source: list[str] = Field(min_length=1)


class NetworkRules(_Strict):
    """The document: when the sources were last ``read``, and the rules."""

    read: date
    rules: list[NetworkRule]


@cache
def network_rules() -> NetworkRules:
    """The rules that come with this package."""
    return NetworkRules.model_validate(YAML(typ="safe", pure=True).load(_FILE.read_text(encoding="utf-8")))


class Breach(NamedTuple):
    """An attempt that a rule forbids: the rule's name, and what the network charges for it, USD."""

    rule: str
    fee_usd: float


class _Count:
    """The declines of every card that one rule looks at: times in seconds since the epoch, by key, ascending."""

    __slots__ = ("_fees", "_first", "_limits", "_name", "_window_s", "chains", "cleared_by_approval", "codes",
                 "same_amount")

    def __init__(self, rule: NetworkRule, codes: Mapping[str, Code]) -> None:
        self._name, self.same_amount, self.cleared_by_approval = rule.rule, rule.same_amount, rule.cleared_by_approval
        advised = {name for name, code in codes.items() if code.merchant_advice in rule.advice}
        self.codes = frozenset(rule.codes) | advised if rule.codes or rule.advice else None
        self._first = 1 if rule.counts == "reattempts" else 0  # the first decline of a chain is of no reattempt
        self._window_s = float("inf") if rule.window_days is None else rule.window_days * _DAY_S
        self._limits = [(_since(limit.from_), limit.max) for limit in rule.limits]
        self._fees = [(_since(fee.from_), fee.usd) for fee in rule.fees]
        self.chains: dict[_Key, list[float]] = {}

    def breach(self, key: _Key, now: float) -> Breach | None:
        times = self.chains.get(key)
        if times is None:
            return None
        horizon = now - self._window_s
        while len(times) > self._first and times[self._first] <= horizon:
            del times[self._first]
        if not times or times[-1] <= horizon:
            del self.chains[key]
            return None
        limit = _in_force(self._limits, now)
        if limit is None or len(times) - self._first < limit:
            return None
        return Breach(self._name, _in_force(self._fees, now) or 0.0)

    def declined(self, key: _Key, now: float) -> None:
        times = self.chains.get(key)
        if times is None or times[-1] <= now - self._window_s:
            self.chains[key] = [now]
        else:
            times.append(now)

    def forget(self, now: float) -> None:
        """Drop the chains whose windows have passed, so that memory does not grow with the trace."""
        horizon = now - self._window_s
        self.chains = {key: times for key, times in self.chains.items() if times[-1] > horizon}


class ReattemptCounts:
    """How much of the networks' limits each card has used up in one simulation.

    ``codes`` are the model's: their ``merchant_advice`` tells which declines come with which advice.
    """

    def __init__(self, codes: Mapping[str, Code], rules: Sequence[NetworkRule] | None = None) -> None:
        self._by_network: dict[str | None, list[_Count]] = {}
        for rule in network_rules().rules if rules is None else rules:
            self._by_network.setdefault(rule.network, []).append(_Count(rule, codes))
        self._declined: set[str | int] = set()  # the cards that any rule may know: most are not among them
        self._since_sweep = 0
        self._kept = 0  # cards that the last sweep left

    def breach(self, payment: Payment, card: int, now: float) -> Breach | None:
        """The first rule that an attempt at ``now`` (seconds since the epoch) with this card would break, or None."""
        if (payment.card_token or card) not in self._declined:
            return None
        this, any_amount = _keys(payment, card)
        for count in self._by_network.get(payment.card_brand, ()):
            breach = count.breach(this if count.same_amount else any_amount, now)
            if breach is not None:
                return breach
        return None

    def answered(self, payment: Payment, card: int, outcome: Outcome, code: str | None, now: float) -> None:
        """An attempt was answered. A timeout brings no word of the network, and a refused attempt never reached it, so
        neither counts; an answer without the issuer's word (91, 96) counts, as Visa's category 2 has it."""
        known = payment.card_token or card
        if outcome == "approved":
            if known in self._declined:
                this, any_amount = _keys(payment, card)
                for count in self._by_network.get(payment.card_brand, ()):
                    if count.cleared_by_approval:
                        count.chains.pop(this if count.same_amount else any_amount, None)
        elif (outcome == "declined" or outcome == "unavailable") and payment.card_brand in self._by_network:
            self._declined.add(known)
            this, any_amount = _keys(payment, card)
            for count in self._by_network[payment.card_brand]:
                if count.codes is None or code in count.codes:
                    count.declined(this if count.same_amount else any_amount, now)
            self._since_sweep += 1
            if self._since_sweep > max(_SWEEP_AFTER, self._kept):
                self._sweep(now)

    def _sweep(self, now: float) -> None:
        self._since_sweep = 0
        every = [count for counts in self._by_network.values() for count in counts]
        for count in every:
            count.forget(now)
        self._declined = {key[0] for count in every for key in count.chains}
        self._kept = len(self._declined)


def _keys(payment: Payment, card: int) -> tuple[_Key, _Key]:
    """The card at the merchant: at this amount, and at any."""
    known = payment.card_token or card
    return (known, payment.merchant_id, payment.amount_usd), (known, payment.merchant_id, None)


def _since(day: date | None) -> float:
    return float("-inf") if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _in_force(dated: Sequence[tuple[float, float]], now: float) -> float | None:
    """The value whose date is the last one not after ``now``; None before the first."""
    in_force = None
    for since, value in dated:
        if since <= now:
            in_force = value
    return in_force
