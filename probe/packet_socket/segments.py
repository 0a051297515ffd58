"""What of a coalesced buffer was, or will be, on the wire.

With GRO the kernel merges the segments that come in, with TSO and GSO it leaves cutting them to
the device: a capture sees one large buffer. Each segment on the wire has all headers, up to and
with those of the transport layer that was cut, the innermost one in a tunnel.
"""

from __future__ import annotations

from typing import Any, Final

import numba

from probe.capture import linktypes
from probe.capture.frame import inner_frame
from probe.capture.link import CUT, ETHERNET_BYTES, IPV4, IPV6, ip_by_version, past_tags
from probe.capture.loads import be16, u8
from probe.capture.network import TCP, UDP, ipv4, ipv6, is_ip
from probe.capture.tunnel import tunnel_payload

UDP_HEADER_BYTES: Final = 8

_ETHERNET: Final = linktypes.ETHERNET
_MAX_LAYERS: Final = 5


@numba.njit
def transport_header_bytes(buf: Any, p: Any, end: Any, proto: Any) -> Any:
    """Length of the TCP or UDP header at ``p``; 0 for other protocols and when cut short."""
    if proto == TCP and end - p >= 13:
        return (u8(buf, p + 12) >> 4) * 4
    if proto == UDP:
        return UDP_HEADER_BYTES
    return 0


@numba.njit
def header_bytes(buf: Any, p: Any, end: Any, link_type: Any, out: Any, row: Any) -> Any:
    """Length of all headers of the frame ``buf[p:end]``, the innermost transport's included.

    ``out[row]`` is scratch. Headers that were not captured don't count.
    """
    start = p
    if link_type == _ETHERNET:
        if end - p < ETHERNET_BYTES:
            return 0
        eth_type = be16(buf, p + 12)
        p += ETHERNET_BYTES
        if eth_type != IPV4 and eth_type != IPV6:
            eth_type, _, p = past_tags(buf, p, end, eth_type)
    else:
        eth_type = ip_by_version(buf, p, end, 0)
    reached = start
    for _ in range(_MAX_LAYERS):
        if not is_ip(buf, p, end, eth_type):
            break
        if eth_type == IPV4:
            proto, _ttl, _tos, flags, p, end = ipv4(buf, p, end, out, row)
        else:
            proto, _ttl, _tos, flags, p, end = ipv6(buf, p, end, out, row)
        if flags:
            break
        reached = p + transport_header_bytes(buf, p, end, proto)
        dst_port = be16(buf, p + 2) if end - p >= 4 else 0
        eth_type, inner, _key = tunnel_payload(buf, p, end, proto, dst_port)
        if inner == CUT:
            break
        eth_type, p, _ethernet = inner_frame(buf, inner, end, eth_type)
    return min(reached, end) - start


@numba.njit
def count_segments(buffer_bytes: Any, headers: Any, segment_bytes: Any) -> Any:
    """How many segments a buffer of ``buffer_bytes`` is cut into, each with so much payload."""
    payload = max(buffer_bytes - headers, 1)
    return (payload + segment_bytes - 1) // segment_bytes
