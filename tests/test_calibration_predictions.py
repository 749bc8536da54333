"""One step ahead: the filter agrees with the likelihood that the fit maximises, and with frequencies."""

from __future__ import annotations

import numpy as np

from routesim.calibration.check.predictions import predict
from routesim.calibration.issuer.fit import fit_issuer
from routesim.calibration.sequences import sequences
from routesim.sim.log import AttemptLog
from routesim.sim.model import Model, Processor, World
from routesim.sim.trace import Trace
from tests.worlds import InOrder, model_of, poisson_arrivals, simulate, trace_of


def world_and_log() -> tuple[Model, AttemptLog]:
    model = model_of({"A": {"technical": {"96": 0.03, "TO": 0.02}}, "B": {"technical": {"96": 0.01}}},
                     frailty_sd=1.2, repeat=-0.4, approval={"intercept": 1.2, "terms": [
                         {"by": ["processor"], "effects": {"A": 0.0, "B": -0.4}}]},
                     blocks={"funds": {"codes": {"51": 1.0}, "odds": {"intercept": -2.0}, "recovers_share": 0.8,
                                       "recovers_h": {"family": "exponential", "mean": 24.0}},
                             "dead": {"codes": {"14": 1.0}, "odds": {"intercept": -3.0}}})
    trace = trace_of(poisson_arrivals(0.02, 6_000, seed=2), initiator=["CIT", "MIT"] * 3_000)
    return model, simulate(trace, model, InOrder(("A", "B", "B"), attempts=3, delay_s=12 * 3600.0)).log


def informative(log: AttemptLog) -> np.ndarray:
    return np.array([o != "timeout" for o in log.attempts["outcome"].to_pylist()])


def test_what_is_predicted_multiplies_to_the_likelihood() -> None:
    model, log = world_and_log()
    data = sequences(log, Trace(log.payments), informative(log))
    fitted = fit_issuer(data, model.codes)
    processors = {name: Processor(latency=model.processors[name].latency, technical=fitted.technical[name])
                  for name in "AB"}
    known = Model(processors=processors, issuer=fitted.issuer, codes=model.codes)
    probability = predict(World(known), data)
    assert np.allclose(probability.sum(axis=1), 1.0)
    found = float(np.log(probability[np.arange(len(data.code)), data.code]).sum())
    assert abs(found - fitted.log_likelihood) < 0.01
    assert (data.lengths > 2).sum() > 200  # longer sequences take part


def test_the_true_world_predicts_its_own_attempts() -> None:
    """Observed less predicted is a martingale difference: over any cell its mean is within 3.5 standard errors of 0."""
    model, log = world_and_log()
    data = sequences(log, Trace(log.payments), informative(log))
    probability = predict(World(model), data)
    place = np.arange(len(data.code)) - np.repeat(data.start[:-1], data.lengths)
    before = np.where(place > 0, data.code[np.arange(len(data.code)) - 1], -1)
    cells = [place == 0, *(before == c for c in range(1, len(data.codes) + 1)), place == 2]
    seen = 0
    for cell in cells:
        if cell.sum() < 100:
            continue
        for outcome in range(probability.shape[1]):
            p = probability[cell, outcome]
            spread = np.sqrt((p * (1 - p)).sum())
            surprise = ((data.code[cell] == outcome) - p).sum()
            assert abs(surprise) < 3.5 * spread + 1e-6
            seen += spread > 3
    assert seen > 12
    # A world of independent attempts predicts retries wrongly, and is seen to.
    unrelated = model.model_copy(deep=True)
    unrelated.issuer.frailty_sd = 0.0
    unrelated.issuer.blocks = {}
    wrong = predict(World(unrelated), data)[place > 0, 0]
    assert abs(((data.code[place > 0] == 0) - wrong).sum()) > 8 * np.sqrt((wrong * (1 - wrong)).sum())
