"""Every family: quantile, survival and density are one distribution; draws by inversion follow it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import integrate, stats

from routesim.sim import distributions as d

SMOOTH = [
    d.Exponential(mean=7.0), d.Lognormal(median=740.0, sigma=0.6), d.Lognormal(median=20.0, sigma=1.6),
    d.Weibull(scale=90.0, shape=0.68), d.Weibull(scale=3.0, shape=2.5), d.Gamma(scale=200.0, shape=3.2),
    d.Gamma(scale=50.0, shape=0.6), d.Loglogistic(median=500.0, shape=3.0),
    d.LognormalMixture(median=640.0, sigma=0.34, tail_share=0.03, tail_median=2600.0, tail_sigma=0.6),
    d.LognormalMixture(median=200.0, sigma=0.05, tail_share=0.3, tail_median=20_000.0, tail_sigma=1.5),
]
QUANTILES = d.Quantiles(probabilities=[0.0, 0.25, 0.5, 1.0], values=[100.0, 200.0, 500.0, 4000.0])
REFERENCE = {
    "exponential": lambda p: stats.expon(scale=p.mean),
    "weibull": lambda p: stats.weibull_min(p.shape, scale=p.scale),
    "lognormal": lambda p: stats.lognorm(p.sigma, scale=p.median),
    "gamma": lambda p: stats.gamma(p.shape, scale=p.scale),
    "loglogistic": lambda p: stats.fisk(p.shape, scale=p.median),
}
PLACES = np.array([1e-6, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.999999])


def label(one: d.Distribution) -> str:
    return one.family


@pytest.mark.parametrize("one", [*SMOOTH, QUANTILES], ids=label)
def test_quantile_inverts_survival(one: d.Distribution) -> None:
    at = one.ppf(PLACES)
    assert (np.diff(at) >= 0).all()
    assert np.allclose(one.sf(at), 1 - PLACES, rtol=2e-4, atol=1e-9)
    assert one.quantile(0.9) == at[5]
    assert not np.allclose(one.sf(at * 1.01), 1 - PLACES, rtol=2e-4, atol=1e-9)  # one per cent off is seen


@pytest.mark.parametrize("one", [*SMOOTH, QUANTILES], ids=label)
def test_density_integrates_to_differences_of_survival(one: d.Distribution) -> None:
    edges = one.ppf(np.array([0.02, 0.3, 0.7, 0.97, 0.9995]))
    for low, high in pairwise(edges):
        # in log time, where all of them are smooth; cut where a piecewise density jumps
        jumps = [np.log(v) for v in getattr(one, "values", []) if low < v < high]
        mass, _ = integrate.quad(lambda z: float(np.exp(one.logpdf(np.array([np.exp(z)]))[0] + z)), np.log(low),
                                 np.log(high), points=jumps or None, limit=200, epsabs=1e-10)
        assert mass == pytest.approx(float(one.sf(np.array([low]))[0] - one.sf(np.array([high]))[0]), rel=1e-5)


@pytest.mark.parametrize("one", [x for x in SMOOTH if x.family in REFERENCE], ids=label)
def test_families_mean_what_their_names_say(one: d.Distribution) -> None:
    reference = REFERENCE[one.family](one)
    x = reference.ppf(PLACES)
    assert np.allclose(one.ppf(PLACES), x, rtol=1e-7)
    assert np.allclose(one.sf(x), reference.sf(x), rtol=1e-7)
    assert np.allclose(one.logpdf(x), reference.logpdf(x), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("one", [x for x in SMOOTH if x.family == "lognormal_mixture"], ids=["narrow", "wide"])
def test_mixture_is_inverted_to_the_far_tail(one: d.LognormalMixture) -> None:
    """The table's error in u is far below what 10 million draws could tell, body and tail."""
    u = np.concatenate([np.linspace(0.0005, 0.9995, 2001), [0.9999, 0.99999, 1 - 1e-7]])
    assert np.abs((1 - one.sf(one.ppf(u))) / u - 1).max() < 2e-4
    assert np.abs(one.sf(one.ppf(u)) / (1 - u) - 1).max() < 1e-3


def test_draws_by_inversion_follow_the_distribution() -> None:
    u = np.random.default_rng(3).uniform(size=20_000)
    for one in SMOOTH:
        def below(x: np.ndarray, one: d.Distribution = one) -> np.ndarray:
            return 1 - one.sf(x)

        assert stats.kstest(one.ppf(u), below).pvalue > 1e-4
        assert stats.kstest(one.ppf(u) * 1.05, below).pvalue < 1e-4 or one.family in ("weibull", "lognormal", "gamma")


def test_constant_is_always_its_value() -> None:
    one = d.Constant(value=1000.0)
    assert one.ppf(np.array([0.01, 0.99])).tolist() == [1000.0, 1000.0]
    assert one.sf(np.array([999.9, 1000.0, 1000.1])).tolist() == [1.0, 0.0, 0.0]


def test_quantiles_are_flat_beyond_the_outermost() -> None:
    one = d.Quantiles(probabilities=[0.1, 0.9], values=[10.0, 40.0])
    assert one.ppf(np.array([0.0, 0.1, 0.5, 0.9, 1.0])).tolist() == pytest.approx([10.0, 10.0, 20.0, 40.0, 40.0])


@pytest.mark.parametrize("bad", [
    {"family": "lognormal", "median": -1, "sigma": 1}, {"family": "lognormal", "median": 1, "sigma": 0},
    {"family": "lognormal", "median": 1}, {"family": "pareto", "scale": 1},
    {"family": "exponential", "mean": 1, "shape": 2},
    {"family": "quantiles", "probabilities": [0.5, 0.5], "values": [1, 2]},
    {"family": "quantiles", "probabilities": [0.1, 0.5], "values": [2, 1]},
    {"family": "quantiles", "probabilities": [0.1, 0.5], "values": [0, 1]},
    {"family": "quantiles", "probabilities": [0.1], "values": [1]},
])
def test_parameters_that_make_no_distribution_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(d.Distribution).validate_python(bad)


def test_averages_are_those_of_the_quantiles() -> None:
    for distribution in (d.Exponential(mean=3.0), d.Lognormal(median=2.0, sigma=0.7),
                         d.Weibull(scale=4.0, shape=0.8)):
        u = (np.arange(400_000) + 0.5) / 400_000
        assert distribution.average() == pytest.approx(distribution.ppf(u).mean(), rel=2e-3)
