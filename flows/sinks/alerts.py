"""The sink of alerts: stored, then told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock
from typing import Final
from uuid import uuid4

from bytewax.outputs import DynamicSink
from typing_extensions import override

from flows.detect.alert import Alert
from flows.sinks import alert_rows
from flows.sinks.patience import PatientStore
from flows.sinks.row_store import RowStore
from flows.sinks.store import SinkPartition
from flows.windows.control import RunControl

Hear = Callable[[Alert], None]
"""Is told of a revision; must not block or fail."""

MAX_INSERT_ALERTS: Final = 10_000


class AlertWriter:
    """Hands revisions of alerts to whoever wants to hear of them, and stores them.

    A revision is a function of the traffic, so writing it again changes nothing. It is told once
    it is stored: what a kill or a receiver that is away leaves over is found there.

    Args:
        store: where to.
        hearers: told of each revision.
    """

    def __init__(self, store: RowStore, hearers: Sequence[Hear] = ()) -> None:
        self._store = store
        self._hearers = hearers
        self._run = uuid4().hex
        self._inserts = count()
        self._lock = Lock()

    def write(self, alerts: Sequence[Alert]) -> None:
        """Store and tell some revisions."""
        for at in range(0, len(alerts), MAX_INSERT_ALERTS):
            part = alerts[at : at + MAX_INSERT_ALERTS]
            with self._lock:
                token = f"alerts_log/{self._run}/{next(self._inserts)}"
            self._store.insert("alerts_log", alert_rows.alerts_log(part), token)
        for alert in alerts:
            for hear in self._hearers:
                hear(alert)


class AlertSink(DynamicSink[Alert]):
    """Each worker stores and tells the alerts of its rules.

    Args:
        store: where to.
        control: told of failures.
        hearers: told of each revision.
    """

    def __init__(
        self,
        store: RowStore,
        control: RunControl | None = None,
        hearers: Sequence[Hear] = (),
    ) -> None:
        self._control = control or RunControl()
        self._writer = AlertWriter(PatientStore(store, self._control), hearers)

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> SinkPartition:
        return SinkPartition(self._writer.write, self._control)
