"""A run of the main job: what is opened before the dataflow and closed after it."""

from __future__ import annotations

import atexit
import contextlib
import gc
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

from flows import interrupts, logs, pipeline, recovery, summary
from flows.detect import registry
from flows.detection import DetectionRun
from flows.errors import NetSpectraError
from flows.metrics import MetricsServer, Readings
from flows.names.watch import NamesWatch
from flows.progress import Progress
from flows.settings import Settings
from flows.settings.model import NameFiles
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultSink, StoredCounts, UnitSink
from flows.sources import inputs
from flows.sources.logs import PacketLog
from flows.sources.partitions import LogSource, Partition
from flows.storage import loads, space
from flows.storage.loopback import LoopbackServer
from flows.storage.store import Store
from flows.windows.configured import tasks_of
from flows.windows.control import RunControl
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig

INCOMPLETE: Final = 3
"""Exit code of a run whose ledger is incomplete."""

STUCK_S: Final = 10.0
"""Seconds that the engine has to end after a failure."""

EPOCH: Final = timedelta(seconds=10)
"""How often bytewax drains the dataflow and asks for snapshots; its own default."""


def directions_of(count: str | tuple[str, ...]) -> frozenset[int] | None:
    """Directions that tasks count; None leaves it to the source, which counts all by default."""
    return {"ingress": frozenset({1}), "egress": frozenset({2})}.get(str(count))


def window_of(settings: Settings) -> WindowConfig:
    """How time is cut, and what is counted."""
    return WindowConfig(
        pane_ns=settings.window.pane_ns,
        lateness_ns=settings.window.lateness_ns,
        max_flows=settings.window.max_flows,
        seed=settings.seed,
        directions=directions_of(settings.window.count),
        reflector_ports=registry.reflector_ports(settings),
    )


