"""A service that speaks OpenAI's protocol and does what a script says, on a real local socket."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rows = dict[str, dict[str, str]]


@dataclass
class Asked:
    """A request as it came."""

    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return "\n".join(str(message["content"]) for message in self.body["messages"])

    @property
    def rows(self) -> Rows:
        """Rows of evidence, by name."""
        found = {}
        for data in re.findall(r"<data>\n(.*?)\n</data>", self.text, re.DOTALL):
            for row in map(json.loads, data.splitlines()):
                if "row" in row:
                    found[row.pop("row")] = row
        return found

    def named(self, kind: str) -> str:
        """Name of the first row of a kind."""
        return next(name for name, row in self.rows.items() if row["kind"] == kind)

    @property
    def told(self) -> list[str]:
        """What tools answered, in order."""
        return [m["content"] for m in self.body["messages"] if m["role"] == "tool"]


@dataclass
class Say:
    """An answer: status, headers, body; or what is wrong with it."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    drops: bool = False
    cut: bool = False
    drips: bool = False


Act = Callable[[Asked], Say]


def claim(text: str, *rows: str) -> dict[str, Any]:
    return {"text": text, "rows": list(rows)}


def good(asked: Asked) -> dict[str, Any]:
    """An answer that holds, about whatever was asked."""
    name, row = next((n, r) for n, r in asked.rows.items() if r["kind"] == "alert")
    return {
        "what": claim(f"It is {row['detector']} at {row['value']} {row['unit']}.", name),
        "seriousness": "medium",
        "confidence": 0.7,
        "root_cause": [claim("A tool that looks for open services.", name)],
        "next_checks": [claim("Look at the flows for 15 minutes.", name)],
        "mitigation": [
            claim("Isolate the host.", name)
            | {"risk": "Its services are away.", "undo": "Connect it again."}
        ],
        "details": [],
    }


def completion(content: Any, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    text = content if isinstance(content, str | None) else json.dumps(content)
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 700, "completion_tokens": 300, "total_tokens": 1000}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def well(asked: Asked) -> Say:
    return Say(completion(good(asked)))


class Service:
    """Does each act of a script once, then the last one again and again."""

    def __init__(self, *script: Act | Say) -> None:
        self.script: list[Act | Say] = list(script) or [well]
        self.asked: list[Asked] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked({k.lower(): v for k, v in self.headers.items()}, json.loads(body))
                service.do(asked, self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def do(self, asked: Asked, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.asked.append(asked)
            act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        say = act if isinstance(act, Say) else act(asked)
        handler.close_connection = True
        if say.hangs:
            self.released.wait(60)
            return
        if say.drops:
            return
        text = say.body if isinstance(say.body, bytes | str) else json.dumps(say.body)
        body = text if isinstance(text, bytes) else text.encode()
        handler.send_response(say.status)
        for name, value in ({"Content-Type": "application/json"} | dict(say.headers)).items():
            handler.send_header(name, value)
        # Or the client takes the connection for one that it can use again.
        handler.send_header("Connection", "close")
        handler.send_header("Content-Length", str(len(body) + say.cut))
        handler.end_headers()
        if say.drips:
            for at in range(len(body)):
                handler.wfile.write(body[at : at + 1])
                handler.wfile.flush()
                if self.released.wait(0.05):
                    return
            return
        handler.wfile.write(body)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def service(*script: Act | Say) -> Iterator[Service]:
    running = Service(*script)
    try:
        yield running
    finally:
        running.close()


def streamed(*words: str, finish: str | None = "stop") -> Say:
    """An answer that comes in pieces."""
    return _stream([{"content": word} for word in words], finish)


def calling(*calls: tuple[str, Any], words: str = "", finish: str | None = "tool_calls") -> Say:
    """Calls of tools, by name and arguments, each in several pieces."""
    pieces: list[dict[str, Any]] = [{"content": words}] if words else []
    for index, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        begin = {"index": index, "id": f"call-{name}-{index}", "type": "function"}
        pieces.append({"tool_calls": [begin | {"function": {"name": name, "arguments": ""}}]})
        pieces += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
            for part in (text[:7], text[7:])
        ]
    return _stream(pieces, finish)


def _stream(deltas: list[dict[str, Any]], finish: str | None) -> Say:
    chunks: list[dict[str, Any]] = [{"delta": delta, "finish_reason": None} for delta in deltas]
    if finish:
        chunks.append({"delta": {}, "finish_reason": finish})
    lines = [
        json.dumps(
            {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, **chunk}],
            }
        )
        for chunk in chunks
    ]
    body = "".join(f"data: {line}\n\n" for line in lines)
    body += "data: [DONE]\n\n" if finish else ""
    return Say(body, headers={"Content-Type": "text/event-stream"})
