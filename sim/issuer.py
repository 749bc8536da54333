"""The issuer's decision on every payment of a trace, in one world, vectorised; and its words for a decline.

For each processor p and payment i the logit of approval by judgement is ``approval_logit(p)[i]``; a payment's block
(an empty account, a stolen card) is one state for all its attempts, whichever processor carries them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np
from scipy import special

from routesim.sim.arrays import Floats
from routesim.sim.draws import key, uniform
from routesim.sim.model import Predictor, Term, World
from routesim.sim.recovery_clock import RecoveryClock, countries
from routesim.sim.trace import Levels, Trace


def evaluate(predictor: Predictor, trace: Trace, fixed: Mapping[str, str], world: World, name: str) -> Floats:
    """A linear predictor on every payment of the trace, (n,); ``fixed`` gives columns that are constants here."""
    total = np.full(len(trace), predictor.intercept)
    for number, term in enumerate(predictor.terms):
        total += _term(term, trace, fixed, world, f"{name}/{number}")
    return total


def _term(term: Term, trace: Trace, fixed: Mapping[str, str], world: World, name: str) -> Floats:
    codes, names = np.zeros(len(trace), dtype=np.int64), [""]
    for column in term.by:
        levels = _fixed_levels(fixed[column], len(trace)) if column in fixed else trace.levels(column)
        combined = codes * len(levels.names) + levels.codes
        present, codes = np.unique(combined, return_inverse=True)
        prefix = [names[c // len(levels.names)] for c in present]
        names = [f"{p}|{levels.names[c % len(levels.names)]}" if p or column != term.by[0]
                 else levels.names[c % len(levels.names)] for p, c in zip(prefix, present, strict=True)]
    effects = np.array([_effect(term, level, world, name) for level in names])[codes]
    if term.of == "log_amount_usd":
        return effects * (trace.log_amount_usd - term.centre)
    return effects


def _fixed_levels(value: str, n: int) -> Levels:
    return Levels(np.zeros(n, dtype=np.int64), (value,))


def _effect(term: Term, level: str, world: World, name: str) -> float:
    known = term.effects.get(level)
    if known is not None:
        return known
    if world.number is None or term.sd == 0:
        return 0.0
    # A level that history never showed is as uncertain as the spread of the known ones says.
    return float(special.ndtri(uniform(key("level", name, level), key("world", world.seed, world.number)))) * term.sd


class IssuerDecisions:
    """The issuer's side of one world on one trace."""

    def __init__(self, world: World, trace: Trace, like: Mapping[str, str] | None = None) -> None:
        self.world, self.trace = world, trace
        self._like = dict(like or {})
        self._shifts: dict[str, Floats] = {}
        self._logits: dict[str, memoryview] = {}
        issuer = world.model.issuer
        self.blocks = list(issuer.blocks.values())
        self._clocks: dict[tuple[int, str], RecoveryClock] = {}
        self._block_codes = [code_table(block.codes) for block in self.blocks]
        odds = [np.exp(evaluate(block.odds, trace, {}, world, f"block/{name}"))
                for name, block in issuer.blocks.items()]
        total = 1 + np.sum(odds, axis=0) if odds else np.ones(len(trace))
        #: cumulative probabilities of the blocks, (n, number of blocks), in the order of ``blocks``
        self.block_cumulative: Floats = (np.cumsum(np.stack(odds, axis=1), axis=1) / total[:, None]
                                        if odds else np.zeros((len(trace), 0)))
        self._shares = {name: code_table(shares) for name, shares in issuer.judgement_codes.items()}

    @cached_property
    def _country(self) -> list[str]:
        """The country whose pay days matter to each payment, (n,)."""
        known = next(block.calendar.pay_days for block in self.blocks if block.calendar is not None)
        card, currency = (np.array(levels.names)[levels.codes].tolist() for levels in
                          (self.trace.levels("card_country"), self.trace.levels("currency")))
        return countries(card, currency, known)

    def clock(self, block: int, row: int) -> RecoveryClock | None:
        """The clock by which a block of a payment's card ends; None: the wall's."""
        calendar = self.blocks[block].calendar
        if calendar is None:
            return None
        country = self._country[row]
        made = self._clocks.get((block, country))
        if made is None:
            days = calendar.pay_days[country].days if country else []
            made = RecoveryClock(float(self.trace.arrived_at[0]), ZoneInfo(self.world.model.timezone), days,
                                 calendar.effects)
            self._clocks[block, country] = made
        return made

    def shift(self, processor: str, logit: Floats) -> None:
        """Add a what-if's shift (n,) to a processor's logit of approval."""
        self._shifts[processor] = self._shifts.get(processor, np.zeros(len(self.trace))) + logit
        self._logits.pop(processor, None)

    def approval_logit(self, processor: str) -> memoryview:
        """Logit of approval by judgement at ``processor`` for every payment, (n,), as a view that is quick to index."""
        if processor not in self._logits:
            self._logits[processor] = np.ascontiguousarray(self.approval_logits(processor)).data
        return self._logits[processor]

    def approval_logits(self, processor: str) -> Floats:
        """The same as an array."""
        known = self._like.get(processor, processor)
        values = evaluate(self.world.model.issuer.approval, self.trace, {"processor": known}, self.world, "approval")
        return values + self._shifts.get(processor, 0.0)

    def block_code(self, block: int, u: float) -> str:
        """The decline code of a block, by a uniform draw."""
        return pick(self._block_codes[block], u)

    def judgement_code(self, processor: str, u: float) -> str:
        """The decline code of a judgement, by a uniform draw."""
        shares = self._shares.get(self._like.get(processor, processor)) or self._shares[""]
        return pick(shares, u)

    def judgement_shares(self, processor: str) -> dict[str, float]:
        """The shares of a judgement's decline codes at a processor, as the model has them."""
        known = self.world.model.issuer.judgement_codes
        return known.get(self._like.get(processor, processor)) or known[""]


CodeTable = tuple[list[str], list[float]]


def code_table(shares: Mapping[str, float]) -> CodeTable:
    """Codes in order of name with their cumulative shares, which need not add to one."""
    names = sorted(shares)
    total = sum(shares.values())
    return names, list(accumulate(shares[n] / total for n in names))


def pick(table: CodeTable, u: float) -> str:
    """The code at a uniform draw."""
    names, cumulative = table
    for name, bound in zip(names, cumulative, strict=True):
        if u < bound:
            return name
    return names[-1]


def first_above(cumulative: Sequence[float] | Floats, u: float) -> int:
    """Index of the first cumulative probability above ``u``, or -1 when there is none."""
    for i, bound in enumerate(cumulative):
        if u < bound:
            return i
    return -1
