"""Design effects, sample ratios and replications against simulation, closed forms and reference figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from routesim.reports.statistics.design_effects import (
    Phase,
    cluster_effect,
    naive_false_positives,
    ramped_lift,
    retried_orders,
    retry_contamination,
)
from routesim.reports.statistics.power import Design, size
from routesim.reports.statistics.precision import (
    autoregressive_factor,
    batch_means,
    common_numbers,
    cuped,
    mean_of,
    paired_difference,
    payments_for_half_width,
    replications_for_error,
    replications_for_half_width,
    welch_difference,
)
from routesim.reports.statistics.sample_ratio import payments_to_detect, sample_ratio, stale_share
from tests.test_power import near, rows


def test_naive_tests_of_clusters_are_as_wrong_as_foretold() -> None:
    random = np.random.default_rng(5)
    tests, customers, m, icc = 4_000, 300, 4, 0.2
    shape = (1 / icc - 1) * np.array([0.8, 0.2])  # beta-binomial with that correlation
    rate = random.beta(*shape, size=(2, tests, customers))
    approved = random.binomial(m, rate).sum(axis=2) / (customers * m)
    pooled = approved.mean(axis=0)
    z = (approved[1] - approved[0]) / np.sqrt(2 * pooled * (1 - pooled) / (customers * m))
    expected = naive_false_positives(cluster_effect(m, icc))
    assert expected > 0.1
    assert abs((np.abs(z) > 1.959964).mean() - expected) < 4 * math.sqrt(expected / tests)
    assert naive_false_positives(1.0) == pytest.approx(0.05)


def test_a_z_test_by_attempt_has_the_variance_of_the_delta_method() -> None:
    random = np.random.default_rng(6)
    tests, orders = 4_000, 500
    found = retried_orders(0.7, 0.6, 0.3, 2)
    yes = random.binomial(orders, 0.7, tests)
    again = random.binomial(orders - yes, 0.6)
    yes_again = random.binomial(again, 0.3)
    third = random.binomial(again - yes_again, 0.6)
    rate = (yes + yes_again + random.binomial(third, 0.3)) / (orders + again + third)
    assert rate.mean() == pytest.approx(found.attempt_rate, abs=0.001)
    assert rate.var() * orders == pytest.approx(found.variance_per_order, rel=5 * math.sqrt(2 / tests))


def test_a_ramp_with_drift_shows_a_lift_that_is_not_there() -> None:
    shown = ramped_lift([Phase(7, 0.5, 0.85, 0.85), Phase(7, 0.1, 0.82, 0.82)])
    # by hand: treatment (3.5·.85 + .7·.82)/4.2 = .845, control (3.5·.85 + 6.3·.82)/9.8 = .8307
    assert shown.pooled == pytest.approx(0.845 - (3.5 * 0.85 + 6.3 * 0.82) / 9.8, abs=1e-12)
    assert shown.stratified == 0.0
    assert ramped_lift([Phase(1, 0.3, 0.8, 0.85), Phase(5, 0.3, 0.6, 0.65)]).pooled == pytest.approx(0.05)


def test_a_sample_ratio_alarm_is_as_rare_and_as_sure_as_asked() -> None:
    random = np.random.default_rng(7)
    tests = 3_000
    n = math.ceil(payments_to_detect(0.5, stale_share(0.6, 0.5, 0.5), alarm=0.01, power=0.8))
    share = stale_share(0.6, 0.5, 0.5)
    assert share == pytest.approx(0.55)
    alarms = [sample_ratio([n - t, t], [5_000, 5_000], 0.01).alarm for t in random.binomial(n, share, tests).tolist()]
    # the formula takes the variance under the promised share; half a point is room for that and for whole numbers
    assert abs(np.mean(alarms) - 0.8) < 3 * math.sqrt(0.16 / tests) + 0.005
    quiet = [sample_ratio([n - t, t], [5_000, 5_000], 0.01).alarm for t in random.binomial(n, 0.5, tests).tolist()]
    assert abs(np.mean(quiet) - 0.01) < 3 * math.sqrt(0.01 / tests) + 0.002
    assert not sample_ratio([3_340, 3_310, 3_350], [3_333, 3_333, 3_334]).alarm


def test_a_covariate_removes_the_share_of_variance_that_it_explains() -> None:
    random = np.random.default_rng(8)
    n, reps, rho = 400, 600, 0.7
    lifts, told = [], []
    for _ in range(reps):
        before = random.standard_normal((2, n))
        after = rho * before + math.sqrt(1 - rho**2) * random.standard_normal((2, n))
        found = cuped(after[0], after[1] + 0.1, before[0], before[1])
        lifts.append(found.lift)
        told.append(found.standard_error)
    assert np.mean(lifts) == pytest.approx(0.1, abs=4 * np.std(lifts) / math.sqrt(reps))
    assert np.std(lifts) == pytest.approx(math.sqrt((1 - rho**2) * 2 / n), rel=4 / math.sqrt(2 * reps))
    assert np.mean(told) == pytest.approx(np.std(lifts), rel=4 / math.sqrt(2 * reps))
    assert found.variance_removed == pytest.approx(rho**2, abs=0.15)


def test_batch_means_cover_where_independent_values_would_not() -> None:
    random = np.random.default_rng(9)
    covered, naive, tests, n, phi = 0, 0, 300, 2_000, 0.8
    for _ in range(tests):
        x = np.empty(n)
        x[0] = random.standard_normal() / math.sqrt(1 - phi**2)
        noise = random.standard_normal(n)
        for i in range(1, n):
            x[i] = phi * x[i - 1] + noise[i]
        found = batch_means(x, 20)
        covered += abs(found.value) < found.half_width
        naive += abs(found.value) < 1.96 * x.std() / math.sqrt(n)
    assert covered / tests > 0.95 - 4 * math.sqrt(0.05 / tests)
    # the interval of independent values is √9 = 3 times too narrow: 2 Φ(1.96 / 3) - 1 = .49
    expected = 2 * stats.norm.cdf(1.96 / math.sqrt(autoregressive_factor(phi))) - 1
    assert abs(naive / tests - expected) < 4 * math.sqrt(0.25 / tests)


def test_every_reference_design_figure(shared: Path) -> None:
    table = rows(shared, "design.csv")
    told = {(row["block"], row["quantity"]): float(row["value"]) for row in table}
    found: dict[tuple[str, str], float | None] = {}
    for block, quantity in told:
        words = dict(part.split("=") for part in quantity.split() if part.count("=") == 1)
        if block in ("cluster_deff", "cluster_naive_fpr", "cluster_deff_unequal"):
            effect = cluster_effect(float(words["m"]), float(words["icc"]), float(words.get("cv", 0)))
            found[block, quantity] = naive_false_positives(effect) if block == "cluster_naive_fpr" else effect
        elif block == "cluster_n":
            n = size(0.85, 0.86, 0.8, Design()) * cluster_effect(float(words["m"]), float(words["icc"]))
            found[block, quantity] = n / float(words["m"]) if quantity.startswith("clusters") else n
        elif block == "retry":
            orders = retried_orders(float(words["p1"]), float(words["r"]), float(words["q"]), 2)
            names = {"order": "order_rate", "E[attempts/order]": "attempts_per_order", "attempt": "attempt_rate",
                     "delta-method": "variance_per_order", "deff": "attempt_effect"}
            found[block, quantity] = getattr(orders, names[quantity.split()[0]])
        elif block == "srm":
            counts, weights = (json.loads(part) for part in quantity.split(" ", 1)[1].split(" weights "))
            ratio = sample_ratio(counts, weights)
            found[block, quantity] = ratio.chi_squared if quantity.startswith("chi2") else ratio.p_value
        elif block == "srm_stale_cache":
            before, after = (float(x) for x in quantity.split("share ")[1].split(",")[0].split("->"))
            observed = stale_share(before, after, float(quantity.rsplit(" ", 1)[1]))
            found[block, quantity] = payments_to_detect(after, observed)
        elif block == "crn" and "d" in words:
            numbers = common_numbers(float(words["p"]), float(words["d"]))
            half = float(words["d"]) / 10
            found[block, quantity] = {
                "var(diff) independent": numbers.independent, "var(diff) CRN": numbers.common,
                "variance reduction factor": numbers.reduction, "correlation": numbers.correlation,
                "n for 95% CI halfwidth = d/10, independent": payments_for_half_width(numbers.independent, half),
                "n same, CRN": payments_for_half_width(numbers.common, half),
            }[quantity.split(" p=")[0]] if "synchronised" not in quantity else 1 / common_numbers(
                0.85, 0.01, float(quantity.split("only ")[1].split()[0])).reduction
    shift = retry_contamination((0.85, 0.86), (0.30, 0.33), 0.6)
    for row, value in zip([row for row in table if row["block"] == "retry_contamination"],
                          [shift.sticky_lift, shift.rebucketed_lift, shift.attenuation, shift.size_factor],
                          strict=True):
        found[row["block"], row["quantity"]] = value
    ramps = [ramped_lift([Phase(7, 0.5, 0.85, 0.85), Phase(7, 0.1, 0.82, 0.82)]),
             ramped_lift([Phase(7, 0.1, 0.85, 0.85), Phase(7, 0.5, 0.86, 0.86)])]
    for row, value in zip([row for row in table if row["block"] == "ramp_simpson"],
                          [ramps[0].pooled, ramps[1].pooled, ramps[0].stratified], strict=True):
        assert value == pytest.approx(float(row["value"]), abs=1e-12)
    for key, value in found.items():
        assert near(value, told[key], 1e-9), key
    assert {"cluster_deff", "cluster_n", "retry", "srm", "srm_stale_cache", "crn"} <= {block for block, _ in found}
    assert len(found) > 95


def test_reference_replications(shared: Path) -> None:
    table = {row["quantity"]: row for row in rows(shared, "design.csv") if row["block"] in ("replications",
                                                                                            "batch_means")}
    value = {name: float(row["value"]) for name, row in table.items()}
    control = json.loads(table["mean of fixture"]["note"])
    treatment = json.loads(table["paired-t CRN mean diff"]["note"])
    mean = mean_of(control)
    assert near(mean.value, value["mean of fixture"])
    assert near(mean.sd, value["sd (n-1)"])
    assert near(mean.half_width, value["95% t half-width n=10"])
    assert near(mean.half_width / mean.value, value["relative half-width"])
    paired, apart = paired_difference(control, treatment), welch_difference(control, treatment)
    assert near(paired.value, value["paired-t CRN mean diff"])
    assert near(paired.half_width, value["paired-t 95% half-width"])
    assert near(apart.half_width, value["Welch 95% half-width (same data treated independent)"])
    for name, wanted in value.items():
        if name.startswith("Law&Kelton"):
            precision = float(name.split("=")[1].split(")")[0])
            asked = {"relative": precision} if "gamma=" in name else {"absolute": precision}
            assert replications_for_half_width(control, **asked) == wanted
        elif name.startswith("MC reps"):
            words = name.split()
            assert near(replications_for_error(float(words[-1]), float(words[4])), wanted)
        elif "lag-sum" in name:
            assert near(autoregressive_factor(0.8), wanted)
        elif "limit" in name:  # the variance of the series, 1/(1 - φ²), times the factor
            assert near(autoregressive_factor(0.8) / (1 - 0.8**2), wanted)
