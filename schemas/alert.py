"""Alert: one revision of an alert, as it is in the topic of alerts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import fastavro
from fastavro.validation import ValidationError, validate

from schemas import registry
from schemas.errors import DecodeError, EncodeError, UnknownSchema
from schemas.framing import Resolve, frame_confluent, frame_single_object, unframe

SUBJECT: Final = "alert"
"""Name of the schemas of this message."""

WRITTEN: Final = registry.load(SUBJECT, 1)
"""The schema that ``encode_alert`` writes."""


def encode_alert(fields: Mapping[str, Any], schema_id: int | None = None) -> bytes:
    """Encode an alert.

    Args:
        fields: a value for each field of ``WRITTEN``.
        schema_id: a registry's id of that schema, for the Confluent wire format; without it the
            message has Avro single-object framing.

    Raises:
        EncodeError: a field is missing, strange, or has a value of another type.
    """
    names = {field["name"] for field in WRITTEN.definition["fields"]}
    if odd := sorted(names ^ fields.keys()):
        msg = f"an alert lacks or doesn't know the field(s) {', '.join(odd)}"
        raise EncodeError(msg)
    datum = dict(fields)
    try:
        # The writer alone would take numbers that are too large for their type.
        validate(datum, WRITTEN.definition)
    except ValidationError as error:
        msg = f"the alert doesn't fit its schema: {error.errors[0]}"
        raise EncodeError(msg) from error
    out = io.BytesIO()
    fastavro.schemaless_writer(out, WRITTEN.definition, datum)
    if schema_id is None:
        return frame_single_object(WRITTEN.fingerprint) + out.getvalue()
    return frame_confluent(schema_id) + out.getvalue()


def decode_alert(message: bytes, resolve: Resolve | None = None) -> dict[str, Any]:
    """Decode an alert into its fields.

    Raises:
        DecodeError: the message is damaged.
        UnknownSchema: its schema is not one of an alert that we know.
    """
    fingerprint, start = unframe(message, resolve)
    if fingerprint != WRITTEN.fingerprint:
        msg = f"schema fingerprint {fingerprint:016x} is no alert; the writer may be newer"
        raise UnknownSchema(msg)
    payload = io.BytesIO(message[start:])
    try:
        fields = fastavro.schemaless_reader(payload, WRITTEN.definition, None)
        if payload.read(1):
            raise EOFError("bytes after the end")  # noqa: EM101
    except (EOFError, ValueError, IndexError, TypeError, UnicodeDecodeError) as error:
        msg = f"the alert is damaged ({error})"
        raise DecodeError(msg) from error
    assert isinstance(fields, dict)
    return fields
