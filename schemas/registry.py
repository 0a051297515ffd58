"""The Avro schemas that ship with the package: ``avro/<subject>/vN.avsc``.

A version is never changed once it has been released; a new meaning is a new version.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from schemas.errors import SchemaError, UnknownSchema
from schemas.framing import fingerprint

AVRO: Final = Path(__file__).parent / "avro"
"""Folder of the schemas, one folder a subject."""


@dataclass(frozen=True)
class Schema:
    """One version of one subject.

    Attributes:
        subject: what the messages are, for example ``packet_batch``.
        version: from 1.
        fingerprint: CRC-64-AVRO of the Parsing Canonical Form.
        definition: the schema as parsed JSON, as fastavro takes it.
    """

    subject: str
    version: int
    fingerprint: int
    definition: Any = field(repr=False, compare=False)


def subjects() -> tuple[str, ...]:
    """Names of all subjects, in order."""
    return tuple(sorted(path.name for path in AVRO.iterdir() if path.is_dir()))


def versions(subject: str) -> tuple[int, ...]:
    """Versions of a subject, oldest first; empty for an unknown subject."""
    return tuple(sorted(int(path.stem[1:]) for path in (AVRO / subject).glob("v*.avsc")))


@cache
def load(subject: str, version: int) -> Schema:
    """Load one version of a subject.

    Raises:
        SchemaError: there is no such schema.
    """
    if version not in versions(subject):
        known = ", ".join(f"{name} v{number}" for name in subjects() for number in versions(name))
        msg = f"no schema {subject} v{version}; there are: {known}"
        raise SchemaError(msg)
    definition = json.loads((AVRO / subject / f"v{version}.avsc").read_text("utf-8"))
    return Schema(subject, version, fingerprint(definition), definition)


def by_fingerprint(wanted: int) -> Schema:
    """Find the schema that a message's fingerprint names.

    Raises:
        UnknownSchema: none of ours has it.
    """
    for subject in subjects():
        for version in versions(subject):
            schema = load(subject, version)
            if schema.fingerprint == wanted:
                return schema
    msg = f"schema fingerprint {wanted:016x} is none of ours; the writer may be newer"
    raise UnknownSchema(msg)
