"""The made-up history as a database: its views, their joins, its dirt, and the truth beside it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from routesim.calibration.history.read import read_history
from routesim.calibration.made_up import DIRT, described_world, legacy_factory, make_history
from routesim.policies.catalog import PolicyParts, build
from routesim.policies.vocabulary import Action, Answer, Choice, Draw, Payment, Send, Stop, View
from routesim.sim import files
from routesim.sim.distributions import Constant
from routesim.sim.errors import BadInput
from routesim.sim.model import CalibratedModel, Model
from routesim.sim.outages import OUTAGES
from routesim.sim.trace import seconds

DAYS, PER_DAY, SEED = 4, 800, 5
END = pd.Timestamp("2026-01-09")
STANDARD_ERRORS = 4
ENOUGH_FOR_BYTES = {"days": 1, "per_day": 60, "seed": 3}
PERSONAL = {"CARD_LAST_FOUR", "DEVICEID", "REQUEST_IP", "LATITUDE", "LONGITUDE", "ORDER_TOKEN", "PNR",
            "PASSENGER_FREQUENT_FLYER_CODE", "AUTHORIZATION_CODE", "ORDER_CITY_NAME", "PROPERTIES_CITY"}

Views = dict[str, pd.DataFrame]


def read(folder: Path) -> Views:
    """The views of an extract."""
    return {file.stem: pq.read_table(file).to_pandas() for file in sorted(folder.glob("*.parquet"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("history") / "dirty"
    make_history(out, DAYS, PER_DAY, SEED)
    return out


@pytest.fixture(scope="module")
def dirty(folder: Path) -> Views:
    return read(folder)


@pytest.fixture(scope="module")
def clean(folder: Path) -> Views:
    make_history(folder.parent / "clean", DAYS, PER_DAY, SEED, dirty=False)
    return read(folder.parent / "clean")


@pytest.fixture(scope="module")
def attempts(clean: Views) -> pd.DataFrame:
    """Attempts with the times of their request and answer (none for one under way at the copy), in order."""
    events = clean["VW_ATHENA_PAYMENT_EVENTS"]
    moments = events[events["EVENT_TYPE"] == "AUTHORIZATION"].pivot(
        index="PAYMENT_ATTEMPT_ID", columns="PAYMENT_ATTEMP_EVENT_INDEX", values="EVENT_CREATED_AT")
    payments = clean["VW_ATHENA_PAYMENT"][["PAYMENT_ID", "MCI_MSI_TYPE", "PAYMENT_DATE", "PATMENT_TIME"]]
    joined = clean["VW_ATHENA_PAYMENT_ATTEMPT"].merge(payments, on="PAYMENT_ID", validate="many_to_one")
    joined["sent"] = joined["PAYMENT_ATTEMPT_ID"].map(moments[1])
    joined["answered"] = joined["PAYMENT_ATTEMPT_ID"].map(moments[2])
    return joined.sort_values(["PAYMENT_ID", "PAYMENT_ATTEMPT_SEQUENCE_ORDER"], ignore_index=True)


# --- columns and keys


def test_every_column_that_the_schema_reference_names_is_there(shared: Path, dirty: Views) -> None:
    reference = YAML(typ="safe", pure=True).load(shared / "payment_ml" / "schema.yaml")["schemas"]
    for view, described in reference["SOURCES"].items():
        assert set(described["columns"]) <= set(dirty[view].columns), view
    flat = {name for group in reference["ABTESTING"]["ALL_VIEWS_FLAT"]["groups"].values() for name in group}
    assert flat <= set(dirty["ALL_VIEWS_FLAT"].columns)


def test_every_row_joins(clean: Views) -> None:
    payments, orders = clean["VW_ATHENA_PAYMENT"], clean["VW_ATHENA_ORDER"]
    attempts, rules = clean["VW_ATHENA_PAYMENT_ATTEMPT"], clean["VW_ROUTING_MERCHANT_RULE"]
    for view, key in (("VW_ATHENA_ORDER", "ORDER_ID"), ("VW_ATHENA_PAYMENT", "PAYMENT_ID"),
                      ("VW_ATHENA_PAYMENT_ATTEMPT", "PAYMENT_ATTEMPT_ID"), ("VW_ROUTING_MERCHANT_RULE", "ID"),
                      ("VW_ATHENA_TARGET_USER", "TARGET_USER_ID"), ("VW_SMART_ROUTING_ATTEMPTS", "ATTEMPT_ID")):
        assert clean[view][key].is_unique, view
    assert set(payments["ORDER_ID"]) == set(orders["ORDER_ID"]) == set(clean["VW_ATHENA_ORDER_COMPLEMENT"]["ORDER_ID"])
    assert set(attempts["PAYMENT_ID"]) == set(payments["PAYMENT_ID"])
    assert set(clean["VW_ATHENA_PAYMENT_EVENTS"]["PAYMENT_ATTEMPT_ID"]) == set(attempts["PAYMENT_ATTEMPT_ID"])
    assert set(clean["VW_SMART_ROUTING_ATTEMPTS"]["PROPERTIES_TRANSACTION_ID"]) <= set(payments["PAYMENT_ID"])
    assert set(orders["TARGET_USER_ID"]) == set(clean["VW_ATHENA_TARGET_USER"]["TARGET_USER_ID"])
    assert set(orders["CHANNEL_ID"]) <= set(clean["VW_ATHENA_CHANNEL"]["CHANNEL_ID"])
    assert set(payments["RULE_ID"].astype(int)) <= set(rules["ID"])
    for view in ("CONDITION", "MEMBER"):
        assert set(clean[f"VW_ROUTING_MERCHANT_RULE_{view}"]["MERCHANT_RULE_ID"]) <= set(rules["ID"])
    options = set(clean["VW_ROUTING_MERCHANT_RULE_OPTION"]["ID"])
    assert set(clean["VW_ROUTING_MERCHANT_RULE_CONDITION"]["MERCHANT_RULE_OPTION_ID"]) == options
    assert len(clean["ALL_VIEWS_FLAT"]) == len(attempts)


def test_attempts_are_numbered_and_the_last_one_says_how_a_payment_ended(clean: Views, attempts: pd.DataFrame) -> None:
    grouped = attempts.groupby("PAYMENT_ID")
    assert (attempts["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] == grouped.cumcount() + 1).all()
    last = attempts[attempts["PAYMENT_LAST_ATTEMPT_INDICATOR"]].set_index("PAYMENT_ID")
    assert last.index.is_unique
    payments = clean["VW_ATHENA_PAYMENT"].set_index("PAYMENT_ID")
    assert payments["PROCESSOR_NAME"].eq(last["PAYMENT_ATTEMPT_PROCESSOR_NAME"]).all()
    assert payments["NUM_ATTEMPTS_SMART_ROUTING"].eq(grouped.size()).all()
    processed = payments["PAYMENT_STATUS"] == "processed"
    assert processed.eq(last["PAYMENT_ATTEMPT_APPROVED_INDICATOR"]).all()
    assert payments["ERROR_CODE"].isna().eq(payments["PAYMENT_STATUS"] != "denied").all()
    orders = clean["VW_ATHENA_ORDER"].set_index("ORDER_ID")
    assert processed.groupby(payments["ORDER_ID"]).any().eq(orders["ORDER_APPROVED_INDICATOR"]).all()


def test_events_tell_an_attempts_request_and_answer(clean: Views, attempts: pd.DataFrame) -> None:
    latency_s = (attempts["answered"] - attempts["sent"]).dt.total_seconds()
    assert latency_s.min() > 0
    timeouts = attempts["PAYMENT_ATTEMPT_ERROR_CODE"] == "TO"
    assert timeouts.any()
    assert latency_s[timeouts].round(5).eq(30).all()
    assert (attempts.loc[timeouts, "PAYMENT_ATTEMPT_STATUS"] == "ERROR").all()
    routed = clean["VW_SMART_ROUTING_ATTEMPTS"].rename(columns={"PROPERTIES_TRANSACTION_ID": "PAYMENT_ID"})
    told = attempts.merge(routed, left_on=["PAYMENT_ID", "answered"], right_on=["PAYMENT_ID", "ORIGINAL_TIMESTAMP"])
    assert len(told) == len(routed) == attempts["answered"].notna().sum()
    apart_ms = told["PROPERTIES_RESULT_PROCESS_TIME"] - 1000 * (told["answered"] - told["sent"]).dt.total_seconds()
    assert apart_ms.abs().max() < 0.051  # told to a tenth
    first = attempts[attempts["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] == 1]
    paid_at = pd.to_datetime(first["PAYMENT_DATE"].astype(str) + " " + first["PATMENT_TIME"].astype(str))
    assert (first["sent"].dt.floor("s") == paid_at).all()


def test_a_comeback_tells_of_the_failed_payment_before_it(clean: Views) -> None:
    payments = clean["VW_ATHENA_PAYMENT"].sort_values("PAYMENT_ID")  # numbered by arrival
    before = payments.groupby("ORDER_ID")[["ERROR_CODE", "PROCESSOR_NAME", "MCI_MSI_TYPE"]].shift(1)
    back = payments["PREVIOUS_ORDER_PROCESSOR"].notna()
    assert back.sum() > 20
    assert (back == before["PROCESSOR_NAME"].notna()).all()
    assert payments.loc[back, "PREVIOUS_ORDER_ERROR_CODE"].eq(before.loc[back, "ERROR_CODE"]).all()
    assert payments.loc[back, "PREVIOUS_ORDER_PROCESSOR"].eq(before.loc[back, "PROCESSOR_NAME"]).all()
    assert (before.loc[back, "MCI_MSI_TYPE"] == "CIT").all()


def test_payments_meet_the_rule_that_sends_them(clean: Views) -> None:
    payments = clean["VW_ATHENA_PAYMENT"].merge(clean["VW_ATHENA_ORDER"][["ORDER_ID", "PAYMENT_CURRENCY"]])
    amex = payments["CARD_BRAND"] == "amex"
    assert set(payments.loc[amex, "RULE_ID"]) == {"0"}
    assert set(payments.loc[amex, "PROCESSOR_NAME"]) == {"Amex"}
    poor = payments["BANK"].isin(["BANCO AZTECA", "BANCOPPEL", "STORI"]) & (payments["PAYMENT_CURRENCY"] == "MXN")
    assert set(payments.loc[poor, "RULE_ID"]) == {"1"}
    pesos_colombian = ~amex & (payments["PAYMENT_CURRENCY"] == "COP")
    assert set(payments.loc[pesos_colombian, "RULE_ID"]) == {"6"}
    assert set(payments.loc[pesos_colombian, "PROCESSOR_NAME"]) == {"Worldpay"}


# --- the merchant's retries, and the moment of the copy


def test_retries_wait_as_the_rules_say(attempts: pd.DataFrame) -> None:
    retry = attempts["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] > 1
    waited_s = (attempts["sent"] - attempts["answered"].shift(1)).dt.total_seconds()[retry]
    initiator = attempts.loc[retry, "MCI_MSI_TYPE"]
    assert set(initiator) == {"CIT", "MIT"}
    assert np.allclose(waited_s[initiator == "CIT"], 3, atol=1e-5)
    assert np.allclose(waited_s[initiator == "MIT"], 86_400, atol=1e-5)
    assert attempts.groupby(["MCI_MSI_TYPE"])["PAYMENT_ATTEMPT_SEQUENCE_ORDER"].max().to_dict() == {"CIT": 2, "MIT": 4}


def test_what_lies_beyond_the_copy_is_not_in_it(clean: Views, attempts: pd.DataFrame) -> None:
    assert clean["VW_ATHENA_PAYMENT_EVENTS"]["EVENT_CREATED_AT"].max() < END
    last = attempts[attempts["PAYMENT_LAST_ATTEMPT_INDICATOR"]]
    soft = last["PAYMENT_ATTEMPT_HARD_SOFT_TYPE"] == "SOFT"
    spent = (last["MCI_MSI_TYPE"] == "CIT") | (last["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] == 4)
    waiting = last[soft & ~spent]  # merchant-initiated payments whose next try is still to come
    assert len(waiting) > 5
    assert waiting["answered"].min() >= END - pd.Timedelta(days=1)


def test_an_attempt_under_way_at_the_copy_is_pending(tmp_path: Path) -> None:
    world = described_world()
    hours = 2
    for processor in world.processors.values():
        processor.timeout_s, processor.outages, processor.technical = 3.5 * 3600, None, {}
        processor.latency.approved = Constant(value=hours * 3_600_000)
        processor.latency.declined = processor.latency.unavailable = None
    world.joint_outages = []
    truth = make_history(tmp_path / "slow", 1, 500, SEED, world=world, dirty=False)
    views = read(tmp_path / "slow")
    attempts = views["VW_ATHENA_PAYMENT_ATTEMPT"].set_index("PAYMENT_ATTEMPT_ID")
    events = views["VW_ATHENA_PAYMENT_EVENTS"]
    sent = events[events["PAYMENT_ATTEMP_EVENT_INDEX"] == 1].set_index("PAYMENT_ATTEMPT_ID")["EVENT_CREATED_AT"]
    pending = attempts["PAYMENT_ATTEMPT_STATUS"] == "PENDING"
    assert pending.sum() == truth["observed"]["pending"] > 10
    assert pending.eq(sent >= pd.Timestamp("2026-01-06") - pd.Timedelta(hours=hours)).all()
    assert attempts.loc[pending, "PAYMENT_ATTEMPT_ERROR_CODE"].isna().all()
    assert not attempts.loc[pending, "PAYMENT_ATTEMPT_APPROVED_INDICATOR"].any()
    assert events["PAYMENT_ATTEMPT_ID"].value_counts()[pending.index[pending]].eq(1).all()
    assert len(views["VW_SMART_ROUTING_ATTEMPTS"]) == (~pending).sum()
    of_pending = views["VW_ATHENA_PAYMENT"]["PAYMENT_STATUS"] == "pending"
    assert set(views["VW_ATHENA_PAYMENT"].loc[of_pending, "PAYMENT_ID"]) == set(attempts.loc[pending, "PAYMENT_ID"])


# --- dirt


def assert_binomial(count: int, of: int, kind: str) -> None:
    share = DIRT[kind]
    assert abs(count - share * of) < STANDARD_ERRORS * np.sqrt(share * (1 - share) * of) + 1, kind
    assert count > 0, kind


def test_dirt_comes_at_its_rates(clean: Views, dirty: Views) -> None:
    payments, n = dirty["VW_ATHENA_PAYMENT"], len(clean["VW_ATHENA_PAYMENT"])
    assert_binomial(payments["BANK"].isna().sum(), n, "missing_bank")
    assert_binomial(payments["CARD_BRAND"].str.isupper().sum(), n, "upper_case_brand")
    assert_binomial((~payments["BANK"].dropna().str.isupper()).sum(), payments["BANK"].notna().sum(), "title_case_bank")
    for view, kind in (("VW_ATHENA_PAYMENT_ATTEMPT", "replayed_attempts"),
                       ("VW_ATHENA_PAYMENT_EVENTS", "replayed_events")):
        assert_binomial(len(dirty[view]) - len(clean[view]), len(clean[view]), kind)
    view = "VW_SMART_ROUTING_ATTEMPTS"
    assert_binomial(len(clean[view]) - len(dirty[view]), len(clean[view]), "lost_smart_routing")
    moments = dirty["VW_ATHENA_PAYMENT_EVENTS"]["EVENT_CREATED_AT"]
    assert 0.4 < (moments.diff().dropna() < pd.Timedelta(0)).mean() < 0.6  # in no order


def test_dirt_undone_is_the_clean_history(clean: Views, dirty: Views) -> None:
    for view, key in (("VW_ATHENA_PAYMENT", ["PAYMENT_ID"]), ("VW_ATHENA_PAYMENT_ATTEMPT", ["PAYMENT_ATTEMPT_ID"]),
                      ("VW_ATHENA_PAYMENT_EVENTS", ["PAYMENT_ATTEMPT_ID", "PAYMENT_ATTEMP_EVENT_INDEX"])):
        mended = dirty[view].drop_duplicates().sort_values(key, ignore_index=True)
        original = clean[view].sort_values(key, ignore_index=True)
        for column in (name for name in ("BANK", "CARD_BRAND", "PAYMENT_ATTEMPT_CARD_BRAND") if name in mended):
            told = mended[column].notna()
            assert mended.loc[told, column].str.lower().eq(original.loc[told, column].str.lower()).all()
            mended, original = mended.drop(columns=column), original.drop(columns=column)
        pd.testing.assert_frame_equal(mended, original)
    for view in set(clean) - {"VW_ATHENA_PAYMENT", "VW_ATHENA_PAYMENT_ATTEMPT", "VW_ATHENA_PAYMENT_EVENTS",
                              "VW_SMART_ROUTING_ATTEMPTS"}:
        pd.testing.assert_frame_equal(dirty[view], clean[view])


def test_nothing_tells_who_a_person_is(dirty: Views) -> None:
    seen = set()
    for view, frame in dirty.items():
        for column in frame.columns:
            if column in PERSONAL:
                seen.add(column)
                assert frame[column].isna().all(), f"{view}.{column}"
            elif frame[column].dtype != bool:
                told = frame[column].dropna().astype(str)
                assert not told.str.fullmatch(r"\d{12,19}|.*@.*|\d+\.\d+\.\d+\.\d+").any(), f"{view}.{column}"
        if "CARD_BIN" in frame:
            assert frame["CARD_BIN"].str.fullmatch(r"\d{6}").all()
    assert seen == PERSONAL


# --- the truth beside it


def test_the_truth_tells_what_the_extract_holds(folder: Path, clean: Views, attempts: pd.DataFrame) -> None:
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    observed = truth["observed"]
    assert (truth["seed"], truth["days"]) == (SEED, DAYS)
    answered = attempts[attempts["answered"].notna()]
    approved = answered["PAYMENT_ATTEMPT_APPROVED_INDICATOR"]
    first = answered["PAYMENT_ATTEMPT_SEQUENCE_ORDER"] == 1
    assert observed["pending"] == len(attempts) - len(answered)
    assert observed["attempts"] == len(answered)
    assert observed["payments"] == answered["PAYMENT_ID"].nunique()
    assert observed["orders"] == answered["ORDER_ID"].nunique()
    for share, found in (("approval", approved.groupby(answered["PAYMENT_ID"]).any()),
                         ("order_approval", approved.groupby(answered["ORDER_ID"]).any()),
                         ("first_attempt", approved[first]), ("retry_success", approved[~first])):
        assert observed[share] == pytest.approx(found.mean()), share
    before = answered["PAYMENT_ATTEMPT_ERROR_CODE"].shift(1)[~first]
    by_code = {code: {"retries": len(group), "approved": pytest.approx(group.mean())}
               for code, group in approved[~first].groupby(before)}
    assert observed["retry_success_by_code"] == by_code


def test_the_truth_holds_the_model_the_outages_and_the_rules(folder: Path, attempts: pd.DataFrame) -> None:
    loaded = CalibratedModel.load(folder / "truth" / "model")
    assert loaded.model == described_world()
    assert loaded.draw(3).model == described_world()  # known exactly: every world is the true one
    outages = pq.read_table(folder / "truth" / "outages.parquet")
    assert outages.schema.equals(OUTAGES)
    assert outages.num_rows > 0
    begin, end = seconds(outages["start"]), seconds(outages["end"])
    sent = attempts["sent"].to_numpy().astype("datetime64[us]").astype(np.int64) / 1e6
    hit = np.zeros(len(attempts), dtype=bool)
    for i, processor in enumerate(outages["processor"].to_pylist()):
        hit |= ((attempts["PAYMENT_ATTEMPT_PROCESSOR_NAME"] == processor).to_numpy()
                & (sent >= begin[i]) & (sent < end[i]))
    timed_out = (attempts["PAYMENT_ATTEMPT_ERROR_CODE"] == "TO").to_numpy()
    assert timed_out[hit].mean() > 0.2 > 20 * timed_out[~hit].mean()
    rules = YAML(typ="safe", pure=True).load(folder / "truth" / "legacy.yaml")
    assert type(build(PolicyParts.model_validate(rules))()) is type(legacy_factory()())


def test_a_calibration_reads_back_what_happened(folder: Path) -> None:
    observed = json.loads((folder / "truth" / "truth.json").read_text())["observed"]
    found = read_history(folder)
    attempts = found.log.attempts.to_pandas()
    assert found.log.payments.num_rows == observed["payments"]
    assert len(attempts) == observed["attempts"]
    first = attempts[attempts["attempt_number"] == 1]
    assert (first["outcome"] == "approved").mean() == pytest.approx(observed["first_attempt"])
    assert found.log.payments["previous_payment_id"].drop_null().length() == observed["comebacks"]


class _Stubborn:
    """Sends everything to Worldpay, once."""

    def decide(self, view: View, draw: Draw) -> Action:
        return Stop() if view.answers else Send((Choice("Worldpay"),))

    def observe(self, payment: Payment, answer: Answer) -> None:
        return None


def test_another_policy_may_take_the_rules_place(tmp_path: Path) -> None:
    truth = make_history(tmp_path / "own", 1, 100, SEED, policy_factory=_Stubborn)
    views = read(tmp_path / "own")
    assert truth["policy"] == "_Stubborn"
    assert set(views["VW_ATHENA_PAYMENT_ATTEMPT"]["PAYMENT_ATTEMPT_PROCESSOR_NAME"]) == {"Worldpay"}
    assert views["VW_ATHENA_PAYMENT"]["NUM_ATTEMPTS_SMART_ROUTING"].eq(1).all()
    assert len(views["VW_ROUTING_MERCHANT_RULE"]) == 0
    assert views["VW_ATHENA_PAYMENT"]["RULE_ID"].isna().all()


# --- the folder


def digest(folder: Path) -> str:
    """A hash of every file's name and bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) > 20
    return hashlib.sha256(b"".join(str(f.relative_to(folder)).encode() + f.read_bytes() for f in files)).hexdigest()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    make_history(tmp_path / "a", **ENOUGH_FOR_BYTES)
    make_history(tmp_path / "b", **ENOUGH_FOR_BYTES)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    code = (f"from pathlib import Path; from routesim.calibration.made_up import make_history; "
            f"make_history(Path({str(tmp_path / 'c')!r}), **{ENOUGH_FOR_BYTES!r})")
    environment = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert digest(tmp_path / "c") == digest(tmp_path / "a")
    make_history(tmp_path / "d", **(ENOUGH_FOR_BYTES | {"seed": 4}))
    assert digest(tmp_path / "d") != digest(tmp_path / "a")


