"""The sketch proper: a pool of tagged registers and a table of candidates."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from flows.errors import SketchError
from flows.kernels import superspread as kernel
from flows.kernels import superspread_candidates as table
from flows.kernels.superspread_estimate import bounds, fit
from flows.sketches.superspread.result import F64, U64
from schemas.hashing import hash_words

MIN_MEMORY_BYTES: Final = 16 << 10
MAX_CANDIDATES: Final = 32_768
CONFIDENCE: Final = 0.95

U32 = npt.NDArray[np.uint32]
I32 = npt.NDArray[np.int32]

_TABLE_SHARE: Final = 0.45  # of the memory at most
_MIN_REGISTERS: Final = 64
_MAX_REGISTERS: Final = 4096
_WORDS_PER_REGISTER: Final = 32  # so that a key's registers rarely share a word
_DROP: Final = 1.9207  # half the square of 1.96
# Registers, and how many keys stay at most: so many per row asked for, and so many more.
_SCREENS: Final = ((256, 16, 1024), (1024, 4, 256))
_LOOK: Final = 256  # registers that tell whether a key is worth reading in full
_FEW_ORDERS: Final = 12.0  # of n elements none is below so many n-ths once in e^12
_SCREEN_DEVIATIONS: Final = 4.0
_NOTHING_SEEN: Final = 9.0  # pairs per screen that leave no trace less often than once in 8000


class Shape(NamedTuple):
    """Sizes that follow from the memory: words of the pool, registers per key, candidates."""

    pool_words: int
    registers: int
    capacity: int

    @property
    def kept(self) -> int:
        """Candidates left when the table is full; the rest is room for new ones."""
        return self.capacity - self.capacity // 8


@functools.cache
def shape_of(words: int, memory_bytes: int) -> Shape:
    """The sizes of a sketch for keys of so many words.

    Raises:
        SketchError: the memory is too small.
    """
    if memory_bytes < MIN_MEMORY_BYTES:
        msg = f"a spread sketch needs at least {MIN_MEMORY_BYTES} bytes, not {memory_bytes}"
        raise SketchError(msg)
    entry_bytes = 8 * words + 4 + 2 * 2  # key, lowest order, two slots of the index
    capacity = min(MAX_CANDIDATES, int(_TABLE_SHARE * memory_bytes) // entry_bytes)
    left = memory_bytes - capacity * entry_bytes
    pool_words = left // 8 // kernel.GROUP_WORDS * kernel.GROUP_WORDS
    registers = 1 << (pool_words // _WORDS_PER_REGISTER).bit_length() - 1
    registers = min(max(registers, _MIN_REGISTERS), _MAX_REGISTERS)
    return Shape(pool_words, registers, capacity)


class Pool:
    """Arrays of a spread sketch with too many pairs to keep.

    Args:
        words: 64-bit words per key.
        shape: sizes.
        seed: of the hash of keys.
    """

    __slots__ = ("keys", "lowest", "pool", "seed", "shape", "slots", "state")

    def __init__(self, words: int, shape: Shape, seed: int) -> None:
        self.shape = shape
        self.seed = seed
        self.pool = np.zeros(shape.pool_words, np.uint64)
        self.keys = np.zeros((shape.capacity, words), np.uint64)
        self.lowest = np.zeros(shape.capacity, np.uint32)
        self.slots = np.zeros(2 * shape.capacity, np.uint16)
        self.state = np.array((0, table.EVERYTHING), np.uint64)

    @property
    def memory_bytes(self) -> int:
        """Memory of all arrays."""
        arrays = self.pool, self.keys, self.lowest, self.slots, self.state
        return sum(array.nbytes for array in arrays)

    def feed(self, keys: U64, key_hashes: U64, pairs: U64) -> None:
        """Add pairs: keys (n, words), their hashes (n,), the pairs' hashes (n,)."""
        kernel.raise_pool(key_hashes, pairs, self.pool, np.uint64(self.shape.registers))
        table.offer_pairs(keys, key_hashes, pairs, *self._table())

    def merge(self, other: Pool) -> None:
        """Add all that the other has seen; its shape and seed must be the same."""
        kernel.merge_pools(self.pool, other.pool)
        if other.state[table.THRESHOLD] < self.state[table.THRESHOLD]:
            self.state[table.THRESHOLD] = other.state[table.THRESHOLD]
            table.prune(*self._table())
        count = int(other.state[table.COUNT])
        keys = other.keys[:count]
        hashes = hash_words(keys, self.seed)
        table.offer_entries(keys, hashes, other.lowest[:count], *self._table())

    def adopt(self, keys: U64, key_hashes: U64, lowest: U32, threshold: int) -> None:
        """Fill an empty table with the rows of another one."""
        self.state[table.THRESHOLD] = threshold
        table.offer_entries(keys, key_hashes, lowest, *self._table())

    def copy(self) -> Pool:
        """An independent copy."""
        twin = Pool.__new__(Pool)
        twin.shape, twin.seed = self.shape, self.seed
        for name in ("pool", "keys", "lowest", "slots", "state"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    def __reduce__(self) -> tuple[Callable[..., Pool], tuple[Any, ...]]:
        """For another process, which goes on with it: as it is, but for what isn't used yet."""
        count = int(self.state[table.COUNT])
        rows = self.used()
        words = self.pool if rows is None else self.pool[rows]
        parts = self.keys[:count], self.lowest[:count], self.slots, self.state, rows, words
        return _unpickled, (self.shape, self.seed, *parts)

    def used(self) -> U32 | None:
        """Numbers of the words that are set; None where all words take less than to name them."""
        used = np.flatnonzero(self.pool != 0)  # of booleans: four times as fast
        return used.astype(np.uint32) if 12 * len(used) < self.pool.nbytes else None

    def settle(self) -> int:
        """Bring the table to the form that depends on the pairs only; returns its length."""
        if int(self.state[table.COUNT]) > self.shape.kept:
            table.prune(*self._table())
        return int(self.state[table.COUNT])

    def candidates(self) -> U64:
        """Keys that can be listed, (n, words)."""
        return self.keys[: self.settle()]

    def held(self) -> U64:
        """Keys that can be listed, and perhaps some more, (n, words); nothing is changed."""
        return self.keys[: int(self.state[table.COUNT])].copy()

    def recall_peers(self) -> float:
        """Number of elements that make a key a candidate with 99.9 % probability."""
        self.settle()
        share = float(self.state[table.THRESHOLD]) / table.EVERYTHING
        return 1.0 if share >= 1 else max(1.0, math.log(1000) / -math.log1p(-share))

    def estimates(self, key_hashes: U64) -> tuple[F64, F64, F64]:
        """Estimate, lower and upper bound for keys with these hashes; bounds are whole numbers."""
        own, below, x, information = self._fit(key_hashes, self.shape.registers)
        variance = self._variance(x, information)
        lower, upper = np.empty_like(x), np.empty_like(x)
        bounds(own, below, self._foreign(), x, _DROP * variance * information, lower, upper)
        scale = self.shape.registers
        return np.exp(x) * scale, np.floor(np.exp(lower) * scale), np.ceil(np.exp(upper) * scale)

    def screen(self, key_hashes: U64, n: int, at_least: float) -> npt.NDArray[np.intp]:
        """Rows, among them those that can belong to the ``n`` largest of at least so much.

        Looks at a part of the registers, then at more for those that are left. A key goes when
        its interval of four standard deviations lies below those of ``n`` others. Of keys too
        alike for that, only as many stay as can be looked at in full in a few milliseconds.
        """
        rows = np.arange(len(key_hashes))
        for registers, per_row, spare in _SCREENS:
            if len(rows) <= n or registers >= self.shape.registers:
                break
            _, _, x, information = self._fit(key_hashes[rows], registers)
            # As a Poisson count with this information would have.
            root = np.sqrt(np.maximum(information, 1e-9))
            lower = x + 2 * np.log(np.maximum(1 - _SCREEN_DEVIATIONS / 2 / root, 1e-9))
            upper = np.where(
                information < 1,
                math.log(_NOTHING_SEEN / registers),
                x + 2 * np.log(1 + (_SCREEN_DEVIATIONS / 2 + 0.5) / root),
            )
            limit = _nth_largest(lower, n)
            if at_least > 0:
                limit = max(limit, math.log(at_least / self.shape.registers))
            left = upper >= limit
            most = per_row * n + spare
            if np.count_nonzero(left) > most:
                left &= x >= _nth_largest(x, most)
            rows = rows[left]
        return rows

    def likely(
        self, keys: U64, key_hashes: U64, n: int, at_least: float
    ) -> tuple[npt.NDArray[np.intp], int]:
        """Rows that can have a lower bound of ``at_least``, at most ``n``, those of most elements.

        A key with many elements has a pair of small order: without one it isn't looked at. Then
        a part of the registers is read, so that a key whose own are nearly empty costs little.

        Returns:
            The rows, and how many others are likely over it too.
        """
        orders = np.empty(len(keys), np.uint64)
        table.find_orders(keys, key_hashes, self.keys, self.lowest, self.slots, self.state, orders)
        near = np.flatnonzero(orders <= table.EVERYTHING * _FEW_ORDERS / max(at_least, 1))
        if len(near) == 0:
            return near, 0
        registers = min(_LOOK, self.shape.registers)
        _, _, x, information = self._fit(key_hashes[near], registers)
        # A key over it for certain has an estimate above it, here within four deviations.
        root = np.sqrt(np.maximum(information, 1e-9))
        upper = x + 2 * np.log(1 + (_SCREEN_DEVIATIONS / 2 + 0.5) / root)
        aim = math.log(max(at_least, 1e-9) / self.shape.registers)
        seen = (information >= 1) | (at_least * registers < _NOTHING_SEEN * self.shape.registers)
        rows = np.flatnonzero(seen & (upper >= aim))
        if len(rows) <= n:
            return near[rows], 0
        chosen = np.argpartition(-x[rows], n)
        others = int(np.count_nonzero(x[rows[chosen[n:]]] >= aim))
        return near[rows[chosen[:n]]], others

    def _fit(self, key_hashes: U64, registers: int) -> tuple[I32, I32, F64, F64]:
        n = len(key_hashes)
        own = np.zeros((n, kernel.RANKS), np.int32)
        below = np.zeros((n, kernel.RANKS), np.int32)
        groups = np.uint64(registers // kernel.GROUP_WORDS)
        kernel.tally(key_hashes, self.pool, np.uint64(self.shape.registers), groups, own, below)
        x, information = np.empty(n), np.empty(n)
        fit(own, below, self._foreign(), x, information)
        return own, below, x, information

    def _variance(self, x: F64, information: F64) -> F64:
        """Variance of x: that of a Poisson number of elements, less that of their number.

        The likelihood takes the elements for a Poisson process; for a given number of them, n,
        1/n is to be taken off ("depoissonization", Jacquet and Szpankowski, 1998).
        """
        poisson = 1 / information
        floor = 1 / (4 * self.shape.registers)
        return np.maximum(poisson - np.exp(-x) / self.shape.registers, np.minimum(floor, poisson))

    def _foreign(self) -> F64:
        """Probability, by rank, that a register shows no higher rank of another key."""
        counts = np.zeros(kernel.RANKS, np.int64)
        kernel.count_ranks(self.pool, counts)
        above = counts[::-1].cumsum()[::-1] - counts
        return 1 - above / (self.shape.pool_words << kernel.TAG_BITS)

    def _table(self) -> tuple[Any, ...]:
        return (
            self.keys, self.lowest, self.slots, self.state,
            np.uint64(self.seed), self.shape.kept,
        )  # fmt: skip


def _unpickled(
    shape: Shape, seed: int, keys: U64, lowest: U32, slots: Any, state: U64, rows: Any, words: U64
) -> Pool:
    pool = Pool(keys.shape[1], shape, seed)
    pool.keys[: len(keys)] = keys
    pool.lowest[: len(lowest)] = lowest
    pool.slots, pool.state = slots, state
    if rows is None:
        pool.pool = words
    else:
        pool.pool[rows] = words
    return pool


def _nth_largest(values: F64, n: int) -> float:
    if n == 0:
        return math.inf
    return float(np.partition(values, len(values) - n)[len(values) - n])
