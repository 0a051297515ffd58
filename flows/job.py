"""A run of the main job: what is opened before the dataflow and closed after it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

from bytewax.dataflow import Dataflow

from flows import loads, logs, pipeline, summary
from flows.errors import UsageError
from flows.progress import Progress
from flows.settings import Settings
from flows.settings import Task as TaskSettings
from flows.sinks.store import ResultSink, StoredCounts, UnitSink
from flows.sources.logs import CaptureLog, DemoLog, PacketLog
from flows.sources.partitions import LogSource, Partition
from flows.storage.store import Store
from flows.windows.fields import FieldList
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task

INCOMPLETE: Final = 3
"""Exit code of a run whose ledger is incomplete."""

EPOCH: Final = timedelta(seconds=10)
"""How often bytewax drains the dataflow and asks for snapshots; its own default."""

_PARTITION: Final = "0"


def tasks_of(settings: tuple[TaskSettings, ...]) -> list[Task]:
    """The sketch tasks among the settings' tasks; exact ones are the flow table itself."""
    return [
        Task(
            task.name,
            task.type,
            FieldList(task.elements if task.type == "distinct" else task.key),
            top=task.top,
            lg_k=task.lg_k,
        )
        for task in settings
        if task.type in ("distinct", "frequency")
    ]


def directions_of(count: str | tuple[str, ...]) -> frozenset[int] | None:
    """Directions that tasks count; None for all.

    ``auto`` counts everything here: a capture file or a probe on one interface sees a packet
    once.
    """
    return {"ingress": frozenset({1}), "egress": frozenset({2})}.get(str(count))


