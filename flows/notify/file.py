"""Alerts as lines of JSON in a file, which is put aside when it has grown."""

from __future__ import annotations

import json
import os
from pathlib import Path

from flows.detect.alert import Alert
from flows.notify.formats import netspectra
from flows.notify.notifier import NotTold
from flows.settings.notifiers import File


class FileNotifier:
    """One file; opened for each alert, so that others may move it away at any time.

    Args:
        settings: of the notifier.
    """

    def __init__(self, settings: File) -> None:
        self._path = Path(settings.path)
        self._rotate_bytes = settings.rotate_bytes
        self._keep = settings.keep

    def send(self, alert: Alert) -> str:
        """See ``Notifier.send``."""
        text = json.dumps(netspectra.render(alert), ensure_ascii=False, separators=(",", ":"))
        try:
            self._append(f"{text}\n".encode())
        except OSError as error:
            msg = f"can't write {self._path}: {error.strerror}"
            raise NotTold(msg) from None
        return str(self._path)

    def close(self) -> None:
        """See ``Notifier.close``."""

    def _append(self, data: bytes) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._path, flags, 0o600), "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if not (size and self._rotate_bytes and size + len(data) > self._rotate_bytes):
                if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                    data = b"\n" + data  # what was cut off by a kill or a full disk
                if file.write(data) != len(data):
                    raise OSError(0, "the disk is full")
                return
        self._rotate()
        self._append(data)

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            older = self._aside(number)
            if older.exists():
                older.replace(self._aside(number + 1))
        self._path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
