"""The check's second part: latency, timeouts and outages of every processor, at the times of history's own attempts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from routesim.calibration.check.findings import Surprise
from routesim.calibration.outages.find import MINIMUM_LOST, Found
from routesim.sim.arrays import Floats
from routesim.sim.draws import Luck
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel, Processor, World
from routesim.sim.outages import Outage, draw_outages
from routesim.sim.trace import seconds

QUANTILES = (50, 95, 99)
_ANSWERS = 20  # answers beyond a quantile that are expected at least


def check_processors(model: CalibratedModel, log: AttemptLog, found: Found, worlds: int, seed: int) -> list[Surprise]:
    """Latency quantiles and timeouts outside outages; how many outages, how long, and how many attempts they took."""
    drawn = [model.draw(world, seed) for world in range(worlds)]
    processor = np.array(log.attempts["processor"].to_pylist(), dtype=str)
    outcome = np.array(log.attempts["outcome"].to_pylist(), dtype=str)
    latency = log.attempts["latency_ms"].to_numpy()
    surprises: list[Surprise] = []
    for name in sorted(set(processor.tolist()) & set(model.model.processors)):
        mine = (processor == name) & ~found.inside
        worlds_of = [world.model.processors[name] for world in drawn]
        answered = mine & ~np.isin(outcome, ["timeout", "refused"]) & (latency > 0)
        surprises += _latency(name, worlds_of, latency[answered], outcome[answered])
        surprises += _timeouts(name, worlds_of, outcome[mine], model.model.timeout_code)
    return surprises + _outages(drawn, processor, seconds(log.attempts["sent_at"]), found, seed)


def _latency(name: str, worlds: Sequence[Processor], times: Floats, outcome: npt.NDArray[np.str_]) -> list[Surprise]:
    """The share of answers above each world's quantile against what it should be."""
    surprises = []
    for p in QUANTILES:
        tail = 1 - p / 100
        if len(times) * tail < _ANSWERS:
            continue
        above = []
        points = []
        for world in worlds:
            point = _mixture_quantile(world, outcome, p / 100)
            points.append(point)
            above.append(float((times > point).mean()))
        sd = float(np.sqrt(tail * (1 - tail) / len(times) + np.var(above, ddof=1)))
        p_value = 2 * float(stats.norm.sf(abs(np.mean(above) - tail) / sd))
        spread = float(np.std(points, ddof=1))
        # In ms for the reader; the verdict rests on the share above, which needs no density.
        density = max((np.mean(times > 0.95 * np.mean(points)) - np.mean(times > 1.05 * np.mean(points)))
                      / (0.1 * np.mean(points)), 1e-12)
        surprises.append(Surprise(f"latency p{p} ms at {name}", float(np.percentile(times, p)), float(np.mean(points)),
                                  float(np.hypot(spread, np.sqrt(tail * (1 - tail) / len(times)) / density)), p_value))
    return surprises


def _mixture_quantile(processor: Processor, outcome: npt.NDArray[np.str_], p: float) -> float:
    """The quantile of answers with history's mix of outcomes, cut at the processor's timeout."""
    latency = processor.latency
    parts = [(latency.approved, (outcome == "approved").mean()),
             (latency.declined or latency.approved, (outcome == "declined").mean()),
             (latency.unavailable or latency.approved, (outcome == "unavailable").mean())]
    u = (np.arange(2000) + 0.5) / 2000
    values = np.concatenate([d.ppf(u) for d, share in parts if share > 0]) * latency.factor
    weights = np.concatenate([np.full(len(u), share) for _, share in parts if share > 0])
    inside = values < 1000 * processor.timeout_s
    order = np.argsort(values[inside])
    cumulative = np.cumsum(weights[inside][order])
    return float(np.interp(p * cumulative[-1], cumulative, values[inside][order]))


def _timeouts(name: str, worlds: Sequence[Processor], outcome: npt.NDArray[np.str_], code: str) -> list[Surprise]:
    if not len(outcome):
        return []
    rates = np.array([world.technical.get(code, 0.0) for world in worlds])
    count, mean = int((outcome == "timeout").sum()), float(rates.mean()) * len(outcome)
    # Given a world the count is Poisson; over worlds whose rate is a gamma variable it is negative binomial.
    extra = float(rates.var(ddof=1)) * len(outcome) ** 2
    sd = float(np.sqrt(max(mean, 1e-9) + extra))
    return [Surprise(f"timeouts outside outages at {name}", count, mean, sd, _count_p_value(count, mean, sd))]


def _count_p_value(count: float, mean: float, sd: float) -> float:
    """Two-sided, for a count with this mean and sd: negative binomial where it is wider than Poisson."""
    mean = max(mean, 1e-9)
    if sd**2 > mean * 1.001:
        p = mean / sd**2
        n = mean * p / (1 - p)
        lower, upper = stats.nbinom.cdf(count, n, p), stats.nbinom.sf(count - 1, n, p)
    else:
        lower, upper = stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)
    return float(min(1.0, 2 * min(lower, upper)))


def _outages(drawn: Sequence[World], processor: npt.NDArray[np.str_], sent: Floats, found: Found,
             seed: int) -> list[Surprise]:
    """Outages that history's attempts would have shown, over the worlds, against those that they did show."""
    times = {name: np.sort(sent[processor == name]) for name in np.unique(processor).tolist()}
    start, end = float(sent.min()), float(sent.max())
    seen = [_shown(found.outages, times)]
    for number, world in enumerate(drawn):
        outages = draw_outages(world.model, Luck(seed, number, 0), start, end)
        seen.append(_shown([o for o in outages if o.processor in times], times))
    surprises = []
    for i, name in enumerate(("outages shown", "outages: attempts that met one", "outages: median length, min")):
        values = np.array([row[i] for row in seen[1:]])
        values = values[np.isfinite(values)]
        observed = seen[0][i]
        if len(values) < 3 or not np.isfinite(observed):
            continue
        mean, sd = float(values.mean()), max(float(values.std(ddof=1)), 1e-9)
        if i == 0:
            p_value = _count_p_value(observed, mean, sd)
        else:  # both are skewed: judged on a logarithmic scale
            logs = np.log1p(values)
            z = (np.log1p(observed) - logs.mean()) / (max(float(logs.std(ddof=1)), 1e-6) * np.sqrt(1 + 1 / len(logs)))
            p_value = 2 * float(stats.t.sf(abs(z), len(logs) - 1))
        surprises.append(Surprise(name, observed, mean, sd, p_value))
    return surprises


def _shown(outages: Sequence[Outage], times: dict[str, Floats]) -> tuple[float, float, float]:
    """How many outages have enough attempts to be seen, the attempts that met them, and their median length (min)."""
    count, met, lengths = 0, 0.0, []
    for outage in outages:
        inside = np.searchsorted(times[outage.processor], [outage.start, outage.end])
        attempts = int(inside[1] - inside[0])
        if attempts * max(outage.loss, 0.9 if outage.latency_factor > 1 else 0.0) >= MINIMUM_LOST:
            count += 1
            met += attempts
            lengths.append((outage.end - outage.start) / 60)
    return float(count), met, float(np.median(lengths)) if lengths else float("nan")
