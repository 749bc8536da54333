"""Sizes and power against statsmodels, closed forms, enumeration and independent reference figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import (
    power_proportions_2indep,
    proportion_effectsize,
    samplesize_proportions_2indep_onetail,
)

from routesim.reports.statistics.cuped import cuped
from routesim.reports.statistics.design_effects import Phase, cluster_effect, ramped_lift
from routesim.reports.statistics.exact_power import exact_power, least_size
from routesim.reports.statistics.power import METHODS, ExperimentDesign, arms, mde, power, ratio_of_split, size
from routesim.reports.statistics.sample_ratio import payments_to_detect, sample_ratio
from routesim.sim.errors import BadInput
from tests.conftest import Command

FORMULAS = [method for method in METHODS if method != "exact"]
SPLITS = [(5_000, 5_000), (9_000, 1_000), (1_000, 9_000), (7_000, 3_000)]


def rows(shared: Path, name: str) -> list[dict[str, str]]:
    with (shared / "oracles" / name).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def near(value: float | None, wanted: float, relative: float = 1e-9) -> bool:
    return value is not None and abs(value - wanted) <= relative * abs(wanted)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("p_c", "p_t"), [(0.85, 0.86), (0.85, 0.83), (0.004, 0.006), (0.99, 0.995)])
def test_pooled_power_is_that_of_statsmodels(p_c: float, p_t: float, split: tuple[int, int]) -> None:
    ratio = ratio_of_split(*split)
    for alpha in (0.05, 0.01):
        for n_t in (120.0, 5_000.0):
            theirs = power_proportions_2indep(p_t - p_c, p_c, n_t, ratio=ratio, alpha=alpha, return_results=False)
            assert near(power(p_c, p_t, n_t, ExperimentDesign(alpha, 2, ratio)), float(theirs))


@pytest.mark.parametrize("split", SPLITS)
def test_sizes_are_those_of_statsmodels(split: tuple[int, int]) -> None:
    ratio = ratio_of_split(*split)
    pooled = samplesize_proportions_2indep_onetail(0.01, 0.85, 0.8, ratio=ratio, alpha=0.05, alternative="two-sided")
    assert near(size(0.85, 0.86, 0.8, ExperimentDesign(ratio=ratio)), pooled)
    effect = proportion_effectsize(0.86, 0.85)
    theirs = NormalIndPower().solve_power(effect, alpha=0.05, power=0.8, ratio=ratio, alternative="two-sided")
    assert near(size(0.85, 0.86, 0.8, ExperimentDesign(ratio=ratio, method="arcsine")), float(theirs), 1e-8)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("method", FORMULAS)
def test_size_power_and_least_lift_agree_with_each_other(method: str, split: tuple[int, int], sides: int) -> None:
    design = ExperimentDesign(0.05, sides, ratio_of_split(*split), method)
    for p_c, lift in ((0.85, 0.02), (0.85, -0.02), (0.02, 0.01), (0.98, 0.01)):
        n = size(p_c, p_c + lift, 0.9, design)
        # the formulas leave out the far tail, and the arcsine does not
        assert power(p_c, p_c + lift, n, design, method == "arcsine") == pytest.approx(0.9, abs=1e-9)
        assert 0.9 - 1e-9 < power(p_c, p_c + lift, n, design) < 0.9001
        assert mde(p_c, n, 0.9, design, 1 if lift > 0 else -1) == pytest.approx(lift, rel=1e-6)
        assert power(p_c, p_c + lift, 2 * n, design) > 0.95
        assert size(p_c, p_c + lift / 2, 0.9, design) > 3 * n


def test_an_a_a_test_has_the_power_alpha_and_arms_may_be_swapped() -> None:
    for alpha in (0.05, 0.01):
        assert power(0.85, 0.85, 1_000, ExperimentDesign(alpha)) == pytest.approx(alpha)
        assert power(0.85, 0.85, 1_000, ExperimentDesign(alpha, 1, 9.0)) == pytest.approx(alpha)
    for method in FORMULAS[:3]:
        # control's 9,000 against treatment's 1,000 is the same test as the reverse with the rates exchanged
        assert near(power(0.85, 0.86, 1_000, ExperimentDesign(ratio=9.0, method=method)),
                    power(0.86, 0.85, 9_000, ExperimentDesign(ratio=1 / 9, method=method)))


def test_arms_are_rounded_up_control_at_the_ratio_to_treatment() -> None:
    assert arms(17_654.3356, 7 / 3) == (41_195, 17_655)
    assert arms(96_391.2957, 1 / 9) == (10_711, 96_392)
    assert arms(3_000.0, 7_000 / 3_000) == (7_000, 3_000)


@pytest.mark.parametrize("test", ["pooled", "fisher", "yates"])
@pytest.mark.parametrize("sides", [1, 2])
def test_exact_power_by_hand(test: str, sides: int) -> None:
    n_c, n_t, p_c, p_t = 12, 9, 0.3, 0.8
    expected = 0.0
    side = "two-sided" if sides == 2 else "less"  # the first column is control's
    for x in range(n_c + 1):
        for y in range(n_t + 1):
            table = [[x, n_c - x], [y, n_t - y]]
            if test == "fisher":
                p_value = stats.fisher_exact(table, alternative=side).pvalue
            elif x + y in (0, n_c + n_t):
                p_value = 1.0
            else:
                p_value = stats.chi2_contingency(table, correction=test == "yates").pvalue
                if sides == 1:
                    p_value = p_value / 2 if y / n_t > x / n_c else 1.0
            if p_value < 0.05:
                expected += stats.binom.pmf(x, n_c, p_c) * stats.binom.pmf(y, n_t, p_t)
    assert exact_power(test, p_c, p_t, n_c, n_t, 0.05, sides) == pytest.approx(expected, rel=1e-9)


def test_fishers_level_is_kept_and_least_sizes_are_least() -> None:
    assert exact_power("fisher", 0.7, 0.7, 60, 60) < 0.05
    found = least_size("fisher", 0.5, 0.8, 0.8, near=size(0.5, 0.8, 0.8, ExperimentDesign()))
    reached = [exact_power("fisher", 0.5, 0.8, n, n) >= 0.8 for n in range(1, 80)]
    assert found.first == reached.index(True) + 1
    assert found.stable == max(i for i, enough in enumerate(reached) if not enough) + 2
    assert size(0.5, 0.8, 0.8, ExperimentDesign(method="exact")) == found.stable


@pytest.mark.parametrize("wrong", [
    lambda: size(0.85, 0.85, 0.8, ExperimentDesign()), lambda: size(0.85, 1.2, 0.8, ExperimentDesign()),
    lambda: size(0.0, 0.5, 0.8, ExperimentDesign()), lambda: size(0.85, 0.86, 0.04, ExperimentDesign()),
    lambda: ExperimentDesign(alpha=math.nan), lambda: ExperimentDesign(sides=3),
    lambda: ExperimentDesign(method="poled"), lambda: ExperimentDesign(method="pooled_z"),
    lambda: power(0.85, 0.86, 0, ExperimentDesign()),
    lambda: power(math.nan, 0.86, 10, ExperimentDesign()), lambda: ratio_of_split(5_000, 4_000),
    lambda: ratio_of_split(0, 10_000),
    lambda: exact_power("fisher", 0.5, 0.6, 10**8, 10**8), lambda: cluster_effect(0.5, 0.1),
    lambda: cluster_effect(2, 1.1), lambda: sample_ratio([1], [1]), lambda: sample_ratio([0, 0], [1, 1]),
    lambda: payments_to_detect(0.5, 0.5), lambda: ramped_lift([Phase(1, 1.0, 0.8, 0.8)]),
    lambda: cuped(np.ones(1), np.ones(2), np.ones(1), np.ones(2)),
    lambda: cuped(np.ones(2), np.ones(2), np.ones(2), np.ones(3)),
])
def test_what_no_test_can_have_is_refused_in_a_line(wrong: Callable[[], object]) -> None:
    with pytest.raises(BadInput) as refused:
        wrong()
    assert "\n" not in str(refused.value)


def test_every_reference_size_power_and_least_lift(shared: Path) -> None:
    exact = {"yates_prop.test": "yates", "rule_single_look_up": "platform_up"}
    methods = {"pooled_z": "pooled", "unpooled_z": "unpooled", "arcsine_h": "arcsine", "fisher_exact": "exact",
               "baseline_var_spotify": "baseline_variance", "cps_continuity": "continuity",
               "pooled_z_R_strict_false": "pooled"}  # the reference's names
    checked = 0
    for row in rows(shared, "power.csv"):
        p_c, p_t, n_t = float(row["p_control"]), float(row["p_treatment"]), int(row["n_t"])
        alpha, sides, ratio = float(row["alpha"]), int(row["sides"]), float(row["ratio_nc_over_nt"])
        method, quantity, wanted = row["method"], row["quantity"], float(row["value"])
        found: float | None
        if quantity.startswith("n_min_exact"):
            if p_t - p_c < 0.1:
                continue  # the slow test has it
            test = {"pooled_z": "pooled", "fisher_exact": "fisher"}[method]
            guess = size(p_c, p_t, 0.8, ExperimentDesign(alpha, sides, ratio))
            least = least_size(test, p_c, p_t, float(row["power"]), ratio, alpha, sides, guess)
            found = least.first if quantity.endswith("first") else least.stable
        elif method in exact:
            found = exact_power(exact[method], p_c, p_t, round(float(row["n_c"])), n_t, alpha, sides)
        elif quantity == "power":
            design = ExperimentDesign(alpha, sides, ratio, methods[method])
            found = power(p_c, p_t, n_t, design, method != "pooled_z_R_strict_false")
        elif quantity == "n_treatment":
            design = ExperimentDesign(alpha, sides, ratio, methods[method])
            found = size(p_c, p_t, float(row["power"]), design)
            assert arms(found, ratio) == (round(float(row["n_c"])), n_t), row
        else:
            direction = 1 if quantity == "mde_abs_up" else -1
            design = ExperimentDesign(alpha, sides, ratio, methods[method])
            found = mde(p_c, n_t, float(row["power"]), design, direction)
        assert near(found, wanted), (row, found)
        checked += 1
    assert checked > 100


@pytest.mark.slow
def test_every_reference_exact_power_and_least_size(shared: Path) -> None:
    tests = {"pooled_z": "pooled", "unpooled_z": "unpooled", "fisher_exact": "fisher"}
    for row in rows(shared, "power.csv"):
        p_c, p_t, alpha, sides = (float(row[name]) for name in ("p_control", "p_treatment", "alpha", "sides"))
        if row["quantity"].startswith("n_min_exact"):
            ratio = float(row["ratio_nc_over_nt"])
            guess = size(p_c, p_t, float(row["power"]), ExperimentDesign(alpha, int(sides), ratio))
            least = least_size(tests[row["method"]], p_c, p_t, float(row["power"]), ratio, alpha, int(sides), guess)
            assert float(row["value"]) == (least.first if row["quantity"].endswith("first") else least.stable), row
        elif row["exact_test"] in tests and float(row["n_c"]).is_integer():
            found = exact_power(tests[row["exact_test"]], p_c, p_t, round(float(row["n_c"])), int(row["n_t"]), alpha,
                                int(sides))
            assert near(found, float(row["exact_power_at_n"]), 1e-8), row


def test_the_command_answers_in_json(command: Command) -> None:
    ended = command("power", "--baseline", "0.85", "--lift-pp", "1", "--per-day", "2000", "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert told["n_treatment_exact"] == pytest.approx(size(0.85, 0.86, 0.8, ExperimentDesign()), rel=1e-12)
    assert told["n_treatment"] == told["n_control"] == math.ceil(told["n_treatment_exact"])
    assert told["power"] == pytest.approx(0.8, abs=1e-4)
    assert 0.999 < told["mde_pp"] <= 1
    assert told["days"] == pytest.approx(2 * told["n_treatment"] / 2_000)
    assert [row["lift_pp"] for row in told["days_by_lift"]] == [0.25, 0.5, 1, 1.5, 2, 3]
    exact = ("power", "--baseline", "0.5", "--lift-pp", "30", "--per-day", "10", "--method", "exact")
    told = json.loads(command(*exact, "--json").out)
    assert (told["method"], told["days_by_lift_method"]) == ("exact", "pooled")
    assert "lift (pp), pooled" in command(*exact).out


def test_the_command_answers_for_a_size_a_split_and_clusters(command: Command) -> None:
    ended = command("power", "--baseline", "0.85", "--lift-pp", "-2", "--n-treatment", "1000", "--split-bps",
                    "9000,1000", "--alpha", "0.01", "--sides", "1", "--method", "unpooled", "--json")
    told, design = json.loads(ended.out), ExperimentDesign(0.01, 1, 9.0, "unpooled")
    assert (told["n_control"], told["n_treatment"], told["n_treatment_exact"]) == (9_000, 1_000, 1_000)
    assert told["power"] == pytest.approx(power(0.85, 0.83, 1_000, design), rel=1e-12)
    assert told["mde_pp"] == pytest.approx(100 * (mde(0.85, 1_000, 0.8, design, -1) or 0), rel=1e-12)
    words = ("power", "--baseline", "0.85", "--lift-pp", "1", "--unit", "customer", "--cluster-size", "3",
             "--icc", "0.1")
    clustered = json.loads(command(*words, "--json").out)
    assert clustered["n_treatment_exact"] == pytest.approx(1.2 * size(0.85, 0.86, 0.8, ExperimentDesign()))
    assert clustered["power"] == pytest.approx(0.8, abs=1e-4)
    assert "design effect" in command(*words, "--per-day", "900").out
    assert "none" in command("power", "--baseline", "0.5", "--lift-pp", "1", "--n-treatment", "2").out


@pytest.mark.parametrize("wrong", [
    "--baseline 1.2 --lift-pp 1", "--baseline nan --lift-pp 1", "--baseline .85 --lift-pp nan",
    "--baseline .85 --lift-pp 0", "--baseline .85 --lift-pp 20", "--baseline .85 --lift-pp 1 --power 1",
    "--baseline .85 --lift-pp 1 --power .01", "--baseline .85 --lift-pp 1 --sides 3",
    "--baseline .85 --lift-pp 1 --alpha inf", "--baseline .85 --lift-pp 1 --split-bps 50,50",
    "--baseline .85 --lift-pp 1 --split-bps 5000;5000", "--baseline .85 --lift-pp 1 --split-bps 1,2,3",
    "--baseline .85 --lift-pp 1 --method poled", "--baseline .85 --lift-pp 1 --method exact",
    "--baseline .85 --lift-pp 1 --n-treatment 0", "--baseline .85 --lift-pp 1 --per-day 0",
    "--baseline .85 --lift-pp 1 --icc .1", "--baseline .85 --lift-pp 1 --unit customer",
    "--baseline .85 --lift-pp 1 --unit custommer --icc .1 --cluster-size 2", "--baseline .85 --lift-pp 1 --seed 2",
    "--baseline .85 --lift-pp 1 --auto-winner", "--baseline .85 --lift-pp 1 --auto-winner --per-day 9 --alpha .1",
    "--baseline .85 --lift-pp 1 --auto-winner --per-day 9 --rule plattform",
    "--baseline .85 --lift-pp 1 --auto-winner --per-day 9 --replications 0",
    "--baseline .85 --lift-pp 1 --auto-winner --per-day 9 --until-day 3",
    "--baseline 0 --lift-pp 1 --auto-winner --per-day 9", "--lift-pp 1", "--baseline x --lift-pp 1",
])
def test_the_command_refuses_in_one_line(command: Command, wrong: str) -> None:
    ended = command("power", *wrong.split(), "--json")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("routesim: ")
    assert ended.err.count("\n") == 1
