"""The folders import one way, no two modules need each other, and no file tells where it was written."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = "routesim"
MAY_IMPORT = {
    "policies": set(),
    "sim": {"policies"},
    "reports": {"policies", "sim"},
    "calibration": {"policies", "reports", "sim"},
    "scenarios": {"calibration", "policies", "reports", "sim"},
}
ROOMS: dict[str, dict[str, set[str]]] = {  # folder to its rooms, and the rooms of the same folder that each may import
    "policies": {"": {"failover", "retry", "route"}, "experiment": {""}, "failover": {""}, "retry": {""},
                 "route": {""}},
    "sim": {"": set()},
    "reports": {"": set(), "metrics": {""}, "statistics": {"metrics"}, "outages": {"metrics", "statistics"},
                "run": {"", "metrics", "outages", "statistics"}, "experiment": {"", "metrics", "run", "statistics"},
                "pages": {"", "experiment", "metrics", "run", "statistics"}, "athia": {"experiment", "metrics", "run"}},
    "calibration": {"": {"history", "issuer", "outages"}, "history": set(), "issuer": {""}, "outages": {"", "history"},
                    "check": {"", "history", "issuer", "outages"}, "off_policy": set(), "made_up": set()},
    "scenarios": {"": {"commands", "document", "running"}, "document": set(), "running": {"document"},
                  "commands": {"document", "running"}},
}
FACE = "scenarios/face"  # the package routesim itself: imports whatever it shows, and nothing of ours imports it
ONLY_WORDS = {"sim", "reports"}  # of the policies, these know the words and not the parts
WORDS = tuple(f"{OURS}.policies.{name}" for name in ("payment_fields", "spelling", "vocabulary"))
SKIPPED = {"build", "demo", "runs", "__pycache__"}
KEPT = {".ci", ".github", ".gitignore"}

Sources = Mapping[str, str]  # module name to its text


def module_name(path: Path) -> str:
    """The name that a file is imported by; the face's folder stands for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[2:] if parts[:2] == tuple(FACE.split("/")) else parts
    return ".".join((OURS, *(parts[:-1] if parts[-1] == "__init__" else parts)))


@pytest.fixture(scope="module")
def sources() -> Sources:
    return {module_name(path): path.read_text(encoding="utf-8")
            for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))}


