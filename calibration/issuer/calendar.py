"""Whether accounts fill by the calendar: pay days and other kinds of hours, judged by what they predict of others.

With all else of the issuer's fit held, the law of recovery is fitted twice to four fifths of the cards, memoryless and
with a factor of the hazard for every kind of hour that history shows, and both are asked for the last fifth. The
factors are kept where they gain more than ``LEAST_GAIN`` in held-out log-likelihood and more than its standard error;
they are shrunk towards none, so the calendar's law includes the memoryless one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from scipy import optimize

from routesim.calibration.issuer.design import Design
from routesim.calibration.issuer.likelihood import NODES, IssuerLikelihood
from routesim.calibration.sequences import Sequences
from routesim.sim.arrays import Floats, Ints
from routesim.sim.draws import key, uniforms
from routesim.sim.model import HourKind, PayDay, PayDays, RecoveryCalendar
from routesim.sim.recovery_clock import HOUR_KINDS, PAY_DAY_KINDS, Exposure, countries, known_pay_days

FOLDS = 5
LEAST_GAIN = 2.0
LEAST_CARDS = 50  # cards with an hour or more of a kind, below which the kind gets no factor
PAY_DAY_SD, OTHER_SD = 2.0, 0.5  # prior spreads of log factors: a pay day may fill most accounts, an evening will not
BETWEEN_PAY_DAYS_SD = 0.4  # assumed: how far one pay day's log factor is from another's, which few of them cannot show


@dataclass(frozen=True)
class FoundCalendar:
    """``hour_kinds``: indices into HOUR_KINDS, empty where the memoryless law stands; ``gain`` in held-out
    log-likelihood and its standard error; ``pay_days``: how many the cards that might recover lived through;
    ``known``: the pay days by country; ``exposure`` (attempts, kinds + 1): hours of each kind since the first
    request."""

    hour_kinds: tuple[int, ...]
    gain: float
    gain_se: float
    pay_days: int
    known: dict[str, PayDays]
    exposure: Floats

    def document(self, log_factors: Floats) -> RecoveryCalendar:
        """The fitted factors as the model holds them."""
        effects: dict[HourKind, float] = {
            HOUR_KINDS[kind]: float(value) for kind, value in zip(self.hour_kinds, log_factors, strict=True)}
        return RecoveryCalendar(pay_days=self.known, effects=effects)


def find_calendar(data: Sequences, likelihood: IssuerLikelihood, approval: Design, odds: Design,
                  theta: Floats) -> FoundCalendar:
    """The kinds of hours that matter to recovery, given a memoryless fit ``theta`` of ``likelihood``."""
    card, currency = (np.array(levels.names)[levels.codes].tolist() for levels in
                      (data.trace.levels("card_country"), data.trace.levels("currency")))
    of_payment = countries(card, currency, known_pay_days())
    known = {country: known_pay_days()[country] for country in sorted(set(of_payment) - {""})}
    country = np.array(of_payment, dtype=str)[data.payment]
    exposure = hours_by_kind(data, country, known)
    telling = _telling(data, likelihood)
    seen = _pay_days_seen(data, country, known, telling)
    kinds: tuple[int, ...] = ()
    if len(telling):
        longest = np.maximum.reduceat(exposure, data.start[:-1], axis=0)[telling]
        kinds = tuple(kind for kind in range(len(HOUR_KINDS))
                      if np.count_nonzero(longest[:, kind] >= 1) >= LEAST_CARDS)
    if not kinds:
        return FoundCalendar((), 0.0, 0.0, seen, known, exposure)
    fold = np.floor(uniforms(data.trace.keys[data.payment[data.start[:-1]]], key("recovery calendar")) * FOLDS)
    gains = np.zeros(len(telling))
    for number in range(FOLDS):
        test = fold[telling] == number
        train, left_out = telling[~test], telling[test]
        if not len(train) or not len(left_out):
            continue
        predicted = []
        for chosen in ((), kinds):
            at = _fit(data, likelihood, approval, odds, theta, exposure, chosen, train)
            held = _of(data, likelihood, approval, odds, exposure, chosen, left_out)
            predicted.append(held.evaluate(_whole(likelihood, held, theta, at))[0])
        gains[test] = predicted[1] - predicted[0]
    gain, error = float(gains.sum()), float(gains.std() * np.sqrt(len(gains)))
    matters = gain > max(LEAST_GAIN, error)
    return FoundCalendar(kinds if matters else (), gain, error, seen, known, exposure)


def hours_by_kind(data: Sequences, country: np.ndarray[tuple[int], np.dtype[np.str_]],
                  known: dict[str, PayDays]) -> Floats:
    """Hours of each kind from a card's first request to each attempt, (attempts, kinds + 1)."""
    out = np.zeros((len(data.code), len(HOUR_KINDS) + 1))
    begun = data.sent_at - 3600 * data.since_h
    for name in np.unique(country).tolist():
        mine = country == name
        days: list[PayDay] = known[name].days if name else []
        clock = Exposure(float(begun[mine].min()), float(data.sent_at[mine].max()), data.trace.model_timezone, days)
        out[mine] = clock.at(data.sent_at[mine]) - clock.at(begun[mine])
    return out


