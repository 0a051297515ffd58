"""Explanations in the store: what was written, what waits, what is still to be begun."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

from flows.detect.alert import Alert
from flows.detect.explanation import TEMPLATE, EnrichmentStatus, Explanation
from flows.storage.alerts import WHOLE, alert_of
from flows.storage.rows import AUTHORS, ENRICHMENT_STATUSES, build

PAGE: Final = 500
"""Alerts that are read at a time."""

LOOK_BACK_S: Final = 86_400
"""Alerts that nothing was said about for so long aren't begun with any more."""

NOTHING: Final = Explanation("", "", "", "", model="")

_MS: Final = 10**6
_HOUR_MS: Final = 3_600_000

_SAME: Final = (
    "assessment", "root_cause", "next_checks", "mitigation", "confidence", "struck", "model",
    "prompt_version",
)  # fmt: skip
"""Columns that an explanation has under the same name."""

_NEWEST: Final = (
    "(SELECT * FROM alerts_log WHERE updated_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') "
    "ORDER BY alert_id, revision DESC, updated_at DESC LIMIT 1 BY alert_id)"
)


class EnrichmentStore(Protocol):
    """What of the store is needed here."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a statement that gives rows."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows in one step."""


@dataclass(frozen=True)
class Enrichment:
    """What is said, or not, about a revision of an alert.

    Attributes:
        alert_id: the alert.
        revision: of it.
        status: how far the model is; ``none`` for a template.
        explanation: the words.
        reason: why there are none of the model, or not all.
        situation: id that alerts explained together share.
        requests: that the answer took.
        tokens: of the questions and answers.
    """

    alert_id: str
    revision: int
    status: EnrichmentStatus
    explanation: Explanation = NOTHING
    reason: str = ""
    situation: str = ""
    requests: int = 0
    tokens: int = 0


def write(store: EnrichmentStore, found: Sequence[Enrichment]) -> None:
    """Store explanations in one insert; newer ones take the place of older ones.

    Raises:
        StoreError: the store refused them or is away.
    """
    now_ms = time.time_ns() // _MS
    told = [each.explanation for each in found]
    columns: dict[str, Any] = {name: [getattr(each, name) for each in told] for name in _SAME}
    columns |= {
        name: [getattr(each, name) for each in found]
        for name in ("alert_id", "revision", "reason", "situation", "requests", "tokens")
    }
    columns |= {
        "author": [AUTHORS["template" if each.model == TEMPLATE else "model"] for each in told],
        "status": [ENRICHMENT_STATUSES[each.status] for each in found],
        "cited": [[list(row.items()) for row in each.cited] for each in told],
        "updated_at": [now_ms] * len(found),
    }
    store.insert(
        "alert_enrichments",
        build("alert_enrichments", columns),
        f"alert_enrichments/{uuid.uuid4()}",
    )


def unexplained(store: EnrichmentStore) -> list[Alert]:
    """Alerts whose newest revision no template has explained, oldest first, a page of them.

    Raises:
        StoreError: the store refused or is away.
    """
    rows = store.query(
        f"SELECT {WHOLE} FROM {_NEWEST} AS l LEFT JOIN (SELECT alert_id, "  # noqa: S608
        "max(x.revision) AS explained FROM alert_enrichments AS x WHERE author = 'template' "
        "GROUP BY alert_id) AS e ON e.alert_id = l.alert_id WHERE l.revision > explained "
        "AND l.event NOT IN ('pending', 'dropped') ORDER BY l.updated_at, l.alert_id "
        f"LIMIT {PAGE}",
        {"since": time.time_ns() // _MS - LOOK_BACK_S * 1000},
    ).to_pylist()
    return [alert_of(row) for row in rows]


def waiting(store: EnrichmentStore) -> list[Alert]:
    """Alerts that an earlier run left for the model, oldest first, a page of them.

    Raises:
        StoreError: the store refused or is away.
    """
    rows = store.query(
        f"SELECT {WHOLE} FROM (SELECT * FROM alerts_log WHERE alert_id IN "  # noqa: S608
        "(SELECT alert_id FROM alert_enrichments FINAL WHERE author = 'model' "
        "AND status = 'pending') ORDER BY alert_id, revision DESC, updated_at DESC "
        f"LIMIT 1 BY alert_id) ORDER BY updated_at, alert_id LIMIT {PAGE}"
    ).to_pylist()
    return [alert_of(row) for row in rows]


def explained(store: EnrichmentStore) -> list[tuple[str, float, int]]:
    """Alerts that the model has dealt with lately: id, and value and members at that time.

    Raises:
        StoreError: the store refused or is away.
    """
    rows = store.query(
        "SELECT e.alert_id AS alert_id, max(l.value) AS value, max(l.member_count) AS members "
        "FROM (SELECT alert_id, revision FROM alert_enrichments FINAL WHERE author = 'model' "
        "AND status != 'pending' AND updated_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') "
        "ORDER BY updated_at DESC LIMIT 20000) AS e "
        "LEFT JOIN alerts_log AS l ON l.alert_id = e.alert_id AND l.revision = e.revision "
        "GROUP BY alert_id",
        {"since": time.time_ns() // _MS - LOOK_BACK_S * 1000},
    ).to_pylist()
    return [(row["alert_id"], row["value"], row["members"]) for row in rows]


def spent(store: EnrichmentStore) -> list[tuple[str, int, int, float]]:
    """What was asked within the last hour: rule, requests, tokens, and how long ago, s.

    Raises:
        StoreError: the store refused or is away.
    """
    now_ms = time.time_ns() // _MS
    rows = store.query(
        "SELECT l.rule AS rule, e.requests AS requests, e.tokens AS tokens, "
        "toUnixTimestamp64Milli(e.updated_at) AS at_ms FROM (SELECT alert_id, requests, tokens, "
        "updated_at FROM alert_enrichments FINAL WHERE author = 'model' AND requests > 0 "
        "AND updated_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')) AS e "
        "LEFT JOIN (SELECT alert_id, any(rule) AS rule FROM alerts_log GROUP BY alert_id) AS l "
        "ON l.alert_id = e.alert_id ORDER BY at_ms",
        {"since": now_ms - _HOUR_MS},
    ).to_pylist()
    return [
        (row["rule"], row["requests"], row["tokens"], max(now_ms - row["at_ms"], 0) / 1000)
        for row in rows
    ]
