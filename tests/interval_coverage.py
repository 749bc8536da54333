"""How often intervals hold the truth: the tables of docs/intervals.md, by ``python -m tests.interval_coverage``.

The two-level normal model is simulated by its mean squares and the mean's error, which is all that an interval sees;
skewed figures are simulated value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from scipy import optimize, sparse, special, stats

from routesim.reports.metrics.catalogue import METRICS, Metric
from routesim.reports.statistics.half_widths import half_width, one_run
from routesim.reports.statistics.intervals import interval
from routesim.sim.arrays import Floats

SIZES = ((5, 2), (10, 2), (20, 2), (5, 5), (10, 5), (20, 5))
RATIOS = (0.0, 0.1, 0.25, 1.0, 4.0)
MORE_RATIOS = (0.02, 0.05, 0.5, 2.0, 16.0, 100.0)


@cache
def _widths(worlds: int, luck: int, of: Callable[..., float]) -> tuple[Floats, Floats]:
    """Half-widths for MS_within = 1 by log F, 800 of them."""
    log_f = np.linspace(-9.0, 12.0, 800)
    found = [of(f, 1.0, worlds - 1, worlds * (luck - 1), worlds + 1.0, 0.95) for f in np.exp(log_f)]
    return log_f, np.log(found)


def normal(worlds: int, luck: int, ratio: float, runs: int) -> tuple[Floats, Floats, Floats]:
    """Of ``runs`` studies with V_luck = 1 and V_world = ``ratio``: did the interval hold the truth, the range of one
    run a realisation in the true world, and F = MS_between / MS_within."""
    rng = np.random.default_rng((20260202, worlds, luck, round(1000 * ratio)))
    within_df = worlds * (luck - 1)
    between = (1 + luck * ratio) * rng.chisquare(worlds - 1, runs) / (worlds - 1)
    within = rng.chisquare(within_df, runs) / within_df
    error = math.sqrt(ratio * (1 + 1 / worlds) + 1 / (worlds * luck)) * rng.normal(size=runs)
    realised = error + rng.normal(size=runs)
    log_f = np.log(between / within)
    half, single = (np.sqrt(within) * np.exp(np.interp(log_f, *_widths(worlds, luck, of)))
                    for of in (half_width, one_run))
    return abs(error) <= half, abs(realised) <= np.maximum(half, single), np.exp(log_f)


def by_tenth(held: Floats, f: Floats) -> Floats:
    """Coverage in each tenth of the observed F."""
    return np.array([part.mean() for part in np.array_split(held[np.argsort(f)], 10)])


def single_luck(worlds: int, ratio: float) -> float:
    """Coverage with K = 1, exactly: all variance between worlds counts as the calibration's."""
    told, true = (1 + ratio) * (1 + 1 / worlds), ratio * (1 + 1 / worlds) + 1 / worlds
    t = stats.t.ppf(0.975, worlds - 1) * math.sqrt(told / true)
    return float(2 * special.stdtr(worlds - 1, t) - 1)


def least_overcoverage(worlds: int, luck: int, least: float = 0.93, bins: int = 80) -> float:
    """The largest coverage at some ratio that no interval can avoid, if it covers ``least`` at all of them and is
    never narrower than luck alone allows.

    Every interval that moves with shift and scale is the pooled standard error times a curve in F. Over all curves,
    random ones too, this is a linear programme: weights on half-widths in each bin of F.
    """
    a, b, n = worlds - 1, worlds * (luck - 1), worlds * luck
    edges = np.exp(np.linspace(np.log(stats.f.ppf(1e-6, a, b)), np.log(stats.f.ppf(1 - 1e-6, a, b) * 20), bins + 1))
    f = np.sqrt(edges[1:] * edges[:-1])
    multiples = np.exp(np.linspace(np.log(stats.t.ppf(0.975, n - 1)), np.log(60 * math.sqrt(worlds)), 70))
    rows, limits = [], []
    for ratio in (*RATIOS, *MORE_RATIOS):
        rho = 1 + luck * ratio
        scale = np.sqrt((a * f + b) / (b + a * f / rho) / ((rho - 1) * (worlds + 1) + 1))
        chance = np.diff(stats.f.cdf(edges / rho, a, b))
        held = (chance[:, None] * (2 * special.stdtr(n - 1, scale[:, None] * multiples) - 1)).ravel() / chance.sum()
        rows += [np.append(held, -1.0), np.append(-held, 0.0)]
        limits += [0.0, -least]
    one_each = sparse.hstack([sparse.kron(sparse.eye(bins), np.ones((1, len(multiples)))), np.zeros((bins, 1))])
    found = optimize.linprog(np.append(np.zeros(bins * len(multiples)), 1.0), A_ub=np.array(rows), b_ub=limits,
                             A_eq=one_each.tocsr(), b_eq=np.ones(bins), bounds=(0, None), method="highs")
    return float(found.fun)


