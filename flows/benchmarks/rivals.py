"""What the spread sketches are compared with: an exact set of pairs and RGS-Sketch.

RGS-Sketch: Zhang, Huang, Sun and Gao, "RGS-Sketch: An Accurate, Invertible, and Mergeable Sketch
for Online Super Spreader Detection in High-speed Data Streams", PVLDB 18(4), 2025. Keys share
*groups* of eight HyperLogLog registers; a pair that would raise a register stands for 1/p pairs,
p being the probability that a new pair changes the group. It goes to a bucket of eight keys with
counters, and the register is raised only if the bucket takes the pair: a key that is not there
replaces the smallest with probability 1 / (smallest + 1), which keeps small keys out of the
registers. Merged sketches are read from the maximum of their registers by subtracting the mean
noise, between the largest and the sum of the counters.

This is an implementation of our own after the public description, with 64-bit hashes, seeded
random numbers and keys of any length; memory is quoted for registers packed in five bits.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from flows.kernels.superspread import pair_hashes
from flows.sketches.superspread.result import SpreadTop, ranked
from schemas.hashing import finish, hash_words

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

GROUP: Final = 8  # registers per group
KEY_GROUPS: Final = 32  # groups per key
CELLS: Final = 8  # keys per bucket
MAX_RANK: Final = 25
COUNTER_BYTES: Final = 4

_0: Final = np.uint64(0)
_1: Final = np.uint64(1)
_32: Final = np.uint64(32)
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


class ExactPairs:
    """A set of pairs: 64-bit fingerprints in an open-addressing table, and counters per key.

    The least memory that an exact answer takes: no key, no element is stored twice.
    """

    def __init__(self, words: int, seed: int) -> None:
        self.seed = seed
        self._pairs = np.zeros(1 << 16, np.uint64)
        self._keys = np.zeros((1 << 12, words), np.uint64)
        self._counts = np.zeros(1 << 12, np.int64)
        self._slots = np.zeros(1 << 13, np.uint32)
        self._state = np.zeros(2, np.int64)  # pairs, keys

    @property
    def memory_bytes(self) -> int:
        """Memory of the tables."""
        arrays = self._pairs, self._keys, self._counts, self._slots
        return sum(array.nbytes for array in arrays)

    def update(self, keys: U64, key_hashes: U64, element_hashes: U64) -> None:
        """Count pairs."""
        pairs = np.empty(len(keys), np.uint64)
        pair_hashes(key_hashes, element_hashes, pairs)
        done = 0
        while done < len(pairs):
            done = _count_pairs(
                keys, key_hashes, pairs, done,
                self._pairs, self._keys, self._counts, self._slots, self._state,
            )  # fmt: skip
            if done < len(pairs):
                self._grow()

    def top(self, n: int = 10, at_least: float = 0) -> SpreadTop:
        """The keys with the most elements, exactly."""
        count = int(self._state[1])
        spread = self._counts[:count].astype(np.float64)
        rows = np.flatnonzero(spread >= at_least)
        if len(rows) > n:
            limit = np.partition(spread[rows], len(rows) - n)[len(rows) - n]
            rows = rows[spread[rows] >= limit]
        listed = spread[rows]
        return SpreadTop(
            ranked(self._keys[rows], listed, listed, listed, n), 1.0, 1.0, self.memory_bytes
        )

    def _grow(self) -> None:
        if 4 * self._state[0] >= 3 * len(self._pairs):
            old = self._pairs
            self._pairs = np.zeros(2 * len(old), np.uint64)
            _insert_all(old[old != 0], self._pairs)
        if self._state[1] == len(self._counts):
            count = len(self._counts)
            self._keys = np.concatenate((self._keys, np.zeros_like(self._keys)))
            self._counts = np.concatenate((self._counts, np.zeros_like(self._counts)))
            self._slots = np.zeros(2 * len(self._slots), np.uint32)
            _index_all(hash_words(self._keys[:count], self.seed), self._slots)


class RgsSketch:
    """Register group sharing.

    Args:
        words: 64-bit words per key.
        memory_bytes: size, registers counted as five bits.
        seed: of the hash of keys.
        bucket_share: share of the memory for buckets; published: 0.35 for one place, 0.1 for
            sketches that will be merged.
    """

    def __init__(
        self, words: int, memory_bytes: int, seed: int, bucket_share: float = 0.35
    ) -> None:
        self.seed = seed
        self.memory_bytes = memory_bytes
        cell_bytes = 8 * words + COUNTER_BYTES
        buckets = max(1, int(bucket_share * memory_bytes) // (CELLS * cell_bytes))
        groups = (memory_bytes - buckets * CELLS * cell_bytes) * 8 // (5 * GROUP)
        self._registers = np.zeros((groups, GROUP), np.uint8)
        self._keys = np.zeros((buckets, CELLS, words), np.uint64)
        self._counts = np.zeros((buckets, CELLS), np.int64)
        self._random = np.array([seed], np.uint64)

    @property
    def candidates(self) -> int:
        """How many keys ``top`` chooses from."""
        return int(np.count_nonzero(self._counts))

    def update(self, keys: U64, key_hashes: U64, element_hashes: U64) -> None:
        """Count pairs."""
        pairs = np.empty(len(keys), np.uint64)
        pair_hashes(key_hashes, element_hashes, pairs)
        _share_groups(
            keys, key_hashes, pairs, self._registers, self._keys, self._counts, self._random
        )

    def top(self, n: int = 10, at_least: float = 0) -> SpreadTop:
        """The keys with the largest counters."""
        used = self._counts > 0
        return self._top(self._keys[used], self._counts[used].astype(np.float64), n, at_least)

    @staticmethod
    def merged_top(parts: list[RgsSketch], n: int = 10, at_least: float = 0) -> SpreadTop:
        """The keys with the largest spreads over all parts."""
        registers = np.maximum.reduce([part._registers for part in parts])
        held = [part._keys[part._counts > 0] for part in parts]
        keys = np.unique(np.concatenate(held), axis=0)
        largest, total = np.zeros(len(keys)), np.zeros(len(keys))
        for part in parts:
            used = part._counts > 0
            counts = {
                tuple(key): count
                for key, count in zip(
                    part._keys[used].tolist(), part._counts[used].tolist(), strict=True
                )
            }
            least = min(counts.values(), default=0)
            for row, key in enumerate(keys.tolist()):
                largest[row] = max(largest[row], counts.get(tuple(key), 0))
                total[row] += counts.get(tuple(key), least)
        raw = np.empty(len(keys))
        _read_groups(hash_words(keys, parts[0].seed), registers, raw)
        n_key, n_all = KEY_GROUPS * GROUP, registers.size
        noise = _cardinality(registers) / n_all
        spread = n_all * n_key / (n_all - n_key) * (raw / n_key - noise)
        return parts[0]._top(keys, np.clip(spread, largest, total), n, at_least)

    def _top(self, keys: U64, spread: F64, n: int, at_least: float) -> SpreadTop:
        listed = spread >= at_least
        none = np.zeros(np.count_nonzero(listed))
        rows = ranked(keys[listed], spread[listed], none, none + math.inf, n)
        return SpreadTop(rows, math.inf, 1.0, self.memory_bytes)


@numba.njit(nogil=True, cache=True)
def _count_pairs(
    keys: Any, key_hashes: Any, pairs: Any, start: Any,
    table: Any, known: Any, counts: Any, slots: Any, state: Any,
) -> Any:  # fmt: skip
    """Count the pairs from ``start`` on; returns where it stopped for want of room."""
    mask = np.uint64(table.shape[0] - 1)
    slot_mask = np.uint64(slots.shape[0] - 1)
    for i in range(start, pairs.shape[0]):
        if 4 * state[0] >= 3 * table.shape[0] or state[1] == counts.shape[0]:
            return i
        pair = max(pairs[i], _1)
        place = pair & mask
        while table[place] != _0 and table[place] != pair:
            place = (place + _1) & mask
        if table[place] == pair:
            continue
        table[place] = pair
        state[0] += 1
        slot = key_hashes[i] & slot_mask
        while True:
            entry = np.int64(slots[slot])
            if entry == 0:
                entry = state[1] + 1
                known[entry - 1] = keys[i]
                slots[slot] = entry
                state[1] = entry
                break
            same = True
            for word in range(keys.shape[1]):
                same &= known[entry - 1, word] == keys[i, word]
            if same:
                break
            slot = (slot + _1) & slot_mask
        counts[entry - 1] += 1
    return pairs.shape[0]


@numba.njit(nogil=True, cache=True)
def _insert_all(pairs: Any, table: Any) -> None:
    mask = np.uint64(table.shape[0] - 1)
    for i in range(pairs.shape[0]):
        place = pairs[i] & mask
        while table[place] != _0:
            place = (place + _1) & mask
        table[place] = pairs[i]


@numba.njit(nogil=True, cache=True)
def _index_all(key_hashes: Any, slots: Any) -> None:
    mask = np.uint64(slots.shape[0] - 1)
    for i in range(key_hashes.shape[0]):
        slot = key_hashes[i] & mask
        while slots[slot] != 0:
            slot = (slot + _1) & mask
        slots[slot] = i + 1


@numba.njit(inline="always")
def _group_of(key_hash: Any, number: Any, groups: Any) -> Any:
    return ((finish(key_hash ^ ((number + _1) * _STEP)) >> _32) * groups) >> _32


@numba.njit(nogil=True, cache=True)
def _share_groups(
    keys: Any, key_hashes: Any, pairs: Any, registers: Any, known: Any, counts: Any, random: Any
) -> None:
    groups, size = np.uint64(registers.shape[0]), registers.shape[1]
    buckets, cells, words = known.shape
    for i in range(pairs.shape[0]):
        pair = pairs[i]
        group = _group_of(key_hashes[i], pair % np.uint64(KEY_GROUPS), groups)
        register = (pair // np.uint64(KEY_GROUPS)) % np.uint64(size)
        rank = 1
        while rank < MAX_RANK and (pair >> np.uint64(64 - rank)) == _0:
            rank += 1
        if rank <= registers[group, register]:
            continue
        odds = 0.0
        for k in range(size):
            if registers[group, k] < MAX_RANK:
                odds += 2.0 ** -np.float64(registers[group, k])
        random[0] += _STEP
        bits = finish(random[0])
        weight = size / odds
        whole = np.int64(weight)
        if (bits >> _32) * 2.0**-32 < weight - whole:
            whole += 1
        bucket = ((key_hashes[i] & np.uint64(0xFFFFFFFF)) * np.uint64(buckets)) >> _32
        least = 0
        taken = False
        for cell in range(cells):
            same = counts[bucket, cell] > 0
            for word in range(words):
                same &= known[bucket, cell, word] == keys[i, word]
            if same or counts[bucket, cell] == 0:
                counts[bucket, cell] += whole
                known[bucket, cell] = keys[i]
                taken = True
                break
            if counts[bucket, cell] < counts[bucket, least]:
                least = cell
        if not taken:
            smallest = counts[bucket, least] + 1
            if (bits & np.uint64(0xFFFFFFFF)) * 2.0**-32 * smallest >= 1.0:
                continue
            counts[bucket, least] = smallest
            known[bucket, least] = keys[i]
        registers[group, register] = rank


@numba.njit(nogil=True, cache=True)
def _read_groups(key_hashes: Any, registers: Any, out: Any) -> None:
    """HyperLogLog estimate of each key's registers, noise included."""
    groups = np.uint64(registers.shape[0])
    m = KEY_GROUPS * registers.shape[1]
    for i in range(key_hashes.shape[0]):
        level = 0.0
        zeros = 0
        for number in range(KEY_GROUPS):
            group = _group_of(key_hashes[i], np.uint64(number), groups)
            for k in range(registers.shape[1]):
                level += 2.0 ** -np.float64(registers[group, k])
                zeros += registers[group, k] == 0
        out[i] = 0.7213 / (1 + 1.079 / m) * m * m / level
        if out[i] < 2.5 * m and zeros > 0:
            out[i] = m * math.log(m / zeros)


def _cardinality(registers: npt.NDArray[np.uint8]) -> float:
    m = registers.size
    raw = 0.7213 * m * m / float(np.exp2(-registers.astype(np.float64)).sum())
    zeros = int(np.count_nonzero(registers == 0))
    return m * math.log(m / zeros) if raw < 2.5 * m and zeros else raw
