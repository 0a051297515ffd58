"""Schemas behind ids: asked for once, with every fault told apart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from schemas import registry
from schemas.batch import SUBJECT, BatchHeader, decode_batch, encode_batch
from schemas.errors import SchemaError, UnknownSchema
from schemas.record import PACKET
from schemas.remote_registry import RegistryAway, RemoteRegistry
from tests.support.schema_registry import serving

NEWEST = registry.load(SUBJECT, registry.versions(SUBJECT)[-1])


def test_what_is_registered_is_resolved() -> None:
    """Registered twice it has one id, whose fingerprint is our own, and is asked for once."""
    with serving() as remote:
        client = RemoteRegistry(remote.url)
        number = client.register(NEWEST, "net/packets")
        assert client.register(NEWEST, "net/packets") == number
        for _ in range(3):
            assert client.resolve(number) == NEWEST.fingerprint
        assert remote.requests == [
            *["POST /subjects/net%2Fpackets-value/versions"] * 2,
            f"GET /schemas/ids/{number}",
        ]


def test_a_batch_in_the_registrys_framing_is_decoded() -> None:
    """Encoded with an id and decoded through the registry, it is the same batch."""
    header = BatchHeader(
        tenant="t", probe="p", boot_id=bytes(16), partition=0, sequence=0,
        emit_time_ns=0, watermark_ns=0, record_count=0,
    )  # fmt: skip
    with serving() as remote:
        client = RemoteRegistry(remote.url)
        message = encode_batch(header, np.empty(0, PACKET), client.register(NEWEST, "packets"))
        assert decode_batch(message, client.resolve)[0] == header


def test_faults_are_told_apart() -> None:
    """No such id and no Avro are final, a server's fault and silence pass."""
    with serving() as remote:
        client = RemoteRegistry(remote.url)
        with pytest.raises(UnknownSchema, match="answers 404 to /schemas/ids/7"):
            client.resolve(7)
        remote.schemas.append({"schema": "{}", "schemaType": "PROTOBUF"})
        with pytest.raises(UnknownSchema, match="is PROTOBUF, not Avro"):
            client.resolve(1)
        remote.refuse = 503
        with pytest.raises(RegistryAway, match="answers 503"):
            client.resolve(2)
        remote.refuse = 409
        with pytest.raises(SchemaError, match="answers 409") as refused:
            client.register(NEWEST, "packets")
        assert not isinstance(refused.value, RegistryAway)
    with pytest.raises(RegistryAway, match="doesn't answer"):
        client.resolve(3)


def test_a_password_is_sent_and_never_shown() -> None:
    """It goes into the header, not into the address or an error."""
    with serving() as remote:
        client = RemoteRegistry(remote.url.replace("//", "//ann:s%40crit@"))
        client.register(NEWEST, "packets")
        assert remote.logins == ["Basic YW5uOnNAY3JpdA=="]
        remote.refuse = 500
        with pytest.raises(RegistryAway) as away:
            client.resolve(1)
        assert "crit" not in str(away.value) + client.address
        assert json.loads(remote.schemas[0]["schema"]) == NEWEST.definition
