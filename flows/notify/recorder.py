"""Writes down how deliveries ended, several at a time, in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from flows import logs
from flows.errors import NetSpectraError
from flows.notify.outbox import Delivery, OutboxStore, record

MAX_KEPT: Final = 100_000
"""Deliveries that are kept while the store is away; older ones may then be repeated."""

BATCH_S: Final = 0.2
"""Time for which deliveries are gathered, since each insert costs the store something."""

BATCH_ROWS: Final = 10_000
_PAUSE_S: Final = 2.0


class Recorder:
    """Takes deliveries that are over and puts them into the store.

    Args:
        store: where to.
    """

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self._kept: deque[Delivery] = deque(maxlen=MAX_KEPT)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="notify-record")
        self._thread.start()

    def put(self, delivery: Delivery) -> None:
        """Take one; never waits."""
        self._kept.append(delivery)
        self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Write what is left, if the store takes it in time."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(BATCH_S)
            self._wake.clear()
            written = self._write()
            if self._closing.is_set() and not (written and self._kept):
                return
            if not written:
                self._closing.wait(_PAUSE_S)
                self._wake.set()

    def _write(self) -> bool:
        batch = [self._kept.popleft() for _ in range(min(len(self._kept), BATCH_ROWS))]
        if not batch:
            return True
        try:
            record(self._store, batch)
        except NetSpectraError as error:
            self._kept.extendleft(reversed(batch))
            logs.get("notify").warning("can't write down what was sent", why=str(error))
            return False
        if self._kept:
            self._wake.set()
        return True
