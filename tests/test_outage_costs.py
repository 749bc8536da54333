"""What outages cost a policy: on hand-made logs against numbers worked out by hand, through the engine, on the page."""

from __future__ import annotations

import html
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from routesim.policies.catalog import build
from routesim.reports.metrics.catalogue import METRICS
from routesim.reports.metrics.measure import Measured, measure
from routesim.reports.outages.costs import Cost, OutageCosts, cost_rows, costs_table, outage_costs, summary
from routesim.reports.outages.hits import Incident, incidents
from routesim.reports.outages.shut_out import Skips, shut_out
from routesim.reports.outages.timeline import TIMELINE, chosen, timeline
from routesim.reports.pages import run as page
from routesim.reports.pages.outage_section import cost_tables, timeline_picture
from routesim.reports.pages.tables import TableCell
from routesim.reports.run import folder as run_folder
from routesim.reports.run.comparison import Comparison
from routesim.reports.words import span
from routesim.scenarios.running.replicate import replicate
from routesim.sim.log import AttemptLog
from routesim.sim.outages import Outage
from tests.logs import START, attempt, log, outages, payment
from tests.policy_world import AnyDescription
from tests.small import Small
from tests.worlds import START as ENGINE_START
from tests.worlds import model_of, poisson_arrivals, simulate, trace_of


def skip(processor: str | None, reason: str = "circuit_open") -> dict[str, str | None]:
    """As a row of the log has it; history's own log may leave the processor out."""
    return {"processor": processor, "reason": reason}


A_OPEN = [skip("A")]
PASSED = ([skip("A", "x")], [skip("B", "y"), skip("A", "x")], [skip(None)])
ZERO_US = round(START.timestamp() * 1e6)


def down(start_s: float, end_s: float, *processors: str, kind: str = "down", added: bool = False) -> Incident:
    """An outage, in seconds after START."""
    return Incident(processors or ("A",), kind, ZERO_US + round(start_s * 1e6), ZERO_US + round(end_s * 1e6), added)


Row = tuple[float, str]


def story(*rows: Row, fields: Sequence[dict[str, Any]] | None = None) -> AttemptLog:
    """A payment and its only attempt at each (second, what): ``ok`` and ``lost`` at A, ``skip`` goes to B past A,
    ``probe`` and ``probe lost`` are probes of A. A lost attempt is answered after 30 s, the others after 1 s."""
    payments, attempts = [], []
    for i, (second, what) in enumerate(rows):
        name, lost = f"p{i:03d}", what.endswith("lost")
        payments.append(payment(name, second, **(fields[i] if fields else {})))
        passed = {"decision": "failover", "skipped": A_OPEN} if what == "skip" else {}
        probing = {"decision": "probe"} if what.startswith("probe") else {}
        attempts.append(attempt(name, 1, "B" if what == "skip" else "A", second, 30 if lost else 1,
                                "timeout" if lost else "approved", **passed, **probing))
    return log(payments, attempts)


def cost(of: AttemptLog, outage: Incident, **given: Any) -> Cost:
    return outage_costs(of, of, [outage], **given).costs[outage]


# --- detect, drain and failback


def test_an_outage_found_diverted_from_and_returned_from() -> None:
    found = outage_costs(story((0, "ok"), (90, "ok"), (110, "lost"), (130, "lost"), (165, "skip"), (200, "skip"),
                        (250, "probe lost"), (260, "skip"), (410, "skip"), (420, "probe"), (437, "ok"), (500, "ok")),
                  None, [down(100, 400)])
    assert list(found.costs.values()) == [Cost(65.0, 3, 37.0, 0, 0.0)]
    assert (found.false_ejections, found.false_ejection_min) == (0, 0.0)


def test_an_attempt_in_flight_when_the_outage_begins_is_drained() -> None:
    assert cost(story((0, "ok"), (90, "lost"), (500, "ok")), down(100, 400)).drained == 1
    assert cost(story((0, "ok"), (60, "lost"), (500, "ok")), down(100, 400)).drained == 0  # answered before


