"""The issuer's decision, fitted: approval by comparable payments, the state that attempts share, codes and recovery.

Penalised maximum likelihood (``issuer_likelihood``) by scoring: the Hessian is the sum of score products (Berndt,
Hall, Hall and Hausman 1974) plus the prior's precision, which is also the inverse covariance of the estimates. The
spreads of the pooled effects are learnt by empirical Bayes between fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg, optimize, special

from routesim.calibration.issuer.calendar import FoundCalendar, between_pay_days, find_calendar, prior_sds
from routesim.calibration.issuer.design import WEAK_SD, Design, TermSpec, design
from routesim.calibration.issuer.likelihood import FINE_NODES, NODES, IssuerLikelihood, Layout, Structure
from routesim.calibration.sequences import Sequences
from routesim.sim.arrays import Floats
from routesim.sim.distributions import Exponential
from routesim.sim.model import Code, Issuer, IssuerBlock
from routesim.sim.recovery_clock import HOUR_KINDS
from routesim.sim.trace import Levels
from routesim.sim.uncertainty import Block, Scale, pointer

APPROVAL_TERMS = (
    TermSpec(("processor",), sd=WEAK_SD),
    TermSpec((), slope=True, sd=WEAK_SD),
    TermSpec(("currency",), sd=WEAK_SD),
    TermSpec(("initiator",), sd=WEAK_SD),
    TermSpec(("card_brand",)),
    TermSpec(("bank",)),
    TermSpec(("card_country",)),
    TermSpec(("channel",)),
    TermSpec(("three_ds",)),
    TermSpec(("hour",)),
    TermSpec(("processor", "bank")),
    TermSpec(("processor", "currency")),
    TermSpec(("processor", "card_brand")),
    TermSpec(("processor", "card_country")),
    TermSpec(("processor",), slope=True),
)
BLOCK_TERMS = (
    TermSpec((), slope=True, sd=WEAK_SD),
    TermSpec(("initiator",), sd=WEAK_SD),
    TermSpec(("currency",)),
    TermSpec(("card_brand",)),
    TermSpec(("bank",)),
    TermSpec(("card_country",)),
)

IMMEDIATE_H = 1.0
PERSISTENT = 0.5  # a code is a state of the card when prompt further attempts are approved this share as often as first
_PRIOR_LOG_SIGMA = (np.log(0.7), 1.0)
_PRIOR_LOG_MEAN_H = (np.log(48.0), 1.5)
_PRIOR_LOGIT_SHARE = (2.0, 1.5)
_PRIOR_LOG_TECHNICAL = (np.log(0.005), 1.5)
_SHARE_SD = 5.0
_ROUNDS = 4
_SHOWN = 2.0  # expected declines of a code by a cause below which the cause is dropped


@dataclass(frozen=True)
class FittedIssuer:
    """The model's issuer, the technical rates per processor and code, and how well all of them are known."""

    issuer: Issuer
    technical: dict[str, dict[str, float]]
    uncertainty: Block
    log_likelihood: float
    sequences: int
    calendar: FoundCalendar | None = None


def fit_issuer(data: Sequences, codes: Mapping[str, Code], progress: Callable[[str], None] = lambda _: None,
               ) -> FittedIssuer:
    """Fit to all sequences of a history. ``codes`` tells which codes are hard, and which no issuer spoke."""
    structure = find_structure(data, codes)
    specs = [s for s in APPROVAL_TERMS if _varies(data, s)]
    odds_specs = [s for s in BLOCK_TERMS if _varies(data, s)]
    processor = Levels(data.processor, data.processors)
    approval = design(data.trace, data.payment, specs, {"processor": processor})
    odds = design(data.trace, data.payment[data.start[:-1]], odds_specs)
    likelihood = IssuerLikelihood(data, structure, approval, odds, NODES)
    theta = _start(data, likelihood)
    sds = approval.start_sds()
    block_sds = [odds.start_sds() for _ in structure.blocks]
    for number in range(_ROUNDS):
        progress(f"issuer's decision, round {number + 1} of {_ROUNDS}")
        if number > 0:
            nodes = FINE_NODES if number == _ROUNDS - 1 else NODES
            smaller = shown_structure(likelihood, theta)
            old, likelihood = likelihood, IssuerLikelihood(data, smaller, approval, odds, nodes)
            theta = _carried(old, likelihood, theta)
            block_sds = [block_sds[structure.block_names.index(name)] for name in smaller.block_names]
            structure = smaller
        mean, precision = _prior(likelihood.layout, approval, sds, odds, block_sds)
        theta, covariance, value = _climb(likelihood, theta, mean, precision)
        if number < _ROUNDS - 1:
            variances = np.diag(covariance)
            at = likelihood.layout.approval
            sds = approval.learn_sds(sds, theta[at], variances[at])
            block_sds = [odds.learn_sds(b, theta[o], variances[o])
                         for b, o in zip(block_sds, likelihood.layout.odds, strict=True)]
    calendar = find_calendar(data, likelihood, approval, odds, theta) if structure.recovers else None
    if calendar is not None and calendar.hour_kinds:
        progress("recovery by the calendar")
        structure = replace(structure, hour_kinds=calendar.hour_kinds)
        old, likelihood = likelihood, IssuerLikelihood(data, structure, approval, odds, FINE_NODES, calendar.exposure)
        theta = _carried(old, likelihood, theta)
        mean, precision = _prior(likelihood.layout, approval, sds, odds, block_sds)
        theta, covariance, value = _climb(likelihood, theta, mean, precision)
        for recovery in likelihood.layout.recovery:
            at = slice(recovery.start + 2, recovery.stop)
            covariance[at, at] += between_pay_days(calendar.hour_kinds, calendar.pay_days)
    return _document(data, structure, likelihood.layout, approval, odds, sds, block_sds, theta, covariance, value,
                     calendar)


