"""The made-up merchant's trace and world against what their documents say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import special
from scipy.stats import poisson

from routesim.calibration.made_up import described_traffic, described_world, legacy_factory, legacy_policy, make_trace
from routesim.policies.route.rules import Split
from routesim.sim.draws import Luck
from routesim.sim.engine import Engine
from routesim.sim.errors import BadInput
from routesim.sim.issuer import IssuerDecisions
from routesim.sim.log import PAYMENTS, AttemptLog
from routesim.sim.model import Model, Predictor, World
from routesim.sim.trace import Trace

DAYS, PER_DAY, SEED = 14, 700, 11
STANDARD_ERRORS = 4


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return make_trace(DAYS, PER_DAY, SEED)


@pytest.fixture(scope="module")
def payments(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas()


def test_a_trace_is_a_table_of_payments_in_order(table: pa.Table, payments: pd.DataFrame) -> None:
    assert table.schema.equals(PAYMENTS, check_metadata=True)
    arrived = payments["arrived_at"]
    assert arrived.is_monotonic_increasing
    assert arrived.iloc[0] >= pd.Timestamp("2026-01-05", tz="UTC")
    assert arrived.iloc[-1] < pd.Timestamp("2026-01-19", tz="UTC")
    assert payments["payment_id"].is_unique
    assert payments["order_id"].is_unique  # who comes back is the simulation's affair
    for column in ("previous_payment_id", "logged_processor", "logged_approved"):
        assert payments[column].isna().all()
    needed = ["customer_id", "card_token", "card_brand", "card_bin", "bank", "card_country", "channel", "device"]
    assert payments[needed].notna().all().all()


def test_every_bin_belongs_to_its_bank_and_brand(payments: pd.DataFrame) -> None:
    for row in payments[["bank", "card_brand", "card_bin", "card_country"]].drop_duplicates().itertuples():
        bank = described_traffic().banks[row.bank]
        assert row.card_bin in bank.bins[row.card_brand]
        assert row.card_country == bank.country
    bins = [b for bank in described_traffic().banks.values() for each in bank.bins.values() for b in each]
    assert len(bins) == len(set(bins))


def test_a_poisson_number_arrives_with_the_rhythm_of_local_hours_and_weekdays(payments: pd.DataFrame) -> None:
    about, local = described_traffic(), payments["arrived_at"].dt.tz_convert(ZoneInfo("America/Mexico_City"))
    for initiator, share in (("CIT", 1 - about.mit_share), ("MIT", about.mit_share)):
        expected = DAYS * PER_DAY * share
        mine = local[payments["initiator"] == initiator]
        assert poisson.sf(len(mine) - 1, expected) > 1e-4
        assert poisson.cdf(len(mine), expected) > 1e-4
        # Two whole weeks hold each local weekday and hour twice, so that both rhythms are marginals of a product.
        for values, weights in ((mine.dt.hour, about.hours), (mine.dt.day_of_week, about.weekdays)):
            cells = expected * np.array(weights[initiator]) / np.sum(weights[initiator])
            counts = np.bincount(values, minlength=len(cells))
            chi_square = ((counts - cells) ** 2 / cells).sum()  # mean len(cells), variance 2 len(cells) and a bit
            assert chi_square < len(cells) + STANDARD_ERRORS * np.sqrt(2 * len(cells) + (1 / cells).sum())


def test_merchant_initiated_payments_are_of_stored_cards_and_fall_due(payments: pd.DataFrame) -> None:
    is_mit = payments["initiator"] == "MIT"
    assert set(payments["initiator"]) == {"CIT", "MIT"}
    assert payments.loc[is_mit, "stored_credential"].astype(bool).all()
    assert payments.loc[~is_mit, "stored_credential"].astype(bool).mean() < 0.5
    assert payments.loc[~is_mit, "due_at"].isna().all()
    late = payments.loc[is_mit, "arrived_at"] - payments.loc[is_mit, "due_at"]
    assert late.min() >= pd.Timedelta(0)
    assert late.max() < pd.Timedelta(hours=1)


def test_amounts_are_lognormal_with_the_documents_median(payments: pd.DataFrame) -> None:
    plain = [name for name, bank in described_traffic().banks.items() if bank.amount_factor == 1]
    for currency, amount in described_traffic().amounts.items():
        rows = payments[(payments["currency"] == currency) & payments["bank"].isin(plain)
                        & (payments["initiator"] == "CIT")]
        logs = np.log(rows["amount_usd"])
        assert len(logs) > 30
        assert abs(logs.mean() - np.log(amount.median_usd)) < STANDARD_ERRORS * amount.sigma / np.sqrt(len(logs))
        assert abs(logs.std() - amount.sigma) < STANDARD_ERRORS * amount.sigma / np.sqrt(2 * len(logs))


def test_instalments_are_for_pesos_on_mexican_cards_that_a_customer_asks_for(payments: pd.DataFrame) -> None:
    terms = described_traffic().installments
    qualifies = ((payments["currency"] == "MXN") & (payments["card_country"] == "MX")
                 & (payments["initiator"] == "CIT") & (payments["amount_usd"] >= terms.least_usd))
    paid_over = payments["installments"] > 1
    assert not (paid_over & ~qualifies).any()
    assert set(payments.loc[paid_over, "installments"]) == set(terms.months)
    error = np.sqrt(terms.share * (1 - terms.share) / qualifies.sum())
    assert abs(paid_over[qualifies].mean() - terms.share) < STANDARD_ERRORS * error


def test_customers_return_and_a_few_of_them_often(payments: pd.DataFrame) -> None:
    pool = round(DAYS * PER_DAY * described_traffic().customers_per_payment)
    counts = np.concatenate([payments["customer_id"].value_counts().to_numpy(),
                             np.zeros(pool - payments["customer_id"].nunique())])
    # Poisson given a lognormal rate: variance / mean = 1 + mean (exp(sigma^2) - 1); 1 were all alike.
    mean = counts.mean()
    expected = 1 + mean * np.expm1(described_traffic().frequency_sigma**2)
    assert 0.5 * expected < counts.var() / mean < 2 * expected
    assert payments.groupby("card_token")["customer_id"].nunique().max() == 1
    assert payments.groupby("customer_id")["device"].nunique().max() == 1


def test_the_same_arguments_give_the_same_trace_and_another_seed_another(table: pa.Table) -> None:
    assert make_trace(DAYS, PER_DAY, SEED).equals(table)
    other = make_trace(DAYS, PER_DAY, SEED + 1)
    assert other["arrived_at"][0] != table["arrived_at"][0]
    assert make_trace(1, 50, SEED, datetime(2026, 3, 2, 12, tzinfo=UTC))["arrived_at"][0].as_py() >= datetime(
        2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(("days", "per_day"), [(0, 100.0), (-1, 100.0), (3, 0.0), (3, float("nan")), (3, 1e9)])
def test_nothing_to_make_is_bad_input(days: int, per_day: float) -> None:
    with pytest.raises(BadInput):
        make_trace(days, per_day, SEED)


def test_legacy_names_banks_that_exist_and_ranks_as_logged_first_does() -> None:
    order = ["MIT", "Elavon", "Worldpay"]
    route: Any = legacy_policy().route
    for rule in route.parameters.rules:
        banks = rule.when.get("bank", [])
        assert set(banks) <= set(described_traffic().banks)
        if isinstance(rule.to, Split) and rule.when["currency"] == "MXN":
            assert list(rule.to.split) == order
            weights = list(rule.to.split.values())
            assert weights == sorted(weights, reverse=True)  # the others follow by weight: always in this order


def test_the_worlds_effects_name_what_exists() -> None:
    world, about = described_world(), described_traffic()
    known = {"processor": set(world.processors), "bank": set(about.banks), "currency": set(about.amounts),
             "initiator": {"CIT", "MIT"}, "channel": set(about.channels), "hour": {str(h) for h in range(24)}}
    predictors = [world.issuer.approval, *(block.odds for block in world.issuer.blocks.values())]
    for term in (term for predictor in predictors for term in predictor.terms):
        for level in (each for each in term.effects if term.by):
            for column, value in zip(term.by, level.split("|"), strict=True):
                assert value in known[column]
    shares = [*world.issuer.judgement_codes.values(), *(block.codes for block in world.issuer.blocks.values())]
    for codes in shares:
        assert set(codes) <= set(world.codes)
        assert sum(codes.values()) == pytest.approx(1)


# --- the levels of first attempts, against the model's own probabilities


def _without_outages() -> Model:
    world = described_world()
    for processor in world.processors.values():
        processor.outages = None
    world.joint_outages = []
    return world


def _linear(predictor: Predictor, row: dict[str, Any]) -> float:
    """The predictor on one payment, by the definition in the model's document."""
    total = predictor.intercept
    for term in predictor.terms:
        effect = term.effects.get("|".join(row[column] for column in term.by), 0.0)
        total += effect * (np.log(row["amount_usd"]) - term.centre if term.of else 1.0)
    return total


