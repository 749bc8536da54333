"""What the owner's router tells of a processor's health by passing it over.

A processor that is shut out takes no attempts, so its attempts alone would have its outage end when the router turned
away. The router is a second observer, whose belief may be stale: after a recovery it keeps a processor shut for its
rest (the time a circuit stays open), or until its own probe succeeds. Its skips do not count one by one, for while a
circuit is open every payment is a skip; what counts is that it was shut, and for how long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from routesim.sim.arrays import Bools, Floats
from routesim.sim.trace import seconds

SkipTimes = Mapping[str, Floats]  # by processor: when it was passed over as unhealthy, s since the epoch, ascending

# A router that shuts a processor out is right ten times as often as chance would be: assumed, and weak on purpose, for
# MINIMUM_LOST asks for lost attempts as well.
SHUT_RATIO = 10.0
# A router takes back a processor that it knows to be healthy within about a minute: the usual rest of a circuit that is
# open (resilience4j 2.x: waitDurationInOpenState 60 s).
_USUAL_REST_S = 60.0
_UNSEEN_S = 600.0  # between skips farther apart than this nobody knows what the router thought
_SPELLS = 3  # fewer tell nothing of the router's rest
_BLIND_SHARE = 0.2
_REGULAR = 1.5
_ANSWERED_SHARE = 0.1


def means_unhealthy(reason: str, words: Sequence[str]) -> bool:
    """Whether a skip's reason holds one of ``words`` (whole words or phrases; case and punctuation do not matter)."""
    text = f" {_plain(reason)} "
    return any(f" {plain} " in text for plain in map(_plain, words) if plain)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def skip_times(skips: pa.Table, words: Sequence[str]) -> dict[str, Floats]:
    """The times (s) at which each processor was passed over for its health, from a table with the columns processor,
    at and reason; rows without a processor or a time tell nothing."""
    if not words or not skips.num_rows:
        return {}
    known = skips.filter(pc.and_(pc.is_valid(skips["processor"]), pc.is_valid(skips["at"])))
    meant = {reason: means_unhealthy(reason, words) for reason in pc.unique(known["reason"]).to_pylist()}
    known = known.filter(pa.array([meant[reason] for reason in known["reason"].to_pylist()], pa.bool_()))
    at = seconds(known["at"])
    processor = np.array(known["processor"].to_pylist(), dtype=str)
    return {name: np.sort(at[processor == name]) for name in sorted(set(processor.tolist()))}


def router_rest_s(times: Sequence[Floats], skipped: Sequence[Bools], lost: Sequence[Bools]) -> float:
    """How long (s) the router keeps a processor shut without looking, from all processors' shut spells.

    ``times``, ``skipped`` and ``lost`` (n,) are each processor's attempts and skips in time order. A router that looks
    by sending (a timer and probes) often meets a processor that is still unhealthy: where a fifth of the attempts that
    end a spell are lost, its rest is the median length of those spells. A timer that outlasts its outages shows as
    spells of one length (the ninth decile within 1.5 times the first, and a minute): their median. Otherwise the router
    knows by other means, as a health check, and is taken to look each minute; so it is where spells are fewer than
    three.
    """
    ended: list[tuple[float, bool]] = []
    for at, skip, fate in zip(times, skipped, lost, strict=True):
        ended += [(float(at[after] - at[first]), bool(fate[after]))
                  for first, after in _spells(skip) if after < len(at)]
    lengths = np.array([length for length, _ in ended])
    blind = np.array([length for length, still_unhealthy in ended if still_unhealthy])
    if len(lengths) < _SPELLS:
        return _USUAL_REST_S
    if len(blind) >= max(_BLIND_SHARE * len(lengths), 2):
        return float(np.median(blind))
    low, high = np.quantile(lengths, [0.1, 0.9])
    return float(np.median(lengths)) if high <= _REGULAR * low + _USUAL_REST_S else _USUAL_REST_S


def shut_evidence(times: Floats, skipped: Bools, lost: Bools, rest_s: float) -> tuple[Floats, Bools]:
    """What skips say against the up state, as log-likelihood ratios (n,), and where an episode of shutting began (n,).

    The first skip of an episode (none in the ten minutes before) multiplies the odds of unhealthy to up by
    SHUT_RATIO. Being kept shut for dt multiplies them by exp(dt / max(rest, 60 s)), half of it at either end; the last
    ``rest_s`` of a spell, which a stale belief explains, says nothing. Attempts (``skipped`` false) within an episode
    end a spell; where more than a tenth as many as its skips were answered, the episode says nothing: then the router
    kept some payments away, as those of one currency, and not the processor shut.
    """
    against = np.zeros(len(times))
    began = np.zeros(len(times), dtype=bool)
    for spells in _episodes(times, skipped):
        first, last = spells[0][0], spells[-1][1]
        here = slice(first, last)
        if (~skipped[here] & ~lost[here]).sum() > _ANSWERED_SHARE * skipped[here].sum():
            continue
        began[first] = True
        against[first] += np.log(SHUT_RATIO)
        for start, after in spells:
            until = float(times[after] if after < len(times) else times[after - 1]) - rest_s
            marks = np.minimum(times[start:min(after + 1, len(times))], until)
            shut = np.clip(np.diff(marks), 0.0, _UNSEEN_S) / max(rest_s, _USUAL_REST_S)
            against[start:start + len(shut)] += shut / 2
            against[start + 1:start + 1 + len(shut)] += shut / 2
    return against, began


def _episodes(times: Floats, skipped: Bools) -> list[list[tuple[int, int]]]:
    """Spells, those within ten minutes of each other together."""
    episodes: list[list[tuple[int, int]]] = []
    for spell in _spells(skipped):
        if episodes and times[spell[0]] - times[episodes[-1][-1][1] - 1] <= _UNSEEN_S:
            episodes[-1].append(spell)
        else:
            episodes.append([spell])
    return episodes


def _spells(skipped: Bools) -> list[tuple[int, int]]:
    """Runs of skips without an attempt between them: the first, and the place after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], skipped, [False]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
