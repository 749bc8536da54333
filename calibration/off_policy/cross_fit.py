"""Who was sent where, and what came of it, predicted for each payment from the others: shares in pooled cells.

A cell is the payments alike in some fields. Its share leans on that of the coarser cell that holds it as on so many
further rows, and so on up to all payments. Which fields split the cells, in which order and with how much leaning is
decided by how well the payments that were left out are predicted, so nothing is assumed of the form of a rule or of an
effect: on purpose another road than the simulator's own model takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from routesim.policies.vocabulary import PAYMENT_FIELDS
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.draws import identities, key, uniforms
from routesim.sim.log import further_fields
from routesim.sim.trace import Trace

FOLDS = 5
PRIOR_ROWS = (1.0, 4.0, 16.0, 64.0, 256.0)  # which of them is decided level by level
MOST_FIELDS = 6
MIN_ROWS = 30  # the fewest rows of a cell that tell whether an action is ever taken in it
LEAST_SHARE = 0.01  # an action taken less often than this in a cell of payments has no support there
_BANDS = 10
_MOST_WHOLE_NUMBERS = 24  # of more, as days of tenure, tenths are taken


@dataclass(frozen=True)
class Nuisances:
    """What off-policy estimators need of n payments and K actions, each row predicted from other folds.

    ``propensity`` and ``reward`` (n, K); ``supported`` (n, K): whether payments like this one went there; the fields
    that the choice and the reward were found to depend on, most telling first.
    """

    propensity: Floats
    reward: Floats
    supported: Bools
    choice_fields: tuple[str, ...]
    reward_fields: tuple[str, ...]


def contexts(trace: Trace) -> dict[str, Ints]:
    """The fields that cells may be split by, as codes (n,): text, hours and days, and numbers by tenths.

    Those of the source's profile are among them, but for what is known only later: it may be the choice's own effect.
    """
    fields: dict[str, Ints] = {}
    for field in (*PAYMENT_FIELDS.values(), *further_fields(trace.table.schema)):
        if not field.in_cells or field.known == "later":
            continue
        name = field.name
        if name == "amount_usd":
            fields[name] = _tenths(trace.log_amount_usd)
        elif field.kind == "number" or (
                field.kind == "whole number" and len(trace.levels(name).names) > _MOST_WHOLE_NUMBERS):
            fields[name] = _tenths(trace.table[name].cast(pa.float64()).to_numpy())
        else:
            fields[name] = trace.levels(name).codes
    return {name: codes for name, codes in fields.items() if len(codes) and codes.min() != codes.max()}


def _tenths(values: Floats) -> Ints:
    """The tenth of the known values that each lies in, (n,); what is absent (not a number) is a level of its own."""
    known = np.isfinite(values)
    edges = np.unique(np.quantile(values[known], np.arange(1, _BANDS) / _BANDS)) if known.any() else values[known]
    first = int(not known.all())
    return np.where(known, first + np.searchsorted(edges, values, side="right"), 0).astype(np.int64)


def folds(payments: pa.Table, seed: int) -> Ints:
    """The fold of each payment (n,), 0 … FOLDS-1, keyed by customer (else order), whose payments stay together."""
    who = [customer or order for customer, order in
           zip(payments["customer_id"].to_pylist(), payments["order_id"].to_pylist(), strict=True)]
    return np.floor(uniforms(identities(who), key("off-policy fold", seed)) * FOLDS).astype(np.int64)


def cross_fit(fields: Mapping[str, Ints], action: Ints, reward: Floats, actions: int, fold: Ints) -> Nuisances:
    """Propensities and rewards of ``actions`` actions, from ``action`` and ``reward`` (n,).

    The reward is a baseline b(x), whatever the action, plus what each action's rows have left of it within cells of the
    fields that the choice depends on: within such a cell the choice is as good as random, so the difference is the
    action's.
    """
    n = len(action)
    taken = np.zeros((n, actions))
    taken[np.arange(n), action] = 1.0
    choice = _choose(fields, taken, fold)
    rewarded = _choose(fields, reward[:, None], fold)
    choice_cells, ones = _cells(fields, choice, n), np.ones((n, 1))
    predicted = np.empty((n, actions))
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        base = _pooled(_cells(fields, rewarded, n), rewarded, train, reward[:, None], ones, _mean(reward[train, None]))
        left = _pooled(choice_cells, choice, train, np.broadcast_to(reward[:, None] - base, (n, actions)), taken,
                       np.zeros(actions))
        predicted[test] = np.clip(base + left, 0.0, 1.0)[test]
    return Nuisances(_left_out(fields, choice, taken, fold), predicted, _supported(choice_cells, taken),
                     _names(choice), _names(rewarded))


Path = tuple["CellSplit", ...]


class CellSplit(NamedTuple):
    """Cells are split by a field, and each leans on its parent as on ``prior_rows`` rows."""

    field: str
    prior_rows: float


ALL = CellSplit("", PRIOR_ROWS[0])  # all payments in one cell


def _names(path: Path) -> tuple[str, ...]:
    return tuple(split.field for split in path[1:])


def _choose(fields: Mapping[str, Ints], values: Floats, fold: Ints) -> Path:
    """The fields that predict ``values`` (n, K), one after the other.

    The next one lowers the loss over the payments left out the most for the fineness of its split (the gain ratio of
    Quinlan 1993, so that a BIN does not come before the brand it stands for), as long as it does so by more than twice
    the standard error of the difference. A field that those after it have made needless goes again, the one with the
    most levels first.
    """
    path: Path = (ALL,)
    best = _left_out(fields, path, values, fold)
    cell = np.zeros(len(fold), dtype=np.int64)
    while len(path) <= MOST_FIELDS:
        loss = _loss(values, best)
        found: tuple[float, CellSplit, Ints, Floats] | None = None
        coarse = _entropy(cell)
        for name in sorted(fields.keys() - set(_names(path))):
            finer = _cross(cell, fields[name])
            cost = _entropy(finer) - coarse
            for prior_rows in PRIOR_ROWS:
                predicted = _left_out_of(finer, values, fold, best, prior_rows)
                gain = _gain(loss, _loss(values, predicted)) / cost if cost > 0 else 0.0
                if gain > 0 and (found is None or gain > found[0]):
                    found = gain, CellSplit(name, prior_rows), finer, predicted
        if found is None:
            break
        _, split, cell, best = found
        path = (*path, split)
    for split in sorted(path[1:], key=lambda each: (-int(fields[each.field].max()), each.field)):
        shorter = tuple(each for each in path if each != split)
        without = _left_out(fields, shorter, values, fold)
        if _gain(_loss(values, without), _loss(values, best)) <= 0:
            path, best = shorter, without
    return path


def _entropy(cell: Ints) -> float:
    """Of the partition into cells, in nats."""
    share = np.bincount(cell) / max(1, len(cell))
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def _loss(values: Floats, predicted: Floats) -> Floats:
    """Per row: the logarithmic loss of shares of several actions, since small ones make large weights; else Brier's."""
    if values.shape[1] > 1:
        return np.asarray(-np.log((values * predicted).sum(axis=1)))
    return np.asarray((values - predicted)[:, 0] ** 2)


