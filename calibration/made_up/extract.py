"""The merchant's database after a simulation: the views of PAYMENT_ML, as an extract would hold them.

Conventions: times are UTC without a zone; amounts are USD; a payment's time is told to the second, an attempt's
request and answer by its events (index 1 and 2, type AUTHORIZATION) to the microsecond; a timeout has the code TO and
the status ERROR; what was under way when the database was copied is PENDING. PROPERTIES_RESULT_PROCESS_TIME is in ms,
ORIGINAL_TIMESTAMP the time of the answer. MCI_MSI_TYPE holds the initiator. PREVIOUS_ORDER_* tell the last code and
processor of the failed payment of the same order that a payment follows; NUM_ATTEMPTS_ORDER counts the attempts of
the order's later payments too. Nothing that tells who a person is has a value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from routesim.calibration.made_up.cut import Cut
from routesim.calibration.made_up.described import view_schemas
from routesim.calibration.made_up.facts import (
    CHANNEL_IDS,
    PROCESSOR_IDS,
    Columns,
    Facts,
    Object,
    as_table,
    categories,
    date_and_time,
    naive,
    or_none,
    texts,
)
from routesim.calibration.made_up.rules import MerchantRules
from routesim.sim.arrays import Floats, Ints
from routesim.sim.draws import identities, key, uniforms

_ALGORITHM = "static_rules"
_CAPTURE_S = 1.5  # the merchant captures this long after the approval
_REFUND_SHARE, _REFUND_H = 0.012, 96.0  # purchases that are refunded, within so many hours
_RECEIVED_S = 0.12  # the router's own log arrives this much later


def extract(cut: Cut, rules: MerchantRules, merchant: str, timeout_code: str, start_s: float, end_s: float,
            seed: int) -> dict[str, pa.Table]:
    """Every view of the extract, clean and in order of time, by name."""
    facts = Facts(cut, rules, merchant, timeout_code)
    rows: dict[str, Columns] = {
        "VW_ATHENA_CHANNEL": {"CHANNEL_ID": list(CHANNEL_IDS.values()),
                              "CHANNEL_NAME": [name.upper() for name in CHANNEL_IDS]},
        "VW_ATHENA_ORDER": _orders(facts),
        "VW_ATHENA_ORDER_COMPLEMENT": _complement(facts),
        "VW_ATHENA_PAYMENT": _payments(facts),
        "VW_ATHENA_PAYMENT_ATTEMPT": _attempts(facts),
        "VW_ATHENA_PAYMENT_EVENTS": _events(facts, end_s, seed),
        "VW_ATHENA_TARGET_USER": _users(facts, end_s),
        "VW_SMART_ROUTING_ATTEMPTS": _smart_routing(facts),
        **_airline(facts),
    }
    schemas = view_schemas()
    views = {view: as_table(schemas[view], columns) for view, columns in rows.items()}
    for view, listed in rules.views(merchant, PROCESSOR_IDS).items():
        views[view] = pa.Table.from_pylist(listed, schemas[view])
    if rules.rules:
        view = "VW_ROUTING_MERCHANT_RULE"
        since = naive(np.full(views[view].num_rows, start_s))
        for column in ("CREATED_AT", "UPDATED_AT"):
            views[view] = views[view].set_column(schemas[view].get_field_index(column), column, since)
    views["ALL_VIEWS_FLAT"] = _flat(views, facts)
    return views


def _orders(facts: Facts) -> Columns:
    orders, first = facts.orders, facts.first_of_order
    approved = orders["approved"].to_numpy()
    retried = (facts.attempts["outcome"] == "approved") & (facts.attempts["attempt_number"] > 1)
    recovered = np.unique(facts.payments["order"].to_numpy()[facts.attempts.loc[retried, "row"].to_numpy()])
    amount, stored = first["amount_usd"].to_numpy(), first["stored_credential"].to_numpy(bool)
    date, time = date_and_time(first["arrived_s"].to_numpy())
    n = len(orders)
    return {
        "COMMERCE_ID": [facts.merchant] * n, "TARGET_USER_ID": first["customer_id"],
        "USER_ACCOUNT_ID": or_none(stored, ("A" + first["customer_id"]).to_numpy(object)),
        "CHANNEL_ID": first["channel"].map(CHANNEL_IDS), "ORDER_ID": first["order_id"], "ORDER_DATE": date,
        "ORDER_TIME": time, "ORDER_STATUS": np.where(approved, "succeeded", "failed").astype(object),
        "ORDER_APPROVED_INDICATOR": approved,
        "ORDER_SEND_TO_SMART_ROUTING_INDICATOR": orders["attempts"].to_numpy() > 0,
        "ORDER_RECOVERED_BY_SMART_ROUTING_INDICATOR": np.isin(np.arange(n), recovered),
        "ORDER_DENIED_BY_FRAUD_INDICATOR": np.zeros(n, dtype=bool), "ORDER_ORIGINAL_GMV_AMOUNT": amount,
        "ORDER_GMV_AMOUNT_USD": amount, "ORDER_AUTH_AMOUNT_USD": np.where(approved, amount, 0.0),
        "ORDER_TOTAL_AMOUNT_USD": amount, "PAYMENT_CURRENCY": first["currency"], "CARD_COUNTRY": first["card_country"],
        "USER_IS_GUEST": ~stored,
    }


def _complement(facts: Facts) -> Columns:
    first = facts.first_of_order
    challenged = first["three_ds"].to_numpy(bool)
    return {"COMMERCE_ID": [facts.merchant] * len(first), "CHANNEL_ID": first["channel"].map(CHANNEL_IDS),
            "ORDER_ID": first["order_id"], "CHALLENGE_3DS_INDICATOR": challenged,
            "CHALLENGE_3DS_STATUS": or_none(challenged, np.full(len(first), "COMPLETED", dtype=object))}


def _payments(facts: Facts) -> Columns:
    payments, attempts = facts.payments, facts.attempts
    date, time = date_and_time(payments["arrived_s"].to_numpy())
    failed = ~payments["approved"].to_numpy()
    processor = facts.of_last(attempts["processor"].to_numpy(object))
    code = facts.of_last(facts.code)
    status = np.where(failed, "denied", "processed").astype(object)
    status[facts.of_last(facts.status) == "PENDING"] = "pending"
    before = payments["forerunner"].to_numpy()
    count = payments["attempts"].to_numpy()
    first, last = payments["first"].to_numpy(), payments["last"].to_numpy()
    sent = attempts["sent_s"].to_numpy()
    apart = np.full(len(payments), np.nan)
    several = count > 1
    apart[several] = (sent[last[several]] - sent[first[several]]) / (count[several] - 1)
    category = facts.of_last(facts.category)
    processor_id = facts.of_last(facts.processor_id)
    return {
        "PAYMENT_ID": payments["payment_id"], "ORDER_ID": payments["order_id"],
        "COMMERCE_ID": [facts.merchant] * len(payments), "PAYMENT_DATE": date, "PATMENT_TIME": time,
        "PAYMENT_STATUS": status, "PROCESSOR_NAME": processor, "CARD_BIN": payments["card_bin"],
        "CARD_BRAND": payments["card_brand"], "BANK": facts.bank,
        "NUM_ATTEMPTS_ORDER": facts.orders["attempts"].to_numpy()[payments["order"].to_numpy()],
        "NUM_ATTEMPTS_SMART_ROUTING": count,
        "ERROR_MESSAGE": [c if c is None else c.replace("_", " ").capitalize() for c in category],
        "ERROR_CODE": code, "ERROR_CATEGORY": category, "PAYMENT_AMOUNT_USD": payments["amount_usd"],
        "HARD_SOFT": facts.of_last(facts.kind), "RULE_ID": facts.rule_id,
        "PROPERTIES_RULES_LABEL": facts.rule_label, "MERCHANT_PAYMENT_PROCESSOR_NAME": processor,
        "MERCHANT_PAYMENT_PROCESSOR_ID": texts(processor_id),
        "PREVIOUS_ORDER_ERROR_CODE": or_none(before >= 0, code[before]),
        "PREVIOUS_ORDER_PROCESSOR": or_none(before >= 0, processor[before]), "MCI_MSI_TYPE": payments["initiator"],
        "AVG_SEC_BETWEEN_PAYMENT_ATTEMPS": pa.array(apart, mask=np.isnan(apart)),
    }


def _attempts(facts: Facts) -> Columns:
    attempts = facts.attempts
    row = attempts["row"].to_numpy()
    number = attempts["attempt_number"].to_numpy()
    approved = (attempts["outcome"] == "approved").to_numpy()
    return {
        "PAYMENT_ATTEMPT_ID": attempts["attempt_id"], "PAYMENT_ID": facts.of_payment("payment_id"),
        "ORDER_ID": facts.of_payment("order_id"), "PAYMENT_ATTEMPT_SEQUENCE_ORDER": number,
        "PAYMENT_LAST_ATTEMPT_INDICATOR": attempts["is_last"], "PAYMENT_ATTEMPT_STATUS": facts.status,
        "PAYMENT_ATTEMPT_PROCESSOR_NAME": attempts["processor"],
        "PAYMENT_ATTEMPT_PROCESSOR_CODE": facts.processor_code, "PAYMENT_ATTEMPT_ERROR_CODE": facts.code,
        "PAYMENT_ATTEMPT_ERROR_CATEGORY": facts.category, "PAYMENT_ATTEMPT_HARD_SOFT_TYPE": facts.kind,
        "PAYMENT_ATTEMPT_RETRY_INDICATOR": np.where(number > 1, "true", "false").astype(object),
        "PAYMENT_ATTEMPT_APPROVED_INDICATOR": approved,
        # The owner's denominator, as we take it: attempts on which an issuer spoke.
        "PAYMENT_ATTEMPT_ACCEPTANCE_RATE_INDICATOR": approved | (attempts["outcome"] == "declined").to_numpy(),
        "PAYMENT_ATTEMPT_AMOUNT_USD": facts.payments["amount_usd"].to_numpy()[row],
        "PAYMENT_ATTEMPT_CARD_BRAND": facts.of_payment("card_brand"), "CARD_BIN": facts.of_payment("card_bin"),
        "BANK": facts.bank[row], "PAYMENT_ATTEMPT_METHOD_TYPE": ["credit_card"] * len(row),
        "DYNAMIC_ROUTING_DETAIL": [f'{{"algorithm": "{_ALGORITHM}", "position": {p}}}' for p in number],
        "RULE_ID": facts.rule_id[row],
        "MERCHANT_PAYMENT_PROCESSOR_ID": texts(facts.processor_id),
    }


def _events(facts: Facts, end_s: float, seed: int) -> Columns:
    """Request and answer of every attempt; the capture of those approved, and the refund of some."""
    attempts, n = facts.attempts, len(facts.attempts)
    ids = attempts["attempt_id"].to_numpy(object)
    amount = facts.payments["amount_usd"].to_numpy()[attempts["row"].to_numpy()]
    answered = attempts["answered_s"].to_numpy()
    approved = (attempts["outcome"] == "approved").to_numpy()
    captured_s = answered + _CAPTURE_S
    u, when = (uniforms(identities(ids), key("made-up", seed, purpose)) for purpose in ("refund", "refund time"))
    refunded_s = captured_s + when * _REFUND_H * 3600
    everything, none = np.arange(n), np.full(n, None, dtype=object)
    kinds: list[tuple[int, str, Object, Floats, Ints, Object]] = [
        (1, "AUTHORIZATION", np.full(n, "REQUESTED", dtype=object), attempts["sent_s"].to_numpy(), everything, none),
        (2, "AUTHORIZATION", facts.status, answered, np.flatnonzero(~attempts["pending"].to_numpy()), facts.code),
        (3, "CAPTURE", np.full(n, "APPROVED", dtype=object), captured_s,
         np.flatnonzero(approved & (captured_s < end_s)), none),
        (4, "REFUND", np.full(n, "APPROVED", dtype=object), refunded_s,
         np.flatnonzero(approved & (u < _REFUND_SHARE) & (refunded_s < end_s)), none),
    ]
    rows = np.concatenate([each for *_, each, _ in kinds])
    index = np.concatenate([np.full(len(each), i) for i, *_, each, _ in kinds])
    order = np.lexsort((index, rows))
    at = np.concatenate([moment[each] for _, _, _, moment, each, _ in kinds])[order]
    code = np.concatenate([codes[each] for *_, each, codes in kinds])[order]
    return {
        "PAYMENT_ATTEMPT_ID": ids[rows[order]], "PAYMENT_ATTEMP_EVENT_INDEX": index[order],
        "EVENT_TYPE": np.concatenate([np.full(len(each), kind, dtype=object)
                                      for _, kind, _, _, each, _ in kinds])[order],
        "EVENT_STATUS": np.concatenate([status[each] for _, _, status, _, each, _ in kinds])[order],
        "EVENT_CREATED_AT": naive(at), "EVENT_ORIGINAL_TOTAL_AMOUNT": amount[rows[order]], "EVENT_ERROR_CODE": code,
        "EVENT_ERROR_STANDARD_ERROR_CODE": code, "EVENT_ERROR_STANDARD_ERROR_MESSAGE": categories(code),
    }


def _users(facts: Facts, end_s: float) -> Columns:
    grouped = facts.payments.groupby("customer_id", sort=True)
    first = grouped.first()
    begun, ended = grouped["arrived_s"].min().to_numpy(), grouped["arrived_s"].max().to_numpy()
    desktop = (first["device"] == "desktop").to_numpy()
    orders = grouped["order"].nunique().to_numpy()
    return {
        "TARGET_USER_ID": first.index.to_numpy(object), "COMMERCE_ID": [facts.merchant] * len(first),
        "TARGET_USER_DEVICE": first["device"], "TARGET_USER_EQUIPMENT": np.where(desktop, "computer", "handheld"),
        "TARGET_USER_FAVORITE_PAYMENT_METHOD": ["credit_card"] * len(first),
        "TARGET_USER_FAVORITE_CARD_BRAND": first["card_brand"], "TARGET_USER_FAVORITE_BANK": first["bank"].str.upper(),
        "TARGET_USER_ACCESS_COUNTRY_CODE": first["card_country"], "TARGET_USER_FIRST_PURCHASE_DATE": naive(begun),
        "TARGET_USER_LAST_PURCHASE_DATE": naive(ended),
        "TARGET_USER_TENURE_IN_DAYS": ((end_s - begun) // 86_400).astype(np.int64),
        "TARGET_USER_RECENCY_VALUE": (end_s - ended) / 86_400, "TARGET_USER_FREQUENCY_VALUE": orders.astype(np.float64),
        "TARGET_USER_MONETARY_VALUE": grouped["amount_usd"].mean().to_numpy(), "TARGET_USER_NUM_ORDERS_VALUE": orders,
    }


def _smart_routing(facts: Facts) -> Columns:
    """The router's own log, by time of answer."""
    answered = np.flatnonzero(~facts.attempts["pending"].to_numpy())
    answered = answered[np.argsort(facts.attempts["answered_s"].to_numpy()[answered], kind="stable")]
    attempts = facts.attempts.iloc[answered]
    row = attempts["row"].to_numpy()
    payments, n = facts.payments, len(answered)
    at = attempts["answered_s"].to_numpy()
    return {
        "ATTEMPT_ID": np.arange(n), "PROPERTIES_TRANSACTION_ID": payments["payment_id"].to_numpy(object)[row],
        "PROPERTIES_MERCHANT_ID": [facts.merchant] * n, "PROPERTIES_ALGORITHM_TYPE": [_ALGORITHM] * n,
        "RULE_ID": [i if i is None else int(i) for i in facts.rule_id[row]],
        "PROPERTIES_GATEWAY": np.ones(n, dtype=bool), "PROPERTIES_PAYMENT_PROCESSOR_ID": facts.processor_id[answered],
        "PROPERTIES_PROCESSOR_CODE": facts.processor_code[answered],
        "PROPERTIES_RESULT_STATUS": facts.status[answered], "PROPERTIES_RESULT_ERROR_CODE": facts.code[answered],
        "PROPERTIES_RESULT_PROCESS_TIME": np.round(attempts["latency_ms"].to_numpy(), 1),
        "PROPERTIES_FRANCHISE": payments["card_brand"].to_numpy(object)[row],
        "PROPERTIES_COUNTRY": payments["card_country"].to_numpy(object)[row],
        "PROPERTIES_ORDER_VALUE": payments["amount_usd"].to_numpy()[row], "ORIGINAL_TIMESTAMP": naive(at),
        "RECEIVED_AT": naive(at + _RECEIVED_S),
    }


