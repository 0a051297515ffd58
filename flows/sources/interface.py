"""The interfaces of this machine as a log: packets as they pass, without Kafka."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from flows.sources.logs import LogProgress, PacketLog
from flows.windows.capture_totals import CaptureTotals
from flows.windows.partition import PartitionAccumulator
from flows.windows.unit import Stream
from probe.live import LiveCapture
from schemas.record import PACKET, Packets

READ_PACKETS: Final = 65_536
"""Most packets taken at a time."""

_COUNT_EVERY_S: Final = 0.2
_SOURCE: Final = "interface"
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class InterfaceLog(PacketLog):
    """A live capture as one partition.

    It can't be read again, so its end is not put off: asked to stop, it takes no new packets,
    hands over those that wait, and closes all panes.

    Args:
        capture: attached already.
        stream: whose packets they are.
        absences: how often each interface went away or down, kept up to date by the capture.
    """

    def __init__(
        self, capture: LiveCapture, stream: Stream, absences: Mapping[str, int] = _NONE
    ) -> None:
        self._capture = capture
        self._stream = stream
        self._number = 0
        self._buffer: Packets = np.empty(READ_PACKETS, PACKET)
        self._totals = CaptureTotals()
        self._counted_s = 0.0
        self._detached = False
        self.absences = absences
        self.progress = LogProgress()
        self.faults: list[str] = []
        self.waiting = False

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Register the one stream; its watermark is the capture's clock."""
        self._number = accumulator.add_stream(self._stream)
        accumulator.advance(_SOURCE, self._capture.watermark_ns(), self._number)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Take what waits; False when the capture was detached and nothing is left."""
        count = self._capture.read(self._buffer)
        self.waiting = count == 0
        if count:
            packets = self._buffer[:count]
            accumulator.absorb(packets, self._number)
            self.progress.packets += int(packets["packets"].sum(dtype=np.uint64))
            self.progress.bytes += int(packets["wire_bytes"].sum(dtype=np.uint64))
        watermark_ns = self._capture.watermark_ns()
        self.progress.event_time_ns = watermark_ns
        accumulator.advance(_SOURCE, watermark_ns, self._number)
        if time.monotonic() - self._counted_s >= _COUNT_EVERY_S:
            self._count(accumulator, watermark_ns)
        if self.waiting and self._detached:
            self._count(accumulator, watermark_ns)
            self._note_losses()
            accumulator.goodbye(_SOURCE)
            return False
        return True

    def stop(self) -> bool:
        """Take no new packets; True, because those that wait must still be read."""
        if not self._detached:
            self._capture.detach()
            self._detached = True
        return True

    def close(self) -> None:
        """Give the capture back."""
        self._capture.close()

    def _count(self, accumulator: PartitionAccumulator, watermark_ns: int) -> None:
        self._counted_s = time.monotonic()
        counts = self._capture.counts()
        self._totals, seen, dropped = self._totals.advance(counts.seen, counts.dropped)
        accumulator.count(self._number, watermark_ns - 1, seen)
        for reason, packets in dropped.items():
            accumulator.drop(self._number, watermark_ns - 1, reason, packets)

    def _note_losses(self) -> None:
        counts = self._capture.counts()
        lost = {name: n for name, n in counts.dropped.items() if n and name != "sampled_out"}
        if lost:
            reasons = ", ".join(f"{name} {count:,}" for name, count in lost.items())
            all_lost = f"{sum(lost.values()):,} of {counts.seen:,} packets"
            self.faults.append(f"{all_lost} were lost at capture ({reasons})")