def test_what_is_sent_after_the_end_is_not_drained() -> None:
    rows = [payment("p0", 110), payment("p1", 399), payment("p2", 400)]
    sent = [attempt("p0", 1, "A", 110, 30, "timeout"), attempt("p1", 1, "A", 399, 2, "unavailable"),
            attempt("p2", 1, "A", 400, 2, "unavailable")]
    assert cost(log(rows, sent), down(100, 400)).drained == 2


@pytest.mark.parametrize(("rows", "detect_s", "failback_s"), [
    ([(0, "ok"), (110, "lost"), (500, "ok")], math.nan, math.nan),  # never passed over
    ([(0, "ok"), (80, "skip"), (120, "skip"), (450, "ok")], 0, 50),  # shut already when it began
    ([(0, "ok"), (110, "lost"), (150, "skip"), (300, "ok"), (310, "lost"), (450, "ok")], 50, 0),  # back too early
    ([(0, "ok"), (390, "lost"), (425, "skip"), (470, "ok")], 325, 70),  # its timeouts are heard after its end
    ([(0, "ok"), (390, "lost"), (410, "ok"), (421, "skip"), (470, "ok")], 321, 70),  # one got through before that
    ([(0, "ok"), (110, "lost"), (150, "skip"), (500, "skip")], 50, math.nan),  # no return in the log
    ([(0, "ok"), (110, "lost"), (150, "skip"), (200, "ok"), (230, "skip"), (460, "ok")], 50, 60),  # twice
])
def test_detect_and_failback(rows: list[Row], detect_s: float, failback_s: float) -> None:
    found = outage_costs(story(*rows), None, [down(100, 400)])
    (one,) = found.costs.values()
    assert (one.detect_s, one.failback_s) == (pytest.approx(detect_s, nan_ok=True),
                                              pytest.approx(failback_s, nan_ok=True))
    assert found.false_ejections == 0


def test_several_processors_weigh_by_the_attempts_that_passed_them_over() -> None:
    rows = [payment(f"p{i}", 10 * i) for i in range(8)]
    both = log(rows, [
        attempt("p0", 1, "A", 0, 1, "approved"), attempt("p1", 1, "B", 10, 1, "approved"),
        attempt("p2", 1, "C", 20, 1, "approved", decision="failover", skipped=A_OPEN),
        attempt("p3", 1, "C", 30, 1, "approved", decision="failover", skipped=A_OPEN),
        attempt("p4", 1, "C", 40, 1, "approved", decision="failover",
                skipped=[skip("A", "x y"), skip("B")]),
        attempt("p6", 1, "A", 60, 1, "approved"), attempt("p7", 1, "B", 70, 1, "approved"),
    ])
    found = cost(both, down(15, 55, "A", "B"))
    assert found.detect_s == pytest.approx((3 * 5 + 1 * 25) / 4)
    assert found.failback_s == pytest.approx((3 * 5 + 1 * 15) / 4)


def test_only_measured_payments_drain() -> None:
    warm = story((110, "lost"), (120, "lost"), (500, "ok"), fields=[{"warm_up": True}, {}, {}])
    assert cost(warm, down(100, 400)).drained == 1


# --- who is passed over


def test_skips_are_told_by_attempt_and_processor_whatever_the_names() -> None:
    rows = [payment("p", 0)]
    sent = [attempt("p", 1, "C", 0, 1, "declined"),
            attempt("p", 2, "C", 5, 1, "declined", skipped=[skip("New; PSP: 2", "down: twice"), skip("MIT", "slow")]),
            attempt("p", 3, "C", 9, 1, "declined", skipped=[skip(None)]),
            attempt("p", 4, "MIT", 12, 1, "approved", skipped=[skip("New; PSP: 2", "down")])]
    skips = Skips.of(log(rows, sent))
    assert [(int(at), skips.processors[which]) for at, which in zip(skips.attempt, skips.processor, strict=True)] == [
        (1, "New; PSP: 2"), (1, "MIT"), (3, "New; PSP: 2")]
    assert set(shut_out(log(rows, sent))) == {"MIT", "New; PSP: 2"}
    assert shut_out(log(rows, sent[:1])) == {}


