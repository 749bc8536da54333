"""A made-up merchant with a known truth: for demonstrations, for tests, and to judge a calibration by.

``make_trace`` brings the payments, ``described_world`` says how the world answers them, ``legacy_factory`` makes the
merchant's own rules, and ``make_history`` runs the three and writes what the merchant's database would hold.
"""

from routesim.calibration.made_up.described import described_traffic, described_world, legacy_factory, legacy_policy
from routesim.calibration.made_up.dirt import DIRT
from routesim.calibration.made_up.history import make_history
from routesim.calibration.made_up.traffic import make_trace

__all__ = ["DIRT", "described_traffic", "described_world", "legacy_factory", "legacy_policy", "make_history",
           "make_trace"]
