"""How well each number of a model is known: a joint normal distribution on transformed scales, block by block.

A number is named by its JSON pointer in model.json, and is normal on its own scale: ``identity``, ``log`` (positive)
or ``logit`` (a share). Blocks are independent of each other; within one the covariance is kept by its lower
Cholesky factor, so that correlations (a processor's level and its banks') survive into every drawn world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy import special

from routesim.sim.arrays import Floats
from routesim.sim.draws import generator
from routesim.sim.files import read_table, write_table

Scale = Literal["identity", "log", "logit"]

_FORWARD = {"identity": lambda x: x, "log": np.log, "logit": special.logit}
# Bounded, so that a draw from far out in a wide normal is still a positive number, or a share between 0 and 1.
_BACK = {"identity": lambda x: x, "log": lambda x: np.exp(np.clip(x, -60, 60)),
         "logit": lambda x: special.expit(np.clip(x, -30, 30))}


@dataclass(frozen=True)
class Block:
    """``estimates`` (n,) on their scales, ``factor`` (n, n) lower triangular with covariance factor @ factor.T."""

    name: str
    pointers: tuple[str, ...]
    scales: tuple[Scale, ...]
    estimates: Floats
    factor: Floats

    @classmethod
    def of(cls, name: str, pointers: Sequence[str], scales: Sequence[Scale], values: Sequence[float],
           covariance: Floats) -> Block:
        """From values on their natural scale and the covariance (n, n) on the transformed ones."""
        estimates = np.array([_FORWARD[s](v) for s, v in zip(scales, values, strict=True)], dtype=np.float64)
        return cls(name, tuple(pointers), tuple(scales), estimates, _cholesky(np.atleast_2d(covariance)))

    def draw(self, seed: int, world: int) -> dict[str, float]:
        """One draw: pointer to value."""
        z = generator("world", seed, world, self.name).standard_normal(len(self.pointers))
        drawn = self.estimates + self.factor @ z
        return {p: float(_BACK[s](x)) for p, s, x in zip(self.pointers, self.scales, drawn, strict=True)}


@dataclass(frozen=True)
class Uncertainty:
    """The blocks of a model."""

    blocks: tuple[Block, ...]

    @classmethod
    def none(cls) -> Uncertainty:
        """A model that is known exactly, as one written by hand."""
        return cls(())

    def draw(self, seed: int, world: int) -> dict[str, float]:
        """JSON pointer to value, for all numbers that are uncertain."""
        return {p: v for block in self.blocks for p, v in block.draw(seed, world).items()}

    def save(self, path: Path) -> None:
        """One row a number: block, pointer, scale, estimate, and its row of the factor."""
        rows: dict[str, list[object]] = {"block": [], "pointer": [], "scale": [], "estimate": [], "factor": []}
        for block in self.blocks:
            for i, pointer in enumerate(block.pointers):
                rows["block"].append(block.name)
                rows["pointer"].append(pointer)
                rows["scale"].append(block.scales[i])
                rows["estimate"].append(float(block.estimates[i]))
                rows["factor"].append(block.factor[i, : i + 1].tolist())
        schema = pa.schema([("block", pa.string()), ("pointer", pa.string()), ("scale", pa.string()),
                            ("estimate", pa.float64()), ("factor", pa.list_(pa.float64()))])
        write_table(path, pa.table(rows, schema=schema))

    @classmethod
    def load(cls, path: Path) -> Uncertainty:
        """Read what ``save`` wrote; a missing file means a model that is known exactly."""
        if not path.exists():
            return cls.none()
        table = read_table(path).to_pylist()
        blocks = []
        for name in dict.fromkeys(row["block"] for row in table):
            rows = [row for row in table if row["block"] == name]
            factor = np.zeros((len(rows), len(rows)))
            for i, row in enumerate(rows):
                factor[i, : i + 1] = row["factor"]
            blocks.append(Block(name, tuple(r["pointer"] for r in rows), tuple(r["scale"] for r in rows),
                                np.array([r["estimate"] for r in rows]), factor))
        return cls(tuple(blocks))


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) from its parts."""
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def _cholesky(covariance: Floats) -> Floats:
    """Lower factor; a matrix that rounding left a hair short of positive definite is mended by its eigenvalues."""
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        return np.asarray(np.linalg.qr(root.T)[1].T, dtype=np.float64)