def find_structure(data: Sequences, codes: Mapping[str, Code]) -> Structure:
    """The causes that each code may have, from what prompt further attempts with the same card were answered.

    A code after which further attempts within the hour are nearly all declined is a state of the card; hard ones
    together form one state that never ends, each soft one its own, which may. A hard code that is never followed is
    taken for such a state. Codes that no issuer spoke may be the processor's. Any code may be a judgement too.
    """
    declined, followed = np.zeros(len(data.codes) + 1), np.zeros(len(data.codes) + 1)
    first = np.zeros(len(data.code), dtype=bool)
    first[data.start[:-1]] = True
    later = np.flatnonzero(~first)
    prompt = later[data.since_h[later] - data.since_h[later - 1] < IMMEDIATE_H]
    np.add.at(followed, data.code[prompt - 1], 1)
    np.add.at(declined, data.code[prompt - 1], data.code[prompt] > 0)
    usual = float((data.code[data.start[:-1]] == 0).mean())
    hard: list[int] = []
    blocks: list[tuple[int, ...]] = []
    names: list[str] = []
    for number, name in enumerate(data.codes, start=1):
        meaning = codes.get(name) or Code()
        # Two declines of two are weak evidence: one imagined approval and one decline stand beside them.
        approved = (followed[number] - declined[number] + usual) / (followed[number] + 2)
        persistent = approved < PERSISTENT * usual
        if meaning.kind == "hard" and (persistent or followed[number] < 5):
            hard.append(number)
        elif persistent:
            blocks.append((number,))
            names.append(f"state {name}")
    recovers = tuple(range(len(blocks)))
    if hard:
        blocks.append(tuple(hard))
        names.append("invalid card")
    unavailable = {c for c, name in enumerate(data.codes, start=1)
                   if (codes.get(name) or Code()).outcome == "unavailable"}
    technical = tuple((p, c) for c in sorted(unavailable) for p in range(len(data.processors))
                      if ((data.code == c) & (data.processor == p)).any())
    everything = tuple(range(1, len(data.codes) + 1))
    of_blocks = {c for block in blocks for c in block}
    repeat_codes = tuple(c for c in everything if c not in of_blocks | unavailable)
    return Structure(everything, tuple(blocks), tuple(names), technical, recovers, repeat_codes)


def shown_structure(likelihood: IssuerLikelihood, theta: Floats) -> Structure:
    """The causes of each code that explain at least ``_SHOWN`` of its declines; others would be known by nothing but
    their prior, and drawn worlds would take that for knowledge. And the codes that are judgements for the most part."""
    old = likelihood.structure
    causes = likelihood.causes(theta)
    total = np.maximum(sum(causes.values(), np.zeros(len(likelihood.data.codes) + 1)), 1e-9)
    main = {c: max(causes, key=lambda cause: (causes[cause][c], cause)) for c in old.judgement}

    def shown(cause: str, code: int) -> bool:
        return main.get(code) == cause or causes[cause][code] >= _SHOWN

    blocks = [tuple(c for c in codes if shown(name, c))
              for name, codes in zip(old.block_names, old.blocks, strict=True)]
    kept = [g for g, codes in enumerate(blocks) if codes]
    return Structure(
        judgement=tuple(c for c in old.judgement if shown("judgement", c)),
        blocks=tuple(blocks[g] for g in kept),
        block_names=tuple(old.block_names[g] for g in kept),
        technical=tuple((p, c) for p, c in old.technical if shown("technical", c)),
        recovers=tuple(kept.index(g) for g in old.recovers if g in kept),
        repeat_codes=tuple(c for c in old.judgement if causes["judgement"][c] >= 0.5 * total[c]),
    )


