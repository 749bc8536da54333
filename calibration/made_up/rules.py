"""The routing rules as the merchant's database would list them, and which of them each payment met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from routesim.policies.catalog import PolicyParts
from routesim.policies.conditions import compile_when
from routesim.policies.route.rules import LoggedFirst, RouteRule, RouteRules, Split
from routesim.sim.arrays import Ints

_STATUS = {"STATUS": "active", "TRIGGER_": "payment", "IGNORE_NEXT_RULES": "true"}


class MerchantRules:
    """The route rules of a policy; none where the policy is not made of rules. A rule's id is its place."""

    def __init__(self, policy: PolicyParts | None) -> None:
        route = policy.route.parameters if policy is not None and policy.route is not None else None
        self.rules: Sequence[RouteRule] = route.rules if isinstance(route, RouteRules) else ()
        self.labels = [_label(rule.when) for rule in self.rules]

    def met_by(self, payments: pd.DataFrame) -> Ints:
        """The rule that routes each payment, (n,); -1 for none."""
        fields = sorted({name for rule in self.rules for name in rule.when})
        if not fields:
            return np.full(len(payments), 0 if self.rules else -1, dtype=np.int64)
        tests = [compile_when(rule.when) for rule in self.rules]
        # Few combinations of the fields that rules look at, many payments.
        columns = (payments[name].astype(object).where(payments[name].notna(), None) for name in fields)
        met: dict[tuple[Any, ...], int] = {}
        rows = list(zip(*columns, strict=True))
        for values in dict.fromkeys(rows):
            payment: Any = SimpleNamespace(**dict(zip(fields, values, strict=True)))
            met[values] = next((i for i, holds in enumerate(tests) if holds(payment)), -1)
        return np.array([met[values] for values in rows], dtype=np.int64)

    def views(self, merchant: str, processor_ids: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
        """Rows of the rule views: rules, their conditions and members, the options that conditions name."""
        options = sorted({name for rule in self.rules for name in rule.when})
        values = sorted({(name, str(value)) for rule in self.rules for name, wanted in rule.when.items()
                         for value in (wanted if isinstance(wanted, list) else [wanted])})
        return {
            "VW_ROUTING_MERCHANT_RULE": [
                {"ID": i, "MERCHANT_ID": merchant, "LABEL": self.labels[i], "PRIORITY": i + 1,
                 "IS_DEFAULT": str(not rule.when).lower(), **_STATUS} for i, rule in enumerate(self.rules)],
            "VW_ROUTING_MERCHANT_RULE_CONDITION": [
                {"MERCHANT_RULE_ID": i, "MERCHANT_RULE_OPTION_ID": options.index(name) + 1,
                 "OPERAND": ",".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted),
                 "OPERAND_FIELD_TO_EVALUATE": name, "OPERATOR": "in" if isinstance(wanted, list) else "equals"}
                for i, rule in enumerate(self.rules) for name, wanted in rule.when.items()],
            "VW_ROUTING_MERCHANT_RULE_MEMBER": [
                {"MERCHANT_RULE_ID": i, "PAYMENT_PROCESSOR_ID": processor_ids.get(name),
                 "MERCHANT_PAYMENT_PROCESSOR_ID": str(processor_ids[name]) if name in processor_ids else None,
                 "STRATEGY": "percentage" if isinstance(rule.to, Split) else "priority", "SORT": sort,
                 "SHADOW_MODE": False}
                for i, rule in enumerate(self.rules) for sort, name in enumerate(_members(rule), start=1)],
            "VW_ROUTING_MERCHANT_RULE_OPTION": [
                {"ID": i, "LABEL": name, "OPERATORS_AVAILABLE": "equals,in"}
                for i, name in enumerate(options, start=1)],
            "VW_ROUTING_MERCHANT_RULE_OPTION_VALUES": [
                {"ID": i, "MERCHANT_RULE_OPTION": options.index(name) + 1, "VALUE_": value}
                for i, (name, value) in enumerate(values, start=1)],
        }


def _members(rule: RouteRule) -> list[str]:
    if isinstance(rule.to, LoggedFirst):
        return rule.to.logged_first
    return [*rule.to.split, *rule.to.then] if isinstance(rule.to, Split) else rule.to


def _label(when: Mapping[str, Any]) -> str:
    said = ["/".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted) for wanted in when.values()]
    return " ".join(said) or "other"