def _gain(before: Floats, after: Floats) -> float:
    """The fall in loss, summed over rows; 0 where it is within twice its standard error."""
    fall = before - after
    gain = float(fall.sum())
    return gain if gain > 2 * float(fall.std()) * np.sqrt(len(fall)) else 0.0


def _left_out(fields: Mapping[str, Ints], path: Path, values: Floats, fold: Ints) -> Floats:
    """Each row's value predicted from the other folds, (n, K)."""
    predicted = np.empty_like(values)
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        predicted[test] = _mean(values[train])
    for cell, split in zip(_cells(fields, path, len(fold)), path, strict=True):
        predicted = _left_out_of(cell, values, fold, predicted, split.prior_rows)
    return predicted


def _left_out_of(cell: Ints, values: Floats, fold: Ints, parent: Floats, prior_rows: float) -> Floats:
    """One level: the cell's sums without the row's own fold, leaning on ``parent`` (n, K)."""
    mine = cell * FOLDS + fold
    size = int(mine.max()) + 1 if len(mine) else 0
    rows = np.bincount(cell)[cell] - np.bincount(mine, minlength=size)[mine]
    columns = []
    for k in range(values.shape[1]):
        sums = (np.bincount(cell, weights=values[:, k])[cell]
                - np.bincount(mine, weights=values[:, k], minlength=size)[mine])
        columns.append((np.maximum(sums, 0.0) + prior_rows * parent[:, k]) / (rows + prior_rows))
    return np.column_stack(columns)


def _mean(values: Floats) -> Floats:
    """Column means (K,), leaning on one row at 1/2 so that nothing is impossible."""
    return np.asarray((values.sum(axis=0) + 0.5) / (len(values) + 1))


def _pooled(cells: Sequence[Ints], path: Path, train: Bools, values: Floats, weights: Floats, root: Floats) -> Floats:
    """The weighted mean of ``values`` (n, K) over the ``train`` rows of each row's cell, coarse to fine from ``root``
    (K,)."""
    predicted = np.broadcast_to(root, values.shape)
    for cell, split in zip(cells, path, strict=True):
        size = int(cell.max()) + 1 if len(cell) else 0
        columns = []
        for k in range(values.shape[1]):
            rows = np.bincount(cell[train], weights=weights[train, k], minlength=size)
            sums = np.bincount(cell[train], weights=(weights[:, k] * values[:, k])[train], minlength=size)
            columns.append((sums[cell] + split.prior_rows * predicted[:, k]) / (rows[cell] + split.prior_rows))
        predicted = np.column_stack(columns)
    return np.asarray(predicted)


def _supported(cells: Sequence[Ints], taken: Floats) -> Bools:
    """Whether an action was taken in the finest cell that has rows enough to tell, (n, K)."""
    share = np.broadcast_to(taken.mean(axis=0), taken.shape)
    for cell in cells:
        rows = np.bincount(cell)
        sums = np.column_stack([np.bincount(cell, weights=column) for column in taken.T])
        told = rows >= MIN_ROWS
        share = np.where(told[cell][:, None], (sums / np.maximum(rows, 1)[:, None])[cell], share)
    return np.asarray(share >= LEAST_SHARE)


def _cells(fields: Mapping[str, Ints], path: Path, n: int) -> list[Ints]:
    """The codes (n,) of the cells after each split of ``path``."""
    cells: list[Ints] = []
    for split in path:
        cells.append(_cross(cells[-1], fields[split.field]) if cells else np.zeros(n, dtype=np.int64))
    return cells


def _cross(cell: Ints, codes: Ints) -> Ints:
    _, crossed = np.unique(cell * (int(codes.max()) + 1) + codes, return_inverse=True)
    return crossed.astype(np.int64)
