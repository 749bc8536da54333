"""Outages found in history, from timeouts and slowness, by a hidden Markov model of every processor's health.

States: up, partial, down, slow. The health is a process that is refreshed at rate r from its stationary shares pi, so
that between two attempts dt hours apart it stays with probability exp(-r dt) and is drawn anew otherwise. An attempt
is lost with a probability of its state; an answered one's log latency, standardised within processor and outcome, is
shifted in the slow state. Rates, losses and the slowing are learnt by expectation-maximisation over all processors
(Rabiner 1989); an outage is a stretch whose attempts are more likely than not outside the up state. Where the owner's
router passed a processor over for its health, its skips stand among the attempts as evidence (router_skips.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from routesim.calibration.history.router_skips import SkipTimes, router_rest_s, shut_evidence
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog
from routesim.sim.model import OUTAGE_KINDS, OutageKind
from routesim.sim.outages import Outage
from routesim.sim.trace import seconds

STATES = ("up", "partial", "down", "slow")
_KIND: dict[str, OutageKind] = {kind: kind for kind in OUTAGE_KINDS}
MINIMUM_LOST = 3  # fewer affected attempts than this, and times that the router shut it out, are taken for chance
_ROUNDS = 8
_USUAL_LOSS = np.array([0.0005, 0.5, 0.95, 0.1])
_LATENCY_TAIL = 4  # degrees of freedom: latencies have heavy tails, one slow answer is no outage


@dataclass(frozen=True)
class Health:
    """What the attempts and skips of one processor say: ``at`` (n,) seconds ascending, ``lost`` (n,), ``slowness`` (n,)
    standardised log latency (NaN where lost, skipped or unknown), ``order`` (n,) rows of the log (-1 for skips),
    ``skipped`` (n,) true for skips, ``shut`` (n,) for those with which the router began to shut it out, and
    ``against_up`` (n,) the skips' log-likelihood ratios of unhealthy to up."""

    processor: str
    at: Floats
    lost: Bools
    slowness: Floats
    order: Ints
    spread: float
    skipped: Bools
    shut: Bools
    against_up: Floats


@dataclass(frozen=True)
class Found:
    """The outages of a history and what they do. ``inside`` (attempts,) marks the log's attempts that met one;
    ``loss`` and ``counts`` (lost, attempts) by kind; ``latency_factor`` and its log's standard error for slow ones.
    ``blur_s`` (outages,) is about how well each one's start and end are known: the time between telling attempts."""

    outages: list[Outage]
    inside: Bools
    loss: dict[OutageKind, float]
    counts: dict[OutageKind, tuple[float, float]]
    latency_factor: float
    latency_factor_se: float
    blur_s: tuple[float, ...] = ()


@dataclass
class _Parameters:
    refresh_per_h: float
    shares: Floats  # (4,) stationary
    loss: Floats  # (4,)
    slow_shift: float  # log of the latency factor


def find_outages(log: AttemptLog, skips: SkipTimes | None = None,
                 progress: Callable[[str], None] = lambda _: None) -> Found:
    """The outages that a log shows, ordered by start.

    ``skips`` are the times (s) at which the owner's router passed over each processor as unhealthy
    (``History.health_skips``); alone, without a lost or slow attempt, they make no outage.
    """
    healths = _with_skips(_healths(log), skips or {})
    parameters = _Parameters(1.5, np.array([0.99, 0.003, 0.004, 0.003]), _USUAL_LOSS, float(np.log(3.0)))
    posteriors: list[Floats] = []
    for number in range(_ROUNDS):
        progress(f"outages, round {number + 1} of {_ROUNDS}")
        passes = [_forward_backward(h, parameters) for h in healths]
        posteriors = [posterior for posterior, _ in passes]
        parameters = _learn(healths, posteriors, sum(refreshes for _, refreshes in passes))
    stretches: list[tuple[Outage, float]] = []
    inside = np.zeros(log.attempts.num_rows, dtype=bool)
    for health, posterior in zip(healths, posteriors, strict=True):
        found, rows = _stretches(health, posterior, parameters)
        stretches += found
        inside[rows] = True
    stretches.sort(key=lambda stretch: (stretch[0].start, stretch[0].processor))
    counts = {kind: _counts(healths, posteriors, STATES.index(kind)) for kind in OUTAGE_KINDS}
    slow = sum(float(p[np.isfinite(h.slowness), 3].sum()) for h, p in zip(healths, posteriors, strict=True))
    return Found([outage for outage, _ in stretches], inside,
                 {kind: float(parameters.loss[STATES.index(kind)]) for kind in OUTAGE_KINDS}, counts,
                 float(np.exp(parameters.slow_shift)), 0.7 / np.sqrt(max(slow, 1.0)),
                 tuple(blur for _, blur in stretches))


