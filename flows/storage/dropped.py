"""Tells in one line what retention has dropped of the time that a question is about."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

import pyarrow as pa

from flows.storage.embedded import quote
from flows.storage.resolution import Span, time_literal
from flows.storage.space import KEPT_LONGER
from flows.storage.statements import tokens

Query = Callable[[str], pa.Table]
"""Runs a statement that reads; see ``Reader.query``."""

_HOUR_MS: Final = 3_600_000
_LOG: Final = "_log"


def read_by(sql: str) -> frozenset[str]:
    """Tables that may be dropped from and that a statement reads, also through their views."""
    words = set(tokens(sql))
    return frozenset(t for t in KEPT_LONGER if words & {t, t.removesuffix(_LOG)})


def told(query: Query, tables: Collection[str], span: Span, tenant: str = "") -> str:
    """What was dropped of some tables in a span, for people; empty when nothing was.

    Args:
        query: of the store.
        tables: names in ``space.KEPT_LONGER``.
        span: of event time.
        tenant: whose rows; empty for everybody's.

    Raises:
        StoreError: the store refused the question.
    """
    if not tables:
        return ""
    conditions = [f"table_name IN ({', '.join(map(quote, sorted(tables)))})"]
    if span.start_ms is not None:
        conditions.append(f"window_start > {time_literal(span.start_ms - _HOUR_MS)}")
    if span.end_ms is not None:
        conditions.append(f"window_start < {time_literal(span.end_ms)}")
    if tenant:
        conditions.append(f"tenant = {quote(tenant)}")
    found = query(
        "SELECT toString(table_name) AS name, sum(row_count) AS n, "  # noqa: S608
        "toUnixTimestamp64Milli(min(window_start)) AS first_ms, "
        "toUnixTimestamp64Milli(max(window_start)) AS last_ms "
        f"FROM dropped FINAL WHERE {' AND '.join(conditions)} GROUP BY name ORDER BY name"
    ).to_pylist()
    parts = [
        f"{row['n']:,} rows of {row['name'].removesuffix(_LOG)} "
        f"from {_clock(row['first_ms'])} to {_clock(row['last_ms'] + _HOUR_MS)}"
        for row in found
    ]
    return f"dropped to save space, so missing here (UTC): {'; '.join(parts)}" if parts else ""


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
