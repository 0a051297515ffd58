"""Settling what a probe left open that didn't stop in good order.

A probe writes down what it has handed to Kafka (``probe.unclean.SentState``), in memory that
outlives it, beside the capture's pinned counters. The next start finds both (``UncleanStop``) and
says goodbye in its place. Then the dataflow can balance the old boot to the packet: what the
goodbye's ``packets_before`` counts and didn't arrive was lost in transport, what was seen and
never handed over is dropped with reason ``unclean_stop``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from probe.ship.batcher import Message, home_partition
from probe.unclean import SentState, UncleanStop
from schemas.batch import BatchHeader, Counters, encode_batch
from schemas.record import PACKET

UNCLEAN_STOP: Final = "unclean_stop"
"""Reason of drops: the probe was killed before it handed these packets over."""


def begin(state: SentState, boot_id: bytes, partitions: int) -> None:
    """Start writing down for a new boot.

    Raises:
        ValueError: the state has no room for so many partitions.
    """
    if len(state.sequences) < partitions or len(state.packets) < partitions:
        msg = f"{partitions} partitions, the state of what was sent holds {len(state.sequences)}"
        raise ValueError(msg)
    state.sequences[:] = 0
    state.packets[:] = 0
    state.boot_id[:] = np.frombuffer(boot_id, np.uint8)


def note(state: SentState, message: Message) -> None:
    """Write a message down; to be called before it is handed over.

    A kill between the two then makes it missing, never a number that is used twice. A kill
    between the two stores leaves its packets to ``unclean_stop``: the sum is the same.
    """
    state.sequences[message.partition] = message.sequence + 1
    state.packets[message.partition] = message.packets_before + message.packets


class Told:
    """Notes that a boot is settled, when as many messages were acknowledged as say so.

    Args:
        unclean: the boot.
        messages: how many.
    """

    def __init__(self, unclean: UncleanStop, messages: int) -> None:
        self._unclean = unclean
        self._left = messages

    def __call__(self) -> None:
        """Take in that one was acknowledged."""
        self._left -= 1
        if self._left == 0:
            self._unclean.ended[:] = 1


def farewell(
    unclean: UncleanStop,
    *,
    tenant: str,
    probe: str,
    partitions: int,
    emit_time_ns: int,
    watermark_ns: int,
) -> tuple[list[Message], int]:
    """Say goodbye for a boot that couldn't; when it is said again, it is the same.

    Args:
        unclean: what it left.
        tenant: its tenant.
        probe: its name.
        partitions: of the topic, for a boot that was killed before its first message.
        emit_time_ns: Unix time for the messages.
        watermark_ns: likewise; nothing that is still to come may be before it.

    Returns:
        A message for each partition that the boot wrote to, counters on its home partition, and
        the packets lost that it had seen and not handed over.
    """
    written = [partition for partition, sequence in enumerate(unclean.sequences) if sequence]
    count = written[-1] + 1 if written else partitions
    home = home_partition(tenant, probe, count)
    sent = sum(int(packets) for packets in unclean.packets)
    counts = unclean.counts
    lost = max(0, counts.seen - sum(counts.dropped.values()) - sent)
    dropped = dict(counts.dropped)
    dropped[UNCLEAN_STOP] = dropped.get(UNCLEAN_STOP, 0) + lost
    counters = Counters(seen=counts.seen, dropped=dropped)
    messages = []
    for partition in sorted({*written, home}):
        sequence, before = int(unclean.sequences[partition]), int(unclean.packets[partition])
        header = BatchHeader(
            tenant=tenant,
            probe=probe,
            boot_id=unclean.boot_id,
            partition=partition,
            sequence=sequence,
            emit_time_ns=emit_time_ns,
            watermark_ns=watermark_ns,
            record_count=0,
            goodbye=True,
            counters=counters if partition == home else None,
            packets_before=before,
        )
        value = encode_batch(header, np.empty(0, PACKET))
        messages.append(Message(partition, value, sequence, before, 0))
    return messages, lost
