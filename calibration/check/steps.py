"""The check's first part: one step ahead, conditional on what history did.

Every attempt's answer is predicted from the payment and its answers so far, so that a figure's surprise is the model's
and not the router's. Given a world, what happened less what was predicted is a martingale difference: over any set of
attempts its variance is the sum of p (1 - p). To that the spread of what the worlds predict is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from routesim.calibration.check.findings import Surprise
from routesim.calibration.check.predictions import predict
from routesim.calibration.outages.find import Found
from routesim.calibration.sequences import Sequences, issuer_spoke, sequences
from routesim.sim.arrays import Ints
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel
from routesim.sim.trace import Trace

CELL_ROWS = 200
RETRY_ROWS = 50
CODE_ROWS = 30
_DAY_PARTS = ((0, 6, "night"), (6, 12, "morning"), (12, 18, "afternoon"), (18, 24, "evening"))


@dataclass(frozen=True)
class _Cell:
    """A set of attempts (rows) and the outcomes (columns of the prediction) whose share among them is the figure."""

    name: str
    rows: Ints
    columns: tuple[int, ...]


def check_steps(model: CalibratedModel, log: AttemptLog, found: Found, worlds: int, seed: int) -> list[Surprise]:
    """Approval by processor, brand, currency and part of the day; retries by code, place and delay; code shares."""
    trace = Trace(log.payments, model.model.timezone)
    data = sequences(log, trace, issuer_spoke(log, found.inside))
    cells = list(_cells(data))
    expected = np.zeros((worlds, len(cells)))
    variance = np.zeros((worlds, len(cells)))
    for world in range(worlds):
        probability = predict(model.draw(world, seed), data)
        for i, cell in enumerate(cells):
            p = probability[cell.rows][:, list(cell.columns)].sum(axis=1)
            expected[world, i], variance[world, i] = p.mean(), (p * (1 - p)).sum() / len(p) ** 2
    surprises = []
    for i, cell in enumerate(cells):
        happened = float(np.isin(data.code[cell.rows], cell.columns).mean())
        sd = float(np.sqrt(variance[:, i].mean() + expected[:, i].var(ddof=1)))
        mean = float(expected[:, i].mean())
        # A count too small for the normal is judged as a Poisson one, spread included by the larger of the two.
        p_value = 2 * float(stats.norm.sf(abs(happened - mean) / max(sd, 1e-12)))
        if mean * len(cell.rows) < 10:
            count, rate = happened * len(cell.rows), max(mean * len(cell.rows), 1e-9)
            exact = 2 * min(float(stats.poisson.cdf(count, rate)), float(stats.poisson.sf(count - 1, rate)))
            p_value = max(p_value, min(1.0, exact))
        surprises.append(Surprise(cell.name, happened, mean, sd, p_value))
    return surprises


def _cells(data: Sequences) -> Iterator[_Cell]:
    first = np.zeros(len(data.code), dtype=bool)
    first[data.start[:-1]] = True
    frame = pd.DataFrame({
        "processor": np.array(data.processors)[data.processor],
        "brand": _names(data, "card_brand"), "currency": _names(data, "currency"),
        "part": _part_of_day(data), "first": first, "row": np.arange(len(data.code)),
    })
    for (processor, brand, currency, part), cell in frame[frame["first"]].groupby(
            ["processor", "brand", "currency", "part"]):
        if len(cell) >= CELL_ROWS:
            yield _Cell(f"approval of first attempts at {processor}, {brand or 'no brand'}, {currency}, {part}",
                        cell["row"].to_numpy(), (0,))
    for (processor,), cell in frame[frame["first"]].groupby(["processor"]):
        rows = cell["row"].to_numpy()
        yield _Cell(f"approval of first attempts at {processor}", rows, (0,))
        for number, code in enumerate(data.codes, start=1):
            if (data.code[rows] == number).sum() >= CODE_ROWS:
                yield _Cell(f"share of code {code} in first attempts at {processor}", rows, (number,))
    yield from _retry_cells(data, frame)


def _retry_cells(data: Sequences, frame: pd.DataFrame) -> Iterator[_Cell]:
    rows = np.flatnonzero(~frame["first"].to_numpy())
    same = data.processor[rows] == data.processor[rows - 1]
    gap_h = data.since_h[rows] - data.since_h[rows - 1]
    retries = pd.DataFrame({
        "row": rows, "code": np.array(["approved", *data.codes])[data.code[rows - 1]],
        "where": np.where(same, "the same", "another"),
        "when": np.select([gap_h < 1, gap_h < 12], ["within the hour", "within half a day"], "later"),
    })
    for (code, where, when), cell in retries.groupby(["code", "where", "when"]):
        if len(cell) >= RETRY_ROWS:
            yield _Cell(f"approval of retries after {code} at {where} processor {when}", cell["row"].to_numpy(), (0,))
    for (code, when), cell in retries.groupby(["code", "when"]):
        number = data.codes.index(str(code)) + 1
        if len(cell) >= RETRY_ROWS:
            yield _Cell(f"share of code {code} again after {code} {when}", cell["row"].to_numpy(), (number,))


def _names(data: Sequences, column: str) -> npt.NDArray[np.str_]:
    levels = data.trace.levels(column)
    return np.array(levels.names)[levels.codes[data.payment]]


def _part_of_day(data: Sequences) -> npt.NDArray[np.str_]:
    hour = data.trace.levels("hour").codes[data.payment]
    names: Mapping[int, str] = {h: name for low, high, name in _DAY_PARTS for h in range(low, high)}
    return np.array([names[h] for h in range(24)])[hour]