def test_false_ejections_are_counted_and_timed() -> None:
    found = outage_costs(story((0, "ok"), (60, "skip"), (90, "skip"), (120, "ok"),  # one minute
                        (1_000, "ok"), (1_100, "skip"), (1_400, "ok"),  # of the outage
                        (2_000, "skip"), (2_030, "probe"), (2_040, "skip")),  # 40 s to its last, and no return
                  None, [down(1_050, 1_200)])
    assert found.false_ejections == 2
    assert found.false_ejection_min == pytest.approx(1 + 40 / 60)


def test_without_outages_every_ejection_is_false_but_those_of_the_warm_up() -> None:
    rows = story((0, "ok"), (10, "skip"), (20, "ok"), (30, "skip"), (60, "ok"),
                 fields=[{"warm_up": i < 3} for i in range(5)])
    found = outage_costs(rows, None, [])
    assert (found.false_ejections, found.false_ejection_min) == (1, pytest.approx(0.5))
    assert found.costs == {}


def test_another_processors_outage_excuses_nothing() -> None:
    assert outage_costs(story((0, "ok"), (60, "skip"), (120, "ok")), None, [down(50, 200, "B")]).false_ejections == 1


def test_a_health_of_its_own_is_kept_apart() -> None:
    """Pesos are passed over throughout while dollars go on: one stretch, not one for every dollar in between."""
    rows = [(10.0 * i, "skip" if i % 2 else "ok") for i in range(1, 9)] + [(100.0, "ok")]
    money = [{"currency": "MXN" if what == "skip" or second == 100 else "USD"} for second, what in rows]
    mixed = story(*rows, fields=money)
    assert outage_costs(mixed, None, []).false_ejections == 4
    found = outage_costs(mixed, None, [], per=["currency"])
    assert (found.false_ejections, found.false_ejection_min) == (1, pytest.approx((100 - 10) / 60))
    assert cost(mixed, down(5, 95), per=["currency"]).failback_s == pytest.approx(5)
    assert cost(mixed, down(5, 95)).failback_s == 0  # dollars look as if it were back


# --- payments lost


def two_logs() -> tuple[AttemptLog, AttemptLog]:
    """The log with two outages of A (100 to 200 and 1,000 to 1,100 s) and one of B (500 to 600 s), and without."""
    rows = [payment("touched", 110, amount_usd=10.0), payment("late", 150, amount_usd=20.0),
            payment("aside", 540, amount_usd=40.0), payment("unmet", 900, amount_usd=80.0),
            payment("won", 1_050, amount_usd=160.0), payment("warm", 120, amount_usd=9e9, warm_up=True)]
    again = payment("again", 3_000, amount_usd=10.0, order_id="order-touched", previous_payment_id="touched")
    here = log([*rows, again], [
        attempt("touched", 1, "A", 110, 30, "timeout"), attempt("again", 1, "B", 3_000, 1, "approved"),
        attempt("late", 1, "A", 150, 1, "declined"), attempt("late", 2, "A", 1_010, 30, "timeout"),
        attempt("aside", 1, "B", 540, 1, "declined", skipped=A_OPEN, decision="failover"),
        attempt("unmet", 1, "B", 900, 1, "declined"), attempt("won", 1, "A", 1_050, 1, "approved"),
        attempt("warm", 1, "A", 120, 30, "timeout"),
    ])
    there = log(rows, [attempt(row["payment_id"], 1, "A", 200, 1, "declined" if row["payment_id"] == "won"
                               else "approved") for row in rows])
    return here, there


def test_every_payment_is_lost_to_the_outage_that_explains_it() -> None:
    here, there = two_logs()
    first, second, third = down(100, 200), down(500, 600, "B"), down(1_000, 1_100)
    found = outage_costs(here, there, [first, second, third])
    usd = {outage: one.lost_usd for outage, one in found.costs.items()}
    # first: `touched` lost, won again by the payment that follows it; `aside` was passed over at A, though in B's
    # outage it met B. third: `late` lost an attempt there, having only met the first; `won` owes it its approval.
    assert usd == {first: 10.0 - 10.0, second: 40.0 + 80.0, third: 20.0 - 160.0}
    assert [found.costs[o].lost_payments for o in (first, second, third)] == [0, 2, 0]
    assert found.lost == {"touched": 1, "late": 1, "aside": 1, "unmet": 1, "won": -1, "again": -1}


