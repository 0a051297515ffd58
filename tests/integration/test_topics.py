"""netspectra topics against a real broker: what it makes, shows, and leaves alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource

from probe.live import CaptureCounts
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from schemas.record import PACKET, Packets
from tests.support.kafka import Broker, wait_until

pytestmark = pytest.mark.requires("kafka")

ROOT = Path(__file__).parents[2]
TOPICS = ("packets", "alerts", "windows", "dlq")
NOW_NS = 1_795_000_000 * 10**9


@pytest.fixture
def names(kafka_broker: Broker) -> dict[str, str]:
    """Names of topics that aren't there yet."""
    return {topic: kafka_broker.name() for topic in TOPICS}


@pytest.fixture
def env(kafka_broker: Broker, names: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a user of these topics."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("NETSPECTRA_")},
        **{f"NETSPECTRA_KAFKA__TOPICS__{topic.upper()}": name for topic, name in names.items()},
        "NETSPECTRA_KAFKA__BROKERS": kafka_broker.bootstrap,
        "NETSPECTRA_KAFKA__GROUP": kafka_broker.name(),
        "PYTHONPATH": str(ROOT),
        "PWD": str(tmp_path),
    }


def topics(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "topics", *arguments],
        capture_output=True,
        text=True,
        env=env,
        cwd=env["PWD"],
        timeout=120,
        check=False,
    )


