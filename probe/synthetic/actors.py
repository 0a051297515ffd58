"""The labelled actors of the profile ``demo``: what each does with its n-th packet.

Each meets its peers by a bijection of its own serial number, so how many different ones it has
met after n packets is known by construction (``peers_and_ports``).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.synthetic.bits import (
    ACK,
    B8,
    B24,
    BYTE0,
    MIN_FRAME,
    ONE,
    RST,
    SIX_BITS,
    SYN,
    TCP,
    UDP,
    mapped,
    scatter,
    tcp_header,
    tcp_turn,
)
from probe.synthetic.hosts import V4, actor_row, pool_first
from probe.synthetic.schedule import Shift

HOST_SCAN, PORT_SCAN, SYN_FLOOD, SUPER_SPREADER, AMPLIFICATION = range(1, 6)
"""Streams; 0 is the background."""

KINDS: Final = ("host_scan", "port_scan", "syn_flood", "super_spreader", "amplification")
"""Names of the streams 1 to 5."""

SHIFTS: Final = (
    Shift(0.00, 1.00, 1.0),
    Shift(0.10, 0.60, 0.006),
    Shift(0.30, 0.45, 0.02),
    Shift(0.70, 0.80, 0.6),
    Shift(0.05, 0.95, 0.02),
    Shift(0.50, 0.62, 0.3),
)
"""When each stream is active and how fast; the background first."""

SCANNED_PORT: Final = 445
FLOODED_PORT: Final = 443
REFLECTED_PORT: Final = 53

SCANNED_BITS: Final = np.uint64(16)
SCANNED_NET: Final = np.uint64(0x0AC80000)  # 10.200.0.0/16, where nothing answers
PORT_BITS: Final = np.uint64(14)
SPOOFED_BITS: Final = np.uint64(29)
SPOOFED_NET: Final = np.uint64(0x20000000)  # 32.0.0.0/3: unicast, of no special use
PEER_BITS: Final = np.uint64(17)
PEER_NET: Final = np.uint64(0xC6120000)  # 198.18.0.0/15, reserved for benchmarks
HIGH_PORT_BITS: Final = np.uint64(15)
HIGH_PORTS: Final = np.uint64((1 << 15) - 1)
REFLECTORS: Final = np.uint64(2048)
CONVERSATION: Final = 12
"""Packets of the super-spreader with one peer, both directions."""

SCANNER: Final = actor_row("host_scan")
PORT_SCANNER: Final = actor_row("port_scan")
PORT_SCANNED: Final = actor_row("port_scan_target")
FLOODED: Final = actor_row("syn_flood_target")
SPREADER: Final = actor_row("super_spreader")
AMPLIFIED: Final = actor_row("amplification_target")
OUTSIDE: Final = pool_first("internet")
"""A host behind the router; its address is replaced by the peer's."""


def peers_and_ports(kind: str, packets: int) -> tuple[int, int]:
    """Different peer addresses and service ports that an actor met in its first packets."""
    probes, talks = -(-packets // 2), -(-packets // CONVERSATION)
    return {
        "host_scan": (min(packets, 1 << int(SCANNED_BITS)), min(packets, 1)),
        "port_scan": (min(packets, 1), min(probes, 1 << int(PORT_BITS))),
        "syn_flood": (min(packets, 1 << int(SPOOFED_BITS)), min(packets, 1)),
        "super_spreader": (min(talks, 1 << int(PEER_BITS)), min(talks, 1 << int(HIGH_PORT_BITS))),
        "amplification": (min(packets, int(REFLECTORS)), min(packets, 1)),
    }[kind]


@numba.njit(inline="always")
def act(stream: Any, serial: Any, r: Any, key: Any, hosts: Any, turns: Any, payload: Any) -> Any:
    """An actor's n-th packet; ``r`` is the packet's random word, the rest of the background's web.

    Returns (sender's row, receiver's row, source word, destination word, source port,
    destination port, frame bytes, protocol, TCP flags).
    """
    n = np.uint64(serial)
    high_port = np.int64(1024) + np.int64((r >> B8) & HIGH_PORTS)
    if stream == HOST_SCAN:
        peer = mapped(SCANNED_NET + scatter(n, SCANNED_BITS, key))
        own = hosts[SCANNER, V4]
        return SCANNER, OUTSIDE, own, peer, high_port, SCANNED_PORT, MIN_FRAME, TCP, SYN
    if stream == PORT_SCAN:
        port = np.int64(1) + np.int64(scatter(n >> ONE, PORT_BITS, key))
        prober, target = hosts[PORT_SCANNER, V4], hosts[PORT_SCANNED, V4]
        own_port = np.int64(40000)
        if serial & 1:
            flags = RST | ACK
            return PORT_SCANNED, PORT_SCANNER, target, prober, port, own_port, MIN_FRAME, TCP, flags
        return PORT_SCANNER, PORT_SCANNED, prober, target, own_port, port, MIN_FRAME, TCP, SYN
    if stream == SYN_FLOOD:
        peer = mapped(SPOOFED_NET + scatter(n, SPOOFED_BITS, key))
        victim = hosts[FLOODED, V4]
        return OUTSIDE, FLOODED, peer, victim, high_port, FLOODED_PORT, MIN_FRAME, TCP, SYN
    if stream == AMPLIFICATION:
        peer = mapped(PEER_NET + scatter(n % REFLECTORS, PEER_BITS, key))
        victim = hosts[AMPLIFIED, V4]
        frame_bytes = np.int64(1200) + np.int64((r >> B24) & BYTE0)
        return OUTSIDE, AMPLIFIED, peer, victim, REFLECTED_PORT, high_port, frame_bytes, UDP, 0
    number = serial // CONVERSATION
    talk = np.uint64(number)
    reply, flags, data = tcp_turn(serial - number * CONVERSATION, CONVERSATION, turns)
    peer = mapped(PEER_NET + scatter(talk, PEER_BITS, key))
    port = np.int64(1024) + np.int64(scatter(talk, HIGH_PORT_BITS, key))
    own_port = np.int64(32768) + np.int64(talk & HIGH_PORTS)
    frame_bytes = 34 + tcp_header(flags) + data * payload[reply, np.int64((r >> B8) & SIX_BITS)]
    own = hosts[SPREADER, V4]
    if reply:
        return OUTSIDE, SPREADER, peer, own, port, own_port, frame_bytes, TCP, flags
    return SPREADER, OUTSIDE, own, peer, own_port, port, frame_bytes, TCP, flags
