"""The catalog told to people: every policy and part with its parameters, defaults and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routesim.policies.catalog import PARTS, WHOLE, Entry


@dataclass(frozen=True)
class Listed:
    """A row of the catalog for people. ``parameters``: name, kind, default (None where it is needed), doc.

    ``source``: the public source of the part and its defaults, empty where there is none to tell.
    """

    kind: str
    name: str
    doc: str
    parameters: list[tuple[str, str, str | None, str]]
    source: str = ""


def listing() -> list[Listed]:
    """Everything that the catalog holds: whole policies, then parts, in the order of their kinds."""
    rows = [_listed("policy", name, entry) for name, entry in WHOLE.items()]
    for kind, entries in PARTS.items():
        rows += [_listed(kind, name, entry) for name, entry in entries.items()]
    return rows


def _listed(kind: str, name: str, entry: Entry) -> Listed:
    properties = entry.of.model_json_schema()["properties"] if entry.of.model_fields else {}
    parameters = []
    for name_inside, field in entry.of.model_fields.items():
        key = field.alias or name_inside
        default = None if field.is_required() else _written(field.default)
        parameters.append((key, _kind_of(properties[key]), default, field.description or ""))
    return Listed(kind, name, entry.doc, parameters, entry.source)


def _written(default: Any) -> str:
    return "none" if default is None else str(default).replace("'", "") if isinstance(default, list) else str(default)


def _kind_of(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(schema["enum"])
    words = {"integer": "whole number", "number": "number", "string": "text", "array": "list", "object": "keys",
             "boolean": "true or false"}
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    kinds = [words.get(option.get("type", "object"), "") for option in options]
    return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
