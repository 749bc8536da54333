"""Off-policy estimators against an independent computation and against theory, and the check as a run tells it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from routesim.calibration.history.read import read_history
from routesim.calibration.off_policy import estimators as off_policy
from routesim.calibration.off_policy.cross_check import FirstChoices, first_choices
from routesim.calibration.off_policy.cross_fit import cross_fit
from routesim.calibration.off_policy.estimators import Decisions, Estimate, Overlap
from routesim.reports.run.off_policy import alarms, judged
from routesim.scenarios.running.assumptions import assumed_processors
from routesim.scenarios.running.runner import judge_by_history, run
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.log import AttemptLog
from routesim.sim.trace import Trace
from tests.small import SCENARIO, Small

# Eight decisions: their weights and rewards, and what a model predicts of the logged action and of the target.
WEIGHT = np.array([4, 8 / 3, 1.2, 0.5, 0.4, 2.5, 2, 1])
REWARD = np.array([1, 1, 1, 1, 1, 0, 0, 0.0])
PREDICTED = np.array([0.72, 0.88, 0.87, 0.90, 0.80, 0.84, 0.79, 0.55])
DIRECT = 0.79875  # its mean over the eight, which is all that the estimators use of it

# Two kinds of payment (70 % and 30 %), three actions: how both choose, what is approved and what is predicted.
KINDS = np.array([0.7, 0.3])
LOGGED = np.array([[0.05, 0.15, 0.80], [0.1, 0.3, 0.6]])
TARGET = np.array([[0.05, 0.35, 0.60], [0.1, 0.8, 0.1]])
APPROVAL = np.array([[0.80, 0.84, 0.86], [0.78, 0.82, 0.70]])
FORETOLD = np.array([[0.82, 0.85, 0.85], [0.75, 0.80, 0.75]])
TRUTH = float(KINDS @ (TARGET * APPROVAL).sum(axis=1))


def clipped(d: Decisions) -> Estimate:
    return off_policy.clipped_ips(d, 2)


def switched(d: Decisions) -> Estimate:
    return off_policy.switch_doubly_robust(d, 2)


def shrunk(d: Decisions) -> Estimate:
    return off_policy.shrunk_doubly_robust(d, 1.5)


ESTIMATORS: dict[str, Callable[[Decisions], Estimate]] = {
    "IPS": off_policy.ips, "SNIPS": off_policy.snips, "clippedIPS(2)": clipped, "DM": off_policy.direct_method,
    "DR": off_policy.doubly_robust, "SNDR": off_policy.self_normalised_doubly_robust, "SwitchDR(tau=2)": switched,
    "DRos(lambda=1.5)": shrunk,
}


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[tuple[str, str], float]:
    with (shared / "oracles" / "off_policy.csv").open(encoding="utf-8") as file:
        return {(row["block"], row["quantity"]): float(row["value"]) for row in csv.DictReader(file)}


def whole_world(n: int = 10_000) -> tuple[Ints, Ints, Floats]:
    """Kind, action and reward of n decisions in exactly the world's proportions."""
    rows = [(kind, action, reward, KINDS[kind] * LOGGED[kind, action] * chance * n)
            for kind in range(2) for action in range(3)
            for reward, chance in ((1.0, APPROVAL[kind, action]), (0.0, 1 - APPROVAL[kind, action]))]
    counts = [round(row[3]) for row in rows]
    assert sum(counts) == n
    assert all(abs(count - row[3]) < 1e-6 for count, row in zip(counts, rows, strict=True))
    kind, action, reward = (np.repeat([row[i] for row in rows], counts) for i in range(3))
    return kind.astype(np.int64), action.astype(np.int64), reward


def drawn_world(n: int, seed: int) -> tuple[Ints, Ints, Floats]:
    rng = np.random.default_rng(seed)
    kind = (rng.uniform(size=n) < KINDS[1]).astype(np.int64)
    action = (rng.uniform(size=n)[:, None] > LOGGED.cumsum(axis=1)[kind][:, :2]).sum(axis=1)
    return kind, action, (rng.uniform(size=n) < APPROVAL[kind, action]).astype(float)


def seen(kind: Ints, action: Ints, reward: Floats, logged: Floats = LOGGED, predicted: Floats = FORETOLD) -> Decisions:
    return Decisions.of(reward, action, logged[kind, action], TARGET[kind], predicted[kind])


