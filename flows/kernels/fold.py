"""Folding: many small flows into few rows when a pane has more flows than may be kept.

===== =======================================================
level key that is left
===== =======================================================
0     the whole five-tuple: a flow
1     destination address and protocol
2     destination network (IPv4 /24, IPv6 /48) and protocol
3     protocol
===== =======================================================

EtherType, interface, direction, capture point and stream are kept at every level, so the sums
by IP version, interface and probe stay exact.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from flows.kernels.flow_table import hash_key
from flows.kernels.layout import (
    BYTES,
    DST,
    ENTRY_WORDS,
    FIRST,
    FOLDED,
    HASH,
    KEY_WORDS,
    KIND,
    LAST,
    LEVEL_SHIFT,
    PACKETS,
    PANE,
    PANE_SLOTS,
    PLACE,
    PORTS,
    SRC_MAC,
)

_BLOCK = 64
_0, _1 = np.uint64(0), np.uint64(1)
_32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_HIGH16 = np.uint64(0xFFFF000000000000)
_HIGH32 = np.uint64(0xFFFFFFFF00000000)
_LEVEL = np.uint64(0xFF) << LEVEL_SHIFT
_TCP_FLAGS = np.uint64(0xFF) << np.uint64(48)
_20, _44 = np.uint64(20), np.uint64(44)
_MAX_WEIGHT = np.uint64(2**20 - 1)
_SLOT_MASK = np.uint64(PANE_SLOTS - 1)
_IPV4_NET = np.uint64(0x00FFFFFFFFFFFFFF)  # clears the last octet of ::ffff:a.b.c.d
_IPV6_NET = np.uint64(0x0000FFFFFFFFFFFF)  # keeps the first six octets
_MAPPED_LOW = np.uint64(0xFFFF0000)  # octets 8..11 of a mapped address, little endian


@numba.njit(inline="always")
def _add_row(entries: Any, row: Any, coarse: Any, target: Any) -> None:
    coarse[target, PACKETS] += entries[row, PACKETS]
    coarse[target, BYTES] += entries[row, BYTES]
    coarse[target, FIRST] = min(coarse[target, FIRST], entries[row, FIRST])
    coarse[target, LAST] = max(coarse[target, LAST], entries[row, LAST])
    coarse[target, SRC_MAC] |= entries[row, SRC_MAC] & _TCP_FLAGS
    folded = entries[row, FOLDED]
    coarse[target, FOLDED] += folded if folded != _0 else _1


@numba.njit(nogil=True, cache=True)
def fold_rows(
    entries: Any, rows: Any, start: Any, level: Any, seed: Any, coarse: Any, index: Any, count: Any
) -> Any:
    """Add ``entries[rows[start:]]`` to the coarse table, keyed as ``level`` says.

    ``coarse`` (capacity, 16) and ``index`` are like the flow table's; ``count`` is a one-element
    uint64 array. Returns the position reached: the end, or where the table was full.
    """
    key = np.zeros((1, KEY_WORDS), np.uint64)
    mask = np.uint64(index.size - 1)
    capacity = np.uint64(coarse.shape[0])
    last = capacity
    for at in range(start, rows.size):
        row = rows[at]
        for word in range(KEY_WORDS):
            key[0, word] = _0
        key[0, PANE] = entries[row, PANE]
        key[0, PORTS] = entries[row, PORTS] & _HIGH16
        key[0, KIND] = (entries[row, KIND] & ~_LEVEL) | (np.uint64(level) << LEVEL_SHIFT)
        key[0, PLACE] = entries[row, PLACE] & _LOW32
        high = entries[row, DST]
        low = entries[row, DST + 1]
        if level == 1:
            key[0, DST] = high
            key[0, DST + 1] = low
        elif level == 2:
            if high == _0 and (low & _LOW32) == _MAPPED_LOW:
                key[0, DST + 1] = low & _IPV4_NET
            else:
                key[0, DST] = high & _IPV6_NET
        # A flood's rows have one key after the other.
        same = last != capacity
        if same:
            for word in range(KEY_WORDS):
                same &= coarse[last, word] == key[0, word]
        if same:
            _add_row(entries, row, coarse, last)
            continue
        h = hash_key(key, 0, seed)
        slot = h & mask
        target = capacity
        while index[slot] != _0:
            found = index[slot]
            if (found ^ h) & _HIGH32 == _0:
                candidate = (found & _LOW32) - _1
                same = True
                for word in range(KEY_WORDS):
                    if coarse[candidate, word] != key[0, word]:
                        same = False
                        break
                if same:
                    target = candidate
                    break
            slot = (slot + _1) & mask
        if target == capacity:
            if count[0] == capacity:
                return at
            target = count[0]
            count[0] += _1
            index[slot] = (h & _HIGH32) | count[0]
            for word in range(ENTRY_WORDS):
                coarse[target, word] = _0
            for word in range(KEY_WORDS):
                coarse[target, word] = key[0, word]
            coarse[target, FIRST] = entries[row, FIRST]
            coarse[target, HASH] = h
        last = target
        _add_row(entries, row, coarse, target)
    return rows.size


@numba.njit(nogil=True, cache=True)
def rank_rows(
    entries: Any, fed: Any, count: Any, slot: Any, rows: Any, ranks: Any, pending: Any
) -> Any:
    """List the flows of a pane slot with their rank, and which are not fed entirely.

    Of the first ``count`` entries, those whose pane falls into ``slot``: row numbers into
    ``rows`` (int64), ranks into ``ranks`` (uint64: packets, then bits of the key's hash), and
    the row numbers of those with packets that were not fed (``fed``, (rows, 2)) into
    ``pending``.

    Returns:
        How many rows, how many pending, and the lowest and highest pane among the rows.
    """
    found = 0
    waiting = 0
    lowest = ~_0
    highest = _0
    for row in range(count):
        pane = entries[row, PANE]
        if pane & _SLOT_MASK != slot:
            continue
        lowest = min(lowest, pane)
        highest = max(highest, pane)
        packets = entries[row, PACKETS]
        rows[found] = row
        ranks[found] = (min(packets, _MAX_WEIGHT) << _44) | (entries[row, HASH] >> _20)
        found += 1
        if packets != fed[row, 0]:
            pending[waiting] = row
            waiting += 1
    return found, waiting, lowest, highest


@numba.njit(nogil=True, cache=True)
def gather(entries: Any, rows: Any, out: Any) -> None:
    """Copy ``entries[rows]`` to ``out``, a block at a time: its layout is by column."""
    for start in range(0, rows.size, _BLOCK):
        end = min(start + _BLOCK, rows.size)
        for word in range(ENTRY_WORDS):
            for at in range(start, end):
                out[at, word] = entries[rows[at], word]


@numba.njit(nogil=True, cache=True)
def mark_fed(entries: Any, rows: Any, fed: Any) -> None:
    """Note in ``fed`` (rows, 2) that all packets and bytes of ``rows`` were fed."""
    for at in range(rows.size):
        row = rows[at]
        fed[row, 0] = entries[row, PACKETS]
        fed[row, 1] = entries[row, BYTES]


@numba.njit(nogil=True, cache=True)
def remove_rows(entries: Any, fed: Any, count: Any, doomed: Any) -> Any:
    """Remove the rows that ``doomed`` (bool) marks of the first ``count``, keeping the order.

    ``fed`` (rows, 2) moves with ``entries`` and is zero behind the rows that are left, whose
    number is returned.
    """
    kept = 0
    for row in range(count):
        if not doomed[row]:
            if kept != row:
                for word in range(ENTRY_WORDS):
                    entries[kept, word] = entries[row, word]
                fed[kept, 0] = fed[row, 0]
                fed[kept, 1] = fed[row, 1]
            kept += 1
    for row in range(kept, count):
        fed[row, 0] = _0
        fed[row, 1] = _0
    return kept
