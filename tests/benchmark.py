"""How fast the engine is: ``python -m tests.benchmark [PAYMENTS]``.

Machines differ, so the engine's speed is given as a ratio to an idiomatic SimPy model of the same arrivals (a process
per payment, a Resource per processor, a Timeout per wait) that runs in turns with it, both in CPU time. That model is a
much poorer one: it knows neither issuers' states, outages, comebacks nor what may be tried again, draws from a single
stream, and keeps no log.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import simpy

from routesim.calibration.made_up import described_world, legacy_factory
from routesim.calibration.made_up.traffic import MONDAY, make_trace
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine, Simulated
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import World
from routesim.sim.outages import draw_outages
from routesim.sim.trace import Trace

PAYMENTS, DAYS, ROUNDS = 50_000, 14, 5
APPROVED, RETRY_DELAY_S, LATENCY_S = 0.78, 3.0, 1.5


def idiomatic(arrived_at: list[float]) -> Counter[str]:
    """Payments as SimPy's documentation would write them: at most two attempts, at two processors."""
    env = simpy.Environment(initial_time=arrived_at[0])
    processors = [simpy.Resource(env, capacity=1000) for _ in range(4)]
    drawn = random.Random(1)
    ended: Counter[str] = Counter()

    def payment(first: int) -> Generator[Any, Any, None]:
        for attempt in range(2):
            with processors[(first + attempt) % 4].request() as place:
                yield place
                yield env.timeout(drawn.expovariate(1 / LATENCY_S))
            if drawn.random() < APPROVED:
                ended["approved"] += 1
                return
            if attempt == 0:
                yield env.timeout(RETRY_DELAY_S)
        ended["declined"] += 1

    def arrivals() -> Generator[Any, Any, None]:
        for number, at in enumerate(arrived_at):
            yield env.timeout(max(0.0, at - env.now))
            env.process(payment(number % 4))

    env.process(arrivals())
    env.run()
    return ended


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds that ``work`` takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def main(payments: int = PAYMENTS) -> None:
    """Measure, and print."""
    model = described_world()
    trace = Trace(make_trace(DAYS, payments / DAYS, 1, MONDAY), model.timezone)
    arrived_at = trace.arrived_at.tolist()
    decisions = IssuerDecisions(World(model), trace)
    outages = draw_outages(model, Luck(1), arrived_at[0], arrived_at[-1])
    factory = legacy_factory()

    def simulate(clock: Callable[[], float] | None = None) -> Simulated:
        return Engine(trace, decisions, factory(), Luck(1), outages, clock=clock).run()

    first_s = cpu_s(simulate)
    rounds = [(cpu_s(simulate), cpu_s(lambda: idiomatic(arrived_at))) for _ in range(ROUNDS)]
    n = len(trace)
    ours, theirs = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    ratio = statistics.median(b / a for a, b in rounds)
    decide_us = sorted(1e6 * s for s in simulate(time.perf_counter).decision_s)
    print(f"{n:,} payments, legacy policy, {len(outages)} outages; medians of {ROUNDS} rounds, CPU time")
    print(f"engine            {n / ours:>9,.0f} payments/s  ({n / first_s:,.0f} the first time on a trace)")
    print(f"idiomatic SimPy   {n / theirs:>9,.0f} payments/s  (a much poorer model)")
    print(f"ratio             {ratio:>9.2f}  (rounds {min(b / a for a, b in rounds):.2f} to "
          f"{max(b / a for a, b in rounds):.2f})")
    print(f"decide            {statistics.mean(decide_us):>9.2f} µs mean, {decide_us[len(decide_us) // 2]:.2f} median, "
          f"{decide_us[int(0.99 * len(decide_us))]:.2f} at p99 (the clock's own tenth of a µs included)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
