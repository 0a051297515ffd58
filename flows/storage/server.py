"""Serves an embedded store to other processes while a job owns it.

ClickHouse's HTTP form on a Unix socket in the store's directory, for its user only (0600).
Statements are checked by ``statements`` and run by the engine as ``readonly``, with limits. What
people do with alerts comes in the same way, as ``POST /alerts/<action>`` with a JSON object, and
is checked by ``alert_writes``; nothing else can be changed.
"""

from __future__ import annotations

import os
import re
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from flows.errors import StoreError, UsageError
from flows.storage import greeting
from flows.storage.alert_writes import ACTIONS, MAX_ACTION_BYTES, Action, read, write
from flows.storage.embedded import Engine, Limits, faults, one_line

SOCKET_NAME: Final = "netspectra.sock"
NOTE_NAME: Final = "netspectra.sock.path"
"""Holds the socket's path when the directory's own is too long for a socket."""

MAX_SOCKET_PATH_BYTES: Final = 107
MAX_STATEMENT_BYTES: Final = 1 << 20
MAX_QUERIES: Final = 2
"""Queries that run at once; more wait."""

_NAME: Final = "netspectra"
_TIMEZONE: Final = "UTC"
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.05
"""How long the end of serving may take, and so the end of every job."""
_SHORT_PREFIX: Final = "netspectra-"
_STATUS: Final = {
    **dict.fromkeys((16, 46, 47, 50, 60, 73, 81, 115), HTTPStatus.NOT_FOUND),
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 42, 43, 53, 62), HTTPStatus.BAD_REQUEST),
    159: HTTPStatus.REQUEST_TIMEOUT,
    164: HTTPStatus.FORBIDDEN,
    202: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Serving(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """A thread for each connection; ``reads`` runs what it asks."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16
    reads: ReadServer

    def serve_forever(self, poll_interval: float = _POLL_S) -> None:
        """Serve until ``shutdown``, which takes so many seconds at most."""
        super().serve_forever(poll_interval)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not worth a traceback."""


class Answer(Exception):
    """An answer other than a result: a status and the engine's number and words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One connection. The statement is in ``?query=``, in the body, or in both, joined.

    Limits (``max_result_rows`` and others) may be asked for in the address, lower than our own.
    """

    protocol_version = "HTTP/1.1"
    server_version = "NetSpectra"
    timeout = 30
    server: Serving

    def log_message(self, format: str, *args: object) -> None:
        """Queries are not logged."""

    def do_GET(self) -> None:
        """Answer a statement or a ping."""
        url = urlsplit(self.path)
        given = dict(parse_qsl(url.query, keep_blank_values=True))
        started = False
        try:
            sql = given.get("query", "")
            body = self._body()
            sql = f"{sql}\n{body}" if sql and body else sql or body
            if url.path not in ("/", "/ping", ""):
                raise Answer(404, f"There is no handle {url.path[:40]}")
            if not sql.strip():
                self._send(200, b"Ok.\n", "TabSeparated")
                return
            self.admit()
            fmt, pieces = self._run(sql, given)
            first = next(pieces, b"")
            self._head(200, fmt)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            started = True
            self._chunk(first)
            for piece in pieces:
                self._chunk(piece)
            self.wfile.write(b"0\r\n\r\n")
        except Answer as e:
            self._fail(e.status, str(e))
        except StoreError as e:
            if started:
                # The status is sent; a result that breaks off must not look whole.
                self.close_connection = True
            else:
                self._fail(status_of(str(e)), str(e))
        except (OSError, ValueError):
            self.close_connection = True

    def do_POST(self) -> None:
        """Answer a statement, or do something with an alert."""
        name = re.fullmatch(r"/alerts/(\w{1,40})", self.path)
        if name is None:
            self.do_GET()
            return
        try:
            body = self._body(MAX_ACTION_BYTES)
            if name[1] not in ACTIONS:
                raise Answer(404, f"alerts have no action {name[1]}, but {', '.join(ACTIONS)}")
            self.server.reads.act(read(name[1], body.encode()))
            self._send(200, b"Ok.\n", "TabSeparated")
        except Answer as e:
            self._fail(e.status, str(e))
        except UsageError as e:
            self._fail(400, str(e))
        except StoreError as e:
            self._fail(status_of(str(e)), str(e))
        except (OSError, ValueError):
            self.close_connection = True

    def admit(self) -> None:
        """Let whoever asks run a statement: the socket's permissions have let them in."""

    def _body(self, most_bytes: int = MAX_STATEMENT_BYTES) -> str:
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise Answer(411, "Code: 381. DB::Exception: send a Content-Length")
        size = self.headers.get("Content-Length", "0")
        if not size.isdecimal() or int(size) > most_bytes:
            self.close_connection = True
            raise Answer(413, "Code: 62. DB::Exception: the statement is too long")
        try:
            return self.rfile.read(int(size)).decode()
        except UnicodeDecodeError as e:
            raise Answer(400, "Code: 62. DB::Exception: the statement is not UTF-8") from e

    def _run(self, sql: str, given: dict[str, str]) -> tuple[str, Iterator[bytes]]:
        if given.get("database", "default") != "default":
            raise Answer(404, "Code: 81. DB::Exception: the store has one database, default")
        fmt = self.headers.get("X-ClickHouse-Format") or given.get("default_format", "TabSeparated")
        if not re.fullmatch(r"\w{1,64}", fmt):
            raise Answer(404, "Code: 73. DB::Exception: Unknown format")
        if greeting.is_asked(sql, fmt, given):
            version = b"".join(self.server.reads.run("SELECT version()", "TabSeparated")[1])
            return fmt, iter((greeting.block(_NAME, version.decode().strip(), _TIMEZONE),))
        parameters = {k[6:]: v for k, v in given.items() if k.startswith("param_")}
        try:
            limits = self.server.reads.limits.within(given)
        except ValueError as e:
            raise Answer(400, f"Code: 72. DB::Exception: a limit is no number: {e}") from e
        return self.server.reads.run(sql, fmt, parameters, limits)

    def _head(self, status: int, fmt: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("X-ClickHouse-Format", fmt)
        self.send_header("X-ClickHouse-Timezone", _TIMEZONE)
        self.send_header("X-ClickHouse-Server-Display-Name", _NAME)

    def _send(self, status: int, body: bytes, fmt: str, code: str | None = None) -> None:
        self._head(status, fmt)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, message: str) -> None:
        match = re.match(r"Code: (\d+)", message)
        with suppress(OSError):
            self._send(status, message.encode() + b"\n", "TabSeparated", match and match[1])

    def _chunk(self, piece: bytes) -> None:
        if piece:
            self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")


class _Server(Serving, socketserver.UnixStreamServer):
    def server_bind(self) -> None:
        super().server_bind()
        # Nobody can connect before listen(), so there is no moment with other permissions.
        Path(str(self.server_address)).chmod(0o600)

    def get_request(self) -> Any:
        request, _ = super().get_request()
        return request, ("socket", 0)


class ReadServer:
    """Answers queries on the socket of an engine's directory, in daemon threads.

    Use ``share``: stores of one process share one.
    """

    _shared: ReadServer | None = None
    _lock = threading.RLock()

    def __init__(self, engine: Engine, limits: Limits | None = None) -> None:
        self.users = 0
        self._engine = engine
        self.limits = limits or Limits()
        self._slots = threading.BoundedSemaphore(MAX_QUERIES)
        remove_stale(engine.directory)
        self.path = _place(engine.directory)
        self._server = _Server(str(self.path), Handler)
        self._server.reads = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="netspectra-reads", daemon=True
        )
        self._thread.start()

    @classmethod
    def share(cls, engine: Engine) -> ReadServer:
        """The one server of this process.

        Raises:
            StoreError: the socket can't be made.
        """
        with cls._lock:
            if cls._shared is None:
                try:
                    cls._shared = cls(engine)
                except OSError as e:
                    msg = f"the store {engine.directory} can't be served to other processes: {e}"
                    raise StoreError(msg) from e
            cls._shared.users += 1
            return cls._shared

    def run(
        self,
        sql: str,
        fmt: str,
        parameters: dict[str, str] | None = None,
        limits: Limits | None = None,
    ) -> tuple[str, Iterator[bytes]]:
        """Run a reader's statement once a slot is free; see ``Engine.read``."""
        named, pieces = self._engine.read(sql, fmt, limits or self.limits, parameters)
        return named, self._in_slot(pieces)

    def act(self, action: Action) -> None:
        """Write down what somebody does with an alert.

        Raises:
            StoreError: the engine refused it; its message.
        """
        try:
            write(self._engine, action)
        except faults() as e:
            raise StoreError(one_line(e)) from e

    def _in_slot(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        if not self._slots.acquire(timeout=_WAIT_S):
            msg = f"Code: 202. DB::Exception: {MAX_QUERIES} queries are running; try again"
            raise StoreError(msg)
        try:
            yield from pieces
        finally:
            self._slots.release()

    def close(self) -> None:
        """Stop serving when the last user closes; running queries get a moment to end."""
        with ReadServer._lock:
            self.users -= 1
            if self.users > 0:
                return
            if ReadServer._shared is self:
                ReadServer._shared = None
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        remove_stale(self._engine.directory)
        for _ in range(MAX_QUERIES):
            self._slots.acquire(timeout=_WAIT_S)


def status_of(message: str) -> int:
    """HTTP status that ClickHouse gives an error message, by its number."""
    match = re.match(r"Code: (\d+)", message)
    return _STATUS.get(int(match[1]), 500) if match else 500


def socket_path(directory: Path) -> Path:
    """Where the socket of a store is, or would be."""
    with suppress(OSError):
        return Path((directory / NOTE_NAME).read_text(encoding="utf-8").strip())
    return directory / SOCKET_NAME


def remove_stale(directory: Path) -> None:
    """Remove what an owner that is gone left behind."""
    note = directory / NOTE_NAME
    if note.exists():
        short = socket_path(directory).parent
        if short.name.startswith(_SHORT_PREFIX) and short.is_relative_to(tempfile.gettempdir()):
            shutil.rmtree(short, ignore_errors=True)
    note.unlink(missing_ok=True)
    (directory / SOCKET_NAME).unlink(missing_ok=True)


def _place(directory: Path) -> Path:
    path = directory / SOCKET_NAME
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    short = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX)) / SOCKET_NAME
    (directory / NOTE_NAME).write_text(f"{short}\n", encoding="utf-8")
    return short
