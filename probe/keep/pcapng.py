"""Frames to pcapng (draft-ietf-opsawg-pcapng): the head and tail of a file, blocks in bulk.

The kernel turns the frames of one block of a TPACKET_V3 ring
(Documentation/networking/packet_mmap.rst, linux/if_packet.h) into Enhanced Packet Blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np

from probe.capture.frame import decode_frame

_SECTION_BLOCK: Final = 0x0A0D0D0A
_INTERFACE_BLOCK: Final = 1
_STATISTICS_BLOCK: Final = 5
_ENHANCED_PACKET_BLOCK: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_UNKNOWN_LENGTH: Final = -1
_SECTION_USER: Final = 4
_IF_NAME: Final = 2
_IF_TSRESOL: Final = 9
_STATISTICS_RECEIVED: Final = 4
_STATISTICS_DROPPED: Final = 5
_NANOSECONDS: Final = 9
_FLAGS_HEAD: Final = 2 | 4 << 16
"""Code and length of the option that tells a packet's direction."""

EPB_BYTES: Final = 44
"""An Enhanced Packet Block with that option, without the frame and its padding."""

# In 32-bit words of struct tpacket_block_desc.
_BLOCK_FRAMES: Final = 3
_BLOCK_FIRST: Final = 4
# In 32-bit words of struct tpacket3_hdr.
_NEXT: Final = 0
_SECONDS: Final = 1
_NANOS: Final = 2
_CAPTURED: Final = 3
_LENGTH: Final = 4
_STATUS: Final = 5
_MAC: Final = 6  # and tp_net, 16 bits each
_TCI: Final = 8
_TPID: Final = 9
# Of struct sockaddr_ll behind it, in bytes from the header.
_PACKET_TYPE: Final = 58
_OUTGOING: Final = 4
_VLAN_VALID: Final = 1 << 4
_TPID_VALID: Final = 1 << 6
_TPID_DEFAULT: Final = 0x8100
_MACS_BYTES: Final = 12
_NS_PER_S: Final = np.uint64(1_000_000_000)
_LOW: Final = np.uint64(0xFFFFFFFF)
_U32: Final = np.uint64(32)


@dataclass(frozen=True, slots=True)
class InterfaceCounts:
    """Frames of one interface: what reached its ring and what found it full."""

    received: int
    dropped: int


def file_head(interfaces: Sequence[tuple[str, int]], snap_bytes: int) -> bytes:
    """Blocks that a file begins with: a section and its interfaces (name, link type)."""
    user = _option(_SECTION_USER, b"NetSpectra")
    section = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
    blocks = [_block(_SECTION_BLOCK, section + user + _option(0, b""))]
    for name, link_type in interfaces:
        options = _option(_IF_NAME, name.encode("utf-8", "surrogateescape"))
        options += _option(_IF_TSRESOL, bytes([_NANOSECONDS])) + _option(0, b"")
        fixed = struct.pack("<HHI", link_type, 0, snap_bytes)
        blocks.append(_block(_INTERFACE_BLOCK, fixed + options))
    return b"".join(blocks)


def file_tail(counts: Iterable[InterfaceCounts], now_ns: int) -> bytes:
    """Blocks that a file ends with: what each interface's ring received and dropped so far."""
    blocks = []
    for index, count in enumerate(counts):
        options = _option(_STATISTICS_RECEIVED, struct.pack("<Q", count.received))
        options += _option(_STATISTICS_DROPPED, struct.pack("<Q", count.dropped))
        fixed = struct.pack("<III", index, now_ns >> 32, now_ns & 0xFFFFFFFF)
        blocks.append(_block(_STATISTICS_BLOCK, fixed + options + _option(0, b"")))
    return b"".join(blocks)


