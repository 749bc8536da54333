"""Does a model foretell a history? The history's figures against their simulated distributions.

The history's payments are replayed in drawn worlds through the merchant's own router (``logged``), and every figure
is computed by the same function on the real log and on the simulated ones. A figure's surprise is its distance from
the simulated mean in standard deviations of a new realisation, judged by Student's t; the chance of any false alarm
in the whole family is held by Holm's procedure (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from routesim.calibration.history import History
from routesim.policies.logged import Logged, LoggedTables
from routesim.reports.columns import Columns
from routesim.reports.metrics import waits_ms
from routesim.sim.draws import Luck
from routesim.sim.engine import RUN_OUT_S, Engine
from routesim.sim.errors import BadInput
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel
from routesim.sim.outages import draw_outages
from routesim.sim.trace import Trace

FALSE_ALARM = 0.01  # chance that a right model fails
WORLDS, LUCK = 20, 2
_CELL_ROWS = 200
_RETRY_ROWS = 50
_CODE_ROWS = 50


@dataclass(frozen=True)
class Finding:
    """One figure: what history has, what the model foretells (mean, sd of a realisation), the p-value and verdict."""

    figure: str
    observed: float
    expected: float
    sd: float
    p_value: float
    passed: bool

    @property
    def look_at(self) -> str:
        """What in the model to look at when this figure fails."""
        return next((hint for start, hint in _HINTS if self.figure.startswith(start)), "the model as a whole")


_HINTS = (
    ("first-attempt approval at", "the processor's terms of the approval predictor; drift since the calibration"),
    ("retry success after", "the code's persistence, recovery and the repeat effect"),
    ("share of code", "the blocks' odds and the judgement codes"),
    ("latency", "the processor's latency distribution and its outages"),
    ("timeout share at", "the processor's outages and technical timeouts"),
    ("attempts per payment", "the logged router's retries"),
    ("payments per order", "the comebacks"),
    ("wait", "latency, and the logged router's retry delays"),
)


def check(model: CalibratedModel, history: History, workers: int | None = None, seed: int = 0,
          told: Callable[[int, int], None] = lambda done, todo: None) -> list[Finding]:
    """All findings, failures first. Raises BadInput for a model without the merchant's router, or an unlike history."""
    if model.model.logged is None:
        raise BadInput("the model holds no `logged` router, so history cannot be replayed; calibrate it on a history")
    unknown = set(history.log.attempts["processor"].unique().to_pylist()) - set(model.model.processors)
    if unknown:
        raise BadInput(f"history has processors that the model does not know: {', '.join(sorted(unknown))}; "
                       "calibrate on a history that has them", history.provenance.get("source"))
    observed = figures(history.log, None)
    runs = [(world, luck) for world in range(WORLDS) for luck in range(LUCK)]
    simulated: dict[tuple[int, int], Mapping[str, float]] = {}
    jobs = (joblib.delayed(_replay)(model, history.log, seed, world, luck, tuple(observed)) for world, luck in runs)
    results: Iterator[tuple[tuple[int, int], Mapping[str, float]]] = joblib.Parallel(
        n_jobs=workers or -1, return_as="generator_unordered", batch_size=1)(jobs)
    for key, found in results:
        simulated[key] = found
        told(len(simulated), len(runs))
    return judge(observed, [simulated[key] for key in runs])


def judge(observed: Mapping[str, float], simulated: list[Mapping[str, float]]) -> list[Finding]:
    """Findings by Holm's procedure at FALSE_ALARM over all figures that history and every simulation have."""
    rows = []
    for name, value in observed.items():
        draws = np.array([s.get(name, np.nan) for s in simulated])
        if not np.isfinite(value) or np.isfinite(draws).mean() < 0.9:
            continue
        draws = draws[np.isfinite(draws)]
        mean, sd = float(draws.mean()), float(draws.std(ddof=1))
        spread = max(sd, 1e-9) * np.sqrt(1 + 1 / len(draws))
        p = 2 * float(stats.t.sf(abs(value - mean) / spread, len(draws) - 1))
        rows.append((name, value, mean, sd, p))
    rows.sort(key=lambda row: row[4])
    findings, failing = [], True
    for i, (name, value, mean, sd, p) in enumerate(rows):
        failing = failing and p <= FALSE_ALARM / (len(rows) - i)
        findings.append(Finding(name, value, mean, sd, p, not failing))
    return findings


