"""YAML 1.2, safely and with lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

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


_MERGES = """\
base: &base
  p: 1
  q: 2
middle: &middle
  <<: *base
  q: 3
other: &other {q: 4, s: 5}
one: {<<: *middle, r: 6}
first:
  <<: [*middle, *other]
second:
  s: 7
  <<: [*other, *middle]
within:
  <<: {<<: {<<: *middle, t: 8}}
"""


def test_merges_of_merges_keep_their_keys_and_lines() -> None:
    data, source = parse_yaml(_MERGES, "a.yaml")
    assert data["middle"] == {"q": 3, "p": 1}
    assert data["one"] == {"r": 6, "q": 3, "p": 1}
    assert data["first"] == {"q": 3, "p": 1, "s": 5}  # of several mappings that have a key, the first one's counts
    assert data["second"] == {"s": 7, "q": 4, "p": 1}  # and a mapping's own key before any
    assert data["within"] == {"t": 8, "q": 3, "p": 1}
    lines = {("one", "p"): 2, ("one", "q"): 6, ("one", "r"): 8, ("first", "s"): 7, ("second", "s"): 12,
             ("second", "q"): 7, ("within", "t"): 15}
    assert {place: source.mark(place).line for place in lines} == lines


_names = st.sampled_from("pqrs")
_mapping = st.recursive(
    st.dictionaries(_names, st.integers(0, 9)).map(lambda own: (own, [])),
    lambda inner: st.tuples(st.dictionaries(_names, st.integers(0, 9)), st.lists(inner, max_size=3)), max_leaves=8)


@given(_mapping)
def test_merges_are_those_of_ruamel(tree: tuple[dict[str, int], list[Any]]) -> None:
    def written(node: tuple[dict[str, int], list[Any]]) -> str:
        own, merged = node
        parts = [f"{key}: {value}" for key, value in own.items()]
        return "{" + ", ".join([*parts, f"<<: [{', '.join(written(each) for each in merged)}]"]) + "}"

    text = written(tree)
    assert parse_yaml(text, "a.yaml")[0] == YAML(typ="safe", pure=True).load(text)


def test_an_anchor_may_be_used_again(recwarn: pytest.WarningsRecorder) -> None:
    assert parse_yaml("a: &x 1\nb: &x 2\nc: *x\n", "a.yaml")[0] == {"a": 1, "b": 2, "c": 2}
    assert not recwarn.list


def _merging(times: int, kind: str) -> str:
    """Mappings that each merge the one before ten times over."""
    levels = [f"{kind}{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: {n}}}\n" for n in range(1, times)]
    return f"{kind}0: &a0 {{k0: 0}}\n" + "".join(levels)


def test_merges_do_not_explode() -> None:
    data, _ = parse_yaml(_merging(60, "m"), "a.yaml")
    assert data["m59"] == {f"k{n}": n for n in range(60)}


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
        ("[a, b]: 1\n", "a.yaml:1", "a key must be text"),
        ("a: &x [*x]\n", "a.yaml:1", "nested too deeply; 100 levels"),
        ("a: &x [*x, *x]\n", "a.yaml:1", "nested too deeply; 100 levels"),
        ("a: &x\n  b: &y [*x, *y]\n", "a.yaml:", "nested too deeply; 100 levels"),
        (_LAUGHS, "a.yaml:", "too large"),
        (_merging(500, "m"), "a.yaml:", "too large"),
        ("", "a.yaml", "empty"),
        ("a: 1\nb: &x {<<: *x}\n", "a.yaml:2", "merges a mapping into itself"),
        ("a: 1\nb: {<<: {c: 1, c: 2}}\n", "a.yaml:2", "'c' stands twice; it stood on line 2"),
        ("a: 1\nb:\n  <<: {c: 1}\n  <<: {d: 2}\n", "a.yaml:4", "'<<' stands twice; it stood on line 3"),
        ("a: 1\nb: {<<: {[c]: 1}}\n", "a.yaml:2", "a key must be text"),
        ("a: 1\nb: {<<: [{c: 1}, 2]}\n", "a.yaml:2", "takes a mapping, or a list of them"),
        ("a: 1\nb: {<<: !own {c: 1}}\n", "a.yaml:2", "!own is not allowed"),
        ("a: 1\n!own b: 1\n", "a.yaml:2", "!own is not allowed"),
        ("a: !!int '5'\n", "a.yaml:1", "int is not allowed"),
        ("a: 1\nb: \0\n", "a.yaml:2", r"'\\x00' is not allowed"),
        ('a: 1\nb: "\\0"\n', "a.yaml:2", r"'\\x00' is not allowed"),
        ('a: 1\n"\\0": b\n', "a.yaml:2", r"'\\x00' is not allowed"),
        ('a: 1\nb: "\\ud800"\n', "a.yaml:2", r"'\\ud800' is not allowed"),
        ('a: "\\UFFFFFFFF"\n', "a.yaml", "not YAML"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2", "another document"),
        *((f"a: 1\nb: {start}{'7' * 5_000}\n", "a.yaml:2", f"a number of {5_000 + len(start):,} characters; 100 are")
          for start in ("", "-", "0x", "0o", "1.", ".", "1e")),
        *((start * 100_000 + end, "a.yaml", "nested too deeply; 100 levels")
          for start, end in (("[", ""), ("{a: ", ""), ("- ", "x"), ("[", "]" * 100_000))),
        ("a:\n  " + "[" * 120 + "]" * 120, "a.yaml:2", "nested too deeply; 100 levels"),
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
    with pytest.raises(BadInput, match="directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize("content", [b"a: 1\nb: \xe9\n", "a: 1\nb: é\n".encode("utf-16")])
def test_a_file_that_is_not_utf_8(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"latin.yaml:[12]: this is not UTF-8 text: .*; save the file as UTF-8"):
        read_yaml(path)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes("\ufeffa: |\r\n  x\r\n  y\r\nb: [1\r\n".encode())
    with pytest.raises(BadInput, match=r"windows.yaml:5: this is not YAML"):
        read_yaml(path)
    path.write_bytes("\ufeffa: |\r\n  x\r\n  y\r\nb: 1\r\n".encode())
    data, source = read_yaml(path)
    assert data == {"a": "x\ny\n", "b": 1}
    assert source.mark(("b",)).line == 4


@given(st.integers(-(10**12), 10**12))
def test_whole_numbers(number: int) -> None:
    assert plain_scalar(str(number)) == number


@given(st.floats(allow_nan=False))
def test_numbers(number: float) -> None:
    written = repr(number).replace("inf", ".inf")
    assert plain_scalar(written) == number
