"""Count-Min: the library's image byte for byte, upper bounds that hold."""

import copy
import pickle
from collections import Counter

import datasketches
import numpy as np
import pytest

import flows.sketches
from flows.errors import SketchError
from flows.sketches import count_min
from flows.sketches.count_min import CountMin, CountMinPair


def stream(n: int = 3000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    universe = rng.integers(0, 2**64, 500, np.uint64)
    return universe[rng.integers(0, 500, n)], rng.integers(1, 2**30, n, np.uint64)


def counts_of(items: np.ndarray, weights: np.ndarray, depth: int = 4, width: int = 256) -> CountMin:
    counts = CountMin(depth, width)
    counts.update(items, weights)
    return counts


def library_of(items: np.ndarray, weights: np.ndarray, depth: int, width: int):
    sketch = datasketches.count_min_sketch(depth, width)
    for item, weight in zip(items.view(np.int64).tolist(), weights.tolist(), strict=True):
        sketch.update(item, float(weight))
    return sketch


@pytest.mark.parametrize(("depth", "width"), [(1, 4), (4, 64), (4, 1 << 14), (7, 1024), (255, 4)])
def test_the_image_is_the_library_s_own(depth, width):
    """The image equals the library's after the same updates, and comes back equal."""
    items, weights = stream()
    sketch = library_of(items, weights, depth, width)
    image = counts_of(items, weights, depth, width).to_bytes()
    assert image == sketch.serialize()
    assert CountMin.from_bytes(sketch.serialize()).to_bytes() == image
    back = datasketches.count_min_sketch.deserialize(image)
    for item in items[:50].view(np.int64).tolist():
        assert back.get_estimate(item) == sketch.get_estimate(item)


def test_an_empty_image_is_the_library_s_too():
    """Nothing counted, or nothing of weight, is the library's empty image."""
    empty = datasketches.count_min_sketch(4, 64).serialize()
    counts = CountMin(4, 64)
    assert counts.to_bytes() == empty
    counts.update(np.ones(2, np.uint64), np.zeros(2, np.uint64))
    assert counts.to_bytes() == empty
    assert CountMin.from_bytes(empty).upper(np.ones(2, np.uint64)).tolist() == [0, 0]


def test_upper_bounds_hold_and_are_the_library_s():
    """No weight exceeds its bound; few bounds exceed the stated error."""
    items, weights = stream(20_000)
    counts = counts_of(items, weights)
    sketch = library_of(items, weights, 4, 256)
    truth: Counter[int] = Counter()
    for item, weight in zip(items.tolist(), weights.tolist(), strict=True):
        truth[item] += weight
    keys = np.array(list(truth), np.uint64)
    upper = counts.upper(keys)
    assert upper.tolist() == [sketch.get_estimate(item) for item in keys.view(np.int64).tolist()]
    excess = upper - np.array(list(truth.values()))
    assert excess.min() >= 0
    assert counts.total == sum(truth.values())
    assert counts.relative_error == pytest.approx(sketch.get_relative_error())
    assert np.mean(excess > counts.relative_error * counts.total) < np.exp(-4)


def test_a_pair_is_two_single_ones():
    """Packets and bytes counted together are what they are apart; so are merges and copies."""
    items, packets = stream()
    n_bytes = packets * np.uint64(3)
    pair = CountMinPair(4, 256)
    pair.update(items, packets, n_bytes)
    assert pair.packets.to_bytes() == counts_of(items, packets).to_bytes()
    assert pair.bytes.to_bytes() == counts_of(items, n_bytes).to_bytes()
    twin = pair.copy()
    twin.merge(pair)
    assert twin.bytes.total == 2 * pair.bytes.total
    assert pair.packets.to_bytes() == counts_of(items, packets).to_bytes()


def test_merging_is_counting_together():
    """Parts merged in any order are the whole, byte for byte; an empty one changes nothing."""
    items, weights = stream()
    parts = [
        counts_of(i, w)
        for i, w in zip(np.array_split(items, 4), np.array_split(weights, 4), strict=True)
    ]
    whole = counts_of(items, weights).to_bytes()
    for order in (parts, parts[::-1]):
        merged = CountMin(4, 256)
        for part in order:
            merged.merge(part)
        merged.merge(CountMin(4, 256))
        assert merged.to_bytes() == whole


@pytest.mark.parametrize(
    "twin", [CountMin.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
@pytest.mark.parametrize("scale", [1, 10**9])
def test_copies_are_equal_and_independent(twin, scale):
    """A change to a copy is not a change to the original, whether sums fit 32 bits or not."""
    items, weights = stream()
    weights = weights * np.uint64(scale)
    original = counts_of(items, weights)
    before = original.to_bytes()
    other = twin(original)
    assert other.to_bytes() == before
    other.update(items, weights)
    assert original.to_bytes() == before != other.to_bytes()


@pytest.mark.parametrize(("depth", "width"), [(0, 64), (256, 64), (4, 2), (4, 100), (4, 1 << 25)])
def test_impossible_shapes_are_refused(depth, width):
    """The message names the shape."""
    with pytest.raises(SketchError, match=f"{depth} x {width}"):
        CountMin(depth, width)


def test_unlike_shapes_do_not_merge():
    """The message names both shapes."""
    with pytest.raises(SketchError, match="4 x 64 and of 4 x 128"):
        CountMin(4, 64).merge(CountMin(4, 128))


def test_ragged_columns_are_refused():
    """Items and weights of different number are an error, not a read past the end."""
    column = np.ones(3, np.uint64)
    with pytest.raises(SketchError, match="3 items need as many weights"):
        CountMin().update(column, column[:2])
    with pytest.raises(SketchError, match="3 items need as many weights"):
        CountMinPair().update(column, column, column[:2])


def test_foreign_images_are_refused():
    """Too short, another family, another seed, cut off, too long: each names its fault."""
    image = counts_of(*stream()).to_bytes()
    other_seed = bytes(datasketches.count_min_sketch(4, 64, 7).serialize())
    family = image[:2] + b"\x07" + image[3:]
    faults = {
        b"": "too few",
        family: "begins with",
        other_seed: "seed hash",
        image[:-1]: "instead of",
        image + b"\0": "instead of",
        image[:8] + b"\x05" + image[9:]: "not 4 x",
    }
    for bad, fault in faults.items():
        with pytest.raises(SketchError, match=fault):
            CountMin.from_bytes(bad)


def test_selfcheck_speaks_of_differences(monkeypatch):
    """One line says that items are fed one by one."""
    monkeypatch.setattr(count_min, "fast_path", lambda: False)
    (line,) = flows.sketches.selfcheck()
    assert line.startswith("count_min:")


def test_other_seeds_are_noticed(monkeypatch):
    """Where the platform draws other row seeds the check fails."""
    real = count_min.row_seeds
    monkeypatch.setattr(count_min, "row_seeds", lambda depth: real(depth) + np.uint64(1))
    assert not count_min.fast_path.__wrapped__()


def test_the_slow_path_gives_the_same(monkeypatch):
    """Fed item by item, bytes and bounds are the same."""
    items, weights = stream()
    fast = counts_of(items, weights)
    bounds = fast.upper(items)
    monkeypatch.setattr(count_min, "fast_path", lambda: False)
    monkeypatch.setattr(count_min, "row_seeds", None)
    slow = counts_of(items, weights)
    pair = CountMinPair(4, 256)
    pair.update(items, weights, weights)
    slow.update(items[:0], weights[:0])
    assert slow.to_bytes() == pair.bytes.to_bytes() == fast.to_bytes()
    assert np.array_equal(slow.upper(items), bounds)