def _replay(model: CalibratedModel, log: AttemptLog, seed: int, world: int, luck_number: int,
            wanted: tuple[str, ...]) -> tuple[tuple[int, int], Mapping[str, float]]:
    trace = Trace(log.payments, model.model.timezone)
    drawn = model.draw(world, seed)
    luck = Luck(seed, world, luck_number)
    start = float(trace.arrived_at[0])
    outages = draw_outages(drawn.model, luck, start, float(trace.arrived_at[-1]) + RUN_OUT_S)
    policy = Logged(LoggedTables.model_validate(model.model.logged))
    done = Engine(trace, IssuerDecisions(drawn, trace), policy, luck, outages).run()
    return (world, luck_number), figures(done.log, wanted)


def figures(log: AttemptLog, wanted: tuple[str, ...] | None) -> dict[str, float]:
    """Every figure of a log by name; with ``wanted`` only those, however thin they are."""
    columns = Columns.of(log)
    own = columns.order >= 0
    found = {
        "approval rate": float(columns.approved.mean()),
        "order approval rate": float(np.bincount(columns.order[own], columns.approved[own],
                                                 minlength=columns.orders).astype(bool).mean()),
        "attempts per payment": len(columns.payment) / len(columns.approved),
        "payments per order": float((columns.order >= 0).sum() / columns.orders),
    }
    waits = waits_ms(columns)
    for p in (50, 95):
        found[f"wait p{p} ms"] = float(np.percentile(waits, p)) if len(waits) else np.nan
    frame = _frame(log)
    for name, values, least in _cells(frame):
        if (name in wanted) if wanted is not None else len(values) >= least:
            found[name] = float(values.mean())
    found |= _code_shares(frame, wanted)
    answered = frame[frame["answered"] & (frame["latency_ms"] > 0)]
    for processor in sorted(set(answered["processor"])):
        part = answered[answered["processor"] == processor]
        for p in (50, 95, 99):
            name = f"latency p{p} ms at {processor}"
            if (name in wanted) if wanted is not None else len(part) >= 20 * 100 / (100 - p):
                found[name] = float(np.percentile(part["latency_ms"], p))
    return found


def _frame(log: AttemptLog) -> pd.DataFrame:
    frame = log.attempts.select(["attempt_number", "processor", "outcome", "decline_code", "sent_at", "answered_at",
                                 "latency_ms"]).to_pandas()
    frame["row"] = log.payment_row
    frame["currency"] = np.asarray(log.payments["currency"].to_pylist(), dtype=object)[log.payment_row]
    frame = frame.sort_values(["row", "attempt_number"], kind="stable")
    frame["approved"] = frame["outcome"] == "approved"
    frame["answered"] = ~frame["outcome"].isin(["timeout", "refused"])
    by_payment = frame.groupby("row")
    for name in ("decline_code", "outcome", "processor", "answered_at"):
        frame[f"before_{name}"] = by_payment[name].shift()
    frame["delay_s"] = (frame["sent_at"] - frame["before_answered_at"]).dt.total_seconds()
    return frame


def _cells(frame: pd.DataFrame) -> Iterator[tuple[str, npt.NDArray[np.bool_], int]]:
    first = frame[frame["attempt_number"] == 1]
    yield "first-attempt rate", first["approved"].to_numpy(), 1
    for (processor, currency), part in first.groupby(["processor", "currency"]):
        yield f"first-attempt approval at {processor} in {currency}", part["approved"].to_numpy(), _CELL_ROWS
    for (processor,), part in frame.groupby(["processor"]):
        yield f"timeout share at {processor}", (part["outcome"] == "timeout").to_numpy(), _CELL_ROWS
    retries = frame[frame["attempt_number"] > 1].assign(
        where=np.where(frame.loc[frame["attempt_number"] > 1, "processor"]
                       == frame.loc[frame["attempt_number"] > 1, "before_processor"], "the same", "another"),
        when=np.where(frame.loc[frame["attempt_number"] > 1, "delay_s"] < 3600, "within the hour", "later"))
    code = retries["before_decline_code"].fillna(retries["before_outcome"])
    for (name, where, when), part in retries.groupby([code, "where", "when"]):
        yield f"retry success after {name} at {where} processor {when}", part["approved"].to_numpy(), _RETRY_ROWS


def _code_shares(frame: pd.DataFrame, wanted: tuple[str, ...] | None) -> dict[str, float]:
    counts = frame["decline_code"].value_counts()
    names = [name[len("share of code "):] for name in wanted if name.startswith("share of code ")] if wanted else [
        str(name) for name, n in counts.sort_index().items() if n >= _CODE_ROWS]
    return {f"share of code {name}": float(counts.get(name, 0)) / len(frame) for name in names}
