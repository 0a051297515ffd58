"""The broker that the other tests rely on: deploy/kafka/broker.py runs Apache Kafka."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support import kafka
from tests.support.kafka import Broker, wait_until

pytestmark = pytest.mark.requires("kafka")


def send(broker: Broker, topic: str, values: list[bytes], key: bytes | None = None) -> None:
    """Send and wait until all replicas have acknowledged."""
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value, key, on_delivery=lambda error, _: failures.append(error))
    assert producer.flush(60) == 0
    assert failures == [None] * len(values)


def values(broker: Broker, topic: str) -> list[bytes]:
    return [message.value() for message in broker.messages(topic)]


def test_start_is_idempotent(kafka_broker: Broker) -> None:
    """Starting what runs leaves the process as it is and says where it answers."""
    before = kafka_broker.pid()
    kafka_broker.start()
    assert kafka_broker.pid() == before
    assert f"answers at {kafka_broker.bootstrap}" in kafka_broker.started
    assert kafka_broker.answers()


def test_a_stop_keeps_what_was_sent(kafka_broker: Broker) -> None:
    """Stopped with SIGTERM (twice over) and started again, the broker has every message."""
    topic = kafka_broker.topic()
    send(kafka_broker, topic, [b"a", b"b"])
    kafka_broker.stop()
    assert not kafka_broker.answers()
    kafka_broker.stop()
    kafka_broker.start()
    send(kafka_broker, topic, [b"c"])
    assert values(kafka_broker, topic) == [b"a", b"b", b"c"]


def test_a_kill_keeps_what_was_acknowledged(kafka_broker: Broker) -> None:
    """Killed with SIGKILL and started again, the broker has what it had acknowledged."""
    topic = kafka_broker.topic()
    sent = [b"%d" % number for number in range(1009)]
    send(kafka_broker, topic, sent)
    kafka_broker.kill()
    wait_until(lambda: not kafka_broker.answers())
    kafka_broker.start()
    assert values(kafka_broker, topic) == sent


def test_a_paused_broker_goes_on(kafka_broker: Broker) -> None:
    """A paused process is there and doesn't answer; resumed it takes what was sent meanwhile."""
    topic = kafka_broker.topic()
    send(kafka_broker, topic, [b"before"])
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap, "acks": "all"})
    kafka_broker.pause()
    try:
        assert not kafka_broker.answers()
        producer.produce(topic, b"meanwhile")
        assert producer.flush(1) == 1
    finally:
        kafka_broker.resume()
    assert producer.flush(60) == 0
    assert values(kafka_broker, topic) == [b"before", b"meanwhile"]


def test_a_paused_broker_can_be_stopped(kafka_broker: Broker) -> None:
    """Stop reaches a process that is paused."""
    kafka_broker.pause()
    kafka_broker.stop()
    assert not kafka_broker.answers()


def test_retention_deletes(kafka_broker: Broker) -> None:
    """What is older than a topic's retention is gone within seconds, as nowhere in mocks."""
    topic = kafka_broker.topic(retention_ms="1000", segment_ms="1000")
    send(kafka_broker, topic, [b"old"])
    wait_until(lambda: values(kafka_broker, topic) == [])
    send(kafka_broker, topic, [b"new"])
    assert values(kafka_broker, topic) == [b"new"]


def test_compaction_keeps_the_newest(kafka_broker: Broker) -> None:
    """A compacted topic loses older messages of a key."""
    topic = kafka_broker.topic(
        cleanup_policy="compact",
        segment_ms="1000",
        max_compaction_lag_ms="1000",
        min_cleanable_dirty_ratio="0.01",
    )
    for number in range(3):
        send(kafka_broker, topic, [b"%d" % number], key=b"key")

    def is_compacted() -> bool:
        # A segment that is still written to isn't compacted: a message of another key closes it.
        send(kafka_broker, topic, [b"other"], key=b"other")
        return values(kafka_broker, topic)[0] == b"2"

    wait_until(is_compacted)


