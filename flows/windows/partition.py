"""A partition's packets into units: the pure heart of every source."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.kernels.layout import STREAM_SHIFT, T_KIND, T_PACKETS, T_PANE, T_RECORDS
from flows.windows.feed import TaskFeed
from flows.windows.flow_table import FlowTable, Words
from flows.windows.networks import Networks
from flows.windows.sampling import UNSAMPLED, Sampling
from flows.windows.tasks import Task
from flows.windows.unit import END_OF_TIME_NS, GIVE_UP_NS, Drop, Goodbye, Seen, Stream, Unit
from schemas.record import Packets, as_words

Hop = Literal["capture", "transport", "decode"]
"""Step before the window at which packets can be lost."""


@dataclass(frozen=True)
class Moment:
    """What a partition knows of time, and what it has to tell when panes close.

    Attributes:
        watermarks: promise of each source, less the lateness.
        released_ns: greatest promise of those that ended.
        watermark_ns: of the partition.
        boundary: first pane that is not closed; None before the first message.
        seen: counted at capture points, in panes that are not closed.
        drops: known to be missing, in panes that are not closed.
        probes: stream and promise of the sources that are live probes and are expected still.
        goodbyes: those said in panes that are not closed.
    """

    watermarks: Mapping[Hashable, int]
    released_ns: int
    watermark_ns: int
    boundary: int | None
    seen: tuple[Seen, ...]
    drops: tuple[Drop, ...]
    probes: Mapping[Hashable, tuple[int, int]]
    goodbyes: tuple[Goodbye, ...]


@dataclass(frozen=True)
class WindowConfig:
    """How time is cut.

    Attributes:
        pane_ns: length of a pane.
        lateness_ns: how far the watermark trails the newest packet.
        max_flows: flows kept per pane and partition; more are folded.
        seed: of all hashes.
        directions: directions that tasks count; None leaves it to each stream.
        reflector_ports: UDP ports of which answers can be reflected.
    """

    pane_ns: int = 2_000_000_000
    lateness_ns: int = 1_000_000_000
    max_flows: int = 500_000
    seed: int = 0x6E65747370656374
    directions: frozenset[int] | None = None
    reflector_ports: frozenset[int] = frozenset()


class PartitionAccumulator:
    """Aggregates the packets of one partition, message by message.

    What a message closes is a pure function of the messages up to it, whatever the sizes of
    the arrays in which their packets are handed over.

    Args:
        topic: name of the log, for storing exactly once.
        partition: of the log.
        config: how time is cut.
        tasks: what to compute.
        networks: named address ranges.
    """

    def __init__(
        self,
        topic: str,
        partition: str,
        config: WindowConfig,
        tasks: Sequence[Task],
        networks: Networks,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._config = config
        self._networks = networks
        self._streams: list[Stream] = []
        self._watermarks: dict[Hashable, int] = {}
        self._watermark_ns = 0
        self._released_ns = 0
        self._boundary: int | None = None
        self.ended = False
        self._seen: list[Seen] = []
        self._drops: list[Drop] = []
        self._probes: dict[Hashable, tuple[int, int]] = {}
        self._goodbyes: list[Goodbye] = []
        self._feed = TaskFeed(
            tasks,
            networks,
            seed=config.seed,
            pane_ns=config.pane_ns,
            directions_of=self._directions_of,
            tenant_of=lambda number: self._streams[number].tenant,
            reflector_ports=config.reflector_ports,
        )
        self._table = FlowTable(
            pane_ns=config.pane_ns,
            lateness_ns=config.lateness_ns,
            max_flows=config.max_flows,
            seed=config.seed,
            before_fold=self._feed.feed,
        )

    @property
    def watermark_ns(self) -> int:
        """Event time up to which panes are complete: the slowest active stream's."""
        return self._watermark_ns

    @property
    def open_packets(self) -> int:
        """Packets taken that are in no unit yet."""
        return self._table.open_packets

    def _directions_of(self, number: int) -> frozenset[int] | None:
        return self._config.directions or self._streams[number].directions

    def add_stream(self, stream: Stream) -> int:
        """Register where packets come from; returns the number to absorb them with."""
        self._streams.append(stream)
        return len(self._streams) - 1

    @property
    def closed_ns(self) -> int:
        """Event time below which all panes are closed."""
        return (self._boundary or 0) * self._config.pane_ns

    def moment(self) -> Moment:
        """What is known of time; packets apart."""
        return Moment(
            dict(self._watermarks),
            self._released_ns,
            self._watermark_ns,
            self._boundary,
            tuple(self._seen),
            tuple(self._drops),
            dict(self._probes),
            tuple(self._goodbyes),
        )

    def restore(self, moment: Moment) -> None:
        """Go on from an earlier moment, without packets."""
        self._watermarks = dict(moment.watermarks)
        self._released_ns = moment.released_ns
        self._watermark_ns = moment.watermark_ns
        self._boundary = moment.boundary
        self._seen, self._drops = list(moment.seen), list(moment.drops)
        self._probes, self._goodbyes = dict(moment.probes), list(moment.goodbyes)

    def open_panes(self) -> list[int]:
        """Numbers of the panes that hold packets."""
        return self._table.open_panes()

    def advance(self, source: Hashable, watermark_ns: int, probe: int | None = None) -> None:
        """Promise that ``source`` brings nothing older, and let it hold the watermark back.

        A source is a capture file, or one start of a probe. It holds the partition's watermark
        at the greatest time promised, less the lateness, until it is released. A live probe
        names its stream: more is expected of it until its goodbye.
        """
        if probe is not None:
            self._probes[source] = (probe, watermark_ns)
        known = self._watermarks.get(source, 0)
        self._watermarks[source] = max(known, watermark_ns - self._config.lateness_ns)

    def release(self, source: Hashable) -> None:
        """The source brings no more packets, for now, and no longer holds the watermark back.

        When none is left, the panes up to the end of what was promised are complete.
        """
        promised = self._watermarks.pop(source, None)
        if promised is not None:
            self._released_ns = max(self._released_ns, promised + self._config.lateness_ns)

    def goodbye(self, source: Hashable) -> None:
        """Release a live probe that says that it brings no more packets."""
        self.release(source)
        if source in self._probes:
            stream, promised_ns = self._probes.pop(source)
            self._goodbyes.append(Goodbye(stream, (promised_ns - 1) // self._config.pane_ns))

    def slowest(self) -> Hashable | None:
        """The source to read next: the one that holds the watermark back; None without any."""
        return min(self._watermarks, key=self._watermarks.__getitem__, default=None)

    def absorb(self, packets: Packets, stream: int, source: Hashable = None) -> None:
        """Aggregate packets.

        With a ``source`` its promise follows their times, and each packet is late or not by
        those before it; without one they are late by the partition's watermark.
        """
        known = self._watermark_ns if source is None else self._watermarks[source]
        self._table.watermark_ns = known
        self._table.absorb(
            as_words(packets),
            stream=stream,
            rate=self._streams[stream].sampling_rate,
            follow=source is not None,
        )
        if source is not None:
            self._watermarks[source] = self._table.watermark_ns

    def count(self, stream: int, ts_ns: int, packets: int) -> None:
        """Note packets that a probe counted at its capture point by ``ts_ns``."""
        if packets:
            self._seen.append(Seen(stream, ts_ns // self._config.pane_ns, packets))

    def drop(
        self, stream: int, ts_ns: int, reason: str, packets: int, hop: Hop = "capture"
    ) -> None:
        """Account for packets that are missing near ``ts_ns``."""
        if packets:
            self._drops.append(Drop(stream, ts_ns // self._config.pane_ns, reason, packets, hop))

    def end_message(self, offset: int) -> Unit | None:
        """The message at ``offset`` is complete: the panes that it closed, if any.

        A pane that held nothing closes too: horizons wait for the watermark, not for packets.
        """
        pane_ns = self._config.pane_ns
        all_ended_ns = -(-self._released_ns // pane_ns) * pane_ns
        reached_ns = min(self._watermarks.values(), default=all_ended_ns)
        self._watermark_ns = max(self._watermark_ns, reached_ns)
        boundary = self._watermark_ns // pane_ns
        if self._boundary is None:
            self._boundary = boundary
        if boundary == self._boundary and not self._table.has_below(boundary):
            return None
        return self._close(offset, boundary)

    def end(self, offset: int) -> Unit:
        """There are no more messages: all that is left, as the unit at ``offset``."""
        self._watermark_ns = END_OF_TIME_NS
        self._probes.clear()
        self.ended = True
        return self._close(offset, END_OF_TIME_NS // self._config.pane_ns + 1)

    def _close(self, offset: int, boundary: int) -> Unit:
        self._boundary = boundary
        closed = self._table.take(boundary)
        self._feed.feed(closed.flows, closed.fed, self._table.open_entries)
        seen = tuple(each for each in self._seen if each.pane < boundary)
        drops = tuple(drop for drop in self._drops if drop.pane < boundary)
        self._seen = [each for each in self._seen if each.pane >= boundary]
        self._drops = [drop for drop in self._drops if drop.pane >= boundary]
        goodbyes = tuple(each for each in self._goodbyes if each.pane < boundary)
        self._goodbyes = [each for each in self._goodbyes if each.pane >= boundary]
        alive, silent = self._expected()
        return Unit(
            topic=self._topic,
            partition=self._partition,
            offset=offset,
            pane_ns=self._config.pane_ns,
            watermark_ns=self._watermark_ns,
            streams=tuple(self._streams),
            entries=closed.entries,
            networks=self._networks.lookup(closed.entries),
            network_names=tuple(self._networks.names),
            totals=closed.totals,
            seen=seen,
            drops=drops,
            sketches=self._feed.take(boundary, self._sampled(closed.totals)),
            alive=alive,
            silent=silent,
            goodbyes=goodbyes,
        )

    def _expected(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Streams of the probes that are there, and of those that should be.

        An earlier start of a probe that is there again is no longer expected.
        """
        alive = {self._probes[source][0] for source in self._watermarks if source in self._probes}
        oldest_ns = self._watermark_ns - GIVE_UP_NS
        self._probes = {
            source: (stream, promised_ns)
            for source, (stream, promised_ns) in self._probes.items()
            if source in self._watermarks or (stream not in alive and promised_ns >= oldest_ns)
        }
        silent = {stream for stream, _ in self._probes.values()} - alive
        return tuple(sorted(alive)), tuple(sorted(silent))

    def _sampled(self, totals: Words) -> dict[tuple[str, int], Sampling]:
        """How the packets of pane totals (n, 16) were sampled, by tenant and pane."""
        found: dict[tuple[str, int], Sampling] = {}
        if all(stream.sampling_rate == 1 for stream in self._streams):
            return found
        for row in totals.tolist():
            stream = self._streams[row[T_KIND] >> int(STREAM_SHIFT)]
            rate = stream.sampling_rate
            if rate > 1:
                here = Sampling(rate, row[T_PACKETS] > row[T_RECORDS] * rate)
                group = (stream.tenant, row[T_PANE])
                found[group] = found.get(group, UNSAMPLED).merge(here)
        return found
