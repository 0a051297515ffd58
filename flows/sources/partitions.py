"""The bytewax source: partitions that read, decode and aggregate, and emit units."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from flows.sources.logs import PacketLog
from flows.windows.control import RunControl
from flows.windows.partition import PartitionAccumulator
from flows.windows.unit import Unit
from probe.errors import ProbeError

_SLICE_S: Final = 0.02
_PAUSE: Final = timedelta(milliseconds=2)


class LogPartition(StatefulSourcePartition[Unit, int]):
    """Reads one log message by message.

    Asked to stop, it ends without closing its open panes where the next run can read them
    again; else it takes what is left.
    """

    def __init__(
        self,
        log: PacketLog,
        accumulator: PartitionAccumulator,
        control: RunControl,
    ) -> None:
        self._log = log
        self._accumulator = accumulator
        self._control = control
        self._offset = 0
        self._ended = False
        log.open(accumulator)

    @override
    def next_batch(self) -> list[Unit]:
        if self._control.failure is not None:
            # Without a snapshot: what the sinks could not store must be read again.
            raise AbortExecution
        if self._ended or (self._control.stopping and not self._log.stop()):
            raise StopIteration
        try:
            return self._read()
        except ProbeError as error:
            self._control.fail(error)
            return []

    def _read(self) -> list[Unit]:
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until:
            if not self._log.read_message(self._accumulator):
                self._ended = True
                return [self._accumulator.end(self._offset)]
            unit = self._accumulator.end_message(self._offset)
            self._offset += 1
            if unit is not None:
                return [unit]
            if self._log.waiting:
                break
        return []

    @override
    def next_awake(self) -> datetime | None:
        return datetime.now(UTC) + _PAUSE if self._log.waiting and not self._ended else None

    @override
    def snapshot(self) -> int:
        return self._offset

    @override
    def close(self) -> None:
        self._log.close()


Partition = Callable[[], tuple[PacketLog, PartitionAccumulator]]


class LogSource(FixedPartitionedSource[Unit, int]):
    """Logs that are read from their start at every run; stored units are skipped by the sink.

    Args:
        partitions: what makes each partition's log and accumulator, by name.
        control: asked before each message whether to end early, told of failures.
    """

    def __init__(
        self, partitions: Mapping[str, Partition], control: RunControl | None = None
    ) -> None:
        self._partitions = partitions
        self._control = control or RunControl()

    @override
    def list_parts(self) -> list[str]:
        return list(self._partitions)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> LogPartition:
        log, accumulator = self._partitions[for_part]()
        return LogPartition(log, accumulator, self._control)
