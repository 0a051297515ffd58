"""Buckets of the published SuperSpread algorithm.

A bucket has HyperLogLog registers, the probability that a new pair changes one of them, and a
candidate key with a vote. A pair that changes a register with probability p stands for 1/p pairs
and votes so often; votes for another key than the candidate weaken it with a probability that
falls exponentially in its vote, and a candidate without votes is replaced.

Wang, "Enhancing Accuracy for Super Spreader Identification in High-Speed Data Streams", PVLDB
17(11), 2024; the decay is that of Yang et al., "HeavyKeeper", 2019.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numba
import numpy as np

from schemas.hashing import finish, mix

_0: Final = np.uint64(0)
_1: Final = np.uint64(1)
_11: Final = np.uint64(11)
_32: Final = np.uint64(32)
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_REGISTER_SALT: Final = np.uint64(0xA24BAED4963EE407)
_UNIT: Final = 2.0**-53


@numba.njit(inline="always")
def bucket_of(key_hash: Any, row: Any, width: Any) -> Any:
    """Bucket of a key in a row, all uint64."""
    return ((finish(key_hash ^ ((row + _1) * _STEP)) >> _32) * width) >> _32


@numba.njit(inline="always")
def _uniform(random: Any) -> Any:
    """The next number of SplitMix64 in [0, 1)."""
    random[0] += _STEP
    return np.float64(finish(random[0]) >> _11) * _UNIT


@numba.njit(nogil=True, cache=True)
def vote(
    keys: Any, key_hashes: Any, elements: Any, decay: Any, top_rank: Any,
    registers: Any, odds: Any, candidates: Any, votes: Any, random: Any,
) -> None:  # fmt: skip
    """Feed pairs to the buckets.

    Args:
        keys: (n, words) uint64.
        key_hashes: (n,) uint64.
        elements: hashes of elements, (n,) uint64.
        decay: base b of the weakening probability b^-votes, float64 above 1.
        top_rank: largest rank that a register holds.
        registers: (depth, width, m) uint8, m a power of two. Updated, as all that follow.
        odds: probability that a new pair changes the bucket, (depth, width) float64.
        candidates: (depth, width, words) uint64.
        votes: (depth, width) int64.
        random: state of the generator, (1,) uint64.
    """
    depth, width, m = registers.shape
    words = keys.shape[1]
    for i in range(key_hashes.shape[0]):
        pair = finish(mix(mix(_1, key_hashes[i]), elements[i]))
        rank = 1
        while rank < top_rank and (pair >> np.uint64(64 - rank)) == _0:
            rank += 1
        register = finish(pair ^ _REGISTER_SALT) & np.uint64(m - 1)
        for row in range(depth):
            bucket = bucket_of(key_hashes[i], np.uint64(row), np.uint64(width))
            old = np.int64(registers[row, bucket, register])
            if rank <= old:
                continue
            registers[row, bucket, register] = rank
            p = odds[row, bucket]
            left = 0.0 if rank == top_rank else 2.0**-rank
            odds[row, bucket] = max(p - (2.0**-old - left) / m, 0.0)
            weight = 1.0 / max(p, 1e-12)
            steps = np.int64(math.ceil(weight))
            if _uniform(random) * steps >= weight:
                continue
            same = True
            for word in range(words):
                same &= candidates[row, bucket, word] == keys[i, word]
            count = votes[row, bucket]
            while steps > 0 and count > 0 and not same:
                chance = decay ** -np.float64(count)
                if chance < _UNIT:
                    break
                steps -= 1
                if _uniform(random) < chance:
                    count -= 1
            if steps > 0 and (same or count == 0):
                count += steps
                for word in range(words):
                    candidates[row, bucket, word] = keys[i, word]
            votes[row, bucket] = count


@numba.njit(nogil=True, cache=True)
def read_votes(keys: Any, key_hashes: Any, candidates: Any, votes: Any, out: Any) -> None:
    """Largest vote of each key over the rows where it is the candidate, else 1.

    Args:
        keys: (n, words) uint64.
        key_hashes: (n,) uint64.
        candidates: (depth, width, words) uint64.
        votes: (depth, width) int64.
        out: receives the votes, (n,) float64.
    """
    depth, width, words = candidates.shape
    for i in range(key_hashes.shape[0]):
        most = 1
        for row in range(depth):
            bucket = bucket_of(key_hashes[i], np.uint64(row), np.uint64(width))
            same = True
            for word in range(words):
                same &= candidates[row, bucket, word] == keys[i, word]
            if same and votes[row, bucket] > most:
                most = votes[row, bucket]
        out[i] = most
