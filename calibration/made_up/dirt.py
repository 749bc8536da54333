"""Dirt as real extracts have it: rows that come twice or out of order, rows lost, banks unknown, spellings mixed.

Each kind touches a row by a draw keyed by the row's own name, so that a change of one rate moves no other.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from routesim.sim.arrays import Bools
from routesim.sim.draws import generator, identities, key, uniforms

#: Share of rows that each kind of dirt touches.
DIRT: Mapping[str, float] = {
    "replayed_attempts": 0.004,  # VW_ATHENA_PAYMENT_ATTEMPT rows that are there twice
    "replayed_events": 0.001,  # the same of VW_ATHENA_PAYMENT_EVENTS
    "missing_bank": 0.02,  # payments whose BIN look-up failed, so that neither they nor their attempts name a bank
    "upper_case_brand": 0.05,  # payments whose brand is spelt in upper case
    "title_case_bank": 0.03,  # payments whose bank is not spelt in upper case
    "lost_smart_routing": 0.03,  # VW_SMART_ROUTING_ATTEMPTS rows that never arrived
}
_SHUFFLED = ("VW_ATHENA_PAYMENT_ATTEMPT", "VW_ATHENA_PAYMENT_EVENTS", "VW_SMART_ROUTING_ATTEMPTS")


def soil(views: Mapping[str, pa.Table], seed: int) -> dict[str, pa.Table]:
    """The views with the dirt of DIRT; those in ``_SHUFFLED`` also come in no order."""
    soiled = dict(views)
    for view, brand in (("VW_ATHENA_PAYMENT", "CARD_BRAND"),
                        ("VW_ATHENA_PAYMENT_ATTEMPT", "PAYMENT_ATTEMPT_CARD_BRAND")):
        soiled[view] = _misspelt(soiled[view], brand, seed)
    for view, kind, name in (("VW_ATHENA_PAYMENT_ATTEMPT", "replayed_attempts", ["PAYMENT_ATTEMPT_ID"]),
                             ("VW_ATHENA_PAYMENT_EVENTS", "replayed_events",
                              ["PAYMENT_ATTEMPT_ID", "PAYMENT_ATTEMP_EVENT_INDEX"])):
        again = soiled[view].filter(pa.array(_touched(soiled[view], name, kind, seed)))
        soiled[view] = pa.concat_tables([soiled[view], again])
    view = "VW_SMART_ROUTING_ATTEMPTS"
    soiled[view] = soiled[view].filter(pa.array(~_touched(soiled[view], ["ATTEMPT_ID"], "lost_smart_routing", seed)))
    for view in _SHUFFLED:
        order = generator("made-up", seed, "order of rows", view).permutation(soiled[view].num_rows)
        soiled[view] = soiled[view].take(pa.array(order))
    return soiled


def _touched(table: pa.Table, name: list[str], kind: str, seed: int) -> Bools:
    names = (" ".join(map(str, row)) for row in zip(*(table[n].to_pylist() for n in name), strict=True))
    return uniforms(identities(names), key("made-up", seed, "dirt", kind)) < DIRT[kind]


def _misspelt(table: pa.Table, brand: str, seed: int) -> pa.Table:
    # By payment, so that a payment and its attempts agree, as columns of one join do.
    missing, upper, title = (pa.array(_touched(table, ["PAYMENT_ID"], kind, seed)) for kind in
                             ("missing_bank", "upper_case_brand", "title_case_bank"))
    bank = pc.if_else(title, pc.utf8_title(table["BANK"]), table["BANK"])
    table = table.set_column(table.column_names.index("BANK"), table.schema.field("BANK"),
                             pc.if_else(missing, pa.scalar(None, pa.string()), bank))
    return table.set_column(table.column_names.index(brand), table.schema.field(brand),
                            pc.if_else(upper, pc.utf8_upper(table[brand]), table[brand]))
