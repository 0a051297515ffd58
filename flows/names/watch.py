"""Loads names while a job runs: at its start, and when a file has changed."""

from __future__ import annotations

import threading
from typing import Any, Final

from flows import logs
from flows.errors import NetSpectraError, StoreError
from flows.names.load import chosen, load
from flows.settings.model import NameFiles
from flows.storage.store import Store

LOOK_S: Final = 30.0


def _log() -> Any:
    return logs.get("names")


class NamesWatch:
    """Looks whether files have changed, now and again and again, in a thread.

    A file that can't be used is told and costs nothing but its names: those from before stay.

    Args:
        store: where names go.
        files: as the settings name them; without any nobody looks.
        every_s: how often, s.
    """

    def __init__(self, store: Store, files: NameFiles, every_s: float = LOOK_S) -> None:
        self._store = store
        self._files = files
        self._every_s = every_s
        self._seen: object = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        if any(chosen(files)):
            self._thread = threading.Thread(target=self._run, daemon=True, name="names")
            self._thread.start()

    def _run(self) -> None:
        self.look()
        while not self._done.wait(self._every_s):
            self.look()

    def look(self) -> None:
        """Load what has changed since the last look."""
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            for each in load(self._store, self._files):
                if each.changed:
                    _log().info("names loaded", names=each.kind, rows=each.row_count)
        except NetSpectraError as error:
            if isinstance(error, StoreError):
                self._seen = None  # it may pass
            first, *more = str(error).splitlines()
            _log().warning("names stay as they were", why=first, more_problems=len(more))

    def _state(self) -> list[object]:
        """What tells that a file has changed."""
        found: list[object] = []
        for _, paths in chosen(self._files):
            for path in paths:
                try:
                    stat = path.stat()
                    found.append((path, stat.st_ino, stat.st_size, stat.st_mtime_ns))
                except OSError:
                    found.append((path, None))
        return found

    def close(self) -> None:
        """End, when what is being loaded is."""
        self._done.set()
        if self._thread is not None:
            self._thread.join()
