"""From pydantic's errors to one line that says which file, line and key, what was found and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from routesim.scenarios.document.yaml_reader import YamlSource
from routesim.sim.errors import BadInput

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "keys and values",
    "mapping_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
}
_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
}


def complaint(error: ValidationError, source: YamlSource, under: tuple[str | int, ...] = ()) -> BadInput:
    """The first of the errors in the order of the file, and how many more there are.

    ``under`` is the path in the document of what was validated.
    """
    told: dict[tuple[str, str], tuple[int, str]] = {}  # what `like` passes on is told once
    for details in error.errors(include_url=False):
        where, line, key, message = _told(details, source, under)
        told.setdefault((where, message), (line, f"{key}: {message}" if key else message))
    (where, _), (_, first) = min(told.items(), key=lambda item: item[1][0])
    more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
    return BadInput(first + more, where=where)


def _told(details: ErrorDetails, source: YamlSource, under: tuple[str | int, ...]) -> tuple[str, int, str, str]:
    context: Mapping[str, Any] = details.get("ctx", {})
    loc = (*under, *details["loc"])
    if details["type"] == "key":
        loc = (*loc, context["key"])
    place = source.nearest_path(loc)
    mark = source.mark(loc)
    key = ".".join(str(step) for step in place)
    message = _message(details, context, mark.text)
    return mark.where, mark.line, key, message


def _message(details: ErrorDetails, context: Mapping[str, Any], text: str | None) -> str:
    kind, found = details["type"], details["input"]
    if kind == "key":
        return str(context["message"])
    if kind == "missing":
        return f"{details['loc'][-1]!r} is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind in _BOUNDS:
        bound = next(iter(value for key, value in context.items() if key in ("gt", "ge", "lt", "le")))
        return f"found {found!r}; it must be {_BOUNDS[kind]} {bound}"
    if kind == "too_short":
        return "found an empty one; name at least one"
    if kind == "literal_error":
        return f"found {found!r}; expected {context['expected']}"
    if kind == "string_type" and isinstance(found, bool | int | float):
        written = text if text is not None else str(found)
        return f"found {written} ({_kind(found)}), expected text; put it in quotes: \"{written}\""
    if kind in _EXPECTED:
        return f"found {_shown(found)} ({_kind(found)}), expected {_EXPECTED[kind]}"
    return f"found {_shown(found)}: {details['msg']}"


def _shown(found: object) -> str:
    if found is None:
        return "null"
    shown = str(found).lower() if isinstance(found, bool) else repr(found)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _kind(found: object) -> str:
    if found is None:
        return "nothing"
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text"), (list, "a list")
    )
    return next((name for kind, name in kinds if isinstance(found, kind)), "keys and values")