def test_one_that_met_no_outage_goes_to_the_one_it_was_passed_over_for() -> None:
    rows = [payment("p", 650)]
    here = log(rows, [attempt("p", 1, "C", 650, 1, "declined", skipped=A_OPEN, decision="failover")])
    there = log(rows, [attempt("p", 1, "A", 650, 1, "approved")])
    first, second = down(100, 200), down(500, 600, "B")
    found = outage_costs(here, there, [first, second]).costs
    assert found[first].lost_payments == 1
    assert second not in found  # it neither lies in the measured part nor lost anything


@pytest.mark.parametrize("seed", range(5))
def test_what_the_outages_lost_adds_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hit_by = sorted((down(start, start + rng.uniform(50, 800), *who) for start, who in zip(
        rng.uniform(0, 5_000, 6), (("A",), ("B",), ("A", "B"), ("C",), ("A",), ("B",)), strict=True)),
        key=lambda outage: outage.start_us)
    logs = []
    for _ in range(2):
        rows, sent = [], []
        for i in range(300):
            if rng.uniform() < 0.1:
                continue  # a payment of one of the logs only
            arrived, before = 20.0 * i, f"p{i - 1:03d}" if rng.uniform() < 0.2 else None
            rows.append(payment(f"p{i:03d}", arrived, previous_payment_id=before, amount_usd=1 + i,
                                warm_up=bool(i < 20)))
            for k in range(rng.integers(0, 4)):
                outcome = str(rng.choice(["approved", "declined", "timeout", "unavailable"]))
                sent.append(attempt(f"p{i:03d}", k + 1, str(rng.choice(["A", "B", "C"])), arrived + 40 * k, 20, outcome,
                                    skipped=PASSED[rng.integers(len(PASSED))] if k == 2 else None))
                if outcome == "approved":
                    break
        logs.append(log(rows, sent))
    costs = outage_costs(logs[0], logs[1], hit_by).costs.values()
    figures = measure(logs[0], outages=outages(("A", "down", 0, 1)), fees={}, without_outages=logs[1]).figures
    assert abs(figures["lost_to_outages"]) > 1
    assert sum(one.lost_payments for one in costs) == figures["lost_to_outages"]
    assert sum(one.lost_usd for one in costs) == pytest.approx(figures["lost_to_outages_usd"])


def test_outages_with_kind_start_and_end_in_common_are_one() -> None:
    rows = [Outage("B", "down", 5.0, 9.0, 1.0), Outage("A", "down", 5.0, 9.0, 1.0), Outage("A", "slow", 1.0, 9.0, 0.0)]
    found = incidents(rows, {("A", "down", 5.0, 9.0), ("B", "down", 5.0, 9.0)})
    assert found == [Incident(("A",), "slow", 1_000_000, 9_000_000, False),
                     Incident(("A", "B"), "down", 5_000_000, 9_000_000, True)]


# --- through the engine


def test_an_engines_log_is_read_as_by_hand() -> None:
    """5 timeouts of 30 s open the circuit: found when the fifth lost payment's timeout has expired."""
    arrivals = poisson_arrivals(1 / 10, 600, seed=3)
    breaker = build(AnyDescription.validate_python({
        "route": [{"to": ["A", "B"]}],
        "failover": {"circuit_breaker": {"consecutive_timeouts": 5, "open_for": "60s", "probes": 1}}}))
    start, end = 2_000.0, 3_800.0
    outage = Outage("A", "down", ENGINE_START + start, ENGINE_START + end, loss=1.0)

    def run(*hit_by: Outage) -> AttemptLog:
        return simulate(trace_of(arrivals), model_of(["A", "B"]), breaker(), outages=hit_by).log

    found = outage_costs(run(outage), run(), incidents([outage]))
    (one,) = found.costs.values()
    rows = run(outage).attempts.to_pylist()
    for row in rows:
        row["at"] = row["sent_at"].timestamp() - ENGINE_START
    lost = [row for row in rows if row["processor"] == "A" and row["outcome"] == "timeout"]
    opened = lost[4]["at"] + 30
    assert one.detect_s == pytest.approx(min(a for a in arrivals if a > opened) - start, abs=1e-5)
    assert one.drained == len(lost) > 5
    back = min(row["at"] for row in rows if row["processor"] == "A" and row["at"] > end and row["decision"] != "probe")
    assert one.failback_s == pytest.approx(back - end, abs=1e-5)
    assert 0 < one.failback_s < 60 + 30 + 60
    assert found.false_ejections == 0
    approved = {p: sum(row["outcome"] == "approved" for row in log.attempts.to_pylist())
                for p, log in (("with", run(outage)), ("without", run()))}
    assert one.lost_payments == approved["without"] - approved["with"] > 0


