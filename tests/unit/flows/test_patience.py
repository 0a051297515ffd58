"""Waiting for a store that is away: how long, what is said, and that it ends when told to."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from flows.errors import StoreError
from flows.sinks import patience
from flows.sinks.patience import MAX_PAUSE_S, Outage, PatientStore, pauses_s
from flows.storage.unavailable import StoreUnavailable
from flows.windows.control import RunControl
from tests.support.store_rows import rows

ROWS = rows("commits")


class Away:
    """A store that is away for so many requests, then takes them."""

    def __init__(self, requests: int, error: type[StoreError] = StoreUnavailable) -> None:
        self.left, self.error = requests, error
        self.taken: list[str] = []

    def insert(self, table: str, rows: Any, token: str) -> None:
        self.left -= 1
        if self.left >= 0:
            msg = "connection refused"
            raise self.error(msg)
        self.taken.append(token)

    def committed(self, topic: str, partition: str, since: int = 0) -> list[int]:
        self.insert("", None, "committed")
        return [3]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that tests can wait for."""
    monkeypatch.setattr(patience, "_PAUSES_S", (0.01,) * 9)


def test_pauses_grow_to_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries come fast at first, then every half minute for ever."""
    monkeypatch.undo()
    pauses = list(itertools.islice(pauses_s(), 100))
    assert pauses == sorted(pauses)
    assert pauses[0] < 1
    assert max(pauses) == pauses[20] == MAX_PAUSE_S


def test_a_store_that_comes_back_has_it_all() -> None:
    """Inserts and questions are repeated until they succeed; one line begins, one line ends."""
    away = Away(4)
    store = PatientStore(away, RunControl())
    with capture_logs() as lines:
        store.insert("commits", ROWS, "a")
        away.left = 2
        assert store.committed("t", "0") == [3]
    assert away.taken == ["a", "committed"]
    told = [(line["event"], line.get("failed_tries")) for line in lines]
    assert told == [
        ("store unavailable, waiting", None),
        ("store is back", 4),
        ("store unavailable, waiting", None),
        ("store is back", 2),
    ]


def test_errors_that_stay_are_not_repeated() -> None:
    """A refusal goes on to the run at once, without a line."""
    away = Away(1, StoreError)
    with capture_logs() as lines, pytest.raises(StoreError, match="refused"):
        PatientStore(away, RunControl()).insert("commits", ROWS, "a")
    assert away.left == 0
    assert not lines


def test_told_to_stop_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a long pause the waiting ends, as an error that says what becomes of it."""
    monkeypatch.setattr(patience, "_PAUSES_S", (3600,))
    control, away = RunControl(), Away(10**9)
    stopper = threading.Timer(0.2, control.stop)
    stopper.start()
    with pytest.raises(StoreError, match=r"stopped .*connection refused.* the next run"):
        PatientStore(away, control).insert("commits", ROWS, "a")
    stopper.join()
    assert away.left == 10**9 - 1


def test_a_request_without_an_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that neither answers nor hangs up doesn't keep a run that is told to stop."""
    monkeypatch.setattr(patience, "STOPPING_S", 0.1)
    monkeypatch.setattr(patience, "_SLOW_S", 0.05)
    answer, control = threading.Event(), RunControl()

    class Silent(Away):
        def insert(self, table: str, rows: Any, token: str) -> None:
            answer.wait(60)

    store = PatientStore(Silent(0), control)
    store._remote = True
    control.stop()
    with capture_logs() as lines, pytest.raises(StoreError, match="no answer"):
        store.insert("commits", ROWS, "a")
    answer.set()
    assert [line["event"] for line in lines] == ["store unavailable, waiting"]


def test_what_a_request_raises_comes_through() -> None:
    """Answers and errors of a request in a thread of its own are the caller's."""
    store = PatientStore(Away(2), RunControl())
    store._remote = True
    assert store.committed("t", "0") == [3]
    store = PatientStore(Away(1, StoreError), RunControl())
    store._remote = True
    with pytest.raises(StoreError, match="refused"):
        store.insert("commits", ROWS, "a")


def test_an_outage_is_told_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads wait, there is a line at the start, one a minute and one at the end."""
    now_s = itertools.count(100.0, 1.0)
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: next(now_s)))
    outage = Outage()
    with capture_logs() as lines:
        outage.over()
        for _ in range(150):
            outage.note("away")
        outage.over()
        outage.over()
    assert [line["event"] for line in lines] == [
        "store unavailable, waiting",
        "store still unavailable",
        "store still unavailable",
        "store is back",
    ]


def test_waiting_ends_with_the_run() -> None:
    """A control waits as long as it is asked to, and not at all once the run ends."""
    control = RunControl()
    assert not control.wait(0.01)
    control.stop()
    assert control.wait(10**9)
