"""Frames of capture files into a new pcapng file (draft-ietf-opsawg-pcapng), byte for byte.

Blocks of a pcapng file are copied as they are, behind the section header and the interfaces that
they refer to. Records of a pcap file get the head of an Enhanced Packet Block with the same time
and lengths.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from probe.capture.common import Interface

_SECTION_BLOCK: Final = 0x0A0D0D0A
_INTERFACE_BLOCK: Final = 1
_ENHANCED_PACKET_BLOCK: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_UNKNOWN_LENGTH: Final = b"\xff" * 8
_LENGTH_AT: Final = slice(16, 24)
_PACKET_HEAD_BYTES: Final = 28
_IF_TSRESOL: Final = 9
_IF_FCSLEN: Final = 13

Bytes = bytes | memoryview


class Head(NamedTuple):
    """Where in a pcapng file a section header or an interface description is."""

    place: int
    size: int
    big: bool
    section: bool


class Blocks(NamedTuple):
    """Blocks of frames that belong behind the same head.

    Attributes:
        head: the section header and the interfaces described so far in the section.
        bodies: the blocks.
        frames: how many they are.
    """

    head: bytes
    bodies: Iterable[Bytes]
    frames: int


class PcapngWriter:
    """Writes blocks behind their heads; a head that is there already isn't repeated.

    So frames of rotated files with the same interfaces make one section, which more programs can
    read than several.

    Args:
        file: where to.

    Attributes:
        frames: written so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._head = b""
        self.frames = 0

    def write(self, groups: Iterable[Blocks]) -> None:
        """Append frames."""
        for head, bodies, frames in groups:
            if not self._head.startswith(head):
                # More interfaces of the section, or another section.
                known = len(self._head) if head.startswith(self._head) else 0
                self._file.write(head[known:])
                self._head = head
            for body in bodies:
                self._file.write(body)
            self.frames += frames


def from_pcapng(
    buf: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], heads: Sequence[Head]
) -> Iterator[Blocks]:
    """Blocks of frames as they are.

    Args:
        buf: the file's bytes, (n,) uint8.
        places: where the blocks begin, ascending, (m,) int64.
        heads: sections and interfaces up to the last of them, in order.
    """
    before = np.searchsorted([head.place for head in heads], places)
    for number in np.unique(before):
        chosen = places[before == number]
        section = max(at for at in range(number) if heads[at].section)
        header, *interfaces = heads[section:number]
        first = bytearray(buf[header.place : header.place + header.size].tobytes())
        first[_LENGTH_AT] = _UNKNOWN_LENGTH
        rest = (buf[head.place : head.place + head.size].tobytes() for head in interfaces)
        yield Blocks(bytes(first) + b"".join(rest), _runs(buf, chosen, header.big), len(chosen))


def _runs(
    buf: npt.NDArray[np.uint8], places: npt.NDArray[np.int64], big: bool
) -> Iterator[memoryview]:
    """Blocks, those that follow each other in one piece."""
    sizes = buf[places[:, None] + np.arange(4, 8)].view(">u4" if big else "<u4")[:, 0]
    ends = places + sizes.astype(np.int64)
    breaks = np.flatnonzero(ends[:-1] != places[1:])
    firsts = places[np.concatenate([[0], breaks + 1])]
    lasts = ends[np.concatenate([breaks, [len(places) - 1]])]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        yield buf[first:last].data


def from_pcap(
    buf: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    *,
    big: bool,
    header_bytes: int,
    nanoseconds: bool,
    interface: Interface,
    fcs_bytes: int,
) -> Iterator[Blocks]:
    """Records of a pcap file as Enhanced Packet Blocks, little endian.

    Args:
        buf: the file's bytes, (n,) uint8.
        places: where the records begin, (m,) int64.
        big: whether the file is big endian.
        header_bytes: size of a record's header.
        nanoseconds: whether times are in ns, not µs.
        interface: the file's only one.
        fcs_bytes: size of the frame check sequence at the end of each frame.
    """
    if len(places):
        head = _pcap_head(interface, nanoseconds, fcs_bytes)
        bodies = _enhanced(buf, places, ">u4" if big else "<u4", header_bytes, nanoseconds)
        yield Blocks(head, bodies, len(places))


def _pcap_head(interface: Interface, nanoseconds: bool, fcs_bytes: int) -> bytes:
    options = _option(_IF_TSRESOL, bytes([9 if nanoseconds else 6]))
    if fcs_bytes:
        options += _option(_IF_FCSLEN, bytes([8 * fcs_bytes]))
    section = struct.pack("<IHH", _BYTE_ORDER_MAGIC, 1, 0) + _UNKNOWN_LENGTH
    fixed = struct.pack("<HHI", interface.link_type, 0, interface.snap_len)
    described = _block(_INTERFACE_BLOCK, fixed + options + _option(0, b""))
    return _block(_SECTION_BLOCK, section) + described


def _enhanced(
    buf: npt.NDArray[np.uint8],
    places: npt.NDArray[np.int64],
    order: str,
    header_bytes: int,
    nanoseconds: bool,
) -> Iterator[bytes]:
    fields = buf[places[:, None] + np.arange(16)].view(order).astype(np.uint64)
    seconds, fractions, captured, wire_bytes = fields.T
    units = seconds * np.uint64(10**9 if nanoseconds else 10**6) + fractions
    padding = -captured.astype(np.int64) % 4
    sizes = captured.astype(np.int64) + padding + _PACKET_HEAD_BYTES + 4
    heads = np.zeros((len(places), 7), "<u4")
    heads[:, 0] = _ENHANCED_PACKET_BLOCK
    heads[:, 1] = sizes
    heads[:, 3] = units >> np.uint64(32)
    heads[:, 4] = units & np.uint64(0xFFFFFFFF)
    heads[:, 5] = captured
    heads[:, 6] = wire_bytes
    frames = (places + header_bytes).tolist()
    rows = zip(frames, captured.tolist(), padding.tolist(), heads, strict=True)
    for frame, length, pad, head in rows:
        data = buf[frame : frame + length].tobytes()
        yield head.tobytes() + data + bytes(pad) + head[1].tobytes()


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
