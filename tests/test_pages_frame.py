"""The frame of all pages: nothing from the network, and data is text, never markup, on pages and in the terminal."""

from __future__ import annotations

import html
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from routesim.reports.metrics.measure import measure
from routesim.reports.pages import frame
from routesim.reports.pages.run import render
from routesim.reports.pages.terminal import differences_table, summary_table
from routesim.reports.pages.two_runs import html as two_runs_html
from routesim.reports.run import folder as run_folder
from routesim.reports.run.comparison import Comparison
from routesim.reports.run.two_runs import read_two
from tests.logs import attempt, log, outages, payment

PAGES = Path(frame.__file__).parent
NAMES = ("[red]legacy[/red]", "<b>new</b>", "[link=x]")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    made = measure(log([payment("p1")], [attempt("p1", 1, "A", 0, 1, "approved")]), outages=outages(), fees={})
    measured = {(name, world, 0): made for name in NAMES for world in range(2)}
    folders = tmp_path / "[bold]first", tmp_path / "<i>second"
    for place, folder in enumerate(folders):
        run_folder.write(folder, Comparison("<script>1</script>", place, NAMES[0], NAMES, measured),
                         run_folder.OUTAGES.empty_table())
        (folder / "manifest.json").write_text('{"warnings": ["[red]<em>no</em>[/red]"], "versions": {"<u>": "1"}}')
    return folders


def test_every_page_extends_the_one_that_lets_nothing_load() -> None:
    head = (PAGES / "templates" / "page.html").read_text()
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in head
    assert head.index("Content-Security-Policy") < head.index("<style")
    templates = {path.name: path.read_text() for path in (PAGES / "templates").glob("*.html")}
    pages = {name: text for name, text in templates.items() if name not in ("page.html", "parts.html")}
    assert set(pages) == {"run.html", "two_runs.html", "experiment.html", "check.html"}
    assert all(text.startswith('{% extends "page.html" %}') for text in pages.values())
    assert not [name for name, text in templates.items() if re.search(r"\|\s*safe|<script|autoescape|https?://", text)]
    assert [path.name for path in sorted(PAGES.glob("*.py")) if "Environment" in path.read_text()] == ["frame.py"]


def test_names_are_text_on_the_pages(runs: tuple[Path, Path]) -> None:
    for text in (render(runs[0]).read_text(), two_runs_html(read_two(*runs))):
        assert not re.search(r"<b>new|<script|<em>no|<u>|<i>second", text)
        assert all(name in html.unescape(text) for name in NAMES)
        assert text.count("Content-Security-Policy") == 1


def test_names_are_text_in_the_terminal(runs: tuple[Path, Path]) -> None:
    written = StringIO()
    console = Console(width=80, file=written)
    console.print(summary_table(run_folder.read(runs[0])))
    console.print(differences_table(read_two(*runs)))
    shown = re.sub(r"\s", "", written.getvalue())
    for name in NAMES:
        assert shown.count(name) >= 2, name
    assert "[bold]first" in shown
