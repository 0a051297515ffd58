"""A partition's receiver that can tell, after every message, from where to read again."""

from __future__ import annotations

from flows.windows.partition import PartitionAccumulator
from flows.windows.position import OpenPanes, Position
from flows.windows.receiver import BatchReceiver, ReceiverConfig
from schemas.batch import BatchHeader
from schemas.record import Packets


class ResumableReceiver:
    """Takes a partition's messages in order, and remembers what a restart needs.

    Args:
        accumulator: of the partition, without packets.
        config: what is accepted.
        position: where to go on; None for a log that is read for the first time.
    """

    def __init__(
        self,
        accumulator: PartitionAccumulator,
        config: ReceiverConfig,
        position: Position | None = None,
    ) -> None:
        self._accumulator = accumulator
        self.receiver = BatchReceiver(accumulator, config)
        self._panes = OpenPanes(0 if position is None else position.offset)
        if position is not None:
            accumulator.restore(position.moment)
            self.receiver.restore(position.senders, position.streams, position.tenants)

    def receive(self, offset: int, header: BatchHeader, packets: Packets, log_time_ns: int) -> None:
        """Take the batch at ``offset``; as ``BatchReceiver.receive``.

        Raises:
            BadMessage: its times are absurd; ``skip`` it.
        """
        before = (self._accumulator.moment(), self.receiver.senders())
        self.receiver.receive(header, packets, log_time_ns, first=offset == 0)
        self._panes.after(offset, self._accumulator.open_panes(), before)

    def skip(self, offset: int) -> None:
        """The message at ``offset`` could not be used."""
        self._panes.offset = offset + 1

    def position(self, last_unit: int) -> Position:
        """Where to go on, when units up to ``last_unit`` have been given out.

        Ask after ``end_message``: panes that it closed need not be read again.
        """
        now = (self._accumulator.moment(), self.receiver.senders())
        self._panes.keep(self._accumulator.open_panes())
        offset, moment, senders = self._panes.first(now)
        return Position(
            offset, last_unit, moment, senders, self.receiver.streams(), self.receiver.tenants()
        )
