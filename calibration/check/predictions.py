"""What a world predicts of each attempt of a history, one step ahead: given the payment's answers so far.

A forward filter over the issuer's state. Before attempt k a card is blocked by g with weight W_g, or free with weights
V_q on the nodes u_q of its frailty; between attempts some blocks end. Then

    P(approved) = (1 - T_p) sum_q V_q q_k(u_q)
    P(code c)   = T_pc + (1 - T_p) (s_c sum_q V_q (1 - q_k(u_q)) + sum_g W_g b_gc)

and the answer that history gave updates the weights. The probabilities of what did happen multiply to the likelihood
that ``issuer_likelihood`` maximises, by another route.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from routesim.calibration.issuer.likelihood import FINE_NODES
from routesim.calibration.sequences import Sequences
from routesim.sim.arrays import Floats
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import IssuerBlock, World


def predict(world: World, data: Sequences) -> Floats:
    """Probabilities (attempts, 1 + codes): approved first, then the codes of ``data`` in order.

    Rows sum to 1, but for what the model gives to codes that this history never shows.
    """
    model = world.model
    decisions = IssuerDecisions(world, data.trace)
    nodes, weights = np.polynomial.hermite_e.hermegauss(FINE_NODES)
    weights = weights / weights.sum()
    blocks = list(model.issuer.blocks.values())
    cumulative = decisions.block_cumulative[data.payment[data.start[:-1]]]
    blocked = np.diff(cumulative, axis=1, prepend=0.0) if len(blocks) else np.zeros((len(data), 0))
    free = (1 - blocked.sum(axis=1))[:, None] * weights
    eta = np.zeros(len(data.code))
    for number, name in enumerate(data.processors):
        mine = data.processor == number
        if name in model.processors:
            eta[mine] = decisions.approval_logits(name)[data.payment[mine]]
    judged = {name: _shares(shares, data.codes) for name, shares in model.issuer.judgement_codes.items()}
    shares = np.stack([judged.get(name, judged[""] if "" in judged else np.zeros(len(data.codes)))
                       for name in data.processors])
    of_block = np.stack([_shares(b.codes, data.codes) for b in blocks]) if blocks else np.zeros((0, len(data.codes)))
    technical = np.array([[model.processors[p].technical.get(c, 0.0) if p in model.processors else 0.0
                           for c in data.codes] for p in data.processors])
    counted = model.issuer.repeat_codes
    if counted is None:
        counted = [code for shares_of in model.issuer.judgement_codes.values() for code in shares_of]
    repeats = data.repeats(counted)
    passed = [_passed_h(decisions, g, data) for g in range(len(blocks))]
    out = np.zeros((len(data.code), 1 + len(data.codes)))
    lengths = data.lengths
    for k in range(int(lengths.max(initial=0))):
        which = np.flatnonzero(lengths > k)
        row = data.start[which] + k
        before = np.zeros(len(which))
        for g, block in enumerate(blocks):
            if block.recovers_h is not None:
                stays = _still(block, passed[g][row]) / _still(block, passed[g][row - 1] if k else before)
                free[which] += (blocked[which, g] * (1 - stays))[:, None] * weights
                blocked[which, g] *= stays
        p = data.processor[row]
        up = (1 - technical[p].sum(axis=1))[:, None]
        q = special.expit((eta[row] + model.issuer.repeat * repeats[row])[:, None] + model.issuer.frailty_sd * nodes)
        v, w = free[which], blocked[which]
        declined = (v * (1 - q)).sum(axis=1)[:, None] * shares[p]
        out[row, :1] = up * (v * q).sum(axis=1, keepdims=True)
        out[row, 1:] = technical[p] + up * (declined + w @ of_block)
        code = data.code[row]
        approved = code == 0
        c = np.maximum(code - 1, 0)
        t, s = technical[p, c][:, None], shares[p, c][:, None]
        after_free = v * np.where(approved[:, None], up * q, t + up * (1 - q) * s)
        after_blocked = w * np.where(approved[:, None], 0.0, t + up * of_block[:, c].T)
        total = np.maximum(after_free.sum(axis=1) + after_blocked.sum(axis=1), 1e-300)[:, None]
        free[which], blocked[which] = after_free / total, after_blocked / total
    return out


def _shares(shares: dict[str, float], codes: tuple[str, ...]) -> Floats:
    total = sum(shares.values())
    return np.array([shares.get(c, 0.0) / total for c in codes])


def _passed_h(decisions: IssuerDecisions, block: int, data: Sequences) -> Floats:
    """Hours from a sequence's beginning to each attempt, by the clock of a block, (attempts,)."""
    if decisions.blocks[block].calendar is None:
        return data.since_h
    passed = data.since_h.copy()
    for i in np.flatnonzero(data.since_h > 0).tolist():
        clock, at = decisions.clock(block, int(data.payment[i])), float(data.sent_at[i])
        passed[i] = data.since_h[i] if clock is None else clock.between(at - 3600 * float(data.since_h[i]), at)
    return passed


def _still(block: IssuerBlock, hours: Floats) -> Floats:
    """Probability that a block still holds after ``hours``."""
    ends = 0.0 if block.recovers_h is None else 1 - block.recovers_h.sf(np.maximum(hours, 0.0))
    return np.maximum(1 - block.recovers_share * ends, 1e-300)
