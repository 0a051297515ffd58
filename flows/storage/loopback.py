"""Serves an embedded store on a TCP port of this machine, for programs that take no Unix socket.

The same statements with the same limits as on the socket (see ``server``), but alerts can't be
acted on. Whoever uses the machine reaches the port, pages in a browser too; so instead of the
socket's permissions there is a password, in ClickHouse's own header ``X-ClickHouse-Key`` or by
HTTP's basic authentication, under any user's name. There is no TLS: whoever wants the store from
elsewhere puts a proxy before it.
"""

from __future__ import annotations

import base64
import hmac
import socketserver
import threading
from contextlib import suppress
from typing import Final

from flows import logs
from flows.errors import UsageError
from flows.settings.model import Storage
from flows.storage.server import Answer, Handler, Serving
from flows.storage.store import Store

ADDRESS: Final = "127.0.0.1"
"""What is listened on."""


class _Handler(Handler):
    """One connection; without the password nothing but a ping is answered."""

    server: _Server

    def do_POST(self) -> None:
        """Answer a statement, and nothing else."""
        self.do_GET()

    def admit(self) -> None:
        """Let those who know the password run a statement."""
        if not hmac.compare_digest(self._password(), self.server.password):
            raise Answer(
                403,
                "Code: 516. DB::Exception: wanted the password of storage.serve_password. "
                "(AUTHENTICATION_FAILED)",
            )

    def _password(self) -> bytes:
        key = self.headers.get("X-ClickHouse-Key")
        if key is not None:
            return key.encode("latin-1")  # as bytes of a header are read
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        with suppress(ValueError):
            if scheme.lower() == "basic":
                return base64.b64decode(credentials, validate=True).partition(b":")[2]
        return b""


class _Server(Serving, socketserver.TCPServer):
    allow_reuse_address = True
    password: bytes


class LoopbackServer:
    """Serves an open store until it is closed.

    Args:
        store: embedded, and served on its socket.
        settings: port and password; without a port nothing is served.

    Raises:
        UsageError: the port can't be had.
    """

    def __init__(self, store: Store, settings: Storage) -> None:
        self._server: _Server | None = None
        port, password = settings.serve_port, settings.serve_password
        if port is None or password is None or store.reads is None:
            return
        try:
            server = _Server((ADDRESS, port), _Handler)
        except OSError as error:
            msg = (
                f"the store can't be served at {ADDRESS}:{port}: {error.strerror}; set "
                "NETSPECTRA_STORAGE__SERVE_PORT to another port, or to nothing"
            )
            raise UsageError(msg) from error
        server.reads, server.password = store.reads, password.get_secret_value().encode()
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, name="netspectra-loopback", daemon=True
        )
        self._thread.start()
        logs.get("store").info("the store answers queries", address=f"http://{ADDRESS}:{port}")

    def close(self) -> None:
        """Stop serving."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()
