"""Slots of a TPACKET_V2 ring to packet records.

A slot begins with ``struct tpacket2_hdr`` (``linux/if_packet.h``), a ``struct sockaddr_ll`` and,
right before the frame, a ``struct virtio_net_hdr``; the kernel's
``Documentation/networking/packet_mmap.rst`` describes the ring.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from probe.capture.frame import decode_frame
from probe.capture.loads import le16, le32, u8
from probe.capture.network import TCP, UDP
from probe.packet_socket.segments import count_segments, header_bytes, transport_header_bytes
from schemas.record import CapturePoint, Direction, PacketFlag

SLOT_BYTES: Final = 512
"""A slot: headers of at most 112 bytes, then what was captured of the frame."""

SNAP_BYTES: Final = 256
"""Most bytes captured of a frame."""

VNET_BYTES: Final = 10

STATUS, LENGTH, CAPTURED, MAC, SECONDS, NANOSECONDS, TCI = 0, 4, 8, 12, 16, 20, 24
PACKET_TYPE: Final = 32 + 10
"""Offsets of the fields of a slot."""

READY: Final = 1
VLAN_VALID: Final = 1 << 4
"""Bits of the status: the frame is ours to read; the tag that was taken off it is in TCI."""

OUTGOING: Final = 4

_FLAGS, _GSO_TYPE, _GSO_SIZE, _CHECKSUM_START = 0, 1, 4, 6
_NEEDS_CHECKSUM = 1
_GSO_UDP = 5
_TAG_BYTES = 4

_INGRESS: Final = int(Direction.INGRESS)
_EGRESS: Final = int(Direction.EGRESS)
_VLAN_ID = np.uint64(0xFFF)
_VLAN_FIELD = np.uint64(0xFFFF)
_POINT = np.uint64(CapturePoint.AF_PACKET << 8)
_COALESCED = np.uint64(PacketFlag.COALESCED << 16)
_SECOND_NS = np.uint64(1_000_000_000)
_U32 = np.uint64(32)


@numba.njit(nogil=True, cache=True)
def count_ready(statuses: Any, first: Any, most: Any) -> Any:
    """Count the slots from ``first`` on that hold a frame, at most ``most``; never wraps.

    ``statuses`` is (slots,) uint32. The frames may be read after a fence.
    """
    end = min(first + most, statuses.shape[0])
    for slot in range(first, end):
        if statuses[slot] & np.uint32(READY) == 0:
            return slot - first
    return end - first


@numba.njit(nogil=True, cache=True)
def decode_slots(
    ring: Any, first: Any, count: Any, link_type: Any, if_index: Any, decapsulate: Any, out: Any
) -> Any:
    """Decode the frames of ``count`` slots from ``first`` on, each to one record.

    ``ring`` is (bytes,) uint8, ``out`` (m, 11) uint64 with m >= ``count``. Frames of several
    segments become one record that stands for all of them.
    """
    for row in range(count):
        slot = (first + row) * SLOT_BYTES
        begin = slot + le16(ring, slot + MAC)
        end = begin + le32(ring, slot + CAPTURED)
        frame_bytes = le32(ring, slot + LENGTH)
        tag_bytes = _TAG_BYTES if le32(ring, slot + STATUS) & VLAN_VALID else 0
        segments, headers = frame_segments(ring, begin, end, frame_bytes, link_type, out, row)
        ts_ns = np.uint64(le32(ring, slot + SECONDS)) * _SECOND_NS
        ts_ns += np.uint64(le32(ring, slot + NANOSECONDS))
        wire_bytes = frame_bytes + (segments - 1) * headers + segments * tag_bytes
        direction = _EGRESS if u8(ring, slot + PACKET_TYPE) == OUTGOING else _INGRESS
        decode_frame(
            ring,
            begin,
            end,
            link_type,
            ts_ns,
            wire_bytes,
            if_index,
            direction,
            decapsulate,
            out,
            row,
        )
        if tag_bytes:
            # The tag that was taken off is the outermost.
            vlan_id = np.uint64(le16(ring, slot + TCI)) & _VLAN_ID
            out[row, 9] = out[row, 9] & ~_VLAN_FIELD | vlan_id
        if segments > 1:
            out[row, 7] = np.uint64(wire_bytes) | np.uint64(segments) << _U32
            out[row, 10] |= _COALESCED
        out[row, 10] |= _POINT


@numba.njit
def frame_segments(
    ring: Any, begin: Any, end: Any, frame_bytes: Any, link_type: Any, out: Any, row: Any
) -> Any:
    """Tell how many segments a frame stands for: ``(segments, bytes of headers of each)``.

    The header in front of the frame has the payload of a segment, and where the checksum that
    is still to be calculated begins: at the transport header, even where we know the tunnel
    not. ``out[row]`` is scratch.
    """
    vnet = begin - VNET_BYTES
    gso_type = u8(ring, vnet + _GSO_TYPE)
    segment_bytes = le16(ring, vnet + _GSO_SIZE)
    if gso_type == 0 or segment_bytes == 0:
        return 1, 0
    headers = 0
    if u8(ring, vnet + _FLAGS) & _NEEDS_CHECKSUM:
        at = le16(ring, vnet + _CHECKSUM_START)
        proto = UDP if gso_type == _GSO_UDP else TCP
        transport = transport_header_bytes(ring, begin + at, end, proto)
        headers = at + transport if transport else 0
    if headers == 0:
        headers = header_bytes(ring, begin, end, link_type, out, row)
    return count_segments(frame_bytes, headers, segment_bytes), headers
