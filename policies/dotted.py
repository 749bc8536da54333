"""A user's own class, named by dotted path: ``my_module:MyRouter``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from routesim.policies.spelling import nearest

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_dotted(name: str) -> bool:
    """Whether ``name`` has the form ``module:Class`` or ``package.module:Class``."""
    return _DOTTED.fullmatch(name) is not None


def load_class(path: str, methods: Sequence[str], folder: Path | None = None) -> Any:
    """The class at ``path``, looked for in ``folder`` and then on Python's path.

    Raises ValueError where there is no such module or class, where importing it fails, or where it lacks one of
    ``methods``.
    """
    module_name, _, class_name = path.partition(":")
    with _importable(folder):
        try:
            found = find_spec(module_name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            where = f"{folder} and " if folder else ""
            raise ValueError(f"{path}: no module {module_name!r} in {where}Python's path")
        try:
            module = import_module(module_name)
        except Exception as error:  # the user's module may fail in any way; the user gets one line
            raise ValueError(f"{path}: importing it failed: {type(error).__name__}: {error}") from error
    own = getattr(module, class_name, None)
    if own is None:
        classes = [name for name, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"{path}: {module_name} has no {class_name!r}{nearest(class_name, classes)}")
    for method in methods:
        if not callable(getattr(own, method, None)):
            raise ValueError(f"{path}: {class_name} has no method {method}")
    return own


def make(own: Any, path: str, parameters: Mapping[str, Any]) -> Any:
    """A fresh instance of the user's class. Raises ValueError where it does not take ``parameters``."""
    try:
        signature(own).bind(**parameters)
    except TypeError as error:
        raise ValueError(f"{path} does not take these parameters: {error}") from None
    try:
        return own(**parameters)
    except Exception as error:  # as above: the user gets one line
        raise ValueError(f"{path} could not be made: {type(error).__name__}: {error}") from error


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
