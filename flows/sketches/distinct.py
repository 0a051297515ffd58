"""How many different elements: Apache DataSketches CPC behind a filter for known coupons.

Up to ``EXACT_ITEMS`` elements are kept as they are and the count is exact. Beyond that the
library's sketch is the truth; a kernel passes on only the items that can change it.

What is published is a function of the set of elements alone, whatever the order, the batches
or the merges: the library's result of a union (the ICON estimator), never the estimator that
remembers the order of arrival (HIP).

The bounds are our own. The library's use the relative error of large counts for all, and hold
in over 99.5 % of cases below five times the sketch's rows; ``relative_error`` is right for all.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, NewType

import datasketches
import numpy as np
import numpy.typing as npt

from flows.errors import SketchError
from flows.kernels.cpc import distinct_few, new_coupons
from flows.sketches import Estimate, seal, unseal

U64 = npt.NDArray[np.uint64]

EXACT_ITEMS: Final = 256
"""Up to so many elements are kept one by one."""

CONFIDENCE: Final = 0.95
DEVIATIONS: Final = 1.96  # of a normal distribution at CONFIDENCE, two-sided

DistinctPartial = NewType("DistinctPartial", bytes)
"""Sealed, immutable state: the elements while exact, else a CPC image."""

_KIND: Final = b"NSD1"
_CPC_FAMILY: Final = (1, 16)  # serial version and family of the library's image


class Distinct:
    """A distinct count of 64-bit hashes.

    Args:
        lg_k: base-2 logarithm of the sketch's rows, 4 to 16. At 12 the bounds are about
            +-2.2 % and the sketch takes at most 2.5 kB as bytes, 50 kB in memory.
    """

    __slots__ = ("_items", "_seen", "_sketch", "lg_k")

    def __init__(self, lg_k: int = 12) -> None:
        if not 4 <= lg_k <= 16:
            msg = f"lg_k of a distinct count must be 4 to 16, not {lg_k}"
            raise SketchError(msg)
        self.lg_k = lg_k
        self._items: set[int] = set()
        self._sketch: Any = None
        self._seen: U64 | None = None

    @property
    def exact(self) -> bool:
        """Whether all elements are still known one by one."""
        return self._sketch is None

    def update(self, hashes: U64) -> None:
        """Count the elements with these hashes, (n,) uint64."""
        if self._sketch is None:
            few = _few(hashes)
            if few is not None:
                self._items.update(few)
                if len(self._items) > EXACT_ITEMS:
                    self._spill()
                return
            self._spill()
        self._feed(hashes)

    def merge(self, other: Distinct) -> None:
        """Count the other's elements too.

        Raises:
            SketchError: the other has another ``lg_k``.
        """
        if other.lg_k != self.lg_k:
            msg = f"distinct counts of lg_k {self.lg_k} and {other.lg_k} can't be merged"
            raise SketchError(msg)
        if other._sketch is None:
            self.update(_as_array(other._items))
            return
        if self._sketch is None:
            items, self._items = self._items, set()
            self._sketch = copy.copy(other._sketch)
            self._seen = None if other._seen is None else other._seen.copy()
            self._feed(_as_array(items))
            return
        self._sketch = _union(self.lg_k, self._sketch, other._sketch)
        # The matrix only has to hold coupons that the sketch has; it may lack some.
        if self._seen is None or other._seen is None:
            self._seen = self._seen if other._seen is None else other._seen.copy()
        else:
            self._seen |= other._seen

    def estimate(self) -> Estimate:
        """The count with its bounds; exact, at confidence 1, for ``EXACT_ITEMS`` and fewer."""
        if self._sketch is None:
            count = float(len(self._items))
            return Estimate(count, count, count, 1.0)
        value = _union(self.lg_k, self._sketch).get_estimate()
        spread = DEVIATIONS * relative_error(value, self.lg_k)
        lower, upper = math.floor(value / (1 + spread)), math.ceil(value / (1 - spread))
        return Estimate(value, float(lower), float(upper), CONFIDENCE)

    def copy(self) -> Distinct:
        """An independent copy."""
        twin = Distinct(self.lg_k)
        twin._items = self._items.copy()
        twin._sketch = copy.copy(self._sketch)
        twin._seen = None if self._seen is None else self._seen.copy()
        return twin

    def to_bytes(self) -> bytes:
        """The library's CPC image, readable in every language that DataSketches supports."""
        sketch = self._sketch
        if sketch is None:
            sketch = datasketches.cpc_sketch(self.lg_k)
            _update_each(sketch, _as_array(self._items))
        return bytes(_union(self.lg_k, sketch).serialize())

    @classmethod
    def from_bytes(cls, image: bytes) -> Distinct:
        """Read a CPC image made with the library's default seed.

        The format has no checksum and the library trusts the body: read only images that were
        stored safely. ``partial`` is the form that survives damage.

        Raises:
            SketchError: the header is not that of such an image, or the library refuses it.
        """
        if len(image) < 8 or (image[1], image[2]) != _CPC_FAMILY:
            msg = f"not a CPC image: it begins with {bytes(image[:8]).hex() or 'nothing'}"
            raise SketchError(msg)
        counter = cls(image[3])
        try:
            counter._sketch = datasketches.cpc_sketch.deserialize(bytes(image))
        except (ValueError, RuntimeError, IndexError) as error:
            msg = f"the CPC image can't be read: {error}"
            raise SketchError(msg) from error
        return counter

    @classmethod
    def union(cls, images: Iterable[bytes]) -> Distinct:
        """The count of all that some images have counted, of the coarsest size among them.

        Trusts images as ``from_bytes`` does. A minute's image takes 0.1 ms.

        Raises:
            SketchError: one is no such image, or there is none.
        """
        union: Any = None
        for image in images:
            part = cls.from_bytes(image)
            union = union or datasketches.cpc_union(part.lg_k)
            union.update(part._sketch)
        if union is None:
            msg = "there is no sketch to merge"
            raise SketchError(msg)
        result = union.get_result()
        counter = cls(result.lg_k)
        counter._sketch = result
        return counter

    def partial(self) -> DistinctPartial:
        """The state as compact, immutable bytes, for exchange and snapshots."""
        if self._sketch is None:
            body = _as_array(self._items).astype("<u8").tobytes()
        else:
            body = _union(self.lg_k, self._sketch).serialize()
        header = bytes((self.lg_k, self._sketch is None))
        return DistinctPartial(seal(_KIND, header + body))

    @classmethod
    def from_partial(cls, partial: DistinctPartial) -> Distinct:
        """The count that ``partial`` describes.

        Raises:
            SketchError: foreign or damaged bytes.
        """
        payload = unseal(_KIND, partial)
        lg_k, exact, body = payload[0], payload[1], payload[2:]
        if not exact:
            return cls.from_bytes(body)
        counter = cls(lg_k)
        counter._items = set(np.frombuffer(body, "<u8").tolist())
        return counter

    def merge_partial(self, partial: DistinctPartial) -> None:
        """``merge`` with a count given as bytes.

        Raises:
            SketchError: foreign or damaged bytes, or another ``lg_k``.
        """
        self.merge(Distinct.from_partial(partial))

    def __reduce__(self) -> tuple[Callable[[DistinctPartial], Distinct], tuple[DistinctPartial]]:
        return Distinct.from_partial, (self.partial(),)

    def _spill(self) -> None:
        """From here on, the library."""
        items, self._items = self._items, set()
        self._sketch = datasketches.cpc_sketch(self.lg_k)
        self._feed(_as_array(items))

    def _feed(self, hashes: U64) -> None:
        if self._seen is None:
            self._seen = np.zeros(1 << self.lg_k, np.uint64)
        feed(self._sketch, self._seen, hashes)


