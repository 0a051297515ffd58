"""Which packets an alert is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.record import Packets

Mask = npt.NDArray[np.bool_]
Networks = Mapping[str, Sequence[str]]

_OTHER_WAY: Final = {
    "src_addr": "dst_addr",
    "dst_addr": "src_addr",
    "src_port": "dst_port",
    "dst_port": "src_port",
    "src_net": "dst_net",
    "dst_net": "src_net",
}
_NUMBERS: Final = ("src_port", "dst_port", "ip_proto", "eth_type", "vlan_id", "tunnel_id")
FIELDS: Final = frozenset((*_OTHER_WAY, *_NUMBERS))
"""Fields of an entity by which packets are known; others belong to the probe, not the packet."""

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


def choose(
    entities: Sequence[Mapping[str, str]], networks: Networks, first_ns: int, last_ns: int
) -> Callable[[Packets], Mask]:
    """What chooses the packets of some entities, in both directions, within a span of time.

    Args:
        entities: at least one, each with some of ``FIELDS``.
        networks: address ranges by name.
        first_ns: Unix ns.
        last_ns: Unix ns.
    """
    wanted = [
        [_condition(name, value, networks) for name, value in way.items()]
        for entity in entities
        for way in _both_ways({name: entity[name] for name in entity if name in FIELDS})
    ]

    def chosen(packets: Packets) -> Mask:
        in_time = (packets["ts_ns"] >= first_ns) & (packets["ts_ns"] <= last_ns)
        found = np.zeros(len(packets), np.bool_)
        if not in_time.any():
            return found
        for conditions in wanted:
            one = in_time.copy()
            for holds in conditions:
                one &= holds(packets)
            found |= one
        return found

    return chosen


def _both_ways(entity: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    return entity, {_OTHER_WAY.get(name, name): value for name, value in entity.items()}


def _condition(name: str, value: str, networks: Networks) -> Callable[[Packets], Mask]:
    if name in _NUMBERS:
        number = int(value)
        return lambda packets: packets[name] == number
    if name in ("src_addr", "dst_addr"):
        address = np.frombuffer(_packed(value), ">u8")
        return lambda packets: (_words(packets, name) == address).all(axis=1)
    ranges = [_span(text) for text in networks.get(value, ())]
    field = name.replace("_net", "_addr")

    def inside(packets: Packets) -> Mask:
        high, low = _words(packets, field).T
        found = np.zeros(len(packets), np.bool_)
        for (first_high, first_low), (last_high, last_low) in ranges:
            above = (high > first_high) | ((high == first_high) & (low >= first_low))
            below = (high < last_high) | ((high == last_high) & (low <= last_low))
            found |= above & below
        return found

    return inside


def _words(packets: Packets, field: str) -> npt.NDArray[np.uint64]:
    """Addresses as two big-endian words each, (n, 2)."""
    return np.ascontiguousarray(packets[field]).view(">u8")


def _packed(text: str) -> bytes:
    address = ip_address(text)
    return address.packed if address.version == 6 else _MAPPED + address.packed


def _span(text: str) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    network = ip_network(text)
    ends = (str(network.network_address), str(network.broadcast_address))
    first, last = (np.frombuffer(_packed(end), ">u8") for end in ends)
    return first, last
