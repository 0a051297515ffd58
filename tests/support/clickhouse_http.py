"""ClickHouse's HTTP interface in front of the embedded engine, in a process of its own.

The engine is real, the front is ours: it speaks as much of the interface as clickhouse-connect
uses, so it shows that our statements, inserts and tokens work over HTTP and how we behave when
the server doesn't. It is no ClickHouse server: users and rights, quotas, sessions, clusters,
async inserts and a server's own limits are not in it.

Each request has a session of its own, for a setting that stayed from the one before would make
every later insert a repetition: the token of an insert is such a setting.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64decode
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from flows.storage.embedded import ENGINE_OPTIONS, quote

ROOT: Final = Path(__file__).parent.parent.parent
PASSWORD: Final = "secret"
USER: Final = "default"

_NOT_SETTINGS: Final = re.compile(
    "query|database|query_id|wait_end_of_query|send_progress_in_http_headers|default_format|user|"
    "password|compress|client_protocol_version|enable_http_compression|buffer_size|role|"
    "http_headers_progress_interval_ms|session_timeout|param_.*"
)
_INSERT: Final = re.compile(rb"\s*(INSERT INTO .+?)\s+FORMAT (\w+)\s*?(?:\n|$)", re.I | re.S)
_STATUS: Final = {"60": 404, "81": 404, "46": 404, "62": 400, "516": 401}


class Refused(Exception):
    """An error as ClickHouse words it."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: told to by the test. ({name})")


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    server: Front

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._body()
        # The statement of a compressed insert is in the URL, else it is before the rows.
        insert = _INSERT.match(given.get("query", "").encode())
        if insert is None and (insert := _INSERT.match(body)):
            body = body[insert.end() :]
        try:
            if not self._allowed():
                raise Refused(516, "AUTHENTICATION_FAILED")
            if self._in_trouble(insert is not None):
                return
            if insert:
                self._insert(insert, body, given)
                self.server.count("inserts")
                if self.server.take("cut"):
                    self._hang_up()
                    return
                answer, form = b"", "Arrow"
            else:
                answer, form = self._query(body, given)
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            number = code[1] if code else "1002"
            status = _STATUS.get(number, 500)
            self._answer(status, str(error).encode(), {"X-ClickHouse-Exception-Code": number})
        else:
            self._answer(200, answer, {"X-ClickHouse-Format": form})

    def do_GET(self) -> None:
        if self.path.startswith("/?"):
            self.do_POST()
        else:
            self._answer(200, b"Ok.\n", {})

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        coding = self.headers.get("Content-Encoding", "")
        if coding == "gzip":
            return gzip.decompress(body)
        if coding == "lz4":
            import lz4.frame  # type: ignore[import-untyped]

            return bytes(lz4.frame.decompress(body))
        if coding == "zstd":
            from backports import zstd

            return bytes(zstd.decompress(body))
        assert not coding, coding
        return body

    def _allowed(self) -> bool:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and b64decode(given) == f"{USER}:{PASSWORD}".encode()

    def _in_trouble(self, is_insert: bool) -> bool:
        front = self.server
        mode, *more = front.mode.split()
        if mode == "stall":
            front.count("stalled")
            while front.mode == "stall":
                time.sleep(0.02)
            self._hang_up()
            return True
        if mode == "503" or (mode == "half" and is_insert and front.count("asked") % 2):
            front.count("refused")
            self._answer(503, b"upstream is away", {})
            return True
        if mode == "error" and is_insert:
            front.count("refused")
            raise Refused(int(more[0]), more[1])
        if mode == "slow" and is_insert:
            time.sleep(float(more[0]))
        return False

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _session(self, given: dict[str, str]) -> tuple[dict[str, str], str]:
        """Settings that go with the connection, and those that need the quotes of SQL."""
        settings = {
            name: value for name, value in given.items() if not _NOT_SETTINGS.fullmatch(name)
        }
        numbers = {name: value for name, value in settings.items() if value.isdecimal()}
        texts = (f"{n} = {quote(v)}" for n, v in settings.items() if not v.isdecimal())
        return numbers, ", ".join(texts)

    def _handle(self, numbers: dict[str, str], database: str) -> Any:
        import chdb

        options = "&".join(f"{name}={value}" for name, value in numbers.items())
        handle = chdb.connect(f"{self.server.directory}?{options}")
        if database:
            handle.query(f"USE `{database}`")
        return handle

    def _insert(self, insert: re.Match[bytes], data: bytes, given: dict[str, str]) -> None:
        numbers, texts = self._session(given)
        with (
            tempfile.NamedTemporaryFile() as file,
            closing(self._handle(numbers, given.get("database", ""))) as handle,
        ):
            file.write(data)
            file.flush()
            settings = f" SETTINGS {texts}" if texts else ""
            handle.query(
                f"{insert[1].decode()} FROM INFILE '{file.name}'{settings} "
                f"FORMAT {insert[2].decode()}"
            )

    def _query(self, body: bytes, given: dict[str, str]) -> tuple[bytes, str]:
        sql = given["query"] + "\n" + body.decode() if "query" in given else body.decode()
        form = self.headers.get("X-ClickHouse-Format") or given.get("default_format")
        if named := re.search(r"\bFORMAT (\w+)\s*;?\s*$", sql, re.I):
            form, sql = named[1], sql[: named.start()]
        form = form or "TabSeparated"
        # A dictionary reads as a user, of whom this engine knows none with a password.
        sql = sql.replace(f"USER '{USER}' PASSWORD '{PASSWORD}' ", "")
        parameters = {name[6:]: v for name, v in given.items() if name.startswith("param_")}
        numbers, _ = self._session(given)
        with closing(self._handle(numbers, given.get("database", ""))) as handle:
            result = handle.query(sql, form, params=parameters)
            return result.bytes() or b"", form

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError):
            self.send_response(status)
            self.send_header("X-ClickHouse-Timezone", "UTC")
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