def prior_sds(hour_kinds: tuple[int, ...]) -> Floats:
    """Prior spread of each kind's log factor."""
    return np.array([PAY_DAY_SD if HOUR_KINDS[kind] in PAY_DAY_KINDS else OTHER_SD for kind in hour_kinds])


def between_pay_days(hour_kinds: tuple[int, ...], pay_days: int) -> Floats:
    """What the factors' covariance (kinds, kinds) lacks: a few pay days need not be like those to come, and the kinds
    of hours of one pay day move together."""
    of_pay_day = np.array([float(HOUR_KINDS[kind] in PAY_DAY_KINDS) for kind in hour_kinds])
    return np.asarray(np.outer(of_pay_day, of_pay_day) * BETWEEN_PAY_DAYS_SD**2 / max(pay_days, 1))


def _telling(data: Sequences, likelihood: IssuerLikelihood) -> Ints:
    """Cards that were asked again an hour or more after an answer that a block which recovers may have given."""
    blocks = likelihood.structure.blocks
    codes = [code for g in likelihood.structure.recovers for code in blocks[g]]
    later = np.ones(len(data.code), dtype=bool)
    later[data.start[:-1]] = False
    again = np.flatnonzero(later & (data.since_h >= 1.0))
    again = again[np.isin(data.code[again - 1], codes)]
    return np.unique(np.searchsorted(data.start, again, side="right") - 1)


def _pay_days_seen(data: Sequences, country: np.ndarray[tuple[int], np.dtype[np.str_]], known: dict[str, PayDays],
                   telling: Ints) -> int:
    """Pay days of the country with the most telling cards, between their first and their last attempt."""
    rows = np.concatenate([np.arange(data.start[i], data.start[i + 1]) for i in telling]) if len(telling) else np.zeros(
        0, dtype=np.int64)
    rows = rows[country[rows] != ""]
    if not len(rows):
        return 0
    names, counts = np.unique(country[rows], return_counts=True)
    days = known[str(names[np.argmax(counts)])].days
    zone = data.trace.model_timezone
    first, last = (datetime.fromtimestamp(float(f(data.sent_at[rows])), UTC).astimezone(zone) for f in (np.min, np.max))
    dates = np.arange(np.datetime64(first.date()), np.datetime64(last.date()) + 1)
    month = dates.astype("datetime64[M]")
    day = (dates - month).astype(int) + 1
    is_last = (dates + 1).astype("datetime64[M]") != month
    pays = np.isin(day, [d for d in days if d != "last"]) | (is_last if "last" in days else False)
    return int(pays.sum())


def _of(data: Sequences, likelihood: IssuerLikelihood, approval: Design, odds: Design, exposure: Floats,
        kinds: tuple[int, ...], which: Ints) -> IssuerLikelihood:
    """The likelihood of some of the cards, with these kinds of hours."""
    part, rows = data.part(which)
    structure = replace(likelihood.structure, hour_kinds=kinds)
    return IssuerLikelihood(part, structure, replace(approval, matrix=approval.matrix[rows]),
                            replace(odds, matrix=odds.matrix[which]), NODES, exposure[rows])


def _whole(likelihood: IssuerLikelihood, part: IssuerLikelihood, theta: Floats, recovery: Floats) -> Floats:
    """All parameters of ``part``: those of the memoryless fit, and the law of recovery at ``recovery`` (recovers, 2 +
    kinds)."""
    whole = np.zeros(part.layout.size)
    before = likelihood.layout.recovery[0].start
    whole[:before] = theta[:before]
    for where, row in zip(part.layout.recovery, recovery, strict=True):
        whole[where] = row
    return whole


def _fit(data: Sequences, likelihood: IssuerLikelihood, approval: Design, odds: Design, theta: Floats, exposure: Floats,
         kinds: tuple[int, ...], which: Ints) -> Floats:
    """The law of recovery (recovers, 2 + kinds) that explains some of the cards best, all else held."""
    part = _of(data, likelihood, approval, odds, exposure, kinds, which)
    memoryless = np.stack([theta[where][:2] for where in likelihood.layout.recovery])
    start = np.hstack([memoryless, np.zeros((len(memoryless), len(kinds)))])
    spread = np.concatenate([np.full(2, 1.5), prior_sds(kinds)])
    columns = np.concatenate([np.arange(where.start, where.stop) for where in part.layout.recovery])

    def loss(flat: Floats) -> tuple[float, Floats]:
        at = flat.reshape(start.shape)
        value, scores = part.evaluate(_whole(likelihood, part, theta, at))
        away = (at - start) / spread
        gradient = np.asarray(scores[:, columns].sum(axis=0)).ravel() - (away / spread).ravel()
        return -float(value.sum()) + 0.5 * float((away**2).sum()), -gradient

    best = optimize.minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100, "gtol": 0.02})
    return np.asarray(best.x.reshape(start.shape), dtype=np.float64)