def _healths(log: AttemptLog) -> list[Health]:
    attempts = log.attempts
    processor = np.array(attempts["processor"].to_pylist(), dtype=str)
    outcome = np.array(attempts["outcome"].to_pylist(), dtype=str)
    sent, latency = seconds(attempts["sent_at"]), attempts["latency_ms"].to_numpy()
    found = []
    for name in sorted(set(processor.tolist())):
        rows = np.flatnonzero((processor == name) & (outcome != "refused"))
        rows = rows[np.argsort(sent[rows], kind="stable")]
        lost = outcome[rows] == "timeout"
        slowness = np.full(len(rows), np.nan)
        spread = 0.5
        for kind in ("approved", "declined", "unavailable"):
            mine = (outcome[rows] == kind) & (latency[rows] > 0)
            if mine.sum() >= 20:
                logs = np.log(latency[rows][mine])
                middle = np.median(logs)
                scale = max(float(stats.median_abs_deviation(logs, scale="normal")), 0.05)
                slowness[mine] = (logs - middle) / scale
                spread = scale if kind == "approved" else spread
        none = np.zeros(len(rows), dtype=bool)
        found.append(Health(name, sent[rows], lost, slowness, rows, spread, none, none, np.zeros(len(rows))))
    return found


def _with_skips(healths: list[Health], skips: SkipTimes) -> list[Health]:
    """The same with each processor's skips among its attempts, in time order; a skip stands before an attempt of the
    same moment."""
    none = np.zeros(0)
    merged = []
    for h in healths:
        mine = skips.get(h.processor, none)
        count = len(mine)
        at = np.concatenate([mine, h.at])
        order = np.argsort(at, kind="stable")
        merged.append(replace(
            h, at=at[order], lost=np.concatenate([np.zeros(count, dtype=bool), h.lost])[order],
            slowness=np.concatenate([np.full(count, np.nan), h.slowness])[order],
            order=np.concatenate([np.full(count, -1), h.order])[order], skipped=(np.arange(len(at)) < count)[order]))
    rest_s = router_rest_s([h.at for h in merged], [h.skipped for h in merged], [h.lost for h in merged])
    told = [shut_evidence(h.at, h.skipped, h.lost, rest_s) for h in merged]
    return [replace(h, against_up=against, shut=shut) for h, (against, shut) in zip(merged, told, strict=True)]


def _emissions(health: Health, parameters: _Parameters) -> Floats:
    """Likelihood of each attempt or skip in each state, (n, 4)."""
    like = np.where(health.lost[:, None], parameters.loss, 1 - parameters.loss)
    known = np.isfinite(health.slowness)
    usual = stats.t.pdf(health.slowness[known], _LATENCY_TAIL)
    shifted = stats.t.pdf(health.slowness[known] - parameters.slow_shift / health.spread, _LATENCY_TAIL)
    like[known, 3] *= shifted / usual  # relative to the usual latency, which the other states share
    like[health.skipped] = 1.0
    like[:, 0] *= np.exp(-health.against_up)
    return np.maximum(like, 1e-12)


def _forward_backward(health: Health, parameters: _Parameters) -> tuple[Floats, float]:
    """Posterior of the states (n, 4), and the expected number of refreshes that changed the state."""
    n = len(health.at)
    if n == 0:
        return np.zeros((0, 4)), 0.0
    emissions = _emissions(health, parameters)
    stay = np.exp(-parameters.refresh_per_h * np.diff(health.at, prepend=health.at[0]) / 3600).tolist()
    p0, p1, p2, p3 = parameters.shares.tolist()
    e = emissions.tolist()
    forward = []
    f0, f1, f2, f3 = p0 * e[0][0], p1 * e[0][1], p2 * e[0][2], p3 * e[0][3]
    total = f0 + f1 + f2 + f3
    f0, f1, f2, f3 = f0 / total, f1 / total, f2 / total, f3 / total
    forward.append((f0, f1, f2, f3))
    for k in range(1, n):
        # The hot loop is plain Python on floats: four states are too few for an array to pay.
        s, (e0, e1, e2, e3) = stay[k], e[k]
        d = 1 - s
        f0, f1, f2, f3 = (s * f0 + d * p0) * e0, (s * f1 + d * p1) * e1, (s * f2 + d * p2) * e2, (s * f3 + d * p3) * e3
        total = f0 + f1 + f2 + f3
        f0, f1, f2, f3 = f0 / total, f1 / total, f2 / total, f3 / total
        forward.append((f0, f1, f2, f3))
    backward = [(1.0, 1.0, 1.0, 1.0)]
    b0 = b1 = b2 = b3 = 1.0
    for k in range(n - 1, 0, -1):
        s, (e0, e1, e2, e3) = stay[k], e[k]
        b0, b1, b2, b3 = b0 * e0, b1 * e1, b2 * e2, b3 * e3
        mixed = (1 - s) * (p0 * b0 + p1 * b1 + p2 * b2 + p3 * b3)
        b0, b1, b2, b3 = s * b0 + mixed, s * b1 + mixed, s * b2 + mixed, s * b3 + mixed
        total = b0 + b1 + b2 + b3
        b0, b1, b2, b3 = b0 / total, b1 / total, b2 / total, b3 / total
        backward.append((b0, b1, b2, b3))
    posterior = np.array(forward) * np.array(backward[::-1])
    posterior /= posterior.sum(axis=1, keepdims=True)
    changes = 0.5 * float(np.abs(np.diff(posterior, axis=0)).sum())
    return posterior, changes


