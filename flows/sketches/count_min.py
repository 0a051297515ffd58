"""Count-Min: an upper bound for the weight of any key, in the library's own image.

Counters are summed in an array by a kernel that picks buckets exactly as Apache DataSketches
does, and wrapped in the library's serialised form: byte for byte what the library would have
written had it been fed item by item. After Cormode and Muthukrishnan, "An improved data stream
summary: the count-min sketch and its applications" (2005).

The seed is the library's default, the only one its Python reader accepts; items are hashes
under the settings' own seed already.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from typing import Any, Final

import datasketches
import numpy as np
import numpy.typing as npt

from flows.errors import SketchError
from flows.kernels import count_min as kernels
from flows.kernels.murmur import murmur3_x64_128

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

DEPTH: Final = 4
WIDTH: Final = 1 << 14
SEED: Final = 9001

# preamble longs, serial version, family, flags, unused, buckets, rows, seed hash, unused
_PREAMBLE: Final = struct.Struct("<BBBBIIBHB")
_TOTAL: Final = struct.Struct("<d")
_FIXED: Final = (2, 1, 18)
_EMPTY: Final = 1

_MOST_32: Final = 2**32 - 1
_MINSTD: Final = 2147483647  # modulus of std::minstd_rand0


class CountMin:
    """Counters of one weight by 64-bit hash; nothing is allocated before the first update.

    Args:
        depth: rows, 1 to 255. An upper bound is off by more than ``relative_error`` of the
            total with probability e^-depth.
        width: buckets a row, a power of two, 4 to 2^24.
    """

    __slots__ = ("_table", "depth", "total", "width")

    def __init__(self, depth: int = DEPTH, width: int = WIDTH) -> None:
        if not 1 <= depth <= 255 or not 4 <= width <= 1 << 24 or width & (width - 1):
            msg = f"Count-Min needs 1 to 255 rows of 2^2 to 2^24 buckets, not {depth} x {width}"
            raise SketchError(msg)
        self.depth = depth
        self.width = width
        self.total = 0.0
        self._table: F64 | None = None

    @property
    def relative_error(self) -> float:
        """The share of the total by which an upper bound exceeds the truth at most (likely)."""
        return math.e / self.width

    def update(self, hashes: U64, weights: U64 | F64) -> None:
        """Add ``weights`` (n,), whole numbers, to the items ``hashes`` (n,).

        Sums are exact as long as the total stays below 2^53.
        """
        _check_lengths(hashes, weights)
        if fast_path():
            kernels.add(hashes, weights, row_seeds(self.depth), self._counters())
        else:
            self._counters()[:] += _by_library(self, hashes, weights)
        self.total += float(weights.sum())

    def upper(self, hashes: U64) -> F64:
        """Upper bound of the weight of each item, (n,); it always holds."""
        out = np.zeros(len(hashes))
        if self._table is None:
            return out
        if fast_path():
            kernels.smallest(hashes, row_seeds(self.depth), self._table, out)
        else:
            sketch = datasketches.count_min_sketch.deserialize(self.to_bytes())
            out[:] = [sketch.get_estimate(item) for item in hashes.view(np.int64).tolist()]
        return out

    def merge(self, other: CountMin) -> None:
        """Add the other's counters.

        Raises:
            SketchError: the other has another depth or width.
        """
        if (self.depth, self.width) != (other.depth, other.width):
            msg = (
                f"Count-Min of {self.depth} x {self.width} and of {other.depth} x {other.width}"
                " can't be merged"
            )
            raise SketchError(msg)
        if other._table is not None:
            self._counters()[:] += other._table
            self.total += other.total

    def copy(self) -> CountMin:
        """An independent copy."""
        twin = CountMin(self.depth, self.width)
        twin.total = self.total
        twin._table = None if self._table is None else self._table.copy()
        return twin

    def to_bytes(self) -> bytes:
        """The image that the library writes after the same updates."""
        filled = self._table is not None and self.total > 0
        flags = 0 if filled else _EMPTY
        head = _PREAMBLE.pack(*_FIXED, flags, 0, self.width, self.depth, seed_hash(SEED), 0)
        if not filled:
            return head
        return head + _TOTAL.pack(self.total) + self._counters().astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, image: bytes) -> CountMin:
        """Read an image of the library's or ours.

        Raises:
            SketchError: not such an image, of another shape or seed than we take, or cut off.
        """
        if len(image) < _PREAMBLE.size:
            msg = f"not a Count-Min image: {len(image)} bytes are too few"
            raise SketchError(msg)
        longs, version, family, flags, _, width, depth, seed, _ = _PREAMBLE.unpack_from(image)
        if (longs, version, family) != _FIXED:
            msg = f"not a Count-Min image: it begins with {bytes(image[:3]).hex()}"
            raise SketchError(msg)
        if seed != seed_hash(SEED):
            msg = f"the Count-Min image has seed hash {seed}; ours is {seed_hash(SEED)}"
            raise SketchError(msg)
        counts = cls(depth, width)
        start = _PREAMBLE.size + _TOTAL.size
        size = _PREAMBLE.size if flags & _EMPTY else start + 8 * depth * width
        if len(image) != size:
            msg = f"the Count-Min image has {len(image)} bytes instead of {size}"
            raise SketchError(msg)
        if not flags & _EMPTY:
            (counts.total,) = _TOTAL.unpack_from(image, _PREAMBLE.size)
            counts._table = np.frombuffer(image, "<f8", offset=start).reshape(depth, width).copy()
        return counts

    def __reduce__(self) -> tuple[Callable[..., CountMin], tuple[Any, ...]]:
        """For another process, which goes on with it: in half the bytes, unless sums are large."""
        table: npt.NDArray[Any] | None = self._table
        if table is not None and table.max() <= _MOST_32:
            table = table.astype(np.uint32)
        return CountMin._unpickled, (self.depth, self.width, self.total, table)

    @classmethod
    def _unpickled(
        cls, depth: int, width: int, total: float, table: npt.NDArray[Any] | None
    ) -> CountMin:
        counts = cls(depth, width)
        counts.total = total
        counts._table = None if table is None else table.astype(np.float64)
        return counts

    def _counters(self) -> F64:
        if self._table is None:
            self._table = np.zeros((self.depth, self.width))
        return self._table


class CountMinPair:
    """Counters of packets and bytes of one shape, each item hashed once for both."""

    __slots__ = ("bytes", "packets")

    def __init__(self, depth: int = DEPTH, width: int = WIDTH) -> None:
        self.packets = CountMin(depth, width)
        self.bytes = CountMin(depth, width)

    def update(self, hashes: U64, packets: U64, n_bytes: U64) -> None:
        """Add ``packets`` and ``n_bytes`` (n,) to the items ``hashes`` (n,)."""
        _check_lengths(hashes, packets, n_bytes)
        if not fast_path():
            self.packets.update(hashes, packets)
            self.bytes.update(hashes, n_bytes)
            return
        tables = self.packets._counters(), self.bytes._counters()
        kernels.add_pair(hashes, packets, n_bytes, row_seeds(self.packets.depth), *tables)
        self.packets.total += float(packets.sum())
        self.bytes.total += float(n_bytes.sum())

    def merge(self, other: CountMinPair) -> None:
        """Add the other's counters; raises ``SketchError`` for another shape."""
        self.packets.merge(other.packets)
        self.bytes.merge(other.bytes)

    def copy(self) -> CountMinPair:
        """An independent copy."""
        twin = CountMinPair.__new__(CountMinPair)
        twin.packets = self.packets.copy()
        twin.bytes = self.bytes.copy()
        return twin


