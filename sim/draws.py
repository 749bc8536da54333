"""Random numbers keyed by name, never by order of calls.

Every draw is a function of (seed, world, luck, payment, purpose): two policies that ask for the same draw meet the
same luck, and adding a processor, a policy or a probe moves no other draw. A draw is a 64-bit hash of its names:
BLAKE2b turns names into keys, the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) mixes a payment's
key with a purpose's, vectorised over payments.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from routesim.sim.arrays import Floats, Keys

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_HALF_STEP = 0.5 / (1 << 52)  # keeps draws off 0 and 1, whose quantiles are infinite


@lru_cache(maxsize=65_536)
def key(*names: str | int) -> int:
    """The 64-bit key of a sequence of names."""
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def identities(names: Iterable[str]) -> Keys:
    """The keys of many names at once, shape (n,)."""
    return np.array([int.from_bytes(blake2b(n.encode(), digest_size=8).digest(), "big") for n in names],
                    dtype=np.uint64)


def identity(name: str) -> int:
    """The key of one name, as in ``identities``."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


def uniforms(who: Keys, purpose: int) -> Floats:
    """Numbers in (0, 1), one per identity, keyed by ``purpose``."""
    z = who + np.uint64(purpose)
    for _ in range(2):  # twice: identities and purposes enter by addition, so one round would leave them related
        z = z + np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX_2)
        z = z ^ (z >> np.uint64(31))
        z = z ^ np.uint64(purpose)
    z = z ^ np.uint64(purpose)
    return (z >> np.uint64(12)).astype(np.float64) / float(1 << 52) + _HALF_STEP


def uniform(who: int, purpose: int) -> float:
    """One number: the same as ``uniforms`` gives for that identity."""
    z = (who + purpose) & _MASK
    for _ in range(2):
        z = (z + _GAMMA) & _MASK
        z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
        z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
        z = (z ^ (z >> 31)) ^ purpose
    z ^= purpose
    return (z >> 12) / float(1 << 52) + _HALF_STEP


class Luck:
    """The draws of one replication: a world and a draw of luck in it."""

    def __init__(self, seed: int, world: int = 0, luck: int = 0) -> None:
        self.seed, self.world, self.luck = seed, world, luck

    def purpose(self, *names: str | int) -> int:
        """The key of a purpose in this replication."""
        return key("luck", self.seed, self.world, self.luck, *names)

    def generator(self, *names: str | int) -> np.random.Generator:
        """A generator for a sequence of draws that belongs to one named thing, as a processor's outages."""
        return generator("luck", self.seed, self.world, self.luck, *names)


def generator(*names: str | int) -> np.random.Generator:
    """A Philox generator keyed by names."""
    return np.random.Generator(np.random.Philox(key=[key(*names), key("second half", *names)]))
