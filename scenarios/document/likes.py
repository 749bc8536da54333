"""``like``: a policy that takes over the parts of another one and replaces those that it names itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from routesim.policies.spelling import nearest
from routesim.scenarios.document.yaml_reader import YamlSource
from routesim.sim.errors import BadInput


def expand_likes(policies: Mapping[str, Any], source: YamlSource) -> dict[str, Any]:
    """``policies`` with each ``like`` replaced by the parts it stands for. Raises BadInput where it leads nowhere."""
    return {name: _expanded(name, policies, source, ()) for name in policies}


def _expanded(name: str, policies: Mapping[str, Any], source: YamlSource, chain: tuple[str, ...]) -> Any:
    written = policies[name]
    if not isinstance(written, dict) or "like" not in written:
        return written
    like, place = written["like"], ("policies", name, "like")
    where = source.mark(place).where
    if not isinstance(like, str) or like not in policies:
        hint = nearest(like, [each for each in policies if each != name])
        raise BadInput(f"policies.{name}.like: no policy is called {like!r}{hint}", where=where)
    if like == name or like in chain:
        circle = " -> ".join((*chain, name, like))
        raise BadInput(f"policies.{name}.like: `like` goes round in a circle: {circle}", where=where)
    parent = _expanded(like, policies, source, (*chain, name))
    if not isinstance(parent, dict) or "policy" in parent:
        raise BadInput(
            f"policies.{name}.like: {like!r} is a whole policy, without parts that could be replaced", where=where
        )
    for part in parent:
        if part not in written:
            source.copy_marks(("policies", like, part), ("policies", name, part))
    return {part: value for part, value in (parent | written).items() if part != "like"}
