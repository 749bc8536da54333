"""What a scenario assumes, applied to a drawn world and to the trace; and the same told in words for the report.

A assumption changes the world after it was drawn, so that what is not assumed keeps its uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import optimize, special

from routesim.policies.conditions import Predicate, compile_when
from routesim.policies.durations import parse_duration
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.document.what_ifs import ApprovalShift, ProcessorChange, WhatIfs
from routesim.sim.arrays import Bools, Floats
from routesim.sim.customers import Customers, Patience
from routesim.sim.draws import Luck, generator, identities, key, uniforms
from routesim.sim.engine import Change
from routesim.sim.errors import BadInput
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.model import Capacity, Model, Processor, World
from routesim.sim.network_rules import Enforcement
from routesim.sim.outages import Outage, draw_outages
from routesim.sim.trace import CHUNK, Trace, timestamps

FOREVER = float("inf")
_CLONE_JITTER_S = 900.0  # clones of a payment spread over half an hour: the day's rhythm stays, the instant does not
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)


@dataclass(frozen=True)
class AssumedWorld:
    """A world as the scenario assumes it: issuers' decisions, changes at given times, customers, networks' rules."""

    decisions: IssuerDecisions
    changes: Sequence[Change]
    customers: Customers | None = None
    network_rules: Enforcement = "off"


def assumed_world(scenario: Scenario, drawn: World, trace: Trace) -> AssumedWorld:
    """Apply ``world`` of the scenario. Raises BadInput for a shift of approval that no probability can make."""
    what_if = scenario.world
    processors = assumed_processors(scenario, drawn.model)
    origins = {name: _origin(what_if.processors, name) for name in what_if.processors}
    world = World(drawn.model.model_copy(update={"processors": processors}), drawn.seed, drawn.number)
    decisions = IssuerDecisions(world, trace, {name: origin for name, (origin, _) in origins.items()})
    for name, (_, links) in origins.items():
        for link in links:
            moved = what_if.processors[link].approval_pp
            if moved is not None:
                every = np.ones(len(trace), dtype=bool)
                shift = _logit_shift(scenario, decisions, name, _drawn_pp(drawn, link, moved), every,
                                     ("world", "processors", link, "approval_pp"))
                decisions.shift(name, np.full(len(trace), shift))
    changes = []
    for number, each in enumerate(what_if.changes):
        applies = matching(trace, compile_when(each.when))
        pp = _drawn_pp(drawn, f"change {number}", each.approval_pp)
        shift = _logit_shift(scenario, decisions, each.processor, pp, applies,
                             ("world", "changes", number, "approval_pp"))
        changes.append(Change(each.at.timestamp(), each.until.timestamp() if each.until else FOREVER, each.processor,
                              np.where(applies, shift, 0.0)))
    return AssumedWorld(decisions, changes, _customers(what_if), scenario.network_rules)


def _customers(what_if: WhatIfs) -> Customers | None:
    told, needs_credential = what_if.patience, what_if.stored_credential == "required"
    if told is None:
        return Customers(needs_credential=True) if needs_credential else None
    patience = Patience(parse_duration(told.median), told.sigma, frozenset(told.initiators))
    return Customers(patience, needs_credential)


def assumed_processors(scenario: Scenario, model: Model) -> dict[str, Processor]:
    """The model's processors by name, as ``world: processors:`` changes them, and those that it makes."""
    changes = scenario.world.processors
    processors = dict(model.processors)
    for name in changes:
        origin, links = _origin(changes, name)
        processor = model.processors[origin]
        for link in links:
            processor = _changed(processor, changes[link])
        processors[name] = processor
    return processors


def _origin(changes: Mapping[str, ProcessorChange], name: str) -> tuple[str, list[str]]:
    """The model's processor that ``name`` begins as, and whose changes it takes on: the farthest ``like`` first, its
    own last."""
    links = [name]
    while (like := changes[links[0]].like) is not None:
        if like not in changes:
            return like, links
        links.insert(0, like)
    return links[0], links


def _changed(processor: Processor, change: ProcessorChange) -> Processor:
    update: dict[str, object] = {}
    if change.fee is not None:
        update["fee"] = processor.fee.model_copy(update=change.fee.model_dump(exclude_none=True))
    if change.capacity is not None:
        update["capacity"] = Capacity(concurrent=change.capacity.concurrent, queue=change.capacity.queue)
    if change.latency is not None:
        factor = processor.latency.factor * change.latency.factor
        update["latency"] = processor.latency.model_copy(update={"factor": factor})
    if change.late_approvals is not None:
        update["late_approval_share"] = change.late_approvals
    if change.timeout is not None:
        update["timeout_s"] = parse_duration(change.timeout)
    if change.currencies is not None:
        update["currencies"] = change.currencies
    if change.card_brands is not None:
        update["card_brands"] = change.card_brands
    return processor.model_copy(update=update)


def _drawn_pp(world: World, name: str, shift: ApprovalShift) -> float:
    z = 0.0 if world.number is None else float(generator("supposed", world.seed, world.number, name).standard_normal())
    return shift.mean + shift.sd * z


