"""Whole frames of one interface: an AF_PACKET socket with a TPACKET_V3 ring.

Source: Documentation/networking/packet_mmap.rst and linux/if_packet.h. The kernel fills blocks
with frames of any length and hands a block over when it is full or 50 ms old.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from probe import af_packet
from probe.capture import linktypes
from probe.errors import KeepError
from probe.keep.pcapng import InterfaceCounts

BLOCK_BYTES: Final = 1 << 18
"""Room for a coalesced buffer of 64 KB and more."""

RETIRE_SECONDS: Final = 0.05
"""Longest that a frame waits in a block that isn't full."""

_BLOCKS: Final = 128
_FRAME_BYTES: Final = 2048

_TPACKET_V3: Final = 2
_ETHERNET_DEVICES: Final = frozenset({1, 772})
"""ARPHRD_ETHER and ARPHRD_LOOPBACK: frames with an Ethernet header."""

_BLOCK_STATUS: Final = 2
_BLOCK_FRAMES: Final = 3
_OF_USER: Final = np.uint32(1)
_OF_KERNEL: Final = np.uint32(0)


class FrameRing:
    """Frames of one interface as they pass, a block at a time.

    Interfaces without an Ethernet header (tun, ipip) give IP packets. One that is removed gives
    nothing more, whether or not another of its name comes.

    Args:
        name: of the interface.
        snap_bytes: most to take of a frame.
        ignore_outgoing: don't even take what goes out.

    Attributes:
        name: of the interface.
        link_type: of its frames (tcpdump.org/linktypes).
        block: the ring's block that was taken last, as bytes.
        words: the same as 32-bit words.

    Raises:
        KeepError: there is no such interface, or its packets may not be read.
    """

    def __init__(self, name: str, snap_bytes: int, *, ignore_outgoing: bool = False) -> None:
        self.name = name
        self._received = self._dropped = 0
        self._next = 0
        try:
            ethernet = af_packet.device_type(name) in _ETHERNET_DEVICES
            self.link_type = linktypes.ETHERNET if ethernet else linktypes.RAW
            kind = socket.SOCK_RAW if ethernet else socket.SOCK_DGRAM
            self._socket = socket.socket(socket.AF_PACKET, kind, 0)
            self._open(snap_bytes, ignore_outgoing)
        except PermissionError:
            msg = f"frames of {name} may not be read: run as root or give CAP_NET_RAW"
            raise KeepError(msg) from None
        except OSError as error:
            msg = f"frames of {name} can't be read: {error.strerror}"
            raise KeepError(msg) from None

    def fileno(self) -> int:
        """Descriptor to poll for a block."""
        return self._socket.fileno()

    def take(self) -> int:
        """Take the next block, if the kernel has handed one over; returns its frames."""
        block = self._blocks[self._next]
        words: npt.NDArray[np.uint32] = block.view(np.uint32)
        if not words[_BLOCK_STATUS] & _OF_USER:
            return 0
        self.block, self.words = block, words
        return int(words[_BLOCK_FRAMES])

    def release(self) -> None:
        """Give the block that was taken back to the kernel."""
        self._blocks[self._next].view(np.uint32)[_BLOCK_STATUS] = _OF_KERNEL
        self._next = (self._next + 1) % _BLOCKS

    def counts(self) -> InterfaceCounts:
        """What the kernel counted since the start, dropped frames being received ones too."""
        data = self._socket.getsockopt(af_packet.SOL_PACKET, af_packet.STATISTICS, 12)
        received, dropped, _ = struct.unpack("<III", data)
        self._received += received
        self._dropped += dropped
        return InterfaceCounts(self._received, self._dropped)

    def clear_error(self) -> None:
        """Forget that the interface went down, so that polling waits again."""
        self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def stop(self) -> None:
        """Take no new frames; those that wait come with the next blocks, in 50 ms."""
        self._accept(0)

    def _accept(self, first_bytes: int) -> None:
        """Say how much to take of a frame."""
        af_packet.attach_filter(self._socket, [(af_packet.RETURN, 0, 0, first_bytes)])

    def _open(self, snap_bytes: int, ignore_outgoing: bool) -> None:
        option = self._socket.setsockopt
        option(af_packet.SOL_PACKET, af_packet.VERSION, _TPACKET_V3)
        if ignore_outgoing:
            with contextlib.suppress(OSError):  # before Linux 4.20; the writer passes them over
                option(af_packet.SOL_PACKET, af_packet.IGNORE_OUTGOING, 1)
        self._accept(snap_bytes)
        frames = _BLOCKS * (BLOCK_BYTES // _FRAME_BYTES)
        retire_ms = round(RETIRE_SECONDS * 1000)
        request = (BLOCK_BYTES, _BLOCKS, _FRAME_BYTES, frames, retire_ms, 0, 0)
        option(af_packet.SOL_PACKET, af_packet.RX_RING, struct.pack("<7I", *request))
        ring = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * _BLOCKS)
        self._blocks = np.frombuffer(ring, np.uint8).reshape(_BLOCKS, BLOCK_BYTES)
        self._socket.bind((self.name, af_packet.ETH_P_ALL))
