"""What a probe's messages must be, by the plain rule."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from schemas.batch import BatchHeader, decode_batch
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
