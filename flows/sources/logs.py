"""Ordered logs of packets: capture files and the built-in demo traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import numpy as np

from flows.windows.partition import PartitionAccumulator
from flows.windows.unit import Stream
from probe.capture import CaptureFile
from probe.synthetic import Traffic
from schemas.record import PACKET, Packets

MESSAGE_PACKETS: Final = 262_144
"""Packets in a message of a capture: the grain at which its panes close."""

BATCH_PACKETS: Final = 8_192
"""Packets decoded and aggregated at a time; small enough to stay in the cache."""


@dataclass
class LogProgress:
    """How far a log has been read."""

    packets: int = 0
    bytes: int = 0
    position: int = 0
    size: int = 0
    event_time_ns: int = 0


class PacketLog(Protocol):
    """A partition's packets in a fixed order, cut into messages.

    Attributes:
        progress: how far it has been read.
        faults: what is missing from it, a line each.
        waiting: whether the last message held nothing, and it is worth a pause to ask again.
        offset: of the last message read; None where messages are just numbered from 0.
        last_unit: offset of the last unit that an earlier run gave out; -1 for none.
        kept: whether the next run goes on where this one stops.
        absences: how often each interface went away or down, where there are any.
    """

    progress: LogProgress
    faults: list[str]
    waiting: bool = False
    offset: int | None = None
    last_unit: int = -1
    kept: bool = False
    absences: Mapping[str, int] = MappingProxyType({})

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Register the streams."""

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Hand the next message's packets over; False when there is none."""

    def stop(self) -> bool:
        """End early; returns whether what is left must still be read, up to the end.

        Where it need not be, the next run reads it: a log that is kept.
        """
        return False

    def position(self, last_unit: int) -> str:
        """Where to go on when units up to ``last_unit`` are given out; empty: at the start."""
        return ""

    def commit(self) -> None:
        """Tell others how far this is, if there are any."""
        return

    def close(self) -> None:
        """Give resources back."""


class CaptureLog(PacketLog):
    """Capture files as one partition, each file a stream of its own.

    The file whose watermark is lowest is read next, so captures that overlap in time are
    merged, and those that don't follow each other. A message is at most 262,144 packets of one
    file, which is a function of the files alone.

    Args:
        paths: in order of their first packets.
        first_ns: time of each file's first packet; 0 where it has none.
        tenant: whose traffic it is.
        probes: name of each file's probe.
        decapsulate: describe what tunnels carry instead of the tunnels.
        batch_packets: packets decoded at a time.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        first_ns: Sequence[int],
        *,
        tenant: str,
        probes: Sequence[str],
        decapsulate: bool = False,
        batch_packets: int = BATCH_PACKETS,
    ) -> None:
        self._paths = paths
        self._first_ns = first_ns
        self._tenant = tenant
        self._probes = probes
        self._decapsulate = decapsulate
        self._buffer: Packets = np.empty(batch_packets, PACKET)
        self._files: dict[int, CaptureFile] = {}
        self._interfaces: list[dict[int, str]] = [{} for _ in paths]
        self._done_bytes = 0
        self.progress = LogProgress(size=sum(path.stat().st_size for path in paths))
        self.faults: list[str] = []

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Register each file as a stream; files are opened when their turn comes."""
        for probe, first_ns, names in zip(
            self._probes, self._first_ns, self._interfaces, strict=True
        ):
            number = accumulator.add_stream(Stream(self._tenant, probe, interfaces=names))
            accumulator.advance(number, first_ns)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Read up to 262,144 packets of the file that is furthest behind."""
        number = accumulator.slowest()
        if not isinstance(number, int):
            return False
        file = self._files.get(number)
        if file is None:
            file = self._files[number] = CaptureFile(
                self._paths[number], decapsulate=self._decapsulate
            )
        wanted = MESSAGE_PACKETS
        while wanted:
            packets = file.read(min(wanted, len(self._buffer)), self._buffer)
            if not len(packets):
                self._finish(number, file, accumulator)
                break
            accumulator.absorb(packets, number, number)
            wanted -= len(packets)
            self._note(number, packets, file)
        return True

    def close(self) -> None:
        """Close the files that are open."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _note(self, number: int, packets: Packets, file: CaptureFile) -> None:
        # A file describes an interface before its packets, so that all of a unit have names.
        self._interfaces[number].update({i.if_index: i.name for i in file.interfaces if i.name})
        self.progress.packets += len(packets)
        self.progress.bytes += int(packets["wire_bytes"].sum(dtype=np.uint64))
        self.progress.event_time_ns = int(packets["ts_ns"][-1])
        self.progress.position = self._done_bytes + file.position_bytes

    def _finish(self, number: int, file: CaptureFile, accumulator: PartitionAccumulator) -> None:
        if file.truncated is not None:
            cut = file.truncated
            accumulator.drop(number, self.progress.event_time_ns, "truncated", cut.lost_frames)
            self.faults.append(
                f"{self._paths[number].name} is cut at byte {cut.offset_bytes}: {cut.reason}; "
                "what comes before is kept"
            )
        self._done_bytes += file.size_bytes
        self.progress.position = self._done_bytes
        file.close()
        del self._files[number]
        accumulator.release(number)


class DemoLog(PacketLog):
    """Synthetic traffic as one partition.

    Args:
        traffic: what to generate.
        tenant: whose traffic it is.
        probe: name of its probe.
        batch_packets: packets generated at a time.
    """

    def __init__(
        self,
        traffic: Traffic,
        *,
        tenant: str = "demo",
        probe: str = "demo",
        batch_packets: int = BATCH_PACKETS,
    ) -> None:
        self._traffic = traffic
        self._stream = Stream(tenant, probe)
        self._buffer: Packets = np.empty(batch_packets, PACKET)
        self.progress = LogProgress(size=traffic.packets)
        self.faults: list[str] = []

    def open(self, accumulator: PartitionAccumulator) -> None:
        """Register the one stream."""
        accumulator.advance(accumulator.add_stream(self._stream), self._traffic.start_ns)

    def read_message(self, accumulator: PartitionAccumulator) -> bool:
        """Generate the next 262,144 packets."""
        first = self.progress.packets
        end = min(first + MESSAGE_PACKETS, self._traffic.packets)
        if first == end:
            return False
        while first < end:
            packets = self._buffer[: min(len(self._buffer), end - first)]
            self._traffic.fill(first, packets)
            accumulator.absorb(packets, 0, 0)
            first += len(packets)
            self.progress.bytes += int(packets["wire_bytes"].sum(dtype=np.uint64))
            self.progress.event_time_ns = int(packets["ts_ns"][-1])
        self.progress.packets = self.progress.position = end
        return True

    def close(self) -> None:
        """Nothing is held."""
