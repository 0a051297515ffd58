"""What is missing before a batch or came before: by the numbers that probes write on batches."""

from __future__ import annotations

from typing import NamedTuple, Self

from schemas.batch import BatchHeader


class Place(NamedTuple):
    """How far one start of a probe has written to one partition.

    Attributes:
        next_sequence: of the batch that is due.
        packets: sent so far, by the probe's own count; None when it isn't known.
    """

    next_sequence: int
    packets: int | None

    @classmethod
    def at(cls, header: BatchHeader) -> Self:
        """Where reading begins with a batch: nothing is missing before it."""
        return cls(header.sequence, header.packets_before)

    def missing(self, header: BatchHeader) -> tuple[int, int | None]:
        """Batches and packets that should have come before this batch and didn't.

        Batches are below zero when it came before; packets None when the batches don't say.
        """
        batches = header.sequence - self.next_sequence
        if batches <= 0:
            return batches, 0
        if header.packets_before is None or self.packets is None:
            return batches, None
        return batches, max(header.packets_before - self.packets, 0)

    def after(self, header: BatchHeader, packets: int) -> Place:
        """Where the probe is after this batch, which holds so many packets."""
        before = self.packets if header.packets_before is None else header.packets_before
        return Place(header.sequence + 1, None if before is None else before + packets)
