"""Shared switches: found where they are, not made up where processors only happen to fail together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from routesim.calibration.outages.find import Found, find_outages
from routesim.calibration.outages.joint import CHANCE, shared_switches
from routesim.calibration.outages.process import FittedOutages, fit_outages
from routesim.sim.draws import Luck
from routesim.sim.model import CalibratedModel
from routesim.sim.outages import Outage, draw_outages
from routesim.sim.uncertainty import Uncertainty
from tests.array_log import Arrivals, attempts_of
from tests.worlds import START, model_of

DAY, HOUR = 86_400.0, 3600.0
NAMES = "ABCD"
MEDIAN_MIN = 25.0


def renewals(random: np.random.Generator, days: float, gap_h: float, shape: float, processor: str) -> list[Outage]:
    """Outages with Weibull gaps and lognormal durations; the process began long before the window."""
    found, at = [], -20 * gap_h * HOUR
    while at < days * DAY:
        at += gap_h / special.gamma(1 + 1 / shape) * random.weibull(shape) * HOUR
        length = MEDIAN_MIN * 60 * np.exp(0.9 * random.standard_normal())
        if 0 < at < days * DAY:
            found.append(Outage(processor, "down", START + at, START + at + length, 0.97))
        at += length
    return found


def as_seen(outages: list[Outage], random: np.random.Generator) -> tuple[list[Outage], list[float]]:
    """The same as sparse attempts tell them: each later and longer by about its blur (s)."""
    seen = []
    for o in sorted(outages, key=lambda o: (o.start, o.processor)):
        blur = float(random.exponential(60))
        start = o.start + random.exponential(blur)
        end = max(o.end + random.exponential(blur), start + 60)
        seen.append((Outage(o.processor, o.kind, start, end, o.loss), blur))
    seen.sort(key=lambda pair: pair[0].start)
    return [o for o, _ in seen], [blur for _, blur in seen]


def windows(days: float, names: str = NAMES) -> dict[str, tuple[float, float]]:
    return {name: (START, START + days * DAY) for name in names}


def begin_together(outages: list[Outage]) -> bool:
    """Whether any two processors' outages begin within five minutes of each other: the naive rule."""
    return any(a.processor != b.processor and abs(a.start - b.start) < 300 for a in outages for b in outages)


@pytest.mark.parametrize(("gap_h", "shape"), [(20.0, 0.6), (60.0, 0.8), (150.0, 1.0)])
def test_independent_processors_share_no_switch(gap_h: float, shape: float) -> None:
    runs, days, claimed, naive = 400, 28, 0, 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        outages, blur = as_seen([o for name in NAMES for o in renewals(random, days, gap_h, shape, name)], random)
        switches, own = shared_switches(outages, windows(days), blur)
        claimed += bool(switches)
        assert switches or own == outages
        naive += begin_together(outages)
    assert claimed <= CHANCE * runs + 3.5 * np.sqrt(CHANCE * runs)
    assert naive > 3 * CHANCE * runs  # chance does bring processors together, so that a laxer rule would fail above


def history(seed: int, days: float, gap_h: float, joint_gap_h: float) -> tuple[Found, int]:
    """Four processors, and a switch that takes A and B down: what was found, and the number of the switch's outages."""
    random = np.random.default_rng(seed)
    own = [o for name in NAMES for o in renewals(random, days, gap_h, 1.0, name)]
    joint = renewals(random, days, joint_gap_h, 1.0, "A")
    outages, blur = as_seen([*own, *joint, *(Outage("B", o.kind, o.start, o.end, o.loss) for o in joint)], random)
    none = (0.0, 0.0)
    return Found(outages, np.zeros(0, dtype=bool), {"down": 0.97, "partial": 0.5, "slow": 0.1},
                 {"down": (400.0, 410.0), "partial": none, "slow": none}, 3.0, 0.7, tuple(blur)), len(joint)


def mean_gaps(fitted: FittedOutages, draws: int = 200) -> np.ndarray:
    """The mean gap (h) of the first switch in drawn worlds."""
    point = fitted.joint[0].gap_h
    uncertain = Uncertainty(fitted.uncertainty)
    where = "/joint_outages/0/gap_h/"
    values = []
    for world in range(draws):
        drawn = {p.removeprefix(where): v for p, v in uncertain.draw(3, world).items() if p.startswith(where)}
        assert drawn
        values.append(type(point).model_validate(point.model_dump() | drawn).average())
    return np.array(values)


def test_a_switch_is_found_with_its_rate() -> None:
    days, gap_h, joint_gap_h, runs = 240.0, 100.0, 500.0, 10
    inside, z = 0, []
    for seed in range(runs):
        found, true_count = history(seed, days, gap_h, joint_gap_h)
        fitted = fit_outages(found, windows(days))
        assert [joint.processors for joint in fitted.joint] == [["A", "B"]]
        # all but those that one of the two was already down for, and perhaps a chance meeting
        assert true_count - 3 <= fitted.joint_found[0] <= true_count + 2
        gaps = np.log(mean_gaps(fitted))
        low, high = np.quantile(gaps, [0.025, 0.975])
        inside += low <= np.log(joint_gap_h) <= high
        z.append((gaps.mean() - np.log(joint_gap_h)) / gaps.std())
        # they leave the processors' own lists: A's own gaps are its own, not those of A and switch together (83 h)
        own = fitted.processes["A"].gap_h.average()
        n = days * 24 / gap_h
        assert abs(np.log(own / gap_h)) < 3.5 / np.sqrt(n)
        z_own = np.log(fitted.processes["B"].gap_h.average() / gap_h) * np.sqrt(n)
        assert abs(z_own) < 3.5
    assert inside >= 7  # of 10 at 95 %: fewer has a chance of 1 in 1,000
    assert abs(np.mean(z)) < 3.5 / np.sqrt(runs)


