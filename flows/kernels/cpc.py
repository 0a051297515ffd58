"""Which items tell a CPC sketch something new.

A Compressed Probabilistic Counting sketch (Lang, "Back to the Future: an Even More Nearly
Optimal Cardinality Estimation Algorithm", 2017) is a set of *coupons*: an item's row is the low
bits of one half of its hash, its column the number of leading zeros of the other. An item whose
coupon is in the set changes nothing, so only the first item of each coupon needs the library.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.murmur import hash_spread, spread_item
from schemas.hashing import finish

LIBRARY_SEED: Final = np.uint64(9001)
"""The update seed that DataSketches uses in every language unless told otherwise."""

_0: Final = np.uint64(0)
_1: Final = np.uint64(1)


@numba.njit(inline="always")
def _top_bit(x: Any) -> Any:
    """The highest bit set in ``x`` (uint64, not 0), alone."""
    x |= x >> np.uint64(1)
    x |= x >> np.uint64(2)
    x |= x >> np.uint64(4)
    x |= x >> np.uint64(8)
    x |= x >> np.uint64(16)
    x |= x >> np.uint64(32)
    return x ^ (x >> _1)


@numba.njit(nogil=True, cache=True)
def new_coupons(hashes: Any, seen: Any, positions: Any) -> Any:
    """Find the items whose coupon was not in ``seen``, and add it.

    Args:
        hashes: items, (n,) uint64.
        seen: coupon matrix, (k,) uint64, k a power of two; bit 63 - column of a row. Updated.
        positions: receives the positions of the new items in order, (n,) int64.

    Returns:
        How many items were new.
    """
    mask = np.uint64(seen.shape[0] - 1)
    count = 0
    for i in range(hashes.shape[0]):
        h1, h2 = hash_spread(spread_item(hashes[i]), LIBRARY_SEED)
        row = h1 & mask
        # The library caps the column at 63, which is what the last bit does here.
        bit = _top_bit(h2 | _1)
        word = seen[row]
        if word & bit == _0:
            seen[row] = word | bit
            positions[count] = i
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def distinct_few(hashes: Any, slots: Any, out: Any) -> Any:
    """Collect the different items of ``hashes`` as long as they fit into ``out``.

    Args:
        hashes: items, (n,) uint64.
        slots: zeros, (m,) uint64, m a power of two and at least twice ``len(out)``.
        out: receives the different items in order of first appearance, uint64.

    Returns:
        How many there are, or ``len(out) + 1`` as soon as they don't fit.
    """
    mask = np.uint64(slots.shape[0] - 1)
    limit = out.shape[0]
    count = 0
    zero_seen = False
    for i in range(hashes.shape[0]):
        item = hashes[i]
        if item == _0:
            if zero_seen:
                continue
            zero_seen = True
        else:
            slot = finish(item) & mask
            while slots[slot] != _0 and slots[slot] != item:
                slot = (slot + _1) & mask
            if slots[slot] == item:
                continue
        if count == limit:
            return limit + 1
        if item != _0:
            slots[slot] = item
        out[count] = item
        count += 1
    return count
