"""The bytewax source: partitions that read, decode and aggregate, and emit units."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bytewax.inputs import AbortExecution, FixedPartitionedSource, StatefulSourcePartition
from typing_extensions import override

from flows.errors import NetSpectraError
from flows.sources.logs import PacketLog
from flows.windows.control import RunControl
from flows.windows.partition import PartitionAccumulator
from flows.windows.unit import Unit
from probe.errors import ProbeError

POSITION_EVERY_S: Final = 5.0
"""Seconds between units that tell where to read on."""

_SLICE_S: Final = 0.02
_SHORTEST_PAUSE: Final = timedelta(milliseconds=2)
_LONGEST_PAUSE: Final = timedelta(milliseconds=32)


class LogPartition(StatefulSourcePartition[Unit, str]):
    """Reads one log message by message.

    Asked to stop, it ends without closing its open panes where the next run can read them
    again; else it takes what is left. Units that an earlier run gave out are computed again on
    the way to where it stopped, and left out.
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
        self._messages = 0
        self._last_unit = self._first_unit = log.last_unit
        self._ended = False
        self._pause = _SHORTEST_PAUSE
        self._positioned_s = -POSITION_EVERY_S
        log.open(accumulator)
        # Panes that an earlier run gave out are not given out again.
        self._since_ns = accumulator.closed_ns if log.last_unit >= 0 else 0

    @override
    def next_batch(self) -> list[Unit]:
        if self._control.failure is not None:
            # Without a snapshot: what the sinks could not store must be read again.
            raise AbortExecution
        if self._ended or (self._control.stopping and not self._log.stop()):
            raise StopIteration
        try:
            return self._read()
        except (ProbeError, NetSpectraError) as error:
            self._control.fail(error)
            return []

    def _read(self) -> list[Unit]:
        until = time.monotonic() + _SLICE_S
        while time.monotonic() < until:
            more = self._log.read_message(self._accumulator)
            offset = self._messages if self._log.offset is None else self._log.offset
            if not more:
                self._ended = True
                return self._given(self._accumulator.end(offset))
            if not (self._log.waiting and self._log.kept):
                unit = self._accumulator.end_message(offset)
                self._messages += 1
                if offset <= self._first_unit:
                    self._since_ns = self._accumulator.closed_ns
                elif unit is not None:
                    return self._given(unit)
            if self._log.waiting:
                break
        return []

    def _given(self, unit: Unit) -> list[Unit]:
        if not unit.empty:
            self._last_unit = unit.offset
        unit = replace(unit, since_ns=self._since_ns)
        # Telling takes dumping all that is known, and waiting for the dead letters.
        now_s = time.monotonic()
        if now_s - self._positioned_s >= POSITION_EVERY_S:
            self._positioned_s = now_s
            unit = replace(unit, position=self._log.position(self._last_unit))
        return [unit]

    @override
    def next_awake(self) -> datetime | None:
        if not self._log.waiting or self._ended:
            self._pause = _SHORTEST_PAUSE
            return None
        # Asking for messages that don't come is most of what an idle job does.
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return datetime.now(UTC) + pause

    @override
    def snapshot(self) -> str:
        self._log.commit()
        return self._log.position(self._last_unit)

    @override
    def close(self) -> None:
        self._log.close()


class _Failed(StatefulSourcePartition[Any, Any]):
    """Stands for a partition that can't be read: ends the run without a snapshot."""

    @override
    def next_batch(self) -> list[Any]:
        raise AbortExecution

    @override
    def snapshot(self) -> Any:
        return ""


Partition = Callable[[str | None], tuple[PacketLog, PartitionAccumulator]]
"""Makes a partition's log and accumulator, given what recovery kept of it."""


class LogSource(FixedPartitionedSource[Unit, str]):
    """Logs, each a partition; those that are not kept are read from their start at every run.

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
    def build_part(
        self, step_id: str, for_part: str, resume_state: str | None
    ) -> StatefulSourcePartition[Unit, str]:
        try:
            log, accumulator = self._partitions[for_part](resume_state)
            return LogPartition(log, accumulator, self._control)
        except (ProbeError, NetSpectraError) as error:
            self._control.fail(error)
            return _Failed()
