"""What the engine is compared with: the plain way in Python, and the least a machine must do.

Each gives a result that the engine's own must equal.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from flows.kernels.layout import ENTRY_WORDS
from schemas import registry
from schemas.batch import SUBJECT
from schemas.hashing import M1

Words = npt.NDArray[np.uint64]

_FRAME_BYTES: Final = 10
_0, _1, _32 = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)


def avro_wire_bytes(messages: list[bytes]) -> int:
    """Sum of ``wire_bytes``, each message decoded by fastavro, record by record."""
    import fastavro

    schema = registry.load(SUBJECT, registry.versions(SUBJECT)[-1]).definition
    total = 0
    for message in messages:
        batch = fastavro.schemaless_reader(io.BytesIO(message[_FRAME_BYTES:]), schema, None)
        assert isinstance(batch, dict)
        for packet in batch["packets"]:
            value = packet["wire_bytes"]
            # schemas.readers, if somebody registered it, has made a number of it.
            total += value if isinstance(value, int) else int.from_bytes(value, "little")
    return total


def scapy_wire_bytes(path: Path, packets: int) -> int:
    """Sum of the frame lengths of a capture's first packets, each dissected by scapy."""
    from scapy.layers import all  # noqa: F401 - readers find link types by import
    from scapy.utils import PcapReader

    total = 0
    with PcapReader(str(path)) as reader:
        for _, packet in zip(range(packets), reader, strict=False):
            total += int(packet.wirelen or 0)
    return total


@numba.njit(inline="always")
def _u32(data: Any, at: Any) -> Any:
    return (
        np.int64(data[at])
        | (np.int64(data[at + 1]) << 8)
        | (np.int64(data[at + 2]) << 16)
        | (np.int64(data[at + 3]) << 24)
    )


@numba.njit(nogil=True, cache=True)
def hop_pcap(data: Any) -> Any:
    """Hop over the record headers of a little-endian pcap file (n,) uint8: frames, wire bytes."""
    at, frames, wire_bytes = 24, 0, 0
    while at + 16 <= data.shape[0]:
        wire_bytes += _u32(data, at + 12)
        frames += 1
        at += 16 + _u32(data, at + 8)
    return frames, wire_bytes


@numba.njit(nogil=True, cache=True)
def hop_pcapng(data: Any) -> Any:
    """Hop over the blocks of a little-endian pcapng file (n,) uint8: frames, wire bytes."""
    at, frames, wire_bytes = 0, 0, 0
    while at + 12 <= data.shape[0]:
        if _u32(data, at) == 6:
            wire_bytes += _u32(data, at + 24)
            frames += 1
        at += _u32(data, at + 4)
    return frames, wire_bytes


@numba.njit(nogil=True, cache=True)
def touch(words: Any, table: Any) -> None:
    """Read each record and add to one row of ``table`` (a power of two, 16), by its addresses."""
    shift = np.uint64(64)
    rows = table.shape[0]
    while rows > 1:
        shift -= _1
        rows >>= 1
    for i in range(words.shape[0]):
        row = ((words[i, 2] ^ (words[i, 4] >> np.uint64(7))) * M1) >> shift
        table[row, 0] += words[i, 7] >> _32
        table[row, 1] += words[i, 7] & _LOW32
        table[row, 2] = max(table[row, 2], words[i, 0])
        table[row, 3] |= words[i, 10]


def touch_table(rows: int) -> Words:
    """A table of at least ``rows`` rows, each as large as a flow table's."""
    return np.zeros((1 << (rows - 1).bit_length(), ENTRY_WORDS), np.uint64)


def dict_flows(words: Words, pane_ns: int) -> dict[tuple[int, ...], list[int]]:
    """Packets, bytes, first and last seen by the flow table's key: a dict, packet by packet."""
    flows: dict[tuple[int, ...], list[int]] = {}
    for w in words.tolist():
        ts, counts = w[0], w[7]
        key = (
            ts // pane_ns,
            w[1],
            w[2],
            w[3],
            w[4],
            (w[6] >> 32) | ((w[9] & 0xFFFFFFFF) << 32),
            ((w[9] >> 32) & 0xFF) | ((w[10] & 0xFFFF) << 8),
            w[8],
        )
        flow = flows.get(key)
        if flow is None:
            flows[key] = [counts >> 32, counts & 0xFFFFFFFF, ts, ts]
            continue
        flow[0] += counts >> 32
        flow[1] += counts & 0xFFFFFFFF
        if ts < flow[2]:
            flow[2] = ts
        elif ts > flow[3]:
            flow[3] = ts
    return flows


def library_distinct(hashes: Words, lg_k: int) -> Any:
    """Apache DataSketches' CPC sketch, fed item by item."""
    import datasketches

    sketch = datasketches.cpc_sketch(lg_k)
    for item in hashes.tolist():
        sketch.update(item)
    return sketch


def library_frequency(
    words: Words, hashes: Words, weights: Words, lg_max: int, depth: int, width: int
) -> tuple[Any, Any]:
    """Its frequent-items and Count-Min sketches of one metric, fed item by item.

    Args:
        words: keys (n, k).
        hashes: of the keys, (n,).
        weights: packets or bytes, (n,).
        lg_max: size of the frequent-items sketch.
        depth: rows of Count-Min.
        width: buckets a row.
    """
    import datasketches

    items = datasketches.frequent_strings_sketch(lg_max)
    counts = datasketches.count_min_sketch(depth, width)
    digits = 16 * words.shape[1]
    text = words.astype("<u8").tobytes().hex()
    columns = zip(hashes.view(np.int64).tolist(), weights.tolist(), strict=True)
    for row, (item, weight) in enumerate(columns):
        items.update(text[row * digits : (row + 1) * digits], weight)
        counts.update(item, float(weight))
    return items, counts


def dict_spread(key_hashes: Words, element_hashes: Words) -> dict[int, set[int]]:
    """The different elements of each key, (n,) both: a dict of sets, item by item."""
    spread: dict[int, set[int]] = {}
    for key, element in zip(key_hashes.tolist(), element_hashes.tolist(), strict=True):
        spread.setdefault(key, set()).add(element)
    return spread