def _airline(facts: Facts) -> dict[str, Columns]:
    first = facts.first_of_order
    abroad = (first["card_country"] != "MX").to_numpy()
    return {
        "VW_ORDER_AIRLINE_DETAIL_ALL": {"ORDER_ID": first["order_id"],
                                        "BOOKINGISINTERNATIONAL": np.where(abroad, "true", "false").astype(object)},
        "VW_ORDER_AIRLINE_INFORMATION_DETAIL_ALL": {"ORDER_ID": first["order_id"],
                                                    "TOTAL_AMOUNT_USD": first["amount_usd"]},
    }


def _flat(views: Mapping[str, pa.Table], facts: Facts) -> pa.Table:
    """A row an attempt: what the other views tell of it, of its payment and of its order."""
    row = facts.attempts["row"].to_numpy()
    order = facts.payments["order"].to_numpy()[row]
    # The later of these gives a column that several of them have.
    joined = [("VW_ATHENA_ORDER", order), ("VW_ATHENA_PAYMENT", row),
              ("VW_ATHENA_PAYMENT_ATTEMPT", np.arange(len(row)))]
    schema = view_schemas()["ALL_VIEWS_FLAT"]
    columns: Columns = {}
    for view, at in joined:
        for name in views[view].column_names:
            if name in schema.names:
                columns[name] = views[view][name].take(pa.array(at)).combine_chunks()
    approved = facts.orders["approved"].to_numpy()[order]
    columns |= {
        "SOURCE_TABLE_NAME": ["VW_ATHENA_PAYMENT_ATTEMPT"] * len(row), "ORDER_REJECTED_INDICATOR": ~approved,
        "PROPERTIES__RULES_LABEL": facts.rule_label[row], "EVENT_TYPE": ["AUTHORIZATION"] * len(row),
        "EVENT_STATUS": facts.status, "EVENT_ERROR_CODE": facts.code,
        "CHANNEL_NAME": np.array([name.upper() for name in facts.payments["channel"]], object)[row],
    }
    return as_table(schema, columns)