def _carried(old: IssuerLikelihood, new: IssuerLikelihood, theta: Floats) -> Floats:
    """The parameters of one structure as a start for a smaller one."""
    a, b, was, now = old.layout, new.layout, old.structure, new.structure
    start = np.zeros(b.size)
    for name in ("approval", "log_sigma", "repeat"):
        start[getattr(b, name)] = theta[getattr(a, name)]
    start[b.judgement] = theta[a.judgement][[was.judgement.index(c) for c in now.judgement]]
    start[b.technical] = theta[a.technical][[was.technical.index(pair) for pair in now.technical]]
    for g, name in enumerate(now.block_names):
        before = was.block_names.index(name)
        start[b.odds[g]] = theta[a.odds[before]]
        start[b.block_shares[g]] = theta[a.block_shares[before]][[was.blocks[before].index(c) for c in now.blocks[g]]]
        if g in now.recovers:
            law = theta[a.recovery[was.recovers.index(before)]]
            into = b.recovery[now.recovers.index(g)]
            start[into.start:into.start + len(law)] = law
    return start


def _varies(data: Sequences, spec: TermSpec) -> bool:
    """Whether history shows more than one level of every column of a term."""
    return all(len(data.processors) > 1 if column == "processor"
               else len(np.unique(data.trace.levels(column).codes[data.payment])) > 1 for column in spec.by)


def _start(data: Sequences, likelihood: IssuerLikelihood) -> Floats:
    layout, structure = likelihood.layout, likelihood.structure
    theta = np.zeros(layout.size)
    first = data.code[data.start[:-1]]
    blocked = np.isin(first, [c for codes in structure.blocks for c in codes])
    judged = ~blocked
    rate = float(np.clip((first[judged] == 0).mean() if judged.any() else 0.5, 0.02, 0.98))
    theta[layout.approval.start] = special.logit(rate) * 1.15  # the frailty flattens the average
    for g, codes in enumerate(structure.blocks):
        share = max(float(np.isin(first, codes).mean()), 1e-5)
        theta[layout.odds[g].start] = np.log(share / max(1 - blocked.mean(), 1e-5))
        theta[layout.block_shares[g]] = np.log([max((first == c).sum(), 0.5) for c in codes])
    counts = np.array([(data.code == c).sum() for c in structure.judgement], dtype=float)
    counts[np.isin(structure.judgement, [c for codes in structure.blocks for c in codes])] *= 0.05
    theta[layout.judgement] = np.log(np.maximum(counts, 0.5) / max(counts.sum(), 1.0) * max(len(counts), 1))
    theta[layout.log_sigma] = _PRIOR_LOG_SIGMA[0]
    theta[layout.technical] = [
        np.log(max(((data.code == c) & (data.processor == p)).sum(), 1) / 2 / max((data.processor == p).sum(), 1))
        for p, c in structure.technical]
    for recovery in layout.recovery:
        theta[recovery][:2] = (_PRIOR_LOG_MEAN_H[0], _PRIOR_LOGIT_SHARE[0])
    for g in range(len(structure.blocks)):
        theta[layout.block_shares[g]] -= theta[layout.block_shares[g]].mean()
    theta[layout.judgement] -= theta[layout.judgement].mean()
    return theta


