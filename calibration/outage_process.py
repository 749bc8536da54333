"""The semi-Markov outage process of every processor, from the outages that history shows.

Durations are pooled over processors, for four weeks of one processor hardly show a tail. Gaps share their shape, and
each processor's scale leans on the common one. Both are fitted with censoring: the gap that runs on when history
ends, the one that ran before it began, an outage cut by the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from routesim.calibration.outages import Found, GapSeen, gaps_and_durations
from routesim.calibration.times import FAMILIES, build, fit_time, hessian
from routesim.sim.model import OutageEffect, OutageKind, Outages
from routesim.sim.uncertainty import Block, Scale, pointer

Floats = npt.NDArray[np.float64]

DURATIONS = ("lognormal", "weibull", "exponential")
GAPS = ("exponential", "weibull", "lognormal")
_SCALE_SD = 0.7  # processors' mean gaps differ by about a factor of two
_ENOUGH = 5  # outages below which the families cannot be told apart: the field's usual one is taken
_USUAL_DURATION = (np.array([np.log(30.0), np.log(1.0)]), np.array([1.0, 0.4]))
_USUAL_GAP_SHAPE = (0.0, 0.3)  # log shape: Weibull gaps of public incident records have shapes of .7 to 1


@dataclass(frozen=True)
class FittedOutages:
    """Outages by processor for the model, and what is known of their numbers."""

    processes: dict[str, Outages]
    uncertainty: tuple[Block, ...]


def fit_outages(found: Found, windows: Mapping[str, tuple[float, float]]) -> FittedOutages:
    """``windows`` gives each processor's first and last attempt in seconds; a processor without attempts has none."""
    if not found.outages:
        return FittedOutages({}, ())
    gaps: dict[str, list[tuple[float, GapSeen]]] = {}
    durations: list[tuple[float, bool]] = []
    for name, (start, end) in sorted(windows.items()):
        gaps[name], mine = gaps_and_durations([o for o in found.outages if o.processor == name], start, end)
        durations += mine
    minutes, whole = (np.array(column) for column in zip(*durations, strict=True))
    enough = whole.sum() >= _ENOUGH
    if not whole.any():
        whole = np.ones_like(whole)
    duration = (fit_time(minutes, whole, DURATIONS) if enough
                else fit_time(minutes, whole, ("lognormal",), prior=_USUAL_DURATION))
    fits = [_fit_gaps(gaps, family) for family in GAPS]
    chosen, estimates, covariance, _ = min(fits, key=lambda fit: fit[3])
    family = FAMILIES[chosen]
    kinds = _kinds(found)
    processes = {}
    for i, name in enumerate(sorted(gaps)):
        at = np.concatenate([[estimates[i]], estimates[len(gaps):]])
        processes[name] = Outages(gap_h=build(family, at), duration_min=duration.distribution, kinds=kinds)
    return FittedOutages(processes, _uncertainty(processes, found, duration.scales, duration.names,
                                                 duration.estimates, duration.covariance, family.names,
                                                 estimates, covariance))


def _fit_gaps(gaps: Mapping[str, list[tuple[float, GapSeen]]], name: str) -> tuple[str, Floats, Floats, float]:
    """Log scales by processor, then the shared log shape: family, estimates, covariance, and the criterion.

    A gap seen whole counts by its density f, one whose beginning was seen by its survival S, and one whose end was seen
    by S / mean, the density of the time to the next event from a moment that was not chosen for it (Cox 1962).
    """
    family = FAMILIES[name]
    rows = [{seen: np.array([g for g, s in gaps[p] if s == seen]) for seen in ("whole", "beginning", "end")}
            for p in sorted(gaps)]
    shapes = len(family.names) - 1
    total = sum(float(times.sum()) for row in rows for times in row.values())
    events = sum(len(row["whole"]) + len(row["end"]) for row in rows)
    common = np.log(total / max(events, 0.5))

    def loss(at: Floats) -> float:
        middle = at[: len(rows)].mean()
        value = 0.5 * float((((at[: len(rows)] - middle) / _SCALE_SD) ** 2).sum())
        if shapes:
            value += 0.5 * ((at[-1] - _USUAL_GAP_SHAPE[0]) / _USUAL_GAP_SHAPE[1]) ** 2
        value += 0.5 * ((middle - common) / 3.0) ** 2
        for i, row in enumerate(rows):
            distribution = build(family, np.concatenate([[at[i]], at[len(rows):]]))
            open_ended = np.concatenate([row["beginning"], row["end"]])
            with np.errstate(all="ignore"):
                value -= float(distribution.logpdf(row["whole"]).sum())
                value -= float(np.log(np.maximum(distribution.sf(open_ended), 1e-300)).sum())
                value += len(row["end"]) * float(np.log(distribution.average()))
        return value if np.isfinite(value) else 1e12

    start = np.concatenate([np.full(len(rows), common), np.zeros(shapes)])
    best = optimize.minimize(loss, start, method="BFGS")
    covariance: Floats = np.asarray(np.linalg.pinv(hessian(loss, best.x), hermitian=True), dtype=np.float64)
    criterion = 2 * float(best.fun) + float(shapes * np.log(max(events, 2)))
    return name, np.asarray(best.x, dtype=np.float64), covariance, criterion


