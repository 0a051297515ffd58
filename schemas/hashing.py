"""The hash that probe, dataflow and sketches share.

``hash_words`` maps 64-bit words to 64 bits under a 64-bit seed. It is specified here, so that
every process, now and later, computes the same: per word ``h = (h ^ w) * M1; h ^= h >> 32``,
then the finaliser of MurmurHash3 (``fmix64``, public domain, Austin Appleby). Each step is a
bijection of the state, so two inputs that differ in one word never collide.

Addresses are two little-endian words (bytes 0..7, 8..15); every other field is one word.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

M1: Final = np.uint64(0x9FB21C651E98DF25)
M2: Final = np.uint64(0xFF51AFD7ED558CCD)
M3: Final = np.uint64(0xC4CEB9FE1A85EC53)
S32: Final = np.uint64(32)
S33: Final = np.uint64(33)

DEFAULT_SEED: Final = 0x6E65747370656374
"""Seed used where the settings give none."""

PARTITION_SEED: Final = 0x7061727469740001
"""Seed of the partition hash; fixed, so that all probes agree."""


@numba.njit(inline="always")
def mix(h: Any, word: Any) -> Any:
    """Absorb one 64-bit word into the state."""
    h = (h ^ word) * M1
    return h ^ (h >> S32)


@numba.njit(inline="always")
def finish(h: Any) -> Any:
    """Spread the state over all 64 bits (MurmurHash3's ``fmix64``)."""
    h ^= h >> S33
    h *= M2
    h ^= h >> S33
    h *= M3
    return h ^ (h >> S33)


@numba.njit(nogil=True, cache=True)
def hash_rows(words: Any, seed: Any, out: Any) -> None:
    """Hash each row of ``words`` (n, k) uint64 into ``out`` (n,) uint64."""
    for i in range(words.shape[0]):
        h = seed
        for j in range(words.shape[1]):
            h = mix(h, words[i, j])
        out[i] = finish(h)


@numba.njit(inline="always")
def partition_of(packets: Any, i: Any, seed: Any, partitions: Any) -> Any:
    """Partition of packet ``i``: unordered address pair and protocol, without ports.

    ``packets`` is the (n, 11) word view of records. Sums and products of the two ends' words
    don't depend on their order, so requests, replies and fragments of a host pair share a
    partition.
    """
    src = finish(mix(mix(seed, packets[i, 1]), packets[i, 2]))
    dst = finish(mix(mix(seed, packets[i, 3]), packets[i, 4]))
    proto = (packets[i, 9] >> S32) & np.uint64(0xFF)
    return finish(mix(mix(mix(seed, src + dst), src ^ dst), proto)) % partitions


@numba.njit(nogil=True, cache=True)
def partition_rows(packets: Any, seed: Any, partitions: Any, out: Any) -> None:
    """Write the partition of each of (n, 11) ``packets`` to ``out`` (n,) uint32."""
    for i in range(packets.shape[0]):
        out[i] = np.uint32(partition_of(packets, i, seed, partitions))


def hash_words(words: npt.NDArray[np.uint64], seed: int = DEFAULT_SEED) -> npt.NDArray[np.uint64]:
    """Hash the rows of an ``(n, k)`` array of words; returns ``(n,)`` uint64."""
    out = np.empty(len(words), np.uint64)
    hash_rows(np.ascontiguousarray(words, np.uint64), np.uint64(seed), out)
    return out


def partitions(packet_words: npt.NDArray[np.uint64], count: int) -> npt.NDArray[np.uint32]:
    """Partition (0 to ``count`` - 1) of each row of an (n, 11) word view of packets."""
    out = np.empty(len(packet_words), np.uint32)
    partition_rows(packet_words, np.uint64(PARTITION_SEED), np.uint64(count), out)
    return out
