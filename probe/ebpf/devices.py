"""Network devices in this thread's network namespace, and what their packets begin with."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Final

from probe.errors import LiveError

_SIOCGIFHWADDR: Final = 0x8927
# Numbers of linux/if_arp.h.
_ETHERNET: Final = frozenset({1, 772})
"""Ethernet and loopback, which has a header of zeros."""
_RAW_IP: Final = frozenset({519, 768, 769, 776, 778, 823, 0xFFFE})
"""Raw IP, IP in IP, IPv6 tunnels, SIT, GRE over both, and devices of no type: tun, WireGuard."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device to capture on.

    Attributes:
        name: of the device.
        index: its number.
        raw_ip: packets begin with the IP header.
    """

    name: str
    index: int
    raw_ip: bool


def find_devices(names: tuple[str, ...]) -> tuple[Device, ...]:
    """Look devices up.

    Raises:
        LiveError: none is named, one isn't there, or one is of a type that isn't understood.
    """
    if not names:
        msg = "no interface is named; `ip link` lists them"
        raise LiveError(msg)
    return tuple(_find(name) for name in dict.fromkeys(names))


def _find(name: str) -> Device:
    try:
        index = socket.if_nametoindex(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16s24x", name.encode())
            answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
    except OSError as error:
        msg = f"there is no interface {name!r} here; `ip link` lists them"
        raise LiveError(msg) from error
    (kind,) = struct.unpack_from("=H", answer, 16)
    if kind not in _ETHERNET | _RAW_IP:
        msg = f"interface {name} is of type {kind}, neither Ethernet nor raw IP"
        raise LiveError(msg)
    return Device(name, index, kind in _RAW_IP)
