"""What of the alerts in the store is still to be sent, and what became of those that were.

``alerts_log`` without ``alert_deliveries`` is the outbox: an alert is stored before it is sent,
so a kill in between loses nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import pyarrow as pa

from flows.detect.alert import Alert
from flows.notify.selection import Selection, Told
from flows.storage.alerts import WHOLE, alert_of
from flows.storage.rows import DELIVERY_STATES, build

State = Literal["delivered", "refused", "superseded"]

PAGE: Final = 500
"""Alerts that are read at a time."""

_MS: Final = 10**6

_TOLD: Final = """
    SELECT d.alert_id AS alert_id, max(d.revision) AS revision,
        argMax(l.status = 'firing', d.revision) AS firing,
        argMax(toUInt8(l.severity), d.revision) AS severity,
        argMax(l.member_count, d.revision) AS members
    FROM
    (
        SELECT alert_id, revision FROM alert_deliveries
        WHERE notifier = {notifier:String} AND state != 'superseded'
            AND alert_id IN {ids:Array(String)}
    ) AS d
    INNER JOIN
    (
        SELECT alert_id, revision, status, severity, member_count FROM alerts_log
        WHERE alert_id IN {ids:Array(String)}
    ) AS l ON l.alert_id = d.alert_id AND l.revision = d.revision
    GROUP BY alert_id
"""

_PENDING: Final = f"""
    WITH told AS
    (
        SELECT alert_id, max(revision) AS revision FROM alert_deliveries
        WHERE notifier = {{notifier:String}} AND state != 'superseded'
        GROUP BY alert_id
    ),
    newest AS
    (
        SELECT alert_id, revision, updated_at FROM alerts_log
        WHERE updated_at >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC') AND event != 'dropped'
            AND (empty(notify) OR has(notify, {{notifier:String}}) OR {{everything:Bool}})
            AND ((status = 'firing' AND severity >= {{severity:Int8}})
                OR (status = 'resolved' AND {{resolved:Bool}}))
        ORDER BY revision DESC, updated_at DESC
        LIMIT 1 BY alert_id, status
    ),
    page AS
    (
        SELECT n.alert_id AS alert_id, n.revision AS revision FROM newest AS n
        LEFT JOIN told AS t ON t.alert_id = n.alert_id
        WHERE n.revision > t.revision
            AND (n.updated_at, n.alert_id, n.revision) > (
                fromUnixTimestamp64Milli({{at:Int64}}, 'UTC'), {{id:String}}, {{revision:UInt32}}
            )
        ORDER BY n.updated_at, n.alert_id, n.revision
        LIMIT {{page:UInt32}}
    )
    SELECT {WHOLE}, toUnixTimestamp64Milli(updated_at) AS stored_ms
    FROM alerts_log FINAL WHERE (alert_id, revision) IN page
    ORDER BY updated_at, alert_id, revision
"""  # noqa: S608 - put together from our own text


class OutboxStore(Protocol):
    """What is needed of the store."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """See ``Store.insert``."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """See ``Store.query``."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the sending of a revision ended.

    Attributes:
        alert_id: of the alert; empty in the row that says since when a notifier is told.
        revision: of the alert.
        notifier: who was told.
        state: how it ended.
        tries: how often it was sent.
        detail: what the receiver said last.
        done_ms: Unix time, ms.
    """

    alert_id: str
    revision: int
    notifier: str
    state: State
    tries: int
    detail: str
    done_ms: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place among the alerts of the store: behind the last one that was read.

    Attributes:
        at_ms: when it was stored, Unix ms.
        alert_id: of it.
        revision: of it.
    """

    at_ms: int = 0
    alert_id: str = ""
    revision: int = 0


def now_ms() -> int:
    """Unix time, ms."""
    return time.time_ns() // _MS


class Outbox:
    """Alerts of one notifier in the store. Safe to use from several threads, as the store is.

    Every method raises ``StoreError`` when the store refuses or is away.

    Args:
        store: that has the alerts.
        selection: what the notifier is told.
    """

    def __init__(self, store: OutboxStore, selection: Selection) -> None:
        self._store = store
        self._selection = selection
        self._since_ms = 0

    def begin(self) -> None:
        """Note since when this notifier is told: a new one isn't told of all that ever was."""
        name = self._selection.name
        (row,) = self._store.query(
            "SELECT count() AS n, toUnixTimestamp64Milli(min(done_at)) AS since_ms "
            "FROM alert_deliveries WHERE alert_id = '' AND notifier = {notifier:String}",
            {"notifier": name},
        ).to_pylist()
        self._since_ms = row["since_ms"] if row["n"] else now_ms()
        if not row["n"]:
            record(
                self._store,
                [Delivery("", 0, name, "delivered", 0, "told from here on", self._since_ms)],
            )

    def told(self, alert_ids: Sequence[str]) -> dict[str, Told]:
        """What the receiver knows of alerts; none of those that it doesn't know."""
        rows = self._store.query(
            _TOLD, {"notifier": self._selection.name, "ids": list(alert_ids)}
        ).to_pylist()
        return {
            row["alert_id"]: Told(
                row["revision"], bool(row["firing"]), row["severity"], row["members"]
            )
            for row in rows
        }

    def pending(self, cursor: Cursor) -> tuple[list[Alert], Cursor | None]:
        """Alerts that may still have to be sent, in the order in which they were stored.

        Of each alert the newest revision that fires and the newest that is over. Among them are
        some that the receiver doesn't want, for which the selection decides.

        Args:
            cursor: where the page before ended.

        Returns:
            A page, and where the next one begins; None after the last.
        """
        selection = self._selection
        rows = self._store.query(
            _PENDING,
            {
                "notifier": selection.name,
                "since": self._since_ms,
                "everything": selection.everything,
                "severity": int(selection.min_severity),
                "resolved": "resolved" in selection.events,
                "at": cursor.at_ms,
                "id": cursor.alert_id,
                "revision": cursor.revision,
                "page": PAGE,
            },
        ).to_pylist()
        stored_ms = [row.pop("stored_ms") for row in rows]
        alerts = [alert_of(row) for row in rows]
        if len(alerts) < PAGE:
            return alerts, None
        return alerts, Cursor(stored_ms[-1], alerts[-1].alert_id, alerts[-1].revision)


def record(store: OutboxStore, deliveries: Iterable[Delivery]) -> None:
    """Write down how deliveries ended.

    Raises:
        StoreError: the store refused them or is away.
    """
    rows = list(deliveries)
    values = {
        "alert_id": [row.alert_id for row in rows],
        "revision": [row.revision for row in rows],
        "notifier": [row.notifier for row in rows],
        "state": [DELIVERY_STATES[row.state] for row in rows],
        "tries": [row.tries for row in rows],
        "detail": [row.detail for row in rows],
        "done_at": [row.done_ms for row in rows],
    }
    store.insert(
        "alert_deliveries", build("alert_deliveries", values), f"alert_deliveries/{uuid.uuid4()}"
    )
