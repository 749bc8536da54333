"""What a policy can be made of."""

from __future__ import annotations

import pandas as pd

from routesim.policies.listing import listing


def catalog() -> pd.DataFrame:
    """The parts that a scenario's policies are made of, a row a parameter, indexed by (kind, name).

    Columns: ``parameter``, ``type``, ``default`` (None where the parameter is needed), ``meaning``, and of the part
    itself ``doc`` and ``source``. A part without parameters has one row.

    >>> parts = rs.catalog()
    >>> parts.loc[("failover", "circuit_breaker")].set_index("parameter")["default"]["probes"]
    '1'
    """
    rows, index = [], []
    for one in listing():
        parameters: list[tuple[str | None, ...]] = [*one.parameters] or [(None,) * 4]
        for parameter in parameters:
            index.append((one.kind, one.name))
            rows.append((*parameter, one.doc, one.source))
    return pd.DataFrame(rows, pd.MultiIndex.from_tuples(index, names=("kind", "name")),
                        ["parameter", "type", "default", "meaning", "doc", "source"], dtype=object)