def _log_and_theory() -> tuple[AttemptLog, pd.DataFrame]:
    """A simulation without outages, and for each first attempt what the model says of it before it is sent."""
    world = _without_outages()
    trace = Trace(make_trace(7, 3000, SEED), world.timezone)
    log = Engine(trace, IssuerDecisions(World(world), trace), legacy_factory()(), Luck(SEED)).run().log
    attempts = log.attempts.to_pandas()
    first = attempts[attempts["attempt_number"] == 1][["payment_id", "processor", "outcome", "decline_code"]]
    payments = log.payments.to_pandas()
    payments = payments[payments["previous_payment_id"].isna()]  # a card that comes back keeps its block
    frame = payments.merge(first, on="payment_id")
    local = frame["arrived_at"].dt.tz_convert(ZoneInfo(world.timezone))
    frame["hour"] = local.dt.hour.astype(str)
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    issuer = world.issuer
    theory = []
    for row in frame.to_dict("records"):
        processor = world.processors[row["processor"]]
        technical = sum(processor.technical.values())
        odds = {name: np.exp(_linear(block.odds, row)) for name, block in issuer.blocks.items()}
        total = 1 + sum(odds.values())
        logit = _linear(issuer.approval, row)
        judged = float(weights @ special.expit(logit + issuer.frailty_sd * nodes))
        in_time = 1 - float(processor.latency.approved.sf(np.array([processor.timeout_s * 1000]))[0])
        theory.append({"approved": (1 - technical) / total * judged * in_time,
                       "funds": (1 - technical) * odds["funds"] / total, "technical": technical,
                       "issuer_declines": (1 - technical) * (1 - judged / total)})
    return log, pd.concat([frame, pd.DataFrame(theory).add_prefix("p_")], axis=1)


@pytest.fixture(scope="module")
def theory() -> pd.DataFrame:
    return _log_and_theory()[1]


def _assert_near(happened: pd.Series, expected: pd.Series) -> None:
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs(happened.sum() - expected.sum()) < STANDARD_ERRORS * error


def test_first_attempts_are_approved_as_often_as_the_model_says(theory: pd.DataFrame) -> None:
    approved = theory["outcome"] == "approved"
    _assert_near(approved, theory["p_approved"])
    for column in ("processor", "initiator", "currency", "card_country"):
        for _, group in theory.groupby(column):
            _assert_near(approved[group.index], group["p_approved"])


def test_first_attempts_fail_for_the_models_reasons(theory: pd.DataFrame) -> None:
    _assert_near(theory["decline_code"] == "51", theory["p_funds"])
    _assert_near(theory["decline_code"].isin(["96", "TO"]), theory["p_technical"])


def test_levels_are_plausible_for_an_airline(theory: pd.DataFrame) -> None:
    assert 0.78 < theory["p_approved"].mean() < 0.86
    assert 0.43 < theory["p_funds"].sum() / theory["p_issuer_declines"].sum() < 0.49
    assert 0.002 < theory["p_technical"].mean() < 0.008
