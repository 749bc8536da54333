"""Dunning ladders by name: on which days the billing platforms and the card networks have a failed charge tried again.

Facts and where they stand, as data; ``ladder.py`` follows them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rungs:
    """``days`` of the retries, counted from the first failure, and where the ladder ends before its days do.

    ``most_declines`` counts the declines of the payment, ``most_attempts`` its attempts, the first included;
    ``within_days`` counts from its arrival.
    """

    days: tuple[float, ...]
    source: str
    most_declines: int | None = None
    most_attempts: int | None = None
    within_days: float | None = None


_MINUTE, _HOUR = 1 / 1_440, 1 / 24

LADDERS: dict[str, Rungs] = {
    "stripe": Rungs(
        days=tuple(1.75 * each for each in range(1, 9)),
        source="docs.stripe.com/billing/revenue-recovery/smart-retries, 2026: 8 tries within 2 weeks are recommended; "
        "Stripe chooses their moments by machine learning, here they are spread evenly",
    ),
    "recurly": Rungs(
        days=tuple(3.0 * each for each in range(1, 20)),
        most_declines=7,
        most_attempts=20,
        within_days=60,
        source="docs.recurly.com, static retries, 2026-07-07: ends after 7 declines, 20 attempts or 60 days; the rungs "
        "are its interval of 3 days for an issuer or gateway that is unavailable",
    ),
    "yuno": Rungs(
        days=(5 * _MINUTE, 60 * _MINUTE, 5 * _HOUR, 1.0, 2.0, 4.0),
        source="docs.y.uno, Smart Retries, 2026: the latest moments of its tries 2 to 7 after the first",
    ),
    "weekly": Rungs(
        days=(7.0, 14.0, 21.0, 28.0),
        source="ours: the plainest ladder of a monthly subscription, four weeks long",
    ),
    "card_networks": Rungs(
        days=(1.0, 2.0, 4.0, 6.0, 8.0, 10.0),
        source="the waits that Mastercard's merchant advice codes 25 to 30 advise, as processors' public documents "
        "list them; six retries in 10 days stay far below Visa's 20 in 30 days (Visa Core Rules, 2026-04-18) and "
        "Mastercard's 10 in a day",
    ),
}
"""Every ladder that has a name."""
