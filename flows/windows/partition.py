"""A partition's packets into units: the pure heart of every source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.windows.feed import TaskFeed
from flows.windows.flow_table import FlowTable
from flows.windows.networks import Networks
from flows.windows.tasks import Task
from flows.windows.unit import END_OF_TIME_NS, Drop, Stream, Unit
from schemas.record import Packets, as_words


@dataclass(frozen=True)
class WindowConfig:
    """How time is cut.

    Attributes:
        pane_ns: length of a pane.
        lateness_ns: how far the watermark trails the newest packet.
        max_flows: flows kept per pane and partition; more are folded.
        seed: of all hashes.
        directions: directions that tasks count, or None for all.
    """

    pane_ns: int = 2_000_000_000
    lateness_ns: int = 1_000_000_000
    max_flows: int = 500_000
    seed: int = 0x6E65747370656374
    directions: frozenset[int] | None = None


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
        self._watermarks: dict[int, int] = {}
        self._watermark_ns = 0
        self.ended = False
        self._drops: list[Drop] = []
        self._feed = TaskFeed(
            tasks,
            networks,
            seed=config.seed,
            directions=config.directions,
            tenant_of=lambda number: self._streams[number].tenant,
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

    def add_stream(self, stream: Stream, first_ns: int = 0) -> int:
        """Register where packets come from; returns the number to absorb them with.

        The stream holds the watermark back from now on: at ``first_ns``, the time of its first
        packet as far as known, then at its newest packet, less the lateness.
        """
        number = len(self._streams)
        self._streams.append(stream)
        self._watermarks[number] = max(first_ns - self._config.lateness_ns, 0)
        return number

    def end_stream(self, number: int) -> None:
        """The stream brings no more packets and no longer holds the watermark back."""
        del self._watermarks[number]

    def slowest_stream(self) -> int | None:
        """The active stream to read next: the one that holds the watermark back."""
        return min(self._watermarks, key=self._watermarks.__getitem__, default=None)

    def absorb(self, packets: Packets, stream: int) -> None:
        """Aggregate packets; the stream's watermark follows their times."""
        self._table.watermark_ns = self._watermarks[stream]
        rate = self._streams[stream].sampling_rate
        self._table.absorb(as_words(packets), stream=stream, rate=rate, follow=True)
        self._watermarks[stream] = self._table.watermark_ns

    def drop(self, stream: int, ts_ns: int, reason: str, packets: int) -> None:
        """Account for packets that are missing near ``ts_ns``."""
        self._drops.append(Drop(stream, ts_ns // self._config.pane_ns, reason, packets))

    def end_message(self, offset: int) -> Unit | None:
        """The message at ``offset`` is complete: the panes that it closed, if any."""
        self._watermark_ns = max(self._watermark_ns, min(self._watermarks.values(), default=0))
        boundary = self._watermark_ns // self._config.pane_ns
        return self._close(offset, boundary) if self._table.has_below(boundary) else None

    def end(self, offset: int) -> Unit:
        """There are no more messages: all that is left, as the unit at ``offset``."""
        self._watermark_ns = END_OF_TIME_NS
        self.ended = True
        return self._close(offset, END_OF_TIME_NS // self._config.pane_ns + 1)

    def _close(self, offset: int, boundary: int) -> Unit:
        closed = self._table.take(boundary)
        self._feed.feed(closed.flows, closed.fed)
        drops = tuple(drop for drop in self._drops if drop.pane < boundary)
        self._drops = [drop for drop in self._drops if drop.pane >= boundary]
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
            drops=drops,
            sketches=self._feed.take(boundary),
        )
