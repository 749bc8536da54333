"""What each failover part's defaults cost: minutes to see a total outage, against the least possible.

`python -m tests.detection` prints the table of docs/detection.md. One processor of two, whose answers take a lognormal
time of median 0.9 s (sigma 0.45), goes down while payments come to it at 2, 20 or 200 a minute.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from routesim.policies.catalog import PolicyParts, build
from routesim.sim.model import Model
from routesim.sim.outages import Outage
from tests.worlds import START, model_of, poisson_arrivals, simulate, trace_of

TIMEOUT_S, MEDIAN_S, SIGMA = 30.0, 0.9, 0.45
MEAN_S = MEDIAN_S * math.exp(SIGMA**2 / 2)
TIMEOUTS, UNAVAILABLE = 0.0015, 0.004  # shares of attempts while the processor is healthy
PARTS: dict[str, Any] = {
    "circuit_breaker": "circuit_breaker", "window_breaker": "window_breaker", "outlier_ejection": "outlier_ejection",
    "leaky_bucket": "leaky_bucket", "score_elimination": "score_elimination",
    "score_elimination (threshold 0.35)": {"score_elimination": {"threshold": 0.35}},
    "random_sampling": "random_sampling", "health_monitor": "health_monitor",
}
RATES_PER_MIN = (2, 20, 200)
OUTAGE_S = 3600.0


def world() -> Model:
    latency = {"approved": {"family": "lognormal", "median": 1000 * MEDIAN_S, "sigma": SIGMA}}
    processor = {"latency": latency, "timeout_s": TIMEOUT_S, "technical": {"96": UNAVAILABLE, "TO": TIMEOUTS}}
    return model_of({"A": processor, "B": {"latency": latency, "timeout_s": TIMEOUT_S}}, approval={"intercept": 1.7})


def healthy_s(rate_per_min: float) -> float:
    """How long the processor is healthy before: windows fill, and a part that learns has learnt."""
    return max(3600.0, 60 * 400 / rate_per_min)


def minutes_to_detect(part: Any, rate_per_min: float, seed: int) -> float:
    """From the outage's start to the first attempt that passes the processor over; inf where there is none."""
    before = healthy_s(rate_per_min)
    arrivals = poisson_arrivals(rate_per_min / 60, int((before + OUTAGE_S) * rate_per_min / 60), seed)
    start = START + before
    log = simulate(trace_of(arrivals.tolist()), world(), _policy(part), seed,
                   outages=[Outage("A", "down", start, start + OUTAGE_S, 1.0)]).log
    passed = [s for s in _passed_over(log.attempts) if s >= start]
    return (min(passed) - start) / 60 if passed else math.inf


def false_minutes(part: Any, rate_per_min: float, hours: float, seed: int) -> tuple[int, float]:
    """Stretches in which a healthy processor was passed over, and their minutes."""
    arrivals = poisson_arrivals(rate_per_min / 60, int(hours * 60 * rate_per_min), seed)
    log = simulate(trace_of(arrivals.tolist()), world(), _policy(part), seed, outages=[]).log.attempts
    sent = log["sent_at"].to_numpy().astype("datetime64[us]").astype(float) / 1e6
    shut = np.array([any(skip["processor"] == "A" for skip in skipped or ()) for skipped in log["skipped"].to_pylist()])
    order = np.argsort(sent, kind="stable")
    sent, shut = sent[order], shut[order]
    edges = np.flatnonzero(np.diff(shut.astype(int), prepend=0, append=0))
    begins, ends = edges[::2], np.minimum(edges[1::2], len(sent) - 1)
    return len(begins), float((sent[ends] - sent[begins]).sum() / 60)


def _policy(part: Any) -> Any:
    return build(PolicyParts.model_validate({"route": [{"to": ["A", "B"]}], "failover": part}))()


