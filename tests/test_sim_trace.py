"""The trace: who follows whom, with which card, and the clocks that policies and models look at."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from routesim.sim.trace import CHUNK, Trace, seconds, timestamps
from tests.worlds import START, trace_of

IDS = ["p0", "p1", "p2", "p3", "p4"]


def chain(**columns: object) -> Trace:
    """p1 follows p0, p2 follows p1, p3 says it follows what came later, p4 what is not in the trace."""
    return trace_of([0.0, 10.0, 20.0, 30.0, 40.0], payment_id=IDS,
                    previous_payment_id=[None, "p0", "p1", "p4", "elsewhere"], **columns)


def test_forerunners_and_followers() -> None:
    trace = chain()
    assert trace.forerunner.tolist() == [-1, 0, 1, -1, -1]
    assert trace.follower.tolist() == [1, 2, -1, -1, -1]
    assert trace.levels("comeback").codes.tolist() == [0, 1, 1, 0, 0]


def test_the_same_card_by_token_else_by_bin_brand_and_bank() -> None:
    token = chain(card_token=["t", "t", "u", "u", "u"])
    assert token.same_card.tolist() == [False, True, False, False, False]
    unknown = chain(card_token=[None, "t", None, None, None], card_bin=["1", "1", "2", "2", "2"])
    assert unknown.same_card.tolist() == [False, True, False, False, False]
    other_bank = chain(bank=["x", "y", "y", "y", "y"])
    assert other_bank.same_card.tolist() == [False, False, True, False, False]
    # tokens that differ say another card even where all else is alike
    assert not chain(card_token=["a", "b", "c", "d", "e"]).same_card.any()


def test_rows_are_in_order_of_arrival_whatever_order_they_come_in() -> None:
    trace = chain()
    turned = Trace(trace.table.take([4, 2, 0, 3, 1]))
    assert turned.table.equals(trace.table)
    assert (turned.keys == trace.keys).all()
    tied = trace_of([5.0, 5.0, 5.0], payment_id=["c", "a", "b"])
    assert tied.table["payment_id"].to_pylist() == ["a", "b", "c"]


def test_levels_are_coded_by_name_and_absent_values_have_a_name() -> None:
    levels = chain(bank=["z", None, "a", "z", "m"]).levels("bank")
    assert [levels.names[c] for c in levels.codes] == ["z", "", "a", "z", "m"]
    assert levels.names == ("", "a", "m", "z")
    flags = chain(three_ds=[True, False, None, True, True]).levels("three_ds")
    assert [flags.names[c] for c in flags.codes] == ["true", "false", "", "true", "true"]


def test_hours_and_days_follow_each_clock() -> None:
    moment = datetime(2026, 3, 1, 3, 30, tzinfo=UTC).timestamp()  # Saturday 21:30 in Mexico City
    payments = trace_of([moment - START]).table
    trace = Trace(payments, "America/Mexico_City", "UTC")
    payment = trace.payments(0)[0]
    assert (payment.hour, payment.weekday, payment.day) == (21, 5, 28)
    hour = trace.levels("hour")
    assert hour.names[hour.codes[0]] == "3"  # the model's clock
    own = Trace(payments, "America/Mexico_City").levels("hour")
    assert own.names[own.codes[0]] == "21"
    # A comeback payment is made by the same clock.
    returned = trace.comeback_payment(0, "x+1", payment, moment + 3 * 3600)
    assert (returned.hour, returned.weekday, returned.day) == (0, 6, 1)
    assert returned.previous_payment_id == payment.payment_id


def test_summer_time_is_followed() -> None:
    moments = [datetime(2026, 3, 8, h, 30, tzinfo=UTC).timestamp() - START for h in (7, 8)]  # Chicago springs forward
    trace = Trace(trace_of(moments).table, "America/Chicago")
    assert [p.hour for p in trace.payments(0)] == [1, 3]


def test_times_survive_to_the_microsecond() -> None:
    moments = START + np.array([0.0, 1e-6, 0.123456, 86_399.999999])
    assert seconds(trace_of([0.0]).table["arrived_at"])[0] == START
    table = timestamps(moments)
    assert table.cast("int64").to_pylist() == [round(m * 1e6) for m in moments.tolist()]


def test_amounts_are_logarithms_and_nothing_is_minus_infinity() -> None:
    trace = trace_of([0.0, 1.0, 2.0], amount_usd=[np.e, 0.0, 1.0])
    assert trace.log_amount_usd == pytest.approx([1.0, np.log(0.01), 0.0])


def test_payments_of_later_chunks_are_the_table_s_rows() -> None:
    n = CHUNK + 3
    trace = trace_of(np.arange(n, dtype=float))
    last = trace.payments(1)
    assert [p.payment_id for p in last] == [f"p{i:07d}" for i in range(CHUNK, n)]
    assert last[2].arrived_at == START + n - 1
    assert trace.payments(1) is last  # kept, not made again
