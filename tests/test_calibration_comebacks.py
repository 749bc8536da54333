"""Customers who come back: rates by code, delays and cards recovered from a simulated history."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from routesim.calibration.comebacks import FittedComebacks, fit_comebacks
from routesim.sim.distributions import Lognormal
from routesim.sim.log import AttemptLog
from routesim.sim.model import Comebacks
from routesim.sim.trace import Trace
from tests.worlds import InOrder, model_of, poisson_arrivals, simulate, standard_errors, trace_of

RATES = {"": 0.2, "51": 0.45, "05": 0.3}
DELAY, SAME = Lognormal(median=4.0, sigma=0.9), 0.7
N = 12_000


def history(comebacks: Comebacks | None) -> AttemptLog:
    model = model_of(["A", "B"], approval={"intercept": 0.0}, judgement_codes={"": {"05": 0.5, "51": 0.3, "14": 0.2}})
    model.comebacks = comebacks
    trace = trace_of(poisson_arrivals(0.05, N, seed=2), card_token=[f"t{i}" for i in range(N)],
                     initiator=["MIT" if i % 4 == 0 else "CIT" for i in range(N)])
    return simulate(trace, model, InOrder(("A", "B"), attempts=2), seed=3).log


@pytest.fixture(scope="module")
def log() -> AttemptLog:
    return history(Comebacks(probability=RATES, delay_min=DELAY, same_card_share=SAME, initiators=["CIT"]))


@pytest.fixture(scope="module")
def fitted(log: AttemptLog) -> FittedComebacks:
    return fit_comebacks(log, Trace(log.payments))


def test_who_comes_back_how_soon_and_with_which_card(log: AttemptLog, fitted: FittedComebacks) -> None:
    found = fitted.comebacks
    assert found is not None
    assert found.initiators == ["CIT"]  # no subscription came back
    numbers = {p: (e, s) for block in fitted.uncertainty
               for p, e, s in zip(block.pointers, block.estimates, standard_errors(block), strict=True)}
    rates = RATES | {"14": RATES[""]}  # a code that the truth does not name has the common rate
    for code in ("05", "51", "14"):
        estimate, se = numbers[f"/comebacks/probability/{code}"]
        assert se < 0.15
        # the common rate, towards which it leans as by 20 payments, is within a logit of 1 of each
        assert abs(estimate - special.logit(rates[code])) < 3.5 * se, code
        assert special.expit(estimate) == pytest.approx(found.probability[code])
    assert found.probability["51"] - found.probability["14"] > 0.15  # one rate for all would be seen
    estimate, se = numbers["/comebacks/same_card_share"]
    assert abs(estimate - special.logit(SAME)) < 3.5 * se
    assert found.delay_min.family == "lognormal"
    for name, true in (("median", DELAY.median), ("sigma", DELAY.sigma)):
        estimate, se = numbers[f"/comebacks/delay_min/{name}"]
        assert abs(estimate - np.log(true)) < 3.5 * se


def test_the_common_rate_is_that_of_all_failures(log: AttemptLog, fitted: FittedComebacks) -> None:
    payments, attempts = log.payments.to_pandas(), log.attempts.to_pandas()
    approved = set(attempts.loc[attempts["outcome"] == "approved", "payment_id"])
    first = payments[payments["previous_payment_id"].isna() & (payments["initiator"] == "CIT")]
    failed = first[~first["payment_id"].isin(approved)]
    share = failed["payment_id"].isin(set(payments["previous_payment_id"].dropna())).mean()
    assert fitted.comebacks is not None
    assert fitted.comebacks.probability[""] == pytest.approx(share)


def test_a_history_without_comebacks_has_no_model_of_them() -> None:
    log = history(None)
    assert fit_comebacks(log, Trace(log.payments)) == FittedComebacks(None, ())
