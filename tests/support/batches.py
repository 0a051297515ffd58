"""What a probe's messages must be, by the plain rule."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from probe.live import CaptureCounts
from schemas.batch import BatchHeader, Counters, decode_batch
from schemas.hashing import partitions
from schemas.record import PACKET, Packets, as_words


def by_partition(packets: Packets, count: int) -> list[Packets]:
    """What each partition must get."""
    place = partitions(as_words(packets), count)
    return [packets[place == partition] for partition in range(count)]


def check_batches(messages: Iterable[bytes], packets: Packets, count: int) -> list[BatchHeader]:
    """Every packet once, in order, in numbered batches with exact sums; returns the headers."""
    headers = []
    records: list[list[Packets]] = [[np.empty(0, PACKET)] for _ in range(count)]
    sequences, before = [0] * count, [0] * count
    for message in messages:
        header, batch = decode_batch(message)
        partition = header.partition
        assert (header.sequence, header.packets_before) == (sequences[partition], before[partition])
        sequences[partition] += 1
        before[partition] += int(batch["packets"].sum(dtype=np.uint64))
        records[partition].append(batch)
        headers.append(header)
    for partition, wanted in enumerate(by_partition(packets, count)):
        assert np.concatenate(records[partition]).tobytes() == wanted.tobytes()
    return headers


def check_ends(headers: list[BatchHeader], home: int, counts: CaptureCounts) -> None:
    """The last batch of each partition, and no other, is a goodbye; home's has the totals."""
    last = {header.partition: header for header in headers}
    assert set(last) == set(range(len(last)))
    assert [h for h in headers if h.goodbye] == sorted(last.values(), key=lambda h: h.partition)
    assert last[home].counters == Counters(seen=counts.seen, dropped=counts.dropped)
    assert {header.partition for header in headers if header.counters} == {home}
