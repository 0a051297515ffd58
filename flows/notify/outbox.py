"""What of the alerts in the store is still to be sent, and what became of those that were.

``alerts_log`` without ``alert_deliveries`` is the outbox, and so is ``alert_enrichments``: an
alert, and a language model's explanation of it, are stored before they are sent, so a kill in
between loses nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, Protocol

import pyarrow as pa

from flows.detect.alert import Alert
from flows.detect.explanation import Explanation
from flows.notify.selection import Selection, Told
from flows.storage.alerts import WHOLE, alert_of
from flows.storage.rows import DELIVERY_STATES, build

State = Literal["delivered", "refused", "superseded"]

PAGE: Final = 500
"""Alerts that are read at a time."""

_MS: Final = 10**6

_TOLD: Final = """
    SELECT d.alert_id AS alert_id, max(d.revision) AS revision,
        argMax(d.explained, (d.revision, d.explained)) AS explained,
        argMax(l.status = 'firing', d.revision) AS firing,
        argMax(toUInt8(l.severity), d.revision) AS severity,
        argMax(l.member_count, d.revision) AS members
    FROM
    (
        SELECT alert_id, revision, explained FROM alert_deliveries
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

_EXPLANATION: Final = tuple(field.name for field in fields(Explanation))
"""Fields of an explanation, all of which ``alert_enrichments`` has as columns."""

_PENDING: Final = f"""
    WITH told AS
    (
        SELECT alert_id, max(revision) AS revision, maxIf(done_at, explained) AS explained_at
        FROM alert_deliveries
        WHERE notifier = {{notifier:String}} AND state != 'superseded'
        GROUP BY alert_id
    ),
    explained AS
    (
        SELECT alert_id, updated_at FROM alert_enrichments FINAL
        WHERE author = 'model' AND status IN ('done', 'partial') AND {{explained:Bool}}
            AND updated_at >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC')
    ),
    newest AS
    (
        SELECT alert_id, revision, status, updated_at FROM alerts_log
        WHERE updated_at >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC') AND event != 'dropped'
            AND (empty(notify) OR has(notify, {{notifier:String}}) OR {{everything:Bool}})
            AND ((status = 'firing' AND severity >= {{severity:Int8}})
                OR (status = 'resolved' AND {{resolved:Bool}}))
        ORDER BY revision DESC, updated_at DESC
        LIMIT 1 BY alert_id, status
    ),
    page AS
    (
        SELECT n.alert_id AS alert_id, n.revision AS revision,
            n.status = 'firing' AND n.revision >= t.revision AND e.updated_at > t.explained_at
                AS to_explain
        FROM newest AS n
        LEFT JOIN told AS t ON t.alert_id = n.alert_id
        LEFT JOIN explained AS e ON e.alert_id = n.alert_id
        WHERE (n.revision > t.revision OR to_explain)
            AND (n.updated_at, n.alert_id, n.revision) > (
                fromUnixTimestamp64Milli({{at:Int64}}, 'UTC'), {{id:String}}, {{revision:UInt32}}
            )
        ORDER BY n.updated_at, n.alert_id, n.revision
        LIMIT {{page:UInt32}}
    )
    SELECT {WHOLE}, toUnixTimestamp64Milli(updated_at) AS stored_ms,
        (alert_id, revision) IN (SELECT alert_id, revision FROM page WHERE to_explain) AS to_explain
    FROM alerts_log FINAL WHERE (alert_id, revision) IN (SELECT alert_id, revision FROM page)
    ORDER BY updated_at, alert_id, revision
"""  # noqa: S608 - put together from our own text


_EXPLANATIONS: Final = (
    f"SELECT alert_id, {', '.join(_EXPLANATION)} FROM alert_enrichments FINAL "  # noqa: S608
    "WHERE author = 'model' AND alert_id IN {ids:Array(String)}"
)


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
        explained: whether it was told with the explanation of a language model.
    """

    alert_id: str
    revision: int
    notifier: str
    state: State
    tries: int
    detail: str
    done_ms: int
    explained: bool = False


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
                row["revision"],
                bool(row["firing"]),
                row["severity"],
                row["members"],
                bool(row["explained"]),
            )
            for row in rows
        }

    def pending(self, cursor: Cursor) -> tuple[list[Alert], Cursor | None]:
        """Alerts that may still have to be sent, in the order in which they were stored.

        Of each alert the newest revision that fires, once more if there is an explanation that
        wasn't told, and the newest that is over. Among them are some that the receiver doesn't
        want, for which the selection decides.

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
                "explained": "explained" in selection.events,
                "at": cursor.at_ms,
                "id": cursor.alert_id,
                "revision": cursor.revision,
                "page": PAGE,
            },
        ).to_pylist()
        behind = None
        if len(rows) == PAGE:
            behind = Cursor(rows[-1]["stored_ms"], rows[-1]["alert_id"], rows[-1]["revision"])
        words = self._explanations([row["alert_id"] for row in rows if row["to_explain"]])
        found = []
        for row in rows:
            del row["stored_ms"]
            to_explain = row.pop("to_explain")
            found.append(alert_of(row))
            if to_explain and found[-1].alert_id in words:
                found.append(replace(found[-1], explanation=words[found[-1].alert_id]))
        return found, behind

    def _explanations(self, alert_ids: Sequence[str]) -> dict[str, Explanation]:
        """What a language model said of alerts."""
        if not alert_ids:
            return {}
        rows = self._store.query(_EXPLANATIONS, {"ids": list(alert_ids)}).to_pylist()
        return {
            row.pop("alert_id"): Explanation(
                **row | {"cited": tuple(dict(each) for each in row["cited"])}
            )
            for row in rows
        }


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
        "explained": [row.explained for row in rows],
        "tries": [row.tries for row in rows],
        "detail": [row.detail for row in rows],
        "done_at": [row.done_ms for row in rows],
    }
    store.insert(
        "alert_deliveries", build("alert_deliveries", values), f"alert_deliveries/{uuid.uuid4()}"
    )