def _learn(healths: list[Health], posteriors: list[Floats], changes: float) -> _Parameters:
    """The next parameters. Weak beta priors keep a state that history hardly shows from losing its meaning."""
    lost = sum((p[h.lost].sum(axis=0) for h, p in zip(healths, posteriors, strict=True)), np.zeros(4))
    seen = sum((p[~h.skipped].sum(axis=0) for h, p in zip(healths, posteriors, strict=True)), np.zeros(4))
    strength = np.array([20.0, 10.0, 10.0, 10.0])
    loss = (lost + strength * _USUAL_LOSS) / (seen + strength)
    loss = np.clip(loss, 1e-5, [0.02, 0.8, 0.999, 0.5])
    loss[2] = max(loss[2], 0.85)
    # Health is a process in time, not in attempts: a busy hour weighs no more than a quiet one.
    hours = np.zeros(4)
    for h, p in zip(healths, posteriors, strict=True):
        if len(h.at) > 1:
            hours += (np.diff(h.at) / 3600) @ ((p[1:] + p[:-1]) / 2)
    shares = (hours + np.array([0.0, 0.1, 0.1, 0.1])) / (hours.sum() + 0.3)
    down_hours = float(hours[1:].sum()) + 0.3
    refresh = (changes / 2 + 0.3) / down_hours  # every outage begins with one change and ends with another
    shift, weight = 0.0, 0.0
    for h, p in zip(healths, posteriors, strict=True):
        known = np.isfinite(h.slowness)
        w = p[known, 3]
        shift += float((w * h.slowness[known] * h.spread).sum())
        weight += float(w.sum())
    slow = (shift + 5 * np.log(3.0)) / (weight + 5)
    return _Parameters(float(np.clip(refresh, 0.2, 12.0)), np.maximum(shares, 1e-5) / np.maximum(shares, 1e-5).sum(),
                       loss, float(max(slow, np.log(1.5))))


def _stretches(health: Health, posterior: Floats, parameters: _Parameters) -> tuple[
        list[tuple[Outage, float]], list[int]]:
    """Outages of one processor, each with its blur (s), and the rows of the log's attempts inside them."""
    outages: list[tuple[Outage, float]] = []
    rows: list[int] = []
    if not len(posterior):
        return outages, rows
    bad = np.concatenate([[False], posterior[:, 0] < 0.5, [False]])
    edges = np.flatnonzero(np.diff(bad.astype(int)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):  # attempts first .. last - 1 are inside
        weights = posterior[first:last].sum(axis=0)
        state = 1 + int(np.argmax(weights[1:]))
        touched = health.lost if state != 3 else (posterior[:, 3] > 0.5) & ~health.skipped
        affected = touched[first:last].sum()
        if affected + health.shut[first:last].sum() < MINIMUM_LOST or not affected:
            continue
        start = health.at[first] if first == 0 else (health.at[first - 1] + health.at[first]) / 2
        end = health.at[last - 1] if last == len(health.at) else (
            health.at[last - 1] + health.at[last]) / 2
        kind = _KIND[STATES[state]]
        outage = Outage(health.processor, kind, float(start), float(max(end, start + 1)),
                        float(parameters.loss[state]), float(np.exp(parameters.slow_shift)) if kind == "slow" else 1.0)
        telling = (last - first) * (1.0 if kind == "slow" else outage.loss)
        outages.append((outage, (outage.end - outage.start) / telling))
        rows += health.order[first:last][~health.skipped[first:last]].tolist()
    return outages, rows


def _counts(healths: list[Health], posteriors: list[Floats], state: int) -> tuple[float, float]:
    lost = sum(float(p[h.lost, state].sum()) for h, p in zip(healths, posteriors, strict=True))
    return lost, sum(float(p[~h.skipped, state].sum()) for h, p in zip(healths, posteriors, strict=True))


GapSeen = Literal["whole", "end", "beginning"]


def gaps_and_durations(outages: list[Outage], start: float, end: float) -> tuple[
        list[tuple[float, GapSeen]], list[tuple[float, bool]]]:
    """Gaps (h) of one processor in the window, each with what was seen of it, and durations (min), each with whether
    it was seen whole. Of the first gap only the end is seen, of the last only the beginning."""
    gaps: list[tuple[float, GapSeen]] = []
    durations: list[tuple[float, bool]] = []
    clear = start
    seen: GapSeen = "end"
    for outage in outages:
        if outage.start > clear:
            gaps.append(((outage.start - clear) / 3600, seen))
        seen = "whole"
        durations.append(((outage.end - outage.start) / 60, outage.start > start and outage.end < end))
        clear = max(clear, outage.end)
    if end > clear:
        gaps.append(((end - clear) / 3600, "beginning"))
    return gaps, durations
