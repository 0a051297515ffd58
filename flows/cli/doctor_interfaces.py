"""Interfaces as the doctor shows them, from the ioctls that ``ethtool`` uses."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Final

_SIOCGIFFLAGS, _SIOCGIFMTU, _SIOCGIFHWADDR, _SIOCETHTOOL = 0x8913, 0x8921, 0x8927, 0x8946
_IFF_UP: Final = 1
_DRIVER: Final = 0x03
_FEATURES: Final = {"TSO": 0x1E, "GSO": 0x23, "GRO": 0x2B}
_FLAGS: Final = 0x25
_FLAG_LRO: Final = 1 << 15

_KINDS: Final = {1: "Ethernet", 772: "loopback", 65_534: "no link header", 801: "WLAN", 512: "PPP"}
"""Link types by ``ARPHRD`` number."""

# fmt: off
XDP_DRIVERS: Final = frozenset((
    "veth", "virtio_net", "tun", "tap", "mlx4_en", "mlx5_core", "i40e", "ice", "ixgbe",
    "ixgbevf", "igb", "igc", "bnxt_en", "ena", "gve", "mana", "hv_netvsc", "nfp", "sfc",
    "qede", "thunderx", "mvneta", "mvpp2", "stmmac", "dpaa2-eth", "enetc", "vmxnet3",
))
# fmt: on
"""Drivers that have native XDP in kernels of today."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What one interface says of itself.

    Attributes:
        name: name.
        kind: of link.
        driver: its driver; empty where it has none.
        mtu: in bytes.
        up: whether it is in use.
        offloads: names of those that are switched on, of GRO, GSO, LRO, TSO.
    """

    name: str
    kind: str
    driver: str
    mtu: int
    up: bool
    offloads: tuple[str, ...]

    def __str__(self) -> str:
        """One line: type, driver, MTU, offloads, XDP."""
        parts = [self.kind, *([self.driver] if self.driver else []), f"MTU {self.mtu}"]
        parts.append(f"{' '.join(self.offloads)} on" if self.offloads else "no offloads")
        native = "native likely" if self.driver in XDP_DRIVERS else "generic only"
        if "LRO" in self.offloads:
            native = "generic only while LRO is on"
        parts.append(f"XDP {native}")
        return f"{self.name}: {', '.join(parts)}"


def interfaces() -> list[Interface]:
    """All interfaces of this network namespace, in the kernel's order."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it went away meanwhile
                found.append(_interface(asked, name))
    return found


def _interface(asked: socket.socket, name: str) -> Interface:
    flags, mtu, kind = (
        struct.unpack_from(layout, _ask(asked, name, request), 16)[0]
        for request, layout in ((_SIOCGIFFLAGS, "H"), (_SIOCGIFMTU, "i"), (_SIOCGIFHWADDR, "H"))
    )
    driver = _ethtool(asked, name, _DRIVER, 196)
    offloads = [name_ for name_, command in _FEATURES.items() if _value(asked, name, command)]
    if _value(asked, name, _FLAGS) & _FLAG_LRO:
        offloads.append("LRO")
    return Interface(
        name=name,
        kind=_KINDS.get(kind, f"link type {kind}"),
        driver=driver[4:36].rstrip(b"\0").decode(errors="replace") if driver else "",
        mtu=mtu,
        up=bool(flags & _IFF_UP),
        offloads=tuple(sorted(offloads)),
    )


def _ask(asked: socket.socket, name: str, request: int) -> bytes:
    return fcntl.ioctl(asked, request, struct.pack("16s24x", name.encode()))


def _value(asked: socket.socket, name: str, command: int) -> int:
    answer = _ethtool(asked, name, command, 8)
    return int(struct.unpack_from("I", answer, 4)[0]) if answer else 0


def _ethtool(asked: socket.socket, name: str, command: int, size: int) -> bytes:
    """Answer to an ethtool command; empty where the driver has none."""
    data = array.array("B", struct.pack("I", command).ljust(size, b"\0"))
    try:
        fcntl.ioctl(
            asked, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), data.buffer_info()[0])
        )
    except OSError:
        return b""
    return data.tobytes()
