"""Frames and fingerprints, by the Avro specification's own vectors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastavro.schema import fingerprint as fastavro_fingerprint
from fastavro.schema import to_parsing_canonical_form

from schemas import registry
from schemas.errors import DecodeError, EncodeError, UnknownSchema
from schemas.framing import crc64_avro, fingerprint, frame_confluent, frame_single_object, unframe

# Input and fingerprint (signed, as Java prints it) of the specification's test data.
VECTORS: list[tuple[Any, int]] = [
    ("null", 7195948357588979594),
    ("boolean", -6970731678124411036),
    ("int", 8247732601305521295),
    ({"type": "long"}, -3434872931120570953),
    ("float", 5583340709985441680),
    ("double", -8181574048448539266),
    ("bytes", 5746618253357095269),
    ("string", -8142146995180207161),
    ([], -1241056759729112623),
    (["int", {"type": "boolean"}], 5392556393470105090),
    ({"fields": [], "type": "record", "name": "foo", "namespace": "x.y"}, 5916914534497305771),
    ({"fields": [], "type": "record", "name": "foo", "doc": "Useful"}, -4824392279771201922),
    ({"namespace": "x.y.z", "type": "enum", "name": "foo", "symbols": ["A1", "A2"]},
     -4448647247586288245),
    ({"namespace": "x.y.z", "type": "fixed", "name": "foo", "size": 32}, -3064184465700546786),
    ({"items": {"type": "null"}, "type": "array"}, -589620603366471059),
    ({"values": "string", "type": "map"}, -8732877298790414990),
    ({"name": "PigValue", "type": "record",
      "fields": [{"name": "value", "type": ["null", "int", "long", "PigValue"]}]},
     -1759257747318642341),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "expected"), VECTORS)
def test_fingerprint_gives_the_specifications_value(schema: Any, expected: int) -> None:
    """CRC-64-AVRO over the Parsing Canonical Form matches Avro's test data."""
    assert fingerprint(schema) == expected % (1 << 64)


def test_crc_of_nothing_is_the_polynomial() -> None:
    """The specification defines the empty fingerprint."""
    assert crc64_avro(b"") == 0xC15D213AA4D7A795


def test_fingerprints_of_our_schemas_agree_with_fastavro() -> None:
    """fastavro, which prints the little-endian bytes, gets the same for each of our schemas."""
    ours = [registry.load(s, v) for s in registry.subjects() for v in registry.versions(s)]
    assert ours
    for schema in ours:
        canonical = to_parsing_canonical_form(schema.definition)
        expected = fastavro_fingerprint(canonical, "CRC-64-AVRO")
        assert schema.fingerprint.to_bytes(8, "little").hex() == expected


def test_documentation_and_logical_types_are_no_part_of_the_fingerprint() -> None:
    """A schema and its Parsing Canonical Form have one fingerprint."""
    schema = registry.load("packet_batch", 1)
    canonical = json.loads(to_parsing_canonical_form(schema.definition))
    assert canonical != schema.definition
    assert fingerprint(canonical) == schema.fingerprint


def test_single_object_frame_of_int() -> None:
    """The frame is C3 01 and the fingerprint with its lowest byte first."""
    assert frame_single_object(fingerprint("int")).hex() == "c3018f5c393f1ad57572"


def test_confluent_frame() -> None:
    """The frame is a zero byte and the id with its highest byte first."""
    assert frame_confluent(258).hex() == "0000000102"


@pytest.mark.parametrize("schema_id", [-1, 1 << 31])
def test_confluent_frame_refuses_ids_that_do_not_exist(schema_id: int) -> None:
    """An id outside 31 bits is refused."""
    with pytest.raises(EncodeError, match="schema_id"):
        frame_confluent(schema_id)


def test_unframe_reads_both_frames() -> None:
    """The fingerprint and the payload's offset come back from either frame."""
    assert unframe(frame_single_object(77) + b"payload") == (77, 10)
    assert unframe(frame_confluent(5) + b"payload", {5: 77}.__getitem__) == (77, 5)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"", "neither .* at byte 0"),
        (b"\xc3", "neither .* at byte 0"),
        (b"\xc3\x02" + bytes(20), "neither .*'c302'.* at byte 0"),
        (b"\xc3\x01" + bytes(7), "ends in the schema fingerprint, at byte 9"),
        (b"\0\0\0\0", "ends in the schema id, at byte 4"),
        (b"\0\0\0\0\5payload", "schema id 5 needs a schema registry"),
    ],
)
def test_unframe_refuses_what_is_no_frame(message: bytes, fault: str) -> None:
    """Each fault of a frame is named with its place."""
    with pytest.raises(DecodeError, match=fault):
        unframe(message)


def test_unframe_says_that_the_registry_does_not_know_the_id() -> None:
    """A LookupError of the resolver means an unknown schema."""
    with pytest.raises(UnknownSchema, match="doesn't know schema id 5"):
        unframe(frame_confluent(5), {}.__getitem__)


def test_unframe_passes_other_errors_of_the_registry_on() -> None:
    """A registry that can't be reached doesn't make the message bad."""

    def unreachable(schema_id: int) -> int:
        raise ConnectionError(schema_id)

    with pytest.raises(ConnectionError):
        unframe(frame_confluent(5), unreachable)
