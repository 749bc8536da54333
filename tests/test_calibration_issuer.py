"""The issuer's likelihood by hand and by differences, and what its maximum recovers from a confounded history."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

from routesim.calibration.issuer.design import TermSpec, design
from routesim.calibration.issuer.fit import FittedIssuer, find_structure, fit_issuer
from routesim.calibration.issuer.likelihood import IssuerLikelihood, Structure
from routesim.calibration.sequences import Sequences
from routesim.sim.log import AttemptLog
from routesim.sim.trace import Levels
from routesim.sim.uncertainty import Block, pointer
from tests.confounded import TRUTH, as_sequences, confounded_log, confounded_world
from tests.worlds import trace_of

CODES = ("05", "14", "51", "96")  # numbered from 1
STRUCTURE = Structure(judgement=(1, 2, 3, 4), blocks=((3,), (2,)), block_names=("funds", "dead"),
                      technical=((0, 4), (1, 4)), recovers=(0,), repeat_codes=(1,))


def data_of(*attempts: list[tuple[str, int, float]]) -> Sequences:
    """Sequences of (processor A or B, code number, hours since the first request)."""
    trace = trace_of(np.arange(len(attempts), dtype=float), bank=["x", "y"] * (len(attempts) // 2) + ["x"] * (
        len(attempts) % 2))
    flat = [row for sequence in attempts for row in sequence]
    start = np.concatenate([[0], np.cumsum([len(s) for s in attempts])]).astype(np.int64)
    since = np.array([t for _, _, t in flat])
    return Sequences(trace, ("A", "B"), CODES, start, np.repeat(np.arange(len(attempts)), np.diff(start)),
                     np.array(["AB".index(p) for p, _, _ in flat]), np.array([c for _, c, _ in flat]), since, since)


def likelihood_of(data: Sequences, terms: tuple[TermSpec, ...] = (TermSpec(("processor",)),)) -> IssuerLikelihood:
    approval = design(data.trace, data.payment, terms, {"processor": Levels(data.processor, data.processors)})
    odds_terms = (TermSpec(("bank",)),) if len(terms) > 1 else ()
    return IssuerLikelihood(data, STRUCTURE, approval, design(data.trace, data.payment[data.start[:-1]], odds_terms))


# By hand: numbers of a world, and what each sequence's probability is in them.
ETA = {"A": 1.1, "B": 0.7}
REPEAT, SIGMA, MEAN_H, RECOVERS = -0.5, 1.5, 20.0, 0.8
ODDS = np.exp([-1.6, -3.0])
FUNDS, DEAD = ODDS / (1 + ODDS.sum())
TECHNICAL = {"A": 0.03, "B": 0.01}
SHARES = special.softmax([2.0, -3.0, 0.5, -1.0])  # of 05, 14, 51, 96 in judgements


def theta_by_hand(likelihood: IssuerLikelihood) -> np.ndarray:
    layout, theta = likelihood.layout, np.zeros(likelihood.layout.size)
    theta[layout.approval] = [0.2, *(ETA["AB"[p]] - 0.2 for p in np.unique(likelihood.data.processor))]
    theta[layout.odds[0]], theta[layout.odds[1]] = -1.6, -3.0
    theta[layout.log_sigma], theta[layout.repeat] = np.log(SIGMA), REPEAT
    theta[layout.judgement] = [2.0, -3.0, 0.5, -1.0]
    theta[layout.technical] = np.log([TECHNICAL["A"], TECHNICAL["B"]])
    theta[layout.recovery[0]] = [np.log(MEAN_H), special.logit(RECOVERS)]
    return theta


def judged(processor: str, code: int, repeats: int = 0):  # type: ignore[no-untyped-def]
    """Probability of an answer of a card that no block stops, as a function of the frailty."""
    def of(u: float) -> float:
        up = 1 - TECHNICAL[processor]
        q = special.expit(ETA[processor] + REPEAT * repeats + SIGMA * u)
        if code == 0:
            return float(up * q)
        return float((TECHNICAL[processor] if code == 4 else 0.0) + up * (1 - q) * SHARES[code - 1])

    return of


def integral(*factors) -> float:  # type: ignore[no-untyped-def]
    return float(integrate.quad(lambda u: np.prod([f(u) for f in factors]) * stats.norm.pdf(u), -9, 9)[0])


def test_likelihood_of_sequences_is_what_a_hand_computes() -> None:
    data = data_of([("A", 0, 0.0)], [("A", 3, 0.0), ("B", 0, 24.0)], [("A", 1, 0.0), ("A", 1, 1.0)],
                   [("A", 4, 0.0), ("B", 0, 0.1)], [("A", 2, 0.0)], [("A", 3, 0.0), ("B", 3, 5.0), ("B", 0, 30.0)],
                   [("B", 0, 5.0)], [("B", 3, 5.0)])
    likelihood = likelihood_of(data)
    found = np.exp(likelihood.evaluate(theta_by_hand(likelihood))[0])
    free = 1 - FUNDS - DEAD
    ended = RECOVERS * (1 - np.exp(-24 / MEAN_H))
    left = [1 - RECOVERS + RECOVERS * np.exp(-t / MEAN_H) for t in (0.0, 5.0, 30.0)]
    up_a, up_b = 1 - TECHNICAL["A"], 1 - TECHNICAL["B"]
    by_hand = [
        free * integral(judged("A", 0)),
        free * integral(judged("A", 3), judged("B", 0)) + FUNDS * ended * up_a * integral(judged("B", 0)),
        free * integral(judged("A", 1), judged("A", 1, 1)),  # the second at the same processor: one repeat
        # the failure may be technical in any state; a dead or an empty account is never approved at once
        free * integral(judged("A", 4), judged("B", 0)) + FUNDS * TECHNICAL["A"] * (
            RECOVERS * (1 - np.exp(-0.1 / MEAN_H))) * integral(judged("B", 0)),
        free * integral(judged("A", 2)) + DEAD * up_a,
        free * integral(judged("A", 3), judged("B", 3), judged("B", 0))
        + FUNDS * (left[0] - left[1]) * up_a * integral(judged("B", 3), judged("B", 0))
        + FUNDS * (left[1] - left[2]) * up_a * up_b * integral(judged("B", 0)),
        # The first request, five hours before, told nothing: an account that was empty then may be so no longer.
        (free + FUNDS * (1 - left[1])) * integral(judged("B", 0)),
        (free + FUNDS * (1 - left[1])) * integral(judged("B", 3)) + FUNDS * left[1] * up_b,
    ]
    assert found == pytest.approx(by_hand, rel=2e-3)  # the quadrature's error at this frailty
    # Independent attempts, the commonest error, would be seen.
    independent = free * integral(judged("A", 1)) * integral(judged("A", 1, 1))
    assert found[2] != pytest.approx(independent, rel=0.05)


@pytest.mark.parametrize("hours", [(0.0, 0.5), (0.0, 50.0)])
@pytest.mark.parametrize("processors", ["AA", "AB"])
def test_probabilities_of_all_answers_sum_to_one(hours: tuple[float, float], processors: str) -> None:
    data = data_of(*([(processors[0], one, hours[0]), (processors[1], other, hours[1])]
                     for one, other in product(range(5), range(5))))
    likelihood = likelihood_of(data)
    log_l, _ = likelihood.evaluate(theta_by_hand(likelihood))
    assert np.exp(log_l).sum() == pytest.approx(1.0, abs=1e-9)


def test_scores_are_the_derivatives_of_the_likelihood() -> None:
    random = np.random.default_rng(4)
    rows = []
    for _ in range(60):
        n = int(random.integers(1, 5))
        hours = np.cumsum(random.exponential(8.0, n)) - 1e-9
        codes = random.integers(1, 5, n)
        codes[-1] *= int(random.integers(0, 2))
        rows.append([("AB"[int(random.integers(2))], int(c), float(h - hours[0]))
                     for c, h in zip(codes, hours, strict=True)])
    terms = (TermSpec(("processor",)), TermSpec(("bank",)), TermSpec((), slope=True))
    likelihood = likelihood_of(data_of(*rows), terms)
    theta = random.normal(0, 0.4, likelihood.layout.size)
    theta[likelihood.layout.technical] -= 3
    theta[likelihood.layout.recovery[0]] += [2.0, 0.5]
    _, scores = likelihood.evaluate(theta)
    exact = scores.toarray()
    step = 1e-5
    for i in range(len(theta)):
        ahead, behind = (likelihood.evaluate(theta + step * sign * (np.arange(len(theta)) == i))[0] for sign in (1, -1))
        assert exact[:, i] == pytest.approx((ahead - behind) / (2 * step), abs=2e-6), i
    assert (np.abs(exact).max(axis=0) > 1e-4).sum() > len(theta) - 4  # nearly every parameter is touched


@pytest.fixture(scope="module")
def history() -> AttemptLog:
    return confounded_log(15_000, seed=1)


@pytest.fixture(scope="module")
def fitted(history: AttemptLog) -> FittedIssuer:
    return fit_issuer(as_sequences(history), confounded_world().codes)


def contrast(block: Block, weights: dict[str, float]) -> tuple[float, float]:
    """Estimate and standard error of a weighted sum of numbers on their scales."""
    w = np.array([weights.get(p, 0.0) for p in block.pointers])
    assert np.count_nonzero(w) == len(weights)
    return float(w @ block.estimates), float(np.linalg.norm(w @ block.factor))


def approval_contrast(fitted: FittedIssuer, one: tuple[str, str], other: tuple[str, str]) -> tuple[float, float]:
    """The difference of the logit of approval between two (processor, bank)."""
    weights: dict[str, float] = {}
    for (processor, bank), sign in ((one, 1.0), (other, -1.0)):
        levels = {"processor": processor, "bank": bank, "processor|bank": f"{processor}|{bank}"}
        for number, term in enumerate(fitted.issuer.approval.terms):
            level = levels.get("|".join(term.by))
            if level is not None and term.of is None:
                where = pointer("issuer", "approval", "terms", number, "effects", level)
                weights[where] = weights.get(where, 0.0) + sign
    return contrast(fitted.uncertainty, {p: w for p, w in weights.items() if w})


def test_the_truth_is_recovered_from_a_confounded_history(fitted: FittedIssuer) -> None:
    funds, dead = ("issuer", "blocks", "state 51"), ("issuer", "blocks", "invalid card")
    truth = {
        pointer("issuer", "frailty_sd"): np.log(TRUTH["frailty"]),
        pointer("issuer", "repeat"): TRUTH["repeat"],
        pointer(*funds, "odds", "intercept"): TRUTH["funds"],
        pointer(*dead, "odds", "intercept"): TRUTH["dead"],
        pointer(*funds, "recovers_h", "mean"): np.log(TRUTH["mean_h"]),
        pointer(*funds, "recovers_share"): special.logit(TRUTH["recovers"]),
        pointer("processors", "A", "technical", "96"): np.log(TRUTH["A/96"]),
        pointer("processors", "B", "technical", "96"): np.log(TRUTH["B/96"]),
    }
    found = {where: contrast(fitted.uncertainty, {where: 1.0}) for where in truth}
    errors = {where: (found[where][0] - value) / found[where][1] for where, value in truth.items()}
    for bank in ("good", "plain", "poor"):
        estimate, se = approval_contrast(fitted, ("A", bank), ("B", bank))
        errors[f"A-B at {bank}"] = (estimate - TRUTH["A-B"]) / se
    estimate, se = approval_contrast(fitted, ("B", "good"), ("B", "poor"))
    errors["good-poor"] = (estimate - 2 * TRUTH["bank"]) / se
    assert {k: round(e, 2) for k, e in errors.items() if abs(e) > 3.5} == {}
    assert sum(e * e for e in errors.values()) / len(errors) < 3  # and not all of them at the edge
    # Narrow enough to mean something: zero frailty, no repeat effect, no recovery are all rejected.
    assert found[pointer("issuer", "frailty_sd")][1] < 0.1
    assert found[pointer("issuer", "repeat")][0] < -3.5 * found[pointer("issuer", "repeat")][1]
    assert found[pointer(*funds, "recovers_h", "mean")][1] < 0.15


def test_raw_rates_have_the_processors_the_wrong_way_round(history: AttemptLog, fitted: FittedIssuer) -> None:
    frame = history.attempts.to_pandas()
    first = frame[frame["attempt_number"] == 1]
    rate = (first["outcome"] == "approved").groupby(first["processor"]).agg(["mean", "size"])
    se = np.sqrt((rate["mean"] * (1 - rate["mean"]) / rate["size"])[["A", "B"]].sum())
    assert rate["mean"]["A"] - rate["mean"]["B"] < -5 * se  # A looks worse at first sight
    estimate, error = approval_contrast(fitted, ("A", "plain"), ("B", "plain"))
    assert estimate > 2 * error  # and is better where both met the same payments


def test_retries_as_independent_tries_at_raw_rates_are_far_off(history: AttemptLog, fitted: FittedIssuer) -> None:
    """What the frailty is for: after a judgement decline at A, a prompt attempt at B."""
    frame = history.attempts.to_pandas().sort_values(["payment_id", "attempt_number"])
    before = frame.groupby("payment_id")[["decline_code", "processor", "answered_at"]].shift()
    prompt = (before["decline_code"] == "05") & (before["processor"] != frame["processor"]) & (
        (frame["sent_at"] - before["answered_at"]).dt.total_seconds() < 60) & (frame["attempt_number"] == 2)
    observed = (frame.loc[prompt, "outcome"] == "approved").to_numpy()
    # A judged card is not blocked, so the fair rate to compare with is that of first attempts that no state stopped.
    free = (frame["attempt_number"] == 1) & ~frame["decline_code"].isin(["51", "14"])
    raw = (frame.loc[free, "outcome"] == "approved").mean()
    assert raw - observed.mean() > 3.5 * observed.std() / np.sqrt(len(observed))
    assert np.exp(contrast(fitted.uncertainty, {pointer("issuer", "frailty_sd"): 1.0})[0]) > 1.0


def test_structure_tells_states_of_the_card_from_judgements(history: AttemptLog) -> None:
    data = as_sequences(history)
    structure = find_structure(data, confounded_world().codes)
    named = {name: [data.codes[c - 1] for c in codes]
             for name, codes in zip(structure.block_names, structure.blocks, strict=True)}
    assert named == {"state 51": ["51"], "invalid card": ["14"]}
    assert {data.codes[c - 1] for _, c in structure.technical} == {"96"}
    assert [structure.block_names[g] for g in structure.recovers] == ["state 51"]


def test_the_covariance_is_the_inverse_of_the_curvature() -> None:
    """On tiny data with no prior to speak of: the score products against the differences of the scores, in scale."""
    log = confounded_log(3000, seed=8)
    data = as_sequences(log)
    structure = find_structure(data, confounded_world().codes)
    approval = design(data.trace, data.payment, (), {})
    likelihood = IssuerLikelihood(data, structure, approval, design(data.trace, data.payment[data.start[:-1]], ()))
    layout = likelihood.layout
    free = [layout.approval.start, layout.log_sigma.start, layout.repeat.start, layout.odds[0].start]
    theta = np.zeros(layout.size)
    theta[layout.judgement] = [3.0, -2.0, 1.0, -1.0]
    theta[layout.technical], theta[layout.recovery[0]] = np.log(0.015), [3.0, 1.4]
    theta[layout.odds[1]] = -3.0

    def at(x: np.ndarray) -> np.ndarray:
        full = theta.copy()
        full[free] = x
        return full

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        log_l, scores = likelihood.evaluate(at(x))
        return -float(log_l.sum()), -np.asarray(scores.sum(axis=0)).ravel()[free]

    best = optimize.minimize(loss, np.array([1.2, 0.3, -0.3, -1.6]), jac=True, method="BFGS").x
    _, scores = likelihood.evaluate(at(best))
    products = (scores.T @ scores).toarray()[np.ix_(free, free)]
    step = 1e-4
    curvature = np.stack([(loss(best + step * e)[1] - loss(best - step * e)[1]) / (2 * step) for e in np.eye(4)])
    ratio = np.sqrt(np.diag(np.linalg.inv(products)) / np.diag(np.linalg.inv(curvature)))
    assert ratio == pytest.approx(np.ones(4), abs=0.2)
