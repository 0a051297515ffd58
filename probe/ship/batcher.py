"""Batches: records scattered over partitions, numbered and encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numba
import numpy as np

from probe.live import CaptureCounts
from schemas.batch import MAX_RECORDS, BatchHeader, Counters, encode_batch
from schemas.hashing import PARTITION_SEED, partition_of
from schemas.record import PACKET, PACKET_WORDS, Packets, as_words

_HIGH_HALF: Final = np.uint64(32)


class Message(NamedTuple):
    """An encoded batch.

    Attributes:
        partition: where it goes.
        value: the message.
        sequence: its number within (boot, partition), from 0.
        packets_before: packets of all earlier messages of this boot to this partition.
        packets: packets (the sum of the records' ``packets``) in this one.
    """

    partition: int
    value: bytes
    sequence: int
    packets_before: int
    packets: int


def home_partition(tenant: str, probe: str, partitions: int) -> int:
    """Partition to which a probe sends its counters, the same at every start."""
    digest = hashlib.blake2b(f"{tenant}\0{probe}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % partitions


class Batcher:
    """Collects records for each partition until they are cut into messages.

    Pure: times come from the caller. Requests, replies and fragments of a host pair go to the
    same partition (``schemas.hashing.partition_of``). Memory is 721 KB a partition, touched as
    it fills.

    Args:
        partitions: of the topic.
        tenant: owner of the packets.
        probe: name of the probe.
        boot_id: 16 random bytes of this start.
        sampling_rate: one of how many packets is recorded.
        schema_id: see ``schemas.batch.encode_batch``.

    Attributes:
        partitions, tenant, probe, boot_id: as given.
        home: the partition whose messages carry counters.
        packets_sent: packets in all messages so far.
        interfaces: names by number, for the messages to come.

    Raises:
        ValueError: there is no partition.
    """

    def __init__(
        self,
        *,
        partitions: int,
        tenant: str,
        probe: str,
        boot_id: bytes,
        sampling_rate: int = 1,
        schema_id: int | None = None,
    ) -> None:
        if partitions < 1:
            msg = f"partitions is {partitions}: a topic has at least one"
            raise ValueError(msg)
        self.partitions = partitions
        self.boot_id = boot_id
        self.home = home_partition(tenant, probe, partitions)
        self.packets_sent = 0
        self.interfaces: Mapping[int, str] = {}
        self.tenant = tenant
        self.probe = probe
        self._sampling_rate = sampling_rate
        self._schema_id = schema_id
        self._records = np.empty((partitions, MAX_RECORDS), PACKET)
        self._words = self._records.view(np.uint64).reshape(partitions, MAX_RECORDS, PACKET_WORDS)
        self._fill = np.zeros(partitions, np.int64)
        self._packets = np.zeros(partitions, np.int64)
        self._aggregated = np.zeros(partitions, np.bool_)
        self._sequences = [0] * partitions
        self._packets_before = [0] * partitions

    @property
    def packets_taken(self) -> int:
        """Packets in all messages so far, and those that wait for one."""
        return self.packets_sent + int(self._packets.sum())

    def add(
        self, packets: Packets, *, emit_time_ns: int, watermark_ns: int, aggregated: bool = False
    ) -> list[Message]:
        """Take records in; returns the messages of the partitions that they filled.

        Args:
            packets: contiguous array of dtype ``PACKET``; copied.
            emit_time_ns: Unix time for the messages.
            watermark_ns: Unix time that none of ``packets``, nor anything later, is before: what
                the capture said before they were read.
            aggregated: they may stand for a flow's packets of up to a second.
        """
        words = as_words(packets)
        if aggregated:
            self._aggregated[:] = True
        messages: list[Message] = []
        taken = 0
        seed, partitions = np.uint64(PARTITION_SEED), np.uint64(self.partitions)
        while taken < len(words):
            taken = scatter(words, taken, self._words, self._fill, self._packets, seed, partitions)
            messages += [
                self._cut(partition, emit_time_ns, watermark_ns, None, False)
                for partition in np.flatnonzero(self._fill == MAX_RECORDS).tolist()
            ]
        return messages

    def cut(
        self,
        *,
        emit_time_ns: int,
        watermark_ns: int,
        counts: CaptureCounts | None,
        goodbye: bool = False,
        only: Iterable[int] | None = None,
    ) -> list[Message]:
        """Make a message for each partition of what waits for it, which may be nothing.

        Args:
            emit_time_ns: Unix time for the messages.
            watermark_ns: Unix time before which nothing more will be added.
            counts: totals of the capture, taken after the last read, for the home partition.
            goodbye: nothing will follow.
            only: partitions to cut; all when None.
        """
        counters = None
        if counts is not None:
            counters = Counters(seen=counts.seen, dropped=counts.dropped)
        return [
            self._cut(partition, emit_time_ns, watermark_ns, counters, goodbye)
            for partition in (range(self.partitions) if only is None else only)
        ]

    def _cut(
        self,
        partition: int,
        emit_time_ns: int,
        watermark_ns: int,
        counters: Counters | None,
        goodbye: bool,
    ) -> Message:
        records = self._records[partition, : self._fill[partition]]
        sequence, before = self._sequences[partition], self._packets_before[partition]
        header = BatchHeader(
            tenant=self.tenant,
            probe=self.probe,
            boot_id=self.boot_id,
            partition=partition,
            sequence=sequence,
            emit_time_ns=emit_time_ns,
            watermark_ns=watermark_ns,
            record_count=len(records),
            sampling_rate=self._sampling_rate,
            goodbye=goodbye,
            counters=counters if partition == self.home else None,
            packets_before=before,
            aggregated=bool(self._aggregated[partition]),
            interfaces={name: index for index, name in self.interfaces.items()},
        )
        value = encode_batch(header, records, self._schema_id)
        packets = int(self._packets[partition])
        self._sequences[partition] += 1
        self._packets_before[partition] += packets
        self.packets_sent += packets
        self._fill[partition] = 0
        self._packets[partition] = 0
        self._aggregated[partition] = False
        return Message(partition, value, sequence, before, packets)


@numba.njit(nogil=True, cache=True)
def scatter(
    words: Any, start: Any, buffers: Any, fill: Any, packets: Any, seed: Any, partitions: Any
) -> Any:
    """Append records to the buffers of their partitions until one is full.

    Args:
        words: (n, 11) uint64, the records.
        start: index of the first record to take.
        buffers: (partitions, size, 11) uint64, appended to.
        fill: (partitions,) int64, records in each buffer; none full at the start.
        packets: (partitions,) int64, raised by the records' ``packets``.
        seed: of the partition hash, uint64.
        partitions: how many, uint64.

    Returns:
        Index of the first record that was not taken.
    """
    size = buffers.shape[1]
    for i in range(start, words.shape[0]):
        partition = np.int64(partition_of(words, i, seed, partitions))
        slot = fill[partition]
        for j in range(words.shape[1]):
            buffers[partition, slot, j] = words[i, j]
        packets[partition] += np.int64(words[i, 7] >> _HIGH_HALF)
        fill[partition] = slot + 1
        if slot + 1 == size:
            return i + 1
    return words.shape[0]
