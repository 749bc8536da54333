"""The package: every file of the five folders is in it, and every module imports however and wherever it is used."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.test_import_rules import FACE, MAY_IMPORT, OURS, ROOT, module_name

IMPORTS = """
import importlib, pathlib, sys
for line in sys.stdin:
    module, _, file = line.strip().partition(":")
    folder = pathlib.Path(importlib.import_module(module).__file__).parent
    if file and not (folder / file).is_file():
        sys.exit(f"{module} has no {file}")
print(importlib.import_module("routesim").__file__)
"""
WAYS = {"installed": [], "editable": ["--editable"],
        "editable, strict": ["--config-settings", "editable_mode=strict", "--editable"]}


def files() -> Iterator[Path]:
    """Every file of the five folders, relative to the root."""
    for folder in MAY_IMPORT:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT)


def packages() -> list[str]:
    return sorted(module_name(ROOT / path) for path in files() if path.name == "__init__.py")


def modules() -> list[str]:
    return sorted(module_name(ROOT / path) for path in files() if path.suffix == ".py")


def within(path: Path) -> str:
    """Where a file of the tree lies in the package."""
    text = path.as_posix()
    return f"{OURS}/{text.removeprefix(f'{FACE}/') if text.startswith(f'{FACE}/') else text}"


def data() -> list[str]:
    """Every file that is not code, as "package:path below the package"."""
    known = sorted((name.replace(".", "/") for name in packages()), key=len)
    found = []
    for path in files():
        if path.suffix != ".py":
            text = within(path)
            package = [name for name in known if text.startswith(f"{name}/")][-1]
            found.append(f"{package.replace('/', '.')}:{text.removeprefix(f'{package}/')}")
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what a package is built from, so that no build touches the tree."""
    folder = tmp_path / "source"
    for path in (*files(), *map(Path, ("pyproject.toml", "README.md", "LICENSE"))):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_package_lists_every_folder_of_code() -> None:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        listed = tomllib.load(stream)["tool"]["setuptools"]["packages"]
    assert sorted(listed) == packages()
    assert len(set(listed)) == len(listed) > len(MAY_IMPORT)


def test_every_package_is_typed() -> None:
    typed = {path.parent for path in files() if path.name == "py.typed"}
    assert typed == {path.parent for path in files() if path.name == "__init__.py"}


def test_every_module_imports() -> None:
    for name in modules():
        import_module(name)


def test_the_wheel_holds_every_file(source: Path, tmp_path: Path) -> None:
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path, source)
    [wheel] = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {within(path) for path in files()}
    assert {Path(name).suffix for name in held} >= {".py", ".typed", ".sql", ".yaml", ".html", ".css"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_every_module_imports_however_it_is_installed(way: str, source: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    paths = sysconfig.get_paths("venv", {"base": str(environment), "platbase": str(environment)})
    # the dependencies of this environment, but not what its own .pth files add: this package among them
    Path(paths["purelib"], "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    pip("--python", python, "install", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed",
        *WAYS[way], source)
    asked = "\n".join([*modules(), *data()])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (source, elsewhere):
        ended = subprocess.run([python, "-c", IMPORTS], input=asked, cwd=folder, capture_output=True, text=True,
                               check=False)
        assert ended.returncode == 0, ended.stderr
        face = Path(ended.stdout.strip())
        origin = {"installed": Path(paths["purelib"]), "editable": source / FACE, "editable, strict": source / "build"}
        assert face.is_relative_to(origin[way])
        assert not face.is_relative_to(ROOT)
