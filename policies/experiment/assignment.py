"""Who is in which variant of an experiment, as the serving platform assigns it.

A unit's bucket is the SHA-256 of its id, the whole digest read as a big-endian integer, modulo 10,000; variants own
buckets in their order, one for each basis point. An assignment stays for 24 hours after it was made, even when the
split changes meanwhile: a ramp is therefore felt late, and by whom is not random (see ``CACHE_S``).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Literal, get_args

from routesim.policies.vocabulary import BASIS_POINTS, Payment

BUCKETS = BASIS_POINTS  # one for each
CACHE_S = 86_400.0

Unit = Literal["payment", "order", "customer"]
UNITS: tuple[Unit, ...] = get_args(Unit)


def bucket(unit_id: str, salt: str = "") -> int:
    """The bucket of an id, 0 to 9,999. A salt is put before it with a colon, so that experiments are independent."""
    text = f"{salt}:{unit_id}" if salt else unit_id
    return int.from_bytes(sha256(text.encode("utf-8")).digest(), "big") % BUCKETS


@dataclass(frozen=True)
class Stage:
    """From when on (s since 1970 UTC) which variants have how many basis points; those must sum to 10,000."""

    from_s: float
    split: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.split]
        if not names or len(set(names)) != len(names) or not all(names):
            raise ValueError("variants must have different names, and there must be one at least")
        if any(points < 0 for _, points in self.split) or sum(points for _, points in self.split) != BASIS_POINTS:
            told = ", ".join(f"{name}: {points}" for name, points in self.split)
            raise ValueError(f"basis points must not be negative and must sum to {BASIS_POINTS:,}, not {told}")


@dataclass(frozen=True)
class Experiment:
    """An experiment's name, its stages in order of time (a ramp, a canary, or just one), and whom it takes in.

    ``unit``: what is bucketed. ``merchants``: only these; None: all. ``until_s``: from then on nobody is in it.
    ``cache_s``: for how long an assignment is kept. Raises ValueError for no stage, stages out of order, an unknown
    unit, or a cache that lasts less than nothing.
    """

    name: str
    stages: tuple[Stage, ...]
    unit: Unit = "payment"
    salt: str = ""
    merchants: frozenset[str] | None = None
    until_s: float = math.inf
    cache_s: float = CACHE_S

    def __post_init__(self) -> None:
        starts = [stage.from_s for stage in self.stages]
        if not starts or any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError(f"experiment {self.name!r}: needs a stage, and stages in order of time")
        if self.unit not in UNITS:
            raise ValueError(f"experiment {self.name!r}: unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        if self.until_s <= starts[0]:
            raise ValueError(f"experiment {self.name!r} ends before its first stage begins")
        if not self.cache_s >= 0:
            raise ValueError(f"experiment {self.name!r}: assignments cannot be cached for {self.cache_s:g} s")


class Assignment:
    """The variants of one experiment as payments come by, in order of time; a fresh one for every replication.

    It remembers 24 hours of assignments at most, and none where the split never changes, as they would be the same.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._starts = [stage.from_s for stage in experiment.stages]
        self._bounds = [list(accumulate(points for _, points in stage.split)) for stage in experiment.stages]
        self._names = [[name for name, _ in stage.split] for stage in experiment.stages]
        self._made: dict[str, tuple[float, str]] = {}
        self._oldest: deque[tuple[float, str]] = deque()

    def variant(self, payment: Payment, now_s: float) -> str | None:
        """The payment's variant at ``now_s``; None: not in the experiment.

        Not in it is who comes before the first stage or after the end, belongs to a merchant out of scope, or lacks the
        id of the unit. A cached assignment is kept whatever the stage.
        """
        experiment = self.experiment
        if now_s < self._starts[0] or now_s >= experiment.until_s:
            return None
        if experiment.merchants is not None and payment.merchant_id not in experiment.merchants:
            return None
        unit = experiment.unit
        who = (payment.payment_id if unit == "payment" else payment.order_id if unit == "order"
               else payment.customer_id)
        if who is None:
            return None
        if len(self._starts) == 1:
            return self._fresh(who, 0)
        self._forget(now_s)
        made = self._made.get(who)
        if made is not None:
            return made[1]
        variant = self._fresh(who, bisect_right(self._starts, now_s) - 1)
        self._made[who] = (now_s, variant)
        self._oldest.append((now_s, who))
        return variant

    def stale(self, payment: Payment, now_s: float) -> bool:
        """Whether the payment's variant is one that the present split would not give it."""
        variant = self.variant(payment, now_s)
        if variant is None or len(self._starts) == 1:
            return False
        unit = self.experiment.unit
        who = {"payment": payment.payment_id, "order": payment.order_id, "customer": payment.customer_id}[unit]
        return who is not None and variant != self._fresh(who, bisect_right(self._starts, now_s) - 1)

    def _fresh(self, who: str, stage: int) -> str:
        return self._names[stage][bisect_right(self._bounds[stage], bucket(who, self.experiment.salt))]

    def _forget(self, now_s: float) -> None:
        """Drop what has been kept for as long as it may be: 24 hours, unless the experiment says otherwise."""
        oldest = self._oldest
        while oldest and oldest[0][0] <= now_s - self.experiment.cache_s:
            del self._made[oldest.popleft()[1]]


def stages(steps: Sequence[tuple[float, dict[str, int]]]) -> tuple[Stage, ...]:
    """Stages from (time in s since 1970 UTC, variant to basis points), as a ramp of 1, 10 and 50 % treatment."""
    return tuple(Stage(at, tuple(split.items())) for at, split in steps)
