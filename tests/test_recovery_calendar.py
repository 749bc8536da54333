"""Recovery by the local calendar: the clock by hand, the likelihood by differences, and histories with and without pay
days, whose truth is known."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from routesim.calibration.check.predictions import predict
from routesim.calibration.issuer.calendar import between_pay_days
from routesim.calibration.issuer.design import design
from routesim.calibration.issuer.fit import FittedIssuer, find_structure, fit_issuer
from routesim.calibration.issuer.likelihood import IssuerLikelihood
from routesim.calibration.sequences import Sequences
from routesim.policies.vocabulary import Answer
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import HourKind, Model, PayDay, World
from routesim.sim.predictor import ModelPredictor
from routesim.sim.recovery_clock import HOUR_KINDS, Exposure, RecoveryClock, countries, hour_kinds, known_pay_days
from tests.confounded import as_sequences
from tests.pay_days import DAY_S, PAY_DAY, Daily, pay_day_log, pay_day_trace, pay_day_world
from tests.worlds import START, simulate

MEXICO = ZoneInfo("America/Mexico_City")
DAYS: list[PayDay] = [15, "last"]


def local(*moment: int) -> float:
    return datetime(*moment, tzinfo=MEXICO).timestamp()  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(("moment", "kind"), [
    ((2026, 1, 15, 5, 30), "pay day, 0 to 6"),  # a Thursday
    ((2026, 1, 15, 11), "pay day, 6 to 12"),
    ((2026, 1, 31, 12), "pay day, 12 to 18"),  # a Saturday
    ((2026, 2, 28, 23), "pay day, 18 to 24"),
    ((2026, 1, 16, 9), "day after a pay day"),
    ((2026, 2, 13, 9), "Friday before a weekend's pay day"),  # the 15th is a Sunday
    ((2026, 1, 30, 9), "Friday before a weekend's pay day"),  # the 31st is a Saturday
    ((2026, 1, 24, 12), "weekend"),
    ((2026, 1, 21, 3), "weekday, 0 to 6"),
    ((2026, 1, 21, 20), "weekday, 18 to 24"),
])
def test_the_kind_of_an_hour(moment: tuple[int, ...], kind: str) -> None:
    assert HOUR_KINDS[int(hour_kinds(int(local(*moment) // 3600), 1, MEXICO, DAYS)[0])] == kind


def test_a_weekdays_daytime_is_the_usual_kind() -> None:
    assert hour_kinds(int(local(2026, 1, 21, 10) // 3600), 1, MEXICO, DAYS)[0] == -1


def test_the_clock_counts_hours_at_their_rates() -> None:
    clock = RecoveryClock(local(2026, 1, 5), MEXICO, DAYS, {"pay day, 0 to 6": np.log(10.0), "weekend": np.log(0.5)})
    assert clock.between(local(2026, 1, 14, 20), local(2026, 1, 15, 8)) == pytest.approx(4 + 6 * 10 + 2)
    assert clock.between(local(2026, 1, 15, 5, 30), local(2026, 1, 15, 6, 30)) == pytest.approx(5 + 0.5)
    assert clock.between(local(2026, 1, 9, 12), local(2026, 1, 12, 12)) == pytest.approx(12 + 24 + 12)
    assert clock.after(local(2026, 1, 14, 20), 4 + 30) == pytest.approx(local(2026, 1, 15, 3))
    for hours in (0.1, 17.0, 500.0, 3_000.0):
        begun = local(2026, 1, 7, 13, 40)
        assert clock.between(begun, clock.after(begun, hours)) == pytest.approx(hours)


def test_the_clock_reads_the_same_whatever_was_asked_before() -> None:
    asked = [RecoveryClock(START, MEXICO, DAYS, PAY_DAY) for _ in range(2)]
    asked[0].hours(START + 400 * DAY_S)
    early, late = (clock.hours(START + 40.3 * DAY_S) for clock in asked)
    assert early == late
    still = RecoveryClock(START, MEXICO, DAYS, dict.fromkeys((*HOUR_KINDS,), -40.0) | {"weekend": -40.0})
    assert still.after(START, 1e9) == float("inf")


def test_exposures_are_what_the_clock_is_made_of() -> None:
    effects: dict[HourKind, float] = {"pay day, 6 to 12": 1.3, "weekday, 0 to 6": -0.4, "day after a pay day": 0.7}
    clock = RecoveryClock(START, MEXICO, DAYS, effects)
    exposure = Exposure(START, START + 60 * DAY_S, MEXICO, DAYS)
    rates = np.exp([effects.get(kind, 0.0) for kind in HOUR_KINDS] + [0.0])
    moments = START + np.random.default_rng(3).uniform(0, 60 * DAY_S, 200)
    hours = (exposure.at(moments) - exposure.at(np.array([START]))) @ rates
    assert hours == pytest.approx([clock.between(START, float(m)) for m in moments], abs=1e-6)


def test_a_payments_country_is_the_cards_else_the_currencys() -> None:
    assert countries(["MX", "", "FR", ""], ["USD", "MXN", "EUR", "JPY"], known_pay_days()) == ["MX", "MX", "", ""]
    assert known_pay_days()["MX"].days == [15, "last"]


def test_scores_of_the_calendars_effects_are_the_derivatives() -> None:
    data = as_sequences(pay_day_log(1_500, 5, 28, PAY_DAY))
    fitted = fit_issuer(data, pay_day_world(None).codes)
    assert fitted.calendar is not None
    structure = find_structure(data, pay_day_world(None).codes)
    kinds = (0, 4, 6)
    approval = design(data.trace, data.payment, (), {})
    odds = design(data.trace, data.payment[data.start[:-1]], ())
    likelihood = IssuerLikelihood(data, type(structure)(**(vars(structure) | {"hour_kinds": kinds})), approval, odds,
                                  exposure=fitted.calendar.exposure)
    theta = np.random.default_rng(2).normal(0, 0.3, likelihood.layout.size)
    where = likelihood.layout.recovery[0]
    theta[likelihood.layout.technical] -= 3
    theta[where] += [4.0, 1.0, 2.0, 0.5, -0.3]
    exact = likelihood.evaluate(theta)[1].toarray()
    for i in range(where.start, where.stop):
        step = 1e-5 * (np.arange(len(theta)) == i)
        differences = (likelihood.evaluate(theta + step)[0] - likelihood.evaluate(theta - step)[0]) / 2e-5
        assert exact[:, i] == pytest.approx(differences, abs=2e-6)
        assert np.abs(exact[:, i]).max() > 1e-3


@pytest.fixture(scope="module")
def paid() -> tuple[Sequences, FittedIssuer]:
    data = as_sequences(pay_day_log(12_000, 1, 28, PAY_DAY))
    return data, fit_issuer(data, pay_day_world(PAY_DAY).codes)


def known_world(fitted: FittedIssuer, truth: Model) -> Model:
    processors = {name: processor.model_copy(update={"technical": fitted.technical[name]})
                  for name, processor in truth.processors.items()}
    return truth.model_copy(update={"issuer": fitted.issuer, "processors": processors})


def test_pay_days_are_found_and_their_effect_is_recovered(paid: tuple[Sequences, FittedIssuer]) -> None:
    _, fitted = paid
    calendar = fitted.issuer.blocks["state 51"].calendar
    assert calendar is not None
    assert fitted.calendar is not None
    assert fitted.calendar.pay_days == 2  # the 15th and the 31st of January
    where = "/issuer/blocks/state 51/calendar/effects/pay day, 0 to 6"
    place = fitted.uncertainty.pointers.index(where)
    error = float(np.linalg.norm(fitted.uncertainty.factor[place]))
    assert abs(calendar.effects["pay day, 0 to 6"] - PAY_DAY["pay day, 0 to 6"]) < 3 * error
    assert error > float(np.sqrt(between_pay_days((0,), 2)[0, 0]))  # two pay days do not speak for all


def test_one_step_ahead_the_calendars_probabilities_multiply_to_the_likelihood(
        paid: tuple[Sequences, FittedIssuer]) -> None:
    data, fitted = paid
    probability = predict(World(known_world(fitted, pay_day_world(PAY_DAY))), data)
    assert np.allclose(probability.sum(axis=1), 1.0)
    found = float(np.log(probability[np.arange(len(data.code)), data.code]).sum())
    assert abs(found - fitted.log_likelihood) < 0.05


def test_the_routers_predictor_waits_for_the_pay_day() -> None:
    world, trace = World(pay_day_world(PAY_DAY)), pay_day_trace(200, 3, 1.0, start_day=7)  # Monday the 12th
    predictor = ModelPredictor(IssuerDecisions(world, trace), trace)
    payment = trace.payments(0)[0]
    begun = payment.arrived_at
    declined = [Answer(1, "A", begun, begun + 1, "declined", "51", "soft")]
    one, two, paid, after = (predictor.probability(payment, declined, "B", begun + day * DAY_S)
                             for day in (1, 2, 3.5, 4.5))
    assert paid - two > 5 * (two - one) > 0
    assert after - paid < 0.2 * (paid - two)


def test_without_pay_days_the_memoryless_law_stands() -> None:
    fitted = fit_issuer(as_sequences(pay_day_log(12_000, 2, 28)), pay_day_world(None).codes)
    assert fitted.calendar is not None
    assert not fitted.calendar.hour_kinds
    assert fitted.issuer.blocks["state 51"].calendar is None


def lift_pp(model: Model, attempts: int, seeds: range) -> tuple[float, float]:
    """What ``attempts`` attempts a day apart bring over one, pp, over a week that holds a pay day; and its standard
    error."""
    lifts = []
    for seed in seeds:
        trace = pay_day_trace(4_000, 100 + seed, 7.0, start_day=35)
        rates = [sum(o == "approved" for o in simulate(trace, model, Daily(n, 1.0), seed=seed).log.attempts["outcome"]
                     .to_pylist()) / len(trace) for n in (1, attempts)]
        lifts.append(100 * (rates[1] - rates[0]))
    return float(np.mean(lifts)), float(np.std(lifts, ddof=1) / np.sqrt(len(lifts)))


@pytest.mark.slow
@pytest.mark.parametrize("weeks", [2, 4, 8])
@pytest.mark.parametrize("effects", [None, PAY_DAY], ids=["memoryless", "pay days"])
def test_what_a_chain_of_days_brings_is_predicted(effects: dict[HourKind, float] | None, weeks: int) -> None:
    """A chain of five daily attempts over a week with a pay day (the 15th of February), predicted from histories of
    other weeks: within .35 pp and twice the error of a memoryless law at least where there are pay days."""
    truth = pay_day_world(effects)
    log = pay_day_log(weeks * 7 * 700, weeks, 7.0 * weeks, effects)
    fitted = known_world(fit_issuer(as_sequences(log), truth.codes), truth)
    brought, error = lift_pp(truth, 5, range(6))
    predicted, _ = lift_pp(fitted, 5, range(6))
    assert abs(predicted - brought) < 0.35 + 3 * error
    if effects:
        memoryless = fitted.model_copy(deep=True)
        memoryless.issuer.blocks["state 51"].calendar = None
        assert abs(lift_pp(memoryless, 5, range(6))[0] - brought) > 2 * abs(predicted - brought)