def eight() -> Decisions:
    ones = np.ones(8)
    return Decisions(REWARD, WEIGHT, PREDICTED, DIRECT * ones, ones)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_eight_decisions_as_an_independent_program_judges_them(
    name: str, oracle: dict[tuple[str, str], float]
) -> None:
    assert ESTIMATORS[name](eight()).value == pytest.approx(oracle["fixture8", name], abs=1e-12)


def test_errors_and_overlap_of_eight_decisions(oracle: dict[tuple[str, str], float]) -> None:
    overlap = Overlap.of(WEIGHT)
    found = {
        "IPS_se": off_policy.ips(eight()).standard_error,
        "SNIPS_se_delta": off_policy.snips(eight()).standard_error,
        "ESS_Kish": overlap.effective_sample_size,
        "mean_w": overlap.mean_weight,
        "max_w_share": overlap.max_weight_share,
    }
    assert found == pytest.approx({name: oracle["fixture8", name] for name in found}, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in ("SNIPS", "SNDR")])
def test_expectation_and_error_in_a_closed_world(name: str, oracle: dict[tuple[str, str], float]) -> None:
    found = ESTIMATORS[name](seen(*whole_world()))
    assert found.value == pytest.approx(oracle["world2x3_n10000", f"{name}_expectation"], abs=1e-12)
    error = oracle["world2x3_n10000", f"{name}_SE_at_n"]  # of the population: ours divides by n - 1
    assert found.standard_error == pytest.approx(error * math.sqrt(10_000 / 9_999), rel=1e-9)


def test_the_other_figures_of_the_closed_world(oracle: dict[tuple[str, str], float]) -> None:
    decisions = seen(*whole_world())
    own = decisions.reward - decisions.reward.mean()
    errors = {
        "SNIPS_asymptotic_SE_at_n": off_policy.snips(decisions).standard_error,
        "lift_IPS_minus_logged_mean_SE_at_n": (off_policy.ips(decisions).scores - own).std() / 100,
        "lift_DR_minus_logged_mean_SE_at_n": (off_policy.doubly_robust(decisions).scores - own).std() / 100,
        "DR_perfect_q_SE_at_n": off_policy.doubly_robust(seen(*whole_world(), predicted=APPROVAL)).scores.std() / 100,
        "true_value_target": TRUTH,
        "max_weight": Overlap.of(decisions.weight).max_weight,
        "expected_ESS_fraction = 1/E_b[w^2]": Overlap.of(decisions.weight).effective_sample_size / 10_000,
    }
    expected = {name: oracle["world2x3_n10000", name] for name in errors}
    assert errors == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["IPS", "SNIPS", "DR", "SNDR"])
def test_unbiased_with_the_error_it_tells(name: str) -> None:
    found = [ESTIMATORS[name](seen(*drawn_world(2_000, seed))) for seed in range(300)]
    z = np.array([(one.value - TRUTH) / one.standard_error for one in found])
    assert abs(z.mean()) < 4 / math.sqrt(300)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 299) / 299
    assert low < z.var(ddof=1) < high * 1.1  # t-like tails of estimated errors


def test_doubly_robust_is_right_where_either_half_is() -> None:
    kind, action, reward = whole_world()
    wrong_logged, wrong_predicted = np.full((2, 3), 1 / 3), np.full((2, 3), 0.5)
    by_propensity = off_policy.doubly_robust(seen(kind, action, reward, predicted=wrong_predicted))
    by_reward = off_policy.doubly_robust(seen(kind, action, reward, wrong_logged, APPROVAL))
    by_neither = off_policy.doubly_robust(seen(kind, action, reward, wrong_logged, wrong_predicted))
    assert by_propensity.value == pytest.approx(TRUTH, abs=1e-12)
    assert by_reward.value == pytest.approx(TRUTH, abs=1e-12)
    assert abs(by_neither.value - TRUTH) > 0.05


def test_a_constant_added_to_rewards_is_added_to_snips_and_not_to_ips() -> None:
    kind, action, reward = drawn_world(500, 1)
    plain, raised = seen(kind, action, reward), seen(kind, action, reward + 3)
    assert off_policy.snips(raised).value == pytest.approx(off_policy.snips(plain).value + 3, abs=1e-12)
    assert off_policy.snips(raised).standard_error == pytest.approx(off_policy.snips(plain).standard_error, rel=1e-9)
    assert off_policy.ips(raised).value == pytest.approx(off_policy.ips(plain).value + 3 * plain.weight.mean())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_scores_average_to_the_value(name: str) -> None:
    found = ESTIMATORS[name](seen(*drawn_world(500, 2)))
    assert found.scores.mean() == pytest.approx(found.value, abs=1e-12)


