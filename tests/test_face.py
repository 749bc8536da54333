"""The library as a program meets it: every example runs, imports stay light, and wrong calls end in one line."""

from __future__ import annotations

import ast
import doctest
import gc
import inspect
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import routesim as rs
from routesim.sim.draws import Luck, identity
from routesim.sim.flow import PolicyDraw
from tests.api_docs import PAGE, page
from tests.small import EXPERIMENT, Small

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in rs.__all__ if name not in ("__version__", "testing")]
HEAVY = ("duckdb", "joblib", "matplotlib", "numpy", "pandas", "pyarrow", "pydantic", "ruamel", "scipy", "simpy",
         "sqlglot", "statsmodels", "typer")


@pytest.fixture(scope="module")
def desk(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the examples assume it: an extract, a model, two scenarios and a run."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("extracts", "models", "runs"):
        (folder / name).mkdir()
    (folder / "extracts" / "january").symlink_to(small.history)
    (folder / "models" / "given").symlink_to(small.model)
    rs.calibrate(small.history).save(folder / "models" / "mine")
    placed = Small(Path("extracts/january"), Path("models/mine"))
    placed.write(folder, name="scenario.yaml")
    placed.write(folder, EXPERIMENT, name="experiment.yaml")
    rs.run(folder / "scenario.yaml", out=folder / "runs" / "mine", workers=1)
    return folder


@pytest.fixture
def at_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(desk)
    return desk


def examples(name: str, value: object) -> list[doctest.DocTest]:
    """The examples in the docstring of a public thing and of its own methods."""
    found = [value]
    if inspect.isclass(value):
        found += [member for key, member in vars(value).items() if not key.startswith("_") and inspect.getdoc(member)]
    parser = doctest.DocTestParser()
    tests = [parser.get_doctest(inspect.getdoc(each) or "", {"rs": rs}, name, None, None) for each in found]
    return [test for test in tests if test.examples]


def run_examples(tests: list[doctest.DocTest]) -> None:
    said: list[str] = []
    for test in tests:
        doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_thing_has_an_example_that_runs(at_desk: Path, name: str) -> None:
    tests = examples(name, getattr(rs, name))
    assert tests
    run_examples(tests)


def test_the_package_and_its_testing_help_have_examples_that_run(at_desk: Path) -> None:
    for module in (rs, rs.testing, *(getattr(rs.testing, name) for name in rs.testing.__all__)):
        tests = examples("routesim", module)
        assert tests
        run_examples(tests)


def test_an_example_that_is_wrong_fails() -> None:
    def wrong() -> None:
        """
        >>> 1 + 1
        3
        """

    with pytest.raises(AssertionError, match="Expected"):
        run_examples(examples("wrong", wrong))


def test_the_page_of_the_library_is_made_from_its_docstrings() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.api_docs`"


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after ``statement``."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("statement", [
    "import routesim", "import routesim.policies", "import routesim as rs; rs.__version__, rs.BadInput, dir(rs)",
    "import routesim as rs; rs.Send, rs.Policy", "from routesim import View, Wait, Stop"])
def test_importing_the_library_loads_no_heavy_package(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_what_is_asked_for_is_loaded() -> None:
    assert {"duckdb", "pyarrow"} <= loaded_by("from routesim import read_history")
    assert not loaded_by("from routesim import testing") & {"duckdb", "matplotlib", "statsmodels"}


def test_every_public_name_stands_in_each_of_the_three_lists() -> None:
    """For people and ``import *``, for the import when a name is asked for, and for type checkers."""
    tree = ast.parse(Path(str(rs.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    typed = {(str(node.module), alias.name) for node in block.body if isinstance(node, ast.ImportFrom)
             for alias in node.names}
    lazy = {(module, name) for module, names in rs._HOMES.items() for name in names}
    assert typed - {("routesim", "testing")} == lazy
    assert {name for _, name in lazy} == set(NAMES)
    assert sorted(rs.__all__) == rs.__all__ == dir(rs)
    assert [name for name in rs.__all__ if getattr(rs, name) is None] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        rs.__getattr__("runn")


def test_the_version_is_that_of_the_package() -> None:
    assert rs.__version__ == version("routesim")


WRONG_CALLS: list[tuple[str, Callable[[], Any], str]] = [
    ("source", lambda: rs.read_history(5), "source: a path is text or a Path; found 5"),  # type: ignore[arg-type]
    ("window", lambda: rs.read_history("extracts/january", from_="soon"), "from_: 'soon' is no moment"),
    ("profile", lambda: rs.read_history("extracts/january", profile="payment_m"), "payment_m"),
    ("timezone", lambda: rs.calibrate("extracts/january", timezone="Mexico/City"), "timezone: no time zone is called"),
    ("model", lambda: rs.check("models/none", "extracts/january"), "models/none: no model here"),
    ("model and history", lambda: rs.check(rs.read_history("extracts/january"), "x"), "model: found History("),  # type: ignore[arg-type]
    ("scenario", lambda: rs.run({"scenario": "x"}), "scenario: found {'scenario': 'x'}; give"),  # type: ignore[arg-type]
    ("override", lambda: rs.run("scenario.yaml", overrides=["sed=5"]), "unknown key 'sed'"),
    ("one override", lambda: rs.run("scenario.yaml", overrides="seed=5"), "overrides: give a list of them"),
    ("run's folder", lambda: rs.run("scenario.yaml", out="extracts"), "extracts: the folder holds something else"),
    ("workers", lambda: rs.check("models/mine", "extracts/january", workers=True), "workers: a number of processes"),
    ("policy", lambda: rs.read_run("runs/mine").attempts("breker"), "did you mean 'breaker'"),
    ("other run", lambda: rs.read_run("runs/mine").compare("runs/mine"), "same folder twice"),
    ("export", lambda: rs.read_run("runs/mine").export("new", form="parket"), "form: found 'parket'"),
    ("no experiment", lambda: rs.experiment("scenario.yaml"), "experiment: is missing"),
    ("power", lambda: rs.power(1.5, 1), "baseline: must lie between 0 and 1"),
    ("clusters", lambda: rs.power(0.85, 1, cluster_size=3), "icc: whole customers or orders need both"),
    ("rule", lambda: rs.auto_winner(0.85, 1, 2000, rule="pocok"), "did you mean 'pocock'"),
    ("days", lambda: rs.make_history("extracts/other", days=0), "days: must be at least 1"),
    ("field", lambda: rs.testing.view(amount=5), "did you mean 'amount_usd'"),
    ("outcome", lambda: rs.testing.answer("MIT", "refsed"), "did you mean 'refused'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "says"), [each[1:] for each in WRONG_CALLS], ids=[each[0] for each in WRONG_CALLS])
def test_a_wrong_call_ends_in_one_line(at_desk: Path, call: Callable[[], Any], says: str) -> None:
    before = sorted(path.relative_to(at_desk) for path in at_desk.rglob("*"))
    with pytest.raises(rs.BadInput) as raised:
        call()
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(path.relative_to(at_desk) for path in at_desk.rglob("*")) == before


SCENARIO: dict[str, Any] = {
    "scenario": "built", "seed": 5, "timezone": "America/Mexico_City", "replications": {"worlds": 2, "luck": 1},
    "model": Path("models/mine"), "trace": {"source": "extracts/january", "from": "2026-01-10"}, "baseline": "legacy",
    "policies": {"legacy": {"route": [{"to": ["Worldpay", "Elavon"]}]},
                 "retried": {"like": "legacy", "retry": [{"after": "soft", "max_attempts": 2, "delay": "3s",
                                                          "next": "rank"}]}}}


@pytest.mark.parametrize(("changed", "says"), [
    ({"sed": 5}, "scenario: sed: unknown key 'sed'; did you mean 'seed'?"),
    ({"replications": 0}, "scenario: replications: found 0; it must be at least 1"),
    ({"baseline": "legcy"}, "scenario: baseline: 'legcy' is none of the policies; did you mean 'legacy'?"),
    ({"policies": {"legacy": {"route": [{"too": ["A"]}]}}},
     "scenario: policies.legacy.route.0.too: unknown key 'too'; did you mean 'to'?"),
    ({"policies": {"legacy": {"like": "legcy"}}}, "scenario: policies.legacy.like: no policy is called 'legcy'"),
    ({"seed": object()}, "scenario.seed: found a value of type object; write text, a number, true, false, a list or "
                         "keys and values"),
    ({"policies": {5: {}}}, "scenario.policies: a key must be text; found 5"),
])
def test_a_scenario_made_in_python_is_read_as_strictly_as_a_file(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(rs.BadInput) as raised:
        rs.Scenario(SCENARIO, **changed)
    assert str(raised.value) == says


def test_a_scenario_made_in_python_runs_as_its_file_does(at_desk: Path) -> None:
    """Its resolved file, run from a file, gives the same figures."""
    built = rs.run(rs.Scenario(SCENARIO), workers=1)
    (at_desk / "again.yaml").write_text((built.path / "scenario.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    again = rs.run("again.yaml", workers=1)
    assert built.summary.equals(again.summary)
    assert built.replications.to_pandas().equals(again.replications.to_pandas())
    assert (built.compare(again)["difference"].dropna() == 0).all()


def test_a_router_s_class_may_stand_for_its_path() -> None:
    class Inside:
        pass

    with pytest.raises(rs.BadInput, match="cannot be imported by other processes"):
        rs.Scenario(SCENARIO, policies={"legacy": {"policy": Inside}})
    scenario = rs.Scenario(SCENARIO, policies={"legacy": {"policy": Small}})
    assert scenario.policies["legacy"].policy == "tests.small:Small"


def test_a_run_without_a_folder_goes_with_its_result(at_desk: Path) -> None:
    run = rs.run("scenario.yaml", workers=1, overrides=["replications={worlds: 1, luck: 1}"])
    folder = run.path
    assert (folder / "summary.json").exists()
    del run
    gc.collect()
    assert not folder.exists()
    assert not folder.parent.exists()


def test_a_run_that_fails_leaves_no_folder(at_desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(rs.BadInput, match="no payment arrived"):
        rs.run("scenario.yaml", overrides=["trace.from=2030-01-01"])
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_run_s_figures_are_those_of_its_summary(at_desk: Path) -> None:
    run = rs.read_run("runs/mine")
    document = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    for policy, figures in document["policies"].items():
        lift = run.lift(policy)
        assert {"value": lift.value, "low": lift.low, "high": lift.high}.items() <= figures["lift_pp"].items()
        p95 = run.summary.loc[(policy, "latency_ms.wait.p95"), "value"]
        assert p95 == figures["latency_ms"]["wait"]["p95"]["value"]
    replication = run.replications.to_pandas().query("figure == 'attempts_per_payment' and policy == 'breaker'")
    payments = run.payments("breaker").to_pandas().query("not warm_up")
    attempts = run.attempts("breaker").to_pandas().merge(payments, on=["world", "luck", "payment_id"])
    keys = ["world", "luck"]
    counted = attempts.groupby(keys).size() / payments.groupby(keys).size()
    assert counted.to_numpy() == pytest.approx(replication.sort_values(keys)["value"].to_numpy())


def test_results_show_themselves(at_desk: Path) -> None:
    run = rs.read_run("runs/mine")
    finding = {"figure": "replay: <b>", "observed": 0.8, "expected": 0.7, "sd": 0.01, "p_value": 1e-9, "passed": False,
               "look_at": "the whole"}
    verdict = rs.CheckResult(False, pd.DataFrame([finding]), "model mine · 5 payments")
    assert not verdict
    assert "<b>replay" not in verdict._repr_html_()
    assert "1 are not predicted" in repr(verdict)
    test = rs.experiment("experiment.yaml", workers=1, overrides=["replications={worlds: 2, luck: 1}"])
    for result in (run, verdict, test):
        assert "<table" in result._repr_html_()
        assert len(repr(result)) < 300
    for result in (rs.read_history("extracts/january"), rs.calibrate("extracts/january"), rs.power(0.85, 1, per_day=9)):
        assert len(repr(result)) < 300
    assert test.report("test.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert str(run.lift("breaker")).startswith("breaker ")


def test_a_test_s_draw_is_the_engine_s() -> None:
    drawn = rs.testing.draw(seed=3, payment_id="P9", fixed={"coin": 0.25})
    engine = PolicyDraw(identity("P9"), Luck(3))
    assert [drawn.uniform(name) for name in ("coin", "a", "b")] == [0.25, engine.uniform("a"), engine.uniform("b")]
    assert drawn.uniform("a") != rs.testing.draw(seed=4, payment_id="P9").uniform("a")


def test_the_notebook_runs_from_an_extract_to_a_lift(at_desk: Path) -> None:
    script = ROOT / "docs" / "notebook.py"
    code = [line for line in script.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert len(code) <= 25
    ended = runpy.run_path(str(script))
    assert ended["lift"].low <= ended["lift"].value <= ended["lift"].high
    assert (at_desk / "report.html").exists()


USER = """\
import routesim as rs


class Mine:
    def decide(self, view: rs.View, draw: rs.Draw) -> rs.Send | rs.Wait | rs.Stop:
        return rs.Send((rs.Choice(next(iter(view.terms))),))

    def observe(self, payment: rs.Payment, answer: rs.Answer) -> None: ...


def lift_of(path: str) -> float | None:
    router: rs.Policy = Mine()
    router.decide(rs.testing.view(amount_usd=5.0), rs.testing.draw(1))
    run = rs.run(path, workers=2)
    reveal_type(run.summary)
    return run.lift("breaker").value
"""


def test_a_type_checker_follows_the_library(tmp_path: Path) -> None:
    """In a strict editable installation, as `make test` makes it, and in a wheel."""
    script = tmp_path / "user.py"
    script.write_text(USER, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\n[mypy-pandas.*]\nignore_errors = True\n")

    def checked() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--follow-imports", "silent",
                               script.name], cwd=tmp_path, check=False, capture_output=True, text=True)

    right = checked()
    assert right.returncode == 0, right.stdout + right.stderr
    assert "DataFrame" in right.stdout
    script.write_text(USER.replace("rs.run(path", "rs.runn(path").replace('lift("breaker").value', "lift(5).valu"),
                      encoding="utf-8")
    wrong = checked()
    assert wrong.returncode == 1
    assert 'Module has no attribute "runn"' in wrong.stdout


@pytest.mark.slow
def test_a_wheel_works_from_anywhere(desk: Path, tmp_path: Path) -> None:
    """Built from a copy, since a build writes beside the sources; its dependencies are those of this environment."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "demo", "runs"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", "--target",
                    str(tmp_path / "site"), str(copy)], check=True)
    code = ("import routesim as rs; assert rs.__file__.startswith(SITE), rs.__file__; "
            "print(rs.run('scenario.yaml', workers=2).lift('breaker'))")
    done = subprocess.run([sys.executable, "-c", f"import sys; SITE = {str(tmp_path / 'site')!r}\n"
                           f"sys.path.insert(0, SITE)\nsys.meta_path = [f for f in sys.meta_path if 'editable' not in "
                           f"str(f)]\n{code}"], cwd=desk, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("breaker ")
