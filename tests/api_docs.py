"""Writes docs/api.md from the docstrings of the public names: ``python -m tests.api_docs``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import routesim

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
_EXAMPLE = re.compile(r"^>>> ", re.MULTILINE)


def page() -> str:
    """The whole page."""
    names = [name for names in routesim._HOMES.values() for name in names]
    lines = ["# The library", "",
             "Made from the docstrings by `python -m tests.api_docs`; each example runs as a test.", "",
             _text(inspect.getdoc(routesim)), "", "| name | is |", "|---|---|"]
    for name in [*names, "testing"]:
        doc = inspect.getdoc(getattr(routesim, name)) or ""
        lines.append(f"| [`{name}`](#{name.lower()}) | {_code(doc.split(chr(10) * 2)[0].replace(chr(10), ' '))} |")
    for name in names:
        lines += ["", *_named(name, getattr(routesim, name), "##")]
    lines += ["", "## testing", "", _text(inspect.getdoc(routesim.testing))]
    for name in sorted(routesim.testing.__all__):
        lines += ["", *_named(f"testing.{name}", getattr(routesim.testing, name), "###")]
    return "\n".join(lines) + "\n"


def _named(name: str, value: Any, level: str) -> Iterator[str]:
    yield f"{level} {name}"
    yield ""
    signature = _signature(name, value)
    if signature:
        yield from ("```python", signature, "```", "")
    yield _text(inspect.getdoc(value))
    if inspect.isclass(value):
        for member, found in vars(value).items():
            shown = _member(member, found)
            if shown:
                yield ""
                yield shown


def _member(name: str, found: Any) -> str:
    """A public method or property of ours, with what it says of itself; empty for anything else."""
    where = getattr(found, "fget", None) or getattr(found, "func", None) or found
    if name.startswith("_") or not getattr(where, "__module__", "").startswith(f"{routesim.__name__}."):
        return ""
    if isinstance(found, property | cached_property):
        return f"**`{name}`** {_text(inspect.getdoc(found))}"
    if isinstance(found, classmethod | staticmethod):
        found = found.__func__
    if inspect.isfunction(found):
        return f"**`{_signature(name, found, of_instance=True)}`** {_text(inspect.getdoc(found))}"
    return ""


def _signature(name: str, value: Any, of_instance: bool = False) -> str:
    """How it is called; empty for what is only given, never made by a caller."""
    protocol = getattr(value, "_is_protocol", False)
    if protocol or not callable(value):
        return ""
    own_init = inspect.isclass(value) and "__init__" in vars(value)
    signature = inspect.signature(value.__init__ if own_init else value)
    parameters = list(signature.parameters.values())[1 if of_instance or own_init else 0:]
    if any(each.name.startswith("_") for each in parameters):
        return ""
    result = inspect.Signature.empty if own_init else signature.return_annotation
    shown = [each.replace(annotation=_Text(_plain_type(getattr(each.annotation, "__forward_arg__", each.annotation))))
             if each.annotation is not each.empty else each for each in parameters]
    returned = result if result is inspect.Signature.empty else _Text(result)
    return f"{name}{signature.replace(parameters=shown, return_annotation=returned)}"


def _plain_type(annotation: str) -> str:
    """The type of a payment's field without what is told beside it."""
    field = re.fullmatch(r"Annotated\[(.+?), PaymentField\(.*\)\]", annotation, re.DOTALL)
    return field[1] if field else annotation


class _Text(str):
    """An annotation, shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _text(doc: str | None) -> str:
    """A docstring as Markdown, its examples fenced."""
    assert doc, "every public name has a docstring"
    blocks, example = [], False
    for block in doc.split("\n\n"):
        runs = _EXAMPLE.match(block) is not None
        if runs and not example:
            blocks.append("```python\n" + block)
        elif not runs and example:
            blocks[-1] += "\n```"
            blocks.append(_code(block))
        else:
            blocks.append(block if runs else _code(block))
        example = runs
    return "\n\n".join(blocks) + ("\n```" if example else "")


def _code(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
