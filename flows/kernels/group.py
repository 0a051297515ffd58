"""Sum packets and bytes by key, and choose the keys worth a call of the library."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

TIES: Final = 32
"""So many rows of equal weight are chosen where there is no room for all."""

_BUCKETS: Final = 1 << 15
_32: Final = np.uint64(32)
_0: Final = np.uint64(0)
_1: Final = np.uint64(1)
_LOW: Final = np.uint64(0xFFFFFFFF)


class Grouped(NamedTuple):
    """Distinct keys with their sums, in order of first appearance."""

    keys: U64
    """(n, words)"""
    hashes: U64
    """(n,)"""
    packets: U64
    """(n,)"""
    bytes: U64
    """(n,)"""


@numba.njit(nogil=True, cache=True)
def group_rows(
    keys: Any,
    hashes: Any,
    packets: Any,
    n_bytes: Any,
    slots: Any,
    first: Any,
    packets_sum: Any,
    bytes_sum: Any,
) -> Any:
    """Group rows by key in an open-addressing hash table with linear probing.

    Args:
        keys: (n, words) uint64.
        hashes: a well mixed hash of each key, (n,) uint64.
        packets: (n,) uint64.
        n_bytes: (n,) uint64.
        slots: zeros, (m,) uint64, m a power of two above n. A slot holds the upper half of the
            key's hash and the group's number plus one, so most probes never touch ``keys``.
        first: receives the row at which each group appears first, int64.
        packets_sum: receives the packets of each group, (n,) uint64.
        bytes_sum: receives the bytes of each group, (n,) uint64.

    Returns:
        The number of groups.
    """
    mask = np.uint64(slots.shape[0] - 1)
    words = keys.shape[1]
    count = 0
    for i in range(hashes.shape[0]):
        h = hashes[i]
        tag = h & ~_LOW
        slot = h & mask
        while True:
            entry = slots[slot]
            if entry == _0:
                slots[slot] = tag | np.uint64(count + 1)
                first[count] = i
                packets_sum[count] = packets[i]
                bytes_sum[count] = n_bytes[i]
                count += 1
                break
            if entry & ~_LOW == tag:
                group = np.int64(entry & _LOW) - 1
                other = first[group]
                same = True
                for word in range(words):
                    same &= keys[other, word] == keys[i, word]
                if same:
                    packets_sum[group] += packets[i]
                    bytes_sum[group] += n_bytes[i]
                    break
            slot = (slot + _1) & mask
    return count


def group_sum(keys: U64, hashes: U64, packets: U64, n_bytes: U64) -> Grouped:
    """Sum ``packets`` and ``n_bytes`` over equal keys.

    Args:
        keys: (n, words).
        hashes: (n,); equal keys must have equal hashes. Keys are compared themselves, so a
            collision only costs time.
        packets: (n,).
        n_bytes: (n,).

    Returns:
        The distinct keys in order of first appearance.

    Raises:
        ValueError: the columns differ in length.
    """
    n = len(hashes)
    if not len(keys) == n == len(packets) == len(n_bytes):
        msg = f"columns of {len(keys)}, {n}, {len(packets)} and {len(n_bytes)} rows"
        raise ValueError(msg)
    slots = np.zeros(1 << (2 * n).bit_length(), np.uint64)
    first = np.empty(n, np.int64)
    sums = np.empty(n, np.uint64), np.empty(n, np.uint64)
    count = group_rows(keys, hashes, packets, n_bytes, slots, first, *sums)
    rows = first[:count]
    return Grouped(
        np.take(keys, rows, axis=0), np.take(hashes, rows), sums[0][:count], sums[1][:count]
    )


@numba.njit(nogil=True, cache=True)
def sum_buckets(hashes: Any, packets: Any, n_bytes: Any, sums: Any) -> None:
    """Add rows to the bucket that the upper bits of their hash name.

    Args:
        hashes: (n,) uint64.
        packets: (n,) uint64.
        n_bytes: (n,) uint64.
        sums: zeros, (2^k, 2) uint64, k from 1 to 32. Receives packets and bytes.
    """
    buckets = np.uint64(sums.shape[0])
    for i in range(hashes.shape[0]):
        bucket = ((hashes[i] >> _32) * buckets) >> _32
        sums[bucket, 0] += packets[i]
        sums[bucket, 1] += n_bytes[i]


@numba.njit(nogil=True, cache=True)
def rows_of_buckets(hashes: Any, chosen: Any, rows: Any) -> Any:
    """List the rows whose bucket is ``chosen``, (2^k,) bool, in ``rows`` (int64); how many."""
    buckets = np.uint64(chosen.shape[0])
    count = 0
    for i in range(hashes.shape[0]):
        rows[count] = i
        count += int(chosen[((hashes[i] >> _32) * buckets) >> _32])
    return count


class Heaviest(NamedTuple):
    """A selection of rows, and what the others can weigh at most."""

    rows: npt.NDArray[np.intp]
    dropped_packets: int
    dropped_bytes: int


NOTHING_DROPPED: Final = Heaviest(np.empty(0, np.intp), 0, 0)
"""Of no rows none was left out."""


def likely_heaviest(hashes: U64, packets: U64, n_bytes: U64, count: int) -> Heaviest:
    """Rows, whose keys may repeat, of the ``count`` heaviest buckets by packets or by bytes.

    A key weighs no more than its bucket, so one that isn't among these rows weighs no more than
    what is given as dropped. Costs a fraction of ``group_sum``.
    """
    sums = np.zeros((_BUCKETS, 2), np.uint64)
    sum_buckets(hashes, packets, n_bytes, sums)
    limits = np.partition(sums, _BUCKETS - count - 1, axis=0)[_BUCKETS - count - 1]
    chosen = (sums > limits).any(axis=1)
    rows = np.empty(len(hashes) + 1, np.int64)
    found = rows_of_buckets(hashes, chosen, rows)
    dropped = np.where(chosen[:, None], _0, sums).max(axis=0)
    return Heaviest(rows[:found], int(dropped[0]), int(dropped[1]))


def heaviest(packets: U64, n_bytes: U64, count: int) -> Heaviest:
    """The rows that belong to the ``count`` largest by packets or by bytes.

    Of rows that tie with the first one outside only ``TIES`` are taken: enough to show some,
    while a flood of keys of one weight doesn't cost a call of the library each.

    Returns:
        Row numbers in order, and the largest packets and bytes of a row not chosen (0 if none).
    """
    n = len(packets)
    if n <= count:
        return Heaviest(np.arange(n), 0, 0)
    chosen = np.zeros(n, np.bool_)
    for weights in (packets, n_bytes):
        limit = np.partition(weights, n - count - 1)[n - count - 1]
        above = weights > limit
        spare = min(count - np.count_nonzero(above), TIES)
        chosen |= above
        chosen[np.flatnonzero(weights == limit)[:spare]] = True
    rest = ~chosen
    return Heaviest(
        np.flatnonzero(chosen),
        int(packets.max(where=rest, initial=0)),
        int(n_bytes.max(where=rest, initial=0)),
    )
