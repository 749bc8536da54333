"""Linear predictors as sparse columns: from terms in words to a design matrix, and from coefficients back to the model.

Every term is a set of effects, one a level that history shows, pulled towards zero by a normal prior whose spread is
given (``sd``) or learnt from the data (``sd`` None): partial pooling, so that a thin cell leans on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from routesim.sim.arrays import Floats, Ints
from routesim.sim.model import Predictor, Term
from routesim.sim.trace import Levels, Trace
from routesim.sim.uncertainty import pointer


@dataclass(frozen=True)
class TermSpec:
    """A term before it is fitted. ``sd`` None: the spread is learnt, starting from ``START_SD``."""

    by: tuple[str, ...] = ()
    slope: bool = False
    sd: float | None = None


START_SD = 0.3
WEAK_SD = 2.5  # a prior that only keeps a coefficient finite


@dataclass(frozen=True)
class Design:
    """``matrix`` (n, p) with the intercept first; ``group`` (p,) is the term's number, -1 for the intercept."""

    specs: tuple[TermSpec, ...]
    matrix: sparse.csr_matrix
    levels: tuple[tuple[str, ...], ...]
    group: Ints
    centre: float

    @property
    def columns(self) -> int:
        return int(self.matrix.shape[1])

    def start_sds(self) -> Floats:
        """Prior spread by term."""
        return np.array([START_SD if s.sd is None else s.sd for s in self.specs])

    def precision(self, sds: Floats) -> Floats:
        """Prior precision by column."""
        per_group = np.concatenate([1 / np.maximum(sds, 1e-3) ** 2, [1 / 10.0**2]])
        return per_group[self.group]  # -1 picks the intercept's

    def learn_sds(self, sds: Floats, coefficients: Floats, variances: Floats) -> Floats:
        """One step of empirical Bayes (MacKay 1992): the spread that the coefficients and their variances support."""
        learnt = sds.copy()
        for number, spec in enumerate(self.specs):
            if spec.sd is None:
                mine = self.group == number
                learnt[number] = float(np.clip(np.sqrt((coefficients[mine] ** 2 + variances[mine]).mean()), 0.01, 3.0))
        return learnt

    def predictor(self, coefficients: Floats, sds: Floats) -> Predictor:
        """The fitted predictor as the model document has it."""
        terms, at = [], 1
        for number, (spec, names) in enumerate(zip(self.specs, self.levels, strict=True)):
            values = coefficients[at:at + len(names)]
            at += len(names)
            terms.append(Term(by=list(spec.by), of="log_amount_usd" if spec.slope else None,
                              centre=self.centre if spec.slope else 0.0, sd=float(sds[number]) if spec.by else 0.0,
                              effects=dict(zip(names, values.tolist(), strict=True))))
        return Predictor(intercept=float(coefficients[0]), terms=terms)

    def pointers(self, *where: str) -> list[str]:
        """The JSON pointers of the coefficients, in order, under the predictor at ``where``."""
        names = [pointer(*where, "intercept")]
        for number, levels in enumerate(self.levels):
            names += [pointer(*where, "terms", number, "effects", level) for level in levels]
        return names


def design(trace: Trace, rows: Ints, specs: Sequence[TermSpec], fixed: dict[str, Levels] | None = None) -> Design:
    """The design of observations on payments ``rows`` (n,) of a trace; ``fixed`` are columns by observation."""
    n = len(rows)
    amount = trace.log_amount_usd
    centre = round(float(amount.mean()), 3) if len(amount) else 0.0
    blocks: list[sparse.csr_matrix] = [sparse.csr_matrix(np.ones((n, 1)))]
    names: list[tuple[str, ...]] = []
    group: list[int] = [-1]
    for number, spec in enumerate(specs):
        labels, codes = _cross([(fixed or {}).get(c) or _at(trace.levels(c), rows) for c in spec.by], n)
        values = (amount[rows] - centre) if spec.slope else np.ones(n)
        blocks.append(sparse.csr_matrix((values, (np.arange(n), codes)), shape=(n, len(labels))))
        names.append(labels)
        group += [number] * len(labels)
    return Design(tuple(specs), sparse.hstack(blocks, format="csr"), tuple(names), np.array(group), centre)


def _at(levels: Levels, rows: Ints) -> Levels:
    return Levels(levels.codes[rows], levels.names)


def _cross(columns: Sequence[Levels], n: int) -> tuple[tuple[str, ...], Ints]:
    """Levels that occur of the columns' product, joined with "|", and the code of each observation."""
    if not columns:
        return ("",), np.zeros(n, dtype=np.int64)
    combined = np.zeros(n, dtype=np.int64)
    for column in columns:
        combined = combined * len(column.names) + column.codes
    present, codes = np.unique(combined, return_inverse=True)
    labels = []
    for value in present.tolist():
        parts = []
        for column in reversed(columns):
            value, code = divmod(value, len(column.names))
            parts.append(column.names[code])
        labels.append("|".join(reversed(parts)))
    return tuple(labels), codes.astype(np.int64)
