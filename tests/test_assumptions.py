"""What a scenario assumes happens in the simulated world: as much as it says, where it says, and nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.running.assumptions import assumed_world, in_words, outages_of, traffic
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine
from routesim.sim.errors import BadInput
from routesim.sim.model import Model, World
from routesim.sim.trace import Trace
from tests.worlds import START, InOrder, model_of, poisson_arrivals, trace_of

N = 12_000
STANDARD_ERRORS = 3
BANKS = ("bank a", "bank b")

_serial = itertools.count()


def scenario(folder: Path, world: str = "{}", rest: str = "") -> Scenario:
    path = folder / f"scenario{next(_serial)}.yaml"
    path.write_text(f"scenario: assumed\nseed: 3\nmodel: m\ntrace: {{source: h}}\nbaseline: a\nworld: {world}\n{rest}"
                    "policies: {a: {route: [{to: [A]}]}}\n", encoding="utf-8")
    return load_scenario(path)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return trace_of(poisson_arrivals(0.5, N, seed=4).tolist(), bank=[BANKS[i % 2] for i in range(N)])


@pytest.fixture(scope="module")
def model() -> Model:
    """Two processors alike but for latency; accounts may be empty, and payments differ in what nobody sees."""
    latency = {"approved": {"family": "lognormal", "median": 1100.0, "sigma": 0.5}}
    return model_of(
        {"A": {"latency": latency, "timeout_s": 60.0}, "B": {"latency": latency, "timeout_s": 60.0}},
        approval={"intercept": 1.5, "terms": [{"by": ["bank"], "effects": {"bank a": 0.4, "bank b": -0.4}}]},
        frailty_sd=1.2, blocks={"funds": {"codes": {"51": 1.0}, "odds": {"intercept": -2.0}}})


def attempts(told: Scenario, model: Model, trace: Trace, ranks: Sequence[str] = ("A",), number: int | None = None,
             tries: int = 1) -> pd.DataFrame:
    """Attempts in order of payment, in the world as the scenario assumes it."""
    known = assumed_world(told, World(model, told.seed, number), trace)
    engine = Engine(trace, known.decisions, InOrder(tuple(ranks), tries), Luck(told.seed), (), known.changes)
    found: pd.DataFrame = engine.run().log.attempts.to_pandas()
    return found.sort_values(["payment_id", "attempt_number"], ignore_index=True)


def approved(found: pd.DataFrame) -> Any:
    return (found["outcome"] == "approved").to_numpy()


def assert_moved(moved: pd.DataFrame, plain: pd.DataFrame, by_pp: float) -> None:
    """Approval of the same payments differs by ``by_pp``, within standard errors of the paired difference."""
    difference = 100.0 * (approved(moved).astype(float) - approved(plain))
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    assert 0 < error < 1
    assert difference.mean() == pytest.approx(by_pp, abs=STANDARD_ERRORS * error)


# --- approval


def test_a_new_processor_is_as_good_as_the_one_it_is_like(tmp_path: Path, trace: Trace, model: Model) -> None:
    told = scenario(tmp_path, "{processors: {New: {like: A}}}")
    assert_moved(attempts(told, model, trace, ["New"]), attempts(told, model, trace, ["A"]), 0.0)


@pytest.mark.parametrize("pp", [-1.0, -10.0, 2.0])
def test_approval_moves_by_as_many_points_as_assumed(tmp_path: Path, trace: Trace, model: Model, pp: float) -> None:
    plain = scenario(tmp_path, "{processors: {New: {like: A}}}")
    moved = scenario(tmp_path, f"{{processors: {{New: {{like: A, approval_pp: {{mean: {pp}}}}}}}}}")
    assert_moved(attempts(moved, model, trace, ["New"]), attempts(plain, model, trace, ["New"]), pp)
    assert attempts(moved, model, trace, ["A"]).equals(attempts(plain, model, trace, ["A"]))


def test_what_is_not_known_of_approval_differs_from_world_to_world(tmp_path: Path, trace: Trace,
                                                                    model: Model) -> None:
    told = scenario(tmp_path, "{processors: {A: {approval_pp: {mean: -2, sd: 1}}}}")
    base = assumed_world(scenario(tmp_path), World(model), trace).decisions.approval_logits("A").mean()
    shifts = [assumed_world(told, World(model, told.seed, number), trace).decisions.approval_logits("A").mean() - base
              for number in range(40)]
    per_pp = (assumed_world(told, World(model), trace).decisions.approval_logits("A").mean() - base) / -2
    drawn_pp = np.array(shifts) / per_pp  # the logit is near enough to a line within a few points
    assert drawn_pp.mean() == pytest.approx(-2, abs=STANDARD_ERRORS / np.sqrt(40) + 0.1)
    assert 0.6 < drawn_pp.std(ddof=1) < 1.4  # chi-squared with 39 degrees of freedom, beyond 3 standard errors


def test_approval_that_no_probability_can_make_is_refused(tmp_path: Path, trace: Trace, model: Model) -> None:
    for pp in (-95, 60):
        told = scenario(tmp_path, f"\n  processors:\n    A: {{approval_pp: {pp}}}")
        with pytest.raises(BadInput, match=r"^scenario\d+.yaml:8: world.processors.A.approval_pp: .* out of reach"):
            assumed_world(told, World(model), trace)


def test_a_change_holds_from_its_time_until_its_end_and_for_whom_it_is_meant(tmp_path: Path, trace: Trace,
                                                                             model: Model) -> None:
    at, until = START + 6000, START + 18_000
    moments = [pd.Timestamp(t, unit="s").isoformat() for t in (at, until)]
    told = scenario(tmp_path, f"{{changes: [{{at: '{moments[0]}', until: '{moments[1]}', processor: A, "
                              "when: {bank: bank a}, approval_pp: -8}]}")
    plain, moved = (attempts(s, model, trace) for s in (scenario(tmp_path), told))
    sent = plain["sent_at"].map(pd.Timestamp.timestamp)
    meant = (sent >= at) & (sent < until) & (np.arange(N) % 2 == 0)
    assert meant.sum() > 2000
    assert_moved(moved[meant], plain[meant], -8)
    assert moved[~meant].equals(plain[~meant])
    assert attempts(told, model, trace, ["B"]).equals(attempts(scenario(tmp_path), model, trace, ["B"]))


# --- terms


def test_latency_is_multiplied(tmp_path: Path, trace: Trace, model: Model) -> None:
    plain = attempts(scenario(tmp_path), model, trace)
    slow = attempts(scenario(tmp_path, "{processors: {A: {latency: {factor: 2}}}}"), model, trace)
    quick = plain["latency_ms"] < 29_000
    assert slow.loc[quick, "latency_ms"].to_numpy() == pytest.approx(2 * plain.loc[quick, "latency_ms"].to_numpy(),
                                                                    abs=0.01)
    assert (approved(slow) == approved(plain))[quick].all()


def test_a_timeout_cuts_what_takes_longer(tmp_path: Path, trace: Trace, model: Model) -> None:
    plain = attempts(scenario(tmp_path), model, trace)
    hasty = attempts(scenario(tmp_path, "{processors: {A: {timeout: 1500ms}}}"), model, trace)
    late = plain["latency_ms"] > 1500
    assert 0.1 < late.mean() < 0.9
    assert ((hasty["outcome"] == "timeout") == late).all()
    assert hasty.loc[late, "latency_ms"].to_numpy() == pytest.approx(1500, abs=0.01)
    assert hasty[~late].equals(plain[~late])


def test_capacity_bounds_what_is_under_way(tmp_path: Path, trace: Trace, model: Model) -> None:
    told = scenario(tmp_path, "{processors: {A: {capacity: {concurrent: 1}}}}")
    found = attempts(told, model, trace).sort_values("sent_at")
    full = found["decline_code"] == "96"
    assert 0.1 < full.mean() < 0.9
    served = found[~full]
    assert (served["sent_at"].iloc[1:].to_numpy() >= served["answered_at"].iloc[:-1].to_numpy()).all()


def test_fees_and_what_is_taken_replace_the_models_and_the_rest_stays(tmp_path: Path, trace: Trace,
                                                                      model: Model) -> None:
    told = scenario(tmp_path, "{processors: {A: {fee: {fixed_usd: 0.10}, currencies: [usd]}, "
                              "New: {like: A, fee: {percent_bps: 50}, card_brands: [VISA]}}}")
    changed = assumed_world(told, World(model), trace).decisions.world.model.processors
    assert (changed["A"].fee.fixed_usd, changed["A"].fee.percent_bps) == (0.10, 0.0)
    assert (changed["New"].fee.fixed_usd, changed["New"].fee.percent_bps) == (0.10, 50.0)  # like A as it is assumed
    assert changed["A"].currencies == changed["New"].currencies == ["USD"]
    assert changed["New"].card_brands == ["visa"]
    assert changed["B"] == model.processors["B"]
    assert model.processors["A"].fee.fixed_usd == 0.0  # the model itself is not touched


def test_what_is_like_a_changed_processor_takes_its_changes_once(tmp_path: Path, trace: Trace, model: Model) -> None:
    told = scenario(tmp_path, "{processors: {A: {latency: {factor: 2}, approval_pp: -5}, New: {like: A}, "
                              "Newer: {like: New, latency: {factor: 3}, approval_pp: -3}}}")
    known = assumed_world(told, World(model), trace).decisions
    factors = {name: processor.latency.factor for name, processor in known.world.model.processors.items()}
    assert factors == {"A": 2.0, "B": 1.0, "New": 2.0, "Newer": 6.0}
    assert known.approval_logits("New") == pytest.approx(known.approval_logits("A"))
    plain = scenario(tmp_path, "{processors: {Newer: {like: A}}}")
    assert_moved(attempts(told, model, trace, ["Newer"]), attempts(plain, model, trace, ["Newer"]), -8)


def test_a_known_processor_may_become_like_another(tmp_path: Path, trace: Trace, model: Model) -> None:
    slow = model.model_copy(update={"processors": model.processors | {
        "B": model.processors["B"].model_copy(update={"timeout_s": 5.0})}})
    known = assumed_world(scenario(tmp_path, "{processors: {B: {like: A}}}"), World(slow), trace).decisions
    assert known.world.model.processors["B"] == slow.processors["A"]


def test_everything_assumed_is_said(tmp_path: Path) -> None:
    told = scenario(tmp_path, "{processors: {New: {like: A, approval_pp: -1}}, arrivals: {factor: 2}, "
                              "changes: [{at: 2026-01-05T12:00:00, processor: A, approval_pp: -8}]}",
                    "outages: {base: none, add: [{processors: [B], start: 2026-01-05T01:00:00, duration: 1h}]}\n")
    words = in_words(told)
    assert len(words) == 5
    for said in ("New is a processor like A", "-8 pp from 2026-01-05 12:00", "traffic is 2 times", "outages: none",
                 "an outage of B (down, loss 1)"):
        assert sum(said in line for line in words) == 1
    assert in_words(scenario(tmp_path)) == []


def test_added_outages_join_those_of_the_model(tmp_path: Path, model: Model) -> None:
    told = scenario(tmp_path, rest="outages: {add: [{processors: [A, B], start: 2026-01-05T01:00:00, duration: 90m, "
                                   "kind: partial, loss: 0.4, code: '91'}]}\n")
    found = outages_of(told, model, Luck(3), (), START, START + 86_400)
    assert [(o.processor, o.kind, o.start - START, o.end - START, o.loss, o.code) for o in found] == [
        (name, "partial", 3600.0, 9000.0, 0.4, "91") for name in ("A", "B")]


# --- traffic


@pytest.fixture(scope="module")
def orders() -> Trace:
    """Every third order has a second payment, an hour after the first."""
    first = [60.0 * i for i in range(4000)]
    second = [60.0 * i + 3600 for i in range(0, 4000, 3)]
    names = [f"p{i}" for i in range(4000)]
    return trace_of([*first, *second], payment_id=[*names, *(f"{names[i]}b" for i in range(0, 4000, 3))],
                    order_id=[*(f"o{i}" for i in range(4000)), *(f"o{i}" for i in range(0, 4000, 3))],
                    previous_payment_id=[*[None] * 4000, *(names[i] for i in range(0, 4000, 3))])


@pytest.mark.parametrize("factor", [0.5, 2, 2.5, 3])
def test_traffic_is_multiplied_by_whole_orders(orders: Trace, factor: float) -> None:
    table = traffic(orders, factor, seed=1).table.to_pandas()
    number = table["order_id"].nunique()
    part = factor % 1
    assert abs(number - 4000 * factor) <= STANDARD_ERRORS * np.sqrt(4000 * part * (1 - part))
    assert table["payment_id"].is_unique
    assert table["arrived_at"].is_monotonic_increasing
    whole = table.groupby("order_id")["payment_id"].count()
    third = whole.index.str.removeprefix("o").str.split("~").str[0].astype(int) % 3 == 0
    assert (whole == np.where(third, 2, 1)).all()


@pytest.mark.parametrize("factor", [0.5, 2.5])
def test_who_comes_back_follows_a_payment_of_the_same_order(orders: Trace, factor: float) -> None:
    more = traffic(orders, factor, seed=1)
    table = more.table.to_pandas()
    later = table[table["previous_payment_id"].notna()]
    forerunner = table.set_index("payment_id").loc[later["previous_payment_id"]]
    assert (forerunner["order_id"].to_numpy() == later["order_id"].to_numpy()).all()
    apart = later["arrived_at"].to_numpy() - forerunner["arrived_at"].to_numpy()
    assert (apart == np.timedelta64(3600, "s")).all()  # all payments of an order move together
    assert (more.forerunner >= 0).sum() == len(later)


def test_the_traces_own_orders_stay_as_they_are(orders: Trace) -> None:
    assert traffic(orders, 1, seed=1) is orders
    doubled = traffic(orders, 2, seed=1).table.to_pandas()
    own = doubled[~doubled["order_id"].str.contains("~")].reset_index(drop=True)
    assert own.equals(orders.table.to_pandas())
    clones = doubled[doubled["order_id"].str.contains("~")]
    apart = clones.assign(payment_id=clones["payment_id"].str.split("~").str[0]).set_index("payment_id")["arrived_at"]
    apart = (apart - own.set_index("payment_id")["arrived_at"]).dt.total_seconds()
    assert apart.abs().max() <= 900
    assert apart.std() == pytest.approx(900 / np.sqrt(3), rel=0.05)


def test_more_traffic_holds_all_of_the_less(orders: Trace) -> None:
    names = [set(traffic(orders, factor, seed=1).table["payment_id"].to_pylist()) for factor in (0.3, 0.5, 1, 1.5, 2.5)]
    assert all(less < more for less, more in itertools.pairwise(names))


def test_traffic_so_thin_that_nothing_is_left_is_refused(orders: Trace, small: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"world.arrivals.factor.*leaves no payment"):
        small.prepare(tmp_path, "world.arrivals.factor=1e-9")
