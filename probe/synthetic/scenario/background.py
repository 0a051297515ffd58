"""The clean traffic of a scenario: one site, as conversations of a few applications.

Clients and servers are picked by Zipf's law and conversations have heavy-tailed lengths, but a
client knows only some servers of each application, so nobody meets very many others except
those that do so in reality: resolvers, the NAT gateway, busy servers (``NETWORKS`` names them).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from probe.synthetic.applications import ALTERNATE, DOWNLOAD, UPLOAD
from probe.synthetic.bits import TCP, UDP
from probe.synthetic.scenario.addresses import number
from probe.synthetic.scenario.arrivals import Arrivals, Rhythm, nightly, steady, within
from probe.synthetic.scenario.exchange import (
    FAVOURITE,
    SHORTEST_CONNECTION,
    SKEWED,
    Pick,
    Stream,
    stream,
)
from probe.synthetic.scenario.outcomes import FAILURES, Outcome, connections
from probe.synthetic.schedule import derive

CLIENTS_NET: Final = number("10.16.0.1")
INTERNET: Final = Pick(number("198.18.0.1"), 2**13 - 1, FAVOURITE)
ANYONE: Final = Pick(number("198.18.0.1"), 2**13 - 1, SKEWED)
VISITORS: Final = Pick(number("198.19.0.1"), 2**15 - 1, SKEWED)
WEB_SERVERS: Final = Pick(number("10.1.1.1"), 2**3 - 1, SKEWED)
FILE_SERVERS: Final = Pick(number("10.1.2.1"), 2**4 - 1, FAVOURITE)
DATABASES: Final = Pick(number("10.1.4.1"), 2**3 - 1, FAVOURITE)
RESOLVERS: Final = Pick(number("10.1.3.1"), 2**2 - 1, SKEWED)
TIME_SERVERS: Final = Pick(number("10.1.3.9"))
AUTHORITATIVE: Final = Pick(number("198.18.128.1"), 2**10 - 1, SKEWED)
NAT_GATEWAY: Final = Pick(number("10.1.0.254"))
BACKED_UP: Final = Pick(number("10.1.4.20"))
BACKUP_SERVER: Final = Pick(number("10.1.2.200"))

BACKUP_HOUR: Final = 1.0
BACKUP_S: Final = 1200
BACKUP_FACTOR: Final = 2
BACKUP_CONNECTIONS: Final = 8
BACKUP_START_NS: Final = 10 * 10**9
"""Within this time all connections of a backup begin."""

BACKUP_PORT: Final = 873

FULL: Final = (1448, 1448)


class Application(NamedTuple):
    """One kind of conversation."""

    share: float
    """Part of the background's packets."""
    clients: Pick | None
    """None for the site's clients."""
    servers: Pick
    port: int
    lengths: tuple[int, int]
    """Shortest and longest conversation, in packets, both directions."""
    gap_s: float
    request_bytes: tuple[int, int]
    reply_bytes: tuple[int, int]
    protocol: int = TCP
    turns: int = DOWNLOAD
    ipv6: bool = False


APPLICATIONS: Final = (
    Application(0.36, None, INTERNET, 443, (9, 2000), 0.015, (0, 400), FULL),
    Application(0.08, None, INTERNET, 443, (9, 2000), 0.015, (0, 400), FULL, ipv6=True),
    Application(0.12, None, INTERNET, 443, (8, 1500), 0.01, (33, 90), (1250, 1250), UDP),
    Application(0.12, VISITORS, WEB_SERVERS, 443, (9, 600), 0.03, (0, 500), FULL),
    Application(0.07, NAT_GATEWAY, ANYONE, 443, (9, 600), 0.02, (0, 400), FULL),
    Application(0.09, None, FILE_SERVERS, 445, (20, 3000), 0.01, (0, 190), FULL),
    Application(
        0.05, None, DATABASES, 5432, (12, 900), 0.02, (60, 300), (60, 1100), TCP, ALTERNATE
    ),
    Application(0.03, None, INTERNET, 993, (14, 300), 0.05, (60, 120), (60, 1448), TCP, ALTERNATE),
    Application(0.02, None, FILE_SERVERS, 22, (40, 600), 0.08, (36, 90), (36, 420), TCP, ALTERNATE),
    Application(0.04, None, RESOLVERS, 53, (2, 2), 0.004, (30, 60), (48, 220), UDP, ALTERNATE),
    Application(
        0.015, RESOLVERS, AUTHORITATIVE, 53, (2, 2), 0.03, (30, 70), (80, 480), UDP, ALTERNATE
    ),
    Application(0.005, None, TIME_SERVERS, 123, (2, 2), 0.002, (48, 48), (48, 48), UDP, ALTERNATE),
)


