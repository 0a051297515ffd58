"""PacketBatch: what encoder and decoder accept, refuse and cost."""

from __future__ import annotations

import io
import json
import tracemalloc
from dataclasses import replace

import fastavro
import numpy as np
import pytest

from schemas import registry
from schemas.batch import MAX_RECORDS, BatchHeader, Counters, decode_batch, encode_batch
from schemas.errors import DecodeError, EncodeError, UnknownSchema
from schemas.framing import fingerprint, frame_confluent, frame_single_object
from schemas.record import PACKET, PACKET_BYTES, Packets

SCHEMA = registry.load("packet_batch", 2)
V1 = registry.load("packet_batch", 1)
PLAIN = json.loads(fastavro.schema.to_parsing_canonical_form(SCHEMA.definition))
FRAME = frame_single_object(SCHEMA.fingerprint)
LONG_MAX = (1 << 63) - 1

# The payload of an empty batch, field by field, written by hand.
FIELDS = {
    "tenant": b"\x02t",
    "probe": b"\x02p",
    "boot_id": bytes(16),
    "partition": b"\0",
    "sequence": b"\0",
    "emit_time_ns": b"\0",
    "watermark_ns": b"\0",
    "record_count": b"\0",
    "sampling_rate": b"\x02",
    "goodbye": b"\0",
    "counters": b"\0",
    "packets_before": b"\0",
    "aggregated": b"\0",
    "interfaces": b"\0",
    "packets": b"\0",
}
EMPTY = BatchHeader(
    tenant="t",
    probe="p",
    boot_id=bytes(16),
    partition=0,
    sequence=0,
    emit_time_ns=0,
    watermark_ns=0,
    record_count=0,
)
TOO_LONG = b"\xff" * 10 + b"\0"
OVER_64_BITS = b"\xff" * 9 + b"\x02"
HUGE = b"\xfe" + b"\xff" * 8 + b"\x01"  # 2^63 - 1


def handmade(**changed: bytes) -> bytes:
    return FRAME + b"".join((FIELDS | changed).values())


def test_message_is_the_bytes_that_the_specification_asks_for() -> None:
    """An empty batch equals one written by hand."""
    assert encode_batch(EMPTY, np.empty(0, PACKET)) == handmade()


def test_version_1_is_still_read(packets: Packets) -> None:
    """A batch without the fields of version 2 decodes, with their defaults."""
    new = ("packets_before", "aggregated", "interfaces")
    old = {name: FIELDS[name] for name in FIELDS if name not in new}
    old |= {"record_count": b"\x02", "packets": b"\x02" + packets[:1].tobytes() + b"\0"}
    decoded, records = decode_batch(frame_single_object(V1.fingerprint) + b"".join(old.values()))
    assert decoded == replace(EMPTY, record_count=1, packets_before=None, aggregated=False)
    assert records.tobytes() == packets[:1].tobytes()


def test_batch_comes_back(header: BatchHeader, packets: Packets) -> None:
    """Header and records survive a round trip."""
    decoded, records = decode_batch(encode_batch(header, packets))
    assert decoded == header
    assert records.dtype == PACKET
    assert records.tobytes() == packets.tobytes()


def test_batch_comes_back_in_confluent_framing(header: BatchHeader, packets: Packets) -> None:
    """With a schema id the frame is Confluent's and the resolver finds the schema."""
    message = encode_batch(header, packets, schema_id=9)
    assert message.startswith(frame_confluent(9))
    decoded, records = decode_batch(message, {9: SCHEMA.fingerprint}.__getitem__)
    assert decoded == header
    assert records.tobytes() == packets.tobytes()


def test_fastavro_reads_what_we_write(header: BatchHeader, packets: Packets) -> None:
    """fastavro, given the plain schema, sees the same header and each record's same bytes."""
    payload = io.BytesIO(encode_batch(header, packets)[len(FRAME) :])
    batch = fastavro.schemaless_reader(payload, PLAIN, None)
    assert payload.read() == b""
    records = batch.pop("packets")
    counters = batch.pop("counters")
    assert counters == {"seen": 1000, "dropped": {"ring_full": 3, "queue_full": 0}}
    assert all(getattr(header, name) == value for name, value in batch.items())
    assert len(batch) == 13
    assert records == [{name: row[name].tobytes() for name in PACKET.names} for row in packets]


def test_we_read_what_fastavro_writes(header: BatchHeader, packets: Packets) -> None:
    """A batch encoded record by record by fastavro is byte for byte ours."""
    names = (name for name in FIELDS if name not in ("counters", "packets"))
    batch = {name: getattr(header, name) for name in names}
    batch["counters"] = {"seen": 1000, "dropped": dict(header.counters.dropped)}
    batch["packets"] = [{name: row[name].tobytes() for name in PACKET.names} for row in packets]
    payload = io.BytesIO()
    fastavro.schemaless_writer(payload, PLAIN, batch)
    assert FRAME + payload.getvalue() == encode_batch(header, packets)


