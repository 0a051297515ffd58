"""Alerts to a syslog receiver, by UDP, TCP, TLS or a socket of this machine.

Syslog knows no answers. By TCP and TLS an alert counts as arrived once the receiver has closed the
connection in turn, or has kept it open for a while without an error; a datagram once it is sent.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from flows.detect.alert import Alert
from flows.notify.formats import syslog
from flows.notify.notifier import NotTold
from flows.notify.text import line
from flows.notify.tls import context
from flows.settings.notifiers import FACILITIES, Syslog

PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
"""Ports of RFC 5426, 3195 and 5425."""

_FAREWELL_S: Final = 1.0


class SyslogNotifier:
    """One receiver; a connection an alert, for a lasting one hides that its other end is gone.

    Args:
        settings: of the notifier.

    Raises:
        UsageError: the file of certificates can't be read.
    """

    def __init__(self, settings: Syslog) -> None:
        self._scheme, _, path = settings.address.partition(":")
        self._path = path.removeprefix("//")
        url = urlsplit(settings.address)
        self._host = url.hostname or ""
        self._port = url.port or PORTS.get(self._scheme, 0)
        self._facility = FACILITIES.index(settings.facility)
        self._cef = settings.cef
        self._timeout_s = settings.timeout.total_seconds()
        self._tls = context(settings.name, settings.ca_file) if self._scheme == "tls" else None

    def send(self, alert: Alert) -> str:
        """See ``Notifier.send``."""
        limit = syslog.DATAGRAM_BYTES if self._scheme == "udp" else syslog.MAX_BYTES
        message = syslog.render(alert, self._facility, as_cef=self._cef, max_bytes=limit)
        try:
            if self._scheme == "udp":
                self._send_datagram(message)
            elif self._scheme == "unix":
                self._send_locally(message)
            else:
                self._send_stream(message)
        except OSError as error:
            why = "no connection in time" if isinstance(error, TimeoutError) else error.strerror
            raise NotTold(line(why or type(error).__name__)) from None
        return "sent"

    def close(self) -> None:
        """See ``Notifier.close``."""

    def _send_datagram(self, message: bytes) -> None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as sending:
            sending.connect(address)
            sending.send(message)

    def _send_locally(self, message: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.settimeout(self._timeout_s)
            sending.connect(self._path)
            sending.send(message)

    def _send_stream(self, message: bytes) -> None:
        """Send a message with its length before it (RFC 6587, section 3.4.1)."""
        address = self._host, self._port
        with contextlib.ExitStack() as stack:
            sending = stack.enter_context(socket.create_connection(address, self._timeout_s))
            if self._tls is not None:
                sending = stack.enter_context(
                    self._tls.wrap_socket(sending, server_hostname=self._host)
                )
            sending.sendall(b"%d %b" % (len(message), message))
            sending.settimeout(_FAREWELL_S)
            with contextlib.suppress(TimeoutError):
                if isinstance(sending, ssl.SSLSocket):
                    with contextlib.suppress(ssl.SSLError):
                        sending = sending.unwrap()  # which says that nothing more comes
                sending.shutdown(socket.SHUT_WR)
                while sending.recv(1024):
                    pass
