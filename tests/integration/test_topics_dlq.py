"""netspectra topics dlq against a real broker: what it shows, and what it sends back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from schemas.batch import BatchHeader, encode_batch
from schemas.dead_letter import DeadLetter, encode_dead_letter
from schemas.record import PACKET
from tests.support.kafka import Broker

pytestmark = pytest.mark.requires("kafka")

ROOT = Path(__file__).parents[2]
NOW_NS = 1_795_000_000 * 10**9


def batch(sequence: int) -> bytes:
    """A whole batch that nothing is wrong with."""
    packets = np.zeros(3, PACKET)
    packets["ts_ns"], packets["packets"] = NOW_NS, 1
    header = BatchHeader(
        tenant="default",
        probe="edge",
        boot_id=bytes(16),
        partition=1,
        sequence=sequence,
        emit_time_ns=NOW_NS,
        watermark_ns=NOW_NS,
        record_count=3,
        packets_before=3 * sequence,
    )
    return encode_batch(header, packets)


@pytest.fixture
def packets(kafka_broker: Broker) -> str:
    """The topic of packets, with three partitions."""
    return kafka_broker.topic(3)


@pytest.fixture
def dlq(kafka_broker: Broker) -> str:
    """The topic of dead letters."""
    return kafka_broker.topic(1)


@pytest.fixture
def env(kafka_broker: Broker, packets: str, dlq: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user of these topics."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("NETSPECTRA_")},
        "NETSPECTRA_KAFKA__TOPICS__PACKETS": packets,
        "NETSPECTRA_KAFKA__TOPICS__DLQ": dlq,
        "NETSPECTRA_KAFKA__BROKERS": kafka_broker.bootstrap,
        "PYTHONPATH": str(ROOT),
        "PWD": str(tmp_path),
    }


def run(env: dict[str, str], *arguments: str, say: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "topics", "dlq", *arguments],
        input=say,
        capture_output=True,
        text=True,
        env=env,
        cwd=env["PWD"],
        timeout=120,
        check=False,
    )


def put(broker: Broker, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(60) == 0


@pytest.fixture
def letters(kafka_broker: Broker, packets: str, dlq: str) -> list[DeadLetter]:
    """Letters in the topic: two usable now, one damaged, one of elsewhere, one told twice."""
    time_ms = NOW_NS // 10**6
    found = [
        DeadLetter(packets, 2, 10, time_ms, "unknown schema: 0123", batch(0)),
        DeadLetter(packets, 2, 11, time_ms, "unknown schema: 0123", batch(1)),
        DeadLetter(packets, 0, 5, time_ms, "truncated: at byte 7", batch(2)[:-9]),
        DeadLetter(f"{packets}-old", 0, 5, time_ms, "unknown schema: 0123", batch(3)),
    ]
    put(kafka_broker, dlq, *map(encode_dead_letter, [*found, found[1]]), b"no letter")
    return found


def sent(broker: Broker, topic: str) -> list[tuple[int, Any]]:
    return [(message.partition(), message.value()) for message in broker.messages(topic)]


def test_list_shows_each_place_once(env: dict[str, str], letters: list[DeadLetter]) -> None:
    """A line a message, what was told twice once, and how many by reason; strangers are counted."""
    done = run(env)
    assert done.returncode == 0, done.stderr
    for letter in letters:
        line = f"{letter.topic}/{letter.partition}/{letter.offset}  {len(letter.message)} bytes"
        assert done.stdout.count(f"  {line}  {letter.reason}\n") == 1
    assert "\n4 message(s) in " in done.stdout
    assert "\n        3  unknown schema\n" in done.stdout
    assert "\n        1  truncated\n" in done.stdout
    assert "\n        1  that are no dead letters" in done.stdout


def test_list_as_json(env: dict[str, str], letters: list[DeadLetter]) -> None:
    """An object a line, without the messages themselves."""
    done = run(env, "list", "--json")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [
        (o["topic"], o["partition"], o["offset"], o["reason"], o["bytes"]) for o in objects
    ] == [
        (letter.topic, letter.partition, letter.offset, letter.reason, len(letter.message))
        for letter in letters
    ]


def test_nothing_there(env: dict[str, str], kafka_broker: Broker, packets: str) -> None:
    """An empty topic, and one that isn't there, say so; there is nothing to replay."""
    for topic, text in ((env["NETSPECTRA_KAFKA__TOPICS__DLQ"], "holds no dead letters"),
                        (kafka_broker.name(), "isn't there: no dead letters")):  # fmt: skip
        there = {**env, "NETSPECTRA_KAFKA__TOPICS__DLQ": topic}
        assert run(there).stdout == f"{topic} {text}\n"
        assert run(there, "replay").stdout == "nothing to send\n"


def test_replay_sends_the_original_bytes(
    env: dict[str, str], kafka_broker: Broker, packets: str, letters: list[DeadLetter]
) -> None:
    """What can be decoded now goes to its partition, byte for byte, in order; the rest is told."""
    dry = run(env, "replay", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "2 message(s) would be sent" in dry.stdout
    assert sent(kafka_broker, packets) == []
    done = run(env, "replay", "--yes")
    assert done.returncode == 0, done.stderr
    assert "        2  can be sent (unknown schema)\n" in done.stdout
    assert "        1  still can't be used, skipped: " in done.stdout
    assert "        1  of other topics or partitions, skipped\n" in done.stdout
    assert f"2 message(s) sent to {packets}\n" in done.stdout
    assert "nothing is remembered" in done.stderr
    assert sent(kafka_broker, packets) == [(2, letters[0].message), (2, letters[1].message)]


def test_replay_asks(
    env: dict[str, str], kafka_broker: Broker, packets: str, letters: list[DeadLetter]
) -> None:
    """Without a yes nothing is sent; with it all is."""
    for answer in ("n\n", ""):
        assert run(env, "replay", say=answer).returncode != 0
        assert sent(kafka_broker, packets) == []
    assert run(env, "replay", say="y\n").returncode == 0
    assert len(sent(kafka_broker, packets)) == 2


def test_replay_by_reason(
    env: dict[str, str], kafka_broker: Broker, packets: str, letters: list[DeadLetter]
) -> None:
    """Only letters whose reason contains the text, in whatever case, are looked at."""
    assert run(env, "replay", "--yes", "--reason", "Truncated").stdout.endswith("nothing to send\n")
    assert run(env, "replay", "--yes", "--reason", "no such").stdout == "nothing to send\n"
    assert sent(kafka_broker, packets) == []
    assert run(env, "replay", "--yes", "--reason", "UNKNOWN").returncode == 0
    assert len(sent(kafka_broker, packets)) == 2


def test_no_topic_of_packets(env: dict[str, str], kafka_broker: Broker) -> None:
    """Where there is nowhere to send to, it says what makes the topic."""
    absent = {**env, "NETSPECTRA_KAFKA__TOPICS__PACKETS": kafka_broker.name()}
    done = run(absent, "replay")
    assert done.returncode == 1
    assert "topics create" in done.stderr