class Front(ThreadingHTTPServer):
    """The listening socket, what it was told to do wrong, and how often it did."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, directory: str, port: int, state: Front | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.directory = directory
        self.mode = "up"
        self.counts: dict[str, int] = state.counts if state else {}
        self.left: dict[str, int] = state.left if state else {}
        self.lock = threading.Lock()
        self.open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def count(self, name: str) -> int:
        with self.lock:
            self.counts[name] = self.counts.get(name, 0) + 1
            return self.counts[name]

    def take(self, name: str) -> bool:
        """Whether to do so this time: every second time, until it was often enough."""
        with self.lock:
            left = self.left.get(name, 0)
            self.left[name] = max(left - 1, 0)
            now = left > 0 and left % 2 == 0
            if now:
                self.counts[name] = self.counts.get(name, 0) + 1
            return now

    def serve(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port and every connection."""
        self.shutdown()
        self.server_close()
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """Serve a directory; each line of stdin is a switch, answered by what was counted."""
    import chdb

    directory = sys.argv[1]
    # A server has databases of many tests; a job has one, in what ENGINE_OPTIONS gives it.
    limits = {**ENGINE_OPTIONS, "max_server_memory_usage": 4_000_000_000}
    options = "&".join(f"{name}={value}" for name, value in limits.items())
    chdb.connect(f"{directory}?{options}").query("SELECT 1")
    # Held open: the engine ends with its last handle.
    held = chdb.connect(f"{directory}?{options}")
    front = Front(directory, 0)
    port = front.server_address[1]
    front.serve()
    print(port, flush=True)
    for line in sys.stdin:
        switch = line.split()
        if switch[0] == "cut":
            front.left["cut"] = 2 * int(switch[1])
        elif switch[0] != "counts":
            if front.mode == "refuse" and switch[0] != "refuse":
                front = Front(directory, port, front)
                front.serve()
            front.mode = line.strip()
            if switch[0] == "refuse":
                front.refuse()
        print(json.dumps(front.counts), flush=True)
    held.close()


class ClickHouse:
    """The front as a process.

    Args:
        directory: of the engine.

    Attributes:
        setting: what ``NETSPECTRA_STORE`` is for it.
    """

    def __init__(self, directory: Path, database: str = "netspectra") -> None:
        self._directory = directory
        self._database = database

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.clickhouse_http", str(self._directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        self.use(self._database)
        return self

    def use(self, database: str) -> None:
        """Name another database in ``setting``."""
        self._database = database
        self.setting = self.at(USER, PASSWORD)

    def at(self, user: str, password: str) -> str:
        return f"http://{user}:{password}@127.0.0.1:{self.port}/{self._database}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def switch(self, mode: str) -> dict[str, int]:
        """Tell it what to do from now on; returns what it has counted.

        ``up``; ``refuse`` connections; ``stall`` without an answer; ``503``; ``half`` of the
        inserts get a 503; ``error CODE NAME`` to inserts; ``slow SECONDS`` inserts; ``cut N``:
        every second insert, N in all, is carried out and its connection closed instead of an
        answer.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{mode}\n")
        self._process.stdin.flush()
        counts: dict[str, int] = json.loads(self._process.stdout.readline())
        return counts

    @property
    def counts(self) -> dict[str, int]:
        return self.switch("counts")


if __name__ == "__main__":
    main()
