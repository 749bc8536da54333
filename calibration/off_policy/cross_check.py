"""The off-policy cross-check: each policy's first choices judged by the outcomes that history itself logged.

The reward is the approval of the first attempt of a payment that follows no failed one, for these are there under every
policy, and retries, which differ, stay out of it. The trace's own outcomes enter this check and nothing else: no
simulated figure has seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from routesim.calibration.off_policy import estimators as off_policy
from routesim.calibration.off_policy.cross_fit import Nuisances, contexts, cross_fit, folds
from routesim.calibration.off_policy.estimators import Decisions, Estimate, Overlap, clustered_error
from routesim.policies.vocabulary import Choice, Draw, Payment, Policy, Send, Terms, View, Wait, refusal_of
from routesim.reports.statistics.intervals import tidy
from routesim.sim.arrays import Bools, Floats, Ints
from routesim.sim.draws import Luck, key, uniforms
from routesim.sim.flow import PolicyDraw
from routesim.sim.log import AttemptLog
from routesim.sim.trace import CHUNK, Trace

SWITCH_AT = 10.0  # τ of Switch-DR
SHRINKAGE = 100.0  # λ of DRos: a weight of 10 counts as 5
CLIPS = (2.0, 5.0, 10.0, 20.0, 50.0)
CLIPPED_AT = 10.0
FEWEST_PAYMENTS = 50
MOST_PAYMENTS = 200_000  # of more a sample is judged: its errors are small already
_HOUR_S = 3600.0
_MOST_WAITS = 5


@dataclass(frozen=True)
class FirstChoices:
    """What a policy does first with n payments, before any answer: ``target`` (n, K) probabilities by processor, and
    ``follows`` (n,), true where it sends a payment wherever history sent it."""

    target: Floats
    follows: Bools


def cross_check(trace: Trace, log: AttemptLog, factories: Mapping[str, Callable[[], Policy]], baseline: str,
                terms: Mapping[str, Terms], seed: int, provenance: Mapping[str, Any], assumed: bool,
                observed_outages: bool) -> dict[str, Any]:
    """The estimates of every policy but the baseline: the ``off_policy`` entry of summary.json but for its verdicts.

    ``trace`` and ``log`` are the payments and attempts as history holds them, with ``warm_up`` marked; ``factories``
    makes a fresh policy of each name, ``terms`` are the processors' terms as the policies see them.
    ``provenance`` is the model's; ``assumed`` says whether the scenario's world differs from the one whose outcomes
    are logged, ``observed_outages`` whether it takes its outages from them. Empty where there is no policy to judge, or
    too few first attempts to judge by.
    """
    rows, action, reward, processors = _logged(trace, log)
    if len(rows) < FEWEST_PAYMENTS or len(factories) < 2:
        return {}
    names = sorted({*processors, *terms})
    action = np.array([names.index(name) for name in processors], dtype=np.int64)[action]
    fields = {name: codes[rows] for name, codes in contexts(trace).items()}
    nuisances = cross_fit(fields, action, reward, len(names), folds(trace.table.take(rows), seed))
    hour = np.floor(trace.arrived_at[rows] / _HOUR_S).astype(np.int64)
    choices = {name: first_choices(make(), trace, rows, terms, names, seed) for name, make in factories.items()}
    base = choices[baseline]
    estimates = {name: _compare(chosen, base, action, reward, nuisances, hour)
                 for name, chosen in choices.items() if name != baseline}
    return {
        "payments": len(rows),
        "choice_fields": list(nuisances.choice_fields),
        "reward_fields": list(nuisances.reward_fields),
        "assumed": assumed,
        "observed_outages": observed_outages,
        "seen_by_model": _seen(provenance, trace.arrived_at[rows]),
        "policies": estimates,
    }


def _logged(trace: Trace, log: AttemptLog) -> tuple[Ints, Ints, Floats, list[str]]:
    """Rows of the trace that count, their first processor (an index into the names) and whether it approved."""
    ours = AttemptLog(trace.table, log.attempts)
    first = log.attempts["attempt_number"].to_numpy() == 1
    processor = log.attempts["processor"].combine_chunks().dictionary_encode()
    went = np.full(len(trace), -1, dtype=np.int64)
    won = np.zeros(len(trace))
    went[ours.payment_row[first]] = processor.indices.to_numpy()[first]
    won[ours.payment_row[first]] = np.array(log.attempts["outcome"].to_pylist())[first] == "approved"
    counted = ~trace.warm_up & trace.table["previous_payment_id"].is_null().to_numpy() & (went >= 0)
    rows = np.flatnonzero(counted)
    if len(rows) > MOST_PAYMENTS:
        rows = rows[uniforms(trace.keys[rows], key("off-policy sample")) < MOST_PAYMENTS / len(rows)]
    return rows, went[rows], won[rows], processor.dictionary.to_pylist()


def first_choices(policy: Policy, trace: Trace, rows: Ints, terms: Mapping[str, Terms], names: Sequence[str],
                  seed: int) -> FirstChoices:
    """What ``policy`` does first with the payments ``rows`` of a trace, every processor being healthy for all it knows.

    A policy that randomises is taken at the propensities that it gives, where they add up; else at what it drew. It
    follows history where its choice is history's and would have been another had history's been another.
    """
    luck = Luck(seed)
    target, follows = np.zeros((len(rows), len(names))), np.zeros(len(rows), dtype=bool)
    place = {name: number for number, name in enumerate(names)}
    for number, row in enumerate(rows.tolist()):
        payment = trace.payments(row // CHUNK)[row % CHUNK]
        draw = PolicyDraw(int(trace.keys[row]), luck)  # as the engine of world 0 and luck 0 gives it
        chances = _ask(policy, payment, draw, trace, terms)
        logged = payment.logged_processor
        if logged in chances:
            others = (name for name in terms if name != logged and refusal_of(Choice(name), payment, terms) is None)
            other = next(others, None)
            if other is not None:
                moved = _ask(policy, replace(payment, logged_processor=other), draw, trace, terms)
                follows[number] = next(iter(chances)) == logged and next(iter(moved), None) == other
        for name, chance in chances.items():
            target[number, place[name]] = chance
    return FirstChoices(target, follows)


def _ask(policy: Policy, payment: Payment, draw: Draw, trace: Trace, terms: Mapping[str, Terms]) -> dict[str, float]:
    """Probability by processor of the first attempt, led by the one that it would make now; empty for none at all."""
    view = View(payment, payment.arrived_at, terms, trace.timezone)
    for _ in range(_MOST_WAITS):
        action = policy.decide(view, draw)
        if isinstance(action, Wait):
            view.now, view.waited = action.until, True
            continue
        if not isinstance(action, Send):
            break
        legal = [choice for choice in action.choices if refusal_of(choice, payment, terms) is None]
        if not legal:
            break
        propensities = {choice.processor: choice.propensity for choice in legal if choice.propensity}
        if legal[0].processor in propensities and abs(sum(propensities.values()) - 1) < 1e-6:
            return propensities
        return {legal[0].processor: 1.0}
    return {}


METHODS: dict[str, Callable[[Decisions], Estimate]] = {
    "IPS": off_policy.ips,
    "SNIPS": off_policy.snips,
    "clipped IPS": lambda d: off_policy.clipped_ips(d, CLIPPED_AT),
    "DM": off_policy.direct_method,
    "DR": off_policy.doubly_robust,
    "SNDR": off_policy.self_normalised_doubly_robust,
    "Switch-DR": lambda d: off_policy.switch_doubly_robust(d, SWITCH_AT),
    "DRos": lambda d: off_policy.shrunk_doubly_robust(d, SHRINKAGE),
}


def _compare(chosen: FirstChoices, base: FirstChoices, action: Ints, reward: Floats, nuisances: Nuisances,
             hour: Ints) -> dict[str, Any]:
    """A policy's lift on the baseline by every estimator, pp of all payments.

    Only payments whose first choice the two would make differently enter, for the others add exactly nothing; and of
    these the ones where history has tried what either would do. Errors let payments of one hour fail together.
    """
    unlike = (np.abs(chosen.target - base.target) > 1e-9).any(axis=1)
    differs = np.where(chosen.follows | base.follows, chosen.follows != base.follows, unlike)
    unknown = _untried(chosen, nuisances) | _untried(base, nuisances)
    rows = np.flatnonzero(differs & ~unknown)
    n, changed = len(action), int(differs.sum())
    result: dict[str, Any] = {
        "changed": changed,
        "changed_share": tidy(changed / n),
        "unsupported_share": tidy(float(unknown[differs].mean())) if changed else 0.0,
        "effective_sample_size": 0.0,
        "estimates": {},
        "clipping": {},
    }
    if len(rows) < 2:
        return result
    ours, theirs = (_decisions(choices, rows, action, reward, nuisances) for choices in (chosen, base))
    overlap = Overlap.of(ours.weight)
    result |= {name: tidy(float(value)) for name, value in vars(overlap).items()}
    if not overlap.effective_sample_size:
        return result
    scale, cluster = 100 * len(rows) / n, hour[rows]
    t = float(stats.t.ppf(0.975, max(1, len(np.unique(cluster)) - 1)))

    def lift(estimate: Callable[[Decisions], Estimate], error_of: Callable[[Decisions], Estimate]) -> dict[str, Any]:
        value = scale * (estimate(ours).value - estimate(theirs).value)
        half = t * scale * clustered_error(error_of(ours).scores - error_of(theirs).scores, cluster)
        return {"value": tidy(value), "low": tidy(value - half), "high": tidy(value + half)}

    # The means of cells predicted have the same limit as DR, and its error (Hahn 1998): DM's own leaves theirs out.
    result["estimates"] = {name: lift(method, METHODS["DR"] if name == "DM" else method)
                           for name, method in METHODS.items()}
    result["clipping"] = {f"{largest:g}": lift(clip, clip) for largest in CLIPS
                          for clip in [partial(off_policy.clipped_ips, largest=largest)]}
    return result


def _decisions(chosen: FirstChoices, rows: Ints, action: Ints, reward: Floats, nuisances: Nuisances) -> Decisions:
    propensity = nuisances.propensity[rows, action[rows]]
    return Decisions.of(reward[rows], action[rows], propensity, chosen.target[rows], nuisances.reward[rows],
                        chosen.follows[rows])


def _untried(chosen: FirstChoices, nuisances: Nuisances) -> Bools:
    """Payments that a policy may send where history sent none like them."""
    return np.asarray(((chosen.target > 0) & ~nuisances.supported).any(axis=1) & ~chosen.follows)


def _seen(provenance: Mapping[str, Any], arrived_at: Floats) -> bool:
    """Whether the model was calibrated on payments of the same time."""
    window = provenance.get("window") or {}
    begins, ends = (_moments(provenance.get("payments_from"), window.get("from")),
                    _moments(provenance.get("payments_until"), window.get("until")))
    if not begins or not ends:
        return False
    return _overlap(arrived_at, max(begins), min(ends))


def _moments(*texts: str | None) -> list[float]:
    """Those of the ISO 8601 texts that are given, in seconds since the epoch."""
    return [datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in texts if text]


def _overlap(arrived_at: Floats, begins: float, ends: float) -> bool:
    return bool(arrived_at[0] < ends and arrived_at[-1] >= begins)
