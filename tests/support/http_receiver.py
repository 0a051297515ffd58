"""A receiver of webhooks on loopback that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Post:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def delivery(self) -> str:
        return self.headers["x-netspectra-delivery"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to do with a request; ``status`` 0 drops the connection without an answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    accepted: bool = True
    """Whether the receiver has taken note of the message, whatever it answers."""
    wait: threading.Event | None = None
    """Answer only when this is set."""


class Receiver:
    """An HTTP server in this process.

    Attributes:
        posts: every request, in order.
        accepted: deliveries that the receiver took note of, in order.
        answer: decides about each request.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.posts: list[Post] = []
        self.accepted: list[str] = []
        self.answer: Callable[[Post], Answer] = lambda _: Answer()
        self._context = context
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        scheme = "https" if self._context else "http"
        return f"{scheme}://localhost:{self.port}/hook"

    def start(self) -> None:
        """Begin to take connections."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                headers = {name.lower(): text for name, text in self.headers.items()}
                receiver.handle(self, Post(self.path, headers, self.rfile.read(size)))

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: Any) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", self.port), Handler)
        if self._context:
            self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, handler: BaseHTTPRequestHandler, post: Post) -> None:
        answer = self.answer(post)
        self.posts.append(post)
        if answer.accepted and (answer.status == 0 or 200 <= answer.status < 300 or answer.wait):
            self.accepted.append(post.delivery)
        if answer.wait is not None:
            answer.wait.wait(30)
        handler.close_connection = True
        if answer.status == 0:
            return
        with contextlib.suppress(OSError):
            handler.send_response(answer.status)
            for name, text in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                handler.send_header(name, text)
            handler.end_headers()
            handler.wfile.write(answer.body)

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
