"""Design effects, sample ratios and CUPED against simulation, closed forms and reference figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from routesim.reports.statistics.cuped import cuped
from routesim.reports.statistics.design_effects import Phase, cluster_effect, naive_false_positives, ramped_lift
from routesim.reports.statistics.power import ExperimentDesign, size
from routesim.reports.statistics.sample_ratio import payments_to_detect, sample_ratio
from tests.test_power import near, rows


def test_naive_tests_of_clusters_are_as_wrong_as_predicted() -> None:
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


def test_a_ramp_with_drift_shows_a_lift_that_is_not_there() -> None:
    shown = ramped_lift([Phase(7, 0.5, 0.85, 0.85), Phase(7, 0.1, 0.82, 0.82)])
    # by hand: treatment (3.5·.85 + .7·.82)/4.2 = .845, control (3.5·.85 + 6.3·.82)/9.8 = .8307
    assert shown.pooled == pytest.approx(0.845 - (3.5 * 0.85 + 6.3 * 0.82) / 9.8, abs=1e-12)
    assert shown.stratified == 0.0
    assert ramped_lift([Phase(1, 0.3, 0.8, 0.85), Phase(5, 0.3, 0.6, 0.65)]).pooled == pytest.approx(0.05)


def test_a_sample_ratio_alarm_is_as_rare_and_as_sure_as_asked() -> None:
    random = np.random.default_rng(7)
    tests = 3_000
    share = 0.55  # half of the assignments were made when the share was 0.6, half since it is 0.5
    n = math.ceil(payments_to_detect(0.5, share, alarm=0.01, power=0.8))
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


def test_every_reference_design_figure(shared: Path) -> None:
    table = rows(shared, "design.csv")
    told = {(row["block"], row["quantity"]): float(row["value"]) for row in table}
    found: dict[tuple[str, str], float] = {}
    for block, quantity in told:
        words = dict(part.split("=") for part in quantity.split() if part.count("=") == 1)
        if block in ("cluster_deff", "cluster_naive_fpr", "cluster_deff_unequal"):
            effect = cluster_effect(float(words["m"]), float(words["icc"]), float(words.get("cv", 0)))
            found[block, quantity] = naive_false_positives(effect) if block == "cluster_naive_fpr" else effect
        elif block == "cluster_n":
            n = size(0.85, 0.86, 0.8, ExperimentDesign()) * cluster_effect(float(words["m"]), float(words["icc"]))
            found[block, quantity] = n / float(words["m"]) if quantity.startswith("clusters") else n
        elif block == "srm":
            counts, weights = (json.loads(part) for part in quantity.split(" ", 1)[1].split(" weights "))
            ratio = sample_ratio(counts, weights)
            found[block, quantity] = ratio.chi_squared if quantity.startswith("chi2") else ratio.p_value
        elif block == "srm_stale_cache":
            before, after = (float(x) for x in quantity.split("share ")[1].split(",")[0].split("->"))
            stale = float(quantity.rsplit(" ", 1)[1])
            found[block, quantity] = payments_to_detect(after, stale * before + (1 - stale) * after)
    ramps = [ramped_lift([Phase(7, 0.5, 0.85, 0.85), Phase(7, 0.1, 0.82, 0.82)]),
             ramped_lift([Phase(7, 0.1, 0.85, 0.85), Phase(7, 0.5, 0.86, 0.86)])]
    for row, value in zip([row for row in table if row["block"] == "ramp_simpson"],
                          [ramps[0].pooled, ramps[1].pooled, ramps[0].stratified], strict=True):
        assert value == pytest.approx(float(row["value"]), abs=1e-12)
    for key, value in found.items():
        assert near(value, told[key], 1e-9), key
    assert {"cluster_deff", "cluster_n", "srm", "srm_stale_cache"} <= {block for block, _ in found}