class Job:
    """One run: the store, what is read, the dataflow, and how it ended.

    Args:
        settings: of the run.
        tell: whether notifiers are told of alerts.
        first: whether it is the first process of its job.
        find: looks for what is read; by default as the settings say.

    Raises:
        NetSpectraError: the settings can't be carried out or the store can't be opened.
        CaptureError: a capture can't be read.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tell: bool = True,
        first: bool = True,
        find: Callable[[Settings], inputs.Opener] = inputs.find,
    ) -> None:
        self.settings = settings
        self.counts = StoredCounts()
        self._control = RunControl()
        self._networks = Networks(settings.networks)
        self._tasks = tasks_of(settings.tasks)
        self._window = window_of(settings)
        self._opened: list[str] = []
        self._logs: list[PacketLog] = []
        self._accumulators: list[PartitionAccumulator] = []
        open_input = find(settings)
        with contextlib.ExitStack() as opened:
            self.store = opened.enter_context(Store.open(settings.store))
            measured = settings.metrics.port is not None
            self._space = space.watch(self.store, settings.storage, measured=measured)
            opened.callback(self._space.close)
            opened.callback(LoopbackServer(self.store, settings.storage).close)
            # Who tries rules out or reads a capture once needs no names; one process loads them.
            names = settings.names if tell and first else NameFiles()
            opened.callback(NamesWatch(self.store, names).close)
            self._input = open_input(self.store)
            resumes = settings.source_kind == "kafka"
            self._detection = DetectionRun(
                settings, self.store, resumes=resumes, tell=tell, first=first
            )
            self._fed = self._detection.tasks(self._tasks)
            self._metrics = MetricsServer(settings.metrics, self.readings)
            self._close_store = opened.pop_all().close
        self._reporter = threading.Thread(target=self._report, daemon=True, name="progress")
        self._done = threading.Event()
        self._started = time.monotonic()

    def dataflow(self, *, recovers: bool) -> Dataflow:
        """The dataflow of this run, with recovery files or without; call it once."""
        partitions = {name: self._partition(name) for name in self._input.partitions}
        self._started = time.monotonic()
        self._reporter.start()
        self._detection.start()
        return pipeline.build(
            LogSource(partitions, self._control),
            UnitSink(self.store, self.counts, self._control, self._input.digest),
            ResultSink(self.store, self._context(), self._control),
            self._detection.sink(self._control),
            tasks=self._tasks,
            horizons_ns=self.settings.window.horizons_ns,
            partitions=[f"{self._input.topic}/{name}" for name in partitions],
            detection=self._detection.detection(),
            recovers=recovers,
        )

    def _context(self) -> Context:
        """Loads are apart from each other; what comes through Kafka is one, in all its runs."""
        probes, tenant = self._input.probes, self.settings.tenant
        others = loads.minutes_of_others(self.store, tenant, probes) if probes else None
        return Context(
            self._networks.names,
            others,
            longest_ns=max(self.settings.window.horizons_ns),
            seed=self.settings.seed,
        )

    def stop(self, number: int | None = None, frame: FrameType | None = None) -> None:
        """End early and cleanly; a second Ctrl-C ends at once. Usable as a signal handler."""
        if self._control.stopping and number == signal.SIGINT:
            interrupts.end_at_once(number, frame)  # the engine panics at a KeyboardInterrupt
        self._control.stop()

    @property
    def _ended(self) -> bool:
        """Whether all there was to read has been read."""
        return len(self._accumulators) == len(self._input.partitions) and all(
            accumulator.ended for accumulator in self._accumulators
        )

    def crashed(self) -> bool:
        """Whether the dataflow ended without being told to: a fault of ours, with a traceback."""
        return not (self._ended or self._control.stopping)

    def abandon(self) -> None:
        """Give everything back after a crash; the next run goes on from ``commits``."""
        self._done.set()
        self._metrics.close()
        self._detection.close()
        self._close_store()

    def readings(self) -> Readings:
        """What this run has counted so far, for its metrics."""
        # Partitions open one after the other: there may be a name without the rest yet.
        named = list(zip(self._opened, self._logs, self._accumulators, strict=False))
        counts, notified = self.counts, self._detection.notified
        kept = self._space.manager
        return Readings(
            read={name: log.progress.packets for name, log, _ in named},
            event_time_s={
                name: log.progress.event_time_ns / 1e9
                for name, log, _ in named
                if log.progress.event_time_ns
            },
            stored_packets=counts.packets,
            stored_bytes=counts.bytes,
            stored_units=counts.units,
            skipped_units=counts.skipped_units,
            missing=dict(counts.missing),
            absences={k: n for _, log, _ in named for k, n in log.absences.items()},
            open_packets=sum(accumulator.open_packets for _, _, accumulator in named),
            notifications={
                (name, outcome): getattr(each, outcome)
                for name, each in notified.items()
                for outcome in ("sent", "retried", "refused", "superseded")
            },
            notifications_pending={name: each.pending for name, each in notified.items()},
            explanations=dict(self._detection.explained),
            used_bytes=kept.used_bytes,
            oldest_s=kept.oldest_s,
            dropped_partitions=kept.dropped_partitions,
            dropped_rows=kept.dropped_rows,
            dropped_bytes=kept.dropped_bytes,
        )

    def finish(self, *, show_summary: bool) -> int:
        """Close everything, tell how it went, and return the exit code."""
        elapsed_s = time.monotonic() - self._started
        self._done.set()
        if self._reporter.is_alive():
            self._reporter.join()
        self._metrics.close()
        try:
            if self._control.failure is None:
                self._record()
                if show_summary:
                    self._summarise(elapsed_s)
        except NetSpectraError as error:
            self._control.fail(error)
        finally:
            self._detection.close()
            self._close_store()
        if self._control.failure is not None:
            return logs.report(self._control.failure)
        lines = self._shortfalls()
        for line in lines:
            print(f"netspectra: {line}", file=sys.stderr)
        return INCOMPLETE if lines else 0

    def _shortfalls(self) -> list[str]:
        """What of the input is not stored, a line each; none when all is."""
        lines = [fault for log in self._logs for fault in log.faults]
        kept = any(log.kept for log in self._logs)
        if not self._ended and not kept:
            lines.append(self._stopped())
        if kept and self.counts.missing:
            reasons = ", ".join(f"{name} {n:,}" for name, n in self.counts.missing.items())
            lines.append(
                f"{self.counts.missing.total():,} packets of this run are missing: {reasons}"
            )
        return lines

    def _record(self) -> None:
        load = self._input.load
        if load is not None and load.topic:
            loads.record(
                self.store,
                load,
                tenant=self.settings.tenant,
                digest=self.settings.digest(),
                state="finished" if self._ended else "incomplete",
            )

    def _summarise(self, elapsed_s: float) -> None:
        try:
            summary.render(
                self.store,
                self.settings.tenant,
                source=self.settings.source,
                elapsed_s=elapsed_s if self._input.partitions else None,
                run_packets=self.counts.packets,
                unfinished="; ".join(self._shortfalls()),
                where=self.settings.store,
            )
            sys.stdout.flush()
        except (BrokenPipeError, SystemExit):
            # The reader has what it wanted (`| head`; rich exits then): the run is still good.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _stopped(self) -> str:
        stored = self.counts.packets + self.counts.skipped_packets
        read = sum(log.progress.packets for log in self._logs)
        again = (
            "run the same command again to go on"
            if self._input.load is not None
            else "demo traffic starts anew at each run"
        )
        return (
            f"stopped: {stored:,} packets are stored; {read - stored:,} that were read belong to "
            f"panes still open and are not; {again}"
        )

    def _end_if_stuck(self) -> None:
        """End the process when the engine doesn't, some time after a failure.

        A worker without a partition left to read never learns that another one gave up. What is
        stored is stored, and positions are written after it, so this is no worse than a kill.
        """
        if self._control.failed_s is None:
            return
        if time.monotonic() - self._control.failed_s > STUCK_S:
            assert self._control.failure is not None
            code = logs.report(self._control.failure)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _partition(self, name: str) -> Partition:
        def make(recovered: str | None) -> tuple[PacketLog, PartitionAccumulator]:
            log = self._input.partitions[name](recovered)
            accumulator = PartitionAccumulator(
                self._input.topic, name, self._window, self._fed, self._networks
            )
            self._opened.append(name)
            self._logs.append(log)
            self._accumulators.append(accumulator)
            return log, accumulator

        return make

    def _report(self) -> None:
        """Draw the progress beside the dataflow, so that a slow insert doesn't freeze it."""
        with Progress() as progress:
            while not self._done.wait(0.1):
                self._end_if_stuck()
                each = [log.progress for log in self._logs]
                if each:
                    size = sum(at.size for at in each)
                    done = sum(at.position for at in each) / size if size else None
                    event_time_ns = min(at.event_time_ns for at in each)
                    progress.update(sum(at.packets for at in each), event_time_ns or None, done)


