"""Names for the arrays that everything here computes with: NumPy arrays of one type, of any shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]
"""Identities that draws are keyed by; see ``sim.draws``."""
