"""The semi-Markov outage process of every processor, from the outages that history shows.

Durations are pooled over processors, for four weeks of one processor hardly show a tail. Gaps share their shape, and
each processor's scale leans on the common one. Both are fitted with censoring: the gap that runs on when history
ends, the one that ran before it began, an outage cut by the window. Outages that processors share leave their own
lists and make a process of their own, with the common durations, kinds and shape of gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from routesim.calibration.outages.find import Found, GapSeen, gaps_and_durations
from routesim.calibration.outages.joint import common_window, shared_switches
from routesim.calibration.times import FAMILIES, FittedTime, build, fit_time, inverse_hessian
from routesim.sim.arrays import Bools, Floats
from routesim.sim.model import JointOutages, OutageEffect, OutageKind, Outages
from routesim.sim.outages import Outage
from routesim.sim.uncertainty import Block, Scale, pointer

DURATIONS = ("lognormal", "weibull", "exponential")
GAPS = ("exponential", "weibull", "lognormal")
_SCALE_SD = 0.7  # processors' mean gaps differ by about a factor of two
# Outages are few, so durations lean on public incident records: tens of minutes, with a wide spread (an incident
# history of 3.5 years has sigma 1.1), whichever the family. A handful of them must not pass for a narrow law.
_USUAL_DURATION: dict[str, tuple[Floats, Floats]] = {
    "lognormal": (np.array([np.log(30.0), np.log(1.0)]), np.array([1.0, 0.4])),
    "weibull": (np.array([np.log(45.0), np.log(0.85)]), np.array([1.0, 0.35])),
    "exponential": (np.array([np.log(45.0)]), np.array([1.0])),
}
_STRONG = 6.0  # the difference of the criterion that is strong evidence against the usual family (Kass, Raftery 1995)
_USUAL_SWITCH = (1.5, 1.5)  # log of a switch's mean gap over a processor's, and its sd; assumed: no public record tells
_USUAL_GAP_SHAPE = (0.0, 0.3)  # log shape: Weibull gaps of public incident records have shapes of .7 to 1


@dataclass(frozen=True)
class FittedOutages:
    """Outages by processor for the model, and what is known of their numbers. ``joint`` are those of shared switches,
    ``joint_found`` how many of each history showed."""

    processes: dict[str, Outages]
    uncertainty: tuple[Block, ...]
    joint: tuple[JointOutages, ...] = ()
    joint_found: tuple[int, ...] = ()


def fit_outages(found: Found, windows: Mapping[str, tuple[float, float]]) -> FittedOutages:
    """``windows`` gives each processor's first and last attempt in seconds; a processor without attempts has none."""
    if not found.outages:
        return FittedOutages({}, ())
    switches, own = shared_switches(found.outages, windows, found.blur_s)
    gaps: list[list[tuple[float, GapSeen]]] = []  # of every processor by name, then of every switch
    durations: list[tuple[float, bool]] = []
    for outages, (start, end) in [
        *(([o for o in own if o.processor == name], window) for name, window in sorted(windows.items())),
        *((list(switch.outages), common_window(switch, windows)) for switch in switches),
    ]:
        between, mine = gaps_and_durations(outages, start, end)
        gaps.append(between)
        durations += mine
    minutes, whole = (np.array(column) for column in zip(*durations, strict=True))
    if not whole.any():
        whole = np.ones_like(whole)
    duration = fit_durations(minutes, whole)
    fits = [_fit_gaps(gaps, len(windows), family) for family in GAPS]
    chosen, estimates, covariance, _ = min(fits, key=lambda fit: fit[3])
    family = FAMILIES[chosen]
    kinds = _kinds([*own, *(outage for switch in switches for outage in switch.outages)], found)

    def process(row: int) -> Outages:
        at = np.concatenate([[estimates[row]], estimates[len(gaps):]])
        return Outages(gap_h=build(family, at), duration_min=duration.distribution, kinds=kinds)

    processes = {name: process(i) for i, name in enumerate(sorted(windows))}
    joint = tuple(JointOutages(**dict(process(len(windows) + i)), processors=list(switch.processors))
                  for i, switch in enumerate(switches))
    places: list[tuple[str, ...]] = [("processors", name, "outages") for name in sorted(windows)]
    places += [("joint_outages", str(i)) for i in range(len(joint))]
    uncertainty = _uncertainty(places, kinds, found, duration, family.names, estimates, covariance)
    return FittedOutages(processes, uncertainty, joint, tuple(len(switch.outages) for switch in switches))


