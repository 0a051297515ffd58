"""Which packets an alert is about."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import numpy as np
import pytest

from flows.cli.extract_match import choose
from schemas.record import PACKET, Packets

NETWORKS = {"internal": ("10.0.0.0/8", "fc00::/7"), "one": ("192.0.2.7/32",)}
HOSTS = [
    "10.0.0.1",
    "10.255.255.255",
    "11.0.0.0",
    "192.0.2.7",
    "fc00::1",
    "fdff::",
    "fe00::",
    "::1",
]

ENTITIES: list[Mapping[str, str]] = [
    {"src_addr": "10.0.0.1"},
    {"src_addr": "fc00::1", "dst_port": "53"},
    {"dst_addr": "192.0.2.7", "dst_port": "80", "ip_proto": "6"},
    {"src_net": "internal"},
    {"dst_net": "one", "src_port": "53"},
    {"src_net": "nowhere"},
    {"src_addr": "10.0.0.1", "dst_addr": "fc00::1", "vlan_id": "1"},
    {"dst_port": "80", "probe": "any"},
]


def packed(text: str) -> bytes:
    address = ip_address(text)
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def random_packets(count: int) -> Packets:
    random = np.random.default_rng(7)
    packets = np.zeros(count, PACKET)
    for field in ("src_addr", "dst_addr"):
        table = np.array([list(packed(host)) for host in HOSTS], np.uint8)
        packets[field] = table[random.integers(len(HOSTS), size=count)]
    for field, values in (("src_port", (53, 80, 9)), ("dst_port", (53, 80, 9)),
                          ("ip_proto", (6, 17)), ("vlan_id", (0, 1))):  # fmt: skip
        packets[field] = random.choice(values, count)
    packets["ts_ns"] = random.integers(100, size=count)
    return packets


def naive(packet: Any, entity: Mapping[str, str], first_ns: int, last_ns: int) -> bool:
    def holds(name: str, value: str) -> bool:
        way, _, what = name.partition("_")
        if what == "addr":
            return bytes(packet[name]) == packed(value)
        if what == "net":
            address = IPv6Address(bytes(packet[f"{way}_addr"]))
            plain = address.ipv4_mapped or address
            ranges = [ip_network(text) for text in NETWORKS.get(value, ())]
            return any(plain in each for each in ranges)
        return name == "probe" or int(packet[name]) == int(value)

    def other(name: str) -> str:
        way, _, what = name.partition("_")
        turned = {"src": "dst", "dst": "src"}.get(way)
        return f"{turned}_{what}" if turned else name

    return first_ns <= packet["ts_ns"] <= last_ns and (
        all(holds(name, value) for name, value in entity.items())
        or all(holds(other(name), value) for name, value in entity.items())
    )


@pytest.mark.parametrize("entity", ENTITIES)
def test_twin(entity: Mapping[str, str]) -> None:
    """Packets of an entity are chosen in both directions, and no others."""
    packets = random_packets(3000)
    chosen = choose([entity], NETWORKS, 20, 80)(packets)
    assert chosen.tolist() == [naive(packet, entity, 20, 80) for packet in packets]
    assert chosen.any() == ("nowhere" not in entity.values())


def test_members() -> None:
    """Packets of any of several entities are chosen."""
    packets = random_packets(3000)
    chosen = choose(ENTITIES, NETWORKS, 0, 100)(packets)
    each = [choose([entity], NETWORKS, 0, 100)(packets) for entity in ENTITIES]
    assert chosen.tolist() == np.any(each, axis=0).tolist()


def test_another_time() -> None:
    """Nothing outside the span is chosen."""
    assert not choose(ENTITIES, NETWORKS, 200, 300)(random_packets(100)).any()
