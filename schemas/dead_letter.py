"""DeadLetter: a message that could not be used, kept with where it was and why."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import fastavro

from schemas import registry
from schemas.errors import DecodeError, UnknownSchema
from schemas.framing import Resolve, frame_single_object, unframe

SUBJECT: Final = "dead_letter"
"""Name of the schemas of this message."""

_WRITE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be used.

    Attributes:
        topic: that it was in.
        partition: that it was in.
        offset: its place there; with topic and partition it names the message.
        log_time_ms: Unix time that Kafka gave it, ms.
        reason: what was wrong, for people.
        message: its bytes.
    """

    topic: str
    partition: int
    offset: int
    log_time_ms: int
    reason: str
    message: bytes


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter, with Avro single-object framing."""
    schema = registry.load(SUBJECT, _WRITE_VERSION)
    out = io.BytesIO()
    fields = {name: getattr(letter, name) for name in letter.__slots__}
    # Written as a plain number: times of before 1970 are among what goes wrong.
    fastavro.schemaless_writer(out, _plain(schema.definition), fields)
    return frame_single_object(schema.fingerprint) + out.getvalue()


def decode_dead_letter(message: bytes, resolve: Resolve | None = None) -> DeadLetter:
    """Decode a dead letter.

    Raises:
        DecodeError: the message is damaged.
        UnknownSchema: its schema is not one of a dead letter that we know.
    """
    fingerprint, start = unframe(message, resolve)
    schema = registry.load(SUBJECT, _WRITE_VERSION)
    if fingerprint != schema.fingerprint:
        msg = f"schema fingerprint {fingerprint:016x} is no dead letter; the writer may be newer"
        raise UnknownSchema(msg)
    payload = io.BytesIO(message[start:])
    try:
        fields = fastavro.schemaless_reader(payload, _plain(schema.definition), None)
        if payload.read(1):
            raise EOFError("bytes after the end")  # noqa: EM101
        assert isinstance(fields, dict)
        return DeadLetter(**fields)
    except (EOFError, ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
        msg = f"the dead letter is damaged ({error})"
        raise DecodeError(msg) from error


def _plain(definition: dict[str, object]) -> dict[str, object]:
    """The schema without logical types, so that numbers come as numbers."""
    plain: dict[str, object] = fastavro.schema.expand_schema(definition)  # type: ignore[assignment]
    fields = plain["fields"]
    assert isinstance(fields, list)
    return {
        **plain,
        "fields": [
            {**f, "type": f["type"]["type"]} if isinstance(f["type"], dict) else f for f in fields
        ],
    }
