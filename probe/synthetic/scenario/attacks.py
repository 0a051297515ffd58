"""The attacks: one class for each detector, with its intensities as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from probe.synthetic.applications import DOWNLOAD, UPLOAD
from probe.synthetic.bits import ACK, FIN, PSH, SYN, TCP, UDP
from probe.synthetic.scenario.addresses import LAB, NETWORKS, block, number, text
from probe.synthetic.scenario.arrivals import stepwise, within
from probe.synthetic.scenario.background import FULL, INTERNET
from probe.synthetic.scenario.exchange import (
    EACH,
    EVEN,
    Pick,
    Stream,
    stream,
)
from probe.synthetic.scenario.outcomes import Outcome, connections, datagrams, probes, script
from probe.synthetic.scenario.planted import Entity, Planted, Slot, own
from probe.synthetic.schedule import derive

URG: Final = 0x20
SCAN_FLAGS: Final = {"syn": SYN, "fin": FIN, "null": 0, "xmas": FIN | PSH | URG}
"""First packet's flags by the name of the scan."""

ANSWER_S: Final = 0.003
SCANNED_NET: Final = "10.128.0.0/9"
SPOOFED: Final = Pick(number("32.0.0.0"), 2**29, EACH)
PEERS_NET: Final = number("64.0.0.0")
PEER_PORTS: Final = Pick(1024, 60_000, EACH)
CROWD_NET: Final = number("80.0.0.0")
REFLECTORS_NET: Final = number("96.0.0.0")
ONLY_REPLIES: Final = 0xFFFF
ONLY_REQUESTS: Final = 0


@dataclass(frozen=True, kw_only=True)
class HostScan(Planted):
    """One source tries one port of one host after the other, each once."""

    kinds: ClassVar = ("host_scan",)
    related: ClassVar = ("super_spreader",)

    hosts_per_second: float = 10.0
    """1/6 is the slow scan: a hundred hosts in ten minutes."""
    port: int = 445
    protocol: str = "tcp"
    """``tcp`` (SYN) or ``udp``."""
    closed: float = 0.1
    """Part of the hosts that answer with RST; with ``udp`` nobody does."""
    opened: float = 0.02
    """Part of the hosts that answer otherwise."""
    source: str | None = None
    targets: str = SCANNED_NET
    """The hosts, an IPv4 network."""

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range.
        """
        super().__post_init__()
        within("closed + opened", self.closed + self.opened, 0, 1)

    def entity(self, slot: Slot) -> Entity:
        """The source, the port and the protocol."""
        return {
            "src_addr": text(own(self.source, slot.attacker), self.ipv6),
            "dst_port": str(self.port),
            "ip_proto": str(TCP if self.protocol == "tcp" else UDP),
        }

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One probe a host."""
        tcp = self.protocol == "tcp"
        scan = stream(
            self.arrivals(slot, self.hosts_per_second),
            slot.seed,
            clients=Pick(own(self.source, slot.attacker)),
            servers=Pick(*block(self.targets), EACH),
            server_ports=Pick(self.port),
            outcomes=probes(SYN, self.closed, self.opened, ANSWER_S)
            if tcp
            else datagrams(self.opened, ANSWER_S),
            request_bytes=(40, 60),
            reply_bytes=(60, 200),
            protocol=TCP if tcp else UDP,
            ipv6=self.ipv6,
        )
        return [scan]


@dataclass(frozen=True, kw_only=True)
class PortScan(Planted):
    """One source tries one port of a target after the other, each once before any again."""

    kinds: ClassVar = ("port_scan",)

    ports_per_second: float = 50.0
    method: str = "syn"
    """``syn``, ``fin``, ``null``, ``xmas`` or ``udp``."""
    ports: int = 65_535
    """Ports 1 to this one are tried."""
    closed: float = 0.9
    """Part of the ports that answer with RST; with ``udp`` none does."""
    opened: float = 0.01
    """Part of the ports that are open."""
    source: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range.
        """
        super().__post_init__()
        within("closed + opened", self.closed + self.opened, 0, 1)

    def entity(self, slot: Slot) -> Entity:
        """Source and target."""
        return {
            "src_addr": text(own(self.source, slot.outsider), self.ipv6),
            "dst_addr": text(own(self.target, slot.victim), self.ipv6),
        }

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One probe a port, all from one port of the source, as scanners do."""
        udp = self.method == "udp"
        scan = stream(
            self.arrivals(slot, self.ports_per_second),
            slot.seed,
            clients=Pick(own(self.source, slot.outsider)),
            servers=Pick(own(self.target, slot.victim)),
            client_ports=Pick(40_000 + slot.seed % 20_000),
            server_ports=Pick(1, self.ports, EACH),
            outcomes=datagrams(self.opened, ANSWER_S)
            if udp
            else probes(SCAN_FLAGS[self.method], self.closed, self.opened, ANSWER_S),
            reply_bytes=(20, 100),
            protocol=UDP if udp else TCP,
            ipv6=self.ipv6,
        )
        return [scan]


@dataclass(frozen=True, kw_only=True)
class SuperSpreader(Planted):
    """One source has whole connections with many peers, each at a port of its own."""

    kinds: ClassVar = ("super_spreader",)

    peers_per_second: float = 5.0
    peers: int = 100_000
    """Different peers before the first comes again."""
    longest: int = 60
    """Packets of the longest connection; the shortest has 8."""
    source: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The source."""
        return {"src_addr": text(own(self.source, slot.attacker), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One connection a peer."""
        talks = stream(
            self.arrivals(slot, self.peers_per_second),
            slot.seed,
            clients=Pick(own(self.source, slot.attacker)),
            servers=Pick(PEERS_NET, self.peers, EACH),
            server_ports=PEER_PORTS,
            outcomes=connections((8, self.longest), 0.03, DOWNLOAD),
            request_bytes=(20, 400),
            reply_bytes=FULL,
            ipv6=self.ipv6,
        )
        return [talks]


