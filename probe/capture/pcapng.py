"""The pcapng format (draft-ietf-opsawg-pcapng): blocks in sections, several interfaces.

Enhanced, simple and old packet blocks are frames; section headers and interface descriptions
are read in Python, all other blocks are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.capture import linktypes
from probe.capture.common import MAX_FRAME_BYTES, NO_PLACES, Interface, Stop
from probe.capture.copy import Blocks, Head, from_pcapng
from probe.capture.frame import decode_frame
from probe.capture.loads import U32, file16, file32
from probe.capture.timestamps import to_ns
from probe.errors import CaptureError

SECTION_BLOCK: Final = 0x0A0D0D0A
_INTERFACE_BLOCK: Final = 1
_OLD_PACKET_BLOCK: Final = 2
_SIMPLE_PACKET_BLOCK: Final = 3
_ENHANCED_PACKET_BLOCK: Final = 6
_PACKET_BLOCKS: Final = (_OLD_PACKET_BLOCK, _SIMPLE_PACKET_BLOCK, _ENHANCED_PACKET_BLOCK)

_BLOCK_BYTES: Final = 12  # type, length, and length again at the end
_PACKET_HEAD_BYTES: Final = 28
_SIMPLE_HEAD_BYTES: Final = 12
_SECTION_BYTES: Final = 28
_INTERFACE_BYTES: Final = 20
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

_END_OF_OPTIONS: Final = 0
_PACKET_FLAGS: Final = 2
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_IF_FCSLEN: Final = 13
_IF_TSOFFSET: Final = 14

# Columns of the table of interfaces, (n, 5) int64.
_LINK_TYPE: Final = 0
_SNAP_LEN: Final = 1
_FCS_BYTES: Final = 2
_RESOLUTION: Final = 3
_OFFSET_S: Final = 4
_UNKNOWN_INTERFACE: Final = 0xFFFFFFFF

# Stop's members as plain names: kernels see module globals as constants.
_FULL: Final = int(Stop.FULL)
_END: Final = int(Stop.END)
_CUT_HEADER: Final = int(Stop.CUT_HEADER)
_CUT_BODY: Final = int(Stop.CUT_BODY)
_ABSURD: Final = int(Stop.ABSURD)
_SECTION: Final = int(Stop.SECTION)
_INTERFACE: Final = int(Stop.INTERFACE)

_ZERO: Final = np.uint64(0)
_MICROSECONDS: Final = 6


@numba.njit
def packet_flags(buf: Any, p: Any, end: Any, big: Any) -> Any:
    """Find the flags word among a packet block's options ``buf[p:end]``; 0 when it has none."""
    while end - p >= 4:
        code = file16(buf, p, big)
        length = file16(buf, p + 2, big)
        if code == _END_OF_OPTIONS:
            break
        if code == _PACKET_FLAGS and length == 4 and end - p >= 8:
            return file32(buf, p + 4, big)
        p += 4 + (length + 3 & ~3)
    return 0


