"""Outages that several processors share, as behind one switch: found by coincidences that chance does not explain.

Two outages coincide where they overlap and begin together; where they end together too, the more so. Were processors a
and b independent and each stationary, turning b's outages round the window of T seconds by a uniform shift would change
nothing, so that the expected number of coincidences is

    mu = (1/T) * sum over i, j of the length of the shifts at which outage i of a and outage j of b coincide,

whatever the times between the outages of one processor. The count, coincidences within an hour of each other taken as
one, is held against a Poisson variable with that mean (the law of rare events).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import sparse, stats

from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.model import OUTAGE_KINDS
from routesim.sim.outages import Outage

CHANCE = 0.01  # of claiming any shared switch in a history whose processors are independent
_TOGETHER_S = 120.0  # a shared switch takes its processors down within this, as far as their attempts can tell
_BLURS = 2.0  # starts and ends are known to about the time between two telling attempts: so many of these are allowed
_ONE_EVENT_S = 3600.0  # flapping is one event


@dataclass(frozen=True)
class SharedSwitch:
    """Processors that fail together: ``outages`` are their common ones by start, each under the name of the member
    that tells its times best; ``p_value`` is the largest of its pairs, before the correction for the pairs tried."""

    processors: tuple[str, ...]
    outages: tuple[Outage, ...]
    p_value: float


@dataclass(frozen=True)
class _Link:
    """Two processors: ``coincide`` (m, n) over their outages, and the chance of so many coincidences."""

    coincide: Bools
    p_value: float


def shared_switches(outages: Sequence[Outage], windows: Mapping[str, tuple[float, float]],
                    blur_s: Sequence[float] = ()) -> tuple[list[SharedSwitch], list[Outage]]:
    """The switches that processors share, ordered by their processors, and the outages that are a processor's own.

    ``windows`` gives each processor's first and last attempt (s). ``blur_s`` (outages,) tells how well each outage's
    start and end are known (s); without it they are taken as exact. In a history of independent processors some switch
    is claimed with probability CHANCE at most: Bonferroni over the pairs, and over the two meanings of coincidence.
    """
    blur = np.zeros(len(outages)) if not len(blur_s) else np.asarray(blur_s, dtype=np.float64)
    rows = {name: np.array([i for i, o in enumerate(outages) if o.processor == name], dtype=np.int64)
            for name in sorted(windows)}
    pairs = list(combinations(sorted(windows), 2))
    links: dict[tuple[str, str], _Link] = {}
    for a, b in pairs:
        link = _link(outages, blur, rows[a], rows[b], _common(windows, (a, b)))
        if link is not None and link.p_value < CHANCE / len(pairs):
            links[a, b] = link
    near = np.eye(len(outages), dtype=bool)
    for (a, b), link in links.items():
        near[np.ix_(rows[a], rows[b])] = link.coincide
        near[np.ix_(rows[b], rows[a])] = link.coincide.T
    members = _cliques(sorted(windows), set(links))
    events: dict[tuple[str, ...], list[Outage]] = {}
    taken: set[int] = set()
    for group in _components(near):
        names = {outages[i].processor for i in group}
        common = [len(names & set(clique)) for clique in members]
        best = members[common.index(max(common))]  # the first of those that hold most of the group
        inside = [i for i in group if outages[i].processor in best]
        if len({outages[i].processor for i in inside}) > 1:
            events.setdefault(best, []).append(_one_outage([outages[i] for i in inside], blur[inside]))
            taken |= set(inside)
    switches = [SharedSwitch(clique, tuple(sorted(found, key=lambda o: o.start)),
                             max(links[pair].p_value for pair in combinations(clique, 2)))
                for clique, found in sorted(events.items())]
    return switches, [o for i, o in enumerate(outages) if i not in taken]


def common_window(switch: SharedSwitch, windows: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """The time (s) in which all processors of a switch had attempts."""
    return _common(windows, switch.processors)


def _common(windows: Mapping[str, tuple[float, float]], names: Sequence[str]) -> tuple[float, float]:
    return max(windows[name][0] for name in names), min(windows[name][1] for name in names)


def _link(outages: Sequence[Outage], blur: Floats, a: Ints, b: Ints,
          window: tuple[float, float]) -> _Link | None:
    """The better of two tests, doubled for having tried both: beginning together, and ending together as well."""
    start, end = window
    if end <= start or not len(a) or not len(b):
        return None
    times = np.array([(o.start, o.end) for o in outages])
    inside = (times[:, 1] > start) & (times[:, 0] < end)
    allowed = _TOGETHER_S + _BLURS * (blur[a][:, None] + blur[b][None, :])
    begins = times[a, 0][:, None] - times[b, 0][None, :]
    ends = times[a, 1][:, None] - times[b, 1][None, :]
    # Shifts of b at which the two overlap, and begin together; those at which they end together as well.
    low = np.maximum(begins - allowed, times[a, 0][:, None] - times[b, 1][None, :])
    high = np.minimum(begins + allowed, times[a, 1][:, None] - times[b, 0][None, :])
    both = np.maximum(low, ends - allowed), np.minimum(high, ends + allowed)
    seen = inside[a][:, None] & inside[b][None, :]
    links = []
    for least, most in ((low, high), both):
        coincide = seen & (least < 0) & (most > 0)
        expected = float(np.where(seen, np.maximum(most - least, 0.0), 0.0).sum()) / (end - start)
        count = _events(times[a, 0][coincide.any(axis=1)])
        p_value = float(stats.poisson.sf(count - 1, expected)) if count else 1.0
        links.append(_Link(coincide, min(1.0, 2 * p_value)))
    return min(links, key=lambda link: link.p_value)


def _events(starts: Floats) -> int:
    """How many of these times are events of their own."""
    count, latest = 0, -np.inf
    for start in sorted(starts.tolist()):
        if start - latest > _ONE_EVENT_S:
            count, latest = count + 1, start
    return count


def _one_outage(parts: Sequence[Outage], blur: Floats) -> Outage:
    """A common outage: its times from the member that tells them best, its kind the commonest, or the gravest."""
    blur_of: dict[str, float] = {}
    for part, own in zip(parts, blur.tolist(), strict=True):
        blur_of[part.processor] = min(own, blur_of.get(part.processor, own))
    sharpest = min(sorted(blur_of), key=lambda name: blur_of[name])
    mine = [part for part in parts if part.processor == sharpest]
    kinds = [part.kind for part in parts]
    kind = max(OUTAGE_KINDS, key=kinds.count)  # ties go to the first: down, partial, slow
    like = next(part for part in parts if part.kind == kind)
    return Outage(sharpest, kind, min(o.start for o in mine), max(o.end for o in mine), like.loss, like.latency_factor)


def _components(near: Bools) -> list[list[int]]:
    """Groups of two or more outages that coincidences connect, in the order of their first."""
    groups: dict[int, list[int]] = {}
    for outage, label in enumerate(sparse.csgraph.connected_components(near, directed=False)[1].tolist()):
        groups.setdefault(label, []).append(outage)
    return [group for group in groups.values() if len(group) > 1]


def _cliques(names: Sequence[str], linked: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """The largest sets of processors all of whose pairs are linked, in order: one switch each (Bron, Kerbosch 1973)."""
    beside = {name: {b if a == name else a for a, b in linked if name in (a, b)} for name in names}
    found: list[tuple[str, ...]] = []

    def grow(chosen: list[str], possible: list[str], done: list[str]) -> None:
        if not possible and not done and len(chosen) > 1:
            found.append(tuple(chosen))
        for i, name in enumerate(possible):
            passed = done + possible[:i]
            grow([*chosen, name], [p for p in possible[i + 1:] if p in beside[name]],
                 [p for p in passed if p in beside[name]])

    grow([], list(names), [])
    return sorted(found)