def run(
    settings: Settings,
    workers: int = 1,
    *,
    recovery_directory: Path | None = None,
    show_summary: bool = False,
    tell: bool = True,
) -> int:
    """Run the main job in this process; returns the exit code.

    Args:
        settings: of the run.
        workers: worker threads.
        recovery_directory: where to keep what a log that is kept (Kafka) is gone on with; by
            default beside an embedded store, or ``netspectra-recovery``.
        show_summary: print the summary at the end.
        tell: whether notifiers are told of alerts.
    """
    from bytewax.recovery import RecoveryConfig

    config = None
    if settings.source_kind == "kafka":
        directory = recovery_directory or recovery.default_directory(settings.store_directory)
        recovery.prepare(directory)
        # Nothing but what the newest snapshot needs is kept.
        config = RecoveryConfig(str(directory), timedelta())
    job = Job(settings, tell=tell)
    _carry_out(job, workers, config)
    return job.finish(show_summary=show_summary)


def try_out(
    settings: Settings,
    workers: int = 1,
    *,
    find: Callable[[Settings], inputs.Opener] = inputs.find,
) -> int:
    """Run over what is there to be read, tell no notifier, and keep nothing to go on from.

    Args:
        settings: of the run.
        workers: worker threads.
        find: looks for what is read.

    Returns:
        The exit code.
    """
    job = Job(settings, tell=False, find=find)
    _carry_out(job, workers)
    return job.finish(show_summary=False)


def _carry_out(job: Job, workers: int, recovery_config: Any = None) -> None:
    from bytewax._bytewax import cli_main

    previous: dict[int, Any] = {
        number: signal.signal(number, job.stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        cli_main(
            _settled(job.dataflow(recovers=recovery_config is not None)),
            workers_per_process=workers,
            epoch_interval=EPOCH,
            recovery_config=recovery_config,
        )
    except BaseException:
        job.abandon()
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def start(settings: Settings) -> Dataflow:
    """Set up a run that ``python -m bytewax.run`` carries out; it is finished at exit.

    The runner knows no exit codes but 0 and 1, so another one ends the process from here.
    """
    directory = recovery.directory_of(sys.argv[1:])
    if directory is not None:
        recovery.prepare(directory)
    job = Job(settings, first=recovery.process_of(sys.argv[1:]) == 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, job.stop)

    def finish() -> None:
        if job.crashed():
            job.abandon()
            return
        code = job.finish(show_summary=True)
        sys.stdout.flush()
        sys.stderr.flush()
        if code:
            os._exit(code)

    atexit.register(finish)
    return _settled(job.dataflow(recovers=directory is not None))


def _settled(dataflow: Dataflow) -> Dataflow:
    """What exists by now lives as long as the run: the cycle collector needn't walk it again."""
    gc.collect()
    gc.freeze()
    return dataflow
