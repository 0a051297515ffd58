"""Clean traffic that a careless detector takes for an attack: the negatives of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from probe.synthetic.applications import ALTERNATE, DOWNLOAD, UPLOAD
from probe.synthetic.bits import UDP
from probe.synthetic.scenario.addresses import number, text
from probe.synthetic.scenario.arrivals import nightly, steady
from probe.synthetic.scenario.background import (
    AUTHORITATIVE,
    FULL,
    INTERNET,
)
from probe.synthetic.scenario.exchange import EACH, EVEN, SKEWED, Pick, Stream, stream
from probe.synthetic.scenario.outcomes import FAILURES, Outcome, connections
from probe.synthetic.scenario.planted import Entity, Planted, Slot, own
from probe.synthetic.schedule import derive

SERVERS: Final = number("10.1.1.32")
RESOLVERS: Final = number("10.1.3.32")
"""Default hosts of look-alikes, inside the named networks ``servers`` and ``dns``."""

VISITORS_NET: Final = number("112.0.0.0")
COLLEAGUES_NET: Final = number("10.202.0.0")
HTTPS: Final = Pick(443)


@dataclass(frozen=True, kw_only=True)
class BusyServer(Planted):
    """A web server with thousands of clients: from it go packets to very many hosts and ports."""

    kinds: ClassVar = ("host_scan", "super_spreader")
    related: ClassVar = ("fan_in",)
    hostile: ClassVar = False

    clients_per_second: float = 50.0
    visitors: int = 2**14 - 1
    """Different clients, a power of two less one; a few come often."""
    server: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The server, as a source."""
        return {"src_addr": text(own(self.server, SERVERS + slot.place), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One connection a client."""
        visits = stream(
            self.arrivals(slot, self.clients_per_second),
            slot.seed,
            clients=Pick(VISITORS_NET, self.visitors, SKEWED),
            servers=Pick(own(self.server, SERVERS + slot.place)),
            server_ports=HTTPS,
            outcomes=[*connections((9, 200), 0.03, DOWNLOAD), *FAILURES],
            request_bytes=(0, 500),
            reply_bytes=FULL,
            ipv6=self.ipv6,
        )
        return [visits]


@dataclass(frozen=True, kw_only=True)
class FlashCrowd(Planted):
    """Everybody comes at once: a wave of connections from new clients, nearly all completed."""

    kinds: ClassVar = ("syn_flood",)
    related: ClassVar = ("fan_in", "super_spreader", "volume")
    hostile: ClassVar = False

    connections_per_second: float = 1_000.0
    server: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The server and its port."""
        server = text(own(self.server, SERVERS + slot.place), self.ipv6)
        return {"dst_addr": server, "dst_port": "443"}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One connection a client."""
        crowd = stream(
            self.arrivals(slot, self.connections_per_second),
            slot.seed,
            clients=Pick(VISITORS_NET, 2**22, EACH),
            servers=Pick(own(self.server, SERVERS + slot.place)),
            server_ports=HTTPS,
            outcomes=[*connections((9, 40), 0.03, DOWNLOAD), *FAILURES],
            request_bytes=(0, 500),
            reply_bytes=FULL,
            ipv6=self.ipv6,
        )
        return [crowd]


@dataclass(frozen=True, kw_only=True)
class ManyConnections(Planted):
    """A client that opens many connections to one server, whose answers go to as many ports."""

    kinds: ClassVar = ("port_scan",)
    hostile: ClassVar = False

    connections: int = 500
    """Spread evenly over the duration, each from a port of its own."""
    client: str | None = None
    server: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The server as source, the client as destination."""
        server, client = own(self.server, slot.outsider), own(self.client, slot.attacker)
        return {"src_addr": text(server, self.ipv6), "dst_addr": text(client, self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """The connections."""
        start, end = self.window_ns(slot)
        talks = stream(
            steady(start, end, self.connections / self.duration_s),
            slot.seed,
            clients=Pick(own(self.client, slot.attacker)),
            client_ports=Pick(32_768, 28_232, EACH),
            servers=Pick(own(self.server, slot.outsider)),
            server_ports=HTTPS,
            outcomes=connections((9, 60), 0.02, DOWNLOAD),
            request_bytes=(0, 500),
            reply_bytes=FULL,
            ipv6=self.ipv6,
        )
        return [talks]


@dataclass(frozen=True, kw_only=True)
class FewBusyClients(Planted):
    """Few clients with very many connections to one server: many flows, few sources."""

    kinds: ClassVar = ("fan_in",)
    hostile: ClassVar = False

    clients: int = 20
    connections_per_second: float = 100.0
    server: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The server."""
        return {"dst_addr": text(own(self.server, slot.victim), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """The connections."""
        talks = stream(
            self.arrivals(slot, self.connections_per_second),
            slot.seed,
            clients=Pick(COLLEAGUES_NET + (slot.place << 8) + 1, self.clients, EVEN),
            servers=Pick(own(self.server, slot.victim)),
            server_ports=Pick(5432),
            outcomes=connections((8, 40), 0.01, ALTERNATE),
            request_bytes=(40, 300),
            reply_bytes=(40, 1100),
            ipv6=self.ipv6,
        )
        return [talks]


@dataclass(frozen=True, kw_only=True)
class LargeAnswers(Planted):
    """A resolver that gets large answers (DNSSEC) from many name servers, to its own queries."""

    kinds: ClassVar = ("amplification",)
    hostile: ClassVar = False

    queries_per_second: float = 300.0
    answer_bytes: int = 1200
    """Payload, 400 to 1,400."""
    resolver: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The resolver and the port of the answers."""
        resolver = text(own(self.resolver, RESOLVERS + slot.place), self.ipv6)
        return {"dst_addr": resolver, "src_port": "53"}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """Queries and their answers."""
        queries = stream(
            self.arrivals(slot, self.queries_per_second),
            slot.seed,
            clients=Pick(own(self.resolver, RESOLVERS + slot.place)),
            client_ports=Pick(1024, 64_512, EVEN),
            servers=AUTHORITATIVE,
            server_ports=Pick(53),
            outcomes=[Outcome(0.98, 2, 0.03, ALTERNATE), Outcome(0.02, 1, 0.03)],
            request_bytes=(40, 80),
            reply_bytes=(self.answer_bytes * 9 // 10, min(self.answer_bytes * 11 // 10, 1472)),
            protocol=UDP,
            ipv6=self.ipv6,
        )
        return [queries]


@dataclass(frozen=True, kw_only=True)
class NightlyBackup(Planted):
    """A host that sends many times its usual rate, but every night at the same hour.

    It recurs over the whole scenario; ``start_s`` and ``duration_s`` mean nothing here.
    """

    kinds: ClassVar = ("volume",)
    hostile: ClassVar = False

    usual_packets_per_second: float = 0.2
    factor: float = 20.0
    """How many times the usual rate it sends at night."""
    hour: float = 3.0
    """Hour of the day, UTC."""
    minutes: float = 30.0
    source: str | None = None

    def window_ns(self, slot: Slot) -> tuple[int, int]:
        """The whole scenario."""
        return slot.begin_ns, slot.end_ns

    def entity(self, slot: Slot) -> Entity:
        """The host."""
        return {"src_addr": text(own(self.source, slot.attacker), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """Uploads: some all the time, and those of the night."""
        shape = connections((9, 200), 0.02, UPLOAD)
        source = Pick(own(self.source, slot.attacker))
        usual = stream(
            steady(0, slot.end_ns, 1.0),
            derive(slot.seed, 0),
            clients=source,
            servers=INTERNET,
            server_ports=HTTPS,
            outcomes=shape,
            request_bytes=FULL,
            ipv6=self.ipv6,
        )
        rate = self.usual_packets_per_second / usual.mean_packets
        length_ns = round(self.minutes * 60e9)
        nights = nightly(
            slot.origin_ns, slot.end_ns, self.hour, length_ns,
            rate * (self.factor - 1) * length_ns / 1e9,
        )  # fmt: skip
        backup = usual._replace(arrivals=nights, seed=usual.seed + 1)
        return [usual._replace(arrivals=steady(0, slot.end_ns, rate)), backup]
