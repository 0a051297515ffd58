"""Packet sockets as the ring wants them: filtered, snapped, counted (packet(7))."""

from __future__ import annotations

import contextlib
import errno
import mmap
import socket
import struct
from collections.abc import Set
from typing import Final

from probe import af_packet
from probe.af_packet import RETURN, Instruction, attach_filter
from probe.capture import linktypes
from probe.errors import LiveError, Unavailable
from probe.packet_socket.frames import OUTGOING, SLOT_BYTES, SNAP_BYTES
from schemas.record import Direction

BLOCK_BYTES: Final = 1 << 16
"""Unit in which the kernel allocates a ring."""

_TPACKET_V2: Final = 1
_ETH_P_NONE: Final = 0xFFFF
"""A type that no frame has."""

_HARDWARE: Final = {
    1: linktypes.ETHERNET,
    772: linktypes.ETHERNET,  # loopback
    512: linktypes.RAW,  # PPP
    519: linktypes.RAW,  # raw IP
    768: linktypes.RAW,  # IP in IP
    769: linktypes.RAW,
    776: linktypes.RAW,  # 6in4
    65534: linktypes.RAW,  # none: tun, WireGuard
}
"""Link type by ARPHRD number (``linux/if_arp.h``)."""

_LOAD_ANCILLARY: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_PACKET_TYPE: Final = 0xFFFFF000 + 4


def filter_program(directions: Set[Direction]) -> list[Instruction]:
    """Make the classic BPF program that takes frames of these directions, snapped."""
    take, refuse = (RETURN, 0, 0, SNAP_BYTES), (RETURN, 0, 0, 0)
    if directions >= {Direction.INGRESS, Direction.EGRESS}:
        return [take]
    ours, others = (take, refuse) if Direction.EGRESS in directions else (refuse, take)
    return [(_LOAD_ANCILLARY, 0, 0, _PACKET_TYPE), (_JUMP_IF_EQUAL, 0, 1, OUTGOING), ours, others]


class PacketSocket:
    """A socket that hands over the frames of one interface in a mapped ring, once it is started.

    Args:
        interface: its name.
        directions: of the frames.
        ring_bytes: of the ring, rounded down to whole blocks.

    Attributes:
        if_index: number of the interface.
        link_type: what its frames begin with.
        map: the ring.

    Raises:
        Unavailable: this machine doesn't let us.
        LiveError: there is no such interface, or its frames can't be decoded.
    """

    def __init__(self, interface: str, directions: Set[Direction], ring_bytes: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            msg = "AF_PACKET needs the capability CAP_NET_RAW: run as root"
            raise Unavailable(msg) from None
        except (OSError, AttributeError) as error:
            msg = f"this system has no AF_PACKET sockets ({error})"
            raise Unavailable(msg) from None
        try:
            self.if_index = _if_index(interface)
            self.link_type = _link_type(interface)
            attach_filter(self._socket, filter_program(directions))
            self._make_ring(max(ring_bytes // BLOCK_BYTES, 1))
        except BaseException:
            self._socket.close()
            raise
        self._name = interface

    def start(self) -> None:
        """Let frames come.

        Raises:
            LiveError: the interface is gone.
        """
        try:
            self._socket.bind((self._name, af_packet.ETH_P_ALL))
        except OSError as error:
            msg = f"interface {self._name} can't be captured ({error.strerror})"
            raise LiveError(msg) from None

    def statistics(self) -> int:
        """Frames dropped since the last call, because the ring was full."""
        packed = self._socket.getsockopt(af_packet.SOL_PACKET, af_packet.STATISTICS, 8)
        return int(struct.unpack("II", packed)[1])

    def detach(self) -> None:
        """Take no more frames; on return none is on its way either."""
        attach_filter(self._socket, [(RETURN, 0, 0, 0)])
        # Binding anew makes the kernel wait until nobody delivers to the old binding any more.
        # An interface that is gone delivers nothing.
        with contextlib.suppress(OSError):
            self._socket.bind((self._name, _ETH_P_NONE))

    def close(self) -> None:
        """Give the ring back."""
        # While a traceback still refers to the ring, it goes with its last reference.
        with contextlib.suppress(BufferError):
            self.map.close()
        self._socket.close()

    def _make_ring(self, blocks: int) -> None:
        self._socket.setsockopt(af_packet.SOL_PACKET, af_packet.VERSION, _TPACKET_V2)
        self._socket.setsockopt(af_packet.SOL_PACKET, af_packet.VNET_HDR, 1)
        slots = blocks * BLOCK_BYTES // SLOT_BYTES
        request = struct.pack("IIII", BLOCK_BYTES, blocks, SLOT_BYTES, slots)
        try:
            self._socket.setsockopt(af_packet.SOL_PACKET, af_packet.RX_RING, request)
            self.map = mmap.mmap(self._socket.fileno(), blocks * BLOCK_BYTES)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            msg = f"no memory for a ring of {blocks * BLOCK_BYTES} bytes: make it smaller"
            raise LiveError(msg) from None


def _if_index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        msg = f"there is no interface {interface}; there are: {names}"
        raise LiveError(msg) from None


def _link_type(interface: str) -> int:
    hardware = af_packet.device_type(interface)
    if hardware not in _HARDWARE:
        msg = f"frames of {interface} can't be decoded: its hardware type is {hardware}"
        raise LiveError(msg)
    return _HARDWARE[hardware]