# --- skewed figures

Draw = Callable[[np.random.Generator, int, int], Floats]


def count(mean: float, spread: float) -> Draw:
    """Poisson, its mean's logarithm N(0, spread²) about the centre and the centre about the truth."""
    def draw(rng: np.random.Generator, worlds: int, luck: int) -> Floats:
        means = mean * np.exp(rng.normal(0, spread) + rng.normal(0, spread, (worlds, 1)))
        return rng.poisson(means * np.ones((worlds, luck))).astype(np.float64)
    return draw


def amount(mean: float, spread: float) -> Draw:
    """As many exponential amounts of mean 1 as ``count`` draws."""
    def draw(rng: np.random.Generator, worlds: int, luck: int) -> Floats:
        counts = count(mean, spread)(rng, worlds, luck)
        return np.asarray(rng.gamma(np.maximum(counts, 1e-300), 1.0) * (counts > 0))
    return draw


def share(of: int, mean: float, spread: float) -> Draw:
    """Binomial shares of so many, whose logits vary as the logarithms of ``count``."""
    def draw(rng: np.random.Generator, worlds: int, luck: int) -> Floats:
        logit = special.logit(mean) + rng.normal(0, spread) + rng.normal(0, spread, (worlds, 1))
        return rng.binomial(of, special.expit(logit) * np.ones((worlds, luck))) / of
    return draw


SKEWED: dict[str, tuple[Metric, float, Callable[[float], Draw]]] = {
    **{f"count of mean {mean:g}": (METRICS["rule_breaches"], mean, lambda spread, mean=mean: count(mean, spread))
       for mean in (0.02, 0.1, 0.5, 3.0, 30.0)},
    **{f"sum of {mean:g} amounts": (METRICS["cost_usd"], mean, lambda spread, mean=mean: amount(mean, spread))
       for mean in (0.5, 3.0, 30.0)},
    **{f"share {mean:g} of {of}": (METRICS["never_recovered"], mean,
                                   lambda spread, mean=mean, of=of: share(of, mean, spread))
       for of, mean in ((20, 0.02), (500, 0.02), (20, 0.3), (200, 0.97))},
}
"""By name: the metric, the truth, and the draw for a standard deviation of the world's logarithm or logit."""
SPREADS = (0.0, 0.3, 0.8)


def skewed(name: str, spread: float, worlds: int, luck: int, runs: int) -> tuple[float, float, float]:
    """Coverage, and how often the truth lay below and above the interval."""
    metric, truth, draws = SKEWED[name]
    draw, rng = draws(spread), np.random.default_rng(20260202)
    below = above = 0
    for _ in range(runs):
        found = interval(draw(rng, worlds, luck), metric)
        assert found.low is not None
        assert found.high is not None
        below += truth < found.low
        above += truth > found.high
    return 1 - (below + above) / runs, below / runs, above / runs


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _percent(shares: Sequence[float] | Floats) -> list[str]:
    return [f"{100 * share:.1f}" for share in shares]


def main() -> None:
    """Print the tables."""
    print("Coverage, %: of the truth (of one run)")
    for worlds, luck in SIZES:
        found = [normal(worlds, luck, ratio, 200_000) for ratio in RATIOS]
        print(_row(f"{worlds} worlds, {luck}", *(f"{100 * held.mean():.1f} ({100 * run.mean():.1f})"
                                           for held, run, _ in found)))
    for worlds in (5, 10, 20):
        print(_row(f"{worlds} worlds, 1", *_percent([single_luck(worlds, ratio) for ratio in RATIOS])))
    print("By tenth of F, %")
    for worlds, luck in SIZES:
        for ratio in RATIOS:
            held, _, f = normal(worlds, luck, ratio, 200_000)
            print(_row(f"{worlds} worlds, {luck}", f"{ratio:g}", *_percent(by_tenth(held, f))))
    print("Unavoidable, %")
    print(_row(*(f"{worlds} worlds, {luck}: {100 * least_overcoverage(worlds, luck):.1f}" for worlds, luck in SIZES)))
    print("Skewed figures, %: coverage (truth below, above)")
    for name in SKEWED:
        cells = [skewed(name, spread, worlds, luck, 2_000) for worlds, luck in ((20, 2), (5, 2)) for spread in SPREADS]
        print(_row(name, *(f"{100 * all_:.1f} ({100 * below:.1f}, {100 * above:.1f})"
                           for all_, below, above in cells)), flush=True)


if __name__ == "__main__":
    main()
