"""History → model: every part fitted, put together with how well it is known, and told where it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from routesim.calibration.comebacks import fit_comebacks
from routesim.calibration.history.quarantine import Quarantine
from routesim.calibration.history.read import History
from routesim.calibration.issuer.fit import FittedIssuer, fit_issuer
from routesim.calibration.latency import FittedLatency, fit_latency
from routesim.calibration.logged import first_choice_agreement, fit_logged
from routesim.calibration.outages.find import Found, find_outages
from routesim.calibration.outages.process import FittedOutages, fit_outages
from routesim.calibration.sequences import issuer_spoke, sequences
from routesim.reports.metrics.support import Support
from routesim.sim.arrays import Bools
from routesim.sim.errors import BadInput
from routesim.sim.files import write_table
from routesim.sim.folders import Claim, publishing
from routesim.sim.log import AttemptLog
from routesim.sim.model import CalibratedModel, Code, FeeDocument, Model, Processor
from routesim.sim.model_folder import MODEL, ModelFolder
from routesim.sim.outages import outage_table
from routesim.sim.trace import Trace, seconds
from routesim.sim.uncertainty import Block, Scale, Uncertainty, pointer

NO_FEES = "the profile tells no fees, so costs are zero; give them under `world: processors:`"
PACKAGES = ("routesim", "numpy", "scipy", "pandas", "pyarrow", "duckdb", "sqlglot", "simpy")


@dataclass(frozen=True)
class Calibration:
    """A model, the cells that history supports, and the outages that it shows.

    >>> model = rs.calibrate("extracts/january")
    >>> model.processors
    ('Amex', 'Elavon', 'MIT', 'Worldpay')
    >>> model.outages.column_names[:4]  # those found in the history
    ['processor', 'kind', 'start', 'end']
    """

    model: CalibratedModel
    support: Support
    outages: pa.Table

    def save(self, folder: str | Path | Claim, quarantine: Quarantine | None = None) -> None:
        """Write the model folder, with the rows that were set aside: an earlier one is replaced as a whole.

        Raises BadInput where it cannot be written, or another process writes it.
        """
        with publishing(Path(folder) if isinstance(folder, str) else folder, MODEL) as made:
            files = ModelFolder(made)
            write_table(files.support, self.support.to_table())
            write_table(files.outages, self.outages)
            if quarantine is not None:
                quarantine.write(files.quarantine)
            self.model.write(made)

    @property
    def processors(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.model.model.processors)

    def __repr__(self) -> str:
        return (f"Calibration({self.model.model.name}: processors {', '.join(self.processors)}; "
                f"{self.outages.num_rows} outages found)")


def calibrate(history: History, timezone: str = "UTC", name: str = "model",
              progress: Callable[[str], None] = lambda _: None) -> Calibration:
    """Fit a model to a history. ``timezone`` governs the hours of the day.

    Raises BadInput where history has no payment that was answered.
    """
    log = history.log
    if not log.attempts.num_rows:
        raise BadInput("history holds no attempt, so there is nothing to calibrate on")
    trace = Trace(log.payments, timezone)
    outcome = np.array(log.attempts["outcome"].to_pylist(), dtype=str)
    codes = {code: Code(outcome=meaning.outcome, kind=meaning.kind) for code, meaning in history.codes.items()}
    timeout_code = _timeout_code(log, outcome, codes)
    progress("outages in history")
    skips = history.health_skips
    found = find_outages(log, skips)
    outages = fit_outages(found, attempt_windows(log))
    progress("latency")
    latency = fit_latency(log, found.inside)
    issuer = fit_issuer(sequences(log, trace, issuer_spoke(log, found.inside)), codes, progress)
    progress("customers who come back, and the merchant's own router")
    comebacks = fit_comebacks(log, trace)
    ends_at = float(seconds(log.attempts["answered_at"]).max())
    logged = fit_logged(log, ends_at)
    timeouts, timeout_block = _technical_timeouts(log, outcome, found.inside, timeout_code)
    processors = _processors(history, log, latency, outages, issuer, timeouts, timeout_code)
    model = Model(name=name, timezone=timezone, processors=processors, issuer=issuer.issuer, codes=codes,
                  timeout_code=timeout_code, joint_outages=list(outages.joint), comebacks=comebacks.comebacks,
                  logged=logged.model_dump(mode="json"),
                  provenance=_provenance(history, found, outages, sum(map(len, skips.values())), issuer,
                                         first_choice_agreement(log)))
    blocks = (issuer.uncertainty, *latency.uncertainty, *outages.uncertainty, *comebacks.uncertainty, *timeout_block)
    return Calibration(CalibratedModel(model, Uncertainty(blocks)), Support.from_log(log),
                       outage_table(found.outages))


def attempt_windows(log: AttemptLog) -> dict[str, tuple[float, float]]:
    """First and last attempt of each processor, seconds."""
    processor = np.array(log.attempts["processor"].to_pylist(), dtype=str)
    sent = seconds(log.attempts["sent_at"])
    return {str(name): (float(sent[processor == name].min()), float(sent[processor == name].max()))
            for name in np.unique(processor)}


def _timeout_code(log: AttemptLog, outcome: npt.NDArray[np.str_], codes: dict[str, Code]) -> str:
    """The code under which history logs a timeout: the commonest, or the first by name where it shows none."""
    seen = pc.drop_null(log.attempts["decline_code"].filter(pa.array(outcome == "timeout"))).to_pylist()
    if seen:
        return min(set(seen), key=lambda code: (-seen.count(code), code))
    return min((name for name, code in codes.items() if code.outcome == "timeout"), default="TO")


def _technical_timeouts(log: AttemptLog, outcome: npt.NDArray[np.str_], inside: Bools,
                        code: str) -> tuple[dict[str, float], tuple[Block, ...]]:
    """Rate of timeouts outside outages by processor: a gamma posterior with half an event of prior."""
    processor = np.array(log.attempts["processor"].to_pylist(), dtype=str)
    rates, pointers, errors = {}, [], []
    for name in np.unique(processor):
        mine = (processor == name) & ~inside & (outcome != "refused")
        if not (outcome == "timeout").any():
            continue
        lost = float((mine & (outcome == "timeout")).sum()) + 0.5
        rates[str(name)] = lost / (float(mine.sum()) + 1)
        pointers.append(pointer("processors", str(name), "technical", code))
        errors.append(1 / np.sqrt(lost))
    if not rates:
        return {}, ()
    scales: list[Scale] = ["log"] * len(pointers)
    return rates, (Block.of("timeouts", pointers, scales, list(rates.values()), np.diag(np.array(errors) ** 2)),)


def _processors(history: History, log: AttemptLog, latency: FittedLatency, outages: FittedOutages,
                issuer: FittedIssuer, timeouts: dict[str, float], timeout_code: str) -> dict[str, Processor]:
    """Published terms come from the profile; what it leaves open is what history shows the processor took."""
    taken = {name: log.payments[name].take(pa.array(log.payment_row)) for name in ("currency", "card_brand")}
    rows = pa.table({"processor": log.attempts["processor"], **taken}).group_by(
        ["processor", "currency", "card_brand"]).aggregate([]).to_pylist()
    processors = {}
    for name in sorted(latency.latency):
        terms: dict[str, Any] = history.terms.get(name, {})
        mine = [row for row in rows if row["processor"] == name]
        technical = dict(issuer.technical.get(name, {}))
        if name in timeouts:
            technical[timeout_code] = timeouts[name]
        processors[name] = Processor(
            currencies=terms.get("currencies") or sorted({row["currency"] for row in mine}),
            card_brands=terms.get("card_brands") or sorted({row["card_brand"] for row in mine} - {None}) or None,
            fee=FeeDocument(**(terms.get("fee") or {})),
            capacity=terms.get("capacity"),
            timeout_s=terms.get("timeout_s") or latency.timeout_s.get(name, 30.0),
            latency=latency.latency[name],
            technical=technical,
            outages=outages.processes.get(name),
        )
    return processors


def _provenance(history: History, found: Found, outages: FittedOutages, skips: int, issuer: FittedIssuer,
                agreement: float) -> dict[str, Any]:
    fees = [name for name, terms in history.terms.items() if terms.get("fee")]
    warnings = list(history.quarantine.warnings)
    if not fees:
        warnings.append(NO_FEES)
    return history.provenance | {
        "calibrated_by": {package: version(package) for package in PACKAGES},
        "outages_found": len(found.outages),
        "joint_outages_found": {"+".join(joint.processors): count
                                for joint, count in zip(outages.joint, outages.joint_found, strict=True)},
        "skips_for_health": skips,
        "issuer_log_likelihood": round(issuer.log_likelihood, 3),
        "issuer_sequences": issuer.sequences,
        "first_choice_agreement": None if np.isnan(agreement) else round(agreement, 4),
        "warnings": warnings,
    }

