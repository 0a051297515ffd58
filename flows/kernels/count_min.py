"""Count-Min counters (Cormode and Muthukrishnan, 2005) with the library's own bucket choice.

The tables hold float64, as the library's images do: sums of whole numbers are exact, in any
order, below 2^53.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from flows.kernels.murmur import hash_spread, spread_item


@numba.njit(nogil=True, cache=True)
def add(hashes: Any, weights: Any, seeds: Any, table: Any) -> None:
    """Add each item's weight to its bucket of each row.

    Args:
        hashes: items, (n,) uint64.
        weights: (n,) uint64 or float64.
        seeds: hash seed of each row, (depth,) uint64.
        table: counters, (depth, width) float64, width a power of two. Updated.
    """
    mask = np.uint64(table.shape[1] - 1)
    for i in range(hashes.shape[0]):
        spread = spread_item(hashes[i])
        weight = np.float64(weights[i])
        for row in range(seeds.shape[0]):
            h1, _ = hash_spread(spread, seeds[row])
            table[row, h1 & mask] += weight


@numba.njit(nogil=True, cache=True)
def add_pair(
    hashes: Any, first: Any, second: Any, seeds: Any, first_table: Any, second_table: Any
) -> None:
    """``add`` for two weights and their tables of one shape, hashing each item once."""
    mask = np.uint64(first_table.shape[1] - 1)
    for i in range(hashes.shape[0]):
        spread = spread_item(hashes[i])
        a = np.float64(first[i])
        b = np.float64(second[i])
        for row in range(seeds.shape[0]):
            h1, _ = hash_spread(spread, seeds[row])
            bucket = h1 & mask
            first_table[row, bucket] += a
            second_table[row, bucket] += b


@numba.njit(nogil=True, cache=True)
def smallest(hashes: Any, seeds: Any, table: Any, out: Any) -> None:
    """Smallest counter of each item over the rows of ``table``, into ``out`` (n,) float64."""
    mask = np.uint64(table.shape[1] - 1)
    for i in range(hashes.shape[0]):
        spread = spread_item(hashes[i])
        least = np.inf
        for row in range(seeds.shape[0]):
            h1, _ = hash_spread(spread, seeds[row])
            least = min(least, table[row, h1 & mask])
        out[i] = least
