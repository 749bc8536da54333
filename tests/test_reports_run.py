"""From measured replications to the run's folder, its pictures, its page and its table."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from routesim.policies.vocabulary import Fee
from routesim.reports.metrics.measure import Measured, measure
from routesim.reports.pages import run as page
from routesim.reports.pages.drawing import policy_colours
from routesim.reports.pages.retry_section import RETRIES, late_retries
from routesim.reports.pages.run_pictures import pictures
from routesim.reports.pages.tables import TableCell, rows
from routesim.reports.pages.terminal import summary_table
from routesim.reports.run import folder as run_folder
from routesim.reports.run.answers import headline
from routesim.reports.run.comparison import Comparison
from routesim.reports.statistics.live_test import live_test
from routesim.sim.errors import BadInput
from tests.logs import at, attempt, log, outages, payment

POLICIES = ("legacy", "more", "same", "worse")
FEES = {"A": Fee(0.1, 100), "B": Fee(0.2)}
OUTAGES = (("A", "down", 7_200.0, 10_800.0),)

# what a run's summary.json holds for every policy, by name
CONTRACT = {
    "approval_rate", "lift_pp", "order_approval_rate", "first_attempt_rate", "attempts_per_payment", "recovered",
    "dark_payments", "darktime_min", "lost_to_outages", "latency_ms", "cost_usd", "unsupported_share",
    "lift_unsupported_pp", "rule_breaches",
}


def replicate(policy: str, world: int, luck: int) -> Measured:
    """200 payments over ten hours; `more` retries at B, `worse` loses a tenth, `same` differs by luck."""
    rng = np.random.default_rng([world, luck])
    chance = 0.6 + 0.02 * world
    own = np.random.default_rng([world, luck, 9])
    rows, sent = [], []
    for i in range(200):
        name, arrived = f"p{i:03d}", 180.0 * i
        rows.append(payment(name, arrived, amount_usd=10 + 0.37 * i))
        ok, second = rng.uniform() < chance, rng.uniform() < 0.3
        flipped = own.uniform() < 0.02
        down = 7_200 <= arrived < 10_800
        if policy == "worse":
            ok = ok and i % 10 != 0
        if policy == "same" and flipped:
            ok = not ok
        outcome = "timeout" if down else "approved" if ok else "declined"
        sent.append(attempt(name, 1, "A", arrived, 30 if down else 1 + i % 3, outcome,
                            decline_code="51" if outcome == "declined" else None))
        if policy == "more" and outcome != "approved":
            sent.append(attempt(name, 2, "B", arrived + 40, 2, "approved" if second else "declined"))
    return measure(log(rows, sent), outages=outages(*OUTAGES), fees=FEES, baseline=_legacy(policy, world, luck))


def _legacy(policy: str, world: int, luck: int) -> Any:
    return None if policy == "legacy" else LOGS[world, luck]


def _legacy_log(world: int, luck: int) -> Any:
    rng = np.random.default_rng([world, luck])
    rows, sent = [], []
    for i in range(200):
        name, arrived = f"p{i:03d}", 180.0 * i
        rows.append(payment(name, arrived, amount_usd=10 + 0.37 * i))
        ok, _ = rng.uniform() < 0.6 + 0.02 * world, rng.uniform()
        down = 7_200 <= arrived < 10_800
        sent.append(attempt(name, 1, "A", arrived, 30 if down else 1 + i % 3,
                            "timeout" if down else "approved" if ok else "declined"))
    return log(rows, sent)


LOGS = {(world, luck): _legacy_log(world, luck) for world in range(3) for luck in range(2)}
MEASURED = {
    (policy, world, luck): replicate(policy, world, luck)
    for policy in POLICIES for world in range(3) for luck in range(2)
}


def comparison(policies: tuple[str, ...] = POLICIES, **changes: Any) -> Comparison:
    measured = {key: value for key, value in MEASURED.items() if key[0] in policies}
    return Comparison(**({"scenario": "a week", "seed": 7, "baseline": "legacy", "policies": policies,
                          "measured": measured} | changes))


def struck() -> pa.Table:
    rows = [{"world": w, "luck": k, "processor": "A", "kind": "down", "start": at(7_200), "end": at(10_800)}
            for w in range(3) for k in range(2)]
    return pa.Table.from_pylist(rows, schema=run_folder.OUTAGES)


MANIFEST = {
    "seed": 7, "versions": {"routesim": "0.1.0"}, "assumed": ["Arrivals are ten times as many."],
    "warnings": ["The source cannot tell <b>initiators</b> apart."],
    "model": {"source": "history", "rows used": 12_345},
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run_folder.write(tmp_path / "run", comparison(), struck())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(MANIFEST))
    (tmp_path / "run" / "scenario.yaml").write_text("scenario: a week\nnote: \"</pre><script>\"\n")
    return tmp_path / "run"


def test_the_summary_keeps_its_contract(run_dir: Path) -> None:
    summary = json.loads((run_dir / "summary.json").read_text())
    assert {"scenario", "seed", "replications", "payments", "baseline", "policies"} <= set(summary)
    assert summary["replications"] == {"worlds": 3, "luck": 2}
    assert summary["payments"] == 200
    assert list(summary["policies"]) == list(POLICIES)
    interval_keys = {"value", "low", "high", "one_run_low", "one_run_high"}
    for found in summary["policies"].values():
        assert set(found) >= CONTRACT
        for name in CONTRACT - {"latency_ms"}:
            assert set(found[name]) == interval_keys, name
        for kind in ("attempt", "wait"):
            assert set(found["latency_ms"][kind]) == {"p50", "p95", "p99"}
            assert set(found["latency_ms"][kind]["p95"]) == interval_keys


def test_a_lift_is_the_mean_of_the_paired_differences() -> None:
    rates = {policy: np.array([[MEASURED[policy, w, k].figures["approval_rate"] for k in range(2)] for w in range(3)])
             for policy in POLICIES}
    found = comparison().summary()["policies"]
    for policy in POLICIES:
        expected = 100 * (rates[policy] - rates["legacy"]).mean()
        assert found[policy]["lift_pp"]["value"] == pytest.approx(expected)
    assert found["legacy"]["lift_pp"] == dict.fromkeys(("value", "low", "high", "one_run_low", "one_run_high"), 0.0)


def test_a_policy_does_not_depend_on_the_others_or_on_their_order() -> None:
    alone = comparison(("legacy", "more")).summary()["policies"]["more"]
    shuffled = comparison(("worse", "more", "legacy", "same"))
    assert alone == comparison().summary()["policies"]["more"] == shuffled.summary()["policies"]["more"]
    assert list(shuffled.summary()["policies"]) == ["worse", "more", "legacy", "same"]


def test_paired_efficiency_compares_with_independent_runs() -> None:
    def rates(policy: str) -> Any:
        return np.array([MEASURED[policy, w, k].figures["approval_rate"] for w in range(3) for k in range(2)])

    ours, theirs = rates("worse"), rates("legacy")
    expected = (ours - theirs).std(ddof=1) / np.hypot(ours.std(ddof=1), theirs.std(ddof=1))
    assert comparison().paired_efficiency("worse") == pytest.approx(expected)
    assert expected < 1
    assert comparison().paired_efficiency("legacy") is None


def test_a_missing_policy_or_baseline_is_told() -> None:
    with pytest.raises(ValueError, match="no replication of absent"):
        comparison((*POLICIES, "absent"))
    with pytest.raises(ValueError, match="baseline"):
        comparison(baseline="absent")


def test_a_replication_that_was_not_run_is_left_out() -> None:
    measured = {key: value for key, value in MEASURED.items() if key != ("more", 2, 1)}
    short = comparison(measured=measured)
    assert np.isnan(short.values("more", "lift_pp")).sum() == 1
    assert short.summary()["policies"]["more"]["lift_pp"]["value"] is not None


def test_the_folder_reads_back_what_was_written(run_dir: Path) -> None:
    run = run_folder.read(run_dir)
    assert run.policies == list(POLICIES)
    replications = run.replications.to_pandas()
    row = replications[(replications["policy"] == "more") & (replications["world"] == 1) & (replications["luck"] == 0)
                       & (replications["figure"] == "cost_usd")]
    assert row["value"].tolist() == [MEASURED["more", 1, 0].figures["cost_usd"]]
    hours = run.hours.to_pandas()
    more = hours[hours["policy"] == "more"]
    assert more["payments"].sum() == 6 * 200
    assert more["replications"].unique().tolist() == [6]
    assert more["hour"].iloc[0] == at(0)
    assert run.outages.num_rows == 6
    assert run.figure("more", "latency_ms.wait.p95")["value"] is not None
    assert run.figure("more", "no.such")["value"] is None
    assert not list(run_dir.glob("*.tmp"))
    assert not list(run_dir.glob(".*"))


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_run_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    page.render(run_dir)
    before = hashes(run_dir)
    backwards = dict(reversed(list(MEASURED.items())))
    run_folder.write(run_dir, comparison(measured=backwards), struck())
    page.render(run_dir)
    assert hashes(run_dir) == before


def break_(name: str, content: bytes | None) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
    return do


def drop_column(folder: Path) -> None:
    path = folder / "hours.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["dark"]), path)


@pytest.mark.parametrize(("breakage", "where", "what"), [
    (break_("summary.json", None), "run", "not the folder of a run"),
    (break_("summary.json", b"{"), "summary.json", "JSON"),
    (break_("summary.json", b"[]"), "summary.json", "object"),
    (break_("summary.json", b"{}"), "summary.json", "lacks scenario"),
    (break_("hours.parquet", None), "hours.parquet", "missing"),
    (break_("latency.parquet", b"PAR1"), "latency.parquet", "Parquet"),
    (drop_column, "hours.parquet", "'dark'"),
])
def test_a_broken_folder_is_told_in_one_line(
    run_dir: Path, breakage: Callable[[Path], None], where: str, what: str
) -> None:
    breakage(run_dir)
    with pytest.raises(BadInput) as caught:
        page.render(run_dir)
    assert what in caught.value.message
    assert (caught.value.where or "").endswith(where)
    assert "\n" not in str(caught.value)


def test_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        run_folder.read(tmp_path / "absent")


def test_the_page_answers_first_and_holds_everything_itself(run_dir: Path) -> None:
    text = page.render(run_dir).read_text()
    assert text.index("Best: more") < text.index("<table")
    for policy in POLICIES:
        assert policy in text
    references = re.findall(r"(?:src|href|action|url)\s*[=(]\s*[\"']?([^\"'\s)>]+)", text)
    assert references
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in references)
    assert "<script" not in text
    assert "<b>initiators</b>" not in text
    assert "Arrivals are ten times as many." in text
    assert "12,345" in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 4
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)


def test_the_page_needs_neither_manifest_nor_scenario(run_dir: Path) -> None:
    (run_dir / "manifest.json").unlink()
    (run_dir / "scenario.yaml").unlink()
    assert "Nothing is recorded as assumed" in page.render(run_dir).read_text()


def test_the_pictures_are_valid_svg_without_outside_references(run_dir: Path) -> None:
    drawn = pictures(run_folder.read(run_dir))
    assert [picture.name for picture in drawn] == ["lift", "time", "traffic", "latency"]
    for picture in drawn:
        ET.fromstring(picture.svg)
        for name, target in re.findall(r'(xlink:href|href|src)="([^"]*)"', picture.svg):
            assert target.startswith("#"), (picture.name, name, target)
    assert drawn == pictures(run_folder.read(run_dir))


def test_a_policy_keeps_its_colour_and_the_baseline_is_grey(run_dir: Path) -> None:
    colours = policy_colours(run_folder.read(run_dir))
    assert len(set(colours.values())) == len(POLICIES)
    assert colours["legacy"] == "#444444"


def with_lifts(run_dir: Path, lifts: dict[str, tuple[float, float | None, float | None]]) -> run_folder.Run:
    summary = json.loads((run_dir / "summary.json").read_text())
    for policy, (value, low, high) in lifts.items():
        summary["policies"][policy]["lift_pp"] |= {"value": value, "low": low, "high": high}
    (run_dir / "summary.json").write_text(json.dumps(summary))
    return run_folder.read(run_dir)


@pytest.mark.parametrize(("lifts", "said"), [
    ({"more": (2.29, 2.1, 2.5), "same": (0.1, -0.2, 0.4), "worse": (-1, -2, -0.5)},
     "Best: more, +2.29 pp approval lift on legacy (95 % interval +2.10 to +2.50)."),
    ({"more": (2.29, 2.1, 2.5), "same": (2.2, 1.9, 2.4), "worse": (-1, -2, -0.5)}, "overlaps that of same"),
    ({"more": (0.3, -0.1, 0.7), "same": (0.1, -0.2, 0.4), "worse": (-1, -2, -0.5)},
     "No policy is shown to be better than legacy"),
    ({"more": (-0.3, -0.5, -0.1), "same": (-0.3, -0.5, -0.1), "worse": (-1, -2, -0.5)}, "Keep legacy"),
    ({"more": (3, None, None), "same": (1, None, None), "worse": (-1, None, None)}, "one run gives no interval"),
])
def test_the_headline_says_no_more_than_the_intervals(
    run_dir: Path, lifts: dict[str, tuple[float, float | None, float | None]], said: str
) -> None:
    run = with_lifts(run_dir, lifts)
    assert said in headline(run)
    assert said in html.unescape(page.html(run)).replace("\N{NO-BREAK SPACE}", " ")


def test_what_delayed_retries_rest_on_is_said_where_there_are_any(run_dir: Path) -> None:
    run = run_folder.read(run_dir)
    assert late_retries(run) == ""
    assert "come 15 minutes or more" not in page.html(run)
    run.summary["policies"]["more"]["delayed_retries"] = {"value": 1234.0, "low": None, "high": None}
    run.manifest["retries_assume"] = "customers are assumed to wait"
    sentence = late_retries(run)
    assert "1,234 attempts a replication (more)" in sentence
    assert sentence.endswith("customers are assumed to wait.")
    assert "come 15 minutes or more" in page.html(run)
    cells = {row.policy: row.cells for row in rows(run, RETRIES)}
    assert set(cells) == set(run.policies)
    recovered = run.figure("more", "recovered")
    value, low, high = (100 * (recovered[name] or 0.0) for name in ("value", "low", "high"))
    assert cells["more"][0] == TableCell(f"{value:.2f} %", f"{low:.2f} % to {high:.2f} %")


def test_a_single_policy_makes_a_page(tmp_path: Path) -> None:
    run_folder.write(tmp_path, comparison(("legacy",)), struck().slice(0, 0))
    assert "nothing to compare it with" in page.render(tmp_path).read_text()


def test_a_live_test_is_sized_by_the_textbook_formula() -> None:
    # Fleiss, Levin and Paik: p = 0.60 against 0.70 at 5 % and 80 % power needs 356 a group without correction
    found = live_test(0.60, 10.0, payments_per_day=100)
    assert found is not None
    assert found.per_variant == 356
    assert found.days == pytest.approx(7.12)
    assert live_test(0.6, 0.0, 100) is None
    assert live_test(0.99, 2.0, 100) is None


def test_a_live_test_of_that_size_has_its_power() -> None:
    found = live_test(0.70, 4.0, 1_000)
    assert found is not None
    rng, n, runs = np.random.default_rng(5), found.per_variant, 20_000
    a, b = rng.binomial(n, 0.70, runs) / n, rng.binomial(n, 0.74, runs) / n
    m = (a + b) / 2
    power = (np.abs(b - a) / np.sqrt(2 * m * (1 - m) / n) > 1.959964).mean()
    assert abs(power - 0.80) < 4 * np.sqrt(0.16 / runs) + 0.005  # the normal approximation's own error


def test_the_terminal_table_fits_eighty_columns(run_dir: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(run_folder.read(run_dir)))
    text = console.export_text()
    assert all(len(line) <= 80 for line in text.splitlines())
    for policy in POLICIES:
        assert policy in text
    assert "…" not in text
