"""Waits for a store that is away, slow or overloaded, as long as the run goes on.

While a sink waits, bytewax doesn't ask its worker's sources for more, so what is in memory stays
bounded, and a source that is kept elsewhere keeps the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, Final, TypeVar

import pyarrow as pa

from flows import logs
from flows.errors import StoreError
from flows.sinks.row_store import RowStore
from flows.storage.store import Store
from flows.storage.unavailable import StoreUnavailable
from flows.windows.control import RunControl

MAX_PAUSE_S: Final = 30.0
STOPPING_S: Final = 4.0
"""How long a request that runs may still take once the run is told to stop."""

_PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_SLOW_S: Final = 20.0
_REMIND_S: Final = 60.0
_LOOK_S: Final = 0.05

_T = TypeVar("_T")


def pauses_s() -> Iterator[float]:
    """Seconds between tries: longer and longer, up to ``MAX_PAUSE_S``."""
    return chain(_PAUSES_S, repeat(MAX_PAUSE_S))


class Outage:
    """Tells of a store that doesn't take rows: when it begins, each minute, when it is over.

    Safe to use from several threads; together they tell it once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_s = self._told_s = 0.0
        self._tries = 0

    def note(self, why: str) -> None:
        """A try failed, or has no answer yet."""
        with self._lock:
            now_s = time.monotonic()
            self._tries += 1
            if not self._began_s:
                self._began_s = self._told_s = now_s
                logs.get("store").warning("store unavailable, waiting", why=why)
            elif now_s - self._told_s >= _REMIND_S:
                self._told_s = now_s
                seconds = round(now_s - self._began_s)
                logs.get("store").warning("store still unavailable", why=why, seconds=seconds)

    def over(self) -> None:
        """A try succeeded."""
        if not self._began_s:
            return
        with self._lock:
            if self._began_s:
                seconds = round(time.monotonic() - self._began_s, 1)
                logs.get("store").info("store is back", seconds=seconds, failed_tries=self._tries)
                self._began_s, self._tries = 0.0, 0


class PatientStore:
    """A store whose writers wait while its server is away.

    An insert whose answer was lost is sent again under its token, so it counts once. An embedded
    store has a patience of its own, which ends: nobody else can free what it lacks.

    Args:
        store: where to.
        control: ends the waiting when the run is told to end.
    """

    def __init__(self, store: RowStore, control: RunControl) -> None:
        self._store = store
        self._control = control
        self._outage = Outage()
        self._remote = False
        self._insert = store.insert
        if isinstance(store, Store) and store.remote:
            self._remote, self._insert = True, store.insert_once

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """See ``Store.insert``.

        Raises:
            StoreError: the store refused the rows, or was away when the run was told to end.
        """
        self._until_done(lambda: self._insert(table, rows, token))

    def committed(self, topic: str, partition: str, since: int = 0) -> Any:
        """See ``Store.committed``.

        Raises:
            StoreError: the store refused the query, or was away when the run was told to end.
        """
        return self._until_done(lambda: self._store.committed(topic, partition, since))

    def _until_done(self, request: Callable[[], _T]) -> _T:
        for pause_s in pauses_s():
            try:
                answer = self._interruptible(request) if self._remote else request()
            except StoreUnavailable as error:
                self._outage.note(str(error))
                if self._control.wait(pause_s):
                    raise _given_up(str(error)) from error
            else:
                self._outage.over()
                return answer
        raise AssertionError  # the pauses have no end

    def _interruptible(self, request: Callable[[], _T]) -> _T:
        """Make a request from a thread of its own, for a socket can't be left otherwise."""
        answers: list[_T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(request())
            except BaseException as error:
                errors.append(error)

        worker = threading.Thread(target=work, daemon=True, name="store-request")
        worker.start()
        began_s, stopped_s = time.monotonic(), 0.0
        while worker.is_alive():
            worker.join(_LOOK_S)
            now_s = time.monotonic()
            if now_s - began_s > _SLOW_S:
                self._outage.note(f"no answer for {_SLOW_S:.0f} s")
            if self._control.stopping:
                stopped_s = stopped_s or now_s
                if now_s - stopped_s > STOPPING_S and worker.is_alive():
                    why = f"no answer for {now_s - began_s:.0f} s"
                    raise _given_up(why)
        if errors:
            raise errors[0]
        return answers[0]


def _given_up(why: str) -> StoreError:
    return StoreError(
        f"stopped while the store was unavailable ({why}); the next run reads again what it lacks"
    )