def _kinds(found: Found) -> dict[OutageKind, OutageEffect]:
    counts: dict[OutageKind, int] = {}
    for outage in found.outages:
        counts[outage.kind] = counts.get(outage.kind, 0) + 1
    return {kind: OutageEffect(share=count + 0.5, loss=found.loss[kind],
                               latency_factor=found.latency_factor if kind == "slow" else 1.0)
            for kind, count in sorted(counts.items())}


def _uncertainty(processes: Mapping[str, Outages], found: Found, duration_scales: tuple[Scale, ...],
                 duration_names: tuple[str, ...], duration: Floats, duration_covariance: Floats,
                 gap_names: tuple[str, ...], gaps: Floats, gap_covariance: Floats) -> tuple[Block, ...]:
    """One normal for the gaps of all processors; durations, kinds and losses are common numbers, so every processor's
    copy of one moves with the others: it stands in the factor as the same row."""
    names = sorted(processes)
    count = len(names)
    pointers: list[str] = []
    rows: list[Floats] = []
    scales: list[Scale] = []
    estimates: list[float] = []
    root = _root(gap_covariance)
    for i, name in enumerate(names):
        for j, parameter in enumerate(gap_names):
            at = i if j == 0 else count + j - 1
            pointers.append(pointer("processors", name, "outages", "gap_h", parameter))
            rows.append(root[at])
            scales.append("log")
            estimates.append(float(gaps[at]))
    gap_block = Block("outage gaps", tuple(pointers), tuple(scales), np.array(estimates), _stack(rows))
    shared_pointers: list[str] = []
    shared_rows: list[Floats] = []
    shared_scales: list[Scale] = []
    shared_values: list[float] = []
    kinds = processes[names[0]].kinds
    numbers: list[tuple[tuple[str, ...], Scale, float, float]] = []
    for kind, effect in kinds.items():
        # Shares are weights: independent gamma(count + 1/2) variables, normalised, are the Dirichlet posterior.
        numbers.append((("kinds", kind, "share"), "log", float(np.log(effect.share)),
                        float(np.sqrt(special.polygamma(1, effect.share)))))
        _, seen = found.counts[kind]
        p = float(np.clip(effect.loss, 1e-3, 1 - 1e-3))
        numbers.append((("kinds", kind, "loss"), "logit", float(special.logit(p)),
                        float(1 / np.sqrt(max(seen, 1.0) * p * (1 - p) + 0.5))))
        if kind == "slow":
            numbers.append((("kinds", kind, "latency_factor"), "log", float(np.log(effect.latency_factor)),
                            found.latency_factor_se))
    width = len(duration) + len(numbers)
    duration_root = _root(duration_covariance)
    for name in names:
        for j, parameter in enumerate(duration_names):
            shared_pointers.append(pointer("processors", name, "outages", "duration_min", parameter))
            shared_rows.append(np.concatenate([duration_root[j], np.zeros(len(numbers))]))
            shared_scales.append(duration_scales[j])
            shared_values.append(float(duration[j]))
        for j, (where, scale, value, error) in enumerate(numbers):
            row = np.zeros(width)
            row[len(duration) + j] = error
            shared_pointers.append(pointer("processors", name, "outages", *where))
            shared_rows.append(row)
            shared_scales.append(scale)
            shared_values.append(value)
    shared = Block("outage effects", tuple(shared_pointers), tuple(shared_scales), np.array(shared_values),
                   _stack(shared_rows))
    return gap_block, shared


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray(vectors * np.sqrt(np.clip(values, 0, None)))


def _stack(rows: list[Floats]) -> Floats:
    """A square lower-triangular factor with the covariance of the rows."""
    matrix = np.stack(rows)
    square = np.zeros((len(rows), len(rows)))
    q = np.transpose(np.linalg.qr(matrix.T, mode="r"))  # lower triangular, (rows, min(rows, width))
    square[:, : q.shape[1]] = q
    return square
