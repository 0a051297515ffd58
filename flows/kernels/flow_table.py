"""The hot path: packets into exact flows, one pass, no allocation.

``absorb`` works in blocks: hash a block's keys and prefetch their index slots, prefetch the
entries those slots point to, then compare and add. The index is open addressing with linear
probing; a slot holds the key hash's upper half and the entry number plus one, so an entry is
touched only when 32 hash bits agree. Layout: ``flows.kernels.layout``.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.intrinsics import prefetch
from flows.kernels.layout import (
    BYTES,
    DONE,
    DST_MAC,
    ENTRY_WORDS,
    FIRST,
    FLAGS_SHIFT,
    FOLDED,
    HASH,
    KEY_WORDS,
    LAST,
    PACKETS,
    PANE_FULL,
    PANE_SLOTS,
    S_COUNT,
    S_FIRST_PANE,
    S_LAST_TOTAL,
    S_PANE,
    S_REASON,
    S_TOTALS,
    S_WATERMARK,
    SRC_MAC,
    STREAM_SHIFT,
    T_BYTES,
    T_ICMP,
    T_IPV4,
    T_IPV6,
    T_KIND,
    T_LATE,
    T_OTHER,
    T_OTHER_PROTO,
    T_PACKETS,
    T_PANE,
    T_PLACE,
    T_RECORDS,
    T_TCP,
    T_UDP,
    TABLE_FULL,
    TOTALS_FULL,
)
from schemas.hashing import finish, mix

BLOCK: Final = 64
_0, _1, _2 = np.uint64(0), np.uint64(1), np.uint64(2)
_8, _16, _32 = np.uint64(8), np.uint64(16), np.uint64(32)
_LOW8, _LOW16, _LOW32 = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_LOW48 = np.uint64(0xFFFFFFFFFFFF)
_HIGH32 = np.uint64(0xFFFFFFFF00000000)
_MICRO = np.uint64(1000)
_WORDS = np.uint64(ENTRY_WORDS)
_PANE_MASK = np.uint64(PANE_SLOTS - 1)
_IPV4, _IPV6 = np.uint64(0x0800), np.uint64(0x86DD)
_TCP, _UDP, _ICMP, _ICMP6 = np.uint64(6), np.uint64(17), np.uint64(1), np.uint64(58)


@numba.njit(inline="always")
def hash_key(keys: Any, row: Any, seed: Any) -> Any:
    """Hash the eight key words of ``keys[row]``."""
    h = seed
    for word in range(KEY_WORDS):
        h = mix(h, keys[row, word])
    return finish(h)


@numba.njit(nogil=True, cache=True)
def reindex(entries: Any, count: Any, index: Any) -> None:
    """Fill ``index`` (cleared here) from the hashes of the first ``count`` entries."""
    index[:] = _0
    mask = np.uint64(index.size - 1)
    for row in range(count):
        h = entries[row, HASH]
        slot = h & mask
        while index[slot] != _0:
            slot = (slot + _1) & mask
        index[slot] = (h & _HIGH32) | np.uint64(row + 1)


@numba.njit(nogil=True, cache=True)
def find_total(totals: Any, state: Any, totals_index: Any, pane: Any, place: Any, kind: Any) -> Any:
    """Row of the totals for a key, made if new; ``totals.shape[0]`` when there is no room."""
    mask = np.uint64(totals_index.size - 1)
    slot = finish(mix(mix(mix(_1, pane), place), kind)) & mask
    while totals_index[slot] != 0:
        row = np.uint64(totals_index[slot]) - _1
        if (
            totals[row, T_PANE] == pane
            and totals[row, T_PLACE] == place
            and totals[row, T_KIND] == kind
        ):
            return row
        slot = (slot + _1) & mask
    row = state[S_TOTALS]
    if row < np.uint64(totals.shape[0]):
        totals[row, :] = _0
        totals[row, T_PANE] = pane
        totals[row, T_PLACE] = place
        totals[row, T_KIND] = kind
        totals_index[slot] = np.uint32(row + _1)
        state[S_TOTALS] = row + _1
    return row


@numba.njit(nogil=True, cache=True)
def reindex_totals(totals: Any, count: Any, totals_index: Any) -> None:
    """Fill ``totals_index`` (all zero) for the first ``count`` rows of the totals."""
    mask = np.uint64(totals_index.size - 1)
    for row in range(count):
        key = mix(mix(mix(_1, totals[row, T_PANE]), totals[row, T_PLACE]), totals[row, T_KIND])
        slot = finish(key) & mask
        while totals_index[slot] != 0:
            slot = (slot + _1) & mask
        totals_index[slot] = np.uint32(row + 1)


@numba.njit(nogil=True, cache=True)
def absorb(
    packets: Any,
    start: Any,
    stream: Any,
    rate: Any,
    pane_ns: Any,
    lateness_ns: Any,
    follow: Any,
    seed: Any,
    max_flows: Any,
    entries: Any,
    index: Any,
    pane_flows: Any,
    totals: Any,
    totals_index: Any,
    state: Any,
) -> Any:
    """Add packets from ``start`` on to the flow table and the pane totals.

    ``packets`` is the (n, 11) word view of records; ``rate`` multiplies packets and bytes
    (sampling); ``entries`` (capacity, 16), ``index`` (a power of two over twice the capacity),
    ``pane_flows`` (PANE_SLOTS,) and ``totals`` (rows, 16), ``totals_index`` uint32 are the
    table. With ``follow`` the watermark in ``state`` follows each packet's time less
    ``lateness_ns``; a packet is late when its pane ends at or before the watermark.

    Returns the position of the first packet not taken: the end, or where ``state[S_REASON]``
    says what the table lacks.
    """
    flat = entries.reshape(-1)
    keys = np.empty((BLOCK, KEY_WORDS), np.uint64)
    hashes = np.empty(BLOCK, np.uint64)
    mask = np.uint64(index.size - 1)
    capacity = np.uint64(entries.shape[0])
    count = state[S_COUNT]
    watermark = state[S_WATERMARK]
    first_pane = state[S_FIRST_PANE]
    total = state[S_LAST_TOTAL]
    pane = packets[start, 0] // pane_ns if start < packets.shape[0] else _0
    pane_start = pane * pane_ns
    state[S_REASON] = np.uint64(DONE)
    position = start
    end = packets.shape[0]
    while position < end:
        size = min(BLOCK, end - position)
        for i in range(size):
            p = position + i
            ts = packets[p, 0]
            if ts - pane_start >= pane_ns:  # unsigned: also true when ts is before the pane
                pane = ts // pane_ns
                pane_start = pane * pane_ns
            w9 = packets[p, 9]
            keys[i, 0] = pane
            keys[i, 1] = packets[p, 1]
            keys[i, 2] = packets[p, 2]
            keys[i, 3] = packets[p, 3]
            keys[i, 4] = packets[p, 4]
            keys[i, 5] = (packets[p, 6] >> _32) | (w9 << _32)
            keys[i, 6] = (
                ((w9 >> _32) & _LOW8) | ((packets[p, 10] & _LOW16) << _8) | (stream << STREAM_SHIFT)
            )
            keys[i, 7] = packets[p, 8]
            h = hash_key(keys, i, seed)
            hashes[i] = h
            prefetch(index, h & mask)
        for i in range(size):
            found = index[hashes[i] & mask]
            if (found ^ hashes[i]) & _HIGH32 == _0 and found != _0:
                at = ((found & _LOW32) - _1) * _WORDS
                prefetch(flat, at)
                prefetch(flat, at + _8)
        for i in range(size):
            p = position + i
            h = hashes[i]
            slot = h & mask
            row = capacity
            while True:
                found = index[slot]
                if found == _0:
                    break
                if (found ^ h) & _HIGH32 == _0:
                    candidate = (found & _LOW32) - _1
                    same = True
                    for word in range(KEY_WORDS):
                        if entries[candidate, word] != keys[i, word]:
                            same = False
                            break
                    if same:
                        row = candidate
                        break
                slot = (slot + _1) & mask
            key_pane = keys[i, 0]
            kind = keys[i, 6]
            if row == capacity:
                reason = DONE
                if count == capacity:
                    reason = TABLE_FULL
                elif pane_flows[key_pane & _PANE_MASK] >= max_flows:
                    reason = PANE_FULL
                if reason != DONE:
                    state[S_REASON] = np.uint64(reason)
                    state[S_PANE] = key_pane
                    state[S_COUNT] = count
                    state[S_WATERMARK] = watermark
                    state[S_FIRST_PANE] = first_pane
                    state[S_LAST_TOTAL] = total
                    return p
            # Totals before the flow is made, so that a refusal leaves nothing half done.
            place = keys[i, 7] & _LOW32
            group = kind & ~_LOW8
            if (
                total >= state[S_TOTALS]
                or totals[total, T_PANE] != key_pane
                or totals[total, T_PLACE] != place
                or totals[total, T_KIND] != group
            ):
                total = find_total(totals, state, totals_index, key_pane, place, group)
                if total >= np.uint64(totals.shape[0]):
                    state[S_REASON] = np.uint64(TOTALS_FULL)
                    state[S_COUNT] = count
                    state[S_WATERMARK] = watermark
                    state[S_FIRST_PANE] = first_pane
                    state[S_LAST_TOTAL] = total
                    return p
            if row == capacity:
                row = count
                count += _1
                index[slot] = (h & _HIGH32) | count
                pane_flows[key_pane & _PANE_MASK] += _1
                for word in range(KEY_WORDS):
                    entries[row, word] = keys[i, word]
                entries[row, PACKETS] = _0
                entries[row, BYTES] = _0
                entries[row, FIRST] = packets[p, 0]
                entries[row, LAST] = packets[p, 0]
                entries[row, SRC_MAC] = packets[p, 5] & _LOW48
                entries[row, DST_MAC] = (packets[p, 5] >> FLAGS_SHIFT) | (
                    (packets[p, 6] & _LOW32) << _16
                )
                entries[row, FOLDED] = _0
                entries[row, HASH] = h
                first_pane = min(first_pane, key_pane)
            ts = packets[p, 0]
            w7 = packets[p, 7]
            seen = (w7 >> _32) * rate
            octets = (w7 & _LOW32) * rate
            entries[row, PACKETS] += seen
            entries[row, BYTES] += octets
            entries[row, FIRST] = min(entries[row, FIRST], ts)
            entries[row, LAST] = max(entries[row, LAST], ts + (packets[p, 10] >> _32) * _MICRO)
            entries[row, SRC_MAC] |= ((packets[p, 9] >> np.uint64(40)) & _LOW8) << FLAGS_SHIFT

            eth_type = keys[i, 5] >> FLAGS_SHIFT
            totals[total, T_PACKETS] += seen
            totals[total, T_BYTES] += octets
            totals[total, T_RECORDS] += _1
            if (key_pane + _1) * pane_ns <= watermark:
                totals[total, T_LATE] += seen
            if eth_type in (_IPV4, _IPV6):
                totals[total, T_IPV4 if eth_type == _IPV4 else T_IPV6] += seen
                protocol = kind & _LOW8
                if protocol == _TCP:
                    totals[total, T_TCP] += seen
                elif protocol == _UDP:
                    totals[total, T_UDP] += seen
                elif protocol in (_ICMP, _ICMP6):
                    totals[total, T_ICMP] += seen
                else:
                    totals[total, T_OTHER_PROTO] += seen
            else:
                totals[total, T_OTHER] += seen
            if follow and ts > watermark + lateness_ns:
                watermark = ts - lateness_ns
        position += size
    state[S_COUNT] = count
    state[S_WATERMARK] = watermark
    state[S_FIRST_PANE] = first_pane
    state[S_LAST_TOTAL] = total
    return position


@numba.njit(nogil=True, cache=True)
def drop_closed(entries: Any, state: Any, boundary: Any) -> None:
    """Remove entries of panes below ``boundary``, keep the rest, in order.

    Updates the count and the first pane in ``state``. The index must be rebuilt afterwards.
    """
    count = state[S_COUNT]
    kept = 0
    first_pane = ~_0
    for row in range(count):
        if entries[row, 0] >= boundary:
            if kept != row:
                entries[kept, :] = entries[row, :]
            first_pane = min(first_pane, entries[row, 0])
            kept += 1
    state[S_COUNT] = np.uint64(kept)
    state[S_FIRST_PANE] = first_pane