@numba.njit(nogil=True, cache=True)
def write_frames(
    block: Any,
    words: Any,
    interface: Any,
    ingress: Any,
    egress: Any,
    snap_bytes: Any,
    chosen: Any,
    out: Any,
    out_words: Any,
    used: Any,
) -> Any:
    """Append the frames of a ring's block to ``out`` as Enhanced Packet Blocks.

    A VLAN tag that the interface took off is put back. Frames that are not of interest are
    passed over.

    Args:
        block: ``(n,)`` uint8, a block of the ring.
        words: the same memory as uint32.
        interface: index of the interface in the file.
        ingress: whether frames that came in are kept; bool.
        egress: the same for frames that went out.
        snap_bytes: most to keep of a frame.
        chosen: ``(k,)`` bool, one for each frame, or empty for all.
        out: ``(m,)`` uint8, room for ``n`` bytes more: a block is never larger than the ring's.
        out_words: the same memory as uint32.
        used: bytes of ``out`` in use, a multiple of 4.

    Returns:
        ``(used, kept)``: bytes in use now, frames appended.
    """
    frames = np.int64(words[_BLOCK_FRAMES])
    at = np.int64(words[_BLOCK_FIRST])
    used = np.int64(used)
    kept = np.int64(0)
    for i in range(frames):
        head = at >> 2
        start = at
        at = at + np.int64(words[head + _NEXT])
        outgoing = block[start + _PACKET_TYPE] == _OUTGOING
        wanted = egress if outgoing else ingress
        if not wanted or (chosen.shape[0] > 0 and not chosen[i]):
            continue
        taken = np.int64(words[head + _CAPTURED])
        wire_bytes = np.int64(words[head + _LENGTH])
        status = np.int64(words[head + _STATUS])
        source = start + np.int64(words[head + _MAC] & np.uint32(0xFFFF))
        tag_bytes = 4 if status & _VLAN_VALID and taken >= _MACS_BYTES else 0
        wire_bytes += tag_bytes
        captured = min(taken + tag_bytes, snap_bytes)
        padded = captured + 3 & ~3
        size = padded + EPB_BYTES
        ns = np.uint64(words[head + _SECONDS]) * _NS_PER_S + np.uint64(words[head + _NANOS])

        to = used >> 2
        out_words[to + 6 + (padded >> 2)] = 0  # the padding, before what may overwrite it
        out_words[to] = _ENHANCED_PACKET_BLOCK
        out_words[to + 1] = size
        out_words[to + 2] = interface
        out_words[to + 3] = np.uint32(ns >> _U32)
        out_words[to + 4] = np.uint32(ns & _LOW)
        out_words[to + 5] = captured
        out_words[to + 6] = wire_bytes
        data = used + 28
        if tag_bytes:
            tpid: Any = _TPID_DEFAULT
            if status & _TPID_VALID:
                tpid = np.int64(words[head + _TPID] & np.uint32(0xFFFF))
            tci = np.int64(words[head + _TCI])
            for k in range(_MACS_BYTES):
                out[data + k] = block[source + k]
            out[data + 12] = tpid >> 8
            out[data + 13] = tpid & 0xFF
            out[data + 14] = tci >> 8 & 0xFF
            out[data + 15] = tci & 0xFF
            for k in range(_MACS_BYTES + 4, captured):
                out[data + k] = block[source + k - 4]
        else:
            for k in range(captured):
                out[data + k] = block[source + k]
        to = (used + size >> 2) - 4
        out_words[to] = _FLAGS_HEAD
        out_words[to + 1] = 2 if outgoing else 1
        out_words[to + 2] = 0
        out_words[to + 3] = size
        used += size
        kept += 1
    return used, kept


@numba.njit(nogil=True, cache=True)
def decode_frames(block: Any, words: Any, link_type: Any, decapsulate: Any, out: Any) -> None:
    """Decode the frames of a ring's block to records, for a filter to look at.

    Args:
        block: ``(n,)`` uint8, a block of the ring.
        words: the same memory as uint32.
        link_type: of the frames.
        decapsulate: describe what tunnels carry; bool.
        out: ``(k, 11)`` uint64, a row for each frame; times and interfaces are left 0.
    """
    at = np.int64(words[_BLOCK_FIRST])
    for i in range(np.int64(words[_BLOCK_FRAMES])):
        head = at >> 2
        start = at + np.int64(words[head + _MAC] & np.uint32(0xFFFF))
        end = start + np.int64(words[head + _CAPTURED])
        wire_bytes = np.int64(words[head + _LENGTH])
        decode_frame(
            block, start, end, link_type, np.uint64(0), wire_bytes, 0, 0, decapsulate, out, i
        )
        at = at + np.int64(words[head + _NEXT])


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
