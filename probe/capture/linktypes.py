"""Link types that can be decoded, and names for those that can't (tcpdump.org/linktypes)."""

from __future__ import annotations

from typing import Final

NULL: Final = 0
ETHERNET: Final = 1
RAW_BSD: Final = 12
RAW_OPENBSD: Final = 14
RAW: Final = 101
LOOP: Final = 108
LINUX_SLL: Final = 113
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276

SUPPORTED: Final = {
    NULL: "BSD loopback",
    ETHERNET: "Ethernet",
    RAW_BSD: "raw IP",
    RAW_OPENBSD: "raw IP",
    RAW: "raw IP",
    LOOP: "OpenBSD loopback",
    LINUX_SLL: "Linux cooked v1",
    IPV4: "raw IPv4",
    IPV6: "raw IPv6",
    LINUX_SLL2: "Linux cooked v2",
}
"""Number and name of each link type whose frames are decoded."""

_UNSUPPORTED: Final = {
    6: "Token Ring",
    8: "SLIP",
    9: "PPP",
    10: "FDDI",
    50: "PPP in HDLC framing",
    51: "PPPoE",
    104: "Cisco HDLC",
    105: "IEEE 802.11",
    107: "Frame Relay",
    117: "OpenBSD pflog",
    119: "IEEE 802.11 with Prism header",
    127: "IEEE 802.11 with radiotap",
    163: "IEEE 802.11 with AVS header",
    187: "Bluetooth HCI",
    189: "USB, Linux",
    192: "per-packet information",
    195: "IEEE 802.15.4",
    197: "ERF",
    201: "Bluetooth HCI with direction",
    220: "USB, Linux, memory-mapped",
    227: "CAN",
    230: "IEEE 802.15.4 without FCS",
    239: "Linux NFLOG",
    240: "netANALYZER",
    249: "USBPcap",
    253: "Linux netlink",
    265: "DOCSIS",
}


def describe(link_type: int) -> str:
    """Number and, where it is known, name of a link type, for messages."""
    name = SUPPORTED.get(link_type) or _UNSUPPORTED.get(link_type)
    return f"{link_type} ({name})" if name else str(link_type)


def supported_text() -> str:
    """List the supported link types for messages."""
    return ", ".join(f"{number} {name}" for number, name in SUPPORTED.items())


def refusal(link_types: list[int]) -> str:
    """Say that none of these link types is supported and which are; a file's name goes before."""
    unknown = ", ".join(map(describe, dict.fromkeys(link_types)))
    return f"has link type {unknown}, which can't be decoded; supported are {supported_text()}"