def test_only_an_earlier_made_up_history_is_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep me")
    with pytest.raises(BadInput, match="something else"):
        make_history(mine, **ENOUGH_FOR_BYTES)
    with pytest.raises(BadInput, match="is a file"):
        make_history(mine / "notes.txt", **ENOUGH_FOR_BYTES)
    assert (mine / "notes.txt").read_text() == "keep me"
    out = tmp_path / "deep" / "out"
    make_history(out, **ENOUGH_FOR_BYTES)
    (out / "left.parquet").write_text("of the one before")
    before = digest(out)
    make_history(out, **ENOUGH_FOR_BYTES)
    assert not (out / "left.parquet").exists()
    assert digest(out) != before
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_history_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    make_history(out, **ENOUGH_FOR_BYTES)
    before = digest(out)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.pq, "write_table", full)
    with pytest.raises(BadInput, match="No space left"):
        make_history(out, **(ENOUGH_FOR_BYTES | {"seed": 9}))
    assert digest(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("change", [{"days": 0}, {"per_day": -1}])
def test_nothing_to_make_is_bad_input_and_leaves_no_folder(tmp_path: Path, change: dict[str, float]) -> None:
    make: Callable[..., dict[str, Any]] = make_history
    with pytest.raises(BadInput):
        make(tmp_path / "out", **(ENOUGH_FOR_BYTES | change))
    assert not list(tmp_path.iterdir())


def test_progress_is_told_and_the_truth_returned(tmp_path: Path) -> None:
    said: list[str] = []
    world: Model = described_world()
    truth = make_history(tmp_path / "out", progress=said.append, world=world, **ENOUGH_FOR_BYTES)
    assert said == ["payments", "simulation", "extract"]
    assert truth == json.loads((tmp_path / "out" / "truth" / "truth.json").read_text())
