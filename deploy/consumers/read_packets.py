#!/usr/bin/env python3
"""Sums packets from Kafka by source address, with nothing of NetSpectra but its schema.

    pip install confluent-kafka fastavro
    python read_packets.py --brokers localhost:9092 --from-beginning

A message is a batch: a header and up to 8,192 records. Every field of a record is ``fixed``:
numbers are unsigned and little endian, addresses 16 bytes with IPv4 mapped. fastavro reads some
100,000 records a second; whoever wants millions takes ``schemas.batch.decode_batch``, which gives
numpy arrays without a copy.
"""

from __future__ import annotations

import argparse
from collections import Counter
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from read_alerts import decode, known_schemas, messages

SCHEMAS = Path(__file__).parents[2] / "schemas" / "avro" / "packet_batch"


def number(raw: bytes) -> int:
    """A number of a record."""
    return int.from_bytes(raw, "little")


def address(raw: bytes) -> str:
    """An address of a record; IPv4 as IPv4."""
    found = IPv6Address(raw)
    return str(found.ipv4_mapped or found)


def add(batch: dict[str, Any], packets: Counter[str], size: Counter[str]) -> None:
    """Add the records of a batch to the sums; sampling is made up for."""
    for record in batch["packets"]:
        source = address(record["src_addr"])
        packets[source] += number(record["packets"]) * batch["sampling_rate"]
        size[source] += number(record["wire_bytes"]) * batch["sampling_rate"]


def main() -> None:
    """Read the topic until nothing comes any more, then print."""
    parser = argparse.ArgumentParser(description="Sums packets from Kafka by source address.")
    parser.add_argument("--brokers", default="localhost:9092")
    parser.add_argument("--topic", default="netspectra.packets")
    parser.add_argument("--group", default="packets-example")
    parser.add_argument("--from-beginning", action="store_true")
    parser.add_argument("--idle", type=float, default=10, help="end when nothing came, s")
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
    packets: Counter[str] = Counter()
    size: Counter[str] = Counter()
    try:
        for value in messages(consumer, given.idle):
            add(decode(value, schemas), packets, size)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
    for source, total in size.most_common(20):
        print(f"{source}\t{packets[source]}\t{total}")


if __name__ == "__main__":
    main()