@pytest.mark.parametrize("name", ["IPS", "SNIPS", "DR", "SNDR"])
def test_payments_that_a_policy_does_not_send_earn_nothing(name: str) -> None:
    kind, action, reward = whole_world()
    target = np.where(kind[:, None] == 0, TARGET[0], 0.0)
    decisions = Decisions.of(reward, action, LOGGED[kind, action], target, FORETOLD[kind])
    assert ESTIMATORS[name](decisions).value == pytest.approx(0.7 * (TARGET[0] @ APPROVAL[0]), abs=1e-12)


@pytest.mark.parametrize("name", ["IPS", "SNIPS", "DR", "SNDR"])
def test_a_policy_that_follows_history_earns_what_history_did(name: str) -> None:
    kind, action, reward = drawn_world(500, 3)
    decisions = Decisions.of(reward, action, LOGGED[kind, action], TARGET[kind], FORETOLD[kind], np.full(500, True))
    found = ESTIMATORS[name](decisions)
    assert found.value == pytest.approx(reward.mean())
    assert found.scores - found.value == pytest.approx(reward - reward.mean())


def test_what_was_impossible_cannot_have_been_logged() -> None:
    with pytest.raises(ValueError, match="propensity"):
        Decisions.of(np.ones(2), np.zeros(2, dtype=np.int64), np.array([0.5, 0.0]), np.ones((2, 1)), np.ones((2, 1)))


def test_effective_sample_size() -> None:
    assert off_policy.effective_sample_size(np.full(7, 3.0)) == pytest.approx(7)
    assert off_policy.effective_sample_size(np.array([5.0, 0, 0, 0])) == pytest.approx(1)
    assert off_policy.effective_sample_size(np.zeros(3)) == 0


def test_the_error_of_scores_that_hang_together() -> None:
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(400), 25)
    together = rng.standard_normal(400)[cluster] * 0.5 + rng.standard_normal(10_000)
    expected = math.sqrt((0.25 + 1 / 25) / 400)
    relative = 1 / math.sqrt(2 * 399)  # standard error of a standard deviation from 400 clusters
    assert off_policy.clustered_error(together, cluster) == pytest.approx(expected, rel=4 * relative)
    alone = off_policy.clustered_error(together, np.arange(10_000))
    assert alone == pytest.approx(together.std(ddof=1) / 100, rel=1e-9)
    assert math.isnan(off_policy.clustered_error(together, np.zeros(10_000, dtype=np.int64)))


# --- propensities and rewards from the data


def confounded(n: int, seed: int) -> tuple[dict[str, Ints], Ints, Floats, Ints, Floats, Floats]:
    """A router that goes by brand and bank, both of which matter to approval; a BIN that tells both; and noise."""
    rng = np.random.default_rng(seed)
    brand, bank, noise = rng.integers(0, 3, n), rng.integers(0, 4, n), rng.integers(0, 12, n)
    b_share = np.where(brand == 2, 0.0, np.array([0.15, 0.3, 0.5, 0.75])[bank])
    action = np.where(brand == 2, 2, (rng.uniform(size=n) < b_share).astype(np.int64))
    propensity = np.column_stack([np.where(brand == 2, 0, 1 - b_share), b_share, brand == 2])
    base = 0.9 - 0.1 * bank
    reward_of = np.column_stack([base, base + 0.03, base])
    reward = (rng.uniform(size=n) < reward_of[np.arange(n), action]).astype(float)
    fields = {"card_brand": brand, "bank": bank, "card_bin": (brand * 4 + bank) * 5 + rng.integers(0, 5, n),
              "noise": noise}
    return fields, action, reward, rng.integers(0, 5, n), propensity, reward_of


def test_the_columns_that_the_router_goes_by_are_found() -> None:
    fields, action, reward, fold, propensity, reward_of = confounded(20_000, 5)
    found = cross_fit(fields, action, reward, 3, fold)
    assert set(found.choice_fields) == {"card_brand", "bank"}
    assert np.abs(found.propensity - propensity).max() < 4 * math.sqrt(0.25 / (20_000 / 12 * 0.8))
    assert np.abs(found.reward - reward_of)[:, :2][propensity[:, 1] > 0].mean() < 0.02
    assert (found.supported == (propensity > 0)).all()


