#!/usr/bin/env python3
"""Prints alerts from Kafka as JSON lines, with nothing of NetSpectra but its schema.

    pip install confluent-kafka fastavro
    python read_alerts.py --brokers localhost:9092 --from-beginning

The topic is compacted: of each alert (the key) at least the newest revision stays. A consumer that
keeps a table by ``alert_id`` and takes what has the larger ``revision`` knows all alerts.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaException
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro" / "alert"
MAGIC = b"\xc3\x01"
"""Begins a message in Avro single-object encoding; 8 bytes say which schema wrote it."""


def known_schemas(folder: Path) -> dict[bytes, Any]:
    """Schemas by the fingerprint that messages begin with."""
    found = {}
    for path in folder.glob("*.avsc"):
        schema = json.loads(path.read_text("utf-8"))
        digest = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
        found[bytes.fromhex(digest)] = fastavro.parse_schema(schema)
    return found


def decode(message: bytes, schemas: dict[bytes, Any]) -> dict[str, Any]:
    """Read one message.

    Raises:
        ValueError: it is in another framing, or its schema isn't known.
    """
    schema = schemas.get(message[2:10])
    if message[:2] != MAGIC or schema is None:
        msg = "not a message of a known schema; newer versions are in schemas/avro"
        raise ValueError(msg)
    found = fastavro.schemaless_reader(io.BytesIO(message[10:]), schema, None)
    assert isinstance(found, dict)
    return found


def messages(consumer: Consumer, idle_s: float | None) -> Iterator[bytes]:
    """Values of messages; with a limit it ends when nothing came for so long."""
    while (message := consumer.poll(-1 if idle_s is None else idle_s)) is not None:
        if error := message.error():
            raise KafkaException(error)
        if (value := message.value()) is not None:
            yield value


def main() -> None:
    """Read the topic until stopped."""
    parser = argparse.ArgumentParser(description="Prints alerts from Kafka as JSON lines.")
    parser.add_argument("--brokers", default="localhost:9092")
    parser.add_argument("--topic", default="netspectra.alerts")
    parser.add_argument("--group", default="alerts-example")
    parser.add_argument("--from-beginning", action="store_true")
    parser.add_argument("--idle", type=float, help="end when nothing came for so many seconds")
    given = parser.parse_args()
    schemas = known_schemas(SCHEMAS)
    consumer = Consumer(
        {
            "bootstrap.servers": given.brokers,
            "group.id": given.group,
            "auto.offset.reset": "earliest" if given.from_beginning else "latest",
        }
    )
    consumer.subscribe([given.topic])
    try:
        for value in messages(consumer, given.idle):
            print(json.dumps(decode(value, schemas)), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
