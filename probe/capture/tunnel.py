"""Tunnels: from an outer packet's payload to the packet inside.

VXLAN (RFC 7348; UDP 4789, and 8472 as Linux began with), Geneve (RFC 8926; UDP 6081), GRE
(RFC 2784, RFC 2890), NVGRE (RFC 7637), IP in IP (RFC 2003, RFC 4213).
"""

from __future__ import annotations

from typing import Any, Final

import numba

from probe.capture.link import CUT, IPV4, IPV6
from probe.capture.loads import be16, be32, u8
from probe.capture.network import GRE, IP_IN_IP, IPV6_IN_IP, UDP

BRIDGED: Final = 0x6558
"""EtherType of a whole Ethernet frame as payload (transparent Ethernet bridging)."""

VXLAN_PORT: Final = 4789
VXLAN_OLD_PORT: Final = 8472
GENEVE_PORT: Final = 6081

_GRE_CHECKSUM: Final = 0x8000
_GRE_KEY: Final = 0x2000
_GRE_SEQUENCE: Final = 0x1000
_GRE_KNOWN: Final = _GRE_CHECKSUM | _GRE_KEY | _GRE_SEQUENCE
_FIRST_VSID: Final = 0x1000  # NVGRE reserves the subnet identifiers below


@numba.njit
def gre(buf: Any, p: Any, end: Any) -> Any:
    """Read a GRE header of version 0: ``(eth_type, p, tunnel_id)``, p ``CUT`` if it is none.

    NVGRE is GRE with just a key that carries Ethernet, its identifier in the key's upper 24
    bits. gretap has the same form with a plain key, so a key too small for NVGRE is taken
    whole.
    """
    if end - p < 4:
        return 0, CUT, 0
    bits = be16(buf, p)
    if bits & ~_GRE_KNOWN:
        return 0, CUT, 0
    eth_type = be16(buf, p + 2)
    at = p + 4 + (4 if bits & _GRE_CHECKSUM else 0)
    inner = at + (4 if bits & _GRE_KEY else 0) + (4 if bits & _GRE_SEQUENCE else 0)
    if inner > end:
        return 0, CUT, 0
    key = be32(buf, at) if bits & _GRE_KEY else 0
    if bits == _GRE_KEY and eth_type == BRIDGED and key >> 8 >= _FIRST_VSID:
        key >>= 8
    return eth_type, inner, key


@numba.njit
def over_udp(buf: Any, p: Any, end: Any, port: Any) -> Any:
    """Read VXLAN or Geneve behind the UDP header at ``p``: ``(eth_type, p, tunnel_id)``."""
    p += 8
    if end - p < 8:
        return 0, CUT, 0
    if port in (VXLAN_PORT, VXLAN_OLD_PORT):
        if not u8(buf, p) & 0x08:  # the bit that says the identifier is valid
            return 0, CUT, 0
        return BRIDGED, p + 8, be32(buf, p + 4) >> 8
    if port == GENEVE_PORT:
        first = u8(buf, p)
        inner = p + 8 + (first & 0x3F) * 4
        if first >> 6 or inner > end:
            return 0, CUT, 0
        return be16(buf, p + 2), inner, be32(buf, p + 4) >> 8
    return 0, CUT, 0


@numba.njit
def tunnel_payload(buf: Any, p: Any, end: Any, proto: Any, dst_port: Any) -> Any:
    """Find what the transport payload ``buf[p:end]`` carries, if it is a tunnel.

    Returns ``(eth_type, p, tunnel_id)``: ``BRIDGED`` for an Ethernet frame at ``p``, and p
    ``CUT`` when this is no tunnel that we know.
    """
    if proto == UDP:
        return over_udp(buf, p, end, dst_port)
    if proto == GRE:
        return gre(buf, p, end)
    if proto == IP_IN_IP:
        return IPV4, p, 0
    if proto == IPV6_IN_IP:
        return IPV6, p, 0
    return 0, CUT, 0