ADDED = ("outages={base: calibrated, add: [{processors: [MIT, Worldpay], start: 2026-01-10T12:00:00, duration: 4h}]}")


def test_a_replication_tells_what_its_outages_cost(small: Small, tmp_path: Path) -> None:
    study = small.prepare(tmp_path, ADDED).study
    found = replicate(study, 0, 0, None)
    costs = found.costs.to_pandas()
    for policy, measured in found.measured.items():
        mine = costs[costs["policy"] == policy]
        assert mine["lost_payments"].sum() == measured.figures["lost_to_outages"]
        assert mine["lost_usd"].sum() == pytest.approx(measured.figures["lost_to_outages_usd"])
        assert mine["added"].sum() == 1
    assert list(costs.loc[costs["added"], "processors"].iloc[0]) == ["MIT", "Worldpay"]
    told = costs[costs["added"]].set_index("policy")["detect_s"]
    assert np.isnan(told["legacy"])
    assert told["breaker"] > 0
    assert found.measured["legacy"].figures["false_ejections"] == 0
    drawn = found.timeline.to_pandas()
    assert set(drawn["policy"]) == {"legacy", "three_attempts", "breaker"}
    assert (drawn["start"] == drawn["start"].iloc[0]).all()
    assert replicate(study, 0, 1, None).timeline.num_rows == 0


# --- summed up


def table_of(values: dict[tuple[str, int, int], list[tuple[Incident, Cost]]]) -> Any:
    return costs_table(row for (policy, world, luck), costs in values.items()
                       for row in cost_rows(dict(costs), policy, world, luck))


NAN = math.nan
ONE, OTHER = down(0, 60, added=True), down(500, 700, "B")


def test_an_added_outage_has_intervals_and_drawn_ones_medians() -> None:
    costs = table_of({
        ("x", 0, 0): [(ONE, Cost(10, 4, 2, 7, 70.0)), (OTHER, Cost(100, 1, 5, 2, 20.0))],
        ("x", 1, 0): [(ONE, Cost(14, 6, 4, 9, 90.0))],
        ("x", 2, 0): [(ONE, Cost(NAN, 8, NAN, 11, 110.0)), (OTHER, Cost(NAN, 3, NAN, 1, 10.0)),
                      (down(900, 950), Cost(300, 5, 7, 1, 10.0))],
        ("y", 0, 0): [(ONE, Cost(1, 1, 1, 1, 1.0))],
    })
    found = summary(costs, "x", {(w, 0) for w in range(3)})
    (added,) = found["added"]
    assert (added["processors"], added["kind"], added["start"]) == (["A"], "down", "2026-02-02T00:00:00Z")
    assert added["share_detected"] == pytest.approx(2 / 3)
    assert added["share_returned"] == 1  # wherever it was passed over
    assert added["detect_s"]["value"] == 12
    half = 4.302652730 * math.sqrt(4 + 4 / 3)  # t of 2 degrees of freedom; the variance of 7, 9, 11 is 4
    assert added["lost_payments"]["value"] == 9
    assert added["lost_payments"]["high"] == pytest.approx(9 + half)
    drawn = found["drawn"]
    assert drawn["outages"] == 1
    assert (drawn["share_detected"], drawn["detect_s"], drawn["failback_s"]) == (pytest.approx(2 / 3), 200, 6)
    assert drawn["drained"] == 3
    assert drawn["lost_payments"]["value"] == pytest.approx((2 + 0 + 2) / 3)
    assert drawn["share_returned"] == 1
    assert summary(costs, "y", {(0, 0)})["drawn"] is None


