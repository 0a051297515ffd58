"""Distinct counts: equal to the library, exact while small, the same in any order."""

import copy
import math
import pickle

import datasketches
import numpy as np
import pytest

import flows.sketches
from flows.errors import SketchError
from flows.sketches import distinct
from flows.sketches.distinct import EXACT_ITEMS, Distinct, DistinctPartial, feed

SIZES = [0, 1, 2, 256, 257, 383, 384, 400, 2047, 2048, 13_823, 13_824, 100_000]


def items_of(n: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


def count_of(*batches: np.ndarray, lg_k: int = 12) -> Distinct:
    counter = Distinct(lg_k)
    for batch in batches:
        counter.update(batch)
    return counter


def library_of(items: np.ndarray, lg_k: int = 12):
    sketch = datasketches.cpc_sketch(lg_k)
    for item in items.tolist():
        sketch.update(item)
    return sketch


def published(sketch) -> bytes:
    union = datasketches.cpc_union(sketch.lg_k)
    union.update(sketch)
    return union.get_result().serialize()


@pytest.mark.parametrize("n", [*SIZES, 1_000_000])
def test_the_filter_leaves_the_library_sketch_byte_identical(n):
    """A sketch fed through the filter is the one fed item by item, duplicates included."""
    items = items_of(n)
    items = np.concatenate((items, items[: n // 2]))
    filtered = datasketches.cpc_sketch(12)
    seen = np.zeros(4096, np.uint64)
    for part in np.array_split(items, 3):
        feed(filtered, seen, part)
    assert filtered.serialize() == library_of(items).serialize()


@pytest.mark.parametrize("lg_k", [4, 12, 16])
@pytest.mark.parametrize("n", SIZES)
def test_the_image_is_the_library_s_own(n, lg_k):
    """The published image is the union of a library sketch fed item by item."""
    items = items_of(n)
    image = count_of(items, items[::2].copy(), lg_k=lg_k).to_bytes()
    assert image == published(library_of(items, lg_k))
    assert datasketches.cpc_sketch.deserialize(image).lg_k == lg_k


@pytest.mark.parametrize("n", [3, 257, 1000, 50_000])
def test_order_batches_and_merges_change_nothing(n):
    """Estimate and bytes depend on the set of elements only."""
    items = items_of(n)
    whole = count_of(items)
    small = count_of(*np.array_split(np.flip(items), 17))
    parts = [count_of(part) for part in np.array_split(items, 5)]
    parts.append(count_of(items[: n // 3]))
    forwards, backwards = Distinct(), Distinct()
    for part in parts:
        forwards.merge(part)
    for part in reversed(parts):
        backwards.merge_partial(part.partial())
    for other in (small, forwards, backwards):
        assert other.estimate() == whole.estimate()
        assert other.to_bytes() == whole.to_bytes()
        assert other.partial() == whole.partial()


@pytest.mark.parametrize("n", [0, 1, 5, EXACT_ITEMS])
def test_small_counts_are_exact(n):
    """Up to the limit the bounds are the truth, at confidence 1, with repeats too."""
    items = items_of(n).repeat(5)
    assert count_of(items).estimate() == (n, n, n, 1.0)


def test_one_more_than_the_limit_is_an_estimate():
    """Beyond the limit the library answers, and its bounds hold the truth."""
    estimate = count_of(items_of(EXACT_ITEMS + 1)).estimate()
    assert estimate.confidence == 0.95
    assert estimate.lower <= EXACT_ITEMS + 1 <= estimate.upper


@pytest.mark.parametrize("n", [300, 1000, 5000, 20_000, 300_000])
def test_value_is_the_library_s_and_bounds_are_no_wider(n):
    """The value is the library's for a merged sketch; bounds lie in its two deviations."""
    items = items_of(n)
    estimate = count_of(items).estimate()
    sketch = datasketches.cpc_sketch.deserialize(published(library_of(items)))
    assert estimate.value == sketch.get_estimate()
    # Our lower bound is rounded down, the library's is not.
    assert math.floor(sketch.get_lower_bound(2)) - 1 <= estimate.lower <= estimate.value
    assert estimate.value <= estimate.upper <= sketch.get_upper_bound(2) + 1


def test_relative_error_tends_to_the_known_constants():
    """Far below and far above the number of rows it has closed forms."""
    k = 1 << 12
    assert distinct.relative_error(1.0, 12) == pytest.approx(math.sqrt(1 / 6 / k), rel=0.01)
    assert distinct.relative_error(1e9, 12) == pytest.approx(
        math.sqrt(math.log(2) ** 2 / k), rel=0.01
    )
    assert distinct.relative_error(0.0, 12) == 0.0


def test_merging_into_small_and_into_large_are_the_same():
    """Small into large, large into small, and with gaps in the filter's matrix."""
    small, large = count_of(items_of(20, 1)), count_of(items_of(3000, 2))
    restored = Distinct.from_partial(large.partial())
    results = []
    for first, second in ((small, large), (large, small), (small, restored), (restored, small)):
        merged = first.copy()
        merged.merge(second)
        merged.update(items_of(500, 3))
        results.append(merged.to_bytes())
    for first, second in ((large, restored), (restored, large), (large, large)):
        merged = first.copy()
        merged.merge(second)
        merged.update(items_of(500, 3))
        merged.update(items_of(20, 1))
        results.append(merged.to_bytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("n", [10, 5000])
@pytest.mark.parametrize(
    "twin", [Distinct.copy, copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copies_are_equal_and_independent(n, twin):
    """A copy gives the same bytes, and a change to it is not a change to the original."""
    original = count_of(items_of(n))
    before = original.partial()
    other = twin(original)
    assert other.partial() == before
    other.update(items_of(n, 6))
    assert original.partial() == before
    assert other.estimate().value > original.estimate().value


def test_an_image_comes_back():
    """A stored image, small or large, can be read and counted on."""
    for n in (0, 10, 5000):
        counter = Distinct.from_bytes(count_of(items_of(n)).to_bytes())
        counter.update(items_of(3000, 8))
        assert counter.to_bytes() == count_of(items_of(n), items_of(3000, 8)).to_bytes()


def test_a_partial_is_compact():
    """Exchange form: eight bytes an element while small, a compressed image beyond."""
    assert len(count_of(items_of(10)).partial()) < 100
    assert len(count_of(items_of(100_000)).partial()) < 3000


@pytest.mark.parametrize("lg_k", [3, 17])
def test_sizes_out_of_range_are_refused(lg_k):
    """Only sizes that the bounds are known for are accepted."""
    with pytest.raises(SketchError, match=f"must be 4 to 16, not {lg_k}"):
        Distinct(lg_k)


def test_unlike_sizes_do_not_merge():
    """The message names both sizes."""
    with pytest.raises(SketchError, match="lg_k 12 and 11"):
        Distinct(12).merge(Distinct(11))


@pytest.mark.parametrize("n", [10, 5000])
def test_damaged_partials_are_refused(n):
    """Any changed or missing byte is noticed before the library sees it."""
    partial = count_of(items_of(n)).partial()
    for position in (0, 3, 5, 8, 9, 20, len(partial) - 1):
        damaged = bytearray(partial)
        damaged[position] ^= 1
        with pytest.raises(SketchError):
            Distinct.from_partial(DistinctPartial(bytes(damaged)))
    for end in (0, 7, 8, len(partial) - 1):
        with pytest.raises(SketchError):
            Distinct.from_partial(DistinctPartial(partial[:end]))


def test_foreign_images_are_refused():
    """Not an image, another family, another seed, cut off: each is an error of ours."""
    image = count_of(items_of(5000)).to_bytes()
    other_seed = datasketches.cpc_sketch(12, 7)
    other_seed.update(1)
    family = datasketches.hll_sketch(12).serialize_compact()
    for bad in (b"", b"short", family, bytes(other_seed.serialize()), image[:-1], image[:20]):
        with pytest.raises(SketchError):
            Distinct.from_bytes(bad)


def test_selfcheck_is_silent_here_and_speaks_of_differences(monkeypatch):
    """No line when all is well; one for each part that is fed item by item."""
    assert flows.sketches.selfcheck() == []
    monkeypatch.setattr(distinct, "fast_path", lambda: False)
    (line,) = flows.sketches.selfcheck()
    assert line.startswith("distinct:")


def test_another_hash_is_noticed(monkeypatch):
    """A filter that drops one item too many fails the check."""
    real = distinct.new_coupons
    monkeypatch.setattr(distinct, "new_coupons", lambda *args: real(*args) - 1)
    assert not distinct.fast_path.__wrapped__()


def test_the_slow_path_gives_the_same(monkeypatch):
    """Fed item by item, the bytes are the same."""
    items = items_of(5000)
    fast = count_of(items).to_bytes()
    monkeypatch.setattr(distinct, "fast_path", lambda: False)
    monkeypatch.setattr(distinct, "new_coupons", None)
    assert count_of(items).to_bytes() == fast
