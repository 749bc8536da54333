"""Buckets, splits, scope, and the 24 hours for which an assignment stays."""

from __future__ import annotations

import csv
import math
from hashlib import sha256
from pathlib import Path

import pytest

from routesim.policies.experiment.assignment import (
    BUCKETS,
    CACHE_S,
    Assignment,
    Experiment,
    Stage,
    bucket,
    stages,
)
from tests.policy_world import payment

HALVES = (("control", 5_000), ("treatment", 5_000))
DAY = CACHE_S


def experiment(*steps: tuple[float, dict[str, int]], name: str = "e", **fields: object) -> Experiment:
    return Experiment(name, stages(steps), **fields)  # type: ignore[arg-type]


def test_a_bucket_is_the_whole_digest_modulo_ten_thousand() -> None:
    # NIST's vector for "abc": the digest begins ba7816bf; its remainder by 10,000 by long division over hex digits
    remainder = 0
    for digit in "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad":
        remainder = (remainder * 16 + int(digit, 16)) % 10_000
    assert bucket("abc") == remainder
    assert bucket("b", salt="a") == int(sha256(b"a:b").hexdigest(), 16) % BUCKETS


def test_reference_buckets(shared: Path) -> None:
    with (shared / "oracles" / "bucketing.csv").open(encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == 10
    for row in table:
        assert bucket(row["transaction_id"]) == int(row["bucket_full256_be"])
        for column, split in (("variant_50_50_full256", (5_000, 5_000)), ("variant_90_10_full256", (9_000, 1_000))):
            of = Assignment(experiment((0.0, {"control": split[0], "treatment": split[1]})))
            assert of.variant(payment(payment_id=row["transaction_id"]), 1.0) == row[column]


def test_every_bucket_falls_to_its_variant_and_shares_come_out() -> None:
    split = {"a": 1_000, "none": 0, "b": 2_500, "c": 6_500}
    of = Assignment(experiment((0.0, split)))
    n, seen = 20_000, dict.fromkeys(split, 0)
    for i in range(n):
        name = of.variant(payment(payment_id=f"p{i}"), 0.0)
        place = bucket(f"p{i}")
        assert name == ("a" if place < 1_000 else "b" if place < 3_500 else "c")
        seen[name] += 1
    assert seen["none"] == 0
    for name in ("a", "b", "c"):
        share = split[name] / BUCKETS
        assert abs(seen[name] / n - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_salts_make_experiments_independent() -> None:
    n = 20_000
    both = sum(bucket(f"p{i}", "x") < 5_000 and bucket(f"p{i}", "y") < 5_000 for i in range(n))
    assert abs(both / n - 0.25) < 4 * math.sqrt(0.25 * 0.75 / n)


@pytest.mark.parametrize(("unit", "fields"), [
    ("payment", {"payment_id": "txn_42"}), ("order", {"order_id": "txn_42"}), ("customer", {"customer_id": "txn_42"})])
def test_the_unit_is_what_is_bucketed(unit: str, fields: dict[str, str]) -> None:
    of = Assignment(experiment((0.0, {"control": 2_553, "treatment": 7_447}), unit=unit))
    assert of.variant(payment(**fields), 0.0) == "treatment"  # txn_42's bucket is 2,553
    assert bucket("txn_42") == 2_553
    nobody = Assignment(experiment((0.0, dict(HALVES)), unit="customer"))
    assert nobody.variant(payment(customer_id=None), 0.0) is None


def test_an_experiment_takes_in_its_merchants_between_its_times() -> None:
    of = Assignment(experiment((100.0, dict(HALVES)), merchants=frozenset({"m1"}), until_s=200.0))
    assert of.variant(payment(merchant_id="m2"), 150.0) is None
    assert of.variant(payment(merchant_id=None), 150.0) is None
    assert of.variant(payment(merchant_id="m1"), 99.9) is None
    assert of.variant(payment(merchant_id="m1"), 100.0) in ("control", "treatment")
    assert of.variant(payment(merchant_id="m1"), 200.0) is None


def test_an_assignment_stays_for_a_day_after_it_was_made() -> None:
    ramp = experiment((0.0, {"control": 10_000, "treatment": 0}), (DAY, {"control": 0, "treatment": 10_000}),
                      unit="customer")
    of, c1 = Assignment(ramp), payment(customer_id="c1")
    assert of.variant(c1, 0.5 * DAY) == "control"
    assert of.variant(c1, 1.4 * DAY) == "control"
    assert of.stale(c1, 1.4 * DAY)
    assert of.variant(payment(customer_id="c2"), 1.4 * DAY) == "treatment"
    assert not of.stale(payment(customer_id="c2"), 1.4 * DAY)
    assert of.variant(c1, 1.5 * DAY) == "treatment"  # made anew: seeing it at 1.4 did not prolong it
    assert Assignment(ramp).variant(c1, 1.4 * DAY) == "treatment"


def test_a_growing_canary_only_adds_to_treatment_and_memory_is_a_day() -> None:
    # treatment comes first, so that its buckets grow from 0
    of = Assignment(experiment(*((i * 2 * DAY, {"treatment": points, "control": BUCKETS - points})
                                 for i, points in enumerate((100, 1_000, 5_000)))))
    treated: set[str] = set()
    for i in range(3):
        now = {f"p{n}" for n in range(3_000)
               if of.variant(payment(payment_id=f"p{n}"), i * 2 * DAY + n * 0.01) == "treatment"}
        assert treated < now
        treated = now
        assert len(of._made) == len(of._oldest) == 3_000
    assert len(treated) > 1_300
    constant = Assignment(experiment((0.0, dict(HALVES))))
    constant.variant(payment(), 0.0)
    assert not constant._made


@pytest.mark.parametrize("wrong", [
    lambda: Stage(0.0, (("a", 5_000),)), lambda: Stage(0.0, (("a", 11_000), ("b", -1_000))),
    lambda: Stage(0.0, (("a", 5_000), ("a", 5_000))), lambda: Stage(0.0, ()), lambda: Experiment("e", ()),
    lambda: experiment((5.0, dict(HALVES)), (5.0, dict(HALVES))), lambda: experiment((0.0, dict(HALVES)), unit="card"),
    lambda: experiment((5.0, dict(HALVES)), until_s=5.0),
])
def test_what_no_experiment_can_be_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"basis points|variants|stage|unit|ends"):
        wrong()  # type: ignore[operator]
