"""Alerts and what is behind them as rows of their tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from flows.detect.alert import Alert
from flows.sinks.columns import times_ms, times_ns
from flows.storage.rows import ALERT_EVENTS, build

_MS: Final = 10**6

_AS_THEY_ARE: Final = (
    "alert_id", "revision", "tenant", "probe", "rule", "detector", "title", "entity_text",
    "src_addr", "dst_addr", "dst_port", "attack_technique", "metric", "unit", "value", "lower",
    "upper", "confidence", "threshold", "expected", "evidence_sql", "summary", "muted_by",
    "member_count",
)  # fmt: skip
"""Columns that an alert has under the same name, in the same form."""


def alerts_log(alerts: Sequence[Alert]) -> pa.Table:
    """Revisions of alerts, for the table ``alerts_log``; now is when they were made."""
    columns: dict[str, Any] = {
        name: [getattr(alert, name) for alert in alerts] for name in _AS_THEY_ARE
    }
    columns |= {
        "event": [ALERT_EVENTS[alert.event] for alert in alerts],
        "severity": [int(alert.severity) for alert in alerts],
        "status": [int(alert.status) for alert in alerts],
        "entity": [list(alert.entity.items()) for alert in alerts],
        "horizon": [alert.horizon_s for alert in alerts],
        "window_start": times_ms(_array([alert.window_start_ns // _MS for alert in alerts])),
        "first_seen": times_ns(_array([alert.first_seen_ns for alert in alerts])),
        "last_seen": times_ns(_array([alert.last_seen_ns for alert in alerts])),
        "resolved_at": times_ns(_array([alert.resolved_at_ns for alert in alerts])),
        "evidence": [[list(row.items()) for row in alert.evidence] for alert in alerts],
        "members": [list(alert.members) for alert in alerts],
        "notify": [list(alert.notify) for alert in alerts],
        "updated_at": _now(len(alerts)),
    }
    return build("alerts_log", columns)


def evidence(alert_id: str, revision: int, rows: Sequence[Mapping[str, str]]) -> pa.Table:
    """The flows behind an alert, for the table ``alert_evidence``."""
    columns = {
        "alert_id": [alert_id],
        "revision": [revision],
        "rows": [[list(row.items()) for row in rows]],
        "found_at": _now(1),
    }
    return build("alert_evidence", columns)


def _array(values: list[int]) -> Any:
    return np.array(values, np.int64)


def _now(count: int) -> pa.Array:
    return times_ms(np.full(count, time.time_ns() // _MS))