def test_records_are_a_read_only_view_of_the_message(header: BatchHeader, packets: Packets) -> None:
    """Decoding one block copies no record."""
    message = encode_batch(header, packets)
    _, records = decode_batch(message)
    assert np.shares_memory(records, np.frombuffer(message, np.uint8))
    assert not records.flags.writeable


def test_records_are_copied_once_by_encoding() -> None:
    """The peak of memory while encoding is one message and little more."""
    packets = np.zeros(MAX_RECORDS, PACKET)
    header = replace(EMPTY, record_count=len(packets))
    encode_batch(header, packets)
    tracemalloc.start()
    try:
        message = encode_batch(header, packets)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(message) < peak < len(message) + 10_000


@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (1, -1, 1)])
def test_several_blocks_are_put_together(signs: tuple[int, ...]) -> None:
    """Blocks with a plain count and with a byte size make one read-only array."""
    packets = np.frombuffer(np.random.default_rng(1).bytes(len(signs) * PACKET_BYTES), PACKET)
    heads = [b"\x02" if sign > 0 else b"\x01\xb0\x01" for sign in signs]  # 1, or -1 and 88
    blocks = b"".join(head + packet.tobytes() for head, packet in zip(heads, packets, strict=True))
    count = bytes([2 * len(signs)])
    header, records = decode_batch(handmade(record_count=count, packets=blocks + b"\0"))
    assert header.record_count == len(signs)
    assert records.tobytes() == packets.tobytes()
    assert not records.flags.writeable


def test_one_block_with_a_byte_size_is_a_view(packets: Packets) -> None:
    """A negative block count doesn't cost a copy."""
    blocks = b"\x01\xb0\x01" + packets[:1].tobytes() + b"\0"
    message = handmade(record_count=b"\x02", packets=blocks)
    _, records = decode_batch(message)
    assert np.shares_memory(records, np.frombuffer(message, np.uint8))


def test_counters_in_several_blocks_are_put_together() -> None:
    """A map may come in blocks with and without a byte size."""
    counters = b"\x02\x0a" + b"\x02\x02a\x02" + b"\x01\x06\x02b\x04" + b"\0"
    header, _ = decode_batch(handmade(counters=counters))
    assert header.counters == Counters(seen=5, dropped={"a": 1, "b": 2})


def test_numpy_integers_are_written_like_python_ones() -> None:
    """A number from an array doesn't wrap when it is encoded."""
    header = replace(EMPTY, sequence=np.int64(LONG_MAX), partition=np.uint8(200))
    decoded, _ = decode_batch(encode_batch(header, np.empty(0, PACKET)))
    assert decoded.sequence == LONG_MAX
    assert decoded.partition == 200


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"boot_id": bytes(15)}, "boot_id has 15 bytes, not 16"),
        ({"partition": -1}, "partition is -1"),
        ({"partition": 1 << 31}, "partition is"),
        ({"sequence": -1}, "sequence is -1"),
        ({"emit_time_ns": 1 << 63}, "emit_time_ns is"),
        ({"watermark_ns": -(1 << 63) - 1}, "watermark_ns is"),
        ({"sampling_rate": 0}, "sampling_rate is 0"),
        ({"record_count": 1}, "record_count is 1, but there are 0 records"),
        ({"tenant": "\ud800"}, "tenant is .* UTF-8"),
        ({"counters": Counters(seen=-1, dropped={})}, "seen is -1"),
        ({"counters": Counters(seen=0, dropped={"a": -1})}, "dropped is -1"),
        ({"packets_before": -1}, "packets_before is -1"),
        ({"packets_before": 1 << 63}, "packets_before is"),
        ({"interfaces": {"eth0": -1}}, "interfaces is -1"),
        ({"interfaces": {"\ud800": 1}}, "interfaces is .* UTF-8"),
    ],
)
def test_encoder_refuses_values_outside_their_limits(change: dict[str, object], fault: str) -> None:
    """Each limit of the header is held, and the error names the field."""
    with pytest.raises(EncodeError, match=fault):
        encode_batch(replace(EMPTY, **change), np.empty(0, PACKET))


def test_largest_batch_is_under_a_megabyte() -> None:
    """8192 records are taken and one more is refused."""
    packets = np.zeros(MAX_RECORDS + 1, PACKET)
    message = encode_batch(replace(EMPTY, record_count=MAX_RECORDS), packets[:-1])
    assert len(message) < 1_000_000
    assert len(decode_batch(message)[1]) == MAX_RECORDS
    with pytest.raises(EncodeError, match="8193 records"):
        encode_batch(replace(EMPTY, record_count=MAX_RECORDS + 1), packets)


def test_encoder_refuses_other_arrays() -> None:
    """Records that are not a contiguous array of PACKET are refused."""
    with pytest.raises(ValueError, match="contiguous"):
        encode_batch(replace(EMPTY, record_count=2), np.zeros(4, PACKET)[::2])


