"""One run against another: what differs is told, paired differences are exact, and bad input ends in one line."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from routesim.policies.vocabulary import Fee
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.metrics.measure import Measured, measure
from routesim.reports.pages.two_runs import html, page_path, row
from routesim.reports.run import folder as run_folder
from routesim.reports.run.comparison import Comparison
from routesim.reports.run.two_runs import independent, paired, read_two
from routesim.reports.run.what_differs import differing
from routesim.reports.statistics.intervals import Interval, interval
from routesim.sim.errors import BadInput
from tests.conftest import Command
from tests.logs import attempt, log, payment
from tests.small import SCENARIO, Small, contents
from tests.test_bad_input import assert_refused

SHORT = SCENARIO.replace("baseline: legacy\n", "baseline: legacy\nlog: none\n")
CUT = ("outages={base: none, add: [{processors: [Worldpay], start: 2026-01-10T12:00:00, duration: 3h, kind: down, "
       "loss: 1.0}]}")
SETTINGS = "policies: {legacy: {message: own}, new: {message: own}}\n"
HASHES = {"model": "a" * 64, "uncertainty": "b" * 64, "trace": "c" * 64}


@dataclass(frozen=True)
class Ran:
    """Folders of real runs: one scenario twice, with an outage added, with another policy, and with another seed."""

    plain: Path
    again: Path
    cut: Path
    patient: Path
    reseeded: Path


@pytest.fixture(scope="module")
def ran(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    from routesim.scenarios.running.runner import run

    folder = tmp_path_factory.mktemp("two_runs")

    def made(name: str, *overrides: str, text: str = SHORT) -> Path:
        return run(small.prepare(folder / f"{name}_scenario", *overrides, text=text), folder / name, workers=1)

    plain = made("plain", "outages.base=none")
    return Ran(plain, shutil.copytree(plain, folder / "again"), made("cut", CUT),
               made("patient", "outages.base=none", text=SHORT.replace("max_attempts: 3", "max_attempts: 2")
                    .replace("  breaker:", "  switch:")),
               made("reseeded", "outages.base=none", "seed=6"))


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[..., Path]:
    """Write a run's folder from chosen values: figures maps (policy, figure) to values of shape (W, K)."""
    figures_of = measure(log([payment("p", 0.0)], [attempt("p", 1, "A", 0.0, 1, "approved")]), fees={"A": Fee()},
                         outages=pa.table({"processor": [], "kind": [], "start": [], "end": []}, schema=pa.schema(
                             [run_folder.OUTAGES.field(name) for name in ("processor", "kind", "start", "end")])))

    def call(name: str, values: Mapping[tuple[str, str], Any], seed: int = 1, baseline: str = "legacy",
             manifest: Mapping[str, Any] | None = None, scenario: str = SETTINGS) -> Path:
        policies = list(dict.fromkeys(policy for policy, _ in values))
        shape = np.shape(next(iter(values.values())))
        measured = {}
        for policy in policies:
            for world, luck in np.ndindex(*shape):
                figures = figures_of.figures | {figure: float(np.asarray(table)[world, luck])
                                                for (who, figure), table in values.items() if who == policy}
                measured[policy, world, luck] = Measured(figures, figures_of.series)
        folder = tmp_path / name
        run_folder.write(folder, Comparison("made_up", seed, baseline, policies, measured),
                         run_folder.OUTAGES.empty_table())
        told = {"hashes": HASHES, "versions": {"numpy": "2"}} if manifest is None else manifest
        (folder / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
        (folder / "scenario.yaml").write_text(scenario, encoding="utf-8")
        return folder

    return call


# --- real runs


def test_a_run_against_itself_differs_in_nothing(command: Command, ran: Ran) -> None:
    ended = command("report", ran.plain, ran.again, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert (found["paired"], found["why_not_paired"], found["differs"]) == (True, [], {})
    assert list(found["policies"]) == ["legacy", "three_attempts", "breaker"]
    assert set(found["policies"]["breaker"]) == set(METRICS)
    measured = 0
    for figures in found["policies"].values():
        for one in figures.values():
            assert one["first"] == one["second"]
            if one["first"]["value"] is not None:
                assert one["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}
                measured += 1
    assert measured > 3 * 25
    page = (ran.plain / "compare_with_again.html").read_text(encoding="utf-8")
    assert "plain and again agree in every figure" in page
    assert "Nothing that is recorded" in page


def test_an_outage_is_told_first_and_found_more_sharply_in_pairs(command: Command, ran: Ran) -> None:
    runs = read_two(ran.cut, ran.plain)
    assert runs.is_paired
    assert any(one.startswith("outages.add: only in cut: [{processors: [Worldpay]") for one in runs.differs["Scenario"])
    assert any("only cut assumes: an outage of Worldpay" in one for one in runs.differs["Assumed, or warned of"])
    for policy in runs.policies:
        one = runs.difference(policy, "approval_rate")
        alone = independent(*(interval(values[policy, "approval_rate"]) for values in runs._values))
        assert one.between.value == pytest.approx(alone.value)
        assert one.between.value is not None
        assert one.between.value < 0
        assert width(one.between) < width(alone)
    ended = command("report", ran.cut, ran.plain, "--out", ran.cut.parent / "page.html")
    assert (ended.code, ended.err) == (0, "")
    assert "outages.add" in ended.out
    assert ended.out.rstrip().endswith(str(ran.cut.parent / "page.html"))
    page = (ran.cut.parent / "page.html").read_text(encoding="utf-8")
    assert page.index("outages.add: only in cut") < page.index("The policies in both")
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_a_policy_changed_and_one_renamed(command: Command, ran: Ran) -> None:
    ended = command("report", ran.plain, ran.patient, "--json", "--out", ran.plain.parent / "patient.html")
    found = json.loads(ended.out)
    assert found["differs"]["Scenario"] == [
        "policies.three_attempts.retry.1.max_attempts: 3 in plain, 2 in patient"]
    assert (found["only_in_first"]["policies"], found["only_in_second"]["policies"]) == (["breaker"], ["switch"])
    assert list(found["policies"]) == ["legacy", "three_attempts"]
    legacy, changed = found["policies"]["legacy"], found["policies"]["three_attempts"]
    assert "lift_pp" not in legacy  # a baseline's lift on itself
    assert all(one["difference"]["value"] in (0.0, None) for one in legacy.values())
    assert changed["attempts_per_payment"]["difference"]["value"] > 0
    # under common draws the third attempt is all that differs, and the baseline is the same: so is lift
    assert changed["lift_pp"]["difference"]["value"] == pytest.approx(
        100 * changed["approval_rate"]["difference"]["value"], abs=1e-6)
    runs = read_two(ran.plain, ran.patient)
    alone = independent(*(interval(values["three_attempts", "approval_rate"]) for values in runs._values))
    assert width(runs.difference("three_attempts", "approval_rate").between) < width(alone)
    page = (ran.plain.parent / "patient.html").read_text(encoding="utf-8")
    assert all(f'<th scope="row">{name}</th>' in page for name in ("breaker", "switch"))


def test_another_seed_is_not_paired(ran: Ran) -> None:
    runs = read_two(ran.plain, ran.reseeded)
    assert runs.why_not_paired == ["their seeds differ"]
    assert runs.differs["Scenario"] == ["seed: 5 in plain, 6 in reseeded"]
    page = html(runs)
    assert "independent estimates, for their seeds differ" in page
    assert "counted twice" in page
    one = runs.difference("legacy", "approval_rate")
    assert (one.between.low or 0) < 0 < (one.between.high or 0)  # one model, one scenario: luck alone lies between


def test_the_same_runs_give_the_same_page(ran: Ran, command: Command, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        assert command("report", ran.cut, ran.plain, "--out", tmp_path / name).code == 0
    digests = contents(tmp_path)
    assert digests["one.html"] == digests["two.html"]
    assert set(digests) == {"one.html", "two.html"}


# --- differences by hand


def width(one: Interval) -> float:
    assert one.low is not None
    assert one.high is not None
    return one.high - one.low


def test_a_paired_difference_by_hand() -> None:
    ours, theirs = np.array([[3.0], [5.0], [10.0]]), np.array([[1.0], [4.0], [4.0]])
    found = paired(ours, theirs)
    # differences 2, 1, 6: mean 3, variance 7; with one luck draw all of it counts as the worlds'
    half = stats.t.ppf(0.975, 2) * math.sqrt(7 + 7 / 3)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 - half, 3 + half))


def test_independent_limits_add_in_squares() -> None:
    ours = Interval(10.0, 7.0, 14.0, 4.0, 16.0, None, None, "worlds and luck")
    theirs = Interval(6.0, 3.0, 10.0, 1.0, 14.0, None, None, "luck")
    found = independent(ours, theirs)
    assert (found.value, found.low, found.high) == pytest.approx((4, 4 - 5, 4 + 5))  # 3² + 4² either way
    assert (found.one_run_low, found.one_run_high) == pytest.approx((4 - 10, 4 + math.hypot(6, 5)))
    assert found.basis == "luck"
    nothing = Interval(6.0, None, None, None, None, None, None, "none")
    assert (independent(ours, nothing).value, independent(ours, nothing).low) == (4.0, None)


def test_independent_intervals_cover() -> None:
    """Of 1,000 differences of independent estimates with worlds and luck, 95 % of the intervals hold the truth; 92 to
    99 % is what the single interval promises."""
    rng = np.random.default_rng(20260104)
    held = 0
    for _ in range(1_000):
        ours, theirs = (interval(rng.normal() + rng.normal(size=(12, 1)) + rng.normal(size=(12, 3)))
                        for _ in range(2))  # the calibrated centre misses the truth, 0, by one draw of a world
        found = independent(ours, theirs)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert 0.92 - 0.02 < held / 1_000 < 0.99


def test_a_whole_comparison_by_hand(made_up: Callable[..., Path]) -> None:
    ours = made_up("a", {("legacy", "approval_rate"): [[0.7], [0.8]], ("legacy", "cost_usd"): [[100.0], [90.0]],
                         ("legacy", "latency_ms.wait.p95"): [[2_500.0], [2_500.0]]})
    theirs = made_up("b", {("legacy", "approval_rate"): [[0.6], [0.7]], ("legacy", "cost_usd"): [[101.0], [90.5]],
                           ("legacy", "latency_ms.wait.p95"): [[900.0], [900.0]]})
    runs = read_two(ours, theirs)
    rate, cost, wait = (runs.difference("legacy", name) for name in
                        ("approval_rate", "cost_usd", "latency_ms.wait.p95"))
    assert rate.as_json()["difference"]["value"] == pytest.approx(0.1)
    assert (rate.verdict, cost.between.value, cost.verdict, wait.verdict) == ("better", -0.75, "undecided", "worse")
    shown = row(rate)
    assert (shown.first.value, shown.second.value, shown.difference.value) == ("75.00 %", "65.00 %", "+10.00 pp")
    assert row(wait).difference.value == "+1.6 s"
    assert "legacy approves 10.00 pp more in a than in b" in html(runs).replace("\N{NO-BREAK SPACE}", " ")
    other_way = read_two(theirs, ours).difference("legacy", "approval_rate")
    assert other_way.between.value == pytest.approx(-0.1)
    assert other_way.verdict == "worse"


def test_a_replication_without_the_figure_counts_for_neither(made_up: Callable[..., Path]) -> None:
    ours = made_up("a", {("legacy", "recovery_delay_h"): [[1.0, 2.0], [4.0, math.nan]]})
    theirs = made_up("b", {("legacy", "recovery_delay_h"): [[1.0, 1.0], [math.nan, 9.0]]})
    assert read_two(ours, theirs).difference("legacy", "recovery_delay_h").between.value == 0.5


RATES = {("legacy", "approval_rate"): [[0.7, 0.72], [0.8, 0.79]], ("new", "approval_rate"): [[0.7, 0.7], [0.8, 0.8]]}


@pytest.mark.parametrize(("change", "why"), [
    ({"manifest": {"hashes": HASHES | {"trace": "d" * 64}}}, "they replay other payments"),
    ({"manifest": {"hashes": HASHES | {"model": "d" * 64}}}, "they rest on different models"),
    ({"manifest": {"hashes": HASHES | {"uncertainty": "d" * 64}}}, "their models' uncertainty differs"),
    ({"manifest": {}}, "it is not recorded of both on which model and trace they ran"),
    ({"seed": 2}, "their seeds differ"),
    ({"values": {key: np.array(table)[:, :1] for key, table in RATES.items()}}, "their replications are not the same"),
])
def test_why_runs_are_not_paired(made_up: Callable[..., Path], change: dict[str, Any], why: str) -> None:
    ours = made_up("a", RATES)
    runs = read_two(ours, made_up("b", **{"values": RATES, **change}))
    assert runs.why_not_paired == [why]
    assert why.replace("'", "&#39;") in html(runs)
    assert read_two(ours, made_up("c", RATES)).is_paired


def test_what_the_page_warns_of(made_up: Callable[..., Path]) -> None:
    told = {"hashes": HASHES, "versions": {"numpy": "2"}}
    plain = made_up("a", RATES)
    silent = html(read_two(plain, made_up("silent", {key: np.array(table) - 0.01 for key, table in RATES.items()})))
    assert "Nothing that is recorded differs, yet the figures do" in silent
    baseline = html(read_two(plain, made_up("b", RATES, baseline="new")))
    assert "Lift is measured on legacy in a and on new in b" in baseline
    changed = html(read_two(plain, made_up("c", RATES, scenario=SETTINGS.replace("legacy: {message: own}",
                                                                                 "legacy: {message: clean}"))))
    assert "The baseline legacy has other settings" in changed
    alone = html(read_two(plain, made_up("d", {key: np.array(table)[:1] for key, table in RATES.items()})))
    assert "a single world" in alone
    versions = read_two(plain, made_up("e", RATES, manifest=told | {"versions": {"numpy": "3"}, "assumed": ["rain"]}))
    assert versions.differs == {"Versions": ["numpy: 2 in a, 3 in e"],
                                "Assumed, or warned of": ["only e assumes: rain"]}
    assert versions.is_paired
    (plain / "scenario.yaml").unlink()
    assert "a holds no scenario.yaml" in html(read_two(plain, made_up("f", RATES)))


def test_what_differs_between_two_documents() -> None:
    ours = {"a": 1, "b": {"c": [1, 2], "gone": None}, "rules": [{"x": 1}, {"y": 2}], "order": [1, 2], "one": True}
    theirs = {"a": 1, "b": {"c": [2, 3], "new": "5"}, "rules": [{"x": 1}, {"y": 3}], "order": [2, 1], "one": 1}
    found = {key: (here, there) for key, here, there in differing(ours, theirs)}
    assert set(found) == {"b.c", "b.gone", "b.new", "rules.2.y", "order", "one"}
    assert found["rules.2.y"] == (2, 3)
    assert found["b.c"] == ([1], [3])
    assert found["order"] == ([1, 2], [2, 1])
    assert not list(differing(ours, ours))


def test_a_page_is_named_after_what_tells_the_runs_apart(made_up: Callable[..., Path], tmp_path: Path) -> None:
    runs = read_two(made_up("x/run", RATES), made_up("y/run", RATES))
    assert runs.names == ("x/run", "y/run")
    assert page_path(runs, None) == tmp_path / "x" / "run" / "compare_with_y_run.html"
    assert str(tmp_path) not in html(runs)


# --- bad input


def test_bad_input_ends_in_one_line(command: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    ours, theirs = made_up("a", RATES), made_up("b", RATES)
    strange = made_up("strange", {("mine", "approval_rate"): [[0.5]]}, baseline="mine")
    before = contents(tmp_path)
    assert_refused(command("report", ours, tmp_path / "nowhere"), "nowhere", "no such folder")
    assert_refused(command("report", ours, tmp_path), str(tmp_path), "not the folder of a run")
    assert_refused(command("report", tmp_path, ours), str(tmp_path), "not the folder of a run")
    assert_refused(command("report", ours, ours), "is the same folder twice")
    assert_refused(command("report", ours, tmp_path / "b" / ".." / "a"), "is the same folder twice")
    assert_refused(command("report", ours, strange), "no policy is in both", "legacy, new in", "mine here")
    assert_refused(command("report", ours, theirs, "--out", tmp_path / "b" / "summary.json"), "ends in .html")
    assert_refused(command("report", ours, "--json"), "--json", "second run")
    assert_refused(command("report", ours, "--out", tmp_path / "x.html"), "--out", "second run")
    (theirs / "scenario.yaml").write_text("policies: [", encoding="utf-8")
    assert_refused(command("report", ours, theirs), "scenario.yaml", "not readable as YAML")
    (theirs / "scenario.yaml").write_text(SETTINGS, encoding="utf-8")
    assert contents(tmp_path) == before
    with pytest.raises(BadInput):
        read_two(ours, ours)
