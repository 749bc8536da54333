"""YAML 1.2 read safely, with the line of every key, so that a complaint can say where.

Only plain data comes out: mappings with text keys, lists, text, numbers, true, false and null by YAML 1.2's core
schema. ``on``, ``no`` and dates are text; ``05`` is the number 5 (and the reader remembers how it was written).

The lines are those of ruamel.yaml's nodes. Its round-trip documents have lines too (``.lc``), but neither those of
merged keys nor the text of a scalar as it was written, and they read dates and ``1_000`` as YAML 1.1 does.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from routesim.sim.errors import BadInput

Key = str | int
Place = tuple[Key, ...]
Pairs = dict[str, tuple[Node, Node]]  # text of a key to the nodes of key and value

_MOST_NODES = 100_000  # aliases within aliases can make a short file endless
_DEEPEST = 100
_LONGEST_NUMBER = 100  # characters
_TAGS = "tag:yaml.org,2002:"
_SCALARS = {"null", "bool", "int", "float", "timestamp", "value", "merge"}  # as plain text resolves
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
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
class YamlSource:
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


def read_yaml(path: Path) -> tuple[Any, YamlSource]:
    """The document in the file, and where its parts stand. Raises BadInput where it is missing or no plain YAML."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput("no such file", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"this is not UTF-8 text: {error.reason} {content[error.start]:#04x}; save the file as UTF-8",
                       where=f"{path}:{line}") from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> tuple[Any, YamlSource]:
    """As read_yaml, of a text; ``name`` stands for the file in complaints."""
    try:
        node = _composed(text, name)
        if node is None:
            raise BadInput("the file is empty", where=name)
        return _Reader(name).read(node)
    except RecursionError:
        raise BadInput(f"nested too deeply; {_DEEPEST} levels are allowed", where=name) from None


def _composed(text: str, name: str) -> Node | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it
            return YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = " ".join(str(error.problem or error.context or "not YAML").split())
        raise BadInput(f"this is not YAML: {problem}", where=where) from None
    except ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise BadInput(f"this is not YAML: the character {chr(error.character)!a} is not allowed",
                       where=f"{name}:{line}") from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise BadInput(f"this is not YAML: {' '.join(str(error).split())[:200]}", where=name) from None


class _Reader:
    """Turns nodes into data and notes where each stands."""

    def __init__(self, name: str) -> None:
        self.source = YamlSource(name)
        self._nodes = 0
        self._pairs_of: dict[int, Pairs | None] = {}  # by the node's identity; None while they are gathered

    def read(self, node: Node) -> tuple[Any, YamlSource]:
        return self._value(node, (), self._line(node)), self.source

    def _line(self, node: Node) -> int:
        return int(node.start_mark.line) + 1

    def _refuse(self, node: Node, message: str) -> BadInput:
        return BadInput(message, where=f"{self.source.name}:{self._line(node)}")

    def _refuse_tag(self, node: Node) -> BadInput:
        return self._refuse(node, f"the tag {node.tag} is not allowed; write plain YAML")

    def _value(self, node: Node, path: Place, line: int) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._refuse(node, f"aliases within aliases make this document too large: {_MOST_NODES:,} values are "
                                     "allowed")
        if len(path) > _DEEPEST:
            raise self._refuse(node, f"nested too deeply; {_DEEPEST} levels are allowed")
        text = node.value if isinstance(node, ScalarNode) else None
        self.source.marks[path] = Mark(f"{self.source.name}:{line}", line, text)
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if isinstance(node, MappingNode):
            return {key: self._value(value, (*path, key), self._line(key_node))
                    for key, (key_node, value) in self._pairs(node).items()}
        if node.tag != f"{_TAGS}seq":
            raise self._refuse_tag(node)
        return [self._value(each, (*path, place), self._line(each)) for place, each in enumerate(node.value)]

    def _pairs(self, node: MappingNode) -> Pairs:
        """A mapping's own keys, then those that it merges: of several mappings that have a key, the first one's.

        Each mapping's are gathered once, however many merge it, so that merges of merges cannot explode.
        """
        if id(node) in self._pairs_of:
            known = self._pairs_of[id(node)]
            if known is None:
                raise self._refuse(node, "<< merges a mapping into itself")
            return known
        if node.tag != f"{_TAGS}map":
            raise self._refuse_tag(node)
        self._pairs_of[id(node)] = None
        own: Pairs = {}
        merges: list[tuple[Node, Node]] = []
        for key_node, value in node.value:
            is_merge = key_node.tag == f"{_TAGS}merge"
            key = "<<" if is_merge else self._key(key_node)
            before = merges[0][0] if is_merge and merges else own[key][0] if key in own else None
            if before is not None:
                several = "; it takes a list of mappings" if is_merge else ""
                raise self._refuse(key_node, f"the key {key!r} stands twice; it stood on line {self._line(before)} "
                                             f"already{several}")
            if is_merge:
                merges.append((key_node, value))
            else:
                own[key] = (key_node, value)
        for key_node, value in merges:
            for each in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(each, MappingNode):
                    raise self._refuse(key_node, "<< takes a mapping, or a list of them")
                own |= {key: pair for key, pair in self._pairs(each).items() if key not in own}
        self._pairs_of[id(node)] = own
        return own

    def _key(self, node: Node) -> str:
        if not isinstance(node, ScalarNode):
            raise self._refuse(node, "a key must be text")
        self._scalar(node)
        return str(node.value)

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        if (wrong := _NOT_TEXT.search(text)) is not None:
            raise self._refuse(node, f"the character {wrong[0]!a} is not allowed")
        if node.tag == f"{_TAGS}str":
            return text
        if str(node.tag).removeprefix(_TAGS) not in _SCALARS or node.style is not None:
            raise self._refuse_tag(node)
        value = plain_scalar(text)
        if not isinstance(value, str) and len(text) > _LONGEST_NUMBER:
            raise self._refuse(node, f"a number of {len(text):,} characters; {_LONGEST_NUMBER} are allowed")
        return value


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
