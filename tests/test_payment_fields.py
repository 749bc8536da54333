"""A payment's fields: one list of them, and those that a source's profile adds, from the extract to a rule."""

from __future__ import annotations

import json
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from routesim.calibration.history.profile import load_profile
from routesim.calibration.history.read import History, read_history
from routesim.calibration.off_policy.cross_fit import contexts
from routesim.policies.conditions import Condition, ConditionError
from routesim.policies.payment_fields import FurtherFields, PaymentField
from routesim.policies.vocabulary import PAYMENT_FIELDS, Payment
from routesim.scenarios.cli import calibrate
from routesim.scenarios.document.loading import load_scenario, resolved
from routesim.scenarios.running.runner import prepare, run
from routesim.sim.errors import BadInput
from routesim.sim.log import PAYMENTS, further_fields, payments_schema
from routesim.sim.trace import Trace
from tests.policy_world import payment
from tests.worlds import trace_of

VOCABULARY = Path(__file__).resolve().parents[1] / "policies/vocabulary.py"

# Run in an interpreter of its own, in which Payment has one line more.
ONE_MORE_FIELD = """
import sys
from types import ModuleType

name = "routesim.policies.vocabulary"
module = sys.modules[name] = ModuleType(name)
text = open(sys.argv[1], encoding="utf-8").read()
before = "    logged_processor: Annotated"
assert text.count(before) == 1
line = '    cabin: Annotated[str | None, PaymentField("the class of travel", case="lower")]\\n'
exec(compile(text.replace(before, line + before), sys.argv[1], "exec"), module.__dict__)

import pyarrow as pa
from routesim.calibration.history.staging import PAYMENT_COLUMNS
from routesim.calibration.off_policy.cross_fit import contexts
from routesim.policies.conditions import compile_when
from routesim.policies.failover.scope import scope
from routesim.sim.log import PAYMENTS
from routesim.sim.trace import Trace
from tests.worlds import trace_of

assert PAYMENTS.field("cabin").metadata == {b"doc": b"the class of travel"}
assert PAYMENT_COLUMNS["cabin"] == "VARCHAR"
trace = trace_of([0.0, 1.0], cabin=["first", None])
first, second = trace.payments(0)
assert (first.cabin, second.cabin) == ("first", None)
assert trace.comeback_payment(1, "again", first, 9.0).cabin == "first"
assert [compile_when({"cabin": "FIRST"})(each) for each in (first, second)] == [True, False]
assert scope(["processor", "cabin"])(first, "A") == ("A", "first")
assert "cabin" in contexts(trace)
"""


