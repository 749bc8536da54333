"""YAML 1.2 read safely, with the line of every key, so that a complaint can say where.

Only plain data comes out: mappings with text keys, lists, text, numbers, true, false and null by YAML 1.2's core
schema. ``on``, ``no`` and dates are text; ``05`` is the number 5 (and the reader remembers how it was written).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from routesim.sim.errors import BadInput

Key = str | int
Place = tuple[Key, ...]

_MOST_NODES = 100_000  # aliases within aliases can make a short file endless
_TAGS = "tag:yaml.org,2002:"
_SCALARS = {"null", "bool", "int", "float", "timestamp", "value", "merge"}  # as plain text resolves
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCT = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF_NAN = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Mark:
    """Where a value stands, and a scalar's text as it was written."""

    where: str
    line: int
    text: str | None = None


@dataclass
class Source:
    """Where each part of a document stands: ``marks`` maps a path of keys and list places to its Mark."""

    name: str
    marks: dict[Place, Mark] = field(default_factory=dict)

    def nearest_path(self, loc: tuple[Key, ...]) -> Place:
        """The longest path of the document along ``loc``; steps that the document does not have are passed over."""
        path: Place = ()
        for step in loc:
            if (*path, step) in self.marks:
                path = (*path, step)
        return path

    def mark(self, loc: tuple[Key, ...]) -> Mark:
        """The Mark of the nearest path to ``loc``."""
        return self.marks.get(self.nearest_path(loc), Mark(self.name, 0))

    def copy_marks(self, origin: Place, target: Place) -> None:
        """Let what stands below ``target`` be found where ``origin`` stands, from which it was taken."""
        copied = {
            target + path[len(origin) :]: mark for path, mark in self.marks.items() if path[: len(origin)] == origin
        }
        self.marks.update(copied)

    def forget(self, path: Place) -> None:
        """Drop the marks at and below ``path``."""
        for known in [each for each in self.marks if each[: len(path)] == path]:
            del self.marks[known]


def read_yaml(path: Path) -> tuple[Any, Source]:
    """The document in the file, and where its parts stand. Raises BadInput where it is missing or no plain YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput("no such file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read as UTF-8 text: {error}", where=str(path)) from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> tuple[Any, Source]:
    """As read_yaml, of a text; ``name`` stands for the file in complaints."""
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        raise BadInput(f"this is not YAML: {problem}", where=where) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"this is not YAML: {' '.join(str(error).split())[:200]}", where=name) from None
    if node is None:
        raise BadInput("the file is empty", where=name)
    return _Reader(name).read(node)


class _Reader:
    """Turns nodes into data and notes where each stands."""

    def __init__(self, name: str) -> None:
        self.source = Source(name)
        self._nodes = 0
        self._above: list[int] = []

    def read(self, node: Node) -> tuple[Any, Source]:
        return self._value(node, (), self._line(node)), self.source

    def _line(self, node: Node) -> int:
        return int(node.start_mark.line) + 1

    def _refuse(self, node: Node, message: str) -> BadInput:
        return BadInput(message, where=f"{self.source.name}:{self._line(node)}")

    def _value(self, node: Node, path: Place, line: int) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES or id(node) in self._above:
            raise self._refuse(node, "aliases within aliases make this document too large")
        text = node.value if isinstance(node, ScalarNode) else None
        self.source.marks[path] = Mark(f"{self.source.name}:{line}", line, text)
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        self._above.append(id(node))
        value: Any
        if isinstance(node, MappingNode):
            value = self._mapping(node, path)
        elif isinstance(node, SequenceNode) and node.tag == f"{_TAGS}seq":
            value = [self._value(each, (*path, place), self._line(each)) for place, each in enumerate(node.value)]
        else:
            raise self._refuse(node, f"the tag {node.tag} is not allowed; write plain YAML")
        self._above.pop()
        return value

    def _mapping(self, node: MappingNode, path: Place) -> dict[str, Any]:
        if node.tag != f"{_TAGS}map":
            raise self._refuse(node, f"the tag {node.tag} is not allowed; write plain YAML")
        value: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in self._pairs(node):
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                raise self._refuse(key_node, "a key must be text")
            if key in lines:
                raise self._refuse(key_node, f"the key {key!r} stands twice; it stood on line {lines[key]} already")
            lines[key] = self._line(key_node)
            value[key] = self._value(value_node, (*path, key), lines[key])
        for merged in self._merged(node):
            for key_node, value_node in self._pairs(merged):
                if isinstance(key_node, ScalarNode) and key_node.value not in value:
                    key = key_node.value
                    value[key] = self._value(value_node, (*path, key), self._line(key_node))
        return value

    def _pairs(self, node: MappingNode) -> Iterator[tuple[Node, Node]]:
        return ((key, value) for key, value in node.value if key.tag != f"{_TAGS}merge")

    def _merged(self, node: MappingNode) -> Iterator[MappingNode]:
        for key, value in node.value:
            if key.tag == f"{_TAGS}merge":
                for each in value.value if isinstance(value, SequenceNode) else [value]:
                    if not isinstance(each, MappingNode):
                        raise self._refuse(key, "<< takes a mapping, or a list of them")
                    yield each

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        if node.style in ("'", '"', "|", ">") or node.tag == f"{_TAGS}str":
            return text
        if str(node.tag).removeprefix(_TAGS) not in _SCALARS:
            raise self._refuse(node, f"the tag {node.tag} is not allowed; write plain YAML")
        return plain_scalar(text)


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means in YAML 1.2's core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) < 400:
        return int(text)
    if _OCT.fullmatch(text):
        return int(text[2:], 8)
    if _HEX.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "", 1)) if _INF_NAN.fullmatch(text) else text
