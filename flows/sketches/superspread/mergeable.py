"""The mergeable spread sketch.

Up to ``EXACT_PAIRS`` different pairs are kept and all answers exact. Beyond that it is a ``Pool``,
in the state that the same pairs would have left if they had been fed to it from the start.
"""

from __future__ import annotations

import numpy as np

from flows.errors import SketchError
from flows.kernels.superspread import pair_hashes
from flows.sketches.superspread import image
from flows.sketches.superspread.pairs import Pairs, no_pairs
from flows.sketches.superspread.pool import CONFIDENCE, Pool, shape_of
from flows.sketches.superspread.result import (
    F64,
    U64,
    SpreadOver,
    SpreadTop,
    check_columns,
    check_rows,
    check_words,
    ranked,
)
from schemas.hashing import DEFAULT_SEED, hash_words


class SuperSpread:
    """Keys that touch the most different elements, in bounded memory.

    Args:
        words: 64-bit words per key, 1 to 4.
        memory_bytes: memory of the sketch, its table of candidates included; at least 16 KiB.
            Nothing is allocated for it before there are more than 1024 different pairs.
        seed: seed of the hash of keys. Keep it secret where senders may be hostile.

    Raises:
        SketchError: a size that is not possible.
    """

    __slots__ = ("_pairs", "_pool", "budget_bytes", "seed", "words")

    def __init__(self, words: int, memory_bytes: int = 1 << 20, seed: int = DEFAULT_SEED) -> None:
        check_words(words)
        shape_of(words, memory_bytes)
        self.words = words
        self.budget_bytes = memory_bytes
        self.seed = seed
        self._pairs: Pairs = no_pairs(words)
        self._pool: Pool | None = None

    @property
    def exact(self) -> bool:
        """Whether all pairs are still known one by one."""
        return self._pool is None

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes now."""
        if self._pool is not None:
            return self._pool.memory_bytes
        return self._pairs.keys.nbytes + self._pairs.hashes.nbytes

    @property
    def candidates(self) -> int:
        """How many keys ``top`` chooses from."""
        if self._pool is not None:
            return self._pool.settle()
        return len(self._pairs.counts(self.seed)[0])

    def keys(self) -> U64:
        """Keys that can be listed, (n, words); the sketch stays as it is, for other readers."""
        if self._pool is not None:
            return self._pool.held()
        return self._pairs.counts(self.seed)[0]

    def update(self, keys: U64, key_hashes: U64, element_hashes: U64) -> None:
        """Count pairs of a key and an element.

        Args:
            keys: (n, words).
            key_hashes: ``hash_words(keys, seed)``, (n,).
            element_hashes: a seeded, well mixed hash of each element, (n,).

        Raises:
            SketchError: the arrays are not columns of one table.
        """
        check_columns(self.words, keys, key_hashes, element_hashes)
        hashes = np.empty(len(keys), np.uint64)
        pair_hashes(key_hashes, element_hashes, hashes)
        if self._pool is None:
            pairs = self._pairs.joined(keys, hashes)
            if pairs is not None:
                self._pairs = pairs
                return
        self._spilled().feed(keys, key_hashes, hashes)

    def merge(self, other: SuperSpread) -> None:
        """Count all pairs that the other has seen.

        Raises:
            SketchError: the other has another key length, memory or seed.
        """
        if self._settings() != other._settings():
            msg = (
                f"spread sketches of (words, memory, seed) {self._settings()} and"
                f" {other._settings()} can't be merged"
            )
            raise SketchError(msg)
        if other._pool is not None:
            if self._pool is None:
                pairs, self._pairs = self._pairs, no_pairs(self.words)
                self._pool = other._pool.copy()
                self._feed(pairs)
            else:
                self._pool.merge(other._pool)
            return
        if self._pool is None:
            joined = self._pairs.joined(*other._pairs)
            if joined is not None:
                self._pairs = joined
                return
        self._spilled()
        self._feed(other._pairs)

    def top(self, n: int = 10, at_least: float = 0) -> SpreadTop:
        """The keys with the most different elements.

        Args:
            n: list so many at most.
            at_least: list only keys with an estimate of at least so much.

        Raises:
            SketchError: ``n`` is negative.
        """
        check_rows(n)
        if self._pool is None:
            keys, estimate = self._pairs.counts(self.seed)
            lower = upper = estimate
            recall, confidence = 1.0, 1.0
        else:
            keys = self._pool.candidates()
            hashes = hash_words(keys, self.seed)
            rows = self._pool.screen(hashes, n, at_least)
            keys = keys[rows]
            # A candidate has been seen.
            estimate, lower, upper = np.maximum(self._pool.estimates(hashes[rows]), 1.0)
            recall, confidence = self._pool.recall_peers(), CONFIDENCE
        listed = estimate >= at_least
        figures = estimate[listed], lower[listed], upper[listed]
        return SpreadTop(ranked(keys[listed], *figures, n), recall, confidence, self.memory_bytes)

    def over(self, keys: U64, at_least: float, n: int = 1000) -> SpreadOver:
        """Which of given keys have at least so many different elements for certain.

        Args:
            keys: different keys, (k, words), such as those of a part of what was merged.
            at_least: list keys with a lower bound of at least so much.
            n: list so many at most, those with the largest estimates.

        Raises:
            SketchError: the keys have another number of words, or ``n`` is negative.
        """
        check_columns(self.words, keys)
        check_rows(n)
        hashes = hash_words(keys, self.seed)
        others = 0
        if self._pool is not None:
            rows, others = self._pool.likely(keys, hashes, n, at_least)
            keys, hashes = keys[rows], hashes[rows]
        estimate, lower, upper = self.estimates(keys, hashes)
        certain = lower >= at_least
        figures = estimate[certain], lower[certain], upper[certain]
        count = int(np.count_nonzero(certain)) + others
        return SpreadOver(ranked(keys[certain], *figures, n), count)

    @property
    def confidence(self) -> float:
        """Probability that the bounds of a key hold; 1 as long as all is exact."""
        return 1.0 if self._pool is None else CONFIDENCE

    def estimates(self, keys: U64, key_hashes: U64) -> tuple[F64, F64, F64]:
        """Estimate, lower and upper bound of given keys, each (n,).

        Args:
            keys: (n, words).
            key_hashes: ``hash_words(keys, seed)``, (n,).

        Raises:
            SketchError: the arrays are not columns of one table.
        """
        check_columns(self.words, keys, key_hashes)
        if self._pool is not None:
            return self._pool.estimates(key_hashes)
        known, counts = self._pairs.counts(self.seed)
        spreads = dict(zip(map(tuple, known.tolist()), counts.tolist(), strict=True))
        found = np.array([spreads.get(tuple(key), 0.0) for key in keys.tolist()], np.float64)
        return found, found.copy(), found.copy()

    def copy(self) -> SuperSpread:
        """An independent copy."""
        twin = SuperSpread(*self._settings())
        twin._pairs = self._pairs  # its arrays are never changed
        twin._pool = None if self._pool is None else self._pool.copy()
        return twin

    def to_bytes(self) -> bytes:
        """The state, sealed; equal for equal sets of pairs."""
        return image.write(*self._settings(), self._pairs, self._pool)

    @classmethod
    def from_bytes(cls, data: bytes) -> SuperSpread:
        """The sketch that ``to_bytes`` wrote.

        Raises:
            SketchError: foreign or damaged bytes.
        """
        words, memory_bytes, seed, pairs, pool = image.read(data)
        sketch = cls(words, memory_bytes, seed)
        sketch._pairs, sketch._pool = pairs, pool
        return sketch

    def _settings(self) -> tuple[int, int, int]:
        return self.words, self.budget_bytes, self.seed

    def _spilled(self) -> Pool:
        """From here on, the pool."""
        if self._pool is None:
            self._pool = Pool(self.words, shape_of(self.words, self.budget_bytes), self.seed)
            pairs, self._pairs = self._pairs, no_pairs(self.words)
            self._feed(pairs)
        return self._pool

    def _feed(self, pairs: Pairs) -> None:
        assert self._pool is not None
        self._pool.feed(pairs.keys, hash_words(pairs.keys, self.seed), pairs.hashes)