@dataclass(frozen=True)
class Background:
    """Clean traffic: nothing in it should alarm anybody who is told ``NETWORKS``.

    Conversations in both directions (TCP with handshake and close, QUIC, DNS, NTP), 2 % failed
    connections, busy web servers with thousands of visitors, resolvers that ask a thousand name
    servers, a NAT gateway, and each night at 1:00 UTC a backup of about 20 minutes at twice
    the mean rate, on top of it.
    """

    packets_per_second: float = 5_000.0
    """Mean rate; with a rhythm, the mean over a week."""
    rhythm: Rhythm | None = None
    """Day and night; None for the same rate always."""
    client_bits: int | None = None
    """2**client_bits - 1 hosts are clients, 4 to 18; None for about one a packet/s, at least
    255 and at most 65,535."""

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range.
        """
        within("packets_per_second", self.packets_per_second, 0.01, 1e8)
        if self.client_bits is not None:
            within("client_bits", self.client_bits, 4, 18)

    @property
    def clients(self) -> Pick:
        """The site's clients."""
        fitting = min(max(round(self.packets_per_second).bit_length(), 8), 16)
        return Pick(CLIENTS_NET, 2 ** (self.client_bits or fitting) - 1, SKEWED)

    def streams(self, seed: int, origin_ns: int, end_ns: int) -> list[Stream]:
        """Lay out the background from its origin (Unix time) to the end (ns after the origin)."""
        arrivals: Callable[[float], Arrivals] = functools.partial(steady, 0, end_ns)
        if self.rhythm is not None:
            arrivals = self.rhythm.arrivals(origin_ns, end_ns)
        made = [
            self._application(app, derive(seed, k), arrivals) for k, app in enumerate(APPLICATIONS)
        ]
        return [*made, self._backup(derive(seed, len(APPLICATIONS)), origin_ns, end_ns)]

    def _application(
        self, app: Application, seed: int, arrivals: Callable[[float], Arrivals]
    ) -> Stream:
        outcomes = connections(app.lengths, app.gap_s, app.turns)
        if app.protocol == TCP:
            outcomes += FAILURES
        laid = stream(
            arrivals(1.0),
            seed,
            clients=app.clients or self.clients,
            servers=app.servers,
            server_ports=Pick(app.port),
            outcomes=outcomes,
            request_bytes=app.request_bytes,
            reply_bytes=app.reply_bytes,
            protocol=app.protocol,
            ipv6=app.ipv6,
        )
        rate = self.packets_per_second * app.share / laid.mean_packets
        return laid._replace(arrivals=arrivals(rate))

    def _backup(self, seed: int, origin_ns: int, end_ns: int) -> Stream:
        length = round(self.packets_per_second * BACKUP_FACTOR * BACKUP_S / BACKUP_CONNECTIONS)
        length = max(length, SHORTEST_CONNECTION)
        return stream(
            nightly(origin_ns, end_ns, BACKUP_HOUR, BACKUP_START_NS, BACKUP_CONNECTIONS),
            seed,
            clients=BACKED_UP,
            servers=BACKUP_SERVER,
            server_ports=Pick(BACKUP_PORT),
            outcomes=[Outcome(1, length, BACKUP_S / length, UPLOAD)],
            request_bytes=FULL,
        )
