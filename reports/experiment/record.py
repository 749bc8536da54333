"""One simulated test as plain data: its looks, the verdicts on them, and what else its figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from routesim.reports.experiment.looks import ExperimentPlan, Look, Outcomes, daily_looks, design_effect, phase_counts
from routesim.reports.experiment.rules import RULES, judge
from routesim.reports.statistics.platform_rule import Unmet, WinnerCondition

Counts = list[tuple[int, int]]  # payments, and those approved in the end, of each variant


@dataclass(frozen=True)
class Record:
    """One test of one replication.

    ``looks``: every day's; ``calls``: by rule, the winner's name at every look or None; ``p_values``, ``unmet``: by
    treatment and look; ``guards``: which guard alone kept a significant lift from being called; ``adjusted``: CUPED's
    lift (a share), standard error and the share of variance it removed, by treatment, None without a pre-period.
    ``counts``: all payments, with what became of them in the end; ``fresh``: those whose assignment is not stale;
    ``phases``: by stage; ``strata``: by dimension and level. ``design_effect``: of the unit. ``units``: how
    many.
    """

    looks: list[Look]
    calls: dict[str, list[str | None]]
    p_values: list[list[float]]
    unmet: list[list[list[Unmet]]]
    guards: dict[WinnerCondition, bool]
    adjusted: list[dict[str, float] | None]
    counts: Counts
    fresh: Counts
    phases: list[Counts]
    strata: list[tuple[str, str, Counts]]
    design_effect: float
    units: int

    def decided(self, rule: str) -> tuple[int, str] | None:
        """The day and the winner; None where nobody was called."""
        return next(((day, name) for day, name in enumerate(self.calls[rule], start=1) if name is not None), None)

    def lift_pp(self, treatment: int) -> float | None:
        """The lift of all payments, by what became of them in the end."""
        return lift_pp(self.counts, treatment)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of_plain(cls, data: Mapping[str, Any]) -> Record:
        """The record that ``plain`` was made of. Raises KeyError, TypeError or ValueError where it is none."""
        looks = [Look(look["day"], tuple(look["n"]), tuple(look["approvals"]), tuple(look["p95_ms"]),
                      tuple(look["revenue_usd"]), look["srm_p"], tuple(look["design_effect"]))
                 for look in data["looks"]]
        strata = [(dimension, level, _pairs(counts)) for dimension, level, counts in data["strata"]]
        pairs = {name: _pairs(data[name]) for name in ("counts", "fresh")}
        phases = [_pairs(each) for each in data["phases"]]
        unmet = [[[Unmet(WinnerCondition(condition), found) for condition, found in at_look] for at_look in looks]
                 for looks in data["unmet"]]
        guards = {WinnerCondition(guard): tripped for guard, tripped in data["guards"].items()}
        return cls(**{**data, **pairs, "looks": looks, "strata": strata, "phases": phases, "unmet": unmet,
                      "guards": guards})


def lift_pp(counts: Sequence[tuple[int, int]], treatment: int) -> float | None:
    """100 times the difference of the rates; None where an arm is empty."""
    (n_c, yes_c), (n_t, yes_t) = counts[0], counts[treatment]
    return None if min(n_c, n_t) == 0 else 100 * (yes_t / n_t - yes_c / n_c)


def record(plan: ExperimentPlan, found: Outcomes, labels: Mapping[str, pa.Array] | None = None) -> Record:
    """Look at a test and judge it. ``labels``: by dimension, the level of each of its payments."""
    looks = daily_looks(plan, found)
    judged = judge(plan, looks, found)
    everyone = np.ones(len(found.variant), dtype=np.bool_)
    strata = [(dimension, level, _counts(plan, found, codes == code))
              for dimension, column in (labels or {}).items()
              for level, code, codes in _levels(column)]
    return Record(
        looks=looks, calls={rule: judged.calls[rule] for rule in RULES}, p_values=judged.p_values,
        unmet=[[list(why) for why in each] for each in judged.unmet], guards=judged.guards,
        adjusted=[None if each is None else asdict(each) for each in judged.adjusted],
        counts=_counts(plan, found, everyone), fresh=_counts(plan, found, ~found.stale),
        phases=phase_counts(plan, found), strata=strata, design_effect=design_effect(found),
        units=len(np.unique(found.unit)))


def _counts(plan: ExperimentPlan, found: Outcomes, of: np.ndarray[Any, np.dtype[np.bool_]]) -> Counts:
    size = len(plan.variants)
    n = np.bincount(found.variant[of], minlength=size)
    yes = np.bincount(found.variant[of & found.approved], minlength=size)
    return list(zip(n.tolist(), yes.tolist(), strict=True))


def _levels(column: pa.Array) -> Iterable[tuple[str, int, np.ndarray[Any, np.dtype[np.int64]]]]:
    encoded = column.dictionary_encode()
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    names = encoded.dictionary.to_pylist()
    for code in sorted(range(len(names)), key=names.__getitem__):
        yield names[code], code, codes


def _pairs(counts: Iterable[Sequence[int]]) -> Counts:
    return [(int(n), int(yes)) for n, yes in counts]
