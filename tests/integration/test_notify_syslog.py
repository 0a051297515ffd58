"""Syslog to real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from flows.notify.notifier import NotTold
from flows.notify.syslog import SyslogNotifier
from flows.settings.notifiers import Syslog
from tests.support.alerts import alert
from tests.support.certificates import Authority
from tests.support.kafka import wait_until


def notifier(address: str, **more: Any) -> SyslogNotifier:
    values = {"name": "siem", "type": "syslog", "address": address, "timeout": "5s"}
    return SyslogNotifier(Syslog.model_validate(values | more))


@contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that keeps what each connection brought."""
    brought: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with suppress(ssl.SSLError), connection:
                        reading = connection
                        if context is not None:
                            reading = context.wrap_socket(connection, server_side=True)
                        data = b""
                        with reading:
                            while piece := reading.recv(65536):
                                data += piece
                        brought.append(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], brought
        server.shutdown(socket.SHUT_RDWR)


def messages(data: bytes) -> list[bytes]:
    """Messages with their lengths before them, as RFC 6587 says."""
    found = []
    while data:
        size, _, rest = data.partition(b" ")
        found.append(rest[: int(size)])
        assert len(found[-1]) == int(size)
        data = rest[int(size) :]
    return found


def test_udp() -> None:
    """One datagram an alert, of at most 2048 bytes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        port = receiver.getsockname()[1]
        notifier(f"udp://127.0.0.1:{port}", facility="auth").send(alert(summary="é" * 5000))
        data = receiver.recv(65536)
    assert data.startswith(b"<36>1 ")
    assert 1500 < len(data) <= 2048
    data.decode()


def test_a_socket_of_this_machine(tmp_path: Path) -> None:
    """Programs that listen as syslogd does get a datagram."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(10)
        told = notifier(f"unix:{path}", cef=True)
        told.send(alert())
        assert b"CEF:0|NetSpectra|" in receiver.recv(65536)
    path.unlink()
    with pytest.raises(NotTold, match="No such file"):
        told.send(alert())


def test_tcp() -> None:
    """A message has its length before it; those to come find a new connection."""
    with listening() as (port, brought):
        told = notifier(f"tcp://localhost:{port}")
        for revision in (1, 2):
            told.send(alert(revision=revision))
        wait_until(lambda: len(brought) == 2)
    for revision, data in enumerate(brought, 1):
        (message,) = messages(data)
        assert f'revision="{revision}"'.encode() in message
    with pytest.raises(NotTold, match="Connection refused"):
        told.send(alert())


def test_tls(tmp_path: Path) -> None:
    """The server must be known; what it gets is the same."""
    authority = Authority(tmp_path)
    with listening(authority.server) as (port, brought):
        with pytest.raises(NotTold, match="certificate"):
            notifier(f"tls://localhost:{port}").send(alert())
        notifier(f"tls://localhost:{port}", ca_file=str(authority.file)).send(alert())
        wait_until(lambda: bool(brought))
    (message,) = messages(brought[-1])
    assert alert().title.encode() in message


def test_a_connection_that_breaks_is_noticed() -> None:
    """A receiver that resets the connection hasn't taken the alert."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            linger = b"\x01\0\0\0\0\0\0\0"  # close with a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(NotTold, match=r"reset|Broken pipe|not connected"):
            notifier(f"tcp://127.0.0.1:{server.getsockname()[1]}").send(alert())
