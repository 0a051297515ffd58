"""The bytewax source: partitions that read, decode and aggregate, and emit units."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from flows.sources.logs import PacketLog
from flows.windows.partition import PartitionAccumulator
from flows.windows.unit import Unit

_SLICE_S: Final = 0.02


class LogPartition(StatefulSourcePartition[Unit, int]):
    """Reads one log message by message.

    Asked to stop, it ends without closing its open panes: they were not complete, and are read
    again by the next run.
    """

    def __init__(
        self,
        log: PacketLog,
        accumulator: PartitionAccumulator,
        stopping: Callable[[], bool],
    ) -> None:
        self._log = log
        self._accumulator = accumulator
        self._stopping = stopping
        self._offset = 0
        self._ended = False
        log.open(accumulator)

    @override
    def next_batch(self) -> list[Unit]:
        if self._ended or self._stopping():
            raise StopIteration
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until:
            if not self._log.read_message(self._accumulator):
                self._ended = True
                return [self._accumulator.end(self._offset)]
            unit = self._accumulator.end_message(self._offset)
            self._offset += 1
            if unit is not None:
                return [unit]
        return []

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
        stopping: asked before each message whether to end early.
    """

    def __init__(
        self, partitions: Mapping[str, Partition], stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._partitions = partitions
        self._stopping = stopping

    @override
    def list_parts(self) -> list[str]:
        return list(self._partitions)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> LogPartition:
        log, accumulator = self._partitions[for_part]()
        return LogPartition(log, accumulator, self._stopping)