@numba.njit(nogil=True, cache=True)
def walk_pcapng(
    buf: Any,
    pos: Any,
    big: Any,
    interfaces: Any,
    section_start: Any,
    known: Any,
    decapsulate: Any,
    out: Any,
    places: Any,
) -> Any:
    """Decode packet blocks from ``buf[pos:]`` until ``out`` is full or another must act.

    ``buf`` is (n,) uint8, ``interfaces`` (k, 5) int64 of which rows ``section_start`` to
    ``known`` belong to this section, ``out`` (m, 11) uint64, ``places`` (m,) int64 for where
    blocks begin, or empty, ``big`` and ``decapsulate`` bools, the rest int64. Returns ``(rows,
    pos, stop)``: rows written, where the next block begins, and a ``Stop``; at SECTION and
    INTERFACE the block at ``pos`` is to be read by the caller.
    """
    size = np.int64(buf.shape[0])
    rows = np.int64(out.shape[0])
    row = np.int64(0)
    while True:
        left = size - pos
        if left == 0:
            return row, pos, _END
        if left < _BLOCK_BYTES:
            return row, pos, _CUT_HEADER
        kind = file32(buf, pos, big)
        if kind == SECTION_BLOCK:
            return row, pos, _SECTION
        packet = kind in (_ENHANCED_PACKET_BLOCK, _SIMPLE_PACKET_BLOCK, _OLD_PACKET_BLOCK)
        if packet and row == rows:
            return row, pos, _FULL
        block_bytes = file32(buf, pos + 4, big)
        if block_bytes < _BLOCK_BYTES or block_bytes & 3:
            return row, pos, _ABSURD
        if block_bytes > left:
            return row, pos, _CUT_BODY
        if kind == _INTERFACE_BLOCK:
            return row, pos, _INTERFACE
        if not packet:
            pos += block_bytes
            continue

        head_bytes = _SIMPLE_HEAD_BYTES if kind == _SIMPLE_PACKET_BLOCK else _PACKET_HEAD_BYTES
        room_bytes = block_bytes - head_bytes - 4
        if room_bytes < 0:
            return row, pos, _ABSURD
        units = _ZERO
        if kind == _SIMPLE_PACKET_BLOCK:
            interface = section_start
            wire_bytes = file32(buf, pos + 8, big)
            captured = min(wire_bytes, room_bytes)
            if interface < known and interfaces[interface, _SNAP_LEN] > 0:
                captured = min(captured, interfaces[interface, _SNAP_LEN])
        else:
            if kind == _ENHANCED_PACKET_BLOCK:
                interface = section_start + file32(buf, pos + 8, big)
            else:
                interface = section_start + file16(buf, pos + 8, big)
            units = np.uint64(file32(buf, pos + 12, big)) << U32 | np.uint64(
                file32(buf, pos + 16, big)
            )
            captured = file32(buf, pos + 20, big)
            wire_bytes = file32(buf, pos + 24, big)
        if captured > room_bytes or captured > MAX_FRAME_BYTES:
            return row, pos, _ABSURD
        link_type, fcs_bytes, resolution, offset_s = -1, 0, _MICROSECONDS, 0
        if interface < known:
            link_type = interfaces[interface, _LINK_TYPE]
            fcs_bytes = interfaces[interface, _FCS_BYTES]
            resolution = interfaces[interface, _RESOLUTION]
            offset_s = interfaces[interface, _OFFSET_S]
        else:
            interface = _UNKNOWN_INTERFACE
        ts_ns = _ZERO
        direction = 0
        frame = pos + head_bytes
        if kind != _SIMPLE_PACKET_BLOCK:
            ts_ns = to_ns(units, resolution, offset_s)
            options = frame + (captured + 3 & ~3)
            flags = packet_flags(buf, options, pos + block_bytes - 4, big)
            if flags & 3 != 3:
                direction = flags & 3
            if flags & 0x1E0:
                fcs_bytes = flags >> 5 & 15
        if fcs_bytes > 0:
            wire_bytes = max(wire_bytes - fcs_bytes, 0)
            captured = min(captured, wire_bytes)
        decode_frame(
            buf,
            frame,
            frame + captured,
            link_type,
            ts_ns,
            wire_bytes,
            interface,
            direction,
            decapsulate,
            out,
            row,
        )
        if places.shape[0] > 0:
            places[row] = pos
        row += 1
        pos += block_bytes
        if row == rows:  # before another section or interface changes what the caller knows
            return row, pos, _FULL


