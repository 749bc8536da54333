"""YAML 1.2, safely and with lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routesim.scenarios.document.yaml_reader import parse_yaml, plain_scalar, read_yaml
from routesim.sim.errors import BadInput


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("no", "no"), ("true", True), ("05", 5), ("'05'", "05"), ("!!str 05", "05"), ("~", None),
     ("2026-02-02T00:00:00", "2026-02-02T00:00:00"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("0x1F", 31),
     ("1e3", 1000.0), ("24h", "24h"), ("-.5", -0.5), ("", None), (".inf", float("inf"))],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    assert parse_yaml(f"key: {text}", "a.yaml")[0] == {"key": value}


def test_lines() -> None:
    data, source = parse_yaml("a: 1\nb:\n  - {c: 05}\n  -\n    d: 2\n", "a.yaml")
    assert data == {"a": 1, "b": [{"c": 5}, {"d": 2}]}
    assert source.mark(("b", 0, "c")).where == "a.yaml:3"
    assert source.mark(("b", 0, "c")).text == "05"
    assert source.mark(("b", 1, "d", "nowhere")).where == "a.yaml:5"


def test_anchors_and_merges() -> None:
    data, _ = parse_yaml("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n", "a.yaml")
    assert data == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"q": 3, "p": 1}}


_LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 8))


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3", "'a' stands twice; it stood on line 1"),
        ("a: [1\nb: 2\n", "a.yaml:2", "not YAML"),
        ("a: *x\n", "a.yaml:1", "undefined alias"),
        ("a:\n\t- b\n", "a.yaml:2", "not YAML"),
        ("a: !!python/object:os.system x\n", "a.yaml:1", "not allowed"),
        ("a: !own {b: 1}\n", "a.yaml:1", "not allowed"),
        ("[a]: 1\n", "a.yaml:1", "a key must be text"),
        ("a: &x [*x]\n", "a.yaml:1", "too large"),
        (_LAUGHS, "a.yaml:", "too large"),
        ("", "a.yaml", "empty"),
    ],
)
def test_refused_in_one_line(text: str, where: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        parse_yaml(text, "a.yaml")
    assert str(caught.value).startswith(where)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(BadInput, match="UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


@given(st.integers(-(10**12), 10**12))
def test_whole_numbers(number: int) -> None:
    assert plain_scalar(str(number)) == number


@given(st.floats(allow_nan=False))
def test_numbers(number: float) -> None:
    written = repr(number).replace("inf", ".inf")
    assert plain_scalar(written) == number
