"""The published SuperSpread algorithm, for one window and one place.

A bucket's probability and vote depend on the order of the packets. So sketches can't be merged,
and there is no bound for the error; the mergeable sketch exists for that.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Final

import numpy as np

from flows.errors import SketchError
from flows.kernels.classic_spread import read_votes, vote
from flows.sketches import seal, unseal
from flows.sketches.superspread.result import (
    F64,
    U64,
    SpreadTop,
    check_columns,
    check_rows,
    check_words,
    ranked,
)
from schemas.hashing import DEFAULT_SEED, hash_words

_KIND: Final = b"NSC1"
_RANDOM_SEED: Final = 0x7370726561640001
# words, depth, registers, register bits, width, seed, decay
_HEAD: Final = struct.Struct("<HHHHQQd")


class ClassicSuperSpread:
    """Depth x width buckets of sampled registers with a candidate each; not mergeable.

    A window starts with a new sketch: registers, probabilities and votes belong together.

    Args:
        words: 64-bit words per key, 1 to 4.
        width: buckets per row.
        depth: rows.
        registers: registers per bucket, a power of two.
        register_bits: size of a register, 2 to 6; ranks are capped accordingly.
        decay: base of the weakening probability, above 1.
        seed: seed of the hash of keys.

    Raises:
        SketchError: a size that is not possible.
    """

    __slots__ = (
        "_candidates", "_odds", "_random", "_registers", "_votes",
        "decay", "depth", "register_bits", "registers", "seed", "width", "words",
    )  # fmt: skip

    def __init__(
        self,
        words: int,
        width: int = 4096,
        depth: int = 2,
        registers: int = 128,
        register_bits: int = 5,
        decay: float = 1.08,
        seed: int = DEFAULT_SEED,
    ) -> None:
        check_words(words)
        if not 1 <= width < 1 << 32 or not 1 <= depth <= 16:
            msg = f"a classic spread sketch has 1 to 16 rows of buckets, not {depth} x {width}"
            raise SketchError(msg)
        if registers not in {1 << lg for lg in range(4, 13)} or not 2 <= register_bits <= 6:
            msg = (
                "buckets have 16 to 4096 registers, a power of two, of 2 to 6 bits,"
                f" not {registers} of {register_bits}"
            )
            raise SketchError(msg)
        if not decay > 1:
            msg = f"the base of the decay must be above 1, not {decay}"
            raise SketchError(msg)
        self.words, self.width, self.depth, self.seed = words, width, depth, seed
        self.registers, self.register_bits, self.decay = registers, register_bits, decay
        self._registers = np.zeros((depth, width, registers), np.uint8)
        self._odds = np.ones((depth, width))
        self._candidates = np.zeros((depth, width, words), np.uint64)
        self._votes = np.zeros((depth, width), np.int64)
        self._random = np.array([_RANDOM_SEED], np.uint64)

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes; a register takes a byte."""
        return sum(array.nbytes for array in self._arrays())

    @property
    def candidates(self) -> int:
        """How many keys ``top`` chooses from."""
        return len(self._held())

    def update(self, keys: U64, key_hashes: U64, element_hashes: U64) -> None:
        """Count pairs of a key and an element; arguments as for the mergeable sketch.

        Raises:
            SketchError: the arrays are not columns of one table.
        """
        check_columns(self.words, keys, key_hashes, element_hashes)
        top_rank = (1 << self.register_bits) - 1
        vote(keys, key_hashes, element_hashes, self.decay, top_rank, *self._arrays())

    def merge(self, other: object) -> None:
        """Refuse.

        Raises:
            SketchError: always.
        """
        msg = "a classic spread sketch can't be merged; use the mergeable variant"
        raise SketchError(msg)

    def top(self, n: int = 10, at_least: float = 0) -> SpreadTop:
        """The keys with the largest votes; their bounds are 0 and infinity.

        Raises:
            SketchError: ``n`` is negative.
        """
        check_rows(n)
        keys = self._held()
        votes = self._read(keys, hash_words(keys, self.seed))
        listed = votes >= at_least
        none = np.zeros(np.count_nonzero(listed))
        rows = ranked(keys[listed], votes[listed], none, none + math.inf, n)
        return SpreadTop(rows, math.inf, 1.0, self.memory_bytes)

    def estimates(self, keys: U64, key_hashes: U64) -> tuple[F64, F64, F64]:
        """Estimate (1 where unknown), lower (0) and upper bound (infinity) of given keys.

        Raises:
            SketchError: the arrays are not columns of one table.
        """
        check_columns(self.words, keys, key_hashes)
        none = np.zeros(len(keys))
        return self._read(keys, key_hashes), none, none + math.inf

    def copy(self) -> ClassicSuperSpread:
        """An independent copy."""
        return ClassicSuperSpread.from_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The state, sealed."""
        head = _HEAD.pack(
            self.words, self.depth, self.registers, self.register_bits,
            self.width, self.seed, self.decay,
        )  # fmt: skip
        return seal(_KIND, head + b"".join(array.tobytes() for array in self._arrays()))

    @classmethod
    def from_bytes(cls, data: bytes) -> ClassicSuperSpread:
        """The sketch that ``to_bytes`` wrote.

        Raises:
            SketchError: foreign or damaged bytes.
        """
        payload = unseal(_KIND, data)
        if len(payload) < _HEAD.size:
            msg = "a classic spread sketch is cut off within its head"
            raise SketchError(msg)
        words, depth, registers, bits, width, seed, decay = _HEAD.unpack_from(payload)
        sketch = cls(words, width, depth, registers, bits, decay, seed)
        if len(payload) != _HEAD.size + sketch.memory_bytes:
            msg = f"a classic spread sketch of {sketch.memory_bytes} bytes is cut off or too long"
            raise SketchError(msg)
        start = _HEAD.size
        for array in sketch._arrays():
            array.flat[:] = np.frombuffer(payload, array.dtype, array.size, start)
            start += array.nbytes
        return sketch

    def __reduce__(self) -> tuple[Callable[[bytes], ClassicSuperSpread], tuple[bytes]]:
        return ClassicSuperSpread.from_bytes, (self.to_bytes(),)

    def _arrays(self) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.generic]], ...]:
        return self._registers, self._odds, self._candidates, self._votes, self._random

    def _held(self) -> U64:
        """The different candidates with votes."""
        return np.unique(self._candidates[self._votes > 0], axis=0)

    def _read(self, keys: U64, key_hashes: U64) -> F64:
        out = np.empty(len(keys))
        read_votes(keys, key_hashes, self._candidates, self._votes, out)
        return out
