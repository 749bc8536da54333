"""Scenario files: the whole of one, overrides, its resolved form, and every complaint."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routesim.policies.vocabulary import Wait
from routesim.scenarios.document.loading import load_scenario, policy_factories, resolved
from routesim.scenarios.document.schema import AdaptiveLuck, Replications, Scenario
from routesim.scenarios.document.yaml_reader import parse_yaml
from routesim.sim.errors import BadInput
from tests.policy_world import ARRIVED_AT, Luck, answer, names, payment, view
from tests.small import LEGACY

WEEK = """\
scenario: volaris_week
seed: 20260202
timezone: America/Mexico_City
replications: {worlds: 20, luck: 2}
model: ../models/volaris
trace: {source: ../extracts/holdout, from: 2026-02-02T00:00:00, until: 2026-02-09T00:00:00, warm_up: 1d}
outages:
  base: calibrated
  add:
    - {processors: [MIT, Elavon], when: {currency: MXN}, start: 2026-02-07T00:00:00, duration: 48h, loss: 1.0}
world:
  processors:
    NewPSP: {like: Worldpay, approval_pp: {mean: -1, sd: 2}, fee: {fixed_usd: 0.10}}
    Elavon: {capacity: {concurrent: 40, queue: 100}, latency: {factor: 2}}
  changes: [{at: 2026-02-04T00:00:00, processor: Elavon, when: {bank: null}, approval_pp: -8}]
  arrivals: {factor: 10}
baseline: legacy
policies:
""" + LEGACY + """\
    failover: none
  breaker:
    like: legacy
    failover: {circuit_breaker: {per: [processor], consecutive_timeouts: 5, open_for: 60s, probes: 1}}
  funds_24h:
    like: breaker
    retry:
      - {after: ["51"], max_attempts: 2, delay: 24h, next: rank}
