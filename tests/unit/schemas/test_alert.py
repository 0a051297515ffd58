"""Alert: what is written is what is read, by us and by others."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from schemas import registry
from schemas.alert import WRITTEN, decode_alert, encode_alert
from schemas.errors import DecodeError, EncodeError, UnknownSchema
from schemas.framing import frame_confluent, frame_single_object

EXAMPLE = json.loads(
    (Path(schemas.__file__).parent / "examples/alert/v1/host_scan_fired.json").read_text("utf-8")
)
FIELDS: dict[str, Any] = EXAMPLE["alert"]
MESSAGE = bytes.fromhex(EXAMPLE["message"])


def test_released_version_is_never_changed() -> None:
    """Version 1, the only one, has the fingerprint under which messages of it are stored."""
    assert registry.versions("alert") == (1,)
    assert registry.load("alert", 1).fingerprint == 0x3B23C5695678EFEB


def test_the_example_is_what_is_written_and_read() -> None:
    """Its fields give its bytes, and its bytes its fields."""
    assert encode_alert(FIELDS) == MESSAGE
    assert decode_alert(MESSAGE) == FIELDS


def test_other_readers_understand_it() -> None:
    """Any Avro library, given the schema, reads the same fields."""
    payload = io.BytesIO(MESSAGE[10:])
    assert fastavro.schemaless_reader(payload, WRITTEN.definition, None) == FIELDS


def test_a_registry_id_goes_before_it() -> None:
    """With an id the message is in the Confluent wire format."""
    message = encode_alert(FIELDS, 7)
    assert message == frame_confluent(7) + MESSAGE[10:]
    assert decode_alert(message, {7: WRITTEN.fingerprint}.__getitem__) == FIELDS


@pytest.mark.parametrize(
    "fields",
    [
        {name: value for name, value in FIELDS.items() if name != "rule"},
        FIELDS | {"colour": "red"},
        FIELDS | {"revision": "1"},
        FIELDS | {"revision": 2**40},
        FIELDS | {"entity": {"dst_port": 23}},
        FIELDS | {"title": None},
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any]) -> None:
    """Fields that are missing, strange, too large, or of another type."""
    with pytest.raises(EncodeError):
        encode_alert(fields)


@pytest.mark.parametrize("size", range(10, len(MESSAGE), 41))
def test_a_cut_alert_is_damaged(size: int) -> None:
    """Wherever it ends."""
    with pytest.raises(DecodeError, match="the alert is damaged"):
        decode_alert(MESSAGE[:size])


def test_other_messages_are_no_alerts() -> None:
    """Another schema of ours, and bytes behind the end."""
    other = frame_single_object(registry.load("dead_letter", 1).fingerprint)
    with pytest.raises(UnknownSchema, match="is no alert"):
        decode_alert(other + MESSAGE[10:])
    with pytest.raises(DecodeError, match="bytes after the end"):
        decode_alert(MESSAGE + b"\0")
