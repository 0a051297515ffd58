"""Finding the schemas that ship with the package."""

from __future__ import annotations

import pytest

from schemas import registry
from schemas.errors import SchemaError, UnknownSchema


def test_packet_batch_is_there() -> None:
    """The subject is listed and has version 1."""
    assert "packet_batch" in registry.subjects()
    assert registry.versions("packet_batch")[0] == 1


@pytest.mark.parametrize(
    ("version", "fingerprint"), [(1, 0x9FE890E31AC98371), (2, 0xCC37DC291A54BCF0)]
)
def test_released_version_is_never_changed(version: int, fingerprint: int) -> None:
    """Each version has the fingerprint under which messages of it are stored."""
    assert registry.load("packet_batch", version).fingerprint == fingerprint


def test_every_released_version_has_its_fingerprint_tested() -> None:
    """A new version must be added to the test above."""
    assert registry.versions("packet_batch") == (1, 2)


def test_versions_are_numbered_without_gaps() -> None:
    """Every subject's files are v1, v2 and so on."""
    for subject in registry.subjects():
        count = len(registry.versions(subject))
        assert registry.versions(subject) == tuple(range(1, count + 1))


def test_fingerprints_find_their_schemas() -> None:
    """by_fingerprint gives each shipped schema back."""
    for subject in registry.subjects():
        for version in registry.versions(subject):
            schema = registry.load(subject, version)
            assert registry.by_fingerprint(schema.fingerprint) == schema


def test_unknown_schemas_are_refused() -> None:
    """A fingerprint that is none of ours is an error that names it."""
    with pytest.raises(UnknownSchema, match="00000000000000ff"):
        registry.by_fingerprint(0xFF)


@pytest.mark.parametrize(("subject", "version"), [("packet_batch", 0), ("parcel", 1)])
def test_missing_versions_are_refused_with_what_there_is(subject: str, version: int) -> None:
    """The error lists the schemas that could have been meant."""
    with pytest.raises(SchemaError, match=f"no schema {subject} v{version}.*packet_batch v1"):
        registry.load(subject, version)