def test_each_payment_is_predicted_from_the_others() -> None:
    fields, action, reward, fold, _, _ = confounded(4_000, 6)
    changed = np.flatnonzero((fold == 2) & (reward == 1))[:10]
    other = reward.copy()
    other[changed] = 0.0  # so few that the cells stay as they are
    plain, moved = cross_fit(fields, action, reward, 3, fold), cross_fit(fields, action, other, 3, fold)
    assert plain.reward_fields == moved.reward_fields
    assert plain.reward[fold == 2] == pytest.approx(moved.reward[fold == 2], abs=1e-12)
    assert (np.abs(plain.reward - moved.reward)[fold != 2].max(axis=1) > 1e-6).all()


def test_the_lift_is_right_where_raw_rates_are_not() -> None:
    z, raw = [], []
    for seed in range(40):
        fields, action, reward, fold, propensity, reward_of = confounded(3_000, 100 + seed)
        split = propensity[:, 1] > 0
        found = cross_fit(fields, action, reward, 3, fold)
        rows = np.flatnonzero(split)
        target = np.tile([0.0, 1.0, 0.0], (len(rows), 1))
        of_row = found.propensity[rows, action[rows]]
        estimate = off_policy.doubly_robust(
            Decisions.of(reward[rows], action[rows], of_row, target, found.reward[rows]))
        truth = reward_of[rows, 1].mean()
        z.append((estimate.value - truth) / estimate.standard_error)
        raw.append(reward[rows][action[rows] == 1].mean() - truth)
    assert abs(np.mean(z)) < 4 / math.sqrt(40)
    assert 0.5 < np.std(z, ddof=1) < 1.4
    assert np.mean(raw) < -0.02  # B got the banks that approve less


# --- the check in a run

ROUTES = """\
  elavon:
    like: legacy
    route:
      - {when: {card_brand: amex}, to: [Amex]}
      - {when: {currency: MXN}, to: [Elavon, MIT, Worldpay]}
      - {when: {currency: USD}, to: {split: {Worldpay: 72, Elavon: 28}, by: customer_id, then: [MIT]}}
      - {to: [Worldpay]}
  history: logged
  watchful: {like: elavon, failover: {circuit_breaker: {per: [processor], consecutive_timeouts: 2, open_for: 15m,
             probes: 1}}}
"""


def choices(small: Small, folder: Path) -> tuple[dict[str, FirstChoices], Trace, list[str]]:
    prepared = small.prepare(folder, text=_with_routes())
    trace, study = prepared.study.trace, prepared.study
    terms = {name: p.terms(name) for name, p in assumed_processors(study.scenario, study.model.model).items()}
    rows = np.arange(len(trace))
    made = {name: first_choices(make(), trace, rows, terms, sorted(terms), 5)
            for name, make in study.factories.items()}
    return made, trace, sorted(terms)


def _with_routes() -> str:
    return SCENARIO + ROUTES


def column(trace: Trace, name: str) -> Any:
    return np.array(trace.table[name].to_pylist(), dtype=object)


def test_what_each_policy_does_first(small: Small, tmp_path: Path) -> None:
    made, trace, names = choices(small, tmp_path)
    amex, currency = column(trace, "card_brand") == "amex", column(trace, "currency")
    mxn: Bools = (currency == "MXN") & ~amex
    usd: Bools = (currency == "USD") & ~amex
    assert made["history"].follows[~amex & mxn].all()
    assert made["legacy"].follows[mxn].all()
    assert not made["legacy"].follows[usd].any()
    assert made["legacy"].target[usd] == pytest.approx(np.tile(
        [{"Worldpay": 0.72, "Elavon": 0.28}.get(name, 0.0) for name in names], (int(usd.sum()), 1)))
    assert (made["elavon"].target[mxn, names.index("Elavon")] == 1).all()
    assert not made["elavon"].follows[mxn].any()
    assert (made["legacy"].target[amex, names.index("Amex")] == 1).all()
    assert made["watchful"].target == pytest.approx(made["elavon"].target)