def test_an_outage_that_traffic_never_came_back_from_is_told_beside_the_median() -> None:
    costs = table_of({("x", world, 0): [(ONE, Cost(10, 1, NAN if world else 2, 0, 0.0)),
                                        (OTHER, Cost(NAN if world == 4 else 10, 1, 5 if world == 1 else NAN, 0, 0.0))]
                      for world in range(5)})
    found = summary(costs, "x", {(w, 0) for w in range(5)})
    assert (found["added"][0]["share_returned"], found["added"][0]["failback_s"]["value"]) == (0.2, 2)
    assert (found["drawn"]["share_returned"], found["drawn"]["failback_s"]) == (0.25, 5)  # of the four found
    never = table_of({("x", 0, 0): [(ONE, Cost(NAN, 1, NAN, 0, 0.0)), (OTHER, Cost(10, 1, NAN, 0, 0.0))]})
    found = summary(never, "x", {(0, 0)})
    assert (found["added"][0]["share_returned"], found["drawn"]["share_returned"]) == (None, 0)


# --- the picture's data


def test_the_pictured_outage_is_an_added_one_else_the_costliest() -> None:
    calm, worst = Cost(1, 1, 1, 1, 1.0), Cost(1, 1, 1, 5, 5.0)
    assert chosen({OTHER: worst, ONE: calm}) == ONE
    assert chosen({OTHER: calm, down(900, 950): worst}) == down(900, 950)
    assert chosen({}) is None


def test_a_timeline_counts_attempts_and_losses_in_bins() -> None:
    rows = story(*[(10.0 * i, "lost" if 100 <= 10 * i < 150 else "skip" if 150 <= 10 * i < 500 else "ok")
                   for i in range(100)])
    outage = down(100, 500)
    of_policy = OutageCosts({}, 0, 0.0, {"p012": 1, "p013": 1, "p014": -1, "p099": 1})
    found = timeline(rows, "x", outage, of_policy).to_pandas()
    assert found["bin_s"].unique().tolist() == [10]
    assert len(found) == 10 + 40 + 20
    assert found["attempts"].tolist() == [1] * 70
    assert (found["bin"] - START).dt.total_seconds().tolist() == [10.0 * i for i in range(70)]
    place = range(-10, 60)  # bins since the outage began
    share = dict(zip(place, found["at_processors"], strict=True))
    assert all(share[i] == 1 for i in range(-10, 5))
    assert all(share[i] == 0 for i in range(5, 40))
    lost = dict(zip(place, found["lost_payments"], strict=True))
    assert {i: n for i, n in lost.items() if n} == {2: 1, 3: 1, 4: -1}
    assert timeline(log([], []), "x", outage, of_policy).schema == TIMELINE


# --- the page


def run_dir(folder: Path, costs: Any, timelines: Any = None, warnings: int = 0) -> Path:
    """A run's folder of two policies with these costs."""
    made = measure(story((0, "ok"), (10, "lost"), (20, "ok")), outages=outages(), fees={}, false_ejections=(2, 3.5))
    measured = {(policy, world, 0): Measured(made.figures | {"lift_pp": 0.1 * world}, made.series)
                for policy in ("x", "y") for world in range(3)}
    run_folder.write(folder, Comparison("a day", 1, "x", ("x", "y"), measured, costs=costs),
                     run_folder.OUTAGES.empty_table(), timelines)
    sentences = ", ".join(f'"warning {i}"' for i in range(warnings))
    (folder / "manifest.json").write_text(f'{{"warnings": [{sentences}]}}')
    return folder


def both_policies(*of: tuple[Incident, Cost]) -> Any:
    better = [(outage, Cost(5, 2, 3, one.lost_payments - 3, 1.0)) for outage, one in of]
    return table_of({(policy, w, 0): list(of) if policy == "x" else better for policy in ("x", "y") for w in range(3)})


