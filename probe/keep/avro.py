"""Records to an Avro object container file (Avro 1.11 specification, "Object Container Files").

The schema is the record ``Packet`` of the newest ``PacketBatch``. All its fields are ``fixed``,
so a block's data are the records' own bytes and nothing is done per record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from schemas import registry
from schemas.batch import SUBJECT
from schemas.record import Packets, as_words

_MAGIC: Final = b"Obj\x01"


class AvroBlocks:
    """The blocks of a container file without compression.

    Args:
        interfaces: names by number; they are in the metadata ``netspectra.interfaces`` as JSON.

    Attributes:
        head: what each file begins with.
    """

    def __init__(self, interfaces: Mapping[int, str]) -> None:
        self._sync = os.urandom(16)
        schema = json.dumps(packet_schema()).encode()
        metadata = {
            b"avro.schema": schema,
            b"avro.codec": b"null",
            b"netspectra.interfaces": json.dumps(dict(interfaces)).encode(),
        }
        entries = b"".join(_bytes(key) + _bytes(value) for key, value in metadata.items())
        self.head = _MAGIC + _long(len(metadata)) + entries + _long(0) + self._sync

    def encode(self, records: Packets) -> list[memoryview]:
        """One block with these records, of which there is at least one; they aren't copied."""
        data = as_words(records).data.cast("B")
        return [
            memoryview(_long(len(records)) + _long(data.nbytes)),
            data,
            memoryview(self._sync),
        ]


def packet_schema() -> Any:
    """The schema of a packet as parsed JSON, complete in itself."""
    version = registry.versions(SUBJECT)[-1]
    batch = registry.load(SUBJECT, version).definition
    (packets,) = (field["type"] for field in batch["fields"] if field["name"] == "packets")
    return {**packets["items"], "namespace": batch["namespace"]}


def _long(value: int) -> bytes:
    """Encode a number that isn't negative as a zigzag varint."""
    value <<= 1
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value
