"""The main job on a real broker: traffic of probes into a topic, and runs as processes.

Run as a script, this is ``python -m bytewax.run flows.main`` that kills itself where
``JOB_KILL`` says (``insert before flows 5``: instead of the fifth insert into flows; counted from
when the file ``JOB_ARMED`` is there, if one is named), and stops by itself when all there is has
been read (``JOB_ENDS``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

SECOND: Final = 10**9
ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = (sys.executable, str(Path(__file__).resolve()))


class Kill:
    """Ends the process with SIGKILL at the n-th time that it gets to a place."""

    def __init__(self, where: str, armed: str = "") -> None:
        self._armed = Path(armed) if armed else None
        *place, left = where.split() or ["", "0"]
        self._place, self._left = " ".join(place), int(left)
        self._lock = threading.Lock()

    def at(self, place: str) -> None:
        if place != self._place or (self._armed is not None and not self._armed.exists()):
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                with Path(os.environ["JOB_HITS"]).open("a") as hits:
                    hits.write(f"{place}\n")
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Wrap what the kills hit, then run the job as bytewax's own runner does."""
    import runpy

    from flows.operators.detect import _RuleLogic
    from flows.operators.horizons import _HorizonLogic
    from flows.sources.kafka import KafkaLog
    from flows.sources.partitions import LogPartition
    from flows.storage.store import Store
    from flows.windows.partition import PartitionAccumulator

    kill = Kill(os.environ.get("JOB_KILL", ""), os.environ.get("JOB_ARMED", ""))

    def wrap(owner: type, name: str, place: str) -> None:
        inner = getattr(owner, name)

        def hooked(self: Any, *arguments: Any, **named: Any) -> Any:
            what = f" {arguments[0]}" if place == "insert" else ""
            kill.at(f"{place} before{what}")
            result = inner(self, *arguments, **named)
            kill.at(f"{place} after{what}")
            return result

        setattr(owner, name, hooked)

    wrap(Store, "insert_once", "insert")
    wrap(LogPartition, "snapshot", "snapshot")
    wrap(_HorizonLogic, "snapshot", "horizons")
    wrap(_RuleLogic, "snapshot", "detect")
    wrap(PartitionAccumulator, "_close", "close")
    if "JOB_ENDS" in os.environ:
        _stop_at_the_end(KafkaLog, int(os.environ["JOB_ENDS"]))
    sys.argv = ["bytewax.run", "flows.main", *sys.argv[1:]]
    runpy.run_module("bytewax.run", run_name="__main__", alter_sys=True)


def _stop_at_the_end(log: type, partitions: int) -> None:
    """SIGTERM when each partition's end was seen, and there is nothing behind it."""
    ends: dict[str, bool] = {}
    inner, lock = log.read_message, threading.Lock()  # type: ignore[attr-defined]

    def read(self: Any, accumulator: Any) -> Any:
        more = inner(self, accumulator)
        place = self._pace._places[self._name]
        with lock:
            ends[self._name] = place.caught_up
            if len(ends) == partitions and all(ends.values()):
                ends.clear()
                os.kill(os.getpid(), signal.SIGTERM)
        return more

    log.read_message = read  # type: ignore[attr-defined]