def test_a_run_tells_the_check_beside_the_simulated_lift(small: Small, tmp_path: Path) -> None:
    prepared = small.prepare(tmp_path, "trace.from=2026-01-08T00:00:00", "log=none", text=_with_routes())
    folder = run(prepared, tmp_path / "out", workers=1)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    check = summary["off_policy"]
    found = check["policies"]["elavon"]
    assert check["seen_by_model"] is True  # the small model was calibrated on all six days
    assert found["verdict"] in ("agrees", "too thin")
    lift = summary["policies"]["elavon"]["first_attempt_lift_pp"]
    assert found["simulated"] == {key: lift[key] for key in ("value", "low", "high")}
    assert set(found["estimates"]) == {"IPS", "SNIPS", "clipped IPS", "DM", "DR", "SNDR", "Switch-DR", "DRos"}
    assert 0 < found["effective_sample_size"] < found["changed"]
    assert check["policies"]["three_attempts"]["verdict"] == "same first choices"
    assert found["estimates"] == check["policies"]["watchful"]["estimates"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Against history&#39;s own outcomes" in page or "Against history's own outcomes" in page
    assert "calibrated on some of this same window" in " ".join(page.split())


def test_the_check_goes_by_the_outcomes_that_history_logged(small: Small, tmp_path: Path) -> None:
    prepared = small.prepare(tmp_path, text=_with_routes())
    scenario = prepared.study.scenario
    history = read_history(scenario.trace_source, scenario.trace.profile, scenario.trace.from_)
    attempts = history.log.attempts
    refused = attempts.set_column(attempts.schema.get_field_index("outcome"), "outcome",
                                  [["declined"] * attempts.num_rows])
    told = judge_by_history(prepared.study, AttemptLog(history.log.payments, refused))
    assert told["policies"]["elavon"]["estimates"]["DR"]["value"] == pytest.approx(0, abs=1e-9)


# --- the verdict


def estimated(value: float, half: float, **changes: Any) -> dict[str, Any]:
    one = {"value": value, "low": value - half, "high": value + half}
    return {"changed": 500, "changed_share": 0.5, "unsupported_share": 0.0, "effective_sample_size": 200.0,
            "estimates": dict.fromkeys(("DR", "SNIPS", "IPS", "DM", "Switch-DR"), one), "clipping": {}} | changes


def verdict(found: dict[str, Any], value: float, half: float | None, assumed: bool = False, others: int = 0) -> str:
    names = ["p", *(f"other{i}" for i in range(others))]
    low, high = (None, None) if half is None else (value - half, value + half)
    simulated = {name: {"value": value, "low": low, "high": high} for name in names}
    check = {"assumed": assumed, "policies": {name: found for name in names}}
    return str(judged(check, simulated)["policies"]["p"]["verdict"])


def test_they_disagree_where_they_lie_farther_apart_than_their_errors() -> None:
    assert verdict(estimated(0.0, 0.4), 0.49, 0.3) == "agrees"
    assert verdict(estimated(0.0, 0.4), 0.51, 0.3) == "disagrees"  # sqrt(0.4² + 0.3²) = 0.5
    assert verdict(estimated(0.0, 0.4), 0.51, 0.3, others=1) == "agrees"  # 2.24 / 1.96 wider for a family of two
    assert verdict(estimated(0.0, 0.4), 0.58, 0.3, others=1) == "disagrees"
    assert verdict(estimated(0.0, 0.4), 0.41, None) == "disagrees"


@pytest.mark.parametrize(("changes", "expected"), [
    ({"unsupported_share": 0.06}, "no support"),
    ({"effective_sample_size": 49.0}, "too thin"),
    ({"estimates": {}}, "too thin"),
    ({"changed": 0, "estimates": {}}, "same first choices"),
])
def test_what_cannot_be_judged_is_not(changes: dict[str, Any], expected: str) -> None:
    assert verdict(estimated(0.0, 0.1, **changes), 5.0, 0.1) == expected


def test_a_assumed_world_is_not_judged_by_history() -> None:
    assert verdict(estimated(0.0, 0.1), 5.0, 0.1, assumed=True) == "assumed world"


def test_the_reader_is_told_first() -> None:
    check = {"assumed": False, "policies": {
        "wrong": estimated(-1.0, 0.2), "untried": estimated(0.0, 0.2, unsupported_share=0.62),
        "right": estimated(1.0, 0.2)}}
    simulated = {name: {"value": 1.0, "low": 0.9, "high": 1.1} for name in ("wrong", "untried", "right")}
    said = alarms(judged(check, simulated))
    assert [one.split(":")[0] for one in said] == ["wrong", "untried"]
    assert "disagree beyond their errors" in said[0]
    assert "+1.00 pp" in said[0]
    assert "no support for 62 %" in said[1]
