"""Addresses to named networks: binary search over disjoint ranges."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(inline="always")
def _big_endian(word: Any) -> Any:
    """Reverse the bytes of a word, so that addresses compare in network order."""
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) << np.uint64(8)) | (
        (word >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    )
    word = ((word & np.uint64(0x0000FFFF0000FFFF)) << np.uint64(16)) | (
        (word >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    )
    return (word << np.uint64(32)) | (word >> np.uint64(32))


@numba.njit(nogil=True, cache=True)
def find_networks(entries: Any, column: Any, starts: Any, names: Any, out: Any) -> None:
    """Network number of an address of each entry.

    ``entries`` (n, 16) with the address in words ``column`` and ``column + 1``; ``starts``
    (m, 2) uint64, the sorted first addresses of ranges (big-endian halves) of which the first
    is 0; ``names`` (m,) uint16, the number of each range; ``out`` (n,) uint16.
    """
    for row in range(entries.shape[0]):
        high = _big_endian(entries[row, column])
        low = _big_endian(entries[row, column + 1])
        left = 0
        right = starts.shape[0]
        while right - left > 1:
            middle = (left + right) // 2
            if starts[middle, 0] < high or (starts[middle, 0] == high and starts[middle, 1] <= low):
                left = middle
            else:
                right = middle
        out[row] = names[left]
