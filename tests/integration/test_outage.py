"""Kafka goes away under a steady load and comes back: every packet is accounted for.

The agent runs in a process of its own, so that its memory is its own, and is stopped like any
probe. What arrived is read back from the broker and held against what the capture counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.kafka.continuity import Continuity, total
from probe.live import CaptureOptions
from probe.ship.agent import Agent
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.synthetic import Traffic
from schemas.batch import decode_batch
from tests.support.kafka import Broker, wait_until
from tests.support.namespaces import DEVICE, counters, inside, pair, send
from tests.support.synthetic_capture import SyntheticCapture

pytestmark = pytest.mark.requires("kafka")

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
QUEUE_BYTES = 8_000_000
PACKETS_PER_SECOND = 50_000
RING_BYTES = 2 * 2**20
ALLOWANCE_BYTES = 48 * 2**20
"""What may come on top of the queue: librdkafka's copies of requests, the allocator's slack."""

FLAT_BYTES = 2 * 2**20


def probe(brokers: str, topic: str, namespace: str) -> None:
    """Ship until SIGTERM, say every 100 ms how it goes, and at the end what was counted."""
    if namespace:
        from probe.choose import open_capture

        with inside(namespace):
            options = CaptureOptions(interfaces=(DEVICE,), ring_bytes=RING_BYTES)
            capture: Any = open_capture(options)
    else:
        traffic = Traffic(profile="zipf", skew=0.0, packets=10**9, active_flows=5_000)
        capture = SyntheticCapture(traffic, PACKETS_PER_SECOND, RING_BYTES // 96)
    shipper = KafkaShipper(KafkaOptions(brokers=brokers, topic=topic, queue_bytes=QUEUE_BYTES))
    batcher = Batcher(partitions=shipper.partitions, tenant="t", probe="p", boot_id=os.urandom(16))
    agent = Agent(capture, shipper, batcher)
    signal.signal(signal.SIGTERM, lambda *_: agent.stop())

    def tell() -> None:
        while not done.wait(0.1):
            status = agent.status
            say(delivered=status.packets_delivered, queue=status.queue_bytes, paused=status.paused)

    done = threading.Event()
    teller = threading.Thread(target=tell)
    teller.start()
    clean = agent.run(stop_timeout_s=60)
    done.set()
    teller.join()
    counts = capture.counts()
    capture.close()
    say(clean=clean, point=capture.point.name, seen=counts.seen, dropped=dict(counts.dropped))


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


class Probe:
    """The process, and what it says."""

    def __init__(self, broker: Broker, topic: str, namespace: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, broker.bootstrap, topic, namespace],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.said: list[dict[str, Any]] = [{"delivered": 0, "queue": 0, "paused": False}]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        self.said.extend(json.loads(line) for line in self.process.stdout)

    @property
    def last(self) -> dict[str, Any]:
        return self.said[-1]

    def memory_bytes(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def until_delivered(self, more: int) -> None:
        wanted = self.last["delivered"] + more
        wait_until(lambda: self.last["delivered"] >= wanted)

    def end(self) -> dict[str, Any]:
        self.process.terminate()
        assert self.process.wait(90) == 0
        self._reader.join()
        return self.last

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


@contextlib.contextmanager
def load(capture: str) -> Iterator[tuple[str, Any]]:
    """The namespace to capture in, and what counts the packets that were sent into it."""
    if capture == "synthetic":
        yield "", None
        return
    frame = (
        bytes.fromhex("027700000002027700000001")
        + bytes.fromhex("0800450000200000400040110000")
        + bytes([10, 77, 0, 1, 10, 77, 0, 2])
        + bytes.fromhex("04d2162e000c0000")
        + bytes(4)
    )
    with pair() as (left, right):
        stop = threading.Event()

        def send_steadily() -> None:
            begun, sent = time.monotonic(), 0
            while not stop.wait(0.005):
                due = int((time.monotonic() - begun) * PACKETS_PER_SECOND) - sent
                sent += send(left.name, [frame] * min(due, 2000))

        sender = threading.Thread(target=send_steadily)

        def finish() -> int:
            stop.set()
            sender.join()
            return counters(right.name).rx_packets - before

        before = counters(right.name).rx_packets
        try:
            yield right.name, (sender.start, finish)
        finally:
            stop.set()
            if sender.ident:
                sender.join()


LIVE = (pytest.mark.slow, pytest.mark.requires("netns", "packet_socket"))


@pytest.mark.parametrize(
    ("capture", "outage_s"), [("synthetic", 5), pytest.param("live", 20, marks=LIVE)]
)
def test_an_outage_costs_only_what_is_counted(
    kafka_broker: Broker, capture: str, outage_s: float
) -> None:
    """Arrived + dropped == seen to the packet, no gap, no repeat, memory bounded by the queue."""
    topic = kafka_broker.topic(PARTITIONS)
    with load(capture) as (namespace, traffic):
        probe = Probe(kafka_broker, topic, namespace)
        try:
            wait_until(lambda: len(probe.said) > 1)
            if traffic:
                traffic[0]()
            probe.until_delivered(3 * PACKETS_PER_SECOND)
            before_bytes = probe.memory_bytes()

            kafka_broker.stop()
            down = time.monotonic()
            wait_until(lambda: bool(probe.last["paused"]))
            full_bytes = probe.memory_bytes()
            time.sleep(max(down + outage_s - time.monotonic(), 0))
            still_bytes = probe.memory_bytes()
            assert probe.last["paused"]
            at_rest = probe.last["delivered"]

            kafka_broker.start()
            wait_until(lambda: not probe.last["paused"])
            probe.until_delivered(3 * PACKETS_PER_SECOND)
            after_bytes = probe.memory_bytes()
            assert probe.last["delivered"] > at_rest
            sent = traffic[1]() if traffic else None
            counted = probe.end()
        finally:
            probe.kill()

    assert counted["clean"] is True
    assert max(said["queue"] for said in probe.said if "queue" in said) < 2 * QUEUE_BYTES
    assert still_bytes - full_bytes < FLAT_BYTES
    for bytes_ in (full_bytes, after_bytes):
        assert bytes_ - before_bytes < QUEUE_BYTES + ALLOWANCE_BYTES

    continuity = Continuity()
    arrived = 0
    for message in kafka_broker.messages(topic):
        header, packets = decode_batch(message.value())
        finding = continuity.note(header, packets)
        assert (finding.repeated, finding.missing_batches, finding.missing_packets) == (False, 0, 0)
        arrived += total(packets)
    dropped = sum(counted["dropped"].values())
    assert dropped > PACKETS_PER_SECOND // 2  # or the outage was none
    assert arrived + dropped == counted["seen"]
    assert sent is None or sent == counted["seen"]
    print(
        f"{capture} ({counted['point']}), {outage_s} s: seen {counted['seen']}, "
        f"arrived {arrived}, dropped {dropped}, "
        "memory before, with the queue full, before the restart, afterwards: "
        + ", ".join(f"{n / 1e6:.1f}" for n in (before_bytes, full_bytes, still_bytes, after_bytes))
        + " MB"
    )


if __name__ == "__main__":
    probe(*sys.argv[1:])
