"""A made-up history: the world and the merchant's rules simulated, and written as its database would be copied."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from routesim.calibration.made_up.cut import Cut, cut_at
from routesim.calibration.made_up.described import (
    described_traffic,
    described_world,
    legacy_factory,
    legacy_policy,
    legacy_text,
)
from routesim.calibration.made_up.dirt import DIRT, soil
from routesim.calibration.made_up.extract import extract
from routesim.calibration.made_up.rules import MerchantRules
from routesim.calibration.made_up.traffic import MONDAY, make_trace
from routesim.policies.vocabulary import Policy
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine
from routesim.sim.errors import BadInput
from routesim.sim.files import write_table, write_text
from routesim.sim.folders import Claim, Kind, claimed
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import CalibratedModel, Model, World
from routesim.sim.outages import draw_outages, outage_table
from routesim.sim.trace import Trace

TRUTH = "truth"  # the folder beside the views that tells what no real extract would
HISTORY = Kind("made-up history", ("*.parquet", TRUTH), mark=f"{TRUTH}/truth.json")
_DAY_S = 86_400.0


def make_history(out: Path, days: int = 28, per_day: float = 2600, seed: int = 1,
                 policy_factory: Callable[[], Policy] | None = None, world: Model | None = None, dirty: bool = True,
                 start: datetime = MONDAY, progress: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Simulate ``days`` days from ``start`` and write the folder ``out``; return what ``truth/truth.json`` tells.

    ``out`` gets one Parquet file a view and ``truth/``: ``model/`` (the world as a calibrated model that is known
    exactly), ``outages.parquet``, ``legacy.yaml`` (the rules, where ``policy_factory`` is not given) and
    ``truth.json``. The database is copied when the days are over: what was sent later is not in it, and what was then
    on its way is pending. ``dirty`` adds the dirt of ``dirt.DIRT``. ``policy_factory`` takes the place of the
    merchant's own rules, ``world`` that of the described world. ``progress`` is told what is being done.

    The folder appears whole or not at all, and the same arguments give the same bytes. Raises BadInput where there is
    nothing to make, or where ``out`` holds anything but an earlier made-up history, which is replaced.
    """
    with claimed(Path(out), HISTORY) as claim:
        return _make(claim, days, per_day, seed, policy_factory, described_world() if world is None else world, dirty,
                     start, progress or (lambda _: None))


def _make(claim: Claim, days: int, per_day: float, seed: int, policy_factory: Callable[[], Policy] | None,
          model: Model, dirty: bool, start: datetime, tell: Callable[[str], None]) -> dict[str, Any]:
    tell("payments")
    trace = Trace(make_trace(days, per_day, seed, start), model.timezone)
    if len(trace) == 0:
        raise BadInput(f"{days} days at {per_day:g} payments a day brought no payment; make up more", "per_day")
    begin_s = (start.replace(tzinfo=UTC) if start.tzinfo is None else start).timestamp()
    end_s = begin_s + days * _DAY_S
    luck = Luck(seed)
    outages = draw_outages(model, luck, begin_s, end_s)
    tell("simulation")
    policy = (policy_factory or legacy_factory())()
    simulated = Engine(trace, IssuerDecisions(World(model, seed), trace), policy, luck, outages).run()
    tell("extract")
    cut = cut_at(simulated.log, end_s, seed)
    rules = MerchantRules(legacy_policy() if policy_factory is None else None)
    views = extract(cut, rules, described_traffic().merchant, model.timeout_code, begin_s, end_s, seed)
    truth = {"seed": seed, "days": days, "per_day": per_day, "start": _iso(begin_s), "end": _iso(end_s),
             "world": model.name, "policy": "legacy" if policy_factory is None else type(policy).__name__,
             "dirt": dict(DIRT) if dirty else {}, "outages": len(outages),
             "refused": {refusal.name: n for refusal, n in sorted(simulated.refusals.items())},
             "unfinished": simulated.unfinished, "observed": _observed(cut)}
    with claim.work() as work:
        known = work.made / TRUTH
        for view, table in (soil(views, seed) if dirty else views).items():
            write_table(work.made / f"{view}.parquet", table)
        CalibratedModel(model).write(known / "model")
        write_table(known / "outages.parquet", outage_table(outages))
        if policy_factory is None:
            write_text(known / "legacy.yaml", legacy_text())
        write_text(known / "truth.json", json.dumps(truth, indent=1, allow_nan=False) + "\n")
    return truth


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _observed(cut: Cut) -> dict[str, Any]:
    """Levels in the copy before dirt, over what was answered: shares by payment, by order, of first attempts, of
    retries by the code before. A payment whose only attempt was under way counts in none but ``pending``."""
    attempts = cut.attempts[~cut.attempts["pending"]].copy()
    payments = cut.payments.iloc[attempts["row"].unique()]
    orders = payments.groupby("order")["approved"].any()
    attempts["approved"] = attempts["outcome"] == "approved"
    attempts["before"] = attempts.groupby("row")["decline_code"].shift(1)
    first, retries = attempts[attempts["attempt_number"] == 1], attempts[attempts["attempt_number"] > 1]
    codes = first.loc[~first["approved"], "decline_code"].value_counts(normalize=True)
    return {
        "payments": len(payments), "orders": len(orders), "attempts": len(attempts),
        "pending": int(cut.attempts["pending"].sum()), "comebacks": int((payments["forerunner"] >= 0).sum()),
        "approval": _share(payments["approved"]), "order_approval": _share(orders),
        "first_attempt": _share(first["approved"]),
        "recovered": _share(payments["approved"] & (payments["attempts"] > 1)),
        "retry_success": _share(retries["approved"]),
        "retry_success_by_code": {str(code): {"retries": len(group), "approved": _share(group["approved"])}
                                  for code, group in retries.groupby("before", sort=True)},
        "decline_codes_of_first_attempts": {str(code): float(codes[code]) for code in sorted(codes.index)},
        "first_attempt_by_processor": {str(name): {"attempts": len(group), "approved": _share(group["approved"])}
                                       for name, group in first.groupby("processor", sort=True)},
    }


def _share(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None
