"""The packet record: one 88-byte layout from the kernel to the numba kernels.

The C struct in ``bpf/``, the Avro record ``Packet`` and the numpy dtype ``PACKET`` are the
same bytes, little endian. Field meanings are in ``schemas/README.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

PACKET: Final = np.dtype(
    [
        ("ts_ns", "<u8"),
        ("src_addr", "u1", 16),
        ("dst_addr", "u1", 16),
        ("src_mac", "u1", 6),
        ("dst_mac", "u1", 6),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("wire_bytes", "<u4"),
        ("packets", "<u4"),
        ("if_index", "<u4"),
        ("tunnel_id", "<u4"),
        ("vlan_id", "<u2"),
        ("eth_type", "<u2"),
        ("ip_proto", "u1"),
        ("tcp_flags", "u1"),
        ("ttl", "u1"),
        ("tos", "u1"),
        ("direction", "u1"),
        ("capture_point", "u1"),
        ("flags", "u1"),
        ("reserved", "u1"),
        ("duration_us", "<u4"),
    ]
)
"""The record as numpy reads it."""

PACKET_BYTES: Final = 88
"""Size of one record in bytes."""

PACKET_WORDS: Final = PACKET_BYTES // 8
"""Size of one record in 64-bit words, the unit in which kernels read it."""

assert PACKET.itemsize == PACKET_BYTES

Packets = npt.NDArray[np.void]
"""An array of ``PACKET`` records."""


class Direction(IntEnum):
    """Way a packet went through the interface that saw it."""

    UNKNOWN = 0
    INGRESS = 1
    EGRESS = 2


class CapturePoint(IntEnum):
    """Where a packet was seen."""

    FILE = 0
    XDP = 1
    TC = 2
    AF_PACKET = 3
    SYNTHETIC = 4


class PacketFlag(IntFlag):
    """Bits of the field ``flags``."""

    LATER_FRAGMENT = 1
    L4_UNREADABLE = 2
    DECAPSULATED = 4
    COALESCED = 8


def as_words(packets: Packets) -> npt.NDArray[np.uint64]:
    """View records as an ``(n, 11)`` array of little-endian words, without a copy.

    Raises:
        ValueError: the array is not contiguous or not of dtype ``PACKET``.
    """
    if packets.dtype != PACKET or not packets.flags.c_contiguous:
        msg = "packets must be a contiguous array of dtype schemas.record.PACKET"
        raise ValueError(msg)
    words: npt.NDArray[Any] = packets.view(np.uint64)
    return words.reshape(-1, PACKET_WORDS)


def join(runs: Sequence[Packets]) -> Packets:
    """Put runs of records together, as words: numpy copies records field by field."""
    joined: Packets = np.concatenate([as_words(run) for run in runs]).view(PACKET)
    return joined.reshape(-1)
