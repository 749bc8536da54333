"""Cells of history, and the part of a lift that rests on thin ones."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from routesim.reports.metrics.measure import measure
from routesim.reports.metrics.support import CELL, Support, cells
from routesim.sim.log import AttemptLog
from tests.logs import attempt, log, outages, payment


def history(first: int = 30, retries: int = 29) -> AttemptLog:
    """``first`` first attempts at A, ``retries`` of them retried at B within the minute after code 51."""
    rows = [payment(f"h{i}", i) for i in range(first)]
    sent = [attempt(f"h{i}", 1, "A", i, 1, "declined", decline_code="51") for i in range(first)]
    sent += [attempt(f"h{i}", 2, "B", i + 5, 1, "approved") for i in range(retries)]
    return log(rows, sent)


def test_a_cell_holds_the_payment_the_processor_and_what_went_before() -> None:
    of = log(
        [payment("p1", bank=None)],
        [
            attempt("p1", 1, "A", 0, 1, "declined", decline_code="51"),
            attempt("p1", 2, "B", 61, 30, "timeout"),  # exactly a minute later
            attempt("p1", 3, "A", 91 + 86_400, 1, "approved"),  # exactly a day later, after a timeout without a code
        ],
    )
    rows = cells(of).to_pylist()
    same = {"initiator": "CIT", "card_brand": "visa", "currency": "USD", "bank": None}
    assert rows == [
        same | {"processor": "A", "previous_code": None, "delay_band": "first"},
        same | {"processor": "B", "previous_code": "51", "delay_band": "<1h"},
        same | {"processor": "A", "previous_code": "timeout", "delay_band": "<3d"},
    ]


def test_support_starts_at_thirty_attempts() -> None:
    support = Support.from_log(history(first=30, retries=29))
    of = history(first=2, retries=2)
    assert support.attempts(of).tolist() == [30 if row["processor"] == "A" else 29 for row in cells(of).to_pylist()]
    assert support.unsupported(of).tolist() == [row["processor"] == "B" for row in cells(of).to_pylist()]


@pytest.mark.parametrize("change", [
    {"initiator": "MIT"}, {"card_brand": "amex"}, {"currency": "MXN"}, {"bank": "another"}, {"bank": None},
    {"card_brand": None},
])
def test_a_payment_unlike_any_in_history_is_unsupported(change: dict[str, Any]) -> None:
    support = Support.from_log(history())
    like = log([payment("p1")], [attempt("p1", 1, "A", 0, 1, "approved")])
    unlike = log([payment("p1", **change)], [attempt("p1", 1, "A", 0, 1, "approved")])
    assert support.unsupported(like).tolist() == [False]
    assert support.attempts(unlike).tolist() == [0]


def test_a_new_processor_code_or_delay_is_unsupported() -> None:
    support = Support.from_log(history(first=40, retries=40))
    sent = [
        attempt("p1", 1, "New", 0, 1, "approved"),
        attempt("p2", 1, "A", 1, 1, "declined", decline_code="05"), attempt("p2", 2, "B", 5, 1, "approved"),
        attempt("p3", 1, "A", 2, 1, "declined", decline_code="51"), attempt("p3", 2, "B", 99, 1, "approved"),
        attempt("p4", 1, "A", 3, 1, "declined", decline_code="51"), attempt("p4", 2, "B", 9, 1, "approved"),
    ]
    of = log([payment(f"p{i}", i) for i in range(1, 5)], sent)
    found = dict(zip(zip(of.attempts["payment_id"].to_pylist(), of.attempts["attempt_number"].to_pylist(), strict=True),
                     support.unsupported(of).tolist(), strict=True))
    assert found == {("p1", 1): True, ("p2", 1): False, ("p2", 2): True, ("p3", 1): False, ("p3", 2): True,
                     ("p4", 1): False, ("p4", 2): False}


def test_support_agrees_with_a_count_of_equal_cells() -> None:
    past, of = history(37, 31), history(5, 5)
    counts: dict[tuple[Any, ...], int] = {}
    for row in cells(past).to_pylist():
        key = tuple(row[name] for name in CELL)
        counts[key] = counts.get(key, 0) + 1
    expected = [counts.get(tuple(row[name] for name in CELL), 0) for row in cells(of).to_pylist()]
    assert Support.from_log(past).attempts(of).tolist() == expected


def test_support_survives_being_stored() -> None:
    support = Support.from_log(history())
    again = Support.from_table(support.to_table())
    assert again.attempts(history()).tolist() == support.attempts(history()).tolist()
    with pytest.raises(ValueError, match="attempts"):
        Support.from_table(pa.table({name: pa.array([], pa.string()) for name in CELL}))


def test_an_empty_history_supports_nothing() -> None:
    assert Support.from_log(log([], [])).unsupported(history(2, 0)).tolist() == [True, True]


def _figures(ours: AttemptLog, theirs: AttemptLog) -> dict[str, float]:
    return measure(ours, outages=outages(), fees={}, support=Support.from_log(history(60, 0)), baseline=theirs).figures


def test_the_unsupported_part_of_the_lift_is_that_of_payments_touched_under_either_policy() -> None:
    rows = [payment(f"p{i}", i) for i in range(4)]
    ours = log(rows, [
        attempt("p0", 1, "New", 0, 1, "approved"),  # unsupported here, declined there: + 1
        attempt("p1", 1, "A", 1, 1, "declined"),  # supported here, but unsupported and approved there: - 1
        attempt("p2", 1, "A", 2, 1, "approved"),  # supported in both: its gain rests on history
        attempt("p3", 1, "New", 3, 1, "approved"),  # unsupported here, declined there: + 1
    ])
    theirs = log(rows, [
        attempt("p0", 1, "A", 0, 1, "declined"), attempt("p1", 1, "New", 1, 1, "approved"),
        attempt("p2", 1, "A", 2, 1, "declined"), attempt("p3", 1, "A", 3, 1, "declined"),
    ])
    found = _figures(ours, theirs)
    assert found["lift_pp"] == pytest.approx(50)
    assert found["lift_unsupported_pp"] == pytest.approx(25)
    assert found["unsupported_share"] == 2 / 4


def test_with_comebacks_the_parts_still_add_up_to_the_lift() -> None:
    ours = log([payment("p0", 0), payment("p1", 1)],
               [attempt("p0", 1, "New", 0, 1, "approved"), attempt("p1", 1, "New", 1, 1, "declined")])
    theirs = log(
        [payment("p0", 0), payment("p1", 1), payment("p0-again", 9, order_id="order-p0", previous_payment_id="p0")],
        [attempt("p0", 1, "A", 0, 1, "declined"), attempt("p1", 1, "A", 1, 1, "declined"),
         attempt("p0-again", 1, "New", 9, 1, "approved")],
    )
    found = _figures(ours, theirs)  # every payment is touched, so the part is the whole
    assert found["lift_unsupported_pp"] == pytest.approx(found["lift_pp"])
    assert found["lift_pp"] == pytest.approx(100 * (1 / 2 - 1 / 3))


def test_each_log_is_divided_by_its_own_payments() -> None:
    ours = log([payment("p0", 0), payment("p1", 1)],
               [attempt("p0", 1, "New", 0, 1, "approved"), attempt("p1", 1, "A", 1, 1, "declined")])
    theirs = log(
        [payment("p0", 0), payment("p1", 1), payment("p0-again", 9, order_id="order-p0", previous_payment_id="p0")],
        [attempt("p0", 1, "A", 0, 1, "declined"), attempt("p1", 1, "A", 1, 1, "declined"),
         attempt("p0-again", 1, "A", 9, 1, "approved")],
    )
    # p0 alone is touched; the baseline approves 1/3: 100 · [(1 - 1/3) / 2 - (0 - 1/3) / 3]
    assert _figures(ours, theirs)["lift_unsupported_pp"] == pytest.approx(100 * (1 / 3 + 1 / 9))
