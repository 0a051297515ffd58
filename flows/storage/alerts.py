"""Alerts in the store: those that are open, one or many of them, mutes, what people did."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from flows.detect.alert import Alert, Severity, Status
from flows.errors import UsageError
from flows.storage.embedded import quote
from flows.storage.rows import ALERT_EVENTS

Query = Callable[[str], pa.Table]
"""Runs a statement that gives rows: ``Store.query`` or ``Reader.query``."""

Row = dict[str, Any]

OPEN: Final = ("pending", "firing", "muted")
"""Statuses of alerts that are not over."""

FOREVER_MS: Final = 10_413_791_999_000
"""End of a mute that has none: the end of 2299, the last that the store can hold."""

_MS: Final = 10**6
_CLOSED: Final = (
    "SELECT alert_id, maxIf(done_at, action = 'close') AS closed_at FROM alert_actions "
    "GROUP BY alert_id"
)
_AS_THEY_ARE: Final = (
    "alert_id, revision, tenant, probe, rule, detector, title, entity, entity_text, src_addr, "
    "dst_addr, dst_port, attack_technique, metric, unit, value, lower, upper, confidence, "
    "threshold, expected, evidence, evidence_sql, summary, muted_by, members, member_count"
)
_TIMES: Final = (
    "toUnixTimestamp64Milli(window_start) * 1000000 AS window_start_ns, "
    "toUnixTimestamp64Nano(first_seen) AS first_seen_ns, "
    "toUnixTimestamp64Nano(last_seen) AS last_seen_ns, "
    "toUnixTimestamp64Nano(resolved_at) AS resolved_at_ns"
)
WHOLE: Final = (
    f"{_AS_THEY_ARE}, toString(event) AS event, toUInt8(severity) AS severity, "
    f"toUInt8(status) AS status, horizon AS horizon_s, notify, {_TIMES}"
)
"""Columns of ``alerts_log`` that ``alert_of`` makes an alert of."""

_OF_ALL: Final = (
    "alert_id, tenant, probe, rule, title, toString(severity) AS severity, "
    "toString(status) AS status, entity, entity_text, metric, unit, value, lower, upper, "
    "confidence, threshold, muted_by, ack_by, toString(verdict) AS verdict, member_count, "
    f"{_TIMES}"
)
_OF_ONE: Final = (
    f"{_AS_THEY_ARE}, horizon AS horizon_s, toString(severity) AS severity, "
    "toString(status) AS status, evidence_rows, ack_by, "
    "toUnixTimestamp64Milli(ack_at) AS ack_at_ms, toString(verdict) AS verdict, closed_by, "
    "toString(enrichment_status) AS enrichment_status, enrichment_reason, assessment, root_cause, "
    "next_checks, mitigation, cited, model, prompt_version, "
    f"{_TIMES}"
)


@dataclass(frozen=True)
class Wanted:
    """Which alerts to list; what is empty or 0 doesn't restrict.

    Attributes:
        statuses: any of these.
        severity: this one and worse.
        rule: of this rule.
        tenant: of this tenant.
        since_ns: last seen at or after, Unix ns.
        until_ns: first seen before, Unix ns.
    """

    statuses: Sequence[str] = OPEN
    severity: str = ""
    rule: str = ""
    tenant: str = ""
    since_ns: int = 0
    until_ns: int = 0


@dataclass(frozen=True)
class StoredMute:
    """A mute that somebody made; times are Unix ms of the clock on the wall."""

    mute_id: str
    tenant: str
    rule: str
    conditions: Mapping[str, tuple[str, ...]]
    since_ms: int
    until_ms: int
    made_by: str
    reason: str


@dataclass(frozen=True)
class StoredAction:
    """What somebody did with an alert, ``ack`` or ``close``, and when (Unix ms)."""

    alert_id: str
    action: str
    verdict: str
    done_by: str
    comment: str
    done_at_ms: int


@dataclass(frozen=True)
class Changes:
    """What people changed.

    Attributes:
        mutes: all that are in force now.
        actions: what was done since the time that was asked for, oldest first.
    """

    mutes: tuple[StoredMute, ...]
    actions: tuple[StoredAction, ...]


def open_alerts(query: Query) -> list[Alert]:
    """Alerts that are not over, as their newest revisions said, oldest first.

    A job that starts without recovery state goes on with them.
    """
    found = query(
        f"SELECT {WHOLE} FROM "
        "(SELECT * FROM alerts_log ORDER BY alert_id, revision DESC, updated_at DESC "
        f"LIMIT 1 BY alert_id) AS l LEFT JOIN ({_CLOSED}) AS c ON c.alert_id = l.alert_id "
        f"WHERE event != 'dropped' AND status IN {_texts(OPEN)} AND closed_at <= updated_at "
        "ORDER BY first_seen, alert_id"
    )
    return [alert_of(row) for row in found.to_pylist()]


def revisions(query: Query) -> list[Alert]:
    """All revisions of all alerts, each alert's in order."""
    found = query(
        f"SELECT {WHOLE} FROM (SELECT * FROM alerts_log ORDER BY alert_id, revision, "
        "updated_at DESC LIMIT 1 BY alert_id, revision) AS l ORDER BY alert_id, revision"
    )
    return [alert_of(row) for row in found.to_pylist()]


