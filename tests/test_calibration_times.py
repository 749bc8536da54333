"""Times fitted: the truth within its standard errors, with censoring, and the family that made them."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from routesim.calibration.latency import fit_latency
from routesim.calibration.outages.process import DURATIONS, GAPS, fit_durations
from routesim.calibration.times import FAMILIES, build, fit_time, inverse_hessian
from routesim.sim import distributions as d
from tests.logs import attempt, log, payment

N = 3000
TRUTHS = {
    "exponential": d.Exponential(mean=7.0), "lognormal": d.Lognormal(median=74.0, sigma=1.1),
    "weibull": d.Weibull(scale=90.0, shape=0.7), "gamma": d.Gamma(scale=200.0, shape=3.0),
    "loglogistic": d.Loglogistic(median=500.0, shape=3.0),
    "lognormal_mixture": d.LognormalMixture(median=640.0, sigma=0.3, tail_share=0.1, tail_median=3000.0,
                                            tail_sigma=0.6),
}


def sample(truth: d.Distribution, n: int, seed: int) -> np.ndarray:
    return truth.ppf(np.random.default_rng(seed).uniform(size=n))


def on_scales(truth: d.Distribution) -> np.ndarray:
    family = FAMILIES[truth.family]
    values = np.array([getattr(truth, name) for name in family.names])
    return np.array([np.log(v / (1 - v)) if s == "logit" else np.log(v)
                     for v, s in zip(values, family.scales, strict=True)])


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_parameters_are_recovered_within_their_standard_errors(name: str) -> None:
    truth = TRUTHS[name]
    fit = fit_time(sample(truth, N, 1), families=[name])
    se = np.sqrt(np.diag(fit.covariance))
    assert (np.abs(fit.estimates - on_scales(truth)) < 3.5 * se).all()
    assert (se < (0.35 if name == "lognormal_mixture" else 0.1)).all()  # so that being far off would be seen


@pytest.mark.parametrize("name", ["lognormal", "weibull"])
def test_censored_times_are_used_for_what_they_say(name: str) -> None:
    truth = TRUTHS[name]
    times = sample(truth, N, 2)
    limit = np.random.default_rng(3).uniform(20, 200, N)  # what a window cuts off
    seen = times < limit
    assert 0.3 < seen.mean() < 0.8
    cut = np.minimum(times, limit)
    fit = fit_time(cut, seen, [name])
    se = np.sqrt(np.diag(fit.covariance))
    assert (np.abs(fit.estimates - on_scales(truth)) < 3.5 * se).all()
    for wrong in (fit_time(cut, families=[name]), fit_time(cut[seen], families=[name])):  # taken whole; left out
        assert np.abs(wrong.estimates - on_scales(truth)).max() > 3.5 * se.max()


def test_standard_errors_are_the_spread_of_repeated_fits() -> None:
    truth = TRUTHS["lognormal"]
    fits = [fit_time(sample(truth, 400, seed), families=["lognormal"]) for seed in range(60)]
    spread = np.std([f.estimates for f in fits], axis=0, ddof=1)
    stated = np.mean([np.sqrt(np.diag(f.covariance)) for f in fits], axis=0)
    # the standard error of a standard deviation of 60 is 9 %
    assert spread / stated == pytest.approx(np.ones(2), abs=0.32)
    # and in closed form: sigma / sqrt(n), and 1 / sqrt(2n) for the log of sigma
    assert stated == pytest.approx([1.1 / np.sqrt(400), 1 / np.sqrt(800)], rel=0.05)


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_the_family_that_made_the_times_is_chosen(name: str) -> None:
    fit = fit_time(sample(TRUTHS[name], N, 5))
    assert fit.distribution.family == name
    # BIC as Schwarz has it
    assert fit.bic == pytest.approx(len(fit.names) * np.log(N) - 2 * fit.log_likelihood)


def test_a_mixture_of_one_lognormal_is_drawn_within_reason() -> None:
    """What the times do not tell (the share, and the place of a tail that is not there) stays bounded."""
    fit = fit_time(sample(TRUTHS["lognormal"], 400, 6), families=["lognormal_mixture"])
    assert (np.sqrt(np.diag(fit.covariance)) < 2.5).all()
    assert 0.001 < fit.distribution.tail_share < 0.999
    assert fit.distribution.quantile(0.95) == pytest.approx(TRUTHS["lognormal"].quantile(0.95), rel=0.15)


def test_a_prior_holds_a_fit_to_few_times() -> None:
    prior = (np.array([np.log(30.0), 0.0]), np.array([1.0, 0.4]))
    fit = fit_time(np.array([12.0]), families=["lognormal"], prior=prior)
    assert 10 < fit.distribution.median < 30
    assert np.sqrt(np.diag(fit.covariance))[1] == pytest.approx(0.4, rel=0.35)
    with pytest.raises(ValueError, match="seen whole"):
        fit_time(np.array([12.0]), np.array([False]))


def test_covariance_is_that_of_the_normal_law_whose_logarithm_is_the_loss() -> None:
    covariance = np.array([[3.0, 1.0], [1.0, 2.0]])
    precision, mean = np.linalg.inv(covariance), np.array([0.4, -2.0])
    found = inverse_hessian(lambda x: float(0.5 * (x - mean) @ precision @ (x - mean)), mean)
    assert found == pytest.approx(covariance, abs=1e-6)
    assert inverse_hessian(lambda x: float(x[0] ** 2), np.zeros(2)) == pytest.approx(np.diag([0.5, 0.0]), abs=1e-6)


def test_build_undoes_the_scales() -> None:
    for truth in TRUTHS.values():
        assert build(FAMILIES[truth.family], on_scales(truth)).sf(np.array([50.0])) == pytest.approx(
            truth.sf(np.array([50.0])))


def latency_log():  # type: ignore[no-untyped-def]
    """A answers with another distribution for declines; B has few attempts; C never answers."""
    random = np.random.default_rng(7)
    payments, attempts = [], []
    for i in range(3000):
        name = "A" if i % 10 else ("B" if i % 100 else "C")
        outcome = "approved" if random.uniform() < 0.7 else "declined"
        took = float((TRUTHS["lognormal_mixture"] if outcome == "approved" else TRUTHS["gamma"]).ppf(
            random.uniform(size=1))[0]) / 1000
        if name == "C" or i % 50 == 3:
            outcome, took = "timeout", 25.0
        payments.append(payment(f"p{i}", 10.0 * i))
        attempts.append(attempt(f"p{i}", 1, name, 10.0 * i, took, outcome))
    return log(payments, attempts)


def test_latency_is_fitted_per_processor_and_outcome() -> None:
    history = latency_log()
    fitted = fit_latency(history, np.zeros(3000, dtype=bool))
    frame = history.attempts.to_pandas()
    for outcome in ("approved", "declined"):
        mine = frame[(frame["processor"] == "A") & (frame["outcome"] == outcome)]["latency_ms"]
        distribution = getattr(fitted.latency["A"], outcome)
        truth = TRUTHS["lognormal_mixture" if outcome == "approved" else "gamma"]
        for p in (0.5, 0.95, 0.99):
            # the standard error of a sample quantile (Stuart and Ord, section 10.10)
            density = float(np.exp(truth.logpdf(truth.ppf(np.array([p]))))[0])
            se = np.sqrt(p * (1 - p) / len(mine)) / density
            assert abs(distribution.quantile(p) - truth.quantile(p)) < 3.5 * se, (outcome, p)
    assert fitted.timeout_s == {"A": 25.0, "C": 25.0}
    assert fitted.latency["B"].approved == fitted.latency["B"].declined  # too few of each: one for all
    assert fitted.latency["C"].approved.quantile(0.5) == pytest.approx(1.0)  # never answered


def test_attempts_inside_an_outage_do_not_make_latency() -> None:
    history = latency_log()
    slowed = history.attempts["latency_ms"].to_numpy().copy()
    inside = np.arange(3000) % 3 == 0
    column = history.attempts.schema.get_field_index("latency_ms")
    spoiled = history.attempts.set_column(column, history.attempts.schema.field(column),
                                          pa.array(np.where(inside, slowed * 5, slowed)))
    other = type(history)(history.payments, spoiled)
    apart = fit_latency(other, inside).latency["A"].approved.quantile(0.95)
    without = fit_latency(other, np.zeros(3000, dtype=bool)).latency["A"].approved.quantile(0.95)
    mine = (np.array(history.attempts["processor"].to_pylist()) == "A") & (
        np.array(history.attempts["outcome"].to_pylist()) == "approved") & ~inside
    assert apart == pytest.approx(np.quantile(slowed[mine], 0.95), rel=0.1)
    assert without > 1.5 * apart


def test_a_history_without_latencies_gets_a_millisecond() -> None:
    history = log([payment("p", 0.0)], [attempt("p", 1, "A", 0.0, 0.0, "approved")])
    fitted = fit_latency(history, np.zeros(1, dtype=bool))
    assert fitted.latency["A"].approved.quantile(0.5) == pytest.approx(1.0)
    assert fitted.uncertainty == ()


def github_minutes(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """Durations in minutes of the incidents that are no maintenance, and gaps in hours from end to next start."""
    with (shared / "data/outages/github_downtime_windows.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["impact"] != "maintenance"]
    spans = sorted((datetime.fromisoformat(r["downtime_start"]), datetime.fromisoformat(r["downtime_end"]))
                   for r in rows)
    durations = np.array([float(r["duration_minutes"]) for r in rows])
    gaps, until = [], spans[0][1]
    for start, end in spans[1:]:
        if start > until:
            gaps.append((start - until).total_seconds() / 3600)
        until = max(until, end)
    return durations[durations > 0], np.array(gaps)


def test_a_handful_of_outages_is_no_narrow_law() -> None:
    """Seven durations a history, 120 histories: the family stays the usual one, and its intervals hold the truth."""
    truth = d.Lognormal(median=26.0, sigma=1.0)
    held = {"median": 0, "sigma": 0}
    for seed in range(120):
        minutes = sample(truth, 7, seed)
        fit = fit_durations(minutes, np.ones(7, dtype=bool))
        assert fit.distribution.family == "lognormal"
        errors = (fit.estimates - np.log([26.0, 1.0])) / np.sqrt(np.diag(fit.covariance))
        for name, error in zip(held, errors, strict=True):
            held[name] += bool(abs(error) < 1.96)
    assert held["median"] >= 105  # 114 are expected; fewer would come once in a thousand
    assert held["sigma"] >= 105


def test_many_outages_of_another_family_are_believed() -> None:
    minutes = sample(d.Weibull(scale=40.0, shape=2.0), 400, 3)
    fit = fit_durations(minutes, np.ones(400, dtype=bool))
    assert fit.distribution.family == "weibull"
    assert fit.distribution.shape == pytest.approx(2.0, rel=0.15)


def test_real_incidents_are_lognormal_with_clustered_starts(shared: Path) -> None:
    durations, gaps = github_minutes(shared)
    fit = fit_durations(durations, np.ones(len(durations), dtype=bool))
    assert fit.distribution.family == "lognormal"
    assert fit.distribution.median == pytest.approx(74, abs=2)  # as the data's own notes have them
    assert fit.distribution.sigma == pytest.approx(1.12, abs=0.02)
    by_family = {name: fit_time(durations, families=[name]).log_likelihood for name in DURATIONS}
    assert by_family["lognormal"] - by_family["weibull"] == pytest.approx(80, abs=10)
    assert by_family["lognormal"] - by_family["exponential"] == pytest.approx(102, abs=10)
    gap = fit_time(gaps, families=["weibull"])
    assert gap.distribution.shape == pytest.approx(0.77, abs=0.04)
    assert gap.estimates[1] + 3.5 * np.sqrt(gap.covariance[1, 1]) < 0  # log shape below 0: clustered
    assert fit_time(gaps, families=GAPS).distribution.family != "exponential"


def test_a_sample_that_no_family_fits_keeps_its_own_quantiles() -> None:
    random = np.random.default_rng(9)
    humps = np.concatenate([random.normal(100, 5, 2000), random.normal(400, 10, 2000), random.normal(900, 20, 2000)])
    history = log([payment("p", 0.0)], [attempt("p", 1, "A", float(i), t / 1000, "approved")
                                        for i, t in enumerate(humps)])
    fitted = fit_latency(history, np.zeros(len(humps), dtype=bool))
    approved = fitted.latency["A"].approved
    assert approved.family == "quantiles"
    assert [approved.quantile(p) for p in (0.2, 0.5, 0.95, 0.99)] == pytest.approx(
        np.quantile(humps, [0.2, 0.5, 0.95, 0.99]), rel=0.01)
    assert fitted.uncertainty == ()
    # what a family fits stays one, however little of it there is
    for n in (250, 2500):
        times = sample(TRUTHS["lognormal"], n, 10)
        few = log([payment("p", 0.0)], [attempt("p", 1, "A", float(i), t / 1000, "approved")
                                        for i, t in enumerate(times)])
        assert fit_latency(few, np.zeros(n, dtype=bool)).latency["A"].approved.family != "quantiles"


def test_a_real_edge_s_latency_is_fitted_to_its_tail(shared: Path) -> None:
    with (shared / "data/latency/certegy_checks.csv").open() as file:
        times = np.array([float(r["response_ms"]) for r in csv.DictReader(file) if float(r["response_ms"]) > 0])
    history = log([payment("p", 0.0)], [attempt("p", 1, "A", float(i), t / 1000, "approved")
                                        for i, t in enumerate(times)])
    fitted = fit_latency(history, np.zeros(len(times), dtype=bool)).latency["A"].approved
    error = {p: fitted.quantile(p) / np.quantile(times, p) - 1 for p in (0.5, 0.95, 0.99)}
    assert {p: round(e, 4) for p, e in error.items() if abs(e) > 0.03} == {}
