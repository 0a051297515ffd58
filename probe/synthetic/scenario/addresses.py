"""The addresses of a scenario: who is where, as numbers, as text and as a record's words.

A host is a 32-bit number, its IPv4 address; in IPv6 it has the address that ends in the same 32
bits, below fd00:: if it is internal (10.0.0.0/8) and below 2001:db8:: if not. The background,
each attack and each look-alike use addresses of their own, unless they are given others.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, Final

import numba
import numpy as np

from probe.synthetic.bits import MAPPED, ZERO, mapped

LAB: Final = "lab"
"""The network that a whole-network ``Volume`` attack comes from."""

NETWORKS: Final[Mapping[str, tuple[str, ...]]] = {
    "internal": ("10.0.0.0/8", "fd00::/8"),
    "servers": (
        "10.1.1.0/24",
        "10.1.2.0/24",
        "10.1.4.0/24",
        "fd00::a01:100/120",
        "fd00::a01:200/120",
        "fd00::a01:400/120",
    ),
    "dns": ("10.1.3.0/24", "fd00::a01:300/120"),
    "nat": ("10.1.0.0/24", "fd00::a01:0/120"),
    "cdn": ("198.18.0.0/24", "2001:db8::c612:0/120"),
    LAB: ("10.77.0.0/24", "fd00::a4d:0/120"),
}
"""Names of the background's special ranges, as the setting ``networks`` takes them."""

ATTACKERS: Final = "10.200.0.0"
VICTIMS: Final = "10.201.0.0"
"""Default inside hosts of what is planted: one /24 each, by its place among the attacks."""

OUTSIDERS: Final = "203.0.113.0"
"""Default outside hosts of what is planted: one each."""

FD00: Final = np.uint64(0xFD)
DB8: Final = np.uint64(int.from_bytes(b"\x20\x01\x0d\xb8", "little"))
S24: Final = np.uint64(24)
INTERNAL_BYTE: Final = np.uint64(10)


def number(address: str) -> int:
    """The number of an IPv4 address, or of an address of ours in IPv6.

    Raises:
        ValueError: it isn't an IPv4 address.
    """
    return int(IPv4Address(address))


def block(network: str) -> tuple[int, int]:
    """First address and size of an IPv4 network.

    Raises:
        ValueError: it isn't an IPv4 network.
    """
    net = IPv4Network(network)
    return int(net.network_address), net.num_addresses


def text(host: int, ipv6: bool = False) -> str:
    """The address of a host as people write it."""
    if not ipv6:
        return str(IPv4Address(host))
    high = 0xFD00 << 112 if host >> 24 == 10 else 0x20010DB8 << 96
    return str(IPv6Address(high | host))


@numba.njit(inline="always")
def address_words(host: Any, ipv6: Any) -> Any:
    """Both words of a host's address in a record; ``host`` is uint64."""
    if ipv6:
        high = FD00 if host >> S24 == INTERNAL_BYTE else DB8
        return high, mapped(host) ^ MAPPED
    return ZERO, mapped(host)