def listed(query: Query, wanted: Wanted, limit: int) -> tuple[list[Row], int]:
    """Alerts for a list, and how many there are in all.

    Open ones come the worst first, then the newest; with others among them the newest first.
    """
    where = _conditions(wanted)
    order = "severity DESC, first_seen DESC"
    if set(wanted.statuses) - set(OPEN):
        order = "first_seen DESC, severity DESC"
    rows = query(
        f"SELECT {_OF_ALL} FROM alerts AS a WHERE {where} "
        f"ORDER BY {_of_view(order)}, a.alert_id LIMIT {limit}"
    ).to_pylist()
    for row in rows:
        row["entity"] = dict(row["entity"])
    total = len(rows)
    if total == limit:
        total = query(f"SELECT count() AS n FROM alerts AS a WHERE {where}").to_pylist()[0]["n"]
    return rows, total


def one(query: Query, prefix: str) -> Row:
    """The alert whose id begins so.

    Raises:
        UsageError: the text is no beginning of an id, or none or several ids begin so.
    """
    prefix = prefix.lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        msg = f"{prefix!r} is no alert id; ids are hexadecimal, `netspectra alerts list` shows them"
        raise UsageError(msg)
    rows = query(
        f"SELECT {_OF_ONE} FROM alerts AS a WHERE startsWith(a.alert_id, {quote(prefix)}) LIMIT 2"
    ).to_pylist()
    if not rows:
        msg = f"no alert id begins with {prefix}; `netspectra alerts list --all` shows them"
        raise UsageError(msg)
    if len(rows) > 1:
        msg = f"several alert ids begin with {prefix}; give more digits"
        raise UsageError(msg)
    row: Row = rows[0]
    row["entity"] = dict(row["entity"])
    for name in ("evidence", "evidence_rows", "cited"):
        row[name] = [dict(each) for each in row[name]]
    return row


def life(query: Query, alert_id: str) -> list[Row]:
    """Revisions of an alert, oldest first: number, event, when it was written, value, bounds."""
    return list(
        query(
            "SELECT revision, toString(event) AS event, "
            "toUnixTimestamp64Milli(updated_at) AS updated_at_ms, value, lower, upper, "
            f"{_TIMES} FROM alerts_log FINAL WHERE alert_id = {quote(alert_id)} ORDER BY revision"
        ).to_pylist()
    )


def deliveries(query: Query, alert_id: str) -> list[Row]:
    """How deliveries of an alert ended, in order of revision."""
    return list(
        query(
            "SELECT revision, explained, notifier, toString(state) AS state, tries, detail, "
            "toUnixTimestamp64Milli(done_at) AS done_at_ms FROM alert_deliveries FINAL "
            f"WHERE alert_id = {quote(alert_id)} ORDER BY revision, notifier"
        ).to_pylist()
    )


def actions(query: Query, alert_id: str = "", since_ms: int = 0) -> list[StoredAction]:
    """What people did with one alert or with all, at or after a time (Unix ms)."""
    of_one = f"alert_id = {quote(alert_id)} AND " if alert_id else ""
    rows = query(
        "SELECT alert_id, toString(action) AS action, toString(verdict) AS verdict, done_by, "
        "comment, toUnixTimestamp64Milli(done_at) AS done_at_ms FROM alert_actions "
        f"WHERE {of_one}done_at >= fromUnixTimestamp64Milli({since_ms}, 'UTC') "
        "ORDER BY done_at, alert_id, action"
    )
    return [StoredAction(**row) for row in rows.to_pylist()]


