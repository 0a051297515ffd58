"""Part ``decode``: messages and capture files into packet records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flows.benchmarks import baselines, inputs
from flows.benchmarks.measure import Baseline, Figure, Goal, best
from flows.benchmarks.sizes import Sizes
from probe.capture import CaptureFile
from schemas.batch import MAX_RECORDS, decode_batch
from schemas.record import PACKET, Packets

_BUFFER_RECORDS = 8_192
_UNIT = "packets/CPU s"


def batch_wire_bytes(messages: list[bytes]) -> int:
    """Sum of ``wire_bytes`` of all messages: decoded, then each record read."""
    return sum(
        int(decode_batch(message)[1]["wire_bytes"].sum(dtype=np.uint64)) for message in messages
    )


def capture_wire_bytes(path: Path) -> int:
    """Sum of ``wire_bytes`` of a capture file, decoded to records."""
    buffer = np.empty(_BUFFER_RECORDS, PACKET)
    total = 0
    with CaptureFile(path) as capture:
        while len(packets := capture.read(_BUFFER_RECORDS, buffer)):
            total += int(packets["wire_bytes"].sum(dtype=np.uint64))
    return total


def hop_wire_bytes(path: Path, hop: Callable[[Any], tuple[int, int]]) -> int:
    """The same sum out of the record headers alone."""
    _, total = hop(np.memmap(path, np.uint8, "r"))
    return int(total)


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Measure the part."""
    yield _batches(sizes)
    packets = inputs.records(
        inputs.traffic(
            "zipf", sizes.capture_packets, 5e6, active_flows=sizes.active_flows, seed=sizes.seed
        )
    )
    with tempfile.TemporaryDirectory(prefix="netspectra-bench-") as directory:
        for name, write, hop in (
            ("pcap, whole frames", inputs.write_pcap, baselines.hop_pcap),
            ("pcap, frames cut to 96 bytes", _write_cut, baselines.hop_pcap),
            ("pcapng, whole frames", inputs.write_pcapng, baselines.hop_pcapng),
        ):
            path = Path(directory) / "traffic"
            write(path, packets)
            yield _capture(name, path, hop, sizes)


def _write_cut(path: Path, packets: Packets) -> None:
    inputs.write_pcap(path, packets, 96)


def _batches(sizes: Sizes) -> Figure:
    count = sizes.messages * MAX_RECORDS
    messages = inputs.messages(inputs.records(inputs.traffic("zipf", count, 5e6, seed=sizes.seed)))
    ours = best(lambda _: batch_wire_bytes(messages), count)
    few = messages[: sizes.avro_messages]
    theirs = best(lambda _: baselines.avro_wire_bytes(few), len(few) * MAX_RECORDS, repeats=1)
    baseline = Baseline("fastavro, record by record", theirs.per_cpu_s)
    return Figure(
        "decode", "Avro PacketBatch, each record read", ours.per_cpu_s, _UNIT, (baseline,)
    )


def _capture(name: str, path: Path, hop: Callable[[Any], Any], sizes: Sizes) -> Figure:
    count, few = sizes.capture_packets, sizes.scapy_packets
    ours = best(lambda _: capture_wire_bytes(path), count)
    hopping = best(lambda _: hop_wire_bytes(path, hop), count)
    scapy = best(lambda _: baselines.scapy_wire_bytes(path, few), few, repeats=2)
    return Figure(
        "decode",
        name,
        ours.per_cpu_s,
        _UNIT,
        (
            Baseline("loop that only hops over record headers", hopping.per_cpu_s),
            Baseline("scapy, packet by packet", scapy.per_cpu_s),
        ),
        Goal(10e6),
    )
