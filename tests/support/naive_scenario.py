"""Scenarios read the plain way: addresses as text, sets and loops."""

from __future__ import annotations

import functools
import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from probe.synthetic.scenario import NETWORKS, Scenario
from schemas.record import Packets, join

SYN, SYN_ACK, ACK, RST, RST_ACK, FIN_ACK = 0x02, 0x12, 0x10, 0x04, 0x14, 0x11


class Seen(NamedTuple):
    """A packet as a detector may see it."""

    ts_ns: int
    src_addr: str
    dst_addr: str
    src_port: int
    dst_port: int
    ip_proto: int
    tcp_flags: int
    wire_bytes: int


def whole(scenario: Scenario) -> Packets:
    return join(list(scenario.chunks()))


@functools.cache
def address(packed: bytes) -> str:
    ip = ipaddress.IPv6Address(packed)
    return str(ip.ipv4_mapped or ip)


def seen(packets: Packets) -> Iterator[Seen]:
    columns = [
        packets[name].tolist()
        for name in ("src_port", "dst_port", "ip_proto", "tcp_flags", "wire_bytes")
    ]
    sources, targets = (
        [address(bytes(a)) for a in np.ascontiguousarray(packets[name])]
        for name in ("src_addr", "dst_addr")
    )
    for row in zip(packets["ts_ns"].tolist(), sources, targets, *columns, strict=True):
        yield Seen(*row)


@functools.cache
def named(host: str, network: str) -> bool:
    ip = ipaddress.ip_address(host)
    return any(ip in ipaddress.ip_network(cidr) for cidr in NETWORKS[network])


def belongs(packet: Seen, entity: dict[str, str]) -> bool:
    """Whether a packet has all fields of an entity."""
    for name, value in entity.items():
        if name == "src_net":
            if not named(packet.src_addr, value):
                return False
        elif str(getattr(packet, name)) != value:
            return False
    return True


def amount(kind: str, metric: str, packet: Seen) -> Any:
    """What a packet adds to a count: a number, or something to be counted once."""
    if kind == "syn_flood" and packet.tcp_flags != SYN:
        return None
    return {
        "hosts": ("host", packet.dst_addr),
        "ports": ("port", packet.dst_port),
        "peers": ("peer", packet.dst_addr),
        "services": ("service", packet.dst_addr, packet.dst_port),
        "sources": ("source", packet.src_addr),
        "reflectors": ("reflector", packet.src_addr),
        "syns": 1,
        "packets": 1,
        "bytes": packet.wire_bytes,
    }[metric]


def crossing_ns(
    packets: list[Seen], kind: str, metric: str, threshold: float, horizon_ns: int
) -> int | None:
    """Count an entity's packets in their windows; time of the one that reaches the threshold."""
    sums: dict[int, int] = defaultdict(int)
    sets: dict[int, set[Any]] = defaultdict(set)
    for packet in packets:
        window = packet.ts_ns // horizon_ns
        what = amount(kind, metric, packet)
        if isinstance(what, tuple):
            sets[window].add(what)
        elif what is not None:
            sums[window] += what
        if max(sums[window], len(sets[window])) >= threshold:
            return packet.ts_ns
    return None
