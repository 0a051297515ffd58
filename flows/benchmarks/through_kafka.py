"""From Kafka to ClickHouse: how fast the whole job reads a topic that is full already.

Batches are encoded and sent beforehand, so what is timed is the job: fetch, decode, aggregate,
all default tasks, the embedded store. The broker runs beside it on the same machine.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from flows.benchmarks import fresh
from flows.errors import NetSpectraError
from flows.kafka.client import Cluster
from flows.kafka.topics import Plan, create
from flows.settings.model import Kafka
from flows.storage.reader import open_for_reading
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.synthetic import Traffic
from schemas.record import PACKET


@dataclass(frozen=True)
class Run:
    """What one run of the job took.

    Attributes:
        packets: stored while the clock ran.
        stored: packets in the store at the end, by ``commits``.
        wall_s: from the first look that found something stored to the last.
        cpu_s: CPU seconds of all processes in that time.
        peak_bytes: most memory that one process held, resident.
        workers: worker threads of each process.
        processes: how many.
    """

    packets: int
    stored: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    workers: int
    processes: int


_FIRST_PORT: Final = 22_101
_LOOK_EVERY_S: Final = 0.5


@contextlib.contextmanager
def filled(brokers: str, packets: int, **traffic: Any) -> Iterator[str]:
    """A topic with synthetic traffic, as ``fill`` makes it; removed afterwards."""
    topic = fill(brokers, packets, **traffic)
    try:
        yield topic
    finally:
        cluster = Cluster(Kafka(brokers=brokers))
        cluster.admin.delete_topics([topic])[topic].result(30)


def fill(brokers: str, packets: int, *, partitions: int, active_flows: int, rate: float) -> str:
    """Send synthetic traffic to a new topic; returns its name.

    Args:
        brokers: of Kafka.
        packets: how many.
        partitions: of the topic.
        active_flows: flows to draw from, by Zipf's law with exponent 0.8.
        rate: packets per second of event time.
    """
    topic = f"netspectra.bench.{time.time_ns():x}"
    create(Cluster(Kafka(brokers=brokers)), [Plan(topic, partitions, {})])
    traffic = Traffic(
        profile="zipf",
        packets=packets,
        packets_per_second=rate,
        active_flows=active_flows,
        skew=0.8,
        # It ends now: sent faster than it says, it would otherwise come from the future.
        start_ns=(time.time_ns() // 10**9 - int(packets / rate)) * 10**9,
    )
    batcher = Batcher(partitions=partitions, tenant="bench", probe="bench", boot_id=os.urandom(16))
    shipper = KafkaShipper(KafkaOptions(brokers=brokers, topic=topic))
    buffer = np.empty(65_536, PACKET)
    next_cut_ns = 0
    for first in range(0, packets, len(buffer)):
        part = buffer[: min(len(buffer), packets - first)]
        traffic.fill(first, part)
        now_ns = int(part["ts_ns"][-1])
        messages = batcher.add(part, emit_time_ns=now_ns, watermark_ns=now_ns)
        if now_ns >= next_cut_ns:
            messages += batcher.cut(emit_time_ns=now_ns, watermark_ns=now_ns, counts=None)
            next_cut_ns = now_ns + 200_000_000
        for message in messages:
            shipper.ship(message)
        while not shipper.room:
            shipper.poll(0.01)
    for message in batcher.cut(emit_time_ns=now_ns, watermark_ns=now_ns, counts=None, goodbye=True):
        shipper.ship(message)
    left = shipper.close(120)
    if left.packets:
        msg = f"{left.packets} packets could not be sent to {brokers}"
        raise NetSpectraError(msg)
    return topic


def read(
    brokers: str,
    topic: str,
    packets: int,
    *,
    workers: int = 1,
    processes: int = 1,
    store: str | None = None,
    during: Callable[[Sequence[int], int], None] = lambda pids, stored: None,
    after: Callable[[str], None] = lambda store: None,
) -> Run:
    """Run the job over the topic until all of it is stored.

    Without a store that they share, several processes have one each, since an embedded one has
    one owner: the rows are what a server would get.

    Args:
        brokers: of Kafka.
        topic: filled already.
        packets: in it.
        workers: threads of each process.
        processes: of a bytewax cluster on this machine.
        store: of all processes, empty; its own CPU time isn't the job's.
        during: called every half second with the processes' ids and the packets stored.
        after: called with the (first) store when everything is stored and the jobs still run.
    """
    with tempfile.TemporaryDirectory() as directory:
        errors = Path(directory) / "stderr"
        own = [f"chdb:{Path(directory) / str(number)}" for number in range(processes)]
        stores = own if store is None else [store]
        jobs = [
            _start(brokers, topic, stores[number % len(stores)], workers, number, processes, errors)
            for number in range(processes)
        ]
        try:
            run = _watch(jobs, stores, packets, workers, during, errors)
            after(stores[0])
            return run
        finally:
            for job in jobs:
                job.terminate()
            for job in jobs:
                job.wait(60)


def _start(
    brokers: str,
    topic: str,
    store: str,
    workers: int,
    number: int,
    processes: int,
    errors: Path,
) -> subprocess.Popen[bytes]:
    addresses = ";".join(f"127.0.0.1:{_FIRST_PORT + n}" for n in range(processes))
    cluster = ["-i", str(number), "-a", addresses] if processes > 1 else []
    settings = {
        "NETSPECTRA_SOURCE": "kafka",
        "NETSPECTRA_STORE": store,
        "NETSPECTRA_KAFKA__BROKERS": brokers,
        "NETSPECTRA_KAFKA__TOPICS__PACKETS": topic,
        "NETSPECTRA_LOG__LEVEL": "error",
    }
    with errors.open("ab") as stderr:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "bytewax.run", "flows.main", "-w", str(workers), *cluster],
            env={**fresh.environment(), **settings},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def _watch(
    jobs: Sequence[subprocess.Popen[bytes]],
    stores: Sequence[str],
    packets: int,
    workers: int,
    during: Callable[[Sequence[int], int], None],
    errors: Path,
) -> Run:
    """The clock runs from the first unit that is seen stored to the last one."""
    start: tuple[int, float, float] | None = None
    while True:
        if any(job.poll() is not None for job in jobs):
            lines = errors.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            msg = f"the job ended before everything was stored: {lines[-1]}"
            raise NetSpectraError(msg)
        stored = sum(map(_stored, stores))
        now = (stored, time.monotonic(), sum(cpu_s(job.pid) for job in jobs))
        during([job.pid for job in jobs], stored)
        if start is None and stored:
            start = now
        if start is not None and stored >= packets:
            peak = max(_peak_bytes(job.pid) for job in jobs)
            wall_s, taken_s = now[1] - start[1], now[2] - start[2]
            return Run(stored - start[0], stored, wall_s, taken_s, peak, workers, len(jobs))
        time.sleep(_LOOK_EVERY_S)


def _stored(store: str) -> int:
    try:
        with open_for_reading(store) as reader:
            return int(reader.query_text("SELECT sum(packets) FROM commits", "TSV"))
    except NetSpectraError:
        return 0  # not there yet


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(x.split()[1]) * 1024 for x in status.splitlines() if x.startswith("VmHWM"))


def text(run: Run) -> str:
    """One line for people."""
    return (
        f"{run.processes} process(es) of {run.workers} worker(s): "
        f"{run.packets / run.wall_s / 1e6:.2f} M packets/s, "
        f"{run.packets / run.cpu_s / 1e6:.2f} M per CPU s, peak {run.peak_bytes / 1e9:.2f} GB, "
        f"{run.stored:,} stored"
    )
