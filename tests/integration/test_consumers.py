"""The examples of reading Kafka's topics, run as they are, and ClickHouse's side of them."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import clickhouse_connect
import fastavro
import numpy as np
import pytest
from confluent_kafka import Producer

from flows.notify.topic import fields_of
from schemas import alert as alert_schema
from schemas import registry
from schemas.batch import BatchHeader, decode_batch, encode_batch
from schemas.record import Packets
from tests.support.alerts import alert
from tests.support.jobs import ROOT, ipv4_packets
from tests.support.kafka import Broker

FOLDER = ROOT / "deploy" / "consumers"
SQL = (FOLDER / "clickhouse_kafka.sql").read_text()
SAMPLED = 3


def batch(packets: Packets) -> bytes:
    header = BatchHeader(
        tenant="t", probe="p", boot_id=bytes(16), partition=0, sequence=0, emit_time_ns=1,
        watermark_ns=1, record_count=len(packets), sampling_rate=SAMPLED,
    )  # fmt: skip
    return encode_batch(header, packets)


def send(broker: Broker, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def run(script: str, broker: Broker, topic: str) -> subprocess.CompletedProcess[str]:
    arguments = ("--brokers", broker.bootstrap, "--topic", topic, "--group", topic)
    return subprocess.run(
        [sys.executable, FOLDER / script, *arguments, "--from-beginning", "--idle", "8"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.requires("kafka")
def test_alerts_are_read(kafka_broker: Broker) -> None:
    """Each revision in the topic is a line of JSON with all fields of the schema."""
    topic = kafka_broker.topic()
    told = [alert(), alert(revision=2, event="resolved")]
    send(kafka_broker, topic, *(alert_schema.encode_alert(fields_of(each)) for each in told))
    done = run("read_alerts.py", kafka_broker, topic)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == [fields_of(each) for each in told]


@pytest.mark.requires("kafka")
def test_packets_are_summed(kafka_broker: Broker) -> None:
    """The sums by source are those of the records, made up for sampling."""
    topic = kafka_broker.topic()
    packets = ipv4_packets(np.random.default_rng(5), 500)
    send(kafka_broker, topic, batch(packets[:200]), batch(packets[200:]))
    done = run("read_packets.py", kafka_broker, topic)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    for source, count, size in rows:
        raw = bytes.fromhex("00000000000000000000ffff") + bytes(map(int, source.split(".")))
        own = packets[np.array([row.tobytes() == raw for row in packets["src_addr"]])]
        assert int(count) == SAMPLED * len(own)
        assert int(size) == SAMPLED * int(own["wire_bytes"].sum())
    assert len(rows) == min(20, len({row.tobytes() for row in packets["src_addr"]}))


@pytest.mark.requires("kafka")
def test_what_is_no_message_is_refused(kafka_broker: Broker) -> None:
    """A message of another framing ends the example with an error that says so."""
    topic = kafka_broker.topic()
    send(kafka_broker, topic, b"hello")
    done = run("read_alerts.py", kafka_broker, topic)
    assert done.returncode == 1
    assert "not a message of a known schema" in done.stderr


def test_clickhouse_s_side_reads_what_the_schemas_write(tmp_path: Path) -> None:
    """Columns and views fit the schemas: batches and alerts as Avro give the sums of the records.

    The engine Kafka must not be made in an embedded store, so its tables are of another one here,
    and are fed from files of the same Avro.
    """
    assert SQL.count("ENGINE = Kafka") == 2
    plain = re.sub(r"ENGINE = Kafka\nSETTINGS [^;]*;", "ENGINE = Null;", SQL)
    with closing(open_engine(tmp_path / "other")) as client:
        check_sums(client, tmp_path, plain)


def open_engine(directory: Path) -> Any:
    return clickhouse_connect.get_client(interface="chdb", path=str(directory))


def check_sums(client: Any, tmp_path: Path, plain: str) -> None:
    for statement in re.sub(r"--[^\n]*", "", plain).split(";"):
        if statement.strip():
            client.command(statement)
    packets = ipv4_packets(np.random.default_rng(5), 300)
    feed(client, tmp_path, "packets_queue", "packet_batch", 2, decoded(batch(packets)))
    feed(client, tmp_path, "alerts_queue", "alert", 1, fields_of(alert()))
    found = client.query(
        "SELECT sum(packets), sum(bytes), uniqExact(src_addr), min(minute) = "
        "toStartOfMinute(fromUnixTimestamp64Nano({first:Int64}, 'UTC')), any(ip_proto), "
        "uniqExact(dst_port) FROM packets_1m",
        parameters={"first": int(packets["ts_ns"].min())},
    ).result_rows[0]
    assert found == (
        SAMPLED * 300,
        SAMPLED * int(packets["wire_bytes"].sum()),
        len({row.tobytes() for row in packets["src_addr"]}),
        True,
        int(packets["ip_proto"][0]),
        len(set(packets["dst_port"].tolist())),
    )
    ((alert_id, entity, first_ns),) = client.query(
        "SELECT alert_id, entity, toUnixTimestamp64Nano(first_seen) FROM alerts_received FINAL"
    ).result_rows
    assert (alert_id, entity, first_ns) == (
        alert().alert_id, alert().entity, alert().first_seen_ns,
    )  # fmt: skip


def decoded(message: bytes) -> dict[str, Any]:
    """A batch as Avro's own types."""
    decode_batch(message)
    found = fastavro.schemaless_reader(
        io.BytesIO(message[10:]), registry.load("packet_batch", 2).definition, None
    )
    assert isinstance(found, dict)
    return found


def feed(client: Any, folder: Path, table: str, subject: str, version: int, row: Any) -> None:
    path = folder / f"{table}.avro"
    with path.open("wb") as file:
        fastavro.writer(file, registry.load(subject, version).definition, [row])
    client.command(f"INSERT INTO {table} FROM INFILE '{path}' FORMAT Avro")
