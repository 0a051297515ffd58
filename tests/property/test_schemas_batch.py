"""Properties of PacketBatch: round trips, and no bytes that crash or mislead the decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import registry
from schemas.batch import BatchHeader, Counters, decode_batch, encode_batch
from schemas.errors import DecodeError
from schemas.framing import frame_single_object
from schemas.record import PACKET, PACKET_BYTES, Packets

FINGERPRINT = registry.load("packet_batch", 2).fingerprint
FRAME = frame_single_object(FINGERPRINT)
QUICK = settings(max_examples=200, deadline=None)

natural_long = st.integers(0, (1 << 63) - 1)
any_long = st.integers(-(1 << 63), (1 << 63) - 1)
text = st.text(st.characters(codec="utf-8"), max_size=30)
counters = st.builds(
    Counters, seen=natural_long, dropped=st.dictionaries(text, natural_long, max_size=4)
)


@st.composite
def batches(draw: Any, max_records: int = 12) -> tuple[BatchHeader, Packets]:
    """A header with any values in it, and as many records of any bytes as it says."""
    count = draw(st.integers(0, max_records))
    data = draw(st.binary(min_size=count * PACKET_BYTES, max_size=count * PACKET_BYTES))
    header = BatchHeader(
        tenant=draw(text),
        probe=draw(text),
        boot_id=draw(st.binary(min_size=16, max_size=16)),
        partition=draw(st.integers(0, (1 << 31) - 1)),
        sequence=draw(natural_long),
        emit_time_ns=draw(any_long),
        watermark_ns=draw(any_long),
        record_count=count,
        sampling_rate=draw(st.integers(1, (1 << 31) - 1)),
        goodbye=draw(st.booleans()),
        counters=draw(st.none() | counters),
        packets_before=draw(st.none() | natural_long),
        aggregated=draw(st.booleans()),
        interfaces=draw(
            st.dictionaries(st.text(max_size=5), st.integers(0, 2**31 - 1), max_size=3)
        ),
    )
    return header, np.frombuffer(bytearray(data), PACKET)


def long(value: int) -> bytes:
    """A number by the specification's words: zigzag, then groups of seven bits."""
    zigzag = 2 * value if value >= 0 else -2 * value - 1
    groups = []
    while True:
        zigzag, group = divmod(zigzag, 128)
        groups.append(group)
        if not zigzag:
            return bytes([*(group + 128 for group in groups[:-1]), groups[-1]])


def is_decoded_or_refused(message: bytes) -> None:
    """Decoding gives sizes that agree with each other and with the message, or DecodeError."""
    try:
        header, packets = decode_batch(message, lambda schema_id: FINGERPRINT)
    except DecodeError:
        return
    assert packets.dtype == PACKET
    assert len(packets) == header.record_count
    assert packets.nbytes < len(message)
    assert not packets.flags.writeable


@QUICK
@given(batches(), st.none() | st.integers(0, (1 << 31) - 1))
def test_every_batch_comes_back(batch: tuple[BatchHeader, Packets], schema_id: int | None) -> None:
    """Any header and any records survive a round trip in either framing."""
    header, packets = batch
    message = encode_batch(header, packets, schema_id)
    decoded, records = decode_batch(message, {schema_id: FINGERPRINT}.__getitem__)
    assert decoded == header
    assert records.tobytes() == packets.tobytes()


@QUICK
@given(batches(), st.data())
def test_blocks_of_any_sizes_make_the_same_array(
    batch: tuple[BatchHeader, Packets], data: st.DataObject
) -> None:
    """However an encoder cuts the array, with byte sizes or without, the records are the same."""
    header, packets = batch
    whole = encode_batch(header, packets)
    tail = long(len(packets)) + packets.tobytes() if len(packets) else b""
    message = whole[: len(whole) - len(tail) - 1]
    start = 0
    while start < len(packets):
        count = data.draw(st.integers(1, len(packets) - start))
        sized = data.draw(st.booleans())
        message += long(-count) + long(count * PACKET_BYTES) if sized else long(count)
        message += packets[start : start + count].tobytes()
        start += count
    decoded, records = decode_batch(message + long(0))
    assert decoded == header
    assert records.tobytes() == packets.tobytes()


@QUICK
@given(st.binary(max_size=300), st.sampled_from([b"", b"\0", b"\0\0\0\0\1", FRAME]))
def test_random_bytes_never_crash(data: bytes, start: bytes) -> None:
    """Noise, with and without a valid frame before it, is refused or consistent."""
    is_decoded_or_refused(start + data)


@QUICK
@given(batches(), st.data())
def test_truncated_messages_are_refused(
    batch: tuple[BatchHeader, Packets], data: st.DataObject
) -> None:
    """A message cut anywhere, with or without noise after the cut, never gives wrong sizes."""
    message = encode_batch(*batch)
    cut = message[: data.draw(st.integers(0, len(message) - 1))]
    with pytest.raises(DecodeError, match="at byte"):
        decode_batch(cut)
    is_decoded_or_refused(cut + data.draw(st.binary(max_size=100)))


@QUICK
@given(batches(max_records=3), st.data())
def test_flipped_bits_never_crash(batch: tuple[BatchHeader, Packets], data: st.DataObject) -> None:
    """A damaged message is refused, or decoded with sizes that agree."""
    message = bytearray(encode_batch(*batch))
    payload_bits = st.integers(0, 8 * len(message) - 1)
    for bit in data.draw(st.lists(payload_bits, min_size=1, max_size=4)):
        message[bit // 8] ^= 1 << bit % 8
    is_decoded_or_refused(bytes(message))