def test_a_fitted_switch_takes_its_processors_down_in_drawn_worlds() -> None:
    found, _ = history(1, 240.0, 100.0, 500.0)
    fitted = fit_outages(found, windows(240.0))
    model = model_of({name: {"outages": process.model_dump()} for name, process in fitted.processes.items()})
    model.joint_outages = list(fitted.joint)
    known = CalibratedModel(model, Uncertainty(fitted.uncertainty))
    first, second = known.draw(0).model, known.draw(1).model
    assert first.joint_outages[0].gap_h != second.joint_outages[0].gap_h
    # durations, kinds and losses are common numbers, in every world
    assert first.joint_outages[0].duration_min == first.processors["C"].outages.duration_min  # type: ignore[union-attr]
    assert first.joint_outages[0].kinds == first.processors["A"].outages.kinds  # type: ignore[union-attr]
    drawn = draw_outages(first, Luck(5), START, START + 300 * DAY)
    spans = {name: {(o.start, o.end) for o in drawn if o.processor == name} for name in NAMES}
    assert len(spans["A"] & spans["B"]) >= 3
    assert not spans["A"] & spans["C"]


def test_one_meeting_that_chance_explains_claims_nothing() -> None:
    random = np.random.default_rng(0)
    own = [o for name in "AB" for o in renewals(random, 28, 20.0, 1.0, name)]
    alone = [o for o in own if not any(p.processor != o.processor and abs(p.start - o.start) < 1800 for p in own)]
    last = max(o.end for o in alone) + HOUR
    meeting = [Outage("A", "down", last, last + 600, 1.0), Outage("B", "down", last + 60, last + 1500, 1.0)]
    assert len([o for o in alone if o.processor == "A"]) > 15
    known = {name: (START, max(START + 28 * DAY, last + HOUR)) for name in "AB"}
    assert shared_switches([*alone, *meeting], known)[0] == []
    # flapping for an hour is still one meeting
    flaps = [Outage(o.processor, o.kind, o.start + 900 * k, o.start + 900 * k + 300 + (o.processor == "B") * 500, 1.0)
             for k in range(4) for o in meeting]
    assert shared_switches([*alone, *flaps], known)[0] == []
    # the same number of meetings on days of their own is beyond chance
    days = [Outage(o.processor, o.kind, o.start - 5 * DAY * k, o.end - 5 * DAY * k, 1.0)
            for k in range(4) for o in meeting]
    switches, rest = shared_switches([*alone, *days], known)
    assert [(s.processors, len(s.outages)) for s in switches] == [(("A", "B"), 4)]
    assert len(rest) == len(alone)


def test_a_switch_of_three_is_one_and_two_switches_are_two() -> None:
    random = np.random.default_rng(2)
    own = [o for name in NAMES for o in renewals(random, 90, 150.0, 1.0, name)]
    three = [START + 8 * DAY * k + HOUR for k in range(1, 9)]
    joint = [Outage(name, "partial" if name == "C" else "down", at, at + 1800, 1.0) for at in three for name in "ABC"]
    joint = [o for o in joint if not (o.processor == "C" and o.start == three[0])]  # C had no attempt then
    switches, rest = shared_switches([*own, *joint], windows(90))
    assert [s.processors for s in switches] == [("A", "B", "C")]
    assert [o.start for o in switches[0].outages] == three
    assert {o.kind for o in switches[0].outages} == {"down"}  # the commonest
    assert len(rest) == len(own)
    chain = [Outage(name, "down", at + shift, at + shift + 1800, 1.0) for at in three
             for pair, shift in (("AB", 0.0), ("BC", 3 * DAY)) for name in pair]
    switches, _ = shared_switches([*own, *chain], windows(90))
    assert [s.processors for s in switches] == [("A", "B"), ("B", "C")]
    assert [len(s.outages) for s in switches] == [8, 8]


def test_a_switch_is_found_in_the_attempts_themselves() -> None:
    days = 40.0
    random = np.random.default_rng(5)
    joint = renewals(random, days, 120.0, 1.0, "A")
    names: list[str] = []
    parts = []
    for number, name in enumerate("AB"):
        mine = sorted([*joint, *renewals(random, days, 120.0, 1.0, name)], key=lambda o: o.start)
        apart = [o for o, before in zip(mine, [None, *mine], strict=False) if before is None or o.start > before.end]
        arrivals = Arrivals(apart, START, days, 0.3, seed=number)
        parts.append(arrivals)
        names += [name] * len(arrivals.at)
    log = attempts_of(names, np.concatenate([p.at for p in parts]), np.concatenate([p.latency_ms for p in parts]),
                      np.concatenate([p.lost for p in parts]))
    found = find_outages(log)
    assert len(found.blur_s) == len(found.outages)
    # at one attempt in about three minutes
    assert 60 < np.median(found.blur_s) < 600
    fitted = fit_outages(found, windows(days, "AB"))
    assert [j.processors for j in fitted.joint] == [["A", "B"]]
    long_enough = sum(o.end - o.start > 900 for o in joint)
    assert long_enough >= 4
    assert fitted.joint_found[0] >= long_enough - 1
