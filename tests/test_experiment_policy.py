"""The router that runs an experiment: who meets whose policy, and who hears of what."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from routesim.policies.experiment.assignment import Assignment, Experiment, Stage
from routesim.policies.experiment.router import ExperimentPolicy
from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import World
from tests.worlds import START, InOrder, model_of, simulate, trace_of

DAY_S = 86_400.0


@dataclass
class Listening:
    """Sends everything to one processor and notes what it was asked and told."""

    processor: str
    asked: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def decide(self, view: View, draw: Draw) -> Action:
        self.asked.append(view.payment.payment_id)
        return Stop() if view.answers else Send((Choice(self.processor),))

    def observe(self, payment: Payment, answer: Answer) -> None:
        assert answer.processor == self.processor
        self.told.append(payment.payment_id)


def split(control: int, *, at_s: float = START) -> Stage:
    return Stage(at_s, (("a", control), ("b", 10_000 - control)))


def run(experiment: Experiment, arrivals: list[float], **columns: object,
        ) -> tuple[ExperimentPolicy, Listening, Listening]:
    a, b = Listening("A"), Listening("B")
    router = ExperimentPolicy(Assignment(experiment), {"a": a, "b": b}, "a")
    done = simulate(trace_of(arrivals, **columns), model_of(["A", "B"]), router, outages=[])
    attempts = done.log.attempts
    sent = dict(zip(attempts["payment_id"].to_pylist(), attempts["processor"].to_pylist(), strict=True))
    assert all(sent[who] == ("B" if each.variant == "b" else "A") for who, each in router.assigned.items())
    return router, a, b


def test_each_payment_meets_one_policy_which_alone_hears_of_it() -> None:
    router, a, b = run(Experiment("x", (split(5_000),), salt="s"), [float(i) for i in range(400)])
    assert len(router.assigned) == 400
    assert not router._met  # nothing is kept of a payment that has ended
    for variant, policy in (("a", a), ("b", b)):
        mine = {who for who, each in router.assigned.items() if each.variant == variant}
        assert set(policy.asked) == set(policy.told) == mine
    assert 150 < len(set(a.asked)) < 250  # 200 ± 10


def test_who_is_not_in_the_experiment_meets_the_control_and_does_not_count() -> None:
    experiment = Experiment("x", (split(0, at_s=START + 100),), merchants=frozenset({"m1"}), until_s=START + 300)
    merchants = ["m1" if i % 2 else "m2" for i in range(400)]
    router, a, b = run(experiment, [float(i) for i in range(400)], merchant_id=merchants)
    counted = {f"p{i:07d}" for i in range(101, 300, 2)}
    assert set(router.assigned) == set(b.asked) == counted
    assert len(set(a.asked)) == 300


def test_a_retry_after_the_split_changed_stays_where_the_payment_began() -> None:
    stages = (split(10_000), split(0, at_s=START + 50))
    a, b = InOrder(("A",), attempts=2, delay_s=100.0), InOrder(("B",), attempts=2, delay_s=100.0)
    router = ExperimentPolicy(Assignment(Experiment("x", stages, cache_s=0.0)), {"a": a, "b": b}, "a")
    model = model_of(["A", "B"], approval={"intercept": -30.0})
    done = simulate(trace_of([0.0, 60.0]), model, router, outages=[])
    tried = list(zip(done.log.attempts["payment_id"].to_pylist(), done.log.attempts["processor"].to_pylist(),
                     strict=True))
    assert tried == [("p0000000", "A"), ("p0000001", "B"), ("p0000000", "A"), ("p0000001", "B")]


@pytest.mark.parametrize(("cache_s", "stale"), [(DAY_S, 1), (0.0, 0)])
def test_a_customer_keeps_its_variant_for_as_long_as_it_is_cached(cache_s: float, stale: int) -> None:
    stages = (split(10_000), split(0, at_s=START + 3_600))
    router, _, _ = run(Experiment("x", stages, unit="customer", cache_s=cache_s), [0.0, 7_200.0, 2 * DAY_S],
                       customer_id="c")
    assert [each.stale for each in router.assigned.values()] == [False, bool(stale), False]
    assert [each.variant for each in router.assigned.values()] == ["a", "a" if stale else "b", "b"]


def test_a_stage_without_a_policy_is_told() -> None:
    with pytest.raises(ValueError, match="no policy is called 'b'"):
        ExperimentPolicy(Assignment(Experiment("x", (split(5_000),))), {"a": Listening("A")}, "a")


def test_variants_share_the_processors() -> None:
    """What one variant sends to a processor with a single place makes the other's payments wait: interference."""
    model = model_of({"A": {"capacity": {"concurrent": 1, "queue": 500, "code": "96"}, "timeout_s": 600.0}})
    trace = trace_of([0.4 * i for i in range(300)])

    def waited_s(share: int) -> float:
        router = ExperimentPolicy(Assignment(Experiment("x", (split(share),), salt="s")),
                                  {"a": InOrder(("A",)), "b": InOrder((), attempts=0)}, "a")
        done = Engine(trace, IssuerDecisions(World(model), trace), router, Luck(1), []).run()
        return max(done.log.attempts["latency_ms"].to_pylist()) / 1_000

    assert waited_s(3_000) < 20 < waited_s(9_000)
