"""A run from start to end: its folder's contract, what is kept of it, and how it goes on after an interruption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from routesim.calibration.history.read import read_history
from routesim.calibration.outages.find import find_outages
from routesim.reports.run.folder import RUN, read
from routesim.scenarios.document.loading import load_scenario
from routesim.scenarios.running import runner
from routesim.scenarios.running.replicate import Replication, Study, replicate
from routesim.scenarios.running.runner import Prepared, prepare, run
from routesim.sim.errors import BadInput
from routesim.sim.folders import check_replaceable
from tests.small import Small, contents

QUANTILES = {"p50", "p95", "p99"}
FLAT = {"approval_rate", "lift_pp", "order_approval_rate", "first_attempt_rate", "attempts_per_payment", "recovered",
        "dark_payments", "darktime_min", "lost_to_outages", "cost_usd", "unsupported_share", "lift_unsupported_pp",
        "rule_breaches"}
LOG = ("attempts", "payments")
WARM_UNTIL = pd.Timestamp("2026-01-10T03:00:00Z")  # three hours after the window begins


@pytest.fixture(scope="module")
def prepared(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The small scenario, its model and its trace."""
    return small.prepare(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def done(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run of the small scenario."""
    return run(prepared, tmp_path_factory.mktemp("done") / "run", workers=1)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no page, which takes as long as all else of a small run."""
    monkeypatch.setattr("routesim.reports.pages.run.render", lambda run_dir: None)


@pytest.fixture(scope="module")
def varied(small: Small, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``varied(*overrides)``: the small scenario otherwise told, on the same model and trace."""
    def vary(*overrides: str) -> Prepared:
        scenario = small.load(tmp_path_factory.mktemp("varied"), *overrides)
        return replace(prepared, study=replace(prepared.study, scenario=scenario),
                       manifest=prepared.manifest | {"varied": overrides})

    return vary


def replications(run_dir: Path) -> pd.DataFrame:
    return pq.ParquetFile(run_dir / "replications.parquet").read().to_pandas()


def log(run_dir: Path, table: str, policy: str, world: int = 0, luck: int = 0) -> pd.DataFrame:
    part = f"{table}/policy={policy}/world={world:03d}/luck={luck:03d}/part-0.parquet"
    return pq.ParquetFile(run_dir / part).read().to_pandas()


def kept(run_dir: Path) -> set[tuple[str, str, str]]:
    """(table, policy, world and luck) of every log that was kept."""
    return {(parts[0], parts[1], "/".join(parts[2:4])) for path in run_dir.glob("*/policy=*/*/*/*.parquet")
            for parts in [path.relative_to(run_dir).parts]}


# --- the folder


def test_the_folder_holds_what_the_contract_says(done: Path) -> None:
    names = {path.name for path in done.iterdir()}
    assert {"summary.json", "payments", "attempts", "scenario.yaml", "manifest.json", "timing.json",
            "report.html"} <= names
    assert not [path for path in done.rglob("*") if path.name.startswith(".") or path.suffix in (".part", ".tmp")]
    assert [path.name for path in done.parent.iterdir() if path.name.startswith(".")] == []


def test_the_summary_has_every_figure_with_its_interval(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text(encoding="utf-8"))
    assert (summary["scenario"], summary["seed"], summary["baseline"]) == ("small", 5, "legacy")
    assert summary["replications"] == {"worlds": 2, "luck": 2}
    assert list(summary["policies"]) == ["legacy", "three_attempts", "breaker"]
    for figures in summary["policies"].values():
        assert figures.keys() >= {*FLAT, "latency_ms"}
        assert set(figures["latency_ms"]) >= {"attempt", "wait"}
        assert all(set(figures["latency_ms"][kind]) == QUANTILES for kind in ("attempt", "wait"))
        intervals = [figures[name] for name in FLAT]
        intervals += [figures["latency_ms"][kind][q] for kind in ("attempt", "wait") for q in QUANTILES]
        for each in intervals:
            assert each.keys() >= {"value", "low", "high"}
            if each["value"] is not None:
                assert each["low"] <= each["value"] <= each["high"]
    assert all(summary["policies"]["legacy"]["lift_pp"][end] == 0 for end in ("value", "low", "high"))


def test_the_manifest_tells_versions_hashes_and_seed_but_not_where_the_run_lies(done: Path) -> None:
    text = (done / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert manifest["seed"] == 5
    assert {"routesim", "simpy", "numpy"} <= manifest["versions"].keys()
    assert {"scenario", "model", "uncertainty", "trace"} <= manifest["hashes"].keys()
    assert all(len(digest) == 64 for digest in manifest["hashes"].values())
    assert str(done) not in text


def test_figures_are_those_of_the_log_without_its_warm_up(done: Path, prepared: Prepared) -> None:
    found = replications(done)
    for policy in ("legacy", "three_attempts"):
        payments, attempts = log(done, "payments", policy, 1, 1), log(done, "attempts", policy, 1, 1)
        assert payments["warm_up"].any()
        assert not payments["warm_up"].all()
        measured = payments[~payments["warm_up"]]
        attempts = attempts[attempts["payment_id"].isin(measured["payment_id"])]
        approved = attempts.loc[attempts["outcome"] == "approved", "payment_id"]
        mine = found[(found["policy"] == policy) & (found["world"] == 1) & (found["luck"] == 1)]
        figures = mine.set_index("figure")["value"]
        assert approved.is_unique
        assert figures["approval_rate"] == pytest.approx(len(approved) / len(measured))
        assert figures["attempts_per_payment"] == pytest.approx(len(attempts) / len(measured))
    arrived = prepared.study.payments["arrived_at"].to_pandas()
    summary = json.loads((done / "summary.json").read_text(encoding="utf-8"))
    assert summary["payments"] == (arrived >= WARM_UNTIL).sum() < len(arrived)


def test_warm_up_ends_after_its_length(done: Path) -> None:
    payments = log(done, "payments", "legacy")
    payments = payments[payments["previous_payment_id"].isna()]  # the others take it from their forerunner
    assert (payments["warm_up"] == (payments["arrived_at"] < WARM_UNTIL)).all()


def test_the_resolved_scenario_runs_again_to_the_same(done: Path, tmp_path: Path, small: Small) -> None:
    path = tmp_path / "again.yaml"
    path.write_bytes((done / "scenario.yaml").read_bytes())
    again = run(prepare(load_scenario(path)), tmp_path / "again", workers=1)
    assert contents(again) == contents(done)


def test_the_run_reads_back(done: Path) -> None:
    found = read(done)
    assert found.policies == ["legacy", "three_attempts", "breaker"]
    assert found.replications.num_rows == len(replications(done))


# --- how much of the log is kept


@pytest.mark.parametrize(("level", "luck"), [("sample", {"world=000/luck=000"}), ("none", set())])
@pytest.mark.usefixtures("no_page")
def test_the_log_is_kept_as_far_as_asked_and_changes_nothing_else(varied: Any, tmp_path: Path, done: Path,
                                                                  level: str, luck: set[str]) -> None:
    found = run(varied(f"log={level}"), tmp_path / level, workers=1)
    policies = ("legacy", "three_attempts", "breaker")
    assert kept(found) == {(table, f"policy={p}", part) for table in LOG for p in policies
                           for part in luck}
    assert len(kept(done)) == 2 * len(policies) * 4
    whole = contents(done)
    ours = contents(found)
    assert all(whole[name] == digest for name, digest in ours.items()
               if name not in ("scenario.yaml", "manifest.json"))
    assert ours["summary.json"] == whole["summary.json"]


# --- an interrupted run


def interrupted(prepared: Prepared, out: Path, after: int) -> None:
    """Run until ``after`` replications are done, then press Ctrl-C."""
    def told(finished: int, todo: int) -> None:
        if finished == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepared, out, 1, told)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(world, luck) of every replication that is simulated in this process from now on."""
    seen: list[tuple[int, int]] = []

    def spy(study: Study, world: int, luck: int, *rest: Any) -> Replication:
        seen.append((world, luck))
        return replicate(study, world, luck, *rest)

    monkeypatch.setattr(runner, "replicate", spy)
    return seen


def test_an_interrupted_run_goes_on_where_it_was(prepared: Prepared, tmp_path: Path, done: Path,
                                                 simulated: list[tuple[int, int]]) -> None:
    interrupted(prepared, tmp_path / "run", after=1)
    assert simulated == [(0, 0)]
    assert not (tmp_path / "run").exists()
    run(prepared, tmp_path / "run", workers=1)
    assert simulated == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert contents(tmp_path / "run") == contents(done)


@pytest.mark.usefixtures("no_page")
def test_a_replication_that_was_cut_short_is_simulated_again(prepared: Prepared, tmp_path: Path, done: Path,
                                                             simulated: list[tuple[int, int]]) -> None:
    interrupted(prepared, tmp_path / "run", after=2)
    first, second = sorted(tmp_path.glob(".run.*.part/kept/*.json"))
    first.write_bytes(first.read_bytes()[:-50])
    second.with_suffix(".outages.parquet").unlink()
    run(prepared, tmp_path / "run", workers=1)
    assert simulated[2:] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert contents(tmp_path / "run") == without_page(done)


@pytest.mark.usefixtures("no_page")
def test_what_was_begun_from_other_inputs_is_not_gone_on_with(prepared: Prepared, varied: Any, tmp_path: Path,
                                                              done: Path, simulated: list[tuple[int, int]]) -> None:
    interrupted(varied("seed=6"), tmp_path / "run", after=3)
    run(prepared, tmp_path / "run", workers=1)
    assert simulated[3:] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert contents(tmp_path / "run") == without_page(done)


@pytest.mark.usefixtures("no_page")
def test_an_interrupted_run_leaves_the_earlier_one(prepared: Prepared, varied: Any, tmp_path: Path) -> None:
    run(varied("replications=1"), tmp_path / "run", workers=1)
    before = contents(tmp_path / "run")
    interrupted(prepared, tmp_path / "run", after=2)
    assert contents(tmp_path / "run") == before


def without_page(run_dir: Path) -> dict[str, str]:
    return {name: digest for name, digest in contents(run_dir).items() if name != "report.html"}


# --- luck until it is enough

ADAPTIVE = "replications={worlds: 2, luck: {max: 5, mc_error_pp: %s}}"


def error_pp(run_dir: Path, lucks: int) -> float:
    """The largest sqrt(MS_within / (W K)) of a lift over the first ``lucks`` draws of luck."""
    found = replications(run_dir)
    lifts = found[(found["figure"] == "lift_pp") & (found["luck"] < lucks)]
    within = lifts.groupby(["policy", "world"])["value"].var(ddof=1).groupby("policy").mean()
    return float(np.sqrt(within / (lifts["world"].nunique() * lucks)).max())


@pytest.fixture(scope="module")
def all_five(varied: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("routesim.reports.pages.run.render", lambda run_dir: None)
        yield run(varied(ADAPTIVE % 1e-9, "log=none"), tmp_path_factory.mktemp("adaptive") / "run", workers=1)


def test_luck_stops_at_its_most(all_five: Path) -> None:
    assert json.loads((all_five / "summary.json").read_text(encoding="utf-8"))["replications"]["luck"] == 5
    assert error_pp(all_five, 5) > 0


@pytest.mark.usefixtures("no_page")
def test_luck_stops_as_soon_as_the_error_is_small_enough(varied: Any, tmp_path: Path, all_five: Path) -> None:
    errors = {k: error_pp(all_five, k) for k in range(2, 6)}
    bound = sorted(errors.values())[1]  # so that at least one number of draws is enough
    first = min(k for k, error in errors.items() if error <= bound)
    found = run(varied(ADAPTIVE % repr(bound * (1 + 1e-9)), "log=none"), tmp_path / "run", workers=1)
    assert json.loads((found / "summary.json").read_text(encoding="utf-8"))["replications"]["luck"] == first
    assert error_pp(found, first) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("after", [1, 5])
@pytest.mark.usefixtures("no_page")
def test_adaptive_luck_goes_on_after_an_interruption(varied: Any, tmp_path: Path, all_five: Path, after: int,
                                                     simulated: list[tuple[int, int]]) -> None:
    adaptive = varied(ADAPTIVE % 1e-9, "log=none")
    interrupted(adaptive, tmp_path / "run", after)
    run(adaptive, tmp_path / "run", workers=1)
    assert len(simulated) == len(set(simulated)) == 10
    names = ("summary.json", "replications.parquet", "hours.parquet", "outages.parquet")
    assert [contents(tmp_path / "run")[name] for name in names] == [contents(all_five)[name] for name in names]


# --- outages


def outages_of(run_dir: Path) -> pd.DataFrame:
    return pq.ParquetFile(run_dir / "outages.parquet").read().to_pandas()


@pytest.mark.usefixtures("no_page")
def test_no_outages(varied: Any, tmp_path: Path) -> None:
    found = run(varied("outages.base=none", "replications=1"), tmp_path / "run", workers=1)
    assert outages_of(found).empty
    lost = replications(found).query("figure == 'lost_to_outages'")["value"]
    assert (lost.fillna(0) == 0).all()


@pytest.mark.usefixtures("no_page")
def test_observed_outages_are_those_found_in_the_traces_window(small: Small, tmp_path: Path) -> None:
    known = find_outages(read_history(small.history, None, None, None).log).outages
    assert known  # the seed of the small history was chosen so that there are some
    settings = ("outages.base=observed", "trace.from=2026-01-05", "replications=1", "log=none")
    found = outages_of(run(small.prepare(tmp_path, *settings), tmp_path / "run", workers=1))
    expected = sorted((o.start, o.processor) for o in known)
    assert found["processor"].to_list() == [processor for _, processor in expected]
    assert found["start"].map(pd.Timestamp.timestamp).to_list() == pytest.approx([s for s, _ in expected], abs=1e-5)


DOWN = ("outages={base: none, add: [{processors: [Worldpay, Elavon, MIT], when: {currency: USD}, "
        "start: 2026-01-10T06:00:00, duration: 17h}]}")


@pytest.mark.usefixtures("no_page")
def test_an_added_outage_touches_only_what_it_is_said_to_touch(varied: Any, tmp_path: Path) -> None:
    settings = ("replications=1", "policies.legacy.retry=none")
    calm = run(varied(*settings, "outages.base=none"), tmp_path / "calm", workers=1)
    down = run(varied(*settings, DOWN), tmp_path / "down", workers=1)
    start, end = pd.Timestamp("2026-01-10T06:00:00Z"), pd.Timestamp("2026-01-10T23:00:00Z")
    assert set(outages_of(down)["processor"]) == {"Elavon", "MIT", "Worldpay"}
    assert set(outages_of(down)["start"]) == {start}
    assert set(outages_of(down)["end"]) == {end}
    payments = log(down, "payments", "legacy").set_index("payment_id")
    attempts = log(down, "attempts", "legacy").join(payments[["currency", "card_brand"]], on="payment_id")
    within = (attempts["sent_at"] >= start) & (attempts["sent_at"] < end)
    touched = within & (attempts["currency"] == "USD") & (attempts["card_brand"] != "amex")
    assert touched.sum() > 20
    assert (attempts.loc[touched, "outcome"] == "timeout").all()
    others = log(calm, "attempts", "legacy")
    pesos = payments.index[payments["currency"] == "MXN"]
    pd.testing.assert_frame_equal(others[others["payment_id"].isin(pesos)].reset_index(drop=True),
                                  log(down, "attempts", "legacy").query("payment_id in @pesos").reset_index(drop=True))
    lost = replications(down).query("policy == 'legacy' and figure == 'lost_to_outages'")["value"].item()
    assert lost == len(set(others.query("outcome == 'approved'")["payment_id"]) & set(measured(payments))) - len(
        set(attempts.query("outcome == 'approved'")["payment_id"]) & set(measured(payments)))


def measured(payments: pd.DataFrame) -> pd.Index:
    return payments.index[~payments["warm_up"]]


# --- where a run may be written


def test_an_earlier_run_and_an_empty_folder_may_be_replaced(done: Path, tmp_path: Path) -> None:
    check_replaceable(done, RUN)
    check_replaceable(tmp_path, RUN)
    check_replaceable(tmp_path / "new" / "folder", RUN)


def test_nothing_else_is_replaced(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(BadInput, match="something else than a run"):
        run(prepared, tmp_path)
    (tmp_path / "summary.json").write_text("{}", encoding="utf-8")  # a run's name does not make it a run's folder
    with pytest.raises(BadInput, match="which would be lost"):
        run(prepared, tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        run(prepared, tmp_path / "notes.txt")
    with pytest.raises(BadInput, match="cannot write"):
        run(prepared, tmp_path / "notes.txt" / "below" / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "summary.json"]


# --- paired runs


@pytest.mark.usefixtures("no_page")
def test_paired_runs_earn_their_keep(varied: Any, tmp_path: Path) -> None:
    """The spread of a paired lift is less than half that of independent runs: a quarter of the replications do."""
    found = run(varied("replications={worlds: 6, luck: 2}", "log=none"), tmp_path / "run", workers=1)
    efficiency = json.loads((found / "summary.json").read_text(encoding="utf-8"))["paired_efficiency"]
    assert 0 < efficiency["three_attempts"] < 0.5
