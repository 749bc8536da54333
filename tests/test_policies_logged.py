"""The policy that does what history did."""

from __future__ import annotations

import pickle
from collections import Counter
from math import sqrt
from typing import Any

import pytest
from pydantic import ValidationError

from routesim.policies.composed import NO_RETRY
from routesim.policies.logged import Logged, LoggedParameters, LoggedTables
from routesim.policies.vocabulary import Send, Wait
from tests.policy_world import ARRIVED_AT, Luck, answer, chain, names, payment, view

TABLES = LoggedTables.model_validate({
    "first": [
        {"by": ["currency", "bank"], "cells": [{"key": ["MXN", "hsbc"], "rows": 50, "shares": {"B": 0.8, "A": 0.2}}]},
        {"by": ["currency"], "cells": [{"key": ["MXN"], "rows": 90, "shares": {"A": 1.0}}]},
        {"by": [], "cells": [{"key": [], "rows": 100, "shares": {"A": 0.5, "B": 0.3, "C": 0.1, "D": 0.1}}]},
    ],
    "retries": [
        {"by": ["initiator", "decline_code", "attempt_number"], "cells": [
            {"key": ["CIT", "51", 1], "rows": 40, "probability": 0.6, "delays_s": [2.0, 3.0, 10.0]},
            {"key": ["CIT", None, 1], "rows": 9, "probability": 1.0, "delays_s": [0.0]},
        ]},
        {"by": ["initiator"], "cells": [{"key": ["MIT"], "rows": 9, "probability": 1.0, "delays_s": [86400.0]}]},
    ],
    "next": [{"by": ["processor", "currency"], "cells": [
        {"key": ["A", "MXN"], "rows": 20, "shares": {"B": 0.75, "C": 0.25}},
        {"key": ["B", "MXN"], "rows": 20, "shares": {"A": 1.0}},
    ]}],
    "max_attempts": 3,
})  # fmt: skip
FIRST = answer(1, "A", ARRIVED_AT + 1)


def test_the_finest_cell_that_history_has() -> None:
    def propensities(**about: Any) -> dict[str, float]:
        logged = Logged(TABLES)
        actions = [logged.decide(view(payment(**about)), Luck(logged__first=(i + 0.5) / 40)) for i in range(40)]
        firsts = [action.choices[0] for action in actions if isinstance(action, Send)]
        return {first.processor: first.propensity for first in firsts}

    assert propensities() == {"A": 0.2, "B": 0.8}
    assert propensities(bank=None) == {"A": 1.0}
    assert propensities(currency="USD") == {"A": 0.5, "B": 0.3, "C": 0.1, "D": 0.1}


def test_replays_what_history_chose_unless_asked_not_to() -> None:
    about = payment(currency="USD", logged_processor="C")
    action = Logged(TABLES).decide(view(about), Luck())
    assert isinstance(action, Send)
    assert names(action) == ["C", "A", "B"]
    assert action.choices[0].propensity == 0.1
    fitted = Logged(TABLES, LoggedParameters(first="fitted"))
    assert names(fitted.decide(view(about), Luck(logged__first=0.01)))[0] == "A"


def test_first_choices_follow_the_shares() -> None:
    logged, count = Logged(TABLES), 5_000
    firsts = Counter(names(logged.decide(view(payment()), Luck(each)))[0] for each in range(count))
    assert abs(firsts["B"] - 0.8 * count) < 4 * sqrt(count * 0.8 * 0.2)


def test_the_order_of_a_table_decides_nothing() -> None:
    turned = TABLES.model_dump()
    for level in turned["first"]:
        for cell in level["cells"]:
            cell["shares"] = dict(reversed(cell["shares"].items()))
    other = Logged(LoggedTables.model_validate(turned))
    for each in range(50):
        about = view(payment(currency="USD"))
        assert Logged(TABLES).decide(about, Luck(each)) == other.decide(about, Luck(each))


def test_retries_follow_their_share() -> None:
    logged, count = Logged(TABLES), 5_000
    again = sum(isinstance(logged.decide(view(payment(), FIRST), Luck(each)), Wait) for each in range(count))
    assert abs(again - 0.6 * count) < 4 * sqrt(count * 0.6 * 0.4)


@pytest.mark.parametrize(("place", "delay_s"), [(0.0, 2.0), (0.25, 2.5), (0.5, 3.0), (0.75, 6.5), (1.0, 10.0)])
def test_delays_are_interpolated(place: float, delay_s: float) -> None:
    luck = Luck(**{"logged__retry__1": 0.0, "logged__delay__1": place})
    assert Logged(TABLES).decide(view(payment(), FIRST), luck) == Wait(ARRIVED_AT + 1 + delay_s)


def test_the_next_processor_depends_on_the_last() -> None:
    logged, count = Logged(TABLES), 4_000
    about = view(payment(), FIRST, now=ARRIVED_AT + 60, waited=True)
    sends = [logged.decide(about, Luck(each, **{"logged__retry__1": 0.0})) for each in range(count)]
    firsts = Counter(names(send)[0] for send in sends)
    assert set(firsts) == {"B", "C"}
    assert abs(firsts["B"] - 0.75 * count) < 4 * sqrt(count * 0.75 * 0.25)


def test_no_chain_is_longer_than_historys() -> None:
    sent = chain(Logged(TABLES), payment(initiator="MIT", logged_processor="A"), ["timeout"] * 5,
                 Luck(**{"logged__next__1": 0.1}))
    assert [(name, at - ARRIVED_AT) for name, at in sent] == [("A", 0), ("B", 86_401), ("A", 172_802)]


def test_what_history_never_retried_is_not_retried() -> None:
    after_61 = answer(1, "A", ARRIVED_AT + 1, code="61")
    assert Logged(TABLES).decide(view(payment(), after_61), Luck()) == NO_RETRY


def test_an_absent_code_is_a_value_of_its_own() -> None:
    action = Logged(TABLES).decide(view(payment(), answer(1, "A", ARRIVED_AT + 1, "timeout")), Luck())
    assert isinstance(action, Send)
    assert action.decision == "retry"


def test_tables_survive_json_and_pickling() -> None:
    assert LoggedTables.model_validate_json(TABLES.model_dump_json()) == TABLES
    assert pickle.loads(pickle.dumps(TABLES)) == TABLES  # noqa: S301


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"first": [{"by": ["bnk"], "cells": []}]}, "did you mean 'bank'"),
        ({"first": [{"by": ["bank"], "cells": [{"key": [], "rows": 1, "shares": {"A": 1.0}}]}]}, "does not fit"),
        ({"first": [{"by": [], "cells": [{"key": [], "rows": 1, "shares": {"A": 0.9}}]}]}, "not 1"),
        ({"first": [], "retries": [{"by": [], "cells": [{"key": [], "rows": 1, "probability": 0.5}]}]}, "delays_s"),
    ],
)
def test_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoggedTables.model_validate(tables | {"max_attempts": 1})
