"""Keeps the flows behind alerts: the flows themselves go, by retention, or were never asked for."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Final, Protocol

import pyarrow as pa

from flows import logs
from flows.detect.alert import Alert
from flows.errors import StoreError
from flows.sinks import alert_rows
from flows.storage import flow_rows
from flows.storage.flow_rows import FLOW_FIELDS

MAX_WAITING: Final = 1000
"""Alerts that wait to be looked into; more are skipped."""

PAUSE_S: Final = 0.05
"""Between two alerts, so that the store is left to those who need it."""

PATIENCE_S: Final = 5.0
"""How long flows may take to be stored after their alert was."""

MEMBERS: Final = 10
"""Members of a group whose flows are kept."""

_LOOK_S: Final = 0.25
_LIMITS: Final = "SETTINGS max_threads = 1, max_execution_time = 10, max_memory_usage = 120000000"


class EvidenceStore(Protocol):
    """What of the store is needed here."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a statement that gives rows."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows in one step."""


@dataclass(frozen=True)
class _Case:
    alert: Alert
    until_s: float


class EvidenceCollector:
    """Looks into alerts that fire, grow or end, in a thread of its own.

    An alert may be stored before the flows that it is about; so its statement is asked until it
    says what the alert claims, or patience ends. Nothing here may hold up or fail the dataflow.

    Args:
        store: with the alerts and the flows.
        patience_s: how long to wait for flows.

    Attributes:
        counts: alerts by what came of them: ``kept``; ``early``, kept though not all flows were
            there in time; ``without``, that no flow is behind; ``skipped``, because too many were
            waiting; ``failed``, because the store refused.
    """

    def __init__(self, store: EvidenceStore, *, patience_s: float = PATIENCE_S) -> None:
        self.counts: Counter[str] = Counter()
        self._store = store
        self._patience_s = patience_s
        self._waiting: Queue[_Case] = Queue(MAX_WAITING)
        self._members: dict[str, int] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def offer(self, alert: Alert) -> None:
        """Tell of a revision that is stored; returns at once."""
        with self._lock:
            if self._closing.is_set() or not self._matters(alert):
                return
            try:
                self._waiting.put_nowait(_Case(alert, time.monotonic() + self._patience_s))
            except Full:
                self.counts["skipped"] += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="evidence")
                self._thread.start()

    def close(self, seconds: float) -> None:
        """Look into what is waiting, for so long at most; flows that aren't there won't come."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        left = self._waiting.qsize()
        self.counts["skipped"] += left
        skipped = {name: self.counts[name] for name in ("skipped", "failed") if self.counts[name]}
        if skipped:
            logs.get("alerts").warning("alerts without the flows behind them", **skipped)

    def _matters(self, alert: Alert) -> bool:
        """Whether there is more to see than at the last look."""
        if alert.member_count:
            known = self._members.get(alert.alert_id, 0)
            grown = alert.member_count >= 2 * max(known, 1)
            if alert.event == "resolved":
                self._members.pop(alert.alert_id, None)
            elif grown:
                self._members[alert.alert_id] = alert.member_count
                return True
        return alert.event in ("fired", "resolved")

    def _work(self) -> None:
        while True:
            try:
                case = self._waiting.get(timeout=_LOOK_S)
            except Empty:
                if self._closing.is_set():
                    return
                continue
            try:
                self.counts[self._look_into(case)] += 1
            except (StoreError, ValueError) as error:
                self.counts["failed"] += 1
                why = str(error)
                logs.get("alerts").debug("no evidence", alert_id=case.alert.alert_id, why=why)
            self._closing.wait(PAUSE_S)

    def _look_into(self, case: _Case) -> str:
        alert = case.alert
        statement = statement_of(alert)
        if not statement:
            return "without"
        all_there = self._wait(case)
        found = self._store.query(f"{statement} {_LIMITS}").to_pylist()
        if not found:
            return "without"
        rows = [{flow_rows.COLUMNS.get(k, k): v for k, v in row.items()} for row in found]
        table = alert_rows.evidence(alert.alert_id, alert.revision, rows)
        self._store.insert("alert_evidence", table, f"alert_evidence/{uuid.uuid4().hex}")
        return "kept" if all_there else "early"

    def _wait(self, case: _Case) -> bool:
        """Wait for the flows that the alert was raised by; whether they are there."""
        if not case.alert.evidence_sql:
            return True
        sql = f"SELECT max(value) AS most FROM (\n{case.alert.evidence_sql}\n) {_LIMITS}"  # noqa: S608
        while True:
            (row,) = self._store.query(sql).to_pylist()
            if float(row["most"] or 0) >= case.alert.lower:
                return True
            if time.monotonic() >= case.until_s or self._closing.wait(_LOOK_S):
                return False


def statement_of(alert: Alert) -> str:
    """The statement for the rows behind an alert; empty where there are none."""
    window = flow_rows.in_window(alert.tenant, alert.window_start_ns, alert.last_seen_ns)
    members = [flow_rows.entity_of(text) for text in alert.members[:MEMBERS]]
    entities = [each for each in members or [dict(alert.entity)] if FLOW_FIELDS & each.keys()]
    if entities:
        by_bytes = "bit" in alert.unit or "byte" in alert.unit
        return flow_rows.largest_flows(entities, window, "bytes" if by_bytes else "packets")
    return flow_rows.hops(alert.probe, window) if alert.probe else ""
