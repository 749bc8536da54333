"""A scenario that a program writes: its values made those that YAML has, and the place of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from numbers import Integral, Real
from os import PathLike, fspath
from typing import Any

from routesim.scenarios.document.yaml_reader import Mark, Place, YamlSource
from routesim.sim.errors import BadInput

_NAME = "scenario"  # stands for the file in complaints


def plain_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in mappings, lists, text, numbers, true, false and null.

    A tuple becomes a list, a path and a moment text, a number of NumPy's one of Python's, and a class its dotted path.
    Raises BadInput for anything else.
    """
    return {_key(key, ()): _plain(value, (key,)) for key, value in document.items()}


def _key(key: object, place: Place) -> str:
    if not isinstance(key, str):
        raise BadInput(f"a key must be text; found {key!r}", _dotted(place))
    return key


def _plain(value: Any, place: Place) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(each, (*place, key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, (*place, number)) for number, each in enumerate(value)]
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, type):
        return _class_path(value, place)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise BadInput(f"found a value of type {type(value).__name__}; write text, a number, true, false, a list or keys "
                   "and values", _dotted(place))


def _class_path(own: type, place: Place) -> str:
    if own.__module__ == "__main__" or "." in own.__qualname__:
        raise BadInput(f"the class {own.__qualname__} cannot be imported by other processes; put it at the top of a "
                       "module of your own and import it from there", _dotted(place))
    return f"{own.__module__}:{own.__qualname__}"


def source_of(document: Mapping[str, Any]) -> YamlSource:
    """Where each value of the document stands: its dotted key, in the document's order."""
    source = YamlSource(_NAME)

    def mark(value: Any, place: Place) -> None:
        source.marks[place] = Mark(_NAME, len(source.marks) + 1)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, each in inner:
            mark(each, (*place, key))

    mark(document, ())
    return source


def _dotted(place: Place) -> str:
    return ".".join((_NAME, *map(str, place)))
