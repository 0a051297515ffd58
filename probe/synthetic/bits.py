"""Small kernels that every profile shares: bijections, skewed picks, the record's words."""

from __future__ import annotations

import ipaddress
from typing import Any, Final

import numba
import numpy as np

from schemas.hashing import M1, M2, M3
from schemas.record import CapturePoint

TCP: Final = 6
UDP: Final = 17
ICMP: Final = 1
ICMPV6: Final = 58

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

ETH_IPV4: Final = 0x0800
ETH_ARP: Final = 0x0806
ETH_IPV6: Final = 0x86DD

MIN_FRAME: Final = 60
"""Shortest Ethernet frame in bytes, without its checksum."""

MAX_FRAME: Final = 1514
"""Longest Ethernet frame in bytes, without its checksum and a VLAN tag."""

ZERO: Final = np.uint64(0)
ONE: Final = np.uint64(1)
B8: Final = np.uint64(8)
B16: Final = np.uint64(16)
B24: Final = np.uint64(24)
B32: Final = np.uint64(32)
B40: Final = np.uint64(40)
B48: Final = np.uint64(48)
B56: Final = np.uint64(56)
LOW16: Final = np.uint64(0xFFFF)
LOW32: Final = np.uint64(0xFFFFFFFF)
SIX_BITS: Final = np.uint64(63)
BYTE0: Final = np.uint64(0xFF)
BYTE1: Final = np.uint64(0xFF00)
BYTE2: Final = np.uint64(0xFF0000)
MAPPED: Final = np.uint64(0xFFFF0000)
ONE_PACKET: Final = np.uint64(1 << 32)
SYNTHETIC: Final = np.uint64(int(CapturePoint.SYNTHETIC) << 8)


def ipv4_word(address: str) -> int:
    """Second word of an IPv4 address in a record (the first is zero)."""
    return int.from_bytes(b"\x00\x00\xff\xff" + ipaddress.IPv4Address(address).packed, "little")


def mac_word(mac: str) -> int:
    """A MAC address as a record's bytes hold it, in the low 48 bits."""
    return int.from_bytes(bytes.fromhex(mac.replace(":", "")), "little")


@numba.njit(inline="always")
def mapped(ipv4: Any) -> Any:
    """Second word of the record's address of an IPv4 number (uint64, host order)."""
    swapped = (
        (ipv4 >> B24) | ((ipv4 >> B8) & BYTE1) | ((ipv4 << B8) & BYTE2) | ((ipv4 << B24) & LOW32)
    )
    return MAPPED | (swapped << B32)


@numba.njit(inline="always")
def scatter(x: Any, bits: Any, key: Any) -> Any:
    """Map the numbers 0 to 2**bits - 1 onto themselves, one to one, in random-looking order.

    Odd multipliers and right-shift xors are bijections modulo a power of two; ``x``, ``bits``
    (1 to 63) and ``key`` are uint64, and ``x`` beyond the range wraps around.
    """
    mask = (ONE << bits) - ONE
    half = (bits + ONE) >> ONE
    x = ((x + key) * M1) & mask
    x ^= x >> half
    x = ((x ^ (key >> B32)) * M2) & mask
    x ^= x >> half
    x = (x * M3) & mask
    return x ^ (x >> half)


@numba.njit(inline="always")
def skewed(r: Any, octaves: Any) -> Any:
    """Pick from 0 to 2**octaves - 2 by a random 32-bit number: Zipf's law of skew 1, in steps.

    Each octave 1, 2-3, 4-7, ... is equally likely and even inside.
    """
    r &= LOW32
    octave = (r * octaves) >> B32
    inside = (r * octaves) & LOW32
    return (ONE << octave) + ((inside << octave) >> B32) - ONE


@numba.njit(inline="always")
def tcp_turn(position: Any, length: Any, turns: Any) -> Any:
    """Direction (1 for a reply), flags and whether data is carried, of a connection's packet.

    Handshake (RFC 9293, figure 6), data by ``turns``, then both ends close. At least 7 packets.
    """
    if position == 0:
        return 0, SYN, 0
    if position == 1:
        return 1, SYN | ACK, 0
    if position == 2 or position == length - 1:
        return 0, ACK, 0
    if position >= length - 3:
        return np.int64(position == length - 2), FIN | ACK, 0
    return (turns >> ((position - 3) & 15)) & 1, ACK, 1


@numba.njit(inline="always")
def tcp_header(flags: Any) -> Any:
    """Bytes of a TCP header with the options usual today; a SYN has more of them."""
    return np.int64(40) if flags & SYN else np.int64(32)


@numba.njit(inline="always")
def put(
    words: Any,
    row: Any,
    ts_ns: Any,
    src: Any,
    dst: Any,
    macs: Any,
    ports: Any,
    wire_bytes: Any,
    network: Any,
) -> None:
    """Write one record; everything is uint64.

    ``src``, ``dst`` and ``macs`` are pairs of words (source first); ``ports`` is source port +
    destination port << 16; ``network`` is the record's word of vlan_id to tos.
    """
    words[row, 0] = ts_ns
    words[row, 1] = src[0]
    words[row, 2] = src[1]
    words[row, 3] = dst[0]
    words[row, 4] = dst[1]
    words[row, 5] = macs[0] | (macs[1] << B48)
    words[row, 6] = (macs[1] >> B16) | (ports << B32)
    words[row, 7] = wire_bytes | ONE_PACKET
    words[row, 8] = ZERO
    words[row, 9] = network
    words[row, 10] = SYNTHETIC


@numba.njit(inline="always")
def network_word(
    vlan_id: Any, eth_type: Any, ip_proto: Any, tcp_flags: Any, ttl: Any, tos: Any
) -> Any:
    """Word 9 of a record from int64 fields."""
    return (
        np.uint64(vlan_id)
        | (np.uint64(eth_type) << B16)
        | (np.uint64(ip_proto) << B32)
        | (np.uint64(tcp_flags) << B40)
        | (np.uint64(ttl) << B48)
        | (np.uint64(tos) << B56)
    )
