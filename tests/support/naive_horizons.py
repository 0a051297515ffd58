"""Plain-Python twin of the tasks: sets and dicts per horizon, packet by packet."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from typing import Any

from schemas.record import Packets

Key = tuple[str, ...]


def field_text(packet: Any, name: str) -> str:
    """A field of a packet as the result tables write it."""
    if name in ("src_addr", "dst_addr"):
        address = ipaddress.IPv6Address(packet[name].tobytes())
        return str(address.ipv4_mapped or address)
    return str(int(packet[name]))


def keys_of(packets: Packets, fields: tuple[str, ...]) -> list[Key]:
    """Each packet's key."""
    return [tuple(field_text(packet, name) for name in fields) for packet in packets]


def naive_sums(
    packets: Packets, fields: tuple[str, ...], horizon_ns: int
) -> dict[int, dict[Key, list[int]]]:
    """Packets and bytes by start of the horizon and key; addresses are of IP packets only."""
    ip_only = any(name.endswith(("_addr", "_net")) for name in fields)
    out: dict[int, dict[Key, list[int]]] = defaultdict(dict)
    for packet, key in zip(packets, keys_of(packets, fields), strict=True):
        ts = int(packet["ts_ns"])
        sums = out[ts - ts % horizon_ns]
        if ip_only and packet["eth_type"] not in (0x0800, 0x86DD):
            continue
        values = sums.setdefault(key, [0, 0])
        values[0] += int(packet["packets"])
        values[1] += int(packet["wire_bytes"])
    return dict(out)