def mutes(query: Query, now_ms: int, *, begun: bool = False) -> list[StoredMute]:
    """Mutes that are not over and were not taken back, by their end.

    Args:
        query: of the store.
        now_ms: the time, Unix ms.
        begun: leave out those that begin later.
    """
    now = f"fromUnixTimestamp64Milli({now_ms}, 'UTC')"
    rows = query(
        "SELECT mute_id, tenant, rule, conditions, toUnixTimestamp64Milli(since) AS since_ms, "
        "toUnixTimestamp64Milli(until) AS until_ms, made_by, reason FROM alert_mutes FINAL "
        f"WHERE NOT removed AND until > {now}{f' AND since <= {now}' if begun else ''} "
        "ORDER BY until, mute_id"
    )
    return [_mute(row) for row in rows.to_pylist()]


def read_changes(query: Query, since_ms: int) -> Changes:
    """What a running job has to know of what people did.

    Args:
        query: of the store.
        since_ms: actions at or after this time, Unix ms, are wanted.

    Raises:
        StoreError: the engine refused the query.
    """
    now_ms = time.time_ns() // _MS
    in_force = mutes(query, now_ms, begun=True)
    return Changes(tuple(in_force), tuple(actions(query, since_ms=since_ms)))


class ChangeWatch:
    """Gives each action once, to a job that looks again and again.

    Whoever acts writes the time, so an action may be stored after one with a later time; looking
    back a little finds it.

    Args:
        query: of the store.
        since_ms: Unix ms; actions before it are of no interest.
    """

    LOOK_BACK_MS: Final = 60_000

    def __init__(self, query: Query, since_ms: int) -> None:
        self._query = query
        self._since_ms = since_ms
        self._seen: set[StoredAction] = set()

    def read(self) -> Changes:
        """Mutes in force now, and actions that were not given before.

        Raises:
            StoreError: the engine refused the query.
        """
        began_ms = time.time_ns() // _MS
        changes = read_changes(self._query, self._since_ms)
        fresh = tuple(action for action in changes.actions if action not in self._seen)
        self._since_ms = max(self._since_ms, began_ms - self.LOOK_BACK_MS)
        self._seen = {each for each in changes.actions if each.done_at_ms >= self._since_ms}
        return Changes(changes.mutes, fresh)


def alert_of(row: Row) -> Alert:
    """An alert out of a row with the columns ``WHOLE``, which is changed."""
    row["entity"] = dict(row["entity"])
    row["evidence"] = tuple(dict(each) for each in row["evidence"])
    row["severity"], row["status"] = Severity(row["severity"]), Status(row["status"])
    row["members"], row["notify"] = tuple(row["members"]), tuple(row["notify"])
    assert row["event"] in ALERT_EVENTS
    return Alert(**row)


def _mute(row: Row) -> StoredMute:
    conditions = {name: tuple(values) for name, values in row.pop("conditions")}
    return StoredMute(conditions=conditions, **row)


def _conditions(wanted: Wanted) -> str:
    parts = [f"a.status IN {_texts(wanted.statuses)}"]
    if wanted.severity:
        parts.append(f"toUInt8(a.severity) >= {int(Severity[wanted.severity])}")
    if wanted.rule:
        parts.append(f"a.rule = {quote(wanted.rule)}")
    if wanted.tenant:
        parts.append(f"a.tenant = {quote(wanted.tenant)}")
    if wanted.since_ns:
        parts.append(f"a.last_seen >= fromUnixTimestamp64Nano({wanted.since_ns}, 'UTC')")
    if wanted.until_ns:
        parts.append(f"a.first_seen < fromUnixTimestamp64Nano({wanted.until_ns}, 'UTC')")
    return " AND ".join(parts)


def _of_view(order: str) -> str:
    return ", ".join(f"a.{part}" for part in order.split(", "))


def _texts(values: Sequence[str]) -> str:
    return f"({', '.join(quote(value) for value in values)})"