@functools.cache
def row_seeds(depth: int) -> U64:
    """The hash seeds of the rows, (depth,), as the library draws them.

    That is ``uniform_int_distribution<uint64_t>`` over ``default_random_engine``, which the C++
    standard leaves to the implementation; this is libstdc++'s, and the reason for ``fast_path``.
    """
    state = SEED

    def draw(end: int) -> int:
        """A number below ``end``, as libstdc++ makes it of numbers below 2^31 - 2."""
        nonlocal state
        values = _MINSTD - 1
        while True:
            if end > values:
                high = draw((end - 1) // values + 1)
                number = high * values + draw(values)
            else:
                state = state * 16807 % _MINSTD
                number = (state - 1) // (values // end)
            if number < end:
                return number

    return np.array([(draw(1 << 64) + SEED) % (1 << 64) for _ in range(depth)], np.uint64)


@functools.cache
def seed_hash(seed: int) -> int:
    """The 16 bits by which the library recognises a seed."""
    return murmur3_x64_128(seed, 0)[0] & 0xFFFF


@functools.cache
def fast_path() -> bool:
    """Whether the kernel's buckets are the library's on this platform."""
    items = np.arange(300, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    weights = np.arange(1, 301, dtype=np.uint64)
    counts = CountMin(5, 64)
    table = np.zeros((5, 64))
    kernels.add(items, weights, row_seeds(5), table)
    return bool(np.array_equal(table, _by_library(counts, items, weights)))


def _check_lengths(hashes: U64, *columns: U64 | F64) -> None:
    if any(len(column) != len(hashes) for column in columns):
        msg = f"{len(hashes)} items need as many weights, not {[len(c) for c in columns]}"
        raise SketchError(msg)


def _by_library(shape: CountMin, hashes: U64, weights: U64 | F64) -> F64:
    """The counters after feeding the library item by item."""
    sketch = datasketches.count_min_sketch(shape.depth, shape.width)
    update = sketch.update
    for item, weight in zip(hashes.view(np.int64).tolist(), weights.tolist(), strict=True):
        update(item, float(weight))
    if sketch.is_empty():
        return np.zeros((shape.depth, shape.width))
    start = _PREAMBLE.size + _TOTAL.size
    image = np.frombuffer(sketch.serialize(), "<f8", offset=start)
    return image.reshape(shape.depth, shape.width)
