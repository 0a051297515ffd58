"""What was sent is written down, several at a time."""

from __future__ import annotations

import threading
from typing import Any

import pyarrow as pa
import pytest

from flows.notify import recorder
from flows.notify.outbox import Delivery
from flows.notify.recorder import Recorder
from flows.storage.unavailable import StoreUnavailable
from tests.support.kafka import wait_until


class SlowStore:
    """Takes rows while ``go`` is set, and fails as often as it is told."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.failures = 0
        self.began = 0
        self.inserts: list[list[int]] = []

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        self.began += 1
        assert self.go.wait(30)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("it is away")
        self.inserts.append(rows["revision"].to_pylist())

    def query(self, sql: str, parameters: Any = None) -> pa.Table:
        raise AssertionError(sql)


def delivery(number: int) -> Delivery:
    return Delivery("a", number, "ops", "delivered", 1, "ok", 0)


def test_what_comes_while_it_closes_is_written() -> None:
    """Deliveries put during the last insert but one aren't forgotten."""
    store = SlowStore()
    store.go.clear()
    recording = Recorder(store)
    recording.put(delivery(1))
    wait_until(lambda: store.began == 1)
    recording.put(delivery(2))
    closing = threading.Thread(target=recording.close, args=(10,))
    closing.start()
    store.go.set()
    closing.join()
    assert store.inserts == [[1], [2]]


def test_what_a_store_does_not_take_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, and written when it is back."""
    monkeypatch.setattr(recorder, "_PAUSE_S", 0.01)
    store = SlowStore()
    store.failures = 3
    recording = Recorder(store)
    for number in range(1, 6):
        recording.put(delivery(number))
    wait_until(lambda: sum(map(len, store.inserts)) == 5)
    assert [number for rows in store.inserts for number in rows] == [1, 2, 3, 4, 5]
    recording.close(5)
    assert store.began >= 4