def fit_durations(minutes: Floats, whole: Bools) -> FittedTime:
    """Durations (n,) in minutes, ``whole`` (n,) false where one was cut by the window: lognormal, unless the criterion
    speaks strongly for another family."""
    fits = {name: fit_time(minutes, whole, (name,), prior=_USUAL_DURATION[name]) for name in DURATIONS}
    best = min(fits.values(), key=lambda fit: fit.bic)
    return fits["lognormal"] if fits["lognormal"].bic - best.bic < _STRONG else best


def _fit_gaps(gaps: Sequence[list[tuple[float, GapSeen]]], own: int, name: str) -> tuple[str, Floats, Floats, float]:
    """Log scales by process, then the shared log shape: family, estimates, covariance, and the criterion. The first
    ``own`` processes are processors', which lean on their common mean; the others are switches'.

    A gap seen whole counts by its density f, one whose beginning was seen by its survival S, and one whose end was seen
    by S / mean, the density of the time to the next event from a moment that was not chosen for it (Cox 1962).
    """
    family = FAMILIES[name]
    rows = [{seen: np.array([g for g, s in times if s == seen]) for seen in ("whole", "beginning", "end")}
            for times in gaps]
    shapes = len(family.names) - 1
    total = sum(float(times.sum()) for row in rows[:own] for times in row.values())
    events = sum(len(row["whole"]) + len(row["end"]) for row in rows[:own])
    common = np.log(total / max(events, 0.5))

    def loss(at: Floats) -> float:
        middle = at[:own].mean()
        value = 0.5 * float((((at[:own] - middle) / _SCALE_SD) ** 2).sum())
        value += 0.5 * float((((at[own:len(rows)] - middle - _USUAL_SWITCH[0]) / _USUAL_SWITCH[1]) ** 2).sum())
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

    start = np.concatenate([np.full(own, common), np.full(len(rows) - own, common + _USUAL_SWITCH[0]),
                            np.zeros(shapes)])
    best = optimize.minimize(loss, start, method="BFGS")
    covariance = inverse_hessian(loss, best.x)
    criterion = 2 * float(best.fun) + float(shapes * np.log(max(events, 2)))
    return name, np.asarray(best.x, dtype=np.float64), covariance, criterion


def _kinds(outages: Sequence[Outage], found: Found) -> dict[OutageKind, OutageEffect]:
    counts: dict[OutageKind, int] = {}
    for outage in outages:
        counts[outage.kind] = counts.get(outage.kind, 0) + 1
    return {kind: OutageEffect(share=count + 0.5, loss=found.loss[kind],
                               latency_factor=found.latency_factor if kind == "slow" else 1.0)
            for kind, count in sorted(counts.items())}


def _uncertainty(places: Sequence[tuple[str, ...]], kinds: Mapping[OutageKind, OutageEffect], found: Found,
                 duration: FittedTime, gap_names: tuple[str, ...], gaps: Floats,
                 gap_covariance: Floats) -> tuple[Block, ...]:
    """One normal for the gaps of all processes, which stand at ``places`` of the document; durations, kinds and losses
    are common numbers, so every process's copy of one moves with the others: it stands in the factor as the same row.
    """
    count = len(places)
    pointers: list[str] = []
    rows: list[Floats] = []
    scales: list[Scale] = []
    estimates: list[float] = []
    root = _root(gap_covariance)
    for i, place in enumerate(places):
        for j, parameter in enumerate(gap_names):
            at = i if j == 0 else count + j - 1
            pointers.append(pointer(*place, "gap_h", parameter))
            rows.append(root[at])
            scales.append("log")
            estimates.append(float(gaps[at]))
    gap_block = Block("outage gaps", tuple(pointers), tuple(scales), np.array(estimates), _stack(rows))
    shared_pointers: list[str] = []
    shared_rows: list[Floats] = []
    shared_scales: list[Scale] = []
    shared_values: list[float] = []
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
    own = len(duration.estimates)
    duration_root = _root(duration.covariance)
    for place in places:
        for j, parameter in enumerate(duration.names):
            shared_pointers.append(pointer(*place, "duration_min", parameter))
            shared_rows.append(np.concatenate([duration_root[j], np.zeros(len(numbers))]))
            shared_scales.append(duration.scales[j])
            shared_values.append(float(duration.estimates[j]))
        for j, (where, scale, value, error) in enumerate(numbers):
            row = np.zeros(own + len(numbers))
            row[own + j] = error
            shared_pointers.append(pointer(*place, *where))
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
