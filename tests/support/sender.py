"""A probe's batches, made the plain way: one partition, a header for every slice of packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from schemas.batch import BatchHeader, Counters, decode_batch, encode_batch
from schemas.record import Packets

Batch = tuple[BatchHeader, Packets]


def through_the_wire(header: BatchHeader, packets: Packets) -> Batch:
    """Encode and decode, so that what arrives is what a decoder gives: read-only."""
    return decode_batch(encode_batch(header, np.ascontiguousarray(packets)))


def batches(
    packets: Packets,
    size: int = 100,
    *,
    tenant: str = "t",
    probe: str = "p",
    boot: int = 1,
    rate: int = 1,
    dropped: int = 0,
    goodbye: bool = True,
    interfaces: dict[str, int] | None = None,
) -> Iterator[Batch]:
    """The batches of packets in order of time; ``dropped`` more are lost at capture each time."""
    sent = lost = 0
    header = BatchHeader(
        tenant=tenant,
        probe=probe,
        boot_id=boot.to_bytes(16),
        partition=0,
        sequence=0,
        emit_time_ns=0,
        watermark_ns=0,
        record_count=0,
        sampling_rate=rate,
        interfaces=interfaces or {},
    )
    starts = range(0, len(packets), size)
    for number, start in enumerate(starts):
        part = packets[start : start + size]
        now_ns = int(part["ts_ns"].max()) + 1
        count = int(part["packets"].sum())
        lost += dropped
        seen = sent + count + lost
        yield through_the_wire(
            replace(
                header,
                sequence=number,
                emit_time_ns=now_ns,
                watermark_ns=now_ns,
                record_count=len(part),
                goodbye=goodbye and start == starts[-1],
                packets_before=sent,
                counters=Counters(seen=seen, dropped={"ring_full": lost} if dropped else {}),
            ),
            part,
        )
        sent += count
