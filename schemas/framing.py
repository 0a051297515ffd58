"""Framing: the few bytes before a payload that say which schema wrote it.

- Avro single-object encoding: ``C3 01``, then the CRC-64-AVRO fingerprint of the schema's
  Parsing Canonical Form, little endian (Avro specification 1.11, "Single-object encoding" and
  "Schema Fingerprints").
- Confluent wire format: ``00``, then a schema registry's 4-byte id, big endian.

A frame is a prefix, so that an encoder joins it with the payload instead of copying that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastavro.schema import to_parsing_canonical_form

from schemas.errors import DecodeError, EncodeError, UnknownSchema

SINGLE_OBJECT: Final = b"\xc3\x01"
"""First bytes of a message in single-object encoding."""

CONFLUENT: Final = b"\x00"
"""First byte of a message in the Confluent wire format."""

Resolve = Callable[[int], int]
"""Gives the fingerprint of the schema that a registry knows by an id; LookupError if none."""

_SINGLE_OBJECT_BYTES: Final = 10
_CONFLUENT_BYTES: Final = 5
_EMPTY: Final = 0xC15D213AA4D7A795
"""CRC-64-AVRO of the empty string, which is also the polynomial."""


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_EMPTY if byte & 1 else 0)
    return byte


_TABLE: Final = tuple(_crc_of_byte(byte) for byte in range(256))


def crc64_avro(data: bytes) -> int:
    """CRC-64-AVRO (a Rabin fingerprint) of ``data`` as an unsigned 64-bit number."""
    crc = _EMPTY
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def fingerprint(schema: Any) -> int:
    """CRC-64-AVRO of the Parsing Canonical Form of a schema, given as parsed JSON."""
    return crc64_avro(to_parsing_canonical_form(schema).encode())


def frame_single_object(fingerprint: int) -> bytes:
    """Return the 10 bytes that precede a payload in single-object encoding."""
    return SINGLE_OBJECT + fingerprint.to_bytes(8, "little")


def frame_confluent(schema_id: int) -> bytes:
    """Return the 5 bytes that precede a payload in the Confluent wire format.

    Raises:
        EncodeError: the id is not one that a registry gives (0 to 2^31 - 1).
    """
    if not 0 <= schema_id < 1 << 31:
        msg = f"schema_id is {schema_id}, a registry's ids are 0 to 2147483647"
        raise EncodeError(msg)
    return CONFLUENT + schema_id.to_bytes(4, "big")


def unframe(message: bytes, resolve: Resolve | None = None) -> tuple[int, int]:
    """Read a message's frame.

    Args:
        message: a whole message as it came from the topic.
        resolve: looks a Confluent schema id up; needed for that format only. Whatever it
            raises apart from LookupError passes through: an unreachable registry doesn't make
            a message bad.

    Returns:
        The fingerprint of the writer's schema and the offset of the payload in bytes.

    Raises:
        DecodeError: the frame is of neither format or cut off, or there is no ``resolve``.
        UnknownSchema: ``resolve`` doesn't know the id.
    """
    if message.startswith(SINGLE_OBJECT):
        if len(message) < _SINGLE_OBJECT_BYTES:
            msg = f"frame: message ends in the schema fingerprint, at byte {len(message)}"
            raise DecodeError(msg)
        return int.from_bytes(message[2:_SINGLE_OBJECT_BYTES], "little"), _SINGLE_OBJECT_BYTES
    if message.startswith(CONFLUENT):
        return _resolve_confluent(message, resolve), _CONFLUENT_BYTES
    msg = f"frame: neither Avro single-object nor Confluent ({message[:2].hex()!r}), at byte 0"
    raise DecodeError(msg)


def _resolve_confluent(message: bytes, resolve: Resolve | None) -> int:
    if len(message) < _CONFLUENT_BYTES:
        msg = f"frame: message ends in the schema id, at byte {len(message)}"
        raise DecodeError(msg)
    schema_id = int.from_bytes(message[1:_CONFLUENT_BYTES], "big")
    if resolve is None:
        msg = f"frame: schema id {schema_id} needs a schema registry and none is set, at byte 1"
        raise DecodeError(msg)
    try:
        return resolve(schema_id)
    except LookupError as error:
        msg = f"frame: the schema registry doesn't know schema id {schema_id}, at byte 1"
        raise UnknownSchema(msg) from error
