"""MurmurHash3 of one 64-bit item, as Apache DataSketches computes it.

The library hashes an integer as its eight little-endian bytes with the x64, 128-bit variant of
MurmurHash3 (public domain, Austin Appleby). For eight bytes that is one tail block and no body,
so the mixing of the item does not depend on the seed: ``spread_item`` is done once per item,
``hash_spread`` once per seed.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from schemas.hashing import finish

C1: Final = np.uint64(0x87C37B91114253D5)
C2: Final = np.uint64(0x4CF5AD432745937F)
LENGTH: Final = np.uint64(8)
R31: Final = np.uint64(31)
R33: Final = np.uint64(33)


@numba.njit(inline="always")
def spread_item(item: Any) -> Any:
    """The part of the hash that depends on the item only (uint64)."""
    k = item * C1
    k = (k << R31) | (k >> R33)
    return k * C2


@numba.njit(inline="always")
def hash_spread(spread: Any, seed: Any) -> Any:
    """Both 64-bit halves of the hash of an item given as ``spread_item(item)``."""
    h1 = seed ^ spread ^ LENGTH
    h2 = seed ^ LENGTH
    h1 += h2
    h2 += h1
    h1 = finish(h1)
    h2 = finish(h2)
    h1 += h2
    h2 += h1
    return h1, h2


@numba.njit
def _hash_item(item: Any, seed: Any) -> Any:
    return hash_spread(spread_item(item), seed)


def murmur3_x64_128(item: int, seed: int) -> tuple[int, int]:
    """Both halves of the 128-bit hash of one 64-bit ``item``; for checks, not for bulk use."""
    h1, h2 = _hash_item(np.uint64(item), np.uint64(seed))
    return int(h1), int(h2)