class PcapngWalker:
    """Position in a pcapng file, and the interfaces described so far.

    Args:
        buf: the file's bytes, (n,) uint8.
        decapsulate: whether records describe the packet inside a tunnel.

    Raises:
        CaptureError: the first section can't be read, or no interface described before the
            first frame has a link type that can be decoded.
    """

    def __init__(self, buf: npt.NDArray[np.uint8], decapsulate: bool) -> None:
        self._decapsulate = decapsulate
        self._order: Any = "little"
        self._section_start = 0
        self._table = np.zeros((8, 5), np.int64)
        self._heads: list[Head] = []
        self.position_bytes = 0
        self.interfaces: list[Interface] = []
        if not self._read_section(buf):
            msg = "is pcapng with a damaged header or an unknown version: nothing can be read"
            raise CaptureError(msg)
        self.walk(buf, np.empty((0, 11), np.uint64))
        link_types = [interface.link_type for interface in self.interfaces]
        if link_types and not set(link_types) & set(linktypes.SUPPORTED):
            raise CaptureError(linktypes.refusal(link_types))

    def walk(
        self,
        buf: npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint64],
        places: npt.NDArray[np.int64] = NO_PLACES,
    ) -> tuple[int, Stop]:
        """Decode the next records into ``out`` (m, 11): number decoded, why it stopped.

        ``places`` (m,), unless it is empty, gets where in ``buf`` each block begins.
        """
        rows = 0
        while True:
            done, self.position_bytes, code = walk_pcapng(
                buf,
                self.position_bytes,
                self._order == "big",
                self._table,
                self._section_start,
                len(self.interfaces),
                self._decapsulate,
                out[rows:],
                places[rows:],
            )
            rows += done
            stop = Stop(code)
            if stop is Stop.SECTION:
                if not self._read_section(buf):
                    return rows, Stop.BAD_SECTION
            elif stop is Stop.INTERFACE:
                if not self._read_interface(buf):
                    return rows, Stop.BAD_INTERFACE
            else:
                return rows, stop

    def as_pcapng(
        self, buf: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]
    ) -> Iterator[Blocks]:
        """The blocks that begin at ``places``, as they are."""
        return from_pcapng(buf, places, self._heads)

    def loses_frame(self, buf: npt.NDArray[np.uint8]) -> bool:
        """Whether the block that begins at the position is a frame, or may be one."""
        head = self._bytes(buf, 0, 4)
        return len(head) < 4 or self._int(head) in _PACKET_BLOCKS

    def _read_section(self, buf: npt.NDArray[np.uint8]) -> bool:
        head = self._bytes(buf, 0, _SECTION_BYTES)
        for order in ("little", "big"):
            if int.from_bytes(head[8:12], order) == _BYTE_ORDER_MAGIC:
                self._order = order
                break
        else:
            return False
        block_bytes = self._int(head[4:8])
        version = self._int(head[12:14]), self._int(head[14:16])
        if (
            len(head) < _SECTION_BYTES
            or block_bytes < _SECTION_BYTES
            or block_bytes % 4
            or block_bytes > len(buf) - self.position_bytes
            or version not in ((1, 0), (1, 2))
        ):
            return False
        self._section_start = len(self.interfaces)
        self._heads.append(Head(self.position_bytes, block_bytes, self._order == "big", True))
        self.position_bytes += block_bytes
        return True

    def _read_interface(self, buf: npt.NDArray[np.uint8]) -> bool:
        block_bytes = self._int(self._bytes(buf, 4, 4))
        if block_bytes < _INTERFACE_BYTES:
            return False
        head = self._bytes(buf, 8, 8)
        options = self._options(self._bytes(buf, 16, block_bytes - 20))
        index = len(self.interfaces)
        if index == len(self._table):
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        link_type, snap_len = self._int(head[:2]), self._int(head[4:8])
        name = options.get(_IF_NAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        fcs = options.get(_IF_FCSLEN, b"")[:1] or b"\0"
        offset = options.get(_IF_TSOFFSET, b"")
        self._table[index] = (
            link_type,
            snap_len,
            # Writers disagree whether it is bytes or bits; no FCS has 16 bytes.
            fcs[0] // 8 if fcs[0] >= 16 else fcs[0],
            (options.get(_IF_TSRESOL, b"")[:1] or bytes([_MICROSECONDS]))[0],
            int.from_bytes(offset, self._order, signed=True) if len(offset) == 8 else 0,
        )
        self.interfaces.append(Interface(index, name, link_type, snap_len))
        self._heads.append(Head(self.position_bytes, block_bytes, self._order == "big", False))
        self.position_bytes += block_bytes
        return True

    def _options(self, data: bytes) -> dict[int, bytes]:
        """First value of each option in ``data``."""
        options: dict[int, bytes] = {}
        at = 0
        while len(data) - at >= 4:
            code, length = self._int(data[at : at + 2]), self._int(data[at + 2 : at + 4])
            if code == _END_OF_OPTIONS:
                break
            options.setdefault(code, data[at + 4 : at + 4 + length])
            at += 4 + (length + 3 & ~3)
        return options

    def _bytes(self, buf: npt.NDArray[np.uint8], offset: int, count: int) -> bytes:
        start = self.position_bytes + offset
        return buf[start : start + count].tobytes()

    def _int(self, field: bytes) -> int:
        return int.from_bytes(field, self._order)


def is_pcapng(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is pcapng."""
    return int.from_bytes(head[:4], "little") == SECTION_BLOCK
