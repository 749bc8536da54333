"""``--set KEY=VALUE``: one value of the scenario replaced, by dotted key."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from routesim.scenarios.document.yaml_reader import Mark, Place, YamlSource, parse_yaml
from routesim.sim.errors import BadInput


def apply_overrides(data: dict[str, Any], source: YamlSource, overrides: Sequence[str]) -> None:
    """Write each override into ``data``, and in ``source`` that it came from the command line.

    A number in a key is a place in a list. Keys that the scenario left out are made; whether they are known is
    for the schema to say. Raises BadInput where a key leads through a value or past the end of a list.
    """
    for override in overrides:
        where = f"--set {override}"
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise BadInput("write --set KEY=VALUE, as --set replications.worlds=5", where=where)
        value, marks = parse_yaml(text, where) if text.strip() else (None, YamlSource(where))
        _inherit(data, key.strip().split("."))
        path = _write(data, key.strip().split("."), value, where)
        source.forget(path)
        source.marks[path] = Mark(where, 0, text)
        for below, mark in marks.marks.items():
            source.marks[path + below] = Mark(where, 0, mark.text)
        for length in range(len(path)):
            source.marks.setdefault(path[:length], Mark(where, 0))


def _inherit(data: dict[str, Any], steps: list[str]) -> None:
    """Where a key lies within a part that a policy takes from its ``like``, give the policy a copy of that part."""
    policies = data.get("policies")
    if len(steps) < 4 or steps[0] != "policies" or not isinstance(policies, dict):
        return
    name, part = steps[1:3]
    seen: set[str] = set()
    holder = policies.get(name)
    while isinstance(holder, dict) and part not in holder and isinstance(holder.get("like"), str):
        if holder["like"] in seen:
            return
        seen.add(holder["like"])
        holder = policies.get(holder["like"])
    if isinstance(holder, dict) and part in holder and isinstance(policies.get(name), dict):
        policies[name].setdefault(part, deepcopy(holder[part]))


def _write(data: dict[str, Any], steps: list[str], value: Any, where: str) -> Place:
    holder: Any = data
    path: Place = ()
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        at: str | int = _place(holder, step, path, where) if isinstance(holder, list) else step
        path = (*path, at)
        if following is None:
            holder[at] = value
            break
        inner = holder.get(at) if isinstance(holder, dict) else holder[at]
        if not isinstance(inner, dict | list):
            inner = _opened(inner, following, path, where)
            holder[at] = inner
        holder = inner
    return path


def _place(holder: list[Any], step: str, path: Place, where: str) -> int:
    name = ".".join(str(each) for each in path)
    if not step.isdecimal() or int(step) >= len(holder):
        raise BadInput(f"{name} is a list of {len(holder)}; write a place from 0 to {len(holder) - 1}", where=where)
    return int(step)


def _opened(value: Any, following: str, path: Place, where: str) -> dict[str, Any]:
    """The mapping that the shorthand ``value`` stands for, so that a key within it can be set."""
    if value is None or value == "none":
        return {}
    if path == ("replications",):
        return {"worlds": value}
    if value == following:  # as `failover: circuit_breaker`
        return {following: {}}
    raise BadInput(f"{'.'.join(str(each) for each in path)} is {value!r}, which has no keys", where=where)