class Job:
    """One run: the store, what is loaded, the dataflow, and how it ended.

    Args:
        settings: of the run.

    Raises:
        NetSpectraError: the settings can't be carried out or the store can't be opened.
        CaptureError: a capture can't be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counts = StoredCounts()
        self._log = logs.get("job")
        self._stopping = threading.Event()
        self._networks = Networks(settings.networks)
        self._tasks = tasks_of(settings.tasks)
        self._window = WindowConfig(
            pane_ns=settings.window.pane_ns,
            lateness_ns=settings.window.lateness_ns,
            max_flows=settings.window.max_flows,
            seed=settings.seed,
            directions=directions_of(settings.window.count),
        )
        self._accumulators: list[PartitionAccumulator] = []
        self._packet_log: PacketLog | None = None
        self._load: loads.Load | None = None
        self._topic = ""
        make_log = self._captures() if settings.source_kind == "pcap" else None
        if settings.source_kind not in ("pcap", "demo"):
            msg = (
                f"the source {settings.source_kind} is not part of this version: use demo or "
                "pcap:<file or glob>"
            )
            raise UsageError(msg)
        self.store = Store.open(settings.store)
        try:
            self._packet_log = make_log() if make_log else self._demo()
        except BaseException:
            self.store.close()
            raise
        self._progress = Progress()
        self._reporter = threading.Thread(target=self._report, daemon=True, name="progress")
        self._done = threading.Event()
        self._started = time.monotonic()

    def dataflow(self) -> Dataflow:
        """The dataflow of this run; call it once."""
        partitions: dict[str, Partition] = {}
        if self._packet_log is not None:
            partitions[_PARTITION] = self._partition
        source = LogSource(partitions, self._stopping.is_set)
        self._started = time.monotonic()
        self._reporter.start()
        return pipeline.build(
            source,
            UnitSink(self.store, self.counts),
            ResultSink(self.store, self._networks.names),
            tasks=self._tasks,
            horizons_ns=self.settings.window.horizons_ns,
            partitions=[f"{self._topic}/{name}" for name in partitions],
        )

    def stop(self, number: int | None = None, frame: FrameType | None = None) -> None:
        """End early and cleanly; a second Ctrl-C ends at once. Usable as a signal handler."""
        if self._stopping.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stopping.set()

    def finish(self, *, show_summary: bool) -> int:
        """Close everything, tell how it went, and return the exit code."""
        elapsed_s = time.monotonic() - self._started
        self._done.set()
        if self._reporter.is_alive():
            self._reporter.join()
        log = self._packet_log
        ended = log is None or bool(self._accumulators and self._accumulators[0].ended)
        faults = log.faults if isinstance(log, CaptureLog) else []
        try:
            if self._load is not None and self._load.topic:
                loads.record(
                    self.store,
                    self._load,
                    tenant=self.settings.tenant,
                    digest=self.settings.digest(),
                    state="finished" if ended else "incomplete",
                )
            if show_summary:
                summary.render(
                    self.store,
                    self.settings.tenant,
                    source=self.settings.source,
                    elapsed_s=elapsed_s if log is not None else None,
                    where=self.settings.store,
                )
        finally:
            self.store.close()
        for fault in faults:
            print(f"netspectra: {fault}", file=sys.stderr)
        if not ended and log is not None:
            print(f"netspectra: {self._stopped(log)}", file=sys.stderr)
        return INCOMPLETE if faults or not ended else 0

    def _stopped(self, log: PacketLog) -> str:
        stored = self.counts.packets + self.counts.skipped_packets
        waiting = log.progress.packets - stored
        again = (
            "run the same command again to go on"
            if self._load is not None
            else "demo traffic starts anew at each run"
        )
        return (
            f"stopped: {stored:,} packets are stored, {waiting:,} that were read belong to panes "
            f"still open and are not; {again}"
        )

    def _captures(self) -> Callable[[], PacketLog | None]:
        """Find the captures first, so that a wrong name costs no store."""
        from probe.capture import CaptureFile
        from probe.capture.inputs import content_id, expand

        settings = self.settings
        found: dict[Path, int] = {}
        for pattern in settings.source_paths:
            for path in expand(pattern):
                with CaptureFile(path) as file:
                    found[path.resolve()] = file.first_ts_ns or 0
        paths = sorted(found, key=lambda path: (found[path], str(path)))
        captures: dict[str, loads.Capture] = {}
        for path in paths:
            identity = content_id([path])
            captures.setdefault(identity, loads.Capture(path, identity, settings.probe_name(path)))

        def make() -> PacketLog | None:
            load = loads.plan(
                self.store,
                list(captures.values()),
                tenant=settings.tenant,
                digest=settings.digest(),
                again=settings.again,
            )
            for note in load.notes:
                print(f"netspectra: {note}", file=sys.stderr)
            if not load.topic:
                return None
            self._load, self._topic = load, load.topic
            loads.record(
                self.store,
                load,
                tenant=settings.tenant,
                digest=settings.digest(),
                state="running",
            )
            return CaptureLog(
                [capture.path for capture in load.captures],
                [found[capture.path] for capture in load.captures],
                tenant=settings.tenant,
                probes=[capture.probe for capture in load.captures],
                decapsulate=settings.capture.decapsulate,
            )

        return make

    def _demo(self) -> PacketLog:
        from probe.synthetic import Traffic

        settings = self.settings
        span_ns = settings.demo.packets * 10**9 // settings.demo.packets_per_second
        pane_ns = self._window.pane_ns
        start_ns = (time.time_ns() - span_ns) // pane_ns * pane_ns
        self._topic = f"demo:{start_ns}"
        traffic = Traffic(
            seed=settings.demo.seed,
            packets=settings.demo.packets,
            packets_per_second=settings.demo.packets_per_second,
            start_ns=start_ns,
        )
        return DemoLog(traffic, tenant=settings.tenant, probe=settings.probe.name or "demo")

    def _partition(self) -> tuple[PacketLog, PartitionAccumulator]:
        assert self._packet_log is not None
        accumulator = PartitionAccumulator(
            self._topic, _PARTITION, self._window, self._tasks, self._networks
        )
        self._accumulators.append(accumulator)
        return self._packet_log, accumulator

    def _report(self) -> None:
        """Draw the progress beside the dataflow, so that a slow insert doesn't freeze it."""
        with self._progress as progress:
            while not self._done.wait(0.1):
                if self._packet_log is None:
                    continue
                at = self._packet_log.progress
                progress.update(
                    at.packets,
                    at.event_time_ns or None,
                    at.position / at.size if at.size else None,
                )


def run(settings: Settings, workers: int = 1, *, show_summary: bool = False) -> int:
    """Run the main job in this process; returns the exit code.

    Args:
        settings: of the run.
        workers: worker threads.
        show_summary: print the summary at the end.
    """
    from bytewax._bytewax import cli_main

    job = Job(settings)
    previous: dict[int, Any] = {
        number: signal.signal(number, job.stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        cli_main(job.dataflow(), workers_per_process=workers, epoch_interval=EPOCH)
    finally:
        code = job.finish(show_summary=show_summary)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code


def start(settings: Settings) -> Dataflow:
    """Set up a run that ``python -m bytewax.run`` carries out; it is finished at exit.

    The runner knows no exit codes but 0 and 1, so an incomplete ledger ends the process itself.
    """
    job = Job(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, job.stop)

    def finish() -> None:
        code = job.finish(show_summary=True)
        sys.stdout.flush()
        sys.stderr.flush()
        if code:
            os._exit(code)

    atexit.register(finish)
    return job.dataflow()