@dataclass
class KafkaJob:
    """Runs of the job on one topic, with one store.

    Attributes:
        broker: where the topic is.
        topic: of packets.
        directory: of the store, the recovery files and the working directory.
        settings: further ones, as ``WINDOW__PANE``.
    """

    broker: Any
    topic: str
    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    partitions: int = 6

    def __post_init__(self) -> None:
        self.group = f"g-{self.topic}-{self.directory.name}"
        self.dlq = f"dlq-{self.topic}"
        self.store = self.directory / "store"
        self.recovery = self.directory / "recovery"
        self.hits = self.directory / "hits"
        self.directory.mkdir(parents=True, exist_ok=True)

    def environment(self, **more: str) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("NETSPECTRA_")}
        wanted = {
            "SOURCE": "kafka",
            "STORE": f"chdb:{self.store}",
            "KAFKA__BROKERS": self.broker.bootstrap,
            "KAFKA__GROUP": self.group,
            "KAFKA__TOPICS__PACKETS": self.topic,
            "KAFKA__TOPICS__DLQ": self.dlq,
            **self.settings,
        }
        named = {f"NETSPECTRA_{name}": value for name, value in wanted.items()}
        return {**keep, **named, "PYTHONPATH": str(ROOT), "JOB_HITS": str(self.hits), **more}

    def start(
        self,
        *,
        program: Sequence[str] = (sys.executable, "-m", "bytewax.run", "flows.main"),
        workers: int = 1,
        recover: bool = True,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Start a run, by default exactly as the README says."""
        options = ["-w", str(workers)]
        if recover:
            options += ["-r", str(self.recovery), "-s", "1", "-b", "0"]
        return subprocess.Popen(
            [*program, *options],
            cwd=self.directory,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *, seconds: float = 240, **options: Any) -> tuple[int, str, str]:
        """A run to its end: exit code, stdout and stderr."""
        process = self.start(**options)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"no end within {seconds} s:\n{out}\n{err}") from None
        return process.returncode, out, err

    def finish(self, code: int = 0, **options: Any) -> tuple[str, str]:
        """Read all there is and stop cleanly, with this exit code; stdout and stderr."""
        ended, out, err = self.run(program=SCRIPT, JOB_ENDS=str(self.partitions), **options)
        assert ended == code, err
        return out, err

    def kill(self, where: str, **options: Any) -> bool:
        """A run that is killed there; whether it got there, else it has read all there is."""
        before = self.counted().get(where.rpartition(" ")[0], 0)
        code, _, err = self.run(
            program=SCRIPT, JOB_KILL=where, JOB_ENDS=str(self.partitions), **options
        )
        hit = self.counted().get(where.rpartition(" ")[0], 0) == before + 1
        assert code == (-signal.SIGKILL if hit else 0), err
        return hit

    def counted(self) -> dict[str, int]:
        """How often a kill hit, by place."""
        lines = self.hits.read_text().splitlines() if self.hits.exists() else []
        return {line: lines.count(line) for line in lines}

    def committed(self) -> dict[int, int]:
        """Offsets that the group is at."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": self.group})
        try:
            places = [TopicPartition(self.topic, n) for n in range(self.partitions)]
            return {at.partition: at.offset for at in consumer.committed(places, timeout=20)}
        except KafkaException:
            return {}  # a broker that has just come back looks for its groups first
        finally:
            consumer.close()


@dataclass
class Sent:
    """A message that is to be produced."""

    partition: int
    value: bytes


def produce(broker: Any, topic: str, messages: Sequence[Sent]) -> dict[int, int]:
    """Write messages in order; the offset behind the last one by partition."""
    from confluent_kafka import Producer

    producer = Producer(
        {"bootstrap.servers": broker.bootstrap, "acks": "all", "enable.idempotence": True}
    )
    ends: dict[int, int] = {}

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        ends[message.partition()] = max(ends.get(message.partition(), 0), message.offset() + 1)

    for each in messages:
        producer.produce(topic, each.value, partition=each.partition, on_delivery=delivered)
        producer.poll(0)
    assert producer.flush(60) == 0
    return ends


def probe_messages(
    packets: Any,
    name: str,
    partitions: int,
    *,
    starts: Sequence[int] = (0,),
    step_ns: int = SECOND,
    tenant: str = "t",
) -> Iterator[tuple[int, list[Sent]]]:
    """A probe's messages in the order of ``packets``, with the time at which they are sent.

    Args:
        packets: as they are read; not all in order of their times.
        name: of the probe.
        partitions: of the topic.
        starts: packets before which the probe says goodbye and starts again; first 0.
        step_ns: event time after which all partitions get a message.
        tenant: whose they are.
    """
    from probe.live import CaptureCounts
    from probe.ship.batcher import Batcher

    clock_ns = np.maximum.accumulate(packets["ts_ns"]).astype(np.int64)
    for boot, first in enumerate(starts):
        last = starts[boot + 1] if boot + 1 < len(starts) else len(packets)
        batcher = Batcher(
            partitions=partitions, tenant=tenant, probe=name, boot_id=bytes([boot] * 16)
        )
        steps = clock_ns[first:last] // step_ns
        cuts = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), last - first]
        for start, end in pairwise(cuts):
            part = np.ascontiguousarray(packets[first + start : first + end])
            # The probe's promise is broken by packets that are late.
            now_ns = (int(steps[start]) + 1) * step_ns
            goodbye = end == cuts[-1]
            times = {"emit_time_ns": now_ns, "watermark_ns": now_ns}
            full = batcher.add(part, **times)
            counts = CaptureCounts(seen=end, dropped={})
            cut = batcher.cut(**times, counts=counts, goodbye=goodbye)
            yield now_ns, [Sent(message.partition, message.value) for message in [*full, *cut]]


def in_time(*probes: Iterator[tuple[int, list[Sent]]]) -> list[Sent]:
    """Messages of several probes as they are sent side by side."""
    steps = sorted((step for probe in probes for step in probe), key=lambda step: step[0])
    return [message for _, messages in steps for message in messages]


if __name__ == "__main__":
    main()