def test_the_page_tells_what_outages_cost(tmp_path: Path) -> None:
    costs = both_policies((ONE, Cost(NAN, 40, NAN, 30, 3_000.0)), (OTHER, Cost(NAN, 4, NAN, 3, 300.0)))
    rows = story(*[(float(i), "lost" if i < 60 else "ok") for i in range(90)])
    of_policy = OutageCosts({}, 0, 0.0, {"p005": 1})
    lines = pa.concat_tables([timeline(rows, policy, ONE, of_policy) for policy in ("x", "y")])
    folder = run_dir(tmp_path / "run", costs, lines)
    text = html.unescape(page.render(folder).read_text())
    run = run_folder.read(folder)
    first, others = cost_tables(run)
    assert first.title == "A down from Mon 2 Feb 00:00 (UTC) for 60 s"
    assert [row["policy"] for row in first.rows] == ["y", "x"]  # by payments lost
    assert first.rows[1]["detect"].value == "never"
    assert first.rows[0]["detect"].value == "5 s"
    assert first.rows[0]["ejections"] == TableCell("2", "3.5 min")
    assert others.title.startswith("All other outages (1.0 in a replication")
    assert "What outages cost" in text
    assert len(re.findall("False ejections,<br>", text)) == 1
    picture = timeline_picture(run)
    assert picture is not None
    ET.fromstring(picture.svg)
    assert picture.title in text
    assert picture == timeline_picture(run)
    found = run.summary["policies"]["y"]["outage_costs"]["added"][0]
    assert found["lost_payments"]["value"] == 27
    assert set(found["lost_payments"]) >= {"value", "low", "high"}


def test_the_page_tells_in_how_many_an_outage_was_found_and_traffic_back(tmp_path: Path) -> None:
    found_after, back_after = {"x": (10, 10, NAN), "y": (10, 10, 10)}, {"x": (5, NAN, NAN), "y": (NAN, NAN, NAN)}
    costs = table_of({(policy, w, 0): [(ONE, Cost(found_after[policy][w], 1, back_after[policy][w], 1, 1.0))]
                      for policy in ("x", "y") for w in range(3)})
    folder = run_dir(tmp_path / "run", costs)
    (table,) = cost_tables(run_folder.read(folder))
    x, y = sorted(table.rows, key=lambda row: str(row["policy"]))
    assert (x["detect"].value, x["detected"], x["failback"].value, x["returned"]) == (
        "10 s", "detected in 67 %", "5 s", "back in 50 %")
    assert (y["detect"].value, y["detected"], y["failback"].value, y["returned"]) == ("10 s", "", "never", "")
    text = html.unescape(page.render(folder).read_text())
    assert "<small>detected in 67 %</small>" in text
    assert "<small>back in 50 %</small>" in text


def test_without_outages_the_page_has_no_such_section(tmp_path: Path) -> None:
    folder = run_dir(tmp_path / "run", None)
    assert "What outages cost" not in page.render(folder).read_text()
    assert timeline_picture(run_folder.read(folder)) is None
    assert "outage_costs" not in run_folder.read(folder).summary["policies"]["x"]


@pytest.mark.parametrize(("warnings", "folded"), [(3, 0), (4, 1), (9, 6)])
def test_many_warnings_are_folded_away(tmp_path: Path, warnings: int, folded: int) -> None:
    text = page.render(run_dir(tmp_path / "run", None, warnings=warnings)).read_text()
    head = text[: text.index("<h2>The policies side by side")]
    above, _, below = head.partition('<details class="more">')
    assert len(re.findall("warning \\d<", above)) == warnings - folded
    assert len(re.findall("warning \\d<", below)) == folded
    assert (f"{folded} more warning" in below) == bool(folded)


def test_lengths_of_time_read_well() -> None:
    assert [span(s) for s in (None, 0, 0.25, 49.32, 90 * 60, 7_200, 48 * 3_600)] == [
        "—", "0 s", "250 ms", "49.3 s", "90 min", "2 h", "48 h"]


def test_the_figures_say_what_they_are() -> None:
    assert {"false_ejections", "false_ejection_min"} <= METRICS.keys()
    bare = measure(story((0, "ok")), outages=outages(), fees={}).figures
    assert math.isnan(bare["false_ejections"])
    given = measure(story((0, "ok")), outages=outages(), fees={}, false_ejections=(2, 3.5)).figures
    assert (given["false_ejections"], given["false_ejection_min"]) == (2, 3.5)
