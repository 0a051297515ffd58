"""Asks the process that owns an embedded store, over its Unix socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from flows.errors import StoreError

_PIECE_BYTES: Final = 1 << 20


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    path: Path,
    sql: str,
    fmt: str,
    timeout_s: float = 120,
    settings: Mapping[str, str] | None = None,
) -> Iterator[bytes]:
    """Send one statement and give its result in pieces.

    Args:
        path: the owner's socket.
        sql: a statement that only reads.
        fmt: output format where the statement names none.
        timeout_s: silence of the owner after which to give up.
        settings: limits below the owner's own, by ClickHouse's names.

    Raises:
        ConnectionError, FileNotFoundError: nobody answers at the socket.
        StoreError: the owner's engine refused the statement, or the result broke off.
    """
    connection = _Connection(path, timeout_s)
    try:
        headers = {"X-ClickHouse-Format": fmt}
        target = f"/?{urlencode(settings)}" if settings else "/"
        connection.request("POST", target, body=sql.encode(), headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise StoreError(response.read().decode(errors="replace").strip())
        while piece := response.read1(_PIECE_BYTES):
            yield piece
    except (http.client.HTTPException, TimeoutError) as e:
        msg = "the result broke off: the query passed a limit, or the job that owns the store ended"
        raise StoreError(msg) from e
    finally:
        connection.close()


def post(path: Path, target: str, body: bytes, timeout_s: float = 60) -> None:
    """Have the owner do something.

    Args:
        path: the owner's socket.
        target: what, a path of its HTTP form.
        body: JSON.
        timeout_s: silence of the owner after which to give up.

    Raises:
        ConnectionError, FileNotFoundError: nobody answers at the socket.
        StoreError: the owner refused, or ended without an answer.
    """
    connection = _Connection(path, timeout_s)
    try:
        connection.request("POST", target, body=body)
        response = connection.getresponse()
        answer = response.read().decode(errors="replace").strip()
    except (http.client.HTTPException, TimeoutError) as e:
        msg = "the job that owns the store gave no answer; look whether it was done"
        raise StoreError(msg) from e
    finally:
        connection.close()
    if response.status != 200:
        raise StoreError(answer)


def alive(path: Path) -> bool:
    """Whether an owner answers at the socket."""
    connection = _Connection(path, 5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
