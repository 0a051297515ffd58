"""Every example is read by every version that is as old or newer."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import fastavro
import pytest

import schemas
from schemas import registry
from schemas.batch import SUBJECT, BatchHeader, Counters, decode_batch, encode_batch
from schemas.framing import unframe
from schemas.readers import Packet, iter_packets
from schemas.record import PacketFlag

FOLDER = Path(schemas.__file__).parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*/v*/*.json"))
READINGS = [
    pytest.param(path, version, id=f"{path.relative_to(FOLDER)} by v{version}")
    for path in EXAMPLES
    for version in registry.versions(path.parent.parent.name)
    if version >= int(path.parent.name[1:])
]
BATCHES = [
    pytest.param(json.loads(path.read_text("utf-8")), id=path.stem)
    for path in EXAMPLES
    if path.parent.parent.name == SUBJECT
]


def readable(packet: Packet) -> dict[str, Any]:
    """A packet as the examples write it: enumerations by name, addresses as text."""

    def show(value: Any) -> Any:
        if isinstance(value, PacketFlag):
            return [flag.name for flag in value]
        if isinstance(value, Enum):
            return value.name
        return str(value) if isinstance(value, IPv4Address | IPv6Address) else value

    return {name: show(value) for name, value in asdict(packet).items()}


def header_of(example: dict[str, Any]) -> BatchHeader:
    fields = dict(example["header"])
    fields["boot_id"] = bytes.fromhex(fields["boot_id"])
    fields["counters"] = fields["counters"] and Counters(**fields["counters"])
    return BatchHeader(**fields)


def test_every_version_has_an_example() -> None:
    """No schema ships without one, and there is at least one schema."""
    shipped = {(s, f"v{v}") for s in registry.subjects() for v in registry.versions(s)}
    assert shipped
    assert shipped == {(path.parent.parent.name, path.parent.name) for path in EXAMPLES}


@pytest.mark.parametrize(("path", "version"), READINGS)
def test_later_versions_read_older_examples(path: Path, version: int) -> None:
    """An example's own schema resolves to this version, and fastavro uses up every byte."""
    example = json.loads(path.read_text("utf-8"))
    message = bytes.fromhex(example["message"])
    fingerprint, offset = unframe(message)
    writer = registry.by_fingerprint(fingerprint)
    assert (writer.subject, f"v{writer.version}") == path.parts[-3:-1]
    reader = registry.load(writer.subject, version)
    payload = io.BytesIO(message[offset:])
    datum = fastavro.schemaless_reader(payload, writer.definition, reader.definition)
    assert payload.read() == b""
    assert datum.keys() == {field["name"] for field in reader.definition["fields"]}


@pytest.mark.parametrize("example", BATCHES)
def test_examples_of_batches_say_what_their_bytes_say(example: dict[str, Any]) -> None:
    """The readable header and packets are those of the message."""
    message = bytes.fromhex(example["message"])
    header, _ = decode_batch(message)
    assert header == header_of(example)
    assert [readable(packet) for packet in iter_packets(message)] == example["packets"]


@pytest.mark.parametrize("example", BATCHES)
def test_encoder_still_writes_the_examples(example: dict[str, Any]) -> None:
    """Decoding and encoding an example of the newest version gives its bytes."""
    message = bytes.fromhex(example["message"])
    newest = registry.versions(SUBJECT)[-1]
    if unframe(message)[0] != registry.load(SUBJECT, newest).fingerprint:
        pytest.skip("written by an older version")
    assert encode_batch(*decode_batch(message)) == message
