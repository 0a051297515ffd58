"""Network and transport layers: addresses, upper protocol, ports.

Every function takes its layer as ``buf[p:end]`` and checks each read against ``end``, which is
the end of the captured frame or, when that comes first, of the IP datagram: Ethernet padding
is no payload.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.capture.link import CUT, IPV4, IPV6
from probe.capture.loads import U32, be16, le32, le64, u8

LATER_FRAGMENT: Final = 1
UNREADABLE: Final = 2

ICMP: Final = 1
IP_IN_IP: Final = 4
TCP: Final = 6
UDP: Final = 17
DCCP: Final = 33
IPV6_IN_IP: Final = 41
GRE: Final = 47
ICMPV6: Final = 58
SCTP: Final = 132
UDP_LITE: Final = 136

_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_DESTINATION: Final = 60
_MOBILITY: Final = 135
_HOST_IDENTITY: Final = 139
_SHIM6: Final = 140

_MAPPED: Final = np.uint64(0xFFFF0000)  # bytes 8 to 11 of ::ffff:a.b.c.d, little endian
_ZERO: Final = np.uint64(0)


@numba.njit
def is_ip(buf: Any, p: Any, end: Any, eth_type: Any) -> Any:
    """Whether a sound fixed IP header of the named version begins at ``p``."""
    if p == CUT:
        return False
    if eth_type == IPV4:
        return end - p >= 20 and 0x45 <= u8(buf, p) <= 0x4F
    return eth_type == IPV6 and end - p >= 40 and u8(buf, p) >> 4 == 6


@numba.njit
def ipv4(buf: Any, p: Any, end: Any, out: Any, row: Any) -> Any:
    """Read an IPv4 header (RFC 791) that ``is_ip`` found sound; writes the addresses.

    Returns ``(proto, ttl, tos, flags, p, end)`` with the payload's bounds. A total length of 0
    is what segmentation offload leaves in captures: the datagram then ends with the frame.
    """
    out[row, 1] = _ZERO
    out[row, 2] = _MAPPED | np.uint64(le32(buf, p + 12)) << U32
    out[row, 3] = _ZERO
    out[row, 4] = _MAPPED | np.uint64(le32(buf, p + 16)) << U32
    header_bytes = (u8(buf, p) & 15) * 4
    total_bytes = be16(buf, p + 2)
    if total_bytes > 0:
        end = min(end, p + total_bytes)
    flags = 0
    if be16(buf, p + 6) & 0x1FFF:
        flags = LATER_FRAGMENT
    elif p + header_bytes > end:
        flags = UNREADABLE
    return u8(buf, p + 9), u8(buf, p + 8), u8(buf, p + 1), flags, p + header_bytes, end


@numba.njit
def past_extensions(buf: Any, p: Any, end: Any, proto: Any) -> Any:
    """Walk IPv6 extension headers (RFC 8200, RFC 7045) to the upper-layer protocol.

    Returns ``(proto, flags, p)``. ESP and No Next Header end the walk like any upper-layer
    protocol; so does a fragment header with an offset, behind which there are no headers.
    """
    while True:
        if proto in (_HOP_BY_HOP, _ROUTING, _DESTINATION, _MOBILITY, _HOST_IDENTITY, _SHIM6):
            unit_bytes, fixed_units = 8, 1
        elif proto == _FRAGMENT:
            unit_bytes, fixed_units = 0, 1
        elif proto == _AUTHENTICATION:
            unit_bytes, fixed_units = 4, 2
        else:
            return proto, 0, p
        if end - p < 8:
            return proto, UNREADABLE, p
        if proto == _FRAGMENT:
            proto = u8(buf, p)
            if be16(buf, p + 2) >> 3:
                return proto, LATER_FRAGMENT, p
            p += 8
        else:
            length = (u8(buf, p + 1) + fixed_units) * unit_bytes
            proto = u8(buf, p)
            p += length


@numba.njit
def ipv6(buf: Any, p: Any, end: Any, out: Any, row: Any) -> Any:
    """Read an IPv6 header (RFC 8200) that ``is_ip`` found sound; writes the addresses.

    Returns ``(proto, ttl, tos, flags, p, end)`` with the payload's bounds. A payload length of
    0 (jumbogram, segmentation offload) lets the datagram end with the frame.
    """
    out[row, 1] = le64(buf, p + 8)
    out[row, 2] = le64(buf, p + 16)
    out[row, 3] = le64(buf, p + 24)
    out[row, 4] = le64(buf, p + 32)
    tos = (be16(buf, p) >> 4) & 0xFF
    payload_bytes = be16(buf, p + 4)
    if payload_bytes > 0:
        end = min(end, p + 40 + payload_bytes)
    ttl = u8(buf, p + 7)
    proto, flags, q = past_extensions(buf, p + 40, end, u8(buf, p + 6))
    return proto, ttl, tos, flags, q, end


@numba.njit
def transport(buf: Any, p: Any, end: Any, proto: Any) -> Any:
    """Read ports (ICMP: type * 256 + code as destination) and TCP flags.

    Returns ``(src_port, dst_port, tcp_flags, flags)``; UNREADABLE when a field that the
    protocol has lies behind ``end``.
    """
    left = end - p
    if proto == TCP:
        if left >= 14:
            return be16(buf, p), be16(buf, p + 2), u8(buf, p + 13), 0
        if left >= 4:
            return be16(buf, p), be16(buf, p + 2), 0, UNREADABLE
        return 0, 0, 0, UNREADABLE
    if proto in (UDP, SCTP, UDP_LITE, DCCP):
        if left >= 4:
            return be16(buf, p), be16(buf, p + 2), 0, 0
        return 0, 0, 0, UNREADABLE
    if proto in (ICMP, ICMPV6):
        if left >= 2:
            return 0, be16(buf, p), 0, 0
        return 0, 0, 0, UNREADABLE
    return 0, 0, 0, 0