def _logit_shift(scenario: Scenario, decisions: IssuerDecisions, processor: str, pp: float,
                 applies: Bools, place: tuple[str | int, ...]) -> float:
    """The shift of the judgement's logit that moves approval at ``processor`` by ``pp`` on average over payments that
    are not blocked; the share that is blocked, which no processor can change, is allowed for."""
    rows = np.flatnonzero(applies)
    if pp == 0 or not len(rows):
        return 0.0
    rows = rows[:: max(1, len(rows) // 4000)]
    logits = decisions.approval_logits(processor)[rows][:, None]
    frailty = decisions.world.model.issuer.frailty_sd * _NODES
    cumulative = decisions.block_cumulative[rows]
    free = 1 - (cumulative[:, -1] if cumulative.shape[1] else np.zeros(len(rows)))

    def approval(shift: float) -> float:
        judged = (special.expit(logits + frailty + shift) * _WEIGHTS).sum(axis=1) / _WEIGHTS.sum()
        return float((free * judged).mean())

    base, target = approval(0.0), approval(0.0) + pp / 100
    if not 1e-6 < target < float(free.mean()) - 1e-6:
        raise BadInput(f"{'.'.join(map(str, place))}: {pp:+.2f} pp is out of reach: approval at {processor} is "
                       f"{100 * base:.1f} % of which at most {100 * float(free.mean()):.1f} % can be had",
                       scenario.source.mark(place).where)
    return float(optimize.brentq(lambda s: approval(s) - target, -40, 40, xtol=1e-6))


def matching(trace: Trace, predicate: Predicate) -> Bools:
    """Which payments of a trace a compiled ``when`` holds for, (n,)."""
    chunks = (trace.payments(c) for c in range(-(-len(trace) // CHUNK)))
    return np.array([predicate(payment) for chunk in chunks for payment in chunk], dtype=bool)


def outages_of(scenario: Scenario, model: Model, luck: Luck, observed: Sequence[Outage], start: float,
               end: float) -> list[Outage]:
    """The outages of one replication: drawn, observed or none, and those that the scenario adds."""
    base: list[Outage] = []
    if scenario.outages.base == "calibrated":
        base = draw_outages(model, luck, start, end)
    elif scenario.outages.base == "observed":
        base = list(observed)
    for each in scenario.outages.add:
        applies = compile_when(each.when) if each.when else None
        base += [Outage(processor, each.kind, each.start_s, each.end_s, each.loss_share, each.latency_factor or 1.0,
                        each.code, applies) for processor in each.processors]
    return sorted(base, key=lambda o: (o.start, o.processor, o.end))


def traffic(trace: Trace, factor: float, seed: int) -> Trace:
    """The trace with ``factor`` times the orders: whole orders are kept or cloned, each by a draw keyed by its name."""
    if factor == 1:
        return trace
    table = trace.table
    orders = table["order_id"].to_pylist()
    who = identities(orders)
    whole, part = int(factor), factor - int(factor)
    parts = [table] * min(whole, 1)
    for copy in range(1, whole + (1 if part > 0 else 0)):
        last = copy == whole
        keep = uniforms(who, key("traffic", seed, copy)) < (part if last else 1.0)
        jitter = (uniforms(who, key("traffic jitter", seed, copy)) - 0.5) * 2 * _CLONE_JITTER_S
        parts.append(_clone(table, trace.arrived_at + jitter, f"~{copy + 1}").filter(pa.array(keep)))
    if whole == 0:
        parts = [table.filter(pa.array(uniforms(who, key("traffic", seed, 0)) < part))]
    return Trace(pa.concat_tables(parts), trace.timezone.key)


def _clone(table: pa.Table, arrived_at: Floats, suffix: str) -> pa.Table:
    for name in ("payment_id", "order_id", "previous_payment_id"):
        renamed = pc.binary_join_element_wise(table[name], suffix, "")
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), renamed)
    where = table.schema.get_field_index("arrived_at")
    return table.set_column(where, table.schema.field("arrived_at"), timestamps(arrived_at))


def in_words(scenario: Scenario) -> list[str]:
    """Everything that rests on an assumption of the scenario rather than on history, one line each."""
    lines = []
    for name, change in scenario.world.processors.items():
        said = change.model_dump(exclude_none=True, exclude={"like"})
        what = f"{name} is a processor like {change.like}" if change.like else f"{name} changes"
        lines.append(f"{what}: {said}" if said else what)
    for each in scenario.world.changes:
        span = f"from {each.at:%Y-%m-%d %H:%M}" + (f" until {each.until:%Y-%m-%d %H:%M}" if each.until else "")
        lines.append(f"approval at {each.processor} moves by {each.approval_pp.mean:+g} pp {span}"
                     + (f" where {each.when}" if each.when else ""))
    if scenario.world.arrivals.factor != 1:
        lines.append(f"traffic is {scenario.world.arrivals.factor:g} times the trace's")
    patience = scenario.world.patience
    if patience is not None:
        lines.append(f"half of the customers of {' and '.join(patience.initiators)} payments are gone after "
                     f"{patience.median} (lognormal, sigma {patience.sigma:g})")
    if scenario.world.stored_credential == "required":
        lines.append("without a stored credential no payment but a merchant-initiated one is tried again after 15 "
                     "minutes or more")
    if scenario.network_rules != "enforce":
        what = "let out for the network's fee" if scenario.network_rules == "priced" else "let out, and cost nothing"
        lines.append(f"attempts that a card network's limit on reattempts forbids are {what}")
    if scenario.outages.base != "calibrated":
        lines.append(f"outages: {scenario.outages.base}")
    lines += [f"an outage of {', '.join(o.processors)} ({o.kind}, loss {o.loss_share:g}) from {o.start:%Y-%m-%d %H:%M} "
              f"for {o.duration}" + (f" where {o.when}" if o.when else "") for o in scenario.outages.add]
    return lines


def retries_assume(scenario: Scenario) -> str:
    """What a retry of a customer's payment after a deliberate delay rests on, in words."""
    patience, required = scenario.world.patience, scenario.world.stored_credential == "required"
    customers = ("customers are assumed to wait as long as the policy does" if patience is None
                 else f"half of the customers are assumed to be gone after {patience.median}")
    cards = ("cards are on file where history says so" if required else "every card is assumed to be on file")
    return f"{customers}, and {cards}"
