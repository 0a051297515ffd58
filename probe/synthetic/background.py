"""The background of the profile ``demo`` packet by packet: the kernel beside ``applications``."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.synthetic.applications import (
    APPLICATION,
    COUNT,
    FIRST,
    LANE_BITS,
    LENGTH,
    NEIGHBOUR,
    OCTAVES,
    PHASE,
    PORT,
    PROTOCOL,
    TOS,
    TURNS,
)
from probe.synthetic.bits import (
    B8,
    BYTE0,
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ICMP,
    ICMPV6,
    PSH,
    SIX_BITS,
    TCP,
    ZERO,
    skewed,
    tcp_header,
    tcp_turn,
)
from probe.synthetic.hosts import EVERYONE, POOLS, V4, V6_HIGH, V6_LOW, VLAN
from schemas.hashing import finish, mix

V6_OF_256: Final = np.uint64(50)
"""Conversations in IPv6, of 256."""

CLIENT_OCTAVES: Final = np.uint64(POOLS["clients"])
S13: Final = np.uint64(13)
S29: Final = np.uint64(29)
EPHEMERAL: Final = np.uint64(0x7FFF)


@numba.njit(inline="always")
def icmp_ports(protocol: Any, v6: Any, reply: Any) -> Any:
    """Destination port (type * 256) of echo and neighbour discovery, RFC 792, 4443 and 4861."""
    if v6:
        return (np.int64(135 if protocol == NEIGHBOUR else 128) + reply) << 8
    return np.int64(8 << 8) if protocol == ICMP and reply == 0 else np.int64(0)


@numba.njit(inline="always")
def converse(serial: Any, r: Any, seed: Any, plan: Any, hosts: Any) -> Any:
    """The background's n-th packet, as part of the conversation that its lane carries.

    Returns (sender's row, receiver's row, VLAN, EtherType, source words, destination words,
    source port, destination port, frame bytes without a VLAN tag, protocol, TCP flags, tos).
    """
    slot = np.int64(plan.slots[serial & ((1 << LANE_BITS) - 1)])
    lane, app = plan.lanes[slot >> 16], plan.applications[plan.lanes[slot >> 16, APPLICATION]]
    step = (serial >> LANE_BITS) * lane[COUNT] + (slot & 0xFFFF) + lane[PHASE]
    number = step // lane[LENGTH]
    position = step - number * lane[LENGTH]
    c = finish(mix(mix(seed, np.uint64(slot >> 16)), np.uint64(number)))

    client = np.int64(skewed(c, CLIENT_OCTAVES))
    server = app[FIRST] + np.int64(skewed(c >> S29, np.uint64(app[OCTAVES])))
    server += np.int64(server == client)
    v6 = np.int64((finish(c) & BYTE0) < V6_OF_256)
    protocol, port = app[PROTOCOL], app[PORT]
    client_port = np.int64(32768) + np.int64((c >> S13) & EPHEMERAL)

    flags, data, header = np.int64(0), np.int64(1), np.int64(8)
    if protocol == TCP:
        reply, flags, data = tcp_turn(position, lane[LENGTH], app[TURNS])
        header = tcp_header(flags)
    else:
        reply = (app[TURNS] >> (position & 15)) & 1
    carried = data * plan.payload[lane[APPLICATION], reply, np.int64((r >> B8) & SIX_BITS)]
    if protocol == TCP and 0 < carried < 1448:
        flags |= PSH

    sender, receiver = (server, client) if reply else (client, server)
    src_port, dst_port = (port, client_port) if reply else (client_port, port)
    if protocol <= ICMP:
        src_port, dst_port = np.int64(0), icmp_ports(protocol, v6, reply)
    if v6:
        eth_type = np.int64(ETH_IPV6)
        src = (hosts[sender, V6_HIGH], hosts[sender, V6_LOW])
        dst = (hosts[receiver, V6_HIGH], hosts[receiver, V6_LOW])
        protocol = np.int64(ICMPV6) if protocol <= ICMP else protocol
    elif protocol == NEIGHBOUR:
        eth_type = np.int64(ETH_ARP)
        src = (ZERO, ZERO)
        dst = (ZERO, ZERO)
        receiver = receiver if reply else np.int64(EVERYONE)
    else:
        eth_type = np.int64(ETH_IPV4)
        src = (ZERO, hosts[sender, V4])
        dst = (ZERO, hosts[receiver, V4])
    vlan_id = np.int64(hosts[client, VLAN])
    frame_bytes = 34 + 20 * v6 + header + carried
    return (
        sender, receiver, vlan_id, eth_type, src, dst,
        src_port, dst_port, frame_bytes, protocol, flags, app[TOS],
    )  # fmt: skip
