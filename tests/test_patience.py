"""Customers who are gone when a payment is tried again, and retries that need a card on file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from routesim.reports.metrics.measure import measure
from routesim.scenarios.document.loading import load_scenario, resolved
from routesim.scenarios.running.assumptions import assumed_world, in_words
from routesim.scenarios.running.replicate import Study, replicate
from routesim.sim.customers import CUSTOMER_GONE, NO_STORED_CREDENTIAL, Customers, Patience
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel, World
from tests import logs
from tests.small import Small
from tests.worlds import InOrder, model_of, poisson_arrivals, simulate, trace_of

N, H = 6_000, 3600.0
PATIENCE = Patience(6 * H, 1.0)


def declining() -> Any:
    return model_of(["A", "B"], approval={"intercept": -100.0})


def gone(policy: InOrder, seed: int = 1, patience: Patience = PATIENCE, **columns: Any) -> set[str]:
    """The payments that had fewer attempts than the policy makes, each counted as gone once."""
    trace = trace_of(poisson_arrivals(0.05, N, seed=2), card_brand=None, **columns)
    done = simulate(trace, declining(), policy, seed, outages=[], customers=Customers(patience))
    made = done.log.attempts["payment_id"].to_pandas().value_counts()
    short = set(made.index[made < policy.attempts])
    assert done.refusals[CUSTOMER_GONE] == len(short)
    assert set(done.refusals) <= {CUSTOMER_GONE}
    return short


@pytest.mark.parametrize("delay_h", [1.0, 6.0, 24.0])
@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_share_that_is_gone_is_the_lognormals(delay_h: float, sigma: float) -> None:
    found = len(gone(InOrder(("A",), 2, delay_h * H), patience=Patience(6 * H, sigma))) / N
    expected = stats.lognorm.cdf(delay_h * H + 1.0, sigma, scale=6 * H)  # the first answer takes a second
    assert abs(found - expected) < 3 * np.sqrt(expected * (1 - expected) / N)


def test_the_same_customers_are_gone_under_every_policy() -> None:
    after_6h = gone(InOrder(("A",), 2, 6 * H))
    # By way of other processors and more attempts, the last of them at (nearly) the same time.
    assert len(after_6h ^ gone(InOrder(("B", "A"), 3, 3 * H - 0.5))) == 0
    assert gone(InOrder(("A",), 2, 2 * H)) < after_6h < gone(InOrder(("A",), 2, 20 * H))
    assert len(after_6h & gone(InOrder(("A",), 2, 6 * H), seed=2)) < 0.6 * len(after_6h)  # other luck, other customers


def test_nobody_waits_for_a_merchants_own_payment() -> None:
    kinds = ["CIT", "MIT", "unknown"] * (N // 3)
    told = {f"p{i:07d}": kind for i, kind in enumerate(kinds)}
    policy = InOrder(("A",), 2, 6 * H)
    assert {told[each] for each in gone(policy, initiator=kinds)} == {"CIT", "unknown"}
    only = Patience(6 * H, 1.0, frozenset(("CIT",)))
    assert {told[each] for each in gone(policy, patience=only, initiator=kinds)} == {"CIT"}


@pytest.mark.parametrize(("initiator", "on_file", "delay_s", "made"), [
    ("CIT", True, 24 * H, 3), ("CIT", False, 24 * H, 1), ("CIT", None, 24 * H, 1), ("unknown", None, 24 * H, 1),
    ("MIT", None, 24 * H, 3), ("CIT", False, 899.0, 3), ("CIT", False, 900.0, 1),
])
def test_a_delayed_retry_needs_a_card_on_file(initiator: str, on_file: bool | None, delay_s: float, made: int) -> None:
    times = [0.1, 7.77, 1234.5678]  # a wait of 15 minutes is one, however the sum is rounded
    trace = trace_of(times, initiator=initiator, stored_credential=on_file, card_brand=None)
    for customers, each in ((Customers(needs_credential=True), made), (None, 3)):
        done = simulate(trace, declining(), InOrder(("A",), 3, delay_s), customers=customers)
        assert done.log.attempts.num_rows == 3 * each
        assert dict(done.refusals) == ({} if each == 3 else {NO_STORED_CREDENTIAL: 3})
        figures = measure(done.log, outages=logs.outages(), fees={}, refusals=done.refusals).figures
        delayed = initiator != "MIT" and delay_s >= 900 and each == 3
        assert figures["delayed_retries"] == (6 if delayed else 0)
        assert figures["rule_breaches"] == (0 if each == 3 else 3)


def test_retries_behind_a_delay_are_counted_and_customers_gone_are_no_breach() -> None:
    of = logs.log(
        [logs.payment("p1"), logs.payment("p2", 1, initiator="MIT"), logs.payment("p3", 2, initiator="unknown")],
        [logs.attempt("p1", 1, "A", 0, 1, "declined"), logs.attempt("p1", 2, "A", 4, 1, "declined"),
         logs.attempt("p1", 3, "A", 905, 1, "declined"), logs.attempt("p1", 4, "A", 910, 1, "approved"),
         logs.attempt("p2", 1, "A", 1, 1, "declined"), logs.attempt("p2", 2, "A", 9_000, 1, "approved"),
         logs.attempt("p3", 1, "A", 9_000, 1, "declined"), logs.attempt("p3", 2, "A", 9_003, 1, "declined")])
    refusals = {CUSTOMER_GONE: 4, NO_STORED_CREDENTIAL: 2}
    found = measure(of, outages=logs.outages(), fees={}, refusals=refusals).figures
    assert found["delayed_retries"] == 3  # p1's third and fourth, and p3's second: its first is late, but no retry
    assert found["customers_gone"] == 4
    assert found["rule_breaches"] == 2


# --- the scenario


def scenario(folder: Path, world: str, rest: str = "") -> Any:
    path = folder / "s.yaml"
    path.write_text(f"scenario: s\nmodel: m\ntrace: {{source: h}}\nbaseline: a\nworld: {world}\n{rest}\n"
                    "policies: {a: {route: [{to: [A]}]}}\n", encoding="utf-8")
    return load_scenario(path)


def test_a_scenario_assumes_and_tells_it(tmp_path: Path) -> None:
    told = scenario(tmp_path, "{patience: {median: 6h, sigma: 0.8, initiators: [CIT]}, stored_credential: required, "
                              "processors: {A: {late_approvals: 0.3}}}", "network_rules: priced")
    known = assumed_world(told, World(declining()), trace_of([0.0]))
    assert known.customers == Customers(Patience(6 * H, 0.8, frozenset(("CIT",))), needs_credential=True)
    assert known.network_rules == "priced"
    assert known.decisions.world.model.processors["A"].late_approval_share == 0.3
    assert known.decisions.world.model.processors["B"].late_approval_share == 0.0
    words = "\n".join(in_words(told))
    for said in ("late_approvals", "half of the customers of CIT payments are gone after 6h", "stored credential",
                 "network's limit"):
        assert said in words
    (tmp_path / "again.yaml").write_text(resolved(told), encoding="utf-8")
    assert load_scenario(tmp_path / "again.yaml").world == told.world


def test_left_out_nothing_is_assumed_and_the_rules_are_enforced(tmp_path: Path) -> None:
    told = scenario(tmp_path, "{}")
    known = assumed_world(told, World(declining()), trace_of([0.0]))
    assert (known.customers, known.network_rules, in_words(told)) == (None, "enforce", [])
    assert scenario(tmp_path, "{}", "network_rules: off").network_rules == "off"


@pytest.mark.parametrize(("world", "rest", "said"), [
    ("{patience: {median: 6}}", "", "world.patience.median"),
    ("{patience: {sigma: 1.0}}", "", "world.patience"),
    ("{patience: {median: 6h, sigma: 0}}", "", "world.patience.sigma"),
    ("{patience: {median: 6h, initiators: [MIT]}}", "", "world.patience.initiators"),
    ("{stored_credential: yes please}", "", "world.stored_credential"),
    ("{processors: {A: {late_approvals: 1.5}}}", "", "late_approvals"),
    ("{}", "network_rules: sometimes", "network_rules"),
])
def test_bad_input_is_told_in_a_line(tmp_path: Path, world: str, rest: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as told:
        scenario(tmp_path, world, rest)
    assert "\n" not in str(told.value)


def test_a_replication_lives_by_what_is_assumed(tmp_path: Path) -> None:
    """All the way from the scenario's words to the figures."""
    told = scenario(tmp_path, "{patience: {median: 6h}, stored_credential: required}", "network_rules: priced")
    policy = told.policies["a"].model_validate({"route": [{"to": ["A"]}], "retry": [
        {"after": "soft", "max_attempts": 23, "delay": "1h", "next": "same"}]})
    told = told.model_copy(update={"policies": {"a": policy}, "outages": told.outages.model_copy(
        update={"base": "none"})})
    trace = trace_of(poisson_arrivals(0.05, 300, seed=2), stored_credential=[i % 3 != 0 for i in range(300)],
                     initiator=["MIT" if i % 3 == 1 else "CIT" for i in range(300)])
    found = replicate(Study(told, CalibratedModel(declining()), trace.table, None, ()), 0, 0, None)
    figures = found.measured["a"].figures
    # Of the hundred without a card on file 3.7 % are gone before their first retry, and the others are refused it; of
    # the hundred with one 9.7 % are still there after 22 hours. Within three standard errors.
    assert figures["rule_breaches"] == pytest.approx(96.3, abs=5.7)
    assert figures["rule_breaches"] + figures["customers_gone"] == pytest.approx(190.3, abs=8.9)
    # The merchant's own go on to the end: two reattempts beyond Visa's twenty each; hardly a customer does.
    assert figures["network_breaches"] == pytest.approx(200 + 2 * 9.7, abs=2 * 8.9 + 3)
    assert figures["network_fees_usd"] == figures["cost_usd"] == pytest.approx(0.10 * figures["network_breaches"])


def test_a_trace_that_does_not_tell_who_has_a_card_on_file_is_warned_of(small: Small, tmp_path: Path) -> None:
    said = "the card is on file"
    warnings = small.prepare(tmp_path, "world.stored_credential=required").manifest["warnings"]
    assert any(said in warning for warning in warnings)
    assert not any(said in warning for warning in small.prepare(tmp_path).manifest["warnings"])
