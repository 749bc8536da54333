"""The likelihood of what issuers answered, with the state that a card's attempts share integrated out.

For a sequence of attempts k = 0..n-1 with codes y_k at processors p_k, times t_k (hours since its first request):

    L = sum_j M_j * integral of prod_{k >= j} J_k(u) phi(u) du,   j = 0..n

where the card is blocked up to attempt j-1 and judged from j on: M_j = sum_g pi_g w_gj prod_{k<j} B_gk, with w_gj the
probability of block g ending between t_{j-1} and t_j (before t_0 for j = 0, after t_{n-1} for j = n), and the
probability of no block added to M_0. Blocks end by a clock of their own where the calendar matters: t_k is then
Σ_m exp(beta_m) h_km over kinds of hours m, with h_km the hours of that kind since the first request. With technical
rates T_pc, judgement shares s_c and block shares b_gc,

    q_k(u) = expit(eta_k + repeat * r_k + sigma * u)
    J_k(u) = (1 - T_p) q_k(u)                        if approved
           = T_pc + (1 - T_p) (1 - q_k(u)) s_c       if declined with code c
    B_gk   = 0 if approved, else T_pc + (1 - T_p) b_gc.

So one code may have several causes, and the data say how much of each. Scores (derivatives of log L per sequence)
come from the posterior of (j, u), by Fisher's identity. The integral over u is Gauss-Hermite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse, special

from routesim.calibration.issuer.design import Design
from routesim.calibration.sequences import Sequences
from routesim.sim.arrays import Floats, Ints

NODES = 11  # enough to come near the maximum
FINE_NODES = 21  # a frailty sd of 3 and four declines are then off by less than a percent in the likelihood
_TINY = 1e-300


@dataclass(frozen=True)
class Structure:
    """Which causes a code may have. Codes are numbered as in ``Sequences.code`` (from 1).

    ``judgement`` and each of ``blocks`` are lists of codes; ``technical`` the (processor, code) pairs with a rate of
    their own; ``recovers`` the numbers of the blocks whose recovery history can show; ``repeat_codes`` those that count
    as judgements when the same processor is asked again; ``hour_kinds`` the kinds of hours (indices into HOUR_KINDS) in
    which blocks that recover end sooner or later than in others.
    """

    judgement: tuple[int, ...]
    blocks: tuple[tuple[int, ...], ...]
    block_names: tuple[str, ...]
    technical: tuple[tuple[int, int], ...]
    recovers: tuple[int, ...]
    repeat_codes: tuple[int, ...] = ()
    hour_kinds: tuple[int, ...] = ()


class Layout:
    """Where each parameter lies in the vector."""

    def __init__(self, structure: Structure, approval: Design, odds: Design) -> None:
        self.structure = structure
        at = 0

        def take(n: int) -> slice:
            nonlocal at
            at += n
            return slice(at - n, at)

        self.approval = take(approval.columns)
        self.odds = [take(odds.columns) for _ in structure.blocks]
        self.log_sigma = take(1)
        self.repeat = take(1)
        self.judgement = take(len(structure.judgement))
        self.block_shares = [take(len(codes)) for codes in structure.blocks]
        self.technical = take(len(structure.technical))  # log rates
        # log mean hours, logit of the share that recovers, log factors of the hazard by kind of hour
        self.recovery = [take(2 + len(structure.hour_kinds)) for _ in structure.recovers]
        self.size = at


class IssuerLikelihood:
    """Log-likelihood and scores of all sequences."""

    def __init__(self, data: Sequences, structure: Structure, approval: Design, odds: Design,
                 nodes: int | None = None, exposure: Floats | None = None) -> None:
        """``exposure``: hours of every kind from a sequence's first request to each attempt, (attempts, kinds + 1) as
        ``recovery_clock.Exposure`` has them; needed where the structure names kinds of hours."""
        self.data, self.structure = data, structure
        self._exposure = _by_kind(data, structure, exposure)  # (attempts, 1 + kinds), the hours of no such kind first
        self.layout = Layout(structure, approval, odds)
        self._approval, self._odds = approval.matrix, odds.matrix  # (attempts, p), (sequences, q)
        points, weights = np.polynomial.hermite_e.hermegauss(nodes or FINE_NODES)
        self._nodes, self._weights = points, weights / weights.sum()
        self._repeats = data.repeats([data.codes[c - 1] for c in structure.repeat_codes])
        self._causes: dict[str, Floats] = {}  # expected declines by cause and code, as last evaluated
        self._by_length = {int(n): np.flatnonzero(data.lengths == n) for n in np.unique(data.lengths)}

    def evaluate(self, theta: Floats) -> tuple[Floats, sparse.csr_matrix]:
        """Log-likelihood (sequences,) and scores (sequences, parameters)."""
        lay, s, data = self.layout, self.structure, self.data
        eta = self._approval @ theta[lay.approval] + theta[lay.repeat] * self._repeats
        sigma = float(np.exp(theta[lay.log_sigma][0]))
        odds = np.stack([self._odds @ theta[o] for o in lay.odds], axis=1) if s.blocks else np.zeros((len(data), 0))
        peak = np.maximum(odds.max(axis=1, initial=0), 0)
        expo = np.exp(odds - peak[:, None])
        total = np.exp(-peak) + expo.sum(axis=1)
        prior = expo / total[:, None]
        n_codes = len(data.codes) + 1
        judged = np.zeros(n_codes)
        judged[list(s.judgement)] = special.softmax(theta[lay.judgement])
        shares = np.zeros((len(s.blocks), n_codes))
        for g, codes in enumerate(s.blocks):
            shares[g, list(codes)] = special.softmax(theta[lay.block_shares[g]])
        rates = np.exp(theta[lay.technical])
        technical = np.zeros((len(data.processors), n_codes))
        for i, (p, c) in enumerate(s.technical):
            technical[p, c] = rates[i]
        total_technical = np.minimum(technical.sum(axis=1), 0.95)
        recovery = self._recovery(theta)

        self._causes = {name: np.zeros(n_codes) for name in ("judgement", "technical", *s.block_names)}
        log_l = np.zeros(len(data))
        g_eta = np.zeros(len(data.code))
        dense = np.zeros((len(data), lay.size - lay.log_sigma.start))
        g_odds = np.zeros((len(data), len(s.blocks)))
        for n, which in self._by_length.items():
            if n == 0:
                continue
            rows = data.start[which][:, None] + np.arange(n)  # (m, n)
            p, c = data.processor[rows], data.code[rows]
            t_pc, up = technical[p, c], 1 - total_technical[p]
            approved = c == 0
            u = self._nodes
            q = special.expit(eta[rows][:, :, None] + sigma * u)  # (m, n, Q)
            s_c = judged[c][:, :, None]
            j = np.where(approved[:, :, None], up[:, :, None] * q, t_pc[:, :, None] + up[:, :, None] * (1 - q) * s_c)
            j = np.maximum(j, _TINY)
            tail = np.concatenate([np.flip(np.cumprod(np.flip(j, 1), axis=1), 1), np.ones_like(j[:, :1])], axis=1)
            mass = np.zeros((len(which), n + 1))
            mass[:, 0] = 1 - prior[which].sum(axis=1)
            b = np.where(approved[:, None, :], 0.0,
                         t_pc[:, None, :] + up[:, None, :] * shares[:, c].transpose(1, 0, 2))  # (m, G, n)
            windows, window_gradient = self._windows(self._exposure[rows], recovery)
            # the product of B over the first j attempts, at [:, :, j]
            prefix = np.concatenate([np.ones_like(b[:, :, :1]), np.cumprod(b, axis=2)], axis=2)
            block_mass = prior[which][:, :, None] * windows * prefix
            mass += block_mass.sum(axis=1)
            joint = mass[:, :, None] * tail * self._weights  # (m, n+1, Q)
            like = np.maximum(joint.sum(axis=(1, 2)), _TINY)
            log_l[which] = np.log(like)
            posterior = joint / like[:, None, None]
            tail_mean = (tail * self._weights).sum(axis=2)  # (m, n+1)
            block_posterior = block_mass * tail_mean[:, None, :] / like[:, None, None]  # (m, G, n+1)
            in_judgement = np.cumsum(posterior, axis=1)[:, :n]  # (m, n, Q): judged at attempt k
            slope = np.where(approved[:, :, None], 1 - q, -up[:, :, None] * q * (1 - q) * s_c / j)
            weighted = in_judgement * slope
            g_eta[rows] = weighted.sum(axis=2)
            g_odds[which] = block_posterior.sum(axis=2) - prior[which]

            out = dense[which]
            out[:, 0] = sigma * (weighted * u).sum(axis=(1, 2))
            out[:, 1] = (weighted.sum(axis=2) * self._repeats[rows]).sum(axis=1)
            speaks = (in_judgement * (up[:, :, None] * (1 - q) * s_c / j)).sum(axis=2) * ~approved
            self._count(out, lay.judgement, s.judgement, speaks, c, judged)
            in_block = block_posterior.sum(axis=2, keepdims=True) - np.cumsum(block_posterior, axis=2)  # j > k
            in_block = in_block[:, :, :n]
            with np.errstate(divide="ignore", invalid="ignore"):
                of_block = np.where(b > 0, up[:, None, :] * shares[:, c].transpose(1, 0, 2) / b, 0.0) * in_block
            explained = {"judgement": speaks, **{name: of_block[:, g] for g, name in enumerate(s.block_names)}}
            explained["technical"] = ~approved - sum(explained.values())
            for name, part in explained.items():
                self._causes[name] += np.bincount(c.ravel(), part.ravel(), minlength=n_codes)
            for g, codes in enumerate(s.blocks):
                self._count(out, lay.block_shares[g], codes, of_block[:, g], c, shares[g])
            if s.technical:
                spoken = (in_judgement.sum(axis=2) * approved + speaks + of_block.sum(axis=1))
                self._technical_scores(out, p, c, 1 - spoken, spoken, technical, up)
            for r, g in enumerate(s.recovers):
                with np.errstate(divide="ignore", invalid="ignore"):
                    relative = np.where(windows[:, g, :, None] > 0,
                                        window_gradient[r] / np.maximum(windows[:, g, :, None], _TINY), 0.0)
                at = lay.recovery[r].start - lay.log_sigma.start
                out[:, at:at + relative.shape[2]] = (block_posterior[:, g, :, None] * relative).sum(axis=1)
            dense[which] = out
        return log_l, self._scores(g_eta, g_odds, dense)

    def causes(self, theta: Floats) -> dict[str, Floats]:
        """Expected declines of each code (1 + codes,) by cause: judgement, technical, and each block by its name."""
        self.evaluate(theta)
        return dict(self._causes)

    def _recovery(self, theta: Floats) -> dict[int, tuple[float, float, Floats]]:
        """Block number to (mean hours, share that recovers, the clock's rate in hours of no kind and of each kind)."""
        lay = self.layout
        return {g: (float(np.exp(theta[lay.recovery[r]][0])), float(special.expit(theta[lay.recovery[r]][1])),
                    np.exp(np.concatenate([[0.0], theta[lay.recovery[r]][2:]])))
                for r, g in enumerate(self.structure.recovers)}

    def _windows(self, exposure: Floats, recovery: dict[int, tuple[float, float, Floats]]) -> tuple[
            Floats, list[Floats]]:
        """P(the block ends just before attempt j), j = 0..n, (m, G, n + 1); and gradients (m, n + 1, 2 + kinds) by
        recovery.

        Before attempt 0 it may end too: a sequence's clock starts at its first request, which may have told nothing.
        """
        m, n, _ = exposure.shape
        windows = np.zeros((m, len(self.structure.blocks), n + 1))
        windows[:, :, n] = 1.0  # a block that never ends
        gradients = []
        for g, (mean, share, rates) in recovery.items():
            since = exposure @ rates
            decay = np.exp(-since / mean)
            survival = 1 - share + share * decay  # still blocked at each attempt
            windows[:, g] = -np.diff(survival, axis=1, prepend=1.0, append=0.0)
            d_log_mean = share * decay * since / mean
            d_logit = share * (1 - share) * (decay - 1)
            d_kinds = -share * (decay / mean)[:, :, None] * exposure[:, :, 1:] * rates[1:]
            steps = np.concatenate([d_log_mean[:, :, None], d_logit[:, :, None], d_kinds], axis=2)
            gradients.append(-np.diff(steps, axis=1, prepend=0.0, append=0.0))
        return windows, gradients

    def _count(self, out: Floats, where: slice, codes: tuple[int, ...], responsibility: Floats, c: Ints,
               shares: Floats) -> None:
        """Scores of softmax shares: the expected count of each code less its share of all counts."""
        total = responsibility.sum(axis=1)
        first = where.start - self.layout.log_sigma.start
        for i, code in enumerate(codes):
            out[:, first + i] = (responsibility * (c == code)).sum(axis=1) - shares[code] * total

    def _technical_scores(self, out: Floats, p: Ints, c: Ints, failed: Floats, spoken: Floats, technical: Floats,
                          up: Floats) -> None:
        first = self.layout.technical.start - self.layout.log_sigma.start
        for i, (processor, code) in enumerate(self.structure.technical):
            here = p == processor
            out[:, first + i] = (here * ((c == code) * failed
                                         - spoken * technical[processor, code] / up)).sum(axis=1)

    def _scores(self, g_eta: Floats, g_odds: Floats, dense: Floats) -> sparse.csr_matrix:
        lengths = self.data.lengths
        owner = np.repeat(np.arange(len(self.data)), lengths)
        gather = sparse.csr_matrix((g_eta, (owner, np.arange(len(owner)))), shape=(len(self.data), len(owner)))
        parts = [gather @ self._approval]
        parts += [sparse.diags_array(g_odds[:, g]) @ self._odds for g in range(g_odds.shape[1])]
        return sparse.hstack([*parts, sparse.csr_matrix(dense)], format="csr")


def _by_kind(data: Sequences, structure: Structure, exposure: Floats | None) -> Floats:
    kinds = list(structure.hour_kinds)
    if exposure is None or not kinds:
        return data.since_h[:, None]
    return np.column_stack([exposure.sum(axis=1) - exposure[:, kinds].sum(axis=1), exposure[:, kinds]])
