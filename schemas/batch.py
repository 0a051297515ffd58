"""PacketBatch: the message that a probe sends, a header and up to 8192 packet records.

Encoding follows the Avro specification ("Binary Encoding"). Since every field of a record is
``fixed``, an array in one block is the records' own bytes: the encoder joins them in, the
decoder looks at them in place. No code runs per record in either direction.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final, NamedTuple, NoReturn

import numpy as np

from schemas import registry
from schemas.errors import DecodeError, EncodeError, UnknownSchema
from schemas.framing import Resolve, frame_confluent, frame_single_object, unframe
from schemas.record import PACKET, Packets, as_words

SUBJECT: Final = "packet_batch"
"""Name of the schemas of this message."""

MAX_RECORDS: Final = 8192
"""Most records in one batch, which keeps a message under 1 MB."""

BOOT_ID_BYTES: Final = 16
"""Size of a boot id in bytes."""

_WRITE_VERSION: Final = 2
_MAX_VARINT_BYTES: Final = 10
_INT_MAX: Final = (1 << 31) - 1
_LONG_MIN: Final = -(1 << 63)
_LONG_MAX: Final = (1 << 63) - 1

_LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "partition": (0, _INT_MAX),
    "sequence": (0, _LONG_MAX),
    "emit_time_ns": (_LONG_MIN, _LONG_MAX),
    "watermark_ns": (_LONG_MIN, _LONG_MAX),
    "record_count": (0, MAX_RECORDS),
    "sampling_rate": (1, _INT_MAX),
    "seen": (0, _LONG_MAX),
    "dropped": (0, _LONG_MAX),
    "packets_before": (0, _LONG_MAX),
    "interfaces": (0, _INT_MAX),
}
"""Smallest and largest value of each number, the same for writing and for reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Totals of a whole probe since it started, sent on its home partition only.

    Attributes:
        seen: packets that reached the capture point, dropped ones included.
        dropped: packets lost, by reason.
    """

    seen: int
    dropped: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """What a batch says about itself.

    Attributes:
        tenant: owner of the packets.
        probe: name of the probe, unique within the tenant.
        boot_id: 16 random bytes of this start of the probe.
        partition: the partition that the batch is meant for.
        sequence: number of the batch within (probe, boot_id, partition), from 0, no gaps.
        emit_time_ns: Unix time when the batch was closed; capture time for replayed captures.
        watermark_ns: Unix time before which the probe sends nothing more to this partition.
        record_count: number of records, as the probe counted them.
        sampling_rate: N when one packet in N was kept.
        goodbye: the probe stops after this batch.
        counters: totals of the probe, on its home partition.
        packets_before: packets (the sum of their records' ``packets``) in all earlier batches of
            this boot to this partition; None when not known, as in version 1.
        aggregated: records may stand for a flow's packets of up to a second.
        interfaces: index of each captured interface by its name.
    """

    tenant: str
    probe: str
    boot_id: bytes
    partition: int
    sequence: int
    emit_time_ns: int
    watermark_ns: int
    record_count: int
    sampling_rate: int = 1
    goodbye: bool = False
    counters: Counters | None = None
    packets_before: int | None = None
    aggregated: bool = False
    interfaces: Mapping[str, int] = field(default_factory=dict)


def encode_batch(header: BatchHeader, packets: Packets, schema_id: int | None = None) -> bytes:
    """Encode a batch, copying the records' bytes once.

    Args:
        header: what to say about the records.
        packets: contiguous array of dtype ``PACKET``, ``header.record_count`` long.
        schema_id: a schema registry's id of the newest schema, for the Confluent wire format;
            None for Avro single-object encoding.

    Raises:
        EncodeError: a value is outside its limits, there are too many records, or not as many
            as the header says.
        ValueError: ``packets`` is of another dtype or not contiguous.
    """
    words = as_words(packets)
    if len(words) > MAX_RECORDS:
        msg = f"packets: {len(words)} records, a batch holds {MAX_RECORDS} at most"
        raise EncodeError(msg)
    if header.record_count != len(words):
        msg = f"record_count is {header.record_count}, but there are {len(words)} records"
        raise EncodeError(msg)
    if schema_id is None:
        frame = frame_single_object(registry.load(SUBJECT, _WRITE_VERSION).fingerprint)
    else:
        frame = frame_confluent(schema_id)
    parts = [frame, *_header_parts(header)]
    if len(words):
        parts.append(_varint(len(words)))
        parts.append(words.data)
    parts.append(b"\0")
    return b"".join(parts)


def decode_batch(message: bytes, resolve: Resolve | None = None) -> tuple[BatchHeader, Packets]:
    """Decode a batch of any version and framing.

    Args:
        message: a whole message as it came from the topic.
        resolve: looks a schema registry's id up, see ``framing.unframe``.

    Returns:
        The header and a read-only array of records: a view of ``message`` (at any alignment)
        when they came in one block, as our encoder writes them, else a copy.

    Raises:
        DecodeError: the message is damaged; the text names the field, the fault and the byte.
        UnknownSchema: the message's schema is not a packet batch that we know.
    """
    fingerprint, start = unframe(message, resolve)
    layout = _layouts().get(fingerprint)
    if layout is None:
        msg = f"schema fingerprint {fingerprint:016x} is no packet batch; the writer may be newer"
        raise UnknownSchema(msg)
    cursor = _Cursor(message, start)
    header = layout.read_header(cursor)
    array_start = cursor.offset
    packets = _read_records(cursor, layout.dtype)
    if cursor.offset != len(message):
        cursor.fail("packets", f"{len(message) - cursor.offset} bytes after the end")
    if len(packets) != header.record_count:
        found = f"{len(packets)} records, but record_count says {header.record_count}"
        cursor.fail("packets", found, array_start)
    return header, packets


class _Cursor:
    """A place in a message; every read first checks that the message goes on."""

    __slots__ = ("message", "offset")

    def __init__(self, message: bytes, offset: int) -> None:
        self.message = message
        self.offset = offset

    def fail(self, field: str, fault: str, at: int | None = None) -> NoReturn:
        """Raise DecodeError for a fault at byte ``at``, by default here."""
        msg = f"{field}: {fault}, at byte {self.offset if at is None else at}"
        raise DecodeError(msg)

    def long(self, field: str) -> int:
        """Read a zigzag varint of 64 bits."""
        value = 0
        encoded = self.message[self.offset : self.offset + _MAX_VARINT_BYTES]
        for size, byte in enumerate(encoded, 1):
            value |= (byte & 0x7F) << (7 * size - 7)
            if byte < 0x80:
                break
        else:
            cut = len(encoded) < _MAX_VARINT_BYTES
            self.fail(field, "message ends in a number" if cut else "number is over 10 bytes long")
        if value >> 64:
            self.fail(field, "number has more than 64 bits")
        self.offset += size
        return (value >> 1) ^ -(value & 1)

    def number(self, field: str) -> int:
        """Read a number and check it against the field's limits."""
        start = self.offset
        value = self.long(field)
        low, high = _LIMITS[field]
        if not low <= value <= high:
            self.fail(field, f"{value} is not from {low} to {high}", start)
        return value

    def take(self, field: str, count: int) -> bytes:
        """Read ``count`` bytes."""
        end = self.offset + count
        if count < 0 or end > len(self.message):
            left = len(self.message) - self.offset
            self.fail(field, f"wants {count} bytes and {left} are left")
        taken = self.message[self.offset : end]
        self.offset = end
        return taken

    def text(self, field: str) -> str:
        """Read a string."""
        start = self.offset
        try:
            return self.take(field, self.long(field)).decode("utf-8")
        except UnicodeDecodeError:
            self.fail(field, "text is not UTF-8", start)

    def boolean(self, field: str) -> bool:
        """Read a boolean."""
        start = self.offset
        byte = self.take(field, 1)
        if byte not in (b"\0", b"\1"):
            self.fail(field, f"boolean is {byte[0]}, not 0 or 1", start)
        return byte == b"\1"

    def present(self, field: str) -> bool:
        """Read which branch of a union of null and something else follows."""
        start = self.offset
        branch = self.long(field)
        if branch not in (0, 1):
            self.fail(field, f"{branch} is not from 0 to 1", start)
        return branch == 1

    def block(self, field: str) -> tuple[int, int | None]:
        """Read the head of a block of an array or map: its items and, if told, its bytes."""
        count = self.long(field)
        return (count, None) if count >= 0 else (-count, self.long(field))


class _Layout(NamedTuple):
    """How to read one version of the schema."""

    dtype: np.dtype[np.void]
    read_header: Callable[[_Cursor], BatchHeader]


def _read_header_v1(cursor: _Cursor) -> BatchHeader:
    return BatchHeader(
        tenant=cursor.text("tenant"),
        probe=cursor.text("probe"),
        boot_id=cursor.take("boot_id", BOOT_ID_BYTES),
        partition=cursor.number("partition"),
        sequence=cursor.number("sequence"),
        emit_time_ns=cursor.number("emit_time_ns"),
        watermark_ns=cursor.number("watermark_ns"),
        record_count=cursor.number("record_count"),
        sampling_rate=cursor.number("sampling_rate"),
        goodbye=cursor.boolean("goodbye"),
        counters=_read_counters(cursor) if cursor.present("counters") else None,
    )


def _read_header_v2(cursor: _Cursor) -> BatchHeader:
    header = _read_header_v1(cursor)
    known = cursor.present("packets_before")
    packets_before = cursor.number("packets_before") if known else None
    return replace(
        header,
        packets_before=packets_before,
        aggregated=cursor.boolean("aggregated"),
        interfaces=_read_map(cursor, "interfaces", "name"),
    )


def _read_counters(cursor: _Cursor) -> Counters:
    seen = cursor.number("seen")
    return Counters(seen=seen, dropped=_read_map(cursor, "dropped", "reason"))


def _read_map(cursor: _Cursor, name: str, key_name: str) -> dict[str, int]:
    """Read a map of numbers, named for messages, whose keys are of ``key_name``."""
    found: dict[str, int] = {}
    while True:
        count, size = cursor.block(name)
        if count == 0:
            return found
        start = cursor.offset
        for _ in range(count):  # each turn takes two bytes or fails, whatever count says
            entry = cursor.offset
            key = cursor.text(name)
            if key in found:
                cursor.fail(name, f"{key_name} {key!r} comes twice", entry)
            found[key] = cursor.number(name)
        if size is not None and size != cursor.offset - start:
            taken = cursor.offset - start
            cursor.fail(name, f"block of {taken} bytes says {size}", start)


def _read_records(cursor: _Cursor, dtype: np.dtype[np.void]) -> Packets:
    blocks: list[Packets] = []
    room = MAX_RECORDS
    while True:
        start = cursor.offset
        count, size = cursor.block("packets")
        if count == 0:
            break
        if count > room:
            cursor.fail("packets", f"more than {MAX_RECORDS} records", start)
        wanted = count * dtype.itemsize
        if size is not None and size != wanted:
            cursor.fail("packets", f"block of {wanted} bytes says {size}", start)
        if wanted > len(cursor.message) - cursor.offset:
            cursor.fail("packets", f"message ends in a block of {count} records", start)
        blocks.append(np.frombuffer(cursor.message, dtype, count, cursor.offset))
        cursor.offset += wanted
        room -= count
    if len(blocks) == 1:
        return blocks[0]
    records = np.concatenate([np.empty(0, dtype), *blocks])
    records.setflags(write=False)  # as a view is, so that kernels are compiled once
    return records


@cache
def _layouts() -> Mapping[int, _Layout]:
    """Every version that we read, by the fingerprint of its schema."""
    return {
        registry.load(SUBJECT, 1).fingerprint: _Layout(PACKET, _read_header_v1),
        registry.load(SUBJECT, 2).fingerprint: _Layout(PACKET, _read_header_v2),
    }


def _header_parts(header: BatchHeader) -> list[bytes | memoryview]:
    if len(header.boot_id) != BOOT_ID_BYTES:
        msg = f"boot_id has {len(header.boot_id)} bytes, not {BOOT_ID_BYTES}"
        raise EncodeError(msg)
    parts: list[bytes | memoryview] = [
        _text("tenant", header.tenant),
        _text("probe", header.probe),
        header.boot_id,
        _number("partition", header.partition),
        _number("sequence", header.sequence),
        _number("emit_time_ns", header.emit_time_ns),
        _number("watermark_ns", header.watermark_ns),
        _number("record_count", header.record_count),
        _number("sampling_rate", header.sampling_rate),
        _boolean(header.goodbye),
        _present(header.counters),
    ]
    if header.counters is not None:
        parts.append(_number("seen", header.counters.seen))
        parts += _map("dropped", header.counters.dropped)
    parts.append(_present(header.packets_before))
    if header.packets_before is not None:
        parts.append(_number("packets_before", header.packets_before))
    parts.append(_boolean(header.aggregated))
    parts += _map("interfaces", header.interfaces)
    return parts


def _map(name: str, values: Mapping[str, int]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    if values:
        parts.append(_varint(len(values)))
    for key, value in values.items():
        parts += [_text(name, key), _number(name, value)]
    parts.append(b"\0")
    return parts


def _boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def _present(value: object) -> bytes:
    """Encode which branch of a union of null and something else follows."""
    return _varint(value is not None)


def _varint(value: int) -> bytes:
    """Encode a number of 64 bits as a zigzag varint."""
    left = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while left > 0x7F:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    return bytes(encoded)


def _number(field: str, value: int) -> bytes:
    low, high = _LIMITS[field]
    value = operator.index(value)  # numpy's integers would wrap when shifted
    if not low <= value <= high:
        msg = f"{field} is {value}, not from {low} to {high}"
        raise EncodeError(msg)
    return _varint(value)


def _text(field: str, value: str) -> bytes:
    try:
        encoded = value.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"{field} is {value!r}, which UTF-8 can't express"
        raise EncodeError(msg) from error
    return _varint(len(encoded)) + encoded
