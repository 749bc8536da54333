"""Outlier ejection: failures in a row eject a processor from its cluster, each time for longer."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from routesim.policies.description import Description
from routesim.policies.durations import PositiveDuration, parse_duration
from routesim.policies.failover.passing import Failures, admission_of
from routesim.policies.failover.scope import Per, cluster
from routesim.policies.parts import Admission
from routesim.policies.vocabulary import Answer, Choice, Draw, Payment, SkipReason, View


class OutlierEjection(Description):
    """Failures in a row eject a processor for a time that grows with every ejection and shrinks in good health."""

    source: ClassVar[str] = (
        "Envoy v1.28 to v1.35, outlier detection, consecutive gateway failures: 5 in a row, sweeps every 10 s, 30 s "
        "times the ejections up to 300 s, at most 10 % of the hosts. Envoy enforces this kind at 0 % unless told "
        "otherwise (consecutive 5xx, also 5 in a row, at 100 %); here it is always enforced. That one may always be "
        "ejected was Envoy's rule and is an option of its later versions"
    )

    per: Per = Field(default=["processor"])
    failures: Failures = Field(default=["timeout", "unavailable"])
    consecutive_failures: int = Field(default=5, ge=1, description="failures in a row that eject at once")
    sweep_every: PositiveDuration = Field(
        default="10s", description="how often the ejected are looked at; they come back at a sweep"
    )
    eject_for: PositiveDuration = Field(default="30s", description="the first ejection; the second is twice as long...")
    eject_for_at_most: PositiveDuration = Field(default="300s", description="the longest ejection")
    max_ejected_share: float = Field(
        default=0.1, ge=0, le=1, description="share of the processors seen that may be ejected at one time"
    )
    always_eject_one: bool = Field(default=True, description="whether one may be ejected whatever the share")

    @model_validator(mode="after")
    def _longest_is_longest(self) -> OutlierEjection:
        if parse_duration(self.eject_for_at_most) < parse_duration(self.eject_for):
            raise ValueError(f"eject_for_at_most is {self.eject_for_at_most}, shorter than eject_for {self.eject_for}")
        return self


class _Host:
    """A processor: failures in a row, when it was ejected if it is, ``multiplier`` of the next ejection, sweeps had."""

    __slots__ = ("ejected_at", "multiplier", "row", "swept")

    def __init__(self, swept: int) -> None:
        self.row = 0
        self.ejected_at: float | None = None
        self.multiplier = 0
        self.swept = swept


class OutlierEjectionFailover:
    """The failover that OutlierEjection describes.

    Sweeps fall on whole multiples of their interval since the epoch. At a sweep an ejected processor whose time is
    over comes back with a clean row, and a healthy one's multiplier falls by one. Sweeps are not events: each host is
    brought up to date when it is looked at, to the same end. When all are ejected the first of what remains is tried.
    """

    def __init__(self, description: OutlierEjection) -> None:
        self._failures = frozenset(description.failures)
        self._limit = description.consecutive_failures
        self._sweep_s = parse_duration(description.sweep_every)
        self._base_s = parse_duration(description.eject_for)
        self._most_s = parse_duration(description.eject_for_at_most)
        self._share = description.max_ejected_share
        self._always_one = description.always_eject_one
        self._cluster = cluster(description.per)
        self._clusters: dict[Hashable, dict[str, _Host]] = {}

    def admit(self, view: View, draw: Draw, ranked: Sequence[Choice]) -> Admission:
        """Pass over the ejected."""
        hosts = self._clusters.setdefault(self._cluster(view.payment), {})
        left = []
        for choice in ranked:
            host = hosts.get(choice.processor)
            if host is None:
                host = hosts[choice.processor] = _Host(int(view.now // self._sweep_s))
            elif host.ejected_at is not None:
                self._sweep(host, view.now)
            if host.ejected_at is None:
                left.append(choice)
        return Admission(ranked) if len(left) == len(ranked) else admission_of(ranked, left, SkipReason.EJECTED)

    def observe(self, payment: Payment, answer: Answer) -> None:
        """Count the failures in a row; the last of them ejects, where the cluster may lose one more."""
        hosts = self._clusters.setdefault(self._cluster(payment), {})
        now = answer.answered_at
        host = hosts.get(answer.processor)
        if host is None:
            host = hosts[answer.processor] = _Host(int(now // self._sweep_s))
        self._sweep(host, now)
        if answer.outcome not in self._failures:
            host.row = 0
            return
        host.row += 1
        if host.row < self._limit or host.ejected_at is not None:
            return
        host.row = 0
        if self._may_eject(hosts, now):
            host.ejected_at = now
            if host.multiplier * self._base_s < self._most_s + self._base_s:
                host.multiplier += 1

    def _may_eject(self, hosts: dict[str, _Host], now: float) -> bool:
        for host in hosts.values():
            self._sweep(host, now)
        ejected = sum(host.ejected_at is not None for host in hosts.values())
        return (ejected == 0 and self._always_one) or ejected + 1 <= self._share * len(hosts) + 1e-9

    def _sweep(self, host: _Host, now: float) -> None:
        """What the sweeps up to ``now`` have done to a host."""
        sweep = int(now // self._sweep_s)
        if sweep <= host.swept:
            return
        since = host.swept
        if host.ejected_at is not None:
            over = host.ejected_at + min(self._base_s * host.multiplier, self._most_s)
            back = max(math.ceil(over / self._sweep_s), host.swept + 1)
            if back > sweep:
                host.swept = sweep
                return
            host.ejected_at, host.row = None, 0
            since = back
        host.multiplier = max(0, host.multiplier - (sweep - since))
        host.swept = sweep
