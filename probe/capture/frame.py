"""One captured frame to one packet record."""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.capture import linktypes
from probe.capture.link import CUT, ETHERNET_BYTES, IPV4, IPV6, other_link, past_tags
from probe.capture.loads import U16, U32, U40, U48, U56, be16, le48
from probe.capture.network import UNREADABLE, ipv4, ipv6, is_ip, transport
from probe.capture.tunnel import BRIDGED, tunnel_payload

_ETHERNET: Final = linktypes.ETHERNET
_DECAPSULATED: Final = 4
_MAX_TUNNELS: Final = 4
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)


@numba.njit
def inner_frame(buf: Any, p: Any, end: Any, eth_type: Any) -> Any:
    """Find the network layer of a tunnel's payload: ``(eth_type, p, ethernet)``.

    ``ethernet`` is where an inner Ethernet header begins, ``CUT`` when there is none. p is
    ``CUT`` when the payload can't be read, so that the outer packet has to do.
    """
    ethernet = CUT
    if eth_type == BRIDGED:
        if end - p < ETHERNET_BYTES:
            return 0, CUT, CUT
        ethernet = p
        eth_type = be16(buf, p + 12)
        p += ETHERNET_BYTES
    eth_type, _, p = past_tags(buf, p, end, eth_type)
    readable = is_ip(buf, p, end, eth_type)
    if eth_type != IPV4 and eth_type != IPV6:
        readable = p != CUT and ethernet != CUT
    return eth_type, (p if readable else CUT), ethernet


@numba.njit
def decode_frame(
    buf: Any,
    p: Any,
    end: Any,
    link_type: Any,
    ts_ns: Any,
    wire_bytes: Any,
    if_index: Any,
    direction: Any,
    decapsulate: Any,
    out: Any,
    row: Any,
) -> None:
    """Decode ``buf[p:end]`` to the record ``out[row]``, eleven words; never fails.

    ``buf`` is (n,) uint8, ``out`` (m, 11) uint64, ``ts_ns`` uint64, ``decapsulate`` a bool, the
    others int64. ``link_type`` -1 stands for an unknown one. Nothing outside ``buf[p:end]`` is
    read.

    Fields that the captured bytes don't tell stay 0, with the flag for an unreadable layer 4
    when the frame promised one: it was snapped, or a header is malformed. Frames of unknown
    types have no layer 4, so they don't get the flag.
    """
    src_mac = _ZERO
    dst_mac = _ZERO
    eth_type = 0
    if link_type == _ETHERNET:
        if end - p >= ETHERNET_BYTES:
            dst_mac = le48(buf, p)
            src_mac = le48(buf, p + 6)
            eth_type = be16(buf, p + 12)
            p += ETHERNET_BYTES
        else:
            p = CUT
    else:
        eth_type, p, src_mac, if_index, direction = other_link(
            buf, p, end, link_type, if_index, direction
        )
    vlan_id = 0
    if p != CUT and eth_type != IPV4 and eth_type != IPV6:
        eth_type, vlan_id, p = past_tags(buf, p, end, eth_type)

    tunnel_id = 0
    tunnels = 0
    while True:
        proto, ttl, tos, flags = 0, 0, 0, 0
        src_port, dst_port, tcp_flags = 0, 0, 0
        payload_end = end
        sound = is_ip(buf, p, end, eth_type)
        if sound:
            if eth_type == IPV4:
                proto, ttl, tos, flags, p, payload_end = ipv4(buf, p, end, out, row)
            else:
                proto, ttl, tos, flags, p, payload_end = ipv6(buf, p, end, out, row)
            if flags == 0:
                src_port, dst_port, tcp_flags, flags = transport(buf, p, payload_end, proto)
        else:
            out[row, 1] = _ZERO
            out[row, 2] = _ZERO
            out[row, 3] = _ZERO
            out[row, 4] = _ZERO
            if p == CUT or eth_type in (IPV4, IPV6):
                flags = UNREADABLE
        if not decapsulate or not sound or flags or tunnels == _MAX_TUNNELS:
            break
        inner_type, inner, key = tunnel_payload(buf, p, payload_end, proto, dst_port)
        if inner == CUT:
            break
        inner_type, inner, ethernet = inner_frame(buf, inner, payload_end, inner_type)
        if inner == CUT:
            break
        if ethernet != CUT:
            dst_mac = le48(buf, ethernet)
            src_mac = le48(buf, ethernet + 6)
        if tunnels == 0:
            tunnel_id = key
        tunnels += 1
        eth_type, p, end = inner_type, inner, payload_end

    if tunnels:
        flags |= _DECAPSULATED
    out[row, 0] = ts_ns
    out[row, 5] = src_mac | dst_mac << U48
    out[row, 6] = dst_mac >> U16 | np.uint64(src_port) << U32 | np.uint64(dst_port) << U48
    out[row, 7] = np.uint64(wire_bytes) | _ONE << U32
    out[row, 8] = np.uint64(if_index) | np.uint64(tunnel_id) << U32
    out[row, 9] = (
        np.uint64(vlan_id)
        | np.uint64(eth_type) << U16
        | np.uint64(proto) << U32
        | np.uint64(tcp_flags) << U40
        | np.uint64(ttl) << U48
        | np.uint64(tos) << U56
    )
    out[row, 10] = np.uint64(direction) | np.uint64(flags) << U16