def test_two_clusters_on_one_port(kafka_broker: Broker, tmp_path: Path) -> None:
    """A port that is taken is refused, with what to do."""
    port = kafka_broker.bootstrap.rpartition(":")[2]
    done = kafka.run("start", "--data", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 1
    assert done.stderr == f"broker.py: port {port} is taken; give another with --port\n"


def test_a_cluster_keeps_its_shape(kafka_broker: Broker) -> None:
    """A directory made for one node isn't started with three, nor on another port while up."""
    data = str(kafka_broker.directory)
    done = kafka.run("start", "--data", data, "--nodes", "3")
    assert "holds 1 node(s); give another --data" in done.stderr
    done = kafka.run("start", "--data", data, "--port", "1")
    assert "stop it before it gets another" in done.stderr
    done = kafka.run("stop", "--data", data, "--node", "2")
    assert done.stderr == "broker.py: --node 2: nodes are 1 to 1\n"
    assert kafka_broker.answers()


def test_no_cluster_here(tmp_path: Path) -> None:
    """A directory without a cluster is named, with what makes one."""
    for command in ("stop", "status"):
        done = kafka.run(command, "--data", str(tmp_path))
        assert done.returncode == 1
        assert f"{tmp_path} holds no cluster; broker.py start --data {tmp_path}" in done.stderr


@pytest.mark.parametrize(
    ("programs", "missing"),
    [((), "java is missing; install Java 17"), (("java",), "mvn is missing; install Maven")],
)
def test_missing_programs_are_named(
    tmp_path: Path, programs: tuple[str, ...], missing: str
) -> None:
    """Without Java, or without Maven and jars, one line says what to install."""
    for name in programs:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": str(tmp_path), "JAVA_HOME": "", "KAFKA_CACHE": str(tmp_path / "cache")}
    done = kafka.run("start", "--data", str(tmp_path / "data"), env=env)
    assert done.returncode == 1
    assert done.stderr.startswith(f"broker.py: {missing}")
    assert done.stderr.count("\n") == 1


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    """What Maven says is told in a line, and the cache stays empty."""
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[INFO] x'\necho '[ERROR] no network today'\nexit 1\n")
    maven.chmod(0o755)
    cache = tmp_path / "cache"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "KAFKA_CACHE": str(cache)}
    done = kafka.run("resolve", env=env)
    assert done.returncode == 1
    assert done.stderr.endswith(": no network today\n")
    assert list(cache.iterdir()) == []


def test_a_broker_that_fails_says_why(tmp_path: Path) -> None:
    """A node that ends at its start gives the last error of its log, not a timeout."""
    port = kafka.free_port(1)
    data = tmp_path / "data"
    formatted = data / "node-1" / "data" / "meta.properties"
    formatted.parent.mkdir(parents=True)
    formatted.write_text("version=1\nnode.id=7\ncluster.id=another\n")
    done = kafka.run("start", "--data", str(data), "--port", str(port))
    assert done.returncode == 1
    assert "broker.py: node 1 ended: " in done.stderr
    assert "Stored node id 7 doesn't match" in done.stderr
    assert str(data / "node-1" / "broker.log") in done.stderr


@pytest.mark.slow
def test_three_nodes_go_on_with_two(kafka_cluster: Callable[[], Broker]) -> None:
    """With one of three nodes killed nothing is lost and writing goes on; it may come back."""
    cluster = kafka_cluster()
    topic = cluster.topic(partitions=3)
    first = [b"%d" % number for number in range(101)]
    send(cluster, topic, first)
    cluster.kill(2)
    wait_until(lambda: not cluster.answers())
    second = [b"%d" % number for number in range(101, 211)]
    send(cluster, topic, second)
    assert sorted(values(cluster, topic)) == sorted(first + second)
    cluster.start(2)
    cluster.stop(1)
    send(cluster, topic, [b"last"])
    assert sorted(values(cluster, topic)) == sorted([*first, *second, b"last"])