def test_a_field_is_written_once() -> None:
    root = VOCABULARY.parents[1]
    done = subprocess.run([sys.executable, "-c", ONE_MORE_FIELD, str(VOCABULARY)], cwd=root, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_log_holds_every_field_but_those_of_the_clock() -> None:
    told = [name for name, field in PAYMENT_FIELDS.items() if field.origin != "clock"]
    assert PAYMENTS.names == [*told, "logged_approved", "warm_up"]
    assert set(Payment.__dataclass_fields__) == {*PAYMENT_FIELDS, "further"}
    for name, field in PAYMENT_FIELDS.items():
        assert field.name == name
        assert field.doc
        if field.origin != "clock":
            assert PAYMENTS.field(name).nullable is field.nullable


FURTHER = {
    "segment": PaymentField(name="segment", kind="text", further=True),
    "risk": PaymentField(name="risk", kind="number", unit="probability", doc="of fraud", further=True),
    "tenure_days": PaymentField(name="tenure_days", kind="whole number", further=True),
    "new_device": PaymentField(name="new_device", kind="true or false", further=True),
    "charged_back": PaymentField(name="charged_back", kind="true or false", known="later", further=True),
}
FIELDS = {**PAYMENT_FIELDS, **FURTHER}


def test_the_columns_tell_the_further_fields() -> None:
    schema = payments_schema(FURTHER.values())
    assert schema.names == [*PAYMENTS.names, *FURTHER]
    assert further_fields(schema) == tuple(FURTHER.values())
    assert further_fields(PAYMENTS) == ()
    assert [str(schema.field(name).type) for name in FURTHER] == ["string", "double", "int64", "bool", "bool"]


def further_trace(rows: list[dict[str, Any]]) -> Trace:
    table = trace_of([float(i) for i in range(len(rows))]).table
    for field in payments_schema(FURTHER.values()):
        if field.name in FURTHER:
            table = table.append_column(field, pa.array([row.get(field.name) for row in rows], field.type))
    return Trace(table)


def test_policies_see_what_is_known_at_arrival() -> None:
    trace = further_trace([{"segment": "loyal", "risk": 0.25, "charged_back": True}, {"tenure_days": 3}])
    first, second = trace.payments(0)
    assert first.further == {"segment": "loyal", "risk": 0.25, "tenure_days": None, "new_device": None}
    assert second.further["tenure_days"] == 3
    again = trace.comeback_payment(1, "again", first, 100.0)
    assert again.further == first.further
    assert payment().further == {}
    assert trace_of([0.0]).payments(0)[0].further == {}


def test_further_fields_do_not_change_and_travel_to_other_processes() -> None:
    fields = FurtherFields(segment="loyal")
    changes: list[Callable[[], Any]] = [
        lambda: operator.setitem(fields, "segment", "new"), lambda: operator.delitem(fields, "segment"),
        lambda: operator.ior(fields, {"segment": "new"}), lambda: fields.update(segment="new"), fields.clear,
        lambda: fields.pop("segment"), fields.popitem, lambda: fields.setdefault("risk", 1.0)]
    for change in changes:
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert fields == {"segment": "loyal"}
    assert pickle.loads(pickle.dumps(fields)) == fields  # noqa: S301


@pytest.mark.parametrize(("when", "further", "holds"), [
    ({"segment": "loyal"}, {"segment": "loyal"}, True),
    ({"segment": "Loyal"}, {"segment": "loyal"}, False),
    ({"segment": {"not": ["loyal"]}}, {"segment": None}, True),
    ({"segment": {"prefix": "lo"}}, {"segment": "loyal"}, True),
    ({"segment": {"prefix": "lo"}}, {"segment": None}, False),
    ({"segment": None}, {}, True),
    ({"risk": {"min": 0.5}}, {"risk": 0.7}, True),
    ({"risk": {"min": 0.5, "max": 0.6}}, {"risk": 0.7}, False),
    ({"risk": {"max": 1}}, {"risk": None}, False),
    ({"tenure_days": [1, 2]}, {"tenure_days": 2}, True),
    ({"new_device": True, "bank": "HSBC"}, {"new_device": True}, True),
    ({"new_device": True, "bank": "bbva"}, {"new_device": True}, False),
])
def test_conditions_name_further_fields(when: dict[str, Any], further: dict[str, Any], holds: bool) -> None:
    assert Condition(when, FIELDS).predicate()(payment(further=FurtherFields(further))) is holds


@pytest.mark.parametrize(("when", "message"), [
    ({"charged_back": True}, "^charged_back is known only later"),
    ({"segmnt": "loyal"}, "did you mean 'segment'"),
    ({"segment": 3}, "put it in quotes"),
    ({"tenure_days": 1.5}, "whole number"),
    ({"new_device": "yes"}, "true or false"),
    ({"risk": {"prefix": "0"}}, "no prefix"),
    ({"segment": {"min": 1}}, "no min or max"),
])
def test_conditions_refuse(when: dict[str, Any], message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        Condition(when, FIELDS)


def test_cells_may_be_split_by_further_fields() -> None:
    rows: list[dict[str, Any]] = [
        {"segment": "loyal" if i % 2 else "new", "risk": None if i == 0 else i / 100, "tenure_days": i,
         "new_device": i < 50, "charged_back": i % 3 == 0} for i in range(100)]
    fields = contexts(further_trace(rows))
    assert "charged_back" not in fields
    assert fields["segment"].tolist() == [0 if i % 2 else 1 for i in range(100)]
    assert np.bincount(fields["risk"]).tolist()[0] == 1
    assert len(set(fields["risk"].tolist())) == 11
    assert np.bincount(fields["tenure_days"]).tolist() == [10] * 10
    few = contexts(further_trace([{"tenure_days": i % 3} for i in range(30)]))
    assert len(set(few["tenure_days"].tolist())) == 3


PROFILE = """\
profile: shop
timezone: UTC
currency: USD
latency: absent
views:
  ATTEMPTS:
    needed: true
    files: ["*"]
    columns: {AT: TIMESTAMP, ID: VARCHAR, CUSTOMER: VARCHAR, AMOUNT: FLOAT, PSP: VARCHAR, OK: BOOLEAN,
              SEGMENT: VARCHAR, RISK: VARCHAR, TENURE: VARCHAR, NEW_DEVICE: VARCHAR, CHARGED_BACK: VARCHAR}
queries:
  attempts: |
    SELECT 'A' || ID AS ATTEMPT_ID, 'P' || ID AS PAYMENT_ID, 1 AS ATTEMPT_NUMBER, PSP AS PROCESSOR, AT AS SENT_AT,
           OK AS APPROVED
    FROM ATTEMPTS
  payments: |
    SELECT 'P' || ID AS PAYMENT_ID, 'O' || ID AS ORDER_ID, CUSTOMER AS CUSTOMER_ID, AT AS PAID_AT, AMOUNT AS AMOUNT_USD,
           'CIT' AS INITIATOR FURTHER
    FROM ATTEMPTS
values:
  initiator: {CIT: CIT}
"""
DECLARED = """\
payment_fields:
  rfm_segment: {type: text, known: at arrival, doc: "recency, frequency, money"}
  fraud_risk: {type: number, known: at arrival, unit: probability}
  tenure_days: {type: whole number, known: at arrival, unit: d}
  new_device: {type: true or false, known: at arrival}
  charged_back: {type: true or false, known: later}
"""
COLUMNS = (", SEGMENT AS RFM_SEGMENT, RISK AS FRAUD_RISK, TENURE AS TENURE_DAYS, NEW_DEVICE AS NEW_DEVICE, "
           "CHARGED_BACK AS CHARGED_BACK")
WITH_FIELDS = PROFILE.replace(" FURTHER", COLUMNS) + DECLARED
WITHOUT_FIELDS = PROFILE.replace(" FURTHER", "")

SCENARIO = """\
scenario: segments
seed: 3
replications: {worlds: 1, luck: 1}
model: model
trace: {source: extract.csv, profile: shop.yaml}
outages:
  base: none
  add: [{processors: [Beta], when: {new_device: true}, start: 2026-03-02T00:00:00, duration: 400d, code: "91"}]
world:
  arrivals: {factor: 2}
  changes: [{at: 2026-03-02T00:00:00, processor: Alpha, when: {tenure_days: {min: 500}}, approval_pp: -5}]
baseline: by_rules
policies:
  by_rules:
    route:
      - {when: {rfm_segment: [loyal, champion]}, to: [Alpha, Beta]}
      - {when: {fraud_risk: {min: 0.5}}, to: {split: {Alpha: 1, Beta: 1}, by: rfm_segment}}
      - {to: [Beta]}
    retry:
      - {when: {rfm_segment: {prefix: loy}}, after: soft, max_attempts: 2, delay: 3s, next: same}
    failover: {circuit_breaker: {per: [processor, rfm_segment], consecutive_timeouts: 3, open_for: 60s, probes: 1}}
  own:
    route: own_route:BySegment
"""
OWN_ROUTE = """\
from routesim.policies.vocabulary import Choice


class BySegment:
    def rank(self, view, draw):
        assert "charged_back" not in view.payment.further
        return [Choice("Alpha" if view.payment.further["rfm_segment"] == "new" else "Beta")]
"""
PAYMENTS_MADE = 1200


def extract() -> pd.DataFrame:
    """Attempts of two processors over four weeks; the first rows hold what cannot be used."""
    luck = np.random.default_rng(4)
    start = datetime(2026, 3, 2, tzinfo=UTC)
    segment = luck.choice(["loyal", "champion", "new", "lost"], PAYMENTS_MADE)
    frame = pd.DataFrame({
        "AT": [f"{start + timedelta(minutes=30 * i):%Y-%m-%d %H:%M:%S}" for i in range(PAYMENTS_MADE)],
        "ID": [f"{i:05d}" for i in range(PAYMENTS_MADE)], "CUSTOMER": [f"c{i % 300}" for i in range(PAYMENTS_MADE)],
        "AMOUNT": np.round(luck.lognormal(4, 0.5, PAYMENTS_MADE), 2),
        "PSP": luck.choice(["Alpha", "Beta"], PAYMENTS_MADE),
        "OK": luck.random(PAYMENTS_MADE) < np.where(segment == "lost", 0.5, 0.8),
        "SEGMENT": segment, "RISK": np.round(luck.random(PAYMENTS_MADE), 3).astype(str),
        "TENURE": luck.integers(0, 1000, PAYMENTS_MADE).astype(str),
        "NEW_DEVICE": luck.choice(["true", "false"], PAYMENTS_MADE),
        "CHARGED_BACK": luck.choice(["true", "false"], PAYMENTS_MADE),
    })
    frame.loc[0, ["SEGMENT", "RISK", "TENURE", "NEW_DEVICE"]] = ["ana@example.com", "high", "1.5", "perhaps"]
    frame.loc[1, ["SEGMENT", "RISK", "TENURE"]] = ["4111 1111 1111 1111", "inf", "4111111111111111"]
    frame.loc[2, ["SEGMENT", "RISK", "TENURE", "NEW_DEVICE"]] = ["N/A", "unknown", " ", "null"]
    frame.loc[3, ["SEGMENT", "RISK", "TENURE", "NEW_DEVICE"]] = [" loyal ", " 0.75 ", "40.0", "TRUE"]
    frame.loc[4, "SEGMENT"] = "10.20.30.40"
    return frame


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extract, the profile with further fields and the one without."""
    folder = tmp_path_factory.mktemp("shop")
    extract().to_csv(folder / "extract.csv", index=False)
    (folder / "shop.yaml").write_text(WITH_FIELDS, encoding="utf-8")
    (folder / "plain.yaml").write_text(WITHOUT_FIELDS, encoding="utf-8")
    (folder / "segments.yaml").write_text(SCENARIO, encoding="utf-8")
    (folder / "own_route.py").write_text(OWN_ROUTE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def history(shop: Path) -> History:
    return read_history(shop / "extract.csv", shop / "shop.yaml")


def test_further_fields_are_typed_and_cleaned(history: History) -> None:
    table = history.log.payments
    assert table.schema.names[len(PAYMENTS):] == ["rfm_segment", "fraud_risk", "tenure_days", "new_device",
                                                  "charged_back"]
    declared = {field.name: field for field in further_fields(table.schema)}
    assert declared["fraud_risk"].unit == "probability"
    assert declared["charged_back"].known == "later"
    rows = table.select(table.schema.names[len(PAYMENTS):]).slice(0, 5).to_pylist()
    told = [tuple(row.values())[:4] for row in rows]
    assert told[:4] == [(None,) * 4, (None, None, None, rows[1]["new_device"]), (None,) * 4, ("loyal", 0.75, 40, True)]
    assert rows[4]["rfm_segment"] is None
    made, read = extract(), table.to_pandas()
    assert read["rfm_segment"][5:].tolist() == made["SEGMENT"][5:].tolist()
    assert read["fraud_risk"][5:].tolist() == made["RISK"][5:].astype(float).tolist()
    assert read["tenure_days"][5:].tolist() == made["TENURE"][5:].astype(int).tolist()
    assert read["charged_back"].tolist() == (made["CHARGED_BACK"] == "true").tolist()
    mended = {reason: count for (table_name, reason), count in history.quarantine.mended.items()
              if table_name == "payments" and reason.endswith("read as null")}
    personal = "holds a card number, an e-mail or an IP address: read as null"
    assert mended == {
        "fraud_risk is no number: read as null": 2, "tenure_days is no whole number: read as null": 1,
        "new_device is no true or false: read as null": 1, f"rfm_segment {personal}": 3, f"tenure_days {personal}": 1}


def test_one_extract_is_read_by_two_profiles(shop: Path, history: History) -> None:
    plain = read_history(shop / "extract.csv", shop / "plain.yaml")
    assert plain.log.payments.schema.equals(PAYMENTS, check_metadata=True)
    assert plain.log.payments.equals(history.log.payments.select(PAYMENTS.names))
    assert plain.log.attempts.equals(history.log.attempts)


@pytest.fixture(scope="module")
def finished(shop: Path) -> Path:
    calibrate(str(shop / "extract.csv"), shop / "model", profile=str(shop / "shop.yaml"), timezone="UTC")
    return run(prepare(load_scenario(shop / "segments.yaml")), shop / "run", workers=1)


def rows_of(finished: Path, table: str, policy: str) -> pd.DataFrame:
    files = sorted((finished / table / f"policy={policy}").rglob("*.parquet"))
    assert files
    return pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files])


def test_rules_that_name_further_fields_decide_a_run(finished: Path) -> None:
    payments = rows_of(finished, "payments", "by_rules").set_index("payment_id")
    attempts = rows_of(finished, "attempts", "by_rules")
    firsts = attempts[attempts["attempt_number"] == 1].set_index("payment_id")["processor"]
    segment, risk = payments["rfm_segment"], payments["fraud_risk"]
    assert len(payments) > 1.8 * PAYMENTS_MADE
    favoured = segment.isin(["loyal", "champion"])
    assert set(firsts[favoured[favoured].index]) == {"Alpha"}
    others = ~favoured & ~(risk >= 0.5)
    assert set(firsts[others[others].index]) == {"Beta"}
    sticky = firsts.groupby(segment[~favoured & (risk >= 0.5)]).nunique()
    assert len(sticky) == 2
    assert (sticky == 1).all()
    again = attempts[attempts["attempt_number"] == 2]["payment_id"]
    assert set(segment[again]) == {"loyal"}
    at_beta = attempts[attempts["processor"] == "Beta"].set_index("payment_id")
    new_device = payments["new_device"][at_beta.index].fillna(False).astype(bool)
    assert (at_beta["decline_code"][new_device.to_numpy()] == "91").all()
    assert (at_beta["decline_code"][~new_device.to_numpy()] != "91").all()


def test_clones_keep_further_fields(finished: Path) -> None:
    payments = rows_of(finished, "payments", "by_rules").set_index("payment_id")
    clones = [name for name in payments.index if name.endswith("~2")]
    assert len(clones) > PAYMENTS_MADE / 2
    told = payments.columns[len(PAYMENTS) - 1:]
    originals = payments.loc[[name.removesuffix("~2") for name in clones], told]
    pd.testing.assert_frame_equal(payments.loc[clones, told].reset_index(drop=True), originals.reset_index(drop=True))


def test_a_router_of_ones_own_sees_further_fields(finished: Path) -> None:
    payments = rows_of(finished, "payments", "own").set_index("payment_id")
    attempts = rows_of(finished, "attempts", "own").set_index("payment_id")
    new = payments["rfm_segment"][attempts.index] == "new"
    assert (np.where(new, "Alpha", "Beta") == attempts["processor"]).all()


def test_what_rests_on_further_fields_is_told(finished: Path) -> None:
    assumed = json.loads((finished / "manifest.json").read_text())["assumed"]
    assert any("where {'tenure_days': {'min': 500}}" in line for line in assumed)


def test_the_resolved_scenario_loads_again(shop: Path) -> None:
    scenario = load_scenario(shop / "segments.yaml")
    again = shop / "again.yaml"
    again.write_text(resolved(scenario), encoding="utf-8")
    assert resolved(load_scenario(again)) == resolved(scenario)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("rfm_segment: [loyal, champion]", "rfm_segmnt: loyal", "yaml:16: .*'rfm_segmnt'; did you mean 'rfm_segment'"),
    ("fraud_risk: {min: 0.5}", "charged_back: true", "yaml:17: .*charged_back is known only later"),
    ("by: rfm_segment", "by: fraud_risk", "no payment field of text is called 'fraud_risk'"),
    ("by: rfm_segment", "by: charged_back", "charged_back is known only later"),
    ("per: [processor, rfm_segment]", "per: [processor, rfm_segmnt]", "did you mean 'rfm_segment'"),
    ("when: {new_device: true}", "when: {new_device: new}", "yaml:8: .*new_device is a true or false"),
    ("profile: shop.yaml", "profile: plain.yaml", "no payment field is called 'new_device'"),
    ("profile: shop.yaml", "profile: shops.yaml", "segments.yaml:5: trace.profile: .*no such profile"),
])
def test_a_scenario_is_refused(shop: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    for name in ("shop.yaml", "plain.yaml"):
        (tmp_path / name).write_text((shop / name).read_text(encoding="utf-8"), encoding="utf-8")
    path = tmp_path / "segments.yaml"
    assert old in SCENARIO
    path.write_text(SCENARIO.replace(old, new), encoding="utf-8")
    with pytest.raises(BadInput, match=message) as told:
        load_scenario(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("declared", "message"), [
    ("bank: {type: text, known: later}", "payment_fields.bank: 'bank' is already the name"),
    ("outcome: {type: text, known: later}", "payment_fields.outcome: 'outcome' is already the name"),
    ("logged_approved: {type: text, known: later}", "'logged_approved' is already the name"),
    ("Segment: {type: text, known: later}", "payment_fields.Segment: 'Segment' cannot name a field"),
    ("segment: {type: decimal, known: later}", "payment_fields.segment.type: .*'whole number'.*got 'decimal'"),
    ("segment: {type: text}", "payment_fields.segment.known: the key 'known' is needed"),
    ("segment: {type: text, known: soon}", "payment_fields.segment.known: .*'at arrival' or 'later'"),
    ("segment: {type: text, known: later, units: d}", "payment_fields.segment.units: unknown key 'units'; did you"),
    ("card_number: {type: text, known: later}", "payment_fields.card_number: .*reads like a card number"),
    ("buyer_pan: {type: text, known: later}", "reads like a card number"),
    ("customer_email: {type: text, known: later}", "reads like an e-mail address"),
    ("ip_address: {type: text, known: later}", "reads like an IP address"),
    ("device_id: {type: text, known: later}", "reads like a device's id"),
    ("phone: {type: text, known: later}", "reads like a phone number"),
    ("holder_name: {type: text, known: later}", "reads like a person's name"),
])
def test_a_declaration_is_refused(tmp_path: Path, declared: str, message: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(f"{WITHOUT_FIELDS}payment_fields:\n  {declared}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=message) as told:
        load_profile(path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["email_age_days", "ip_country", "device_kind", "airline_route", "plan", "tenure"])
def test_a_name_that_tells_of_no_person_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(f"{WITHOUT_FIELDS}payment_fields: {{{name}: {{type: text, known: later}}}}\n", encoding="utf-8")
    (field,) = load_profile(path).spec.further_fields()
    assert field == replace(PaymentField(name=name, kind="text", further=True), known="later")


def test_a_declared_field_must_be_a_column_of_the_query(shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(WITHOUT_FIELDS + DECLARED, encoding="utf-8")
    with pytest.raises(BadInput, match=r"queries\.payments: the query gives no column 'charged_back'"):
        read_history(shop / "extract.csv", path)
