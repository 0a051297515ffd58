"""Few pairs of key and element, kept one by one."""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np

from flows.kernels.group import group_sum
from flows.kernels.superspread import first_rows
from flows.sketches.superspread.result import F64, U64
from schemas.hashing import hash_words

EXACT_PAIRS: Final = 1024
"""Up to so many different pairs are kept one by one."""


class Pairs(NamedTuple):
    """Different pairs: the keys, (n, words), and the pairs' hashes, (n,), ascending."""

    keys: U64
    hashes: U64

    def joined(self, keys: U64, hashes: U64) -> Pairs | None:
        """With more pairs, which may repeat; None if they are more than ``EXACT_PAIRS``."""
        hashes = np.concatenate((self.hashes, hashes))
        rows = np.empty(EXACT_PAIRS, np.int64)
        count = first_rows(hashes, np.zeros(4 * EXACT_PAIRS, np.int64), rows)
        if count > EXACT_PAIRS:
            return None
        rows = rows[:count]
        rows = rows[np.argsort(hashes[rows])]
        return Pairs(np.concatenate((self.keys, keys))[rows], hashes[rows])

    def counts(self, seed: int) -> tuple[U64, F64]:
        """The different keys, and how many elements each has."""
        ones = np.ones(len(self.hashes), np.uint64)
        grouped = group_sum(self.keys, hash_words(self.keys, seed), ones, ones)
        return grouped.keys, grouped.packets.astype(np.float64)


@functools.cache
def no_pairs(words: int) -> Pairs:
    """No pairs of keys with so many words."""
    none = np.empty(0, np.uint64)
    return Pairs(none.reshape(0, words), none)
