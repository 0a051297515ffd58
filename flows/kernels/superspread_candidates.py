"""The candidates of a mergeable spread sketch: keys that can be listed.

The table keeps the keys whose smallest pair hash, their *order*, is below a threshold: a bottom-k
sample of keys (Cohen and Kaplan, "Summarizing data using bottom-k sketches", 2007). A key with n
elements is missing with probability (1 - threshold)^n. The threshold is the smallest order that
doesn't fit, so keys, orders and threshold are a function of the set of pairs alone.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.intrinsics import prefetch
from schemas.hashing import finish, mix

EVERYTHING: Final = 1 << 32
"""Threshold of a candidate table that has never been full."""

# Slots of a candidate table's state array (uint64).
COUNT, THRESHOLD = 0, 1

_BLOCK: Final = 128
_RECENT: Final = 4096
_0: Final = np.uint64(0)
_1: Final = np.uint64(1)
_32: Final = np.uint64(32)
_LOW_32: Final = np.uint64(0xFFFFFFFF)
_ORDER_FACTOR: Final = np.uint64(0x9FB21C651E98DF25)


@numba.njit(inline="always")
def order_of(pair: Any) -> Any:
    """The 32-bit hash of a pair by which candidates are sampled."""
    return ((pair ^ (pair >> _32)) * _ORDER_FACTOR) >> _32


@numba.njit(inline="always")
def _slot_of(key_hash: Any, n_slots: Any) -> Any:
    return ((key_hash >> _32) * n_slots) >> _32


@numba.njit(nogil=True, cache=True)
def prune(keys: Any, lowest: Any, slots: Any, state: Any, seed: Any, kept: Any) -> None:
    """Drop the candidates at or above the threshold, and lower it until ``kept`` are left.

    Args:
        keys: (capacity, words) uint64. Compacted.
        lowest: smallest ``order_of`` of each key's pairs, (capacity,) uint32. Compacted.
        slots: open-addressing index, a key's position plus one, uint16. Rebuilt.
        state: ``COUNT`` and ``THRESHOLD``, uint64. Updated.
        seed: of the hash of keys, uint64.
        kept: keep so many at most.
    """
    count = np.int64(state[COUNT])
    threshold = state[THRESHOLD]
    below = 0
    for i in range(count):
        if np.uint64(lowest[i]) < threshold:
            below += 1
    if below > kept:
        threshold = np.uint64(np.partition(lowest[:count], kept)[kept])
        state[THRESHOLD] = threshold
    slots[:] = 0
    n_slots = np.uint64(slots.shape[0])
    words = keys.shape[1]
    position = 0
    for i in range(count):
        if np.uint64(lowest[i]) >= threshold:
            continue
        h = seed
        for word in range(words):
            keys[position, word] = keys[i, word]
            h = mix(h, keys[i, word])
        lowest[position] = lowest[i]
        slot = _slot_of(finish(h), n_slots)
        while slots[slot] != 0:
            slot += _1
            if slot == n_slots:
                slot = _0
        position += 1
        slots[slot] = position
    state[COUNT] = position


@numba.njit(nogil=True, cache=True)
def offer_candidate(
    keys: Any, row: Any, key_hash: Any, order: Any,
    table: Any, lowest: Any, slots: Any, state: Any, seed: Any, kept: Any,
) -> None:  # fmt: skip
    """Offer key ``keys[row]`` with a pair of this order; arguments as for ``prune``."""
    n_slots = np.uint64(slots.shape[0])
    words = keys.shape[1]
    slot = _slot_of(key_hash, n_slots)
    while slots[slot] != 0:
        position = np.int64(slots[slot]) - 1
        same = True
        for word in range(words):
            same &= table[position, word] == keys[row, word]
        if same:
            if order < np.uint64(lowest[position]):
                lowest[position] = order
            return
        slot += _1
        if slot == n_slots:
            slot = _0
    position = np.int64(state[COUNT])
    for word in range(words):
        table[position, word] = keys[row, word]
    lowest[position] = order
    slots[slot] = position + 1
    state[COUNT] = position + 1
    if position + 1 == table.shape[0]:
        prune(table, lowest, slots, state, seed, kept)


@numba.njit(nogil=True, cache=True)
def offer_pairs(
    keys: Any, key_hashes: Any, pairs: Any,
    table: Any, lowest: Any, slots: Any, state: Any, seed: Any, kept: Any,
) -> None:  # fmt: skip
    """Offer the key of each pair, (n, words), (n,), (n,) uint64; the rest as for ``prune``.

    Pairs of small order come first, a range of orders at a time: of a flood of new keys those
    that fill the table lower the threshold at once, and none of the others is looked at.
    """
    n = pairs.shape[0]
    first = np.uint64(EVERYTHING)
    if n > 2 * kept:
        # Where all keys are new, so many pairs fill the table.
        first = np.uint64(EVERYTHING * (1.3 * kept / n))
    # Keys offered lately with their smallest order: a larger one can't change the table.
    recent = np.zeros(min(_RECENT, max(n, 1)), np.uint64)
    smallest = np.zeros(recent.shape[0], np.uint64)
    lower, upper = _0, min(first, state[THRESHOLD])
    while True:
        _offer_range(
            keys, key_hashes, pairs, lower, upper, recent, smallest,
            table, lowest, slots, state, seed, kept,
        )  # fmt: skip
        if upper >= state[THRESHOLD]:
            return
        lower, upper = upper, min(upper + upper, state[THRESHOLD])


@numba.njit(nogil=True, cache=True)
def _offer_range(
    keys: Any, key_hashes: Any, pairs: Any, lower: Any, upper: Any, recent: Any, smallest: Any,
    table: Any, lowest: Any, slots: Any, state: Any, seed: Any, kept: Any,
) -> None:  # fmt: skip
    """``offer_pairs`` for orders from ``lower`` to below ``upper``."""
    n = pairs.shape[0]
    n_slots = np.uint64(slots.shape[0])
    words = np.uint64(table.shape[1])
    rows = np.empty(_BLOCK, np.int64)
    n_recent = np.uint64(recent.shape[0])
    for start in range(0, n, _BLOCK):
        end = min(upper, state[THRESHOLD])
        width = end - lower if end > lower else _0
        below = 0
        for i in range(start, min(start + _BLOCK, n)):
            rows[below] = i
            below += int(order_of(pairs[i]) - lower < width)  # unsigned: false below lower
        found = 0
        for k in range(below):
            i = rows[k]
            place = ((key_hashes[i] & _LOW_32) * n_recent) >> _32
            order = order_of(pairs[i])
            if recent[place] == key_hashes[i] and order >= smallest[place]:
                continue
            recent[place] = key_hashes[i]
            smallest[place] = order
            rows[found] = i
            found += 1
        for k in range(found):
            prefetch(slots, _slot_of(key_hashes[rows[k]], n_slots))
            prefetch(keys, np.uint64(rows[k]) * words)
        for k in range(found):
            position = np.uint64(slots[_slot_of(key_hashes[rows[k]], n_slots)])
            prefetch(table, position * words)
            prefetch(lowest, position)
        for k in range(found):
            i = rows[k]
            order = order_of(pairs[i])
            if order < state[THRESHOLD]:
                offer_candidate(
                    keys, i, key_hashes[i], order, table, lowest, slots, state, seed, kept
                )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def offer_entries(
    keys: Any, key_hashes: Any, orders: Any,
    table: Any, lowest: Any, slots: Any, state: Any, seed: Any, kept: Any,
) -> None:  # fmt: skip
    """``offer_pairs`` for the entries of another table, ``orders`` being its ``lowest``."""
    for i in range(orders.shape[0]):
        order = np.uint64(orders[i])
        if order < state[THRESHOLD]:
            offer_candidate(
                keys, i, key_hashes[i], order, table, lowest, slots, state, seed, kept
            )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def find_orders(
    keys: Any, key_hashes: Any, table: Any, lowest: Any, slots: Any, state: Any, out: Any
) -> None:
    """Smallest order of each key's pairs, (n, words), (n,); of a key that isn't held, at least.

    Args:
        keys: (n, words) uint64.
        key_hashes: (n,) uint64.
        table: as for ``prune``, like the following three.
        lowest: orders.
        slots: index.
        state: ``COUNT`` and ``THRESHOLD``.
        out: receives the orders, (n,) uint64.
    """
    n_slots = np.uint64(slots.shape[0])
    words = table.shape[1]
    for i in range(out.shape[0]):
        out[i] = state[THRESHOLD]
        slot = _slot_of(key_hashes[i], n_slots)
        while slots[slot] != 0:
            position = np.int64(slots[slot]) - 1
            same = True
            for word in range(words):
                same &= table[position, word] == keys[i, word]
            if same:
                out[i] = min(np.uint64(lowest[position]), state[THRESHOLD])
                break
            slot += _1
            if slot == n_slots:
                slot = _0