@dataclass(frozen=True, kw_only=True)
class FanIn(Planted):
    """Many sources send to one target: whole connections, or datagrams that nobody answers."""

    kinds: ClassVar = ("fan_in",)

    sources_per_second: float = 100.0
    sources: int = 50_000
    """Different sources before the first comes again."""
    port: int = 8080
    protocol: str = "tcp"
    """``tcp`` or ``udp``."""
    target: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The target."""
        return {"dst_addr": text(own(self.target, slot.victim), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One exchange a source."""
        udp = self.protocol == "udp"
        crowd = stream(
            self.arrivals(slot, self.sources_per_second),
            slot.seed,
            clients=Pick(CROWD_NET, self.sources, EACH),
            servers=Pick(own(self.target, slot.victim)),
            server_ports=Pick(self.port),
            outcomes=[Outcome(1, 3, 0.05, ONLY_REQUESTS)]
            if udp
            else connections((8, 30), 0.03, DOWNLOAD),
            request_bytes=(60, 400),
            reply_bytes=FULL,
            protocol=UDP if udp else TCP,
            ipv6=self.ipv6,
        )
        return [crowd]


@dataclass(frozen=True, kw_only=True)
class SynFlood(Planted):
    """SYNs from spoofed sources, each a new one, to one port of a victim."""

    kinds: ClassVar = ("syn_flood",)
    related: ClassVar = ("fan_in", "super_spreader")

    syns_per_second: float = 2_000.0
    port: int = 443
    answered: float = 0.3
    """Part of the SYNs that the victim still answers."""
    target: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The victim and its port."""
        target = text(own(self.target, slot.victim), self.ipv6)
        return {"dst_addr": target, "dst_port": str(self.port)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """One SYN a source; nobody completes the handshake."""
        flood = stream(
            self.arrivals(slot, self.syns_per_second),
            slot.seed,
            clients=SPOOFED,
            client_ports=Pick(1024, 64_512, EVEN),
            servers=Pick(own(self.target, slot.victim)),
            server_ports=Pick(self.port),
            outcomes=[
                Outcome(1 - self.answered, 1, ANSWER_S, 0, script(SYN)),
                Outcome(self.answered, 2, ANSWER_S, 0b10, script(SYN, SYN | ACK)),
            ],
            ipv6=self.ipv6,
        )
        return [flood]


@dataclass(frozen=True, kw_only=True)
class Amplification(Planted):
    """Large answers, which the victim never asked for, from a service of many reflectors."""

    kinds: ClassVar = ("amplification",)
    related: ClassVar = ("fan_in", "volume")

    packets_per_second: float = 2_000.0
    reflectors: int = 500
    port: int = 53
    """The service, also the source port, such as 53, 123, 1900, 11211, 389 or 19."""
    answer_bytes: int = 1200
    """Payload, 400 to 1,400; sizes differ by a tenth, within an Ethernet frame."""
    target: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The victim and the reflectors' port."""
        target = text(own(self.target, slot.victim), self.ipv6)
        return {"dst_addr": target, "src_port": str(self.port)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """Answers only: the requests went elsewhere, with the victim's address on them."""
        reflected = stream(
            self.arrivals(slot, self.packets_per_second),
            slot.seed,
            clients=Pick(own(self.target, slot.victim)),
            client_ports=Pick(1024, 64_512, EVEN),
            servers=Pick(REFLECTORS_NET, self.reflectors, EACH),
            server_ports=Pick(self.port),
            outcomes=[Outcome(1, 1, ANSWER_S, ONLY_REPLIES)],
            reply_bytes=(self.answer_bytes * 9 // 10, min(self.answer_bytes * 11 // 10, 1472)),
            protocol=UDP,
            ipv6=self.ipv6,
        )
        return [reflected]


@dataclass(frozen=True, kw_only=True)
class Volume(Planted):
    """A host, or a whole network, suddenly sends many times as much as it does all the time.

    Its usual traffic is part of it and goes on over the whole scenario.
    """

    kinds: ClassVar = ("volume",)

    usual_packets_per_second: float = 50.0
    factor: float = 10.0
    """How many times the usual rate it sends meanwhile, 2 to 1,000."""
    network: bool = False
    """Whether all hosts of the network ``lab`` do so (the rate is that of all), not one host."""
    source: str | None = None

    def entity(self, slot: Slot) -> Entity:
        """The source, or the name of its network."""
        if self.network:
            return {"src_net": LAB}
        return {"src_addr": text(own(self.source, slot.attacker), self.ipv6)}

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """Uploads: always some, meanwhile ``factor`` times as many."""
        first, size = block(NETWORKS[LAB][0])
        start, end = self.window_ns(slot)
        edges = [0, start, end, slot.end_ns]
        sources = Pick(own(self.source, slot.attacker))
        uploads = stream(
            stepwise(edges, [1.0, 1.0, 1.0]),
            derive(slot.seed, 0),
            clients=Pick(first + 1, size - 2, EVEN) if self.network else sources,
            servers=INTERNET,
            server_ports=Pick(443),
            outcomes=connections((9, 200), 0.005, UPLOAD),
            request_bytes=FULL,
            reply_bytes=(0, 20),
            ipv6=self.ipv6,
        )
        rate = self.usual_packets_per_second / uploads.mean_packets
        return [uploads._replace(arrivals=stepwise(edges, [rate, rate * self.factor, rate]))]
