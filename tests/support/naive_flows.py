"""Plain-Python twin of the flow table: a dict per packet."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from schemas.record import PACKET, Packets


def flow_key(packet: Any, pane_ns: int) -> tuple[Any, ...]:
    """What makes two packets one flow of one pane."""
    return (
        int(packet["ts_ns"]) // pane_ns,
        packet["src_addr"].tobytes(),
        packet["dst_addr"].tobytes(),
        *(
            int(packet[name])
            for name in (
                "src_port",
                "dst_port",
                "vlan_id",
                "eth_type",
                "ip_proto",
                "direction",
                "capture_point",
                "if_index",
                "tunnel_id",
            )
        ),
    )


def naive_flows(packets: Packets, pane_ns: int, rate: int = 1) -> dict[tuple[Any, ...], list[int]]:
    """Packets, bytes, first and last seen, TCP flags by flow key."""
    flows: dict[tuple[Any, ...], list[int]] = {}
    for packet in packets:
        ts = int(packet["ts_ns"])
        last = ts + int(packet["duration_us"]) * 1000
        values = flows.setdefault(flow_key(packet, pane_ns), [0, 0, ts, last, 0])
        values[0] += int(packet["packets"]) * rate
        values[1] += int(packet["wire_bytes"]) * rate
        values[2] = min(values[2], ts)
        values[3] = max(values[3], last)
        values[4] |= int(packet["tcp_flags"])
    return flows


def naive_late(packets: Packets, pane_ns: int, lateness_ns: int) -> dict[int, int]:
    """Late packets by pane, judged one by one against the running maximum."""
    late: dict[int, int] = defaultdict(int)
    watermark = 0
    for packet in packets:
        ts = int(packet["ts_ns"])
        pane = ts // pane_ns
        if (pane + 1) * pane_ns <= watermark:
            late[pane] += int(packet["packets"])
        watermark = max(watermark, ts - lateness_ns)
    return dict(late)


def random_packets(
    rng: np.random.Generator, count: int, *, hosts: int = 40, span_ns: int = 20 * 10**9
) -> Packets:
    """Packets between few hosts, of several kinds, roughly in order of time."""
    packets = np.zeros(count, PACKET)
    times = np.sort(rng.integers(0, span_ns, count)) + rng.integers(0, 3 * 10**9, count)
    packets["ts_ns"] = 1_700_000_000 * 10**9 + times
    for name in ("src_addr", "dst_addr"):
        packets[name][:, 10:12] = 0xFF
        packets[name][:, 12] = 10
        packets[name][:, 15] = rng.integers(0, hosts, count)
    six = rng.random(count) < 0.2
    for name in ("src_addr", "dst_addr"):
        packets[name][six, 0] = 0xFD
    packets["eth_type"] = np.where(six, 0x86DD, 0x0800)
    arp = rng.random(count) < 0.05
    packets["eth_type"][arp] = 0x0806
    packets["src_addr"][arp] = 0
    packets["dst_addr"][arp] = 0
    packets["ip_proto"] = np.where(arp, 0, rng.choice([6, 17, 1, 47], count))
    packets["src_port"] = rng.integers(1024, 1030, count)
    packets["dst_port"] = rng.choice([53, 80, 443], count)
    packets["wire_bytes"] = rng.integers(60, 1515, count)
    packets["packets"] = rng.choice([1, 1, 1, 3], count)
    packets["duration_us"] = rng.integers(0, 5, count)
    packets["tcp_flags"] = rng.integers(0, 256, count)
    packets["vlan_id"] = rng.choice([0, 7], count)
    packets["if_index"] = rng.integers(0, 2, count)
    packets["direction"] = rng.integers(0, 3, count)
    return packets
