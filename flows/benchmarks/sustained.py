"""Minutes at full speed from Kafka to the store: what is behind, how memory goes, what limits it.

The topic is full before the clock runs, so the producer takes nothing from the job; what it took
is told apart. Lag is what is left in the topic.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from flows.benchmarks import through_kafka
from flows.storage.reader import open_for_reading

PACKETS_PER_SECOND: Final = 2_200_000
"""As fast as two cores were seen to read: so many packets are sent for each second asked for."""

_WARM_S: Final = 60.0
"""Memory of a start and of the first horizons is no slope."""


class Sample(NamedTuple):
    """What was seen at one moment; CPU in seconds since each process began."""

    at_s: float
    stored: int
    job_cpu_s: float
    broker_cpu_s: float
    machine_cpu_s: float
    resident_bytes: int


@dataclass(frozen=True)
class Sustained:
    """What a run showed.

    Attributes:
        packets: sent.
        sending_s: how long that took.
        producer_cpu_s: CPU seconds of encoding, compressing and sending.
        run: as a short one is measured.
        samples: every half second, from the first on in which something was stored.
        ledger: by hop: seen, delivered, dropped.
    """

    packets: int
    sending_s: float
    producer_cpu_s: float
    run: through_kafka.Run
    samples: Sequence[Sample]
    ledger: dict[str, tuple[int, int, int]]


def measure(
    brokers: str,
    minutes: float,
    *,
    partitions: int,
    active_flows: int,
    workers: int,
    rate: float = 1.5e6,
) -> Sustained:
    """Fill a topic for so many minutes, and read it to its end.

    Args:
        brokers: of Kafka; the CPU of one on this machine is counted.
        minutes: that reading is to take.
        partitions: of the topic.
        active_flows: in the traffic.
        workers: threads of the job.
        rate: packets per second of event time.
    """
    packets = int(minutes * 60 * PACKETS_PER_SECOND)
    broker_pid = _listener(int(brokers.split(",")[0].rpartition(":")[2]))
    samples: list[Sample] = []
    ledger: dict[str, tuple[int, int, int]] = {}

    def note(pids: Sequence[int], stored: int) -> None:
        if stored:
            samples.append(
                Sample(
                    time.monotonic(),
                    stored,
                    sum(map(through_kafka.cpu_s, pids)),
                    through_kafka.cpu_s(broker_pid) if broker_pid else 0.0,
                    _machine_cpu_s(),
                    sum(map(_resident_bytes, pids)),
                )
            )

    start_s, start_cpu_s = time.monotonic(), time.process_time()
    with through_kafka.filled(
        brokers, packets, partitions=partitions, active_flows=active_flows, rate=rate
    ) as topic:
        sending_s, cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
        run = through_kafka.read(
            brokers, topic, packets, workers=workers,
            during=note, after=lambda store: ledger.update(_ledger(store)),
        )  # fmt: skip
    return Sustained(packets, sending_s, cpu_s, run, samples, ledger)


def text(found: Sustained) -> Iterator[str]:
    """Lines for people."""
    first, last = found.samples[0], found.samples[-1]
    wall_s = last.at_s - first.at_s
    yield (
        f"sent beforehand: {found.packets:,} packets in {found.sending_s:,.0f} s, "
        f"{found.packets / found.producer_cpu_s / 1e6:.1f} M per CPU s of the producer"
    )
    yield f"read for {wall_s:,.0f} s: {through_kafka.text(found.run)}"
    rates = [(b.stored - a.stored) / (b.at_s - a.at_s) / 1e6 for a, b in _minutes(found.samples)]
    yield "each minute, M packets/s: " + ", ".join(f"{rate:.2f}" for rate in rates)
    lags = [(found.packets - sample.stored) / 1e6 for _, sample in _minutes(found.samples)]
    yield "left in the topic at its end, M packets: " + ", ".join(f"{lag:.0f}" for lag in lags)
    yield "memory: " + _memory(found.samples)
    cores = os.cpu_count() or 1
    machine_s = last.machine_cpu_s - first.machine_cpu_s
    job_s, broker_s = last.job_cpu_s - first.job_cpu_s, last.broker_cpu_s - first.broker_cpu_s
    yield (
        f"CPU, of {cores} cores: job {job_s / wall_s:.2f}, broker {broker_s / wall_s:.2f}, "
        f"all else {(machine_s - job_s - broker_s) / wall_s:.2f}, "
        f"idle {cores - machine_s / wall_s:.2f}"
    )
    for hop, (seen, delivered, dropped) in found.ledger.items():
        yield f"ledger, {hop}: seen {seen:,}, delivered {delivered:,}, dropped {dropped:,}"


def _minutes(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    """First and last sample of each minute; the last one may be short."""
    first = samples[0]
    for before, sample in pairwise(samples):
        if sample.at_s - first.at_s >= 60:
            yield first, sample
            first = sample
        elif sample is samples[-1] and before is not first:
            yield first, sample


def _memory(samples: Sequence[Sample]) -> str:
    warm = [s for s in samples if s.at_s - samples[0].at_s >= _WARM_S] or list(samples)
    megabytes = np.array([s.resident_bytes for s in warm]) / 1e6
    minutes = np.array([s.at_s - warm[0].at_s for s in warm]) / 60
    slope = np.polyfit(minutes, megabytes, 1)[0] if len(warm) > 2 else 0.0
    return (
        f"{megabytes.min():,.0f} to {megabytes.max():,.0f} MB after the first minute, "
        f"{slope:+.1f} MB a minute"
    )


def _ledger(store: str) -> dict[str, tuple[int, int, int]]:
    sql = (
        "SELECT toString(hop), sum(seen), sum(delivered), sum(arraySum(mapValues(dropped))) "
        "FROM ledger GROUP BY hop ORDER BY hop"
    )
    with open_for_reading(store) as reader:
        rows = [line.split("\t") for line in reader.query_text(sql, "TSV").decode().splitlines()]
    return {hop: (int(seen), int(delivered), int(lost)) for hop, seen, delivered, lost in rows}


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _machine_cpu_s() -> float:
    """CPU seconds that anything has taken on this machine: all but idle and waiting for disks."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _listener(port: int) -> int | None:
    """The process of ours on this machine that listens on a TCP port, if there is one."""
    listening = "0A"
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == listening and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in sockets:
                return int(link.parts[2])
        except OSError:
            continue  # it has ended, or isn't ours to look into
    return None
