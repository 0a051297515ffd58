"""A schema registry's HTTP interface, as far as we use it, in memory on the loopback address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """Schemas by id, and switches for faults.

    Attributes:
        schemas: as they were registered; an id is a place in the list plus 1.
        refuse: status to answer with instead; 0 for none.
        requests: method and path of each request.
        logins: the headers with which clients said who they are.
    """

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.refuse = 0
        self.requests: list[str] = []
        self.logins: list[str | None] = []
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse, {"error_code": self.refuse * 100}
        if method == "POST":
            if body not in self.schemas:
                self.schemas.append(body)
            return 200, {"id": self.schemas.index(body) + 1}
        number = int(path.rpartition("/")[2])
        if 1 <= number <= len(self.schemas):
            return 200, self.schemas[number - 1]
        return 404, {"error_code": 40403}


@contextmanager
def serving() -> Iterator[Registry]:
    """Serve an empty registry meanwhile."""
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do("GET", None)

        def do_POST(self) -> None:
            self._do("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _do(self, method: str, body: Any) -> None:
            registry.requests.append(f"{method} {self.path}")
            registry.logins.append(self.headers.get("Authorization"))
            status, answer = registry.answer(method, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