def imported(module: str, text: str, is_package: bool) -> Iterator[str]:
    """The dotted names that a module imports, at its top or within a function, or names to an import by text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[:len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.args[0].value
            if isinstance(name, str) and name.startswith(f"{OURS}.") and name.replace(".", "").isidentifier():
                yield name


def graph(sources: Sources) -> dict[str, set[str]]:
    """Module to the modules of ours that it imports; a name that is not a module stands for the one that holds it."""
    packages = {name for name in sources if any(other.startswith(f"{name}.") for other in sources)}
    edges: dict[str, set[str]] = {}
    for module, text in sources.items():
        edges[module] = set()
        for name in imported(module, text, module in packages):
            while name and name not in sources:
                name = name.rpartition(".")[0]
            if name and name != module:
                edges[module].add(name)
    return edges


def folder_of(name: str) -> str:
    folder = name.split(".")[1] if name.startswith(f"{OURS}.") else ""
    return folder if folder in MAY_IMPORT else ""


def room_of(name: str) -> str:
    """The folder's own sub-folder that a module or a name of it lies in; empty for the folder's own files."""
    room = ".".join(name.split(".")[2:3])
    return room if room in ROOMS.get(folder_of(name), {}) else ""


def breaches(sources: Sources) -> list[str]:
    """Imports that the rules forbid, each as "module imports module"."""
    found = []
    packages = {name for name in sources if any(other.startswith(f"{name}.") for other in sources)}
    for module, text in sources.items():
        mine = folder_of(module)
        for name in imported(module, text, module in packages):
            if name.split(".")[0] in MAY_IMPORT:  # works from the repository's folder alone
                found.append(f"{module} imports {name}, which must be called {OURS}.{name}")
            elif name == OURS or name.startswith(f"{OURS}."):
                theirs = folder_of(name)
                if not mine:  # the face
                    continue
                if theirs == mine and room_of(name) not in {room_of(module), *ROOMS[mine][room_of(module)]} \
                        and name != f"{OURS}.{mine}":  # the folder itself holds nothing but its name
                    found.append(f"{module} imports {name}")
                words_only = theirs == "policies" and mine in ONLY_WORDS
                if theirs != mine and (theirs not in MAY_IMPORT[mine]
                                       or (words_only and not name.startswith(WORDS))):
                    found.append(f"{module} imports {name}")
    return found


def test_folders_import_one_way(sources: Sources) -> None:
    assert {folder_of(module) for module in sources} == {"", *MAY_IMPORT}
    assert not breaches(sources)


def test_every_folder_of_code_is_a_known_room() -> None:
    for folder, rooms in ROOMS.items():
        found = {path.parent.name for path in (ROOT / folder).glob("*/*.py")}
        assert found - {"face"} == set(rooms) - {""}


def test_rooms_import_one_way() -> None:
    for rooms in ROOMS.values():
        TopologicalSorter({room: to - {""} for room, to in rooms.items() if room}).prepare()


def test_no_two_modules_need_each_other(sources: Sources) -> None:
    edges = graph(sources)
    assert sum(map(len, edges.values())) > len(edges)  # the graph was read
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("text", [
    "import routesim.reports.pages.run", "from routesim.reports import page", "from routesim import reports",
    "from ..reports import page", "from routesim.reports.pages.run import render",
    "def f():\n    from routesim.reports.pages.run import render", "if TYPE_CHECKING:\n    import routesim.reports",
    "import reports", "from reports.page import render", "import_module('routesim.reports.pages.run')",
    "from routesim.policies.retry import Retry", "import routesim", "from routesim import Policy",
])
def test_every_way_to_break_the_rules_is_seen(text: str) -> None:
    assert len(breaches({"routesim.sim.engine": text})) == 1
    assert not breaches({"routesim.scenarios.running.runner": "from routesim.sim import engine\nfrom .cli import app"})


def test_a_circle_is_seen() -> None:
    circle = graph({"routesim.sim": "", "routesim.sim.a": "def f():\n    from routesim.sim.b import x",
                    "routesim.sim.b": "from . import a"})
    with pytest.raises(CycleError):
        TopologicalSorter(circle).prepare()


def test_the_same_noun_names_one_class(sources: Sources) -> None:
    where: dict[str, list[str]] = {}
    for module, text in sources.items():
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(module)
    assert len(where) > 100
    assert {name: modules for name, modules in where.items() if len(modules) > 1} == {}


def test_the_documents_name_only_files_that_are_there() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    path = re.compile(r"`((?:policies|sim|reports|calibration|scenarios|tests|docs)/[\w/]*(?:\.\w+)?)[`:]")
    named = {(page.name, found) for page in pages for found in path.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert {name for name in named if not (ROOT / name[1]).exists()} == set()


def repository_files() -> list[Path]:
    """Every file but what tools make."""
    found = []
    for top in ROOT.iterdir():
        if top.name in SKIPPED or top.name.endswith(".egg-info") or (top.name[0] == "." and top.name not in KEPT):
            continue
        within = [top] if top.is_file() else top.rglob("*")
        found += [path for path in within if path.is_file() and not SKIPPED & set(path.relative_to(ROOT).parts)]
    return found


def test_no_file_names_a_registry_or_the_place_it_was_written_in() -> None:
    # put together here, so that this file does not hold them
    forbidden = [b"py" + b"pi.org", b"python" + b"hosted.org", b"npm" + b"js.org", b"crates" + b".io",
                 b"proxy.golang" + b".org", b"/wor" + b"k/", b"/tmp" + b"/w/"]
    files = repository_files()
    assert ROOT / "pyproject.toml" in files
    assert Path(__file__).resolve() in files
    found = [f"{path.relative_to(ROOT)}: {word.decode()}" for path in files
             for content in [path.read_bytes()] for word in forbidden if word in content]
    assert not found


FOLDERS = {  # the module that knows the paths of each folder that we write
    "routesim.reports.run.folder": ("summary.json", "scenario.yaml", "manifest.json", "timing.json", "report.html",
                                    "compare_with_", "part-0.parquet"),
    "routesim.reports.experiment.folder": ("experiment.json", "looks.parquet"),
    "routesim.sim.model_folder": ("model.json", "uncertainty.parquet", "support.parquet", "quarantine.parquet"),
}


def said(text: str) -> Iterator[str]:
    """The strings of a module that are no docstrings and no help of a command."""
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    prose |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"
              for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_where_files_lie_in_a_folder_is_known_in_one_module(sources: Sources) -> None:
    found = {(name, module) for module, text in sources.items() for value in said(text)
             for names in FOLDERS.values() for name in names if name in value}
    assert found == {(name, module) for module, names in FOLDERS.items() for name in names}
