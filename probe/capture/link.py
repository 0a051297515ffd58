"""Link layer: from a frame's first byte to its network layer.

Every function takes the frame as ``buf[p:end]`` and checks each read against ``end``. A header
that is cut short gives the position ``CUT``.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.capture import linktypes
from probe.capture.loads import be16, be32, le32, le48, u8

CUT: Final = -1
"""Position that says: the headers go on after the captured bytes, or are malformed."""

IPV4: Final = 0x0800
ARP: Final = 0x0806
IPV6: Final = 0x86DD
VLAN: Final = 0x8100
VLAN_QINQ: Final = 0x88A8
VLAN_OLD_QINQ: Final = 0x9100
MPLS: Final = 0x8847
MPLS_MULTICAST: Final = 0x8848

ETHERNET_BYTES: Final = 14
FIRST_ETH_TYPE: Final = 0x0600

# Link types as plain names: kernels see module globals as constants.
_NULL: Final = linktypes.NULL
_LOOP: Final = linktypes.LOOP
_SLL: Final = linktypes.LINUX_SLL
_SLL2: Final = linktypes.LINUX_SLL2
_RAW: Final = linktypes.RAW
_RAW_BSD: Final = linktypes.RAW_BSD
_RAW_OPENBSD: Final = linktypes.RAW_OPENBSD
_IPV4: Final = linktypes.IPV4
_IPV6: Final = linktypes.IPV6

_NO_MAC: Final = np.uint64(0)
_SLL_OUTGOING: Final = 4
_INGRESS: Final = 1
_EGRESS: Final = 2


@numba.njit
def ip_by_version(buf: Any, p: Any, end: Any, otherwise: Any) -> Any:
    """EtherType told by the IP version in the first byte, or ``otherwise``."""
    if p < end:
        version = u8(buf, p) >> 4
        if version == 4:
            return IPV4
        if version == 6:
            return IPV6
    return otherwise


@numba.njit
def past_tags(buf: Any, p: Any, end: Any, eth_type: Any) -> Any:
    """Walk VLAN tags, LLC/SNAP and MPLS labels to the network layer.

    Returns ``(eth_type, vlan_id, p)``: the type behind all tags and the outermost VLAN. Length
    fields (IEEE 802.3) count as type 0 unless SNAP names one. Below MPLS (RFC 3032) the type is
    told by the first nibble; a payload that is no IP keeps the type of MPLS.
    """
    vlan_id = -1
    while True:
        if eth_type in (VLAN, VLAN_QINQ, VLAN_OLD_QINQ):
            if end - p < 4:
                p = CUT
                break
            if vlan_id < 0:
                vlan_id = be16(buf, p) & 0xFFF
            eth_type = be16(buf, p + 2)
            p += 4
        elif eth_type < FIRST_ETH_TYPE:
            # LLC with DSAP and SSAP 0xAA, unnumbered, then SNAP with the EtherType OUI.
            eth_type = 0
            if end - p < 8 or be32(buf, p) != 0xAAAA0300 or be16(buf, p + 4) != 0:
                break
            eth_type = be16(buf, p + 6)
            p += 8
            if eth_type < FIRST_ETH_TYPE:
                eth_type = 0
                break
        elif eth_type in (MPLS, MPLS_MULTICAST):
            bottom = False
            while not bottom and end - p >= 4:
                bottom = (u8(buf, p + 2) & 1) == 1
                p += 4
            if bottom and p < end:
                eth_type = ip_by_version(buf, p, end, eth_type)
            else:
                p = CUT
            break
        else:
            break
    return eth_type, max(vlan_id, 0), p


@numba.njit
def loopback(buf: Any, p: Any, end: Any) -> Any:
    """BSD loopback: an address family in the byte order of whoever captured.

    Families are small numbers, so a value above 16 bits was written in the other order.
    IPv6 is 10 on Linux, 23 on Windows, 24, 28 and 30 on the BSDs and macOS.
    """
    if end - p < 4:
        return 0, CUT
    family = le32(buf, p)
    if family > 0xFFFF:
        family = be32(buf, p)
    if family == 2:
        return IPV4, p + 4
    if family == 10 or family == 23 or family == 24 or family == 28 or family == 30:
        return IPV6, p + 4
    return 0, p + 4


@numba.njit
def other_link(buf: Any, p: Any, end: Any, link_type: Any, if_index: Any, direction: Any) -> Any:
    """Read the link header of a type other than Ethernet.

    Returns ``(eth_type, p, src_mac, if_index, direction)``. Linux cooked headers tell the way
    the packet went: outgoing is egress; to us, broadcast, multicast and to another host
    (promiscuous) came in. Version 2 names the interface.
    """
    if link_type == _SLL:
        if end - p < 16:
            return 0, CUT, _NO_MAC, if_index, direction
        kind = be16(buf, p)
        mac = le48(buf, p + 6) if be16(buf, p + 4) == 6 else _NO_MAC
        way = _EGRESS if kind == _SLL_OUTGOING else (_INGRESS if kind < 4 else direction)
        return be16(buf, p + 14), p + 16, mac, if_index, way
    if link_type == _SLL2:
        if end - p < 20:
            return 0, CUT, _NO_MAC, if_index, direction
        kind = u8(buf, p + 10)
        mac = le48(buf, p + 12) if u8(buf, p + 11) == 6 else _NO_MAC
        way = _EGRESS if kind == _SLL_OUTGOING else (_INGRESS if kind < 4 else direction)
        return be16(buf, p), p + 20, mac, be32(buf, p + 4), way
    if link_type in (_NULL, _LOOP):
        eth_type, p = loopback(buf, p, end)
        return eth_type, p, _NO_MAC, if_index, direction
    if link_type == _IPV4:
        return IPV4, p, _NO_MAC, if_index, direction
    if link_type == _IPV6:
        return IPV6, p, _NO_MAC, if_index, direction
    eth_type = 0
    if link_type in (_RAW, _RAW_BSD, _RAW_OPENBSD):
        eth_type = ip_by_version(buf, p, end, 0)
    return eth_type, (p if eth_type else CUT), _NO_MAC, if_index, direction
