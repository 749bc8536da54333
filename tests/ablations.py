"""What each part of the calibration is worth, on the world with a known truth: `python -m tests.ablations FOLDER`.

Each line takes one part away, calibrates anew, and predicts: log-likelihood per attempt one step ahead on the week that
was held out, and the errors of lifts (pp) against the truth. `python -m tests.ablations thin` calibrates on the last
few days of the history alone, with and without pooling, for pooling is worth most where data is thin.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np

from routesim.calibration.calibrate import Calibration, calibrate
from routesim.calibration.check.predictions import predict
from routesim.calibration.history.read import History, read_history
from routesim.calibration.issuer import fit as issuer
from routesim.calibration.issuer.design import WEAK_SD, TermSpec
from routesim.calibration.outages.find import find_outages
from routesim.calibration.sequences import issuer_spoke, sequences
from routesim.sim.model import CalibratedModel
from routesim.sim.trace import Trace
from routesim.sim.uncertainty import Uncertainty
from tests.conftest import SHARED
from tests.test_open_world import holds, predicted_and_true

END = datetime(2026, 2, 2, tzinfo=UTC)  # of the history
POLICIES = ("legacy", "no_retry", "three_attempts", "funds_24h", "breaker_noretry", "mxn_elavon_noretry",
            "mxn_mit_noretry", "mxn_worldpay_noretry", "usd_elavon_noretry")


@contextmanager
def nothing() -> Iterator[None]:
    yield


@contextmanager
def no_pooling() -> Iterator[None]:
    """Every effect stands for itself."""
    with patch.object(issuer, "APPROVAL_TERMS", tuple(replace(t, sd=10.0) for t in issuer.APPROVAL_TERMS)), \
            patch.object(issuer, "BLOCK_TERMS", tuple(replace(t, sd=10.0) for t in issuer.BLOCK_TERMS)):
        yield


@contextmanager
def no_confounders() -> Iterator[None]:
    """A processor's approval is one number, whoever was sent there."""
    with patch.object(issuer, "APPROVAL_TERMS", (TermSpec(("processor",), sd=WEAK_SD),)), \
            patch.object(issuer, "BLOCK_TERMS", ()):
        yield


@contextmanager
def no_frailty() -> Iterator[None]:
    """Attempts on a payment share its blocks, and no frailty."""
    with patch.object(issuer, "_PRIOR_LOG_SIGMA", (np.log(0.01), 0.001)):
        yield


@contextmanager
def no_states() -> Iterator[None]:
    """No code is a state of the card: all declines are judgements."""
    with patch.object(issuer, "PERSISTENT", -1.0):
        yield


def without_uncertainty(made: Calibration) -> Calibration:
    return replace(made, model=CalibratedModel(made.model.model, Uncertainty.none()))


def without_outages(made: Calibration) -> Calibration:
    for processor in made.model.model.processors.values():
        processor.outages = None
    kept = tuple(b for b in made.model.uncertainty.blocks if not b.name.startswith("outage"))
    return replace(made, model=CalibratedModel(made.model.model, Uncertainty(kept)))


def same(made: Calibration) -> Calibration:
    return made


ABLATIONS: dict[str, tuple[Callable[[], object], Callable[[Calibration], Calibration]]] = {
    "nothing": (nothing, same),
    "pooling": (no_pooling, same),
    "confounder adjustment": (no_confounders, same),
    "frailty": (no_frailty, same),
    "states of the card": (no_states, same),
    "calibration uncertainty": (nothing, without_uncertainty),
    "outages": (nothing, without_outages),
}


def held_out(made: Calibration, history: History) -> float:
    """Log-likelihood per attempt of a history, one step ahead."""
    log = history.log
    trace = Trace(log.payments, made.model.model.timezone)
    data = sequences(log, trace, issuer_spoke(log, find_outages(log).inside))
    probability = predict(made.model.point(), data)
    return float(np.log(np.maximum(probability[np.arange(len(data.code)), data.code], 1e-9)).mean())


def main(folder: Path, worlds: int = 8) -> None:
    world = SHARED / "worlds" / "open"
    history, after = read_history(world / "history"), read_history(world / "holdout")
    print("| without | log-likelihood an attempt | mean error of lifts, pp | largest | half-width, pp | truth held |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, (context, change) in ABLATIONS.items():
        with context():  # type: ignore[attr-defined]
            made = change(calibrate(history, "America/Mexico_City"))
        target = folder / name.replace(" ", "_")
        made.save(target / "model")
        table = predicted_and_true(target, worlds, target / "model", POLICIES)
        rows = [row for policy, row in table.items() if policy not in ("legacy",)]
        errors = [abs(row["lift"] - row["true lift"]) for row in rows]
        held = sum(holds(row) for row in rows)
        width = np.mean([(row["high"] - row["low"]) / 2 for row in rows])
        print(f"| {name} | {held_out(made, after):.4f} | {np.mean(errors):.3f} | {max(errors):.2f} | {width:.2f} "
              f"| {held} of {len(rows)} |", flush=True)


def thin() -> None:
    world = SHARED / "worlds" / "open"
    after = read_history(world / "holdout")
    print("| days of history | pooled | not pooled |")
    print("|---|---|---|", flush=True)
    for days in (2, 4, 7, 28):
        history = read_history(world / "history", None, END - timedelta(days=days), None)
        found = [held_out(calibrate(history, "America/Mexico_City"), after)]
        with no_pooling():
            found.append(held_out(calibrate(history, "America/Mexico_City"), after))
        print(f"| {days} | {found[0]:.4f} | {found[1]:.4f} |", flush=True)


if __name__ == "__main__" and sys.argv[1] == "thin":
    thin()
elif __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8)