"""
KNOWN = ["Worldpay", "MIT", "Elavon", "Amex"]


def load(folder: Path, text: str = WEEK, *overrides: str) -> Scenario:
    path = folder / "week.yaml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path, overrides)


def test_the_whole(tmp_path: Path) -> None:
    scenario = load(tmp_path)
    assert scenario.trace.from_ is not None
    assert scenario.trace.from_.timestamp() == 1_769_990_400.0  # midnight in UTC, whatever the time zone
    outage = scenario.outages.add[0]
    assert outage.end_s - outage.start_s == 48 * 3600
    change = scenario.world.changes[0]
    assert (change.approval_pp.mean, change.approval_pp.sd, change.when) == (-8, 0, {"bank": None})
    assert scenario.model_path == tmp_path / "../models/volaris"
    assert list(scenario.policies) == ["legacy", "breaker", "funds_24h"]


def test_like_replaces_only_what_is_named(tmp_path: Path) -> None:
    policies = load(tmp_path).policies
    assert policies["breaker"].route == policies["legacy"].route == policies["funds_24h"].route
    assert policies["breaker"].retry == policies["legacy"].retry
    assert policies["funds_24h"].failover == policies["breaker"].failover != policies["legacy"].failover


def test_factories_make_fresh_policies_that_work(tmp_path: Path) -> None:
    factories = policy_factories(load(tmp_path), KNOWN)
    assert list(factories) == ["legacy", "breaker", "funds_24h"]
    assert factories["legacy"]() is not factories["legacy"]()
    about = payment(logged_processor="Elavon")
    for factory in factories.values():
        assert names(factory().decide(view(about), Luck())) == ["Elavon", "MIT", "Worldpay"]
    failed = answer(1, "Elavon", ARRIVED_AT + 1)
    assert factories["legacy"]().decide(view(about, failed), Luck()) == Wait(ARRIVED_AT + 4)
    assert factories["funds_24h"]().decide(view(about, failed), Luck()) == Wait(ARRIVED_AT + 1 + 86_400)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20", Replications(worlds=20, luck=1)),
        ("{worlds: 3}", Replications(worlds=3, luck=1)),
        ("{worlds: 3, luck: {max: 20, mc_error_pp: 0.05}}",
         Replications(worlds=3, luck=AdaptiveLuck(max=20, mc_error_pp=0.05))),
    ],
)
def test_replications(tmp_path: Path, written: str, expected: Replications) -> None:
    assert load(tmp_path, WEEK, f"replications={written}").replications == expected


def test_resolved_loads_as_the_same_and_says_the_same(tmp_path: Path) -> None:
    scenario = load(tmp_path, WEEK, "replications.luck={max: 9, mc_error_pp: 0.1}", "policies.hist=logged")
    text = resolved(scenario)
    again = load(tmp_path, text)
    assert again.model_dump() == scenario.model_dump()
    assert resolved(again) == text
    assert "like: breaker" not in text


_CODES = st.sampled_from(["51", "05", "0x1F", "1e3", "on", "no", "null", "~", "true", "2026-02-02", "a: b", "#", "é"])


@settings(max_examples=30, deadline=None)
@given(codes=st.lists(_CODES | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=5), min_size=1))
def test_resolved_quotes_what_must_be(tmp_path_factory: pytest.TempPathFactory, codes: list[str]) -> None:
    folder = tmp_path_factory.mktemp("quoting")
    rule = ", ".join("'" + code.replace("'", "''") + "'" for code in codes)
    when = f"policies.legacy.route.0.when={{bank: [{rule}]}}"
    scenario = load(folder, WEEK, when)
    assert parse_yaml(resolved(scenario), "r")[0]["policies"]["legacy"]["route"][0]["when"]["bank"] == codes


def test_scenarios_travel_to_other_processes(tmp_path: Path) -> None:
    scenario = load(tmp_path)
    there = pickle.loads(pickle.dumps(scenario))  # noqa: S301
    assert there.model_dump() == scenario.model_dump()
    assert there.folder == tmp_path
    assert list(policy_factories(there, KNOWN)) == list(scenario.policies)


def test_overrides(tmp_path: Path) -> None:
    scenario = load(
        tmp_path, WEEK,
        "replications.worlds=5", "policies.breaker.failover.circuit_breaker.open_for=5m",
        "policies.breaker.retry.1.delay=9s", "policies.legacy.failover.circuit_breaker.probes=2",
        "outages.base=none", "world.processors.Elavon.timeout=8s",
    )  # fmt: skip
    assert scenario.replications == Replications(worlds=5, luck=2)
    plain = {name: policy.plain() for name, policy in scenario.policies.items()}
    assert plain["breaker"]["failover"]["circuit_breaker"]["open_for"] == "5m"
    assert [rule["delay"] for rule in plain["breaker"]["retry"]] == [["24h"], ["9s"]]
    assert [rule["delay"] for rule in plain["legacy"]["retry"]] == [["24h"], ["3s"]]
    assert plain["legacy"]["failover"]["circuit_breaker"]["probes"] == 2
    assert scenario.outages.base == "none"
    assert scenario.world.processors["Elavon"].timeout == "8s"


@pytest.mark.parametrize(
    ("was", "now", "where", "message"),
    [
        ("seed: 20260202", "sed: 20260202", "week.yaml:2", "sed: unknown key 'sed'; did you mean 'seed'?"),
        ("open_for: 60s", "opn_for: 60s", "week.yaml:31",
         "policies.breaker.failover.circuit_breaker.opn_for: unknown key 'opn_for'; did you mean 'open_for'?"),
        ("    failover: none", "    failovr: none", "week.yaml:28", "did you mean 'failover'?"),
        ("worlds: 20", "worlds: many", "week.yaml:4",
         "replications.worlds: found 'many' (text), expected a whole number"),
        ("seed: 20260202", "seed: 1.5", "week.yaml:2", "seed: found 1.5 (a number), expected a whole number"),
        ("model: ../models/volaris", "model: [a]", "week.yaml:5", "found ['a'] (a list), expected text"),
        ('["51"]', "[51, 05]", "week.yaml:35",
         'policies.funds_24h.retry.0.after.0: found 51 (a whole number), expected text; put it in quotes: "51"'),
        ('["51"]', '["51", 05]', "week.yaml:35", 'put it in quotes: "05"'),
        ("to: [Amex]", "to: [Amx]", "week.yaml:21", "no processor is called 'Amx'; did you mean 'Amex'?"),
        ("then: [MIT]", "then: [MTI]", "week.yaml:23", "no processor is called 'MTI'; did you mean 'MIT'?"),
        ("{Worldpay: 72", "{Wordpay: 72", "week.yaml:23", "did you mean 'Worldpay'?"),
        ("like: Worldpay", "like: Wordpay", "week.yaml:13", "did you mean 'Worldpay'?"),
        ("NewPSP: {like: Worldpay, ", "NewPSP: {", "week.yaml:13", "a new processor needs `like`"),
        ("like: Worldpay", "like: NewPSP", "week.yaml:13", "in a circle: NewPSP -> NewPSP"),
        ("    like: legacy", "    like: breaker", "week.yaml:30", "in a circle: breaker -> breaker"),
        ("    like: legacy", "    like: funds_24h", "week.yaml:33", "in a circle: breaker -> funds_24h -> breaker"),
        ("    like: legacy", "    like: legcy", "week.yaml:30", "did you mean 'legacy'?"),
        ("baseline: legacy", "baseline: lgacy", "week.yaml:17", "did you mean 'legacy'?"),
        ("baseline: legacy\n", "", "week.yaml:1", "'baseline' is missing"),
        ("America/Mexico_City", "America/Mexico_Cty", "week.yaml:3", "did you mean 'America/Mexico_City'?"),
        ("delay: 3s", "delay: 3sec", "week.yaml:27", "'3sec' is not a duration"),
        ("warm_up: 1d", "warm_up: 9d", "week.yaml:6", "takes up the whole window"),
        ("until: 2026-02-09", "until: 2026-02-01", "week.yaml:6", "the window must end after it begins"),
        ("2026-02-07T00:00:00", "saturday", "week.yaml:10", "is no moment"),
        ("factor: 10", "factor: -10", "week.yaml:16", "world.arrivals.factor: found -10; it must be above 0"),
        ("factor: 2}", "factor: 0}", "week.yaml:14", "it must be above 0"),
        ("loss: 1.0", "loss: 1.5", "week.yaml:10", "it must be at most 1"),
        ("loss: 1.0", "kind: slow", "week.yaml:10", "needs its latency_factor"),
        ("factor: 10", "factor: .inf", "week.yaml:16", "expected a finite number"),
        ("    failover: none", "    retry: none", "week.yaml:28", "'retry' stands twice; it stood on line 25"),
        ("card_brand: amex", "card_brnd: amex", "week.yaml:21", "did you mean 'card_brand'?"),
        ("scenario: volaris_week", "scenario: a/b", "week.yaml:1", "cannot be a name"),
        ("  funds_24h:", "  ../funds:", "week.yaml:32", "cannot be a name"),
        ("    failover: none", "    failover: 3", "week.yaml:28", "a failover is one of none, circuit_breaker"),
    ],
)
def test_each_mistake_is_one_line_that_says_where(
    tmp_path: Path, was: str, now: str, where: str, message: str
) -> None:
    assert was in WEEK
    with pytest.raises(BadInput) as caught:
        policy_factories(load(tmp_path, WEEK.replace(was, now, 1)), KNOWN)
    assert str(caught.value).startswith(f"{where}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_in_the_file_and_how_many_more(tmp_path: Path) -> None:
    wrong = WEEK.replace("factor: 10", "factor: 0").replace("seed: 20260202", "seed: x")
    wrong = wrong.replace("delay: 3s", "delay: 3")
    with pytest.raises(BadInput, match=r"^week.yaml:2: seed: .* \(and 2 more\)$"):
        load(tmp_path, wrong)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("replications.wrlds=3", "did you mean 'worlds'?"),
        ("seed", "write --set KEY=VALUE"),
        ("seed.x=3", "which has no keys"),
        ("policies.legacy.route.9.to=A", "write a place from 0 to 3"),
        ("seed=", "expected a whole number"),
        ("seed=[1", "not YAML"),
        ("policies.x.like=legcy", "did you mean 'legacy'?"),
        ("policies.h=nowhere_at_all:Router", "no module"),
    ],
)
def test_a_wrong_override_names_itself(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        policy_factories(load(tmp_path, WEEK, override), KNOWN)
    assert str(caught.value).startswith(f"--set {override}")
    assert message in str(caught.value)


def test_logged_needs_a_fitted_model(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="fitted to history"):
        policy_factories(load(tmp_path, WEEK + "  hist: {policy: logged}\n"), KNOWN)


def test_not_even_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="keys and values"):
        load(tmp_path, "- a\n")
