"""Inputs made on the spot: records in memory, messages, capture files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from probe.synthetic import Traffic
from schemas.batch import MAX_RECORDS, BatchHeader, encode_batch
from schemas.record import PACKET, Packets

START_NS: Final = 1_700_000_000_000_000_000
"""Time of the first packet: the start of a pane, of a minute and of a day's hour."""

_HEAD_BYTES: Final = 54
"""Ethernet, IPv4 and TCP headers; a UDP datagram's payload begins within them."""


def traffic(profile: str, packets: int, packets_per_second: float, **parameters: Any) -> Traffic:
    """Synthetic traffic that starts with a pane."""
    return Traffic(
        profile=profile,
        packets=packets,
        packets_per_second=packets_per_second,
        start_ns=START_NS,
        **parameters,
    )


def records(source: Traffic) -> Packets:
    """All its packets in memory."""
    out = np.empty(source.packets, PACKET)
    source.fill(0, out)
    return out


def encode(packets: Packets, sequence: int) -> bytes:
    """A PacketBatch message of up to 8,192 records."""
    header = BatchHeader(
        tenant="bench",
        probe="bench",
        boot_id=bytes(16),
        partition=0,
        sequence=sequence,
        emit_time_ns=int(packets["ts_ns"][-1]),
        watermark_ns=int(packets["ts_ns"][-1]),
        record_count=len(packets),
    )
    return encode_batch(header, packets)


def messages(packets: Packets) -> list[bytes]:
    """The packets as PacketBatch messages."""
    return [
        encode(packets[start : start + MAX_RECORDS], number)
        for number, start in enumerate(range(0, len(packets), MAX_RECORDS))
    ]


def frames(packets: Packets) -> Iterator[bytes]:
    """Ethernet frames, whole, of IPv4 records (TCP or UDP) without VLANs; payload is zero."""
    heads = np.zeros((len(packets), _HEAD_BYTES), np.uint8)
    wire_bytes = packets["wire_bytes"]
    tcp = packets["ip_proto"] == 6
    heads[:, 0:6], heads[:, 6:12] = packets["dst_mac"], packets["src_mac"]
    heads[:, 12] = 0x08
    heads[:, 14] = 0x45
    heads[:, 16:18] = _big_endian(wire_bytes - 14)
    heads[:, 22], heads[:, 23] = packets["ttl"], packets["ip_proto"]
    heads[:, 26:30], heads[:, 30:34] = packets["src_addr"][:, 12:], packets["dst_addr"][:, 12:]
    heads[:, 34:36] = _big_endian(packets["src_port"])
    heads[:, 36:38] = _big_endian(packets["dst_port"])
    heads[:, 38:40] = np.where(tcp[:, None], 0, _big_endian(wire_bytes - 34))
    heads[:, 46] = np.where(tcp, 0x50, 0)
    heads[:, 47] = packets["tcp_flags"]
    for head, length in zip(heads, wire_bytes.tolist(), strict=True):
        yield head.tobytes() + bytes(length - _HEAD_BYTES)


def _big_endian(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return values.astype(">u2").view(np.uint8).reshape(-1, 2)


def write_pcap(path: Path, packets: Packets, snap_bytes: int = 262_144) -> None:
    """A pcap file, times in ns, of frames cut to ``snap_bytes``."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1))
        for ts_ns, frame in zip(packets["ts_ns"].tolist(), frames(packets), strict=True):
            seconds, ns = divmod(ts_ns, 10**9)
            kept = frame[:snap_bytes]
            file.write(struct.pack("<IIII", seconds, ns, len(kept), len(frame)) + kept)


def write_pcapng(path: Path, packets: Packets) -> None:
    """A pcapng file of enhanced packet blocks, times in ns (if_tsresol 9)."""
    with path.open("wb") as file:
        file.write(struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28))
        options = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
        file.write(struct.pack("<IIHHI", 1, 32, 1, 0, 262_144) + options + struct.pack("<I", 32))
        for ts_ns, frame in zip(packets["ts_ns"].tolist(), frames(packets), strict=True):
            padding = -len(frame) % 4
            size = 32 + len(frame) + padding
            head = (6, size, 0, ts_ns >> 32, ts_ns & 0xFFFFFFFF, len(frame), len(frame))
            file.write(struct.pack("<7I", *head) + frame + bytes(padding) + struct.pack("<I", size))