ONE = b"\x02" + bytes(PACKET_BYTES)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"tenant": b"\x01"}, "tenant: wants -1 bytes and .* at byte 11"),
        ({"tenant": HUGE}, "tenant: wants 9223372036854775807 bytes and .* at byte 20"),
        ({"tenant": TOO_LONG}, "tenant: number is over 10 bytes long, at byte 10"),
        ({"tenant": OVER_64_BITS}, "tenant: number has more than 64 bits, at byte 10"),
        ({"probe": b"\x02\xff"}, "probe: text is not UTF-8, at byte 12"),
        ({"partition": b"\x01"}, "partition: -1 is not from 0 to 2147483647, at byte 30"),
        ({"partition": HUGE}, "partition: 9223372036854775807 is not from 0"),
        ({"sequence": b"\x01"}, "sequence: -1 is not from 0"),
        ({"record_count": b"\x01"}, "record_count: -1 is not from 0 to 8192"),
        ({"record_count": b"\x82\x80\x01"}, "record_count: 8193 is not from 0 to 8192"),
        ({"record_count": b"\x02"}, "packets: 0 records, but record_count says 1, at byte 41"),
        ({"packets": ONE + b"\0"}, "packets: 1 records, but record_count says 0, at byte 41"),
        ({"sampling_rate": b"\0"}, "sampling_rate: 0 is not from 1"),
        ({"goodbye": b"\x02"}, "goodbye: boolean is 2, not 0 or 1, at byte 36"),
        ({"counters": b"\x04"}, "counters: 2 is not from 0 to 1, at byte 37"),
        ({"counters": b"\x01"}, "counters: -1 is not from 0 to 1"),
        ({"counters": b"\x02\x01"}, "seen: -1 is not from 0"),
        ({"counters": b"\x02\0\x02\x02a\x01\0"}, "dropped: -1 is not from 0"),
        ({"counters": b"\x02\0\x04\x02a\0\x02a\0\0"}, "dropped: reason 'a' comes twice"),
        ({"counters": b"\x02\0\x01\x08\x02a\0\0"}, "dropped: block of 3 bytes says 4"),
        (
            {"counters": b"\x02\0" + HUGE, "interfaces": b"", "packets": b""},
            "dropped: message ends in a number",
        ),
        ({"packets_before": b"\x04"}, "packets_before: 2 is not from 0 to 1, at byte 38"),
        ({"packets_before": b"\x02\x01"}, "packets_before: -1 is not from 0 to .*, at byte 39"),
        ({"aggregated": b"\x02"}, "aggregated: boolean is 2, not 0 or 1, at byte 39"),
        ({"interfaces": b"\x02\x02a\x01\0"}, "interfaces: -1 is not from 0 to"),
        ({"interfaces": b"\x04\x02a\0\x02a\0\0"}, "interfaces: name 'a' comes twice"),
        ({"packets": b"\x04" + ONE[1:] + b"\0"}, "packets: message ends in a block of 2 records"),
        ({"packets": b"\x01\xb2\x01" + ONE[1:] + b"\0"}, "packets: block of 88 bytes says 89"),
        ({"packets": HUGE}, "packets: more than 8192 records, at byte 41"),
        ({"packets": b"\x82\x80\x01"}, "packets: more than 8192 records"),
        ({"packets": b"\xff" * 9 + b"\x01\0"}, "packets: more than 8192 records"),
        ({"packets": ONE}, "packets: message ends in a number, at byte 130"),
        ({"packets": b"\0\0\0"}, "packets: 2 bytes after the end, at byte 42"),
    ],
)
def test_decoder_names_the_fault_and_its_place(changed: dict[str, bytes], fault: str) -> None:
    """Each guard refuses its fault and says at which byte."""
    with pytest.raises(DecodeError, match=fault):
        decode_batch(handmade(**changed))


def test_more_records_than_a_batch_holds_are_refused_over_several_blocks() -> None:
    """The limit counts all blocks together."""
    full = b"\x80\x80\x01" + bytes(MAX_RECORDS * PACKET_BYTES)
    message = handmade(record_count=b"\x80\x80\x01", packets=full + ONE + b"\0")
    with pytest.raises(DecodeError, match="more than 8192 records"):
        decode_batch(message)


def test_every_cut_message_is_refused(header: BatchHeader, packets: Packets) -> None:
    """No strict prefix of a message is taken for a message."""
    message = encode_batch(header, packets)
    for length in range(len(message)):
        with pytest.raises(DecodeError):
            decode_batch(message[:length])


@pytest.mark.parametrize("field", ["tenant", "packets"])
def test_a_claimed_length_allocates_nothing(field: str) -> None:
    """A message that claims a huge length is refused without memory for it."""
    message = handmade(**{field: HUGE})
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode_batch(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_messages_of_other_schemas_are_refused() -> None:
    """A schema that is no packet batch is unknown, whatever the payload."""
    with pytest.raises(UnknownSchema, match="7275d51a3f395c8f is no packet batch"):
        decode_batch(frame_single_object(fingerprint("int")) + handmade()[len(FRAME) :])