def objects(env: dict[str, str], *arguments: str) -> list[dict[str, object]]:
    done = topics(env, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


class Running:
    """``topics tail`` as it runs; its lines are collected."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "topics", "tail", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=env["PWD"],
        )
        self._readers = [
            threading.Thread(target=lambda s=s, t=t: t.extend(s))
            for s, t in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]

    def __enter__(self) -> Self:
        for reader in self._readers:
            reader.start()
        # It says so once it has settled where to begin.
        wait_until(lambda: any("since" in line for line in self.err))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.end()

    def end(self) -> int:
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()
        return code


def records(count: int, seed: int = 1) -> Packets:
    """Packets of many host pairs, which spread over partitions."""
    random = np.random.default_rng(seed)
    packets = np.zeros(count, PACKET)
    packets["ts_ns"] = NOW_NS + np.arange(count)
    packets["src_addr"][:, 10:12] = packets["dst_addr"][:, 10:12] = 255
    packets["src_addr"][:, 12:] = random.integers(0, 256, (count, 4))
    packets["dst_addr"][:, 12:] = random.integers(0, 256, (count, 4))
    packets["eth_type"], packets["ip_proto"], packets["wire_bytes"] = 0x0800, 17, 100
    packets["packets"] = random.integers(1, 5, count)
    return packets


class Sender:
    """A probe that sends a batch to each partition when told."""

    def __init__(self, broker: Broker, topic: str, partitions: int = 12) -> None:
        self.topic = topic
        self.batcher = Batcher(
            partitions=partitions, tenant="default", probe="edge", boot_id=os.urandom(16)
        )
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})

    def send(self, packets: Packets, lose: int | None = None, dropped: int = 0) -> None:
        """Send all; ``lose`` is a partition whose batch is left out."""
        self.batcher.add(packets, emit_time_ns=NOW_NS, watermark_ns=NOW_NS)
        counts = CaptureCounts(seen=10**6, dropped={"ring_full": dropped})
        for message in self.batcher.cut(emit_time_ns=NOW_NS, watermark_ns=NOW_NS, counts=counts):
            if message.partition != lose:
                self.producer.produce(self.topic, message.value, partition=message.partition)
        assert self.producer.flush(60) == 0


@pytest.fixture
def sender(kafka_broker: Broker, names: dict[str, str], env: dict[str, str]) -> Iterator[Sender]:
    """A probe, and the topics that it needs."""
    assert topics(env, "create").returncode == 0
    return Sender(kafka_broker, names["packets"])


def test_topics_are_made_as_designed(
    kafka_broker: Broker, env: dict[str, str], names: dict[str, str]
) -> None:
    """All four are made with partitions, retention and compaction; again, nothing changes."""
    done = topics(env, "create")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{names[topic]}: created" for topic in TOPICS]

    admin = kafka_broker.admin()
    resource = ConfigResource(ConfigResource.Type.TOPIC, names["packets"])
    config = admin.describe_configs([resource])[resource].result()
    assert config["retention.ms"].value == str(6 * 3600 * 1000)
    assert config["message.timestamp.type"].value == "LogAppendTime"
    assert len(admin.list_topics(timeout=10).topics[names["packets"]].partitions) == 12

    found = {row["topic"]: row for row in objects(env, "list")}
    shape = [(found[n]["partitions"], found[n]["retention"]) for n in map(names.get, TOPICS) if n]
    assert shape == [(12, "6h"), (1, "newest per key"), (1, "7d"), (1, "7d")]

    done = topics(env, "create")
    assert done.stdout.splitlines() == [f"{names[topic]}: is there" for topic in TOPICS]


@pytest.mark.slow
def test_a_new_cluster(
    kafka_cluster: Callable[[], Broker], env: dict[str, str], names: dict[str, str]
) -> None:
    """On three nodes that have just started topics get three replicas, and can be listed."""
    env["NETSPECTRA_KAFKA__BROKERS"] = brokers = kafka_cluster().bootstrap
    # A probe that comes first makes its topic alike.
    KafkaShipper(KafkaOptions(brokers=brokers, topic=names["packets"])).close(0)
    assert "is there\n" in (done := topics(env, "create")).stdout, done
    # The broker makes and loads its own topic of groups only now.
    rows = objects(env, "list")
    assert [(row["replicas"], row["messages"], row["lag"]) for row in rows] == [(3, 0, None)] * 4


def test_differences_are_told(
    kafka_broker: Broker, env: dict[str, str], names: dict[str, str]
) -> None:
    """A topic that is there stays as it is, and what is unlike the design is said."""
    names["packets"] = kafka_broker.topic(partitions=2, retention_ms="60000")
    env["NETSPECTRA_KAFKA__TOPICS__PACKETS"] = names["packets"]
    line = topics(env, "create").stdout.splitlines()[0]
    assert line.startswith(f"{names['packets']}: is there; partitions is 2, not 12; ")
    assert "retention.ms is 60000, not 21600000" in line
    assert "message.timestamp.type is CreateTime, not LogAppendTime" in line
    (row,) = [row for row in objects(env, "list") if row["topic"] == names["packets"]]
    assert (row["partitions"], row["retention"]) == (2, "1m")


def test_more_replicas_than_brokers(env: dict[str, str]) -> None:
    """What the broker refuses is told in its words, in one line."""
    done = topics(env, "create", "--replicas", "2")
    assert done.returncode == 1
    assert " refused: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_topics_that_are_not_there(env: dict[str, str], names: dict[str, str]) -> None:
    """List says of each what makes it; tail ends with a line that says the same."""
    done = topics(env, "list")
    assert done.returncode == 0
    for name in names.values():
        assert f"{name} " in done.stdout
    assert done.stdout.count("isn't there; netspectra topics create") == 4
    done = topics(env, "tail")
    assert done.returncode == 1
    assert done.stderr == (
        f"netspectra: topic {names['packets']} isn't there; netspectra topics create makes it\n"
    )


def test_list_counts_messages_and_lag(
    kafka_broker: Broker, sender: Sender, env: dict[str, str], names: dict[str, str]
) -> None:
    """Messages are those in the log, lag those behind the committed offsets of our group."""
    for _ in range(3):
        sender.send(records(100))
    row = objects(env, "list")[0]
    assert (row["messages"], row["lag"]) == (36, None)
    offsets = [TopicPartition(names["packets"], n, 1) for n in range(12)]
    group = ConsumerGroupTopicPartitions(env["NETSPECTRA_KAFKA__GROUP"], offsets)
    admin = kafka_broker.admin()
    admin.alter_consumer_group_offsets([group])[group.group_id].result(30)
    assert objects(env, "list")[0]["lag"] == 24
    line = topics(env, "list").stdout.splitlines()[1]
    assert line.split() == [names["packets"], "12", "1", "36", "24", "6h"]


def test_tail_shows_what_arrives(sender: Sender, env: dict[str, str]) -> None:
    """From its start on each batch is a line; what was sent before isn't shown."""
    sender.send(records(500))
    packets = records(1009, seed=2)
    with Running(env, "-n", "12") as tail:
        sender.send(packets)
        assert tail.end() == 0
    heading, *lines = tail.out
    assert heading.split()[:4] == ["time", "partition", "offset", "probe"]
    cells = [line.split() for line in lines]
    assert sorted(int(row[1]) for row in cells) == list(range(12))
    assert {(row[2], row[3], row[4], row[7]) for row in cells} == {("1", "edge", "1", "0")}
    assert sum(int(row[5]) for row in cells) == packets["packets"].sum()
    assert sum(int(row[6]) for row in cells) == len(packets)


def test_tail_from_the_beginning_finds_gaps(sender: Sender, env: dict[str, str]) -> None:
    """A batch that never came is found with its packets, and so is what the probe dropped."""
    lost = 5
    sender.send(records(1009))
    sent = sender.batcher.packets_sent
    sender.send(records(1009, seed=2), lose=lost)
    sender.send(records(1009, seed=3), dropped=41)
    rows = objects(env, "tail", "--from-beginning", "-n", "35")
    by_partition = [[row for row in rows if row["partition"] == n] for n in range(12)]
    assert [len(rows) for rows in by_partition] == [3] * lost + [2] + [3] * (11 - lost)
    last = by_partition[lost][-1]
    assert last["missing_batches"] == 1
    missing = last["missing_packets"]
    shown = sum(int(str(row["packets"])) for row in rows)
    assert shown + int(str(missing)) == sender.batcher.packets_sent > sent
    assert [row["newly_dropped"] for row in by_partition[sender.batcher.home]][-1] == {
        "ring_full": 41
    }
    assert sum(int(str(row["missing_batches"])) for row in rows) == 1


def test_tail_of_one_partition(sender: Sender, env: dict[str, str]) -> None:
    """Only the partition that is named is read."""
    for _ in range(3):
        sender.send(records(100))
    rows = objects(env, "tail", "--from-beginning", "--partition", "7", "-n", "3")
    assert [(row["partition"], row["offset"]) for row in rows] == [(7, 0), (7, 1), (7, 2)]


def test_a_partition_that_is_not_there(sender: Sender, env: dict[str, str]) -> None:
    """A partition beyond the last is refused with the range."""
    done = topics(env, "tail", "--partition", "12")
    assert done.returncode == 2
    assert done.stderr == (
        f"netspectra: --partition 12: {env['NETSPECTRA_KAFKA__TOPICS__PACKETS']} has 12, 0 to 11\n"
    )


def test_tail_of_packets(sender: Sender, env: dict[str, str]) -> None:
    """Each record is a line that shows what was sent."""
    packets = records(101)
    sender.send(packets)
    rows = objects(env, "tail", "--from-beginning", "--packets", "-n", "101")
    shown = sorted((row["ts_ns"], row["packets"]) for row in rows)  # type: ignore[type-var]
    assert shown == sorted(zip(packets["ts_ns"].tolist(), packets["packets"].tolist(), strict=True))
    done = topics(env, "tail", "--from-beginning", "--packets", "-n", "101")
    assert len(done.stdout.splitlines()) == 101
    assert all("edge/0  udp" in line for line in done.stdout.splitlines())


def test_bad_messages_are_shown_as_such(
    kafka_broker: Broker, sender: Sender, env: dict[str, str], names: dict[str, str]
) -> None:
    """Among good batches, messages that are none are lines with the reason."""
    sender.send(records(10))
    good = kafka_broker.messages(names["packets"])[0].value()
    bad = [b"", None, b"hello", b"\xc3\x01" + bytes(8), good[:50], good + b"x", b"\0\0\0\0\7"]
    for value in bad:
        sender.producer.produce(names["packets"], value, partition=0)
    assert sender.producer.flush(60) == 0
    sender.send(records(10))
    count = str(2 + len(bad))
    rows = objects(env, "tail", "--from-beginning", "--partition", "0", "-n", count)
    assert [("bad_message" in row) for row in rows] == [False] + [True] * len(bad) + [False]
    reasons = [str(row["bad_message"]) for row in rows[1:-1]]
    assert all(reasons)
    assert "neither Avro single-object nor Confluent" in reasons[2]
    assert "needs a schema registry" in reasons[-1]
    for form in ((), ("--packets",)):
        done = topics(env, "tail", "--from-beginning", "--partition", "0", "-n", "3", *form)
        assert done.returncode == 0
        assert "bad message: " in done.stdout


def test_tail_disturbs_no_group(
    kafka_broker: Broker, sender: Sender, env: dict[str, str], names: dict[str, str]
) -> None:
    """The job keeps its partitions and its offsets while somebody watches; no group is left."""
    group = env["NETSPECTRA_KAFKA__GROUP"]
    job = Consumer(
        {
            "bootstrap.servers": kafka_broker.bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    assigned: list[str] = []
    job.subscribe(
        [names["packets"]],
        on_assign=lambda *_: assigned.append("assigned"),
        on_revoke=lambda *_: assigned.append("revoked"),
    )
    try:
        wait_until(lambda: job.poll(0.1) is None and bool(assigned))
        job.commit(offsets=[TopicPartition(names["packets"], 0, 0)], asynchronous=False)
        sender.send(records(1009))
        assert len(objects(env, "tail", "--from-beginning", "-n", "12")) == 12
        assert len(objects(env, "list")) == 4
        wait_until(lambda: len(job.consume(12, 1)) == 12)
        assert assigned == ["assigned"]
        assert len(job.assignment()) == 12
        committed = job.committed([TopicPartition(names["packets"], 0)], timeout=10)
        assert committed[0].offset == 0
    finally:
        job.close()
    admin = kafka_broker.admin()
    groups = admin.list_consumer_groups().result(30).valid
    assert group in {found.group_id for found in groups}
    assert "netspectra-tail" not in {found.group_id for found in groups}


def test_ctrl_c_ends_it(sender: Sender, env: dict[str, str]) -> None:
    """Ctrl-C ends with one word and the code for it, not with a traceback."""
    with Running(env) as tail:
        sender.send(records(100))
        wait_until(lambda: len(tail.out) == 13)
        tail.process.send_signal(signal.SIGINT)
        assert tail.end() == 130
    assert [line for line in tail.err[1:] if line != "\n"] == ["netspectra: stopped\n"]


def test_a_reader_that_has_enough(sender: Sender, env: dict[str, str]) -> None:
    """Cut off by head, tail ends quietly."""
    for _ in range(100):
        sender.send(records(10))
    command = f"{sys.executable} -m flows.cli topics tail --from-beginning | head -n 3"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True, text=True, env=env, cwd=env["PWD"], timeout=120, check=False,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 3
    assert "Traceback" not in done.stderr


def test_a_broker_that_goes_away(kafka_broker: Broker, sender: Sender, env: dict[str, str]) -> None:
    """While Kafka is down tail says so and waits; afterwards it goes on where it was."""
    with Running(env, "-n", "24") as tail:
        sender.send(records(1009))
        wait_until(lambda: len(tail.out) == 13)
        kafka_broker.stop()
        wait_until(lambda: any("no broker answers" in line for line in tail.err))
        kafka_broker.start()
        sender.send(records(1009))
        assert tail.end() == 0
    cells = [line.split() for line in tail.out[1:]]
    assert sorted((int(row[1]), int(row[2])) for row in cells) == [
        (partition, offset) for partition in range(12) for offset in range(2)
    ]
    assert {row[7] for row in cells} == {"0"}
    assert "Kafka is back" in tail.err[-1]


def test_no_answer(kafka_broker: Broker, env: dict[str, str]) -> None:
    """A broker that is there and doesn't answer gives one line, after 8 seconds."""
    kafka_broker.pause()
    try:
        done = topics(env, "list")
    finally:
        kafka_broker.resume()
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"netspectra: no Kafka broker answers at {kafka_broker.bootstrap} ("
    )
    assert done.stderr.count("\n") == 1
