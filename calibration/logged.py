"""What the merchant's own router did: the tables of the ``logged`` policy, and how far they agree with history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from routesim.policies.logged import LoggedTables, RetryCell, RetryLevel, ShareCell, ShareLevel
from routesim.sim.log import AttemptLog

FIRST = (("card_brand", "currency", "bank"), ("card_brand", "currency"), ("currency",), ())
RETRIES = (("initiator", "decline_code", "attempt_number", "processor", "currency"),
           ("initiator", "decline_code", "attempt_number"), ("initiator", "outcome"), ())
NEXT = (("card_brand", "currency", "processor", "attempt_number"), ("card_brand", "currency", "processor"),
        ("processor",), ())
MINIMUM_ROWS = 20  # a thinner cell leaves the answer to the next coarser level
_QUANTILES = np.linspace(0, 1, 11)


def fit_logged(log: AttemptLog, history_ends_at: float) -> LoggedTables:
    """Tables of first choices, retries and next choices.

    An answer counts as followed or not only if it came early enough for the longest usual delay to have passed before
    ``history_ends_at`` (seconds), since a retry that was still due is not one that was not made.
    """
    frame = _frame(log)
    first = frame[frame["attempt_number"] == 1]
    failed = frame[frame["outcome"] != "approved"].copy()
    failed["followed"] = failed["next_processor"].notna()
    settled = failed[failed["answered_s"] + _longest_delay_s(failed) < history_ends_at]
    if settled.empty:  # a history shorter than its own delays
        settled = failed
    followed = failed[failed["followed"]]
    return LoggedTables(
        first=[ShareLevel(by=list(by), cells=_shares(first, by, "processor")) for by in FIRST],
        retries=[RetryLevel(by=list(by), cells=_retries(settled, by)) for by in RETRIES] if len(settled) else [],
        next=[ShareLevel(by=list(by), cells=_shares(followed, by, "next_processor")) for by in NEXT]
        if len(followed) else [],
        max_attempts=int(frame["attempt_number"].max()),
    )


def _longest_delay_s(failed: pd.DataFrame) -> pd.Series:
    """The longest usual delay of each row's kind of initiator, for a customer's retry is due within seconds and a
    subscription's within days. Those that were followed are held to it too, or the last days would show only them."""
    longest = failed[failed["followed"]].groupby("initiator", dropna=False)["delay_s"].quantile(0.99)
    return failed["initiator"].map(longest).fillna(0.0)


def first_choice_agreement(log: AttemptLog) -> float:
    """Share of payments whose first processor is the likeliest by tables fitted to the other half of history.

    Halves by turns in order of arrival. A router that splits at random cannot be predicted beyond its largest share.
    """
    frame = _frame(log)
    first = frame[frame["attempt_number"] == 1].reset_index(drop=True)
    fit, test = first[first.index % 2 == 0], first[first.index % 2 == 1]
    if fit.empty or test.empty:
        return float("nan")
    guess = pd.Series(pd.NA, index=test.index, dtype=object)
    for by in FIRST:
        if not by:
            guess = guess.fillna(fit["processor"].mode()[0])
            continue
        keys = list(by)
        counts = fit.groupby([*keys, "processor"], dropna=False).size().rename("n").reset_index()
        best = counts.sort_values(["n", "processor"], ascending=[False, True]).drop_duplicates(keys)
        found = test[keys].merge(best[[*keys, "processor"]], on=keys, how="left")["processor"]
        guess = guess.where(guess.notna(), pd.Series(found.to_numpy(), index=test.index))
    return float((guess.astype(str) == test["processor"].astype(str)).mean())


def _frame(log: AttemptLog) -> pd.DataFrame:
    """Attempts with their payments' fields, and what followed each: processor and delay in seconds."""
    attempts = log.attempts.select(["attempt_number", "processor", "outcome", "decline_code", "sent_at", "answered_at"])
    frame = attempts.to_pandas()
    payments = log.payments.select(["card_brand", "currency", "bank", "initiator"]).to_pandas()
    for column in payments:
        frame[column] = payments[column].to_numpy()[log.payment_row]
    frame["row"] = log.payment_row
    frame["sent_s"] = frame["sent_at"].astype("int64") / 1e6
    frame["answered_s"] = frame["answered_at"].astype("int64") / 1e6
    frame = frame.sort_values(["row", "attempt_number"], kind="stable")
    by_payment = frame.groupby("row")
    frame["next_processor"] = by_payment["processor"].shift(-1)
    frame["delay_s"] = (by_payment["sent_s"].shift(-1) - frame["answered_s"]).clip(lower=0)
    return frame


def _groups(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[tuple[str | int | None, ...], pd.DataFrame]]:
    if not by:
        return [((), frame)]
    found = []
    for key, part in frame.groupby(list(by), dropna=False, sort=True):
        if len(part) >= MINIMUM_ROWS:
            found.append((tuple(_plain(value) for value in key), part))
    return found


def _plain(value: object) -> str | int | None:
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    return int(value) if isinstance(value, int | np.integer) else str(value)


def _shares(frame: pd.DataFrame, by: Sequence[str], column: str) -> list[ShareCell]:
    cells = []
    for key, part in _groups(frame, by):
        counts = part[column].value_counts().sort_index()
        cells.append(ShareCell(key=key, rows=len(part),
                               shares={str(name): float(n) / len(part) for name, n in counts.items()}))
    return cells


def _retries(frame: pd.DataFrame, by: Sequence[str]) -> list[RetryCell]:
    cells = []
    for key, part in _groups(frame, by):
        delays = part.loc[part["followed"], "delay_s"]
        quantiles = [float(x) for x in delays.quantile(_QUANTILES)] if len(delays) else []
        cells.append(RetryCell(key=key, rows=len(part), probability=float(part["followed"].mean()),
                               delays_s=quantiles))
    return cells
