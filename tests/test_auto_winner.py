"""The auto-winner's fast path against theory, exact enumeration and independent simulations of the same rules."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from routesim.reports.statistics.auto_winner import RULES, Figure, Outcome, Trial, auto_winner, rule_named
from routesim.reports.statistics.design_effects import naive_false_positives
from routesim.reports.statistics.platform_rule import platform_verdict
from routesim.reports.statistics.stopping import boundaries, crossing, equal_looks
from routesim.scenarios.document.experiment_block import ExperimentBlock, RuleName
from routesim.sim.errors import BadInput
from tests.conftest import Command

COLUMNS = {
    "p_treatment_wins": ("p_treat_wins", "se_p_treat", 1), "p_control_wins": ("p_control_wins", "se_p_control", 1),
    "p_any": ("p_any", "se_p_any", 1), "mean_day_if_treatment_wins": ("e_day_given_treat_win", "se_day", 1),
    "mean_day_capped": ("e_day_capped28", "se_day_capped", 1),
    "mean_lift_if_treatment_wins_pp": ("e_lift_given_treat_win", "se_lift", 100),
    "exaggeration": ("exaggeration", "se_exaggeration", 1),
}


def value_of(figure: Figure) -> float:
    assert figure.value is not None
    return figure.value


def error_of(figure: Figure) -> float:
    assert figure.standard_error is not None
    return figure.standard_error


def test_a_single_look_is_the_normal_test_with_its_guard() -> None:
    # 100,000 an arm: P(p_t - p_c ≥ .01) = Φ((d - .01)/s); p < .05 is then implied
    trial, d = Trial(0.85, 0.9, 20_000, from_day=10, until_day=10), 0.009
    found = auto_winner(trial, RULES["last_day"], 40_000, 3).p_treatment_wins
    s = math.sqrt((0.85 * 0.15 + 0.859 * 0.141) / 100_000)
    expected = 0.5 * math.erfc((0.01 - d) / s / math.sqrt(2))
    assert abs(value_of(found) - expected) < 3 * error_of(found) + 0.001


@pytest.mark.parametrize("name", ["daily_p05", "bonferroni", "pocock", "obrien_fleming"])
def test_an_a_a_test_is_called_as_often_as_the_boundary_says(name: str) -> None:
    trial = Trial(0.85, 0.0, 4_000)
    found = auto_winner(trial, RULES[name], 30_000, 4)
    looks = equal_looks(7, 28)
    bound = {"daily_p05": "naive"}.get(name, name)
    expected = 2 * float(crossing(boundaries(bound, looks), looks)[0].sum())
    # counts are whole, which the normal walk is not: .001 is room for that
    assert abs(value_of(found.p_any) - expected) < 3 * error_of(found.p_any) + 0.001
    assert abs(value_of(found.p_treatment_wins) - value_of(found.p_control_wins)) < 4 * error_of(found.p_any)
    assert found.exaggeration == Figure(None, None)


def test_volume_does_not_help_where_the_true_lift_is_the_guard() -> None:
    # With growing volume only the sign of (observed - true lift) decides, which from day 7 on is that of a driftless
    # random walk seen daily: it is simulated here on its own
    random = np.random.default_rng(5)
    start = random.standard_normal((40_000, 1)) * math.sqrt(7)
    walk = np.concatenate([start, start + np.cumsum(random.standard_normal((40_000, 21)), axis=1)], axis=1)
    expected = (walk > 0).any(axis=1).mean()
    assert 0.5 < expected < 1 - math.asin(math.sqrt(7 / 28)) / math.pi  # the chance if it were watched all the time
    for per_day in (50_000, 500_000):
        found = auto_winner(Trial(0.85, 1.0, per_day), RULES["auto_winner"], 20_000, 5).p_treatment_wins
        assert abs(value_of(found) - expected) < 3 * math.hypot(error_of(found), math.sqrt(0.17 / 40_000))


def test_control_and_treatment_are_mirror_images() -> None:
    up = auto_winner(Trial(0.5, 1.5, 1_500), RULES["auto_winner"], 20_000, 6)
    down = auto_winner(Trial(0.5, -1.5, 1_500), RULES["auto_winner"], 20_000, 7)
    assert abs(value_of(up.p_treatment_wins) - value_of(down.p_control_wins)) < 3 * math.hypot(
        error_of(up.p_treatment_wins), error_of(down.p_control_wins))
    assert down.exaggeration == Figure(None, None)


def test_the_same_seed_gives_the_same_figures_and_others_do_not() -> None:
    trial = Trial(0.85, 1.0, 800, 3_000)
    once, again = (auto_winner(trial, RULES["auto_winner"], 25_000, 8) for _ in range(2))
    assert once == again
    assert once != auto_winner(trial, RULES["auto_winner"], 25_000, 9)


def test_too_few_samples_call_nobody() -> None:
    found = auto_winner(Trial(0.5, 30.0, 60), RULES["daily_p05"], 500, 1)  # 840 a variant by day 28
    assert found.p_any == Figure(0.0, 0.0)
    assert found.mean_day_capped == Figure(28.0, 0.0)
    assert found.mean_day_if_treatment_wins == Figure(None, None)


def test_standard_errors_are_those_of_repeated_simulations() -> None:
    trial = Trial(0.85, 1.0, 1_000)
    runs = [auto_winner(trial, RULES["auto_winner"], 1_000, seed) for seed in range(60)]
    for name in COLUMNS:
        values = [value_of(getattr(run, name)) for run in runs]
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        told = sum(error_of(getattr(run, name)) for run in runs) / len(runs)
        if name != "p_control_wins":  # too rare for 1,000 tests
            assert abs(spread / told - 1) < 4 / math.sqrt(2 * len(runs))


# The reference's names for the rules.
RULE_OF = {
    "rule_p05_lift1pp": "auto_winner", "naive_p05_no_lift": "daily_p05", "single_look_d7_rule": "first_day",
    "single_look_d28_rule": "last_day", "bonferroni22_no_lift": "bonferroni", "pocock22_no_lift": "pocock",
    "LD_OBF22_no_lift": "obrien_fleming", "gb_sequential_N5000_no_lift": "always_valid",
    "gb_sequential_Nday14_no_lift": "always_valid_day14", "gb_sequential_N5000_lift1pp": "always_valid_1pp",
}


def compare(row: dict[str, str], replications: int) -> list[str]:
    """Where a row of the reference lies more than 3 combined standard errors off."""
    share = round(100 * float(row["split_control_treatment"].split("/")[1]))
    trial = Trial(0.85, 100 * float(row["true_lift"]), int(row["volume_per_day"]), share)
    outcome: Outcome = auto_winner(trial, rule_named(RULE_OF[row["rule"]]), replications, 20)
    wrong = []
    for name, (column, error_column, scale) in COLUMNS.items():
        figure: Figure = getattr(outcome, name)
        few = float(row["p_treat_wins"]) * replications < 30 and name.endswith(("wins", "wins_pp", "exaggeration"))
        if few and name != "p_treatment_wins":
            continue  # a mean over a handful of wins has no normal error
        if row[column] == "" or figure.value is None:
            if row[column] or figure.value is not None:
                wrong.append(f"{name}: {figure.value} against {row[column]!r}")
            continue
        theirs, error = float(row[column]) * scale, float(row[error_column] or 0) * scale
        # a count of none or few: add one win on either side
        least = 3 / replications if name.startswith("p_") else 0.0
        bound = 3 * math.hypot(figure.standard_error or 0.0, error) + least
        if abs(figure.value - theirs) > bound:
            wrong.append(f"{name}: {figure.value} against {theirs}, {(figure.value - theirs) / (bound / 3):+.1f}")
    return wrong


def reference(shared: Path) -> list[dict[str, str]]:
    with (shared / "oracles" / "auto_winner.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_sample_of_reference_rows(shared: Path) -> None:
    table = reference(shared)
    assert {row["rule"] for row in table} == set(RULE_OF)
    sample = [row for number, row in enumerate(table) if number % 23 == 0]
    for row in sample:
        assert not compare(row, 10_000), row


@pytest.mark.slow
def test_every_reference_row(shared: Path) -> None:
    table = reference(shared)
    wrong = [f"{row['volume_per_day']} {row['split_control_treatment']} {row['true_lift']} {row['rule']}: {told}"
             for row in table for told in compare(row, 100_000)]
    # some 2,000 figures, many of them dependent: .27 % lie beyond 3 standard errors by chance, none far
    assert len(wrong) <= 0.01 * len(COLUMNS) * len(table), wrong
    assert not [told for told in wrong if abs(float(told.rsplit(" ", 1)[1])) > 5], wrong


def test_the_command_answers_in_json(command: Command) -> None:
    words = ("power", "--auto-winner", "--baseline", "0.85", "--lift-pp", "1", "--per-day", "2000", "--split-bps",
             "7000,3000", "--replications", "2000", "--rule", "pocock", "--from-day", "8",
             "--until-day", "20")
    ended = command(*words, "--json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    trial = Trial(0.85, 1.0, 2_000, 3_000, 8, 20)
    found = auto_winner(trial, RULES["pocock"], 2_000, 1)
    for name in COLUMNS:
        assert told[name] == getattr(found, name).value
        assert told["standard_errors"][name] == getattr(found, name).standard_error
    assert command(*words, "--json").out == ended.out
    assert "treatment is called" in command(*words).out
    assert json.loads(command(*words, "--lift-pp", "0", "--json").out)["exaggeration"] is None


def test_the_rules_of_an_experiment_are_known_by_their_names() -> None:
    experiments = set(get_args(RuleName))
    assert {rule_named(name).doc for name in experiments - {"cuped"}} == {
        RULES[name].doc for name in experiments if name in RULES}
    with pytest.raises(BadInput, match="only `routesim experiment` knows"):
        rule_named("cuped")


@pytest.mark.parametrize("name", [*RULE_OF, "platform"])
def test_no_other_table_s_names_for_the_rules_are_taken(name: str) -> None:
    with pytest.raises(BadInput, match="unknown rule"):
        rule_named(name)
    with pytest.raises(ValidationError, match="Input should be 'auto_winner'"):
        ExperimentBlock.model_validate({"variants": {"a": 5_000, "b": 5_000}, "rule": name})


def test_a_design_effect_makes_a_naive_rule_too_bold_and_a_robust_one_not() -> None:
    trial = Trial(0.85, 0.0, 4_000, from_day=10, until_day=10, design_effects=(2.0,))
    naive, robust = (auto_winner(trial, rule, 20_000, 3).p_any
                     for rule in (RULES["fixed_horizon"], replace(RULES["fixed_horizon"], robust=True)))
    assert abs(value_of(naive) - naive_false_positives(2.0)) < 3 * error_of(naive) + 0.001
    assert abs(value_of(robust) - 0.05) < 3 * error_of(robust) + 0.001
    # the guard goes by payments, of which 1,200 are in each arm
    few = auto_winner(Trial(0.5, 40.0, 240, from_day=10, until_day=10, design_effects=(2.0,)), RULES["fixed_horizon"],
                      200, 3)
    assert value_of(few.p_treatment_wins) == 1.0
    with pytest.raises(BadInput, match="one for each look"):
        Trial(0.85, 0.0, 4_000, design_effects=(2.0,))


@pytest.mark.parametrize(("fields", "unmet"), [
    ({}, ()), ({"day": 6}, (("day", 6),)), ({"samples": (999, 5_000), "approved": (800, 4_400)}, (("samples", 999),)),
    ({"approved": (8_500, 8_560)}, (("p_value", 0.2309), ("lift", 0.6))),
    ({"approved": (8_000, 8_100)}, (("p_value", 0.0743),)),
    ({"latency_ms": (100.0, 111.0)}, (("latency", 1.11),)), ({"latency_ms": (100.0, 110.0)}, ()),
    ({"revenue_usd": (10.0, 9.4)}, (("revenue", 0.94),)), ({"revenue_usd": (10.0, 9.5)}, ()),
])
def test_the_platforms_rule_at_one_look(fields: dict[str, object], unmet: tuple[tuple[str, float], ...]) -> None:
    usual: dict[str, object] = {"day": 7, "samples": (10_000, 10_000), "approved": (8_500, 8_650)}
    verdict = platform_verdict(**(usual | fields))  # type: ignore[arg-type]
    assert verdict.winner == (None if unmet else "treatment")
    assert [condition for condition, _ in verdict.unmet] == [condition for condition, _ in unmet]
    assert [found for _, found in verdict.unmet] == pytest.approx([found for _, found in unmet], rel=1e-2)


def test_control_may_win_and_a_lift_of_exactly_the_guard_counts() -> None:
    assert platform_verdict(9, (50_000, 50_000), (43_000, 42_500)).winner == "control"
    assert platform_verdict(9, (50_000, 50_000), (42_500, 43_000)).winner == "treatment"
    assert platform_verdict(9, (50_000, 50_000), (42_500, 42_999)).winner is None
    # guards look at the would-be winner: a slow loser does not matter
    assert platform_verdict(9, (50_000, 50_000), (43_000, 42_500), latency_ms=(100.0, 200.0)).winner == "control"
    with pytest.raises(BadInput):
        platform_verdict(9, (10, 10), (11, 5))
    assert platform_verdict(9, (0, 0), (0, 0)).winner is None
