"""Apache Kafka itself, started and stopped by ``deploy/kafka/broker.py``."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SCRIPT = Path(__file__).parents[2] / "deploy" / "kafka" / "broker.py"

_numbers = itertools.count(1)


def script() -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("netspectra_broker", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look it up
    spec.loader.exec_module(module)
    return module


def no_kafka() -> str | None:
    """Look for Java, and for the broker's jars or Maven to fetch them."""
    broker = script()
    try:
        broker.java()
        if not broker.resolved():
            broker.tool("mvn", "Maven (Debian: apt-get install maven)")
    except SystemExit as missing:
        return str(missing)
    return None


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=240,
        check=False,
    )


def free_port(nodes: int) -> int:
    """The first of so many ports in a row as a cluster needs, off the kernel's own range."""
    is_free = script().is_free
    for _ in range(100):
        first = random.SystemRandom().randrange(20_000, 30_000)
        if all(is_free(first + n) for n in range(2 * nodes)):
            return first
    raise RuntimeError("no free ports from 20000 to 30000")


class Broker:
    """A cluster in a directory of its own, on free ports.

    Attributes:
        bootstrap: addresses for clients.
        started: what the script said about the last start, with the time it took.
    """

    def __init__(self, directory: Path, nodes: int = 1) -> None:
        self.directory = directory
        port = free_port(nodes)
        self.bootstrap = ",".join(f"127.0.0.1:{port + n}" for n in range(nodes))
        self._first = ["--nodes", str(nodes), "--port", str(port)]
        self.started = ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, node: int | None = None) -> None:
        """Start what doesn't run and wait until it answers."""
        self.started = self._do("start", node, self._first).strip()

    def stop(self, node: int | None = None) -> None:
        """End with SIGTERM and wait for it."""
        self._do("stop", node)

    def pid(self, node: int = 1) -> int:
        """Number of a node's process."""
        return int((self.directory / f"node-{node}" / "pid").read_text())

    def kill(self, node: int = 1) -> None:
        """End with SIGKILL, and wait until its port is free again."""
        os.kill(self.pid(node), signal.SIGKILL)
        port = int(self.bootstrap.split(",")[node - 1].rpartition(":")[2])
        wait_until(lambda: script().is_free(port))

    def pause(self, node: int = 1) -> None:
        """Stop the process where it is; its connections stay open."""
        os.kill(self.pid(node), signal.SIGSTOP)

    def resume(self, node: int = 1) -> None:
        """Go on after a pause."""
        os.kill(self.pid(node), signal.SIGCONT)

    def answers(self) -> bool:
        """Whether all nodes do."""
        return run("status", "--data", str(self.directory)).returncode == 0

    def _do(self, command: str, node: int | None, more: list[str] | None = None) -> str:
        which = [] if node is None else ["--node", str(node)]
        done = run(command, "--data", str(self.directory), *which, *(more or []))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def name(self) -> str:
        """A topic's name that nobody else has."""
        return f"test-{os.getpid()}-{next(_numbers)}"

    def topic(self, partitions: int = 1, replicas: int = -1, **config: str) -> str:
        """Make a topic, dots of its settings written as ``_``; returns its name."""
        name = self.name()
        settings = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, partitions, replicas, config=settings)
        admin = self.admin()
        admin.create_topics([new])[name].result(30)
        wait_until(lambda: self._has_leaders(admin, name, partitions))
        return name

    def _has_leaders(self, admin: AdminClient, name: str, partitions: int) -> bool:
        found = admin.list_topics(timeout=10).topics.get(name)
        return (
            found is not None
            and len(found.partitions) == partitions
            and all(partition.leader >= 0 for partition in found.partitions.values())
        )

    def messages(self, topic: str) -> list[Any]:
        """All messages of a topic, by partition and offset, as librdkafka gives them."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "test-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
            found, ended, deadline = [], set(), time.monotonic() + 60
            while len(ended) < len(partitions):
                assert time.monotonic() < deadline, f"{topic}: no end within 60 s"
                for message in consumer.consume(500, 0.2):
                    if message.error() is None:
                        found.append(message)
                    elif message.error().code() == KafkaError._PARTITION_EOF:
                        ended.add(message.partition())
        finally:
            consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))


def wait_until(is_true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
