"""Hints for misspelt names."""

from __future__ import annotations

import pytest

from routesim.policies.spelling import nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("braker", ["ladder", "breaker"], "; did you mean 'breaker'?"),
        ("x", ["ladder", "breaker"], "; known: breaker, ladder"),
        (7, [12, 3], "; known: 12, 3"),
        ("x", [], ""),
        ("x", [f"name{n:02}" for n in range(25)], "; known: " + ", ".join(f"name{n:02}" for n in range(25))),
        ("x", [f"name{n:02}" for n in range(26)], ""),
        ("nama07", [f"name{n:02}" for n in range(26)], "; did you mean 'name07'?"),
    ],
)
def test_the_closest_else_those_that_fit_a_line(name: object, known: list[object], hint: str) -> None:
    assert nearest(name, known) == hint
