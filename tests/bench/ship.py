"""What shipping costs: ``python -m tests.bench.ship`` (from the repository).

First the batcher alone, against copying the same records once; then the whole loop at given
rates, from a capture that only copies, to librdkafka's mock cluster in another process, or to
``--brokers``. CPU is of one core, of the probe's process, librdkafka's threads and compression
included; ``loop`` is the thread of the loop alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from probe.live import CaptureCounts
from probe.ship.agent import Agent
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.synthetic import Traffic
from schemas.record import PACKET, CapturePoint, Packets, as_words
from tests.support.mock_kafka import MockKafka

TOPIC = "netspectra.packets"
PARTITIONS = 12
POOL = 1 << 20


class PoolCapture:
    """The same records again and again, at a rate of the clock."""

    point = CapturePoint.SYNTHETIC
    choices = ()
    interfaces = {1: "eth0"}  # noqa: RUF012
    sampling_rate = 1
    aggregated = False

    def __init__(self, pool: Packets, rate: float) -> None:
        self._pool = as_words(pool)
        self._rate = rate
        self._read = 0
        self._start_s = time.monotonic()
        self._end_s: float | None = None

    def _due(self) -> int:
        return int(((self._end_s or time.monotonic()) - self._start_s) * self._rate)

    def read(self, out: Packets) -> int:
        start = self._read % len(self._pool)
        count = min(self._due() - self._read, len(out), len(self._pool) - start)
        as_words(out)[:count] = self._pool[start : start + count]
        self._read += count
        return count

    def watermark_ns(self) -> int:
        return time.time_ns()

    def counts(self) -> CaptureCounts:
        return CaptureCounts(self._due())

    def detach(self) -> None:
        self._end_s = self._end_s or time.monotonic()

    def close(self) -> None:
        self.detach()


def batcher() -> Batcher:
    return Batcher(partitions=PARTITIONS, tenant="default", probe="bench", boot_id=bytes(16))


def best_ns(what: Callable[[], object], packets: int, rounds: int = 5) -> float:
    what()
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        what()
        times.append(time.perf_counter_ns() - start)
    return min(times) / packets


def measure_batcher(pool: Packets, size: int) -> tuple[float, float]:
    """Nanoseconds a packet: batcher with encoding, and one plain copy."""
    made, out = batcher(), as_words(np.empty(size, PACKET))
    parts = [pool[i : i + size] for i in range(0, len(pool), size)]

    def batch() -> None:
        for part in parts:
            made.add(part, emit_time_ns=1, watermark_ns=1)

    def copy() -> None:
        for part in parts:
            out[: len(part)] = as_words(part)

    return best_ns(batch, len(pool)), best_ns(copy, len(pool))


def measure_loop(brokers: str, pool: Packets, rate: float, seconds: float) -> dict[str, float]:
    shipper = KafkaShipper(KafkaOptions(brokers=brokers, topic=TOPIC))
    agent = Agent(PoolCapture(pool, rate), shipper, batcher())  # type: ignore[arg-type]
    loop_s: list[float] = []

    def run() -> None:
        begin_s = time.thread_time()
        agent.run()
        loop_s.append(time.thread_time() - begin_s)

    thread = threading.Thread(target=run)
    start_s, cpu_s = time.monotonic(), time.process_time()
    thread.start()
    time.sleep(seconds)
    agent.stop()
    thread.join()
    elapsed_s, used_s = time.monotonic() - start_s, time.process_time() - cpu_s
    status = agent.status
    if status.counts.seen != status.packets_delivered:
        sys.exit("seen isn't delivered")
    return {
        "rate": status.packets_delivered / elapsed_s,
        "messages/s": shipper.delivered_messages / elapsed_s,
        "cpu": used_s / elapsed_s,
        "loop": loop_s[0] / elapsed_s,
        "cpu_ns/packet": used_s / status.packets_delivered * 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, action="append")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--brokers")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with MockKafka() as kafka:
            kafka.create(TOPIC, PARTITIONS)
            print(kafka.brokers, flush=True)
            sys.stdin.read()
        return
    pool = Traffic(profile="zipf", packets=POOL).batch(0, POOL)
    for size in (1_000, 16_384):
        batch_ns, copy_ns = measure_batcher(pool, size)
        print(
            f"reads of {size} records: batcher {batch_ns:.1f} ns/packet, one copy {copy_ns:.1f}, "
            f"ratio {batch_ns / copy_ns:.1f}"
        )
    command = [sys.executable, "-m", "tests.bench.ship", "--serve"]
    with subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        brokers = arguments.brokers or server.stdout.readline().strip()
        for rate in arguments.rate or [1e5, 5e5, 2e6]:
            result = measure_loop(brokers, pool, rate, arguments.seconds)
            print("  ".join(f"{name}={value:.3g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
