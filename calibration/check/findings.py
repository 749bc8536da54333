"""Surprises and verdicts: when a whole family of figures is examined, the chance of any false alarm is held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.multitest import multipletests

FALSE_ALARM = 0.01  # chance that a right model fails


@dataclass(frozen=True)
class Surprise:
    """One figure: what history has, what the model predicts (its mean, and the sd of what would be seen), p-value."""

    figure: str
    observed: float
    expected: float
    sd: float
    p_value: float


@dataclass(frozen=True)
class Finding(Surprise):
    """A surprise with its verdict, and what in the model to look at when it fails."""

    passed: bool = True
    look_at: str = ""


_HINTS = (
    ("approval of first attempts", "the processor's terms of the approval predictor, or drift since the calibration"),
    ("approval of retries", "the state that a payment's attempts share: frailty, the code's persistence and recovery"),
    ("share of code", "the processor's terms of the approval predictor, for a judgement's code moves with it; else the "
     "states' odds and codes, the judgement's codes, technical rates"),
    ("latency", "the processor's latency distribution"),
    ("timeouts", "the processor's technical timeout rate"),
    ("outages", "the outage process: gaps, durations, kinds"),
    ("replay: attempts", "the logged router's retries"),
    ("replay: payments per order", "the comebacks"),
    ("replay: wait", "latency, and the logged router's retry delays"),
    ("replay", "the whole: where the steps pass and this fails, the logged router"),
)


def judge(surprises: Iterable[Surprise]) -> list[Finding]:
    """Verdicts by Holm's procedure (1979) at FALSE_ALARM over the family, the least likely first."""
    rows = sorted((s for s in surprises if np.isfinite([s.observed, s.expected, s.p_value]).all()),
                  key=lambda s: (s.p_value, s.figure))
    failing = multipletests([s.p_value for s in rows], FALSE_ALARM, "holm")[0] if rows else ()
    return [Finding(s.figure, s.observed, s.expected, s.sd, s.p_value, not bool(failed), _look_at(s.figure))
            for s, failed in zip(rows, failing, strict=True)]


def _look_at(figure: str) -> str:
    return next((hint for start, hint in _HINTS if figure.startswith(start)), "the model as a whole")