def relative_error(count: float, lg_k: int) -> float:
    """Standard deviation of the ICON estimate at ``count`` elements, as a share of it.

    ICON inverts the expected number of coupons, so its deviation is that of the number of
    coupons over the derivative. Were the elements Poisson, coupons would be independent: one of
    probability p is missing with e^(-np). Fixing their number takes n times the squared
    derivative from the variance (Jacquet and Szpankowski, "Analytical depoissonization and its
    applications", 1998). It grows from 0.41 / sqrt(k) to the library's 0.69 / sqrt(k).
    """
    if count <= 0:
        return 0.0
    p = coupon_odds(lg_k)
    missing = np.exp(-count * p)
    slope = float(p @ missing) * (1 << lg_k)
    variance = float(missing @ (1 - missing)) * (1 << lg_k) - count * slope * slope
    return math.sqrt(max(variance, 0.0)) / slope / count


@functools.cache
def coupon_odds(lg_k: int) -> npt.NDArray[np.float64]:
    """Probability that an element has a given coupon, by column."""
    return np.ldexp(1.0, -np.arange(1, 65) - lg_k)


def limit_bytes(lg_k: int) -> int:
    """Memory that a count takes at most: the matrix of coupons and the library's sketch."""
    return 12 << lg_k


def feed(sketch: Any, seen: U64, hashes: U64) -> None:
    """Update a library sketch with all ``hashes``, by calls for those only that change it.

    The sketch ends byte for byte as if every item had been fed. ``seen`` is the matrix of
    ``new_coupons``, a subset of the sketch's coupons; it is updated.
    """
    if fast_path():
        hashes = hashes[_new(seen, hashes)]
    _update_each(sketch, hashes)


@functools.cache
def fast_path() -> bool:
    """Whether the kernel's coupons are the library's on this platform."""
    items = np.arange(600, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    items = np.concatenate((items, items[:100]))
    filtered = datasketches.cpc_sketch(6)
    _update_each(filtered, items[_new(np.zeros(64, np.uint64), items)])
    plain = datasketches.cpc_sketch(6)
    _update_each(plain, items)
    return bool(filtered.serialize() == plain.serialize())


def _new(seen: U64, hashes: U64) -> npt.NDArray[np.int64]:
    positions = np.empty(len(hashes), np.int64)
    return positions[: new_coupons(hashes, seen, positions)]


def _update_each(sketch: Any, hashes: U64) -> None:
    update = sketch.update
    # Unsigned: a negative int would be taken for a float.
    for item in hashes.tolist():
        update(item)


def _few(hashes: U64) -> list[int] | None:
    """The different items, perhaps with repeats, or None if they are more than EXACT_ITEMS."""
    if len(hashes) > EXACT_ITEMS:
        out = np.empty(EXACT_ITEMS, np.uint64)
        count = distinct_few(hashes, np.zeros(4 * EXACT_ITEMS, np.uint64), out)
        if count > EXACT_ITEMS:
            return None
        hashes = out[:count]
    items: list[int] = hashes.tolist()
    return items


def _as_array(items: set[int]) -> U64:
    return np.array(sorted(items), np.uint64)


def _union(lg_k: int, *sketches: Any) -> Any:
    """The library's union: the same coupons always give the same result and bytes."""
    union = datasketches.cpc_union(lg_k)
    for sketch in sketches:
        union.update(sketch)
    return union.get_result()