def _prior(layout: Layout, approval: Design, sds: Floats, odds: Design,
           block_sds: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Prior mean and precision of every parameter."""
    mean, precision = np.zeros(layout.size), np.full(layout.size, 1 / _SHARE_SD**2)
    precision[layout.approval] = approval.precision(sds)
    for o, b in zip(layout.odds, block_sds, strict=True):
        precision[o] = odds.precision(b)
    precision[layout.repeat] = 1.0
    for where, (center, sd) in [(layout.log_sigma, _PRIOR_LOG_SIGMA), (layout.technical, _PRIOR_LOG_TECHNICAL)]:
        mean[where], precision[where] = center, 1 / sd**2
    for recovery in layout.recovery:
        mean[recovery][:2] = (_PRIOR_LOG_MEAN_H[0], _PRIOR_LOGIT_SHARE[0])
        precision[recovery] = (1 / _PRIOR_LOG_MEAN_H[1] ** 2, 1 / _PRIOR_LOGIT_SHARE[1] ** 2,
                               *(1 / prior_sds(layout.structure.hour_kinds) ** 2))
    return mean, precision


def _climb(likelihood: IssuerLikelihood, theta: Floats, mean: Floats, precision: Floats) -> tuple[
        Floats, Floats, float]:
    """The penalised maximum, its inverse information, and the log-likelihood there.

    L-BFGS in coordinates whitened by the information at the start, where the parameters' scales and correlations
    (a softmax's common level, a processor and its banks) no longer slow it; twice, since the information changes.
    """
    for _ in range(2):
        root = _information_root(likelihood, theta, precision)
        origin = theta

        def loss(z: Floats, origin: Floats = origin, root: Floats = root) -> tuple[float, Floats]:
            at = origin + linalg.solve_triangular(root, z, trans="T", lower=True)
            log_l, scores = likelihood.evaluate(at)
            gradient = np.asarray(scores.sum(axis=0)).ravel() - precision * (at - mean)
            value = float(log_l.sum()) - 0.5 * float((precision * (at - mean) ** 2).sum())
            return -value, -linalg.solve_triangular(root, gradient, lower=True)

        found = optimize.minimize(loss, np.zeros_like(theta), jac=True, method="L-BFGS-B",
                                  options={"maxiter": 60, "ftol": 1e-9, "gtol": 0.05})
        theta = origin + linalg.solve_triangular(root, found.x, trans="T", lower=True)
        if found.nit < 10:
            break
    inverse_root = linalg.solve_triangular(_information_root(likelihood, theta, precision),
                                           np.eye(len(theta)), lower=True)
    return theta, inverse_root.T @ inverse_root, float(likelihood.evaluate(theta)[0].sum())


def _information_root(likelihood: IssuerLikelihood, theta: Floats, precision: Floats) -> Floats:
    """Lower Cholesky factor of the sum of score products plus the prior's precision."""
    _, scores = likelihood.evaluate(theta)
    information = np.asarray((scores.T @ scores).todense()) + np.diag(precision)
    return np.asarray(np.linalg.cholesky(information), dtype=np.float64)


def _document(data: Sequences, structure: Structure, layout: Layout, approval: Design, odds: Design, sds: Floats,
              block_sds: Sequence[Floats], theta: Floats, covariance: Floats, value: float,
              calendar: FoundCalendar | None) -> FittedIssuer:
    names: list[tuple[str, Scale]] = [(p, "identity") for p in approval.pointers("issuer", "approval")]
    for block in structure.block_names:
        names += [(p, "identity") for p in odds.pointers("issuer", "blocks", block, "odds")]
    names += [(pointer("issuer", "frailty_sd"), "log"), (pointer("issuer", "repeat"), "identity")]
    names += [(pointer("issuer", "judgement_codes", "", data.codes[c - 1]), "log") for c in structure.judgement]
    for block, codes in zip(structure.block_names, structure.blocks, strict=True):
        names += [(pointer("issuer", "blocks", block, "codes", data.codes[c - 1]), "log") for c in codes]
    names += [(pointer("processors", data.processors[p], "technical", data.codes[c - 1]), "log")
              for p, c in structure.technical]
    for g in structure.recovers:
        block = structure.block_names[g]
        names += [(pointer("issuer", "blocks", block, "recovers_h", "mean"), "log"),
                  (pointer("issuer", "blocks", block, "recovers_share"), "logit")]
        names += [(pointer("issuer", "blocks", block, "calendar", "effects", HOUR_KINDS[kind]), "identity")
                  for kind in structure.hour_kinds]
    blocks = {}
    for g, (block, codes) in enumerate(zip(structure.block_names, structure.blocks, strict=True)):
        recovery = theta[layout.recovery[structure.recovers.index(g)]] if g in structure.recovers else None
        blocks[block] = IssuerBlock(
            codes=_shares(data, codes, theta[layout.block_shares[g]]),
            odds=odds.predictor(theta[layout.odds[g]], block_sds[g]),
            recovers_h=None if recovery is None else Exponential(mean=float(np.exp(recovery[0]))),
            recovers_share=1.0 if recovery is None else float(special.expit(recovery[1])),
            calendar=None if recovery is None or not calendar or not structure.hour_kinds
            else calendar.document(recovery[2:]))
    issuer = Issuer(approval=approval.predictor(theta[layout.approval], sds),
                    frailty_sd=float(np.exp(theta[layout.log_sigma][0])), repeat=float(theta[layout.repeat][0]),
                    repeat_codes=[data.codes[c - 1] for c in structure.repeat_codes], blocks=blocks,
                    judgement_codes={"": _shares(data, structure.judgement, theta[layout.judgement])})
    technical: dict[str, dict[str, float]] = {name: {} for name in data.processors}
    for i, (p, c) in enumerate(structure.technical):
        technical[data.processors[p]][data.codes[c - 1]] = float(np.exp(theta[layout.technical][i]))
    factor = Block("issuer", tuple(n for n, _ in names), tuple(s for _, s in names), theta,
                   np.asarray(np.linalg.cholesky(covariance)))
    return FittedIssuer(issuer, technical, factor, value, len(data), calendar)


def _shares(data: Sequences, codes: Sequence[int], logits: Floats) -> dict[str, float]:
    """Weights of codes, not normalised: their logarithms are the parameters whose covariance is kept."""
    return {data.codes[c - 1]: float(np.exp(x)) for c, x in zip(codes, logits, strict=True)}
