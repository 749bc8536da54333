"""Latency per processor and outcome, its family chosen by fit, outages and timeouts apart.

Where even the best family misses the sample (a processor behind several routes answers in several humps), the sample's
own quantiles are taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routesim.calibration.times import FittedTime, fit_time
from routesim.sim.arrays import Bools, Floats
from routesim.sim.distributions import Lognormal, Quantiles
from routesim.sim.log import AttemptLog
from routesim.sim.model import Latency
from routesim.sim.uncertainty import Block, Scale, pointer

FAMILIES = ("lognormal", "gamma", "loglogistic", "lognormal_mixture")
ENOUGH = 200  # answers of one outcome below which it takes the distribution of approvals and declines together
MOST = 20_000  # a fit looks at no more times than this: its error is far below the model's by then
OUTCOMES = ("approved", "declined", "unavailable")
TOLERANCE = 0.03  # a family may miss the sample's p50, p95 or p99 by this share, or by what chance explains
KNOTS = np.array([0, 0.001, 0.005, 0.01, 0.02, 0.03, *np.linspace(0.05, 0.95, 46), 0.96, 0.97, 0.98, 0.985, 0.99,
                  0.9925, 0.995, 0.997, 0.998, 0.999, 0.9995, 1])


@dataclass(frozen=True)
class FittedLatency:
    """``latency`` by processor; ``timeout_s`` where history shows one."""

    latency: dict[str, Latency]
    timeout_s: dict[str, float]
    uncertainty: tuple[Block, ...]


def fit_latency(log: AttemptLog, inside: Bools) -> FittedLatency:
    """``inside`` (attempts,) marks attempts that met an outage. A history without latencies gets 1 ms for all."""
    attempts = log.attempts
    processor = np.array(attempts["processor"].to_pylist(), dtype=str)
    outcome = np.array(attempts["outcome"].to_pylist(), dtype=str)
    latency = attempts["latency_ms"].to_numpy()
    usable = ~inside & (latency > 0)
    fitted: dict[str, Latency] = {}
    timeouts: dict[str, float] = {}
    blocks: list[Block] = []
    for name in sorted(set(processor.tolist())):
        mine = processor == name
        lost = latency[mine & (outcome == "timeout") & (latency > 0)]
        if len(lost):
            timeouts[name] = float(round(np.median(lost) / 1000, 3))
        answered = mine & usable & np.isin(outcome, OUTCOMES)
        if not answered.any():
            fitted[name] = Latency(approved=Lognormal(median=1.0, sigma=0.01))
            continue
        whole = _fit(latency[answered])
        fits: dict[str, FittedTime] = {}
        for kind in OUTCOMES:
            times = latency[answered & (outcome == kind)]
            fits[kind] = _fit(times) if len(times) >= ENOUGH else whole
        fitted[name] = Latency(approved=fits["approved"].distribution, declined=fits["declined"].distribution,
                               unavailable=fits["unavailable"].distribution)
        blocks += [_block(name, kind, fit) for kind, fit in fits.items() if fit.names]
    return FittedLatency(fitted, timeouts, tuple(blocks))


def _fit(times: Floats) -> FittedTime:
    """The best family, or the sample's quantiles where that misses them. These are kept without uncertainty: they are
    taken only where the miss is beyond chance, so that it, and not chance, was the greater error."""
    fit = fit_time(_thin(times), families=FAMILIES)
    for p in (0.5, 0.95, 0.99):
        if len(times) * (1 - p) < 20:
            continue
        reach = 3 * np.sqrt(p * (1 - p) / len(times))
        low, middle, high = np.quantile(times, np.clip([p - reach, p, p + reach], 0, 1))
        found = fit.distribution.quantile(p)
        if not low <= found <= high and abs(found / middle - 1) > TOLERANCE:
            values = np.quantile(times, KNOTS).tolist()
            return FittedTime(Quantiles(probabilities=KNOTS.tolist(), values=values), (), (), np.zeros(0),
                              np.zeros((0, 0)), fit.log_likelihood, fit.bic)
    return fit


def _thin(times: Floats) -> Floats:
    """Every k-th order statistic: the shape, tail included, at a bounded cost."""
    if len(times) <= MOST:
        return times
    return np.quantile(times, (np.arange(MOST) + 0.5) / MOST)


def _block(processor: str, outcome: str, fit: FittedTime) -> Block:
    scales: tuple[Scale, ...] = fit.scales
    where = ("processors", processor, "latency", outcome)
    values = [getattr(fit.distribution, n) for n in fit.names]
    return Block.of(f"latency {processor} {outcome}", [pointer(*where, n) for n in fit.names], scales, values,
                    fit.covariance)