def _passed_over(attempts: Any) -> list[float]:
    sent = attempts["sent_at"].to_numpy().astype("datetime64[us]").astype(float) / 1e6
    return [s for s, skipped in zip(sent.tolist(), attempts["skipped"].to_pylist(), strict=True) if skipped]


def by_count(failures: int, rate_per_min: float) -> float:
    """Minutes until ``failures`` timeouts have been heard and the next payment is sent elsewhere.

    Attempts in flight at the start are lost as well, which takes a mean latency off: the k-th lost attempt is sent
    k / rate - mean latency after the start, its timeout is heard T later, and the next payment comes 1 / rate after.
    """
    per_s = rate_per_min / 60
    return ((failures + 1) / per_s - MEAN_S + TIMEOUT_S) / 60


def theory(name: str, rate_per_min: float) -> float | None:
    """Minutes to detect by the part's own arithmetic, where it has a closed form."""
    counts: Mapping[str, int] = {
        "circuit_breaker": 5,      # five timeouts in a row
        "outlier_ejection": 5,     # five failures in a row
        "window_breaker": 50,      # half of the last 100 calls
        "score_elimination": math.ceil(math.log(0.05) / math.log(0.95)),
        "score_elimination (threshold 0.35)": math.ceil(math.log(0.35) / math.log(0.95)),
    }
    return by_count(counts[name], rate_per_min) if name in counts else None


def least(rate_per_min: float, false_every_days: float = 30.0) -> float:
    """Minutes below which nobody who sees no more than answers and silence can detect, once in ``false_every_days``
    being wrong.

    n attempts in a row that are all silent at age a have the probability S(a)^n under health, where
    S(a) = p + (1 - p) P(latency > a) with p the share of timeouts; there are rate x days attempts at which the
    chance to err comes up, so S(a)^n <= 1 / (rate x days). The n-th is sent n / rate - mean latency after the
    start, and seen a later, if there is a payment then to be sent elsewhere (1 / rate).
    """
    chance = 1 / (rate_per_min * 1440 * false_every_days)
    per_s = rate_per_min / 60
    ages = np.linspace(0.05, TIMEOUT_S, 4000)
    z = np.log(ages / MEDIAN_S) / SIGMA
    silent = TIMEOUTS + (1 - TIMEOUTS) * np.array([1 - NormalDist().cdf(float(v)) for v in z])
    needed = np.ceil(np.log(chance) / np.log(silent))
    seconds = np.maximum((needed + 1) / per_s - MEAN_S, 1 / per_s) + ages
    return float(seconds.min() / 60)


def main(seeds: int) -> None:
    head = " | ".join(f"{r}/min" for r in RATES_PER_MIN)
    print(f"| part | {head} | {' | '.join(f'theory {r}/min' for r in RATES_PER_MIN)} | false ejections a day, "
          f"20/min | minutes shut a day |")
    print("|" + "---|" * (2 * len(RATES_PER_MIN) + 3))
    print("| *least possible* | " + " | ".join(f"{least(r):.2f}" for r in RATES_PER_MIN) + " | | | | 0.03 | |")
    for name, part in PARTS.items():
        cells = []
        for rate in RATES_PER_MIN:
            found = np.array([minutes_to_detect(part, rate, seed) for seed in range(seeds)])
            seen = found[np.isfinite(found)]
            error = seen.std(ddof=1) / np.sqrt(len(seen)) if len(seen) > 1 else math.nan
            missed = f" ({seeds - len(seen)} of {seeds} never)" if len(seen) < seeds else ""
            cells.append((f"{seen.mean():.2f} ± {error:.2f}" if len(seen) else "never") + (missed if len(seen) else ""))
        told = [theory(name, rate) for rate in RATES_PER_MIN]
        cells += ["" if t is None else f"{t:.2f}" for t in told]
        days = [false_minutes(part, 20, 24.0, seed) for seed in range(max(2, seeds // 5))]
        cells += [f"{np.mean([n for n, _ in days]):.2f}", f"{np.mean([m for _, m in days]):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
