"""A scenario's file read, checked and told again in full."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from routesim.policies.catalog import build
from routesim.policies.logged import LoggedTables
from routesim.policies.retry.predictor import PredictorSource
from routesim.policies.spelling import nearest
from routesim.policies.vocabulary import Policy
from routesim.scenarios.document.overrides import apply_overrides
from routesim.scenarios.document.schema import Scenario
from routesim.scenarios.document.yaml_reader import Place, YamlSource, read_yaml
from routesim.sim.errors import BadInput


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in the file at ``path``, with ``overrides`` (KEY=VALUE) in place of what it says.

    Raises BadInput with the file, line and key of the first thing that is wrong.
    """
    data, source = _read(path, ())
    apply_overrides(data, source, overrides)
    return Scenario(data, folder=path.parent, source=source)


def _read(path: Path, chain: tuple[str, ...]) -> tuple[dict[str, Any], YamlSource]:
    """The file's keys and, for those that it leaves out, the keys of the file beside it that its ``like`` names."""
    data, source = read_yaml(path)
    if not isinstance(data, dict):
        raise BadInput("a scenario is keys and values, as in `scenario: my_week`", where=source.mark(()).where)
    if "like" not in data:
        return data, source
    like, where = data.pop("like"), source.mark(("like",)).where
    if not isinstance(like, str) or Path(like).name != like:
        raise BadInput(f"like: names a scenario's file in the same folder, and {like!r} does not", where=where)
    if like in (*chain, path.name):
        raise BadInput(f"like: goes round in a circle: {' -> '.join((*chain, path.name, like))}", where=where)
    if not (path.parent / like).exists():
        others = sorted(each.name for each in path.parent.glob("*.yaml") if each.name != path.name)
        raise BadInput(f"like: no file beside this one is called {like!r}{nearest(like, others)}", where=where)
    taken, origin = _read(path.parent / like, (*chain, path.name))
    for key in taken:
        if key not in data:
            source.marks.update({place: mark for place, mark in origin.marks.items() if place[:1] == (key,)})
    return taken | data, source


def resolved(scenario: Scenario) -> str:
    """The scenario as YAML, in full: defaults, overrides and ``like`` written out. Loading it gives the same again."""
    data = scenario.model_dump(by_alias=True, exclude={"policies"})
    data["policies"] = {name: policy.plain() for name, policy in scenario.policies.items()}
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 110
    writer.allow_unicode = True
    text = StringIO()
    writer.dump(data, text)
    return text.getvalue()


def check_processors(scenario: Scenario, known: Collection[str]) -> None:
    """Raise BadInput, with file and line, for a processor that is neither in ``known`` nor made by ``like``."""
    made = {name for name, change in scenario.world.processors.items() if change.like is not None}
    for name, place in sorted(_named_processors(scenario), key=lambda each: scenario.source.mark(each[1]).line):
        if name in known or name in made:
            continue
        key = ".".join(str(step) for step in scenario.source.nearest_path(place))
        hint = nearest(name, {*known, *made})
        new = "; a new processor needs `like`" if place[:2] == ("world", "processors") and place[-1] != "like" else ""
        raise BadInput(
            f"{key}: no processor is called {name!r}{hint}{new}", where=scenario.source.mark(place).where
        )


def _named_processors(scenario: Scenario) -> Iterator[tuple[str, Place]]:
    for place, outage in enumerate(scenario.outages.add):
        for at, name in enumerate(outage.processors):
            yield name, ("outages", "add", place, "processors", at)
    for name, change in scenario.world.processors.items():
        if change.like is None:
            yield name, ("world", "processors", name)
        else:
            yield change.like, ("world", "processors", name, "like")
    for place, shift in enumerate(scenario.world.changes):
        yield shift.processor, ("world", "changes", place, "processor")
    for policy, description in scenario.policies.items():
        for name, path in description.route.named_processors() if description.route else ():
            yield name, ("policies", policy, "route", *path)


def policy_factories(
    scenario: Scenario,
    model_processors: Collection[str],
    logged_tables: LoggedTables | None = None,
    predictor: PredictorSource | None = None,
) -> dict[str, Callable[[], Policy]]:
    """A factory of fresh policies for each policy of the scenario, in its order.

    ``model_processors`` are those that the model knows; ``logged_tables`` is what a ``logged`` policy needs,
    ``predictor`` what a ``predicted`` retry does. Raises BadInput for an unknown processor or a policy that cannot be
    made.
    """
    check_processors(scenario, model_processors)
    factories = {}
    for name, description in scenario.policies.items():
        try:
            factories[name] = build(description, logged_tables, scenario.folder, predictor)
        except ValueError as error:
            where = scenario.source.mark(("policies", name)).where
            raise BadInput(f"policies.{name}: {error}", where=where) from None
    return factories
