"""Columns into an Arrow table that fits one of ours, and the numbers of our enumerations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa

from flows.storage.tables import SCHEMAS

HOPS: Final = {"capture": 1, "transport": 2, "decode": 3, "window": 4, "store": 5}
RANKINGS: Final = {"packets": 1, "bytes": 2}
LOAD_STATES: Final = {"running": 1, "finished": 2, "incomplete": 3}
ALERT_EVENTS: Final = {
    "pending": 1, "fired": 2, "updated": 3, "resolved": 4, "muted": 5, "dropped": 6,
}  # fmt: skip
ALERT_ACTIONS: Final = {"ack": 1, "close": 2}
VERDICTS: Final = {"none": 0, "true_positive": 1, "false_positive": 2, "benign": 3}
AUTHORS: Final = {"template": 1, "model": 2}
ENRICHMENT_STATUSES: Final = {
    "none": 0, "pending": 1, "done": 2, "partial": 3, "failed": 4, "budget": 5,
}  # fmt: skip
DELIVERY_STATES: Final = {"delivered": 1, "refused": 2, "superseded": 3}

PER_PROBE: Final = ("flows", "totals", "ledger", "flows_1m", "flows_1h", "dropped")
"""Additive tables whose rows belong to a probe."""

RESULTS: Final = ("distinct_counts_log", "heavy_hitters_log", "spreaders_log", "sketches_log")
"""Tables of versioned results, whose rows belong to a tenant."""


def build(table: str, values: Mapping[str, Any]) -> pa.Table:
    """Make rows of a table from a column each: Arrow arrays, numpy arrays or lists.

    Raises:
        KeyError: a column is missing.
        pyarrow.ArrowInvalid: a value doesn't fit its column.
    """
    schema = SCHEMAS[table]
    columns = []
    for field in schema:
        column = values[field.name]
        if not isinstance(column, pa.Array):
            column = pa.array(column, field.type)
        elif column.type != field.type:
            column = column.cast(field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
