"""Sketches of horizons as rows of ``sketches_log``, so that any span can be asked later.

Counts of distinct elements take up to 2.5 kB each and are kept of every horizon of a minute and
more; the others, up to a megabyte each, of the longest horizon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from flows.operators.horizons import TaskResults
from flows.sinks import result_rows
from flows.sinks.result_rows import Context
from flows.sketches.at_rest import encode, seed_id
from flows.sketches.distinct import Distinct
from flows.windows.horizons import WindowResult

_MIN_STORED_NS: Final = 60 * 10**9
"""Of shorter horizons nothing is kept."""

MAX_INSERT_BYTES: Final = 16 << 20
"""Sketches of one insert, about: an insert is held in memory several times."""


def inserts(results: Sequence[TaskResults], context: Context) -> Iterator[pa.Table]:
    """Rows of ``sketches_log``, cut so that no insert is too large."""
    rows: list[dict[str, Any]] = []
    size = 0
    for group in results:
        for result in group.results:
            if _kept(result, context):
                rows.append(_row(group, result, context))
                size += len(rows[-1]["sketch"])
            if size >= MAX_INSERT_BYTES:
                yield from result_rows.inserts(result_rows.columns(rows, "sketches_log"))
                rows, size = [], 0
    if rows:
        yield from result_rows.inserts(result_rows.columns(rows, "sketches_log"))


def _kept(result: WindowResult, context: Context) -> bool:
    if result.horizon_ns < _MIN_STORED_NS:
        return False
    return isinstance(result.sketch, Distinct) or result.horizon_ns == context.longest_ns


def _row(group: TaskResults, result: WindowResult, context: Context) -> dict[str, Any]:
    kind, version, sketch = encode(result.sketch)
    return {
        **result_rows.window(group, result, context),
        "kind": kind,
        "version": version,
        "sketch": sketch,
        "fields": list(group.task.key.names or group.task.elements.names),
        "seed_id": seed_id(context.seed),
        "packets": result.packets,
        "sampling_rate": result.sampling.rate,
        "sampling_clustered": result.sampling.clustered,
        "revision": result.revision,
    }
