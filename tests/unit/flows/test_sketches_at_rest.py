"""Stored sketches: what they refuse, unions, and the bounds of what two of them share."""

from __future__ import annotations

import re
from typing import Any

import datasketches
import numpy as np
import pytest

from flows.errors import SketchError
from flows.sketches.at_rest import (
    KINDS,
    Sketch,
    check_version,
    encode,
    merge,
    only,
    seed_id,
    shared,
)
from flows.sketches.at_rest.formats import check_cpc
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from schemas.hashing import DEFAULT_SEED, hash_words
from tests.support.jobs import ROOT


def counted(items: np.ndarray, lg_k: int = 12) -> Distinct:
    sketch = Distinct(lg_k)
    sketch.update(items)
    return sketch


def items_of(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


def frequency_of(n: int) -> Frequency:
    sketch = Frequency(1)
    keys = np.arange(n, dtype=np.uint64).reshape(-1, 1)
    weights = np.arange(1, n + 1, dtype=np.uint64)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), weights, weights * np.uint64(100))
    return sketch


def spread_of(n: int) -> SuperSpread:
    sketch = SuperSpread(1, 1 << 16)
    keys = (np.arange(n, dtype=np.uint64) % np.uint64(7)).reshape(-1, 1)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), items_of(n))
    return sketch


MAKERS = {
    "cpc": lambda n: counted(items_of(n)),
    "frequency": frequency_of,
    "superspread": spread_of,
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n", [0, 5, 5000])
def test_bytes_come_back(kind: str, n: int) -> None:
    """What was encoded is read back, under its kind and version."""
    sketch: Sketch = MAKERS[kind](n)
    found, version, image = encode(sketch)
    assert (found, version) == (kind, KINDS[kind])
    check_version(found, version)
    again = merge(kind, [image])
    if isinstance(sketch, Frequency):
        # The library may write the same counters in another order.
        assert again.top(n + 1) == sketch.top(n + 1)
    else:
        assert again.to_bytes() == image


def test_the_example_of_the_readme_runs() -> None:
    """The Python in the README works with lists of images as they are stored."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {
        "monday_images": [counted(items_of(200)).to_bytes()],
        "tuesday_images": [counted(items_of(100)).to_bytes(), counted(items_of(50)).to_bytes()],
        "frequency_images": [frequency_of(9).to_bytes()],
        "superspread_images": [spread_of(9).to_bytes()],
    }
    exec(example[1], names)
    estimate = names["monday"].estimate()
    assert estimate.lower <= 200 <= estimate.upper


def test_unknown_versions_are_refused() -> None:
    """A kind or a version that isn't known is named, with what is."""
    with pytest.raises(SketchError, match="kind cpc in version 9 can't be read, only version 1"):
        check_version("cpc", 9)
    with pytest.raises(SketchError, match="kind 'theta' can't be read, only cpc, frequency"):
        check_version("theta", 1)
    with pytest.raises(SketchError, match="kind 'theta'"):
        merge("theta", [])


@pytest.mark.parametrize("kind", MAKERS)
def test_nothing_can_be_merged_of_nothing(kind: str) -> None:
    """No sketch at all is an error, not an empty answer."""
    with pytest.raises(SketchError, match="no sketch to merge"):
        merge(kind, [])


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("n", [5, 5000])
def test_cut_and_foreign_bytes_are_refused(kind: str, n: int) -> None:
    """Every cut, another kind's bytes and plain text are refused with a line that says so."""
    image = encode(MAKERS[kind](n))[2]
    ends = sorted({*range(0, min(len(image), 64)), len(image) // 2, len(image) - 1})
    others = [encode(MAKERS[other](n))[2] for other in MAKERS if other != kind]
    for bad in [image[:end] for end in ends] + others + [b"garbage", image + b"\0\0\0\0"]:
        with pytest.raises(SketchError):
            merge(kind, [image, bad])


@pytest.mark.parametrize("lg_k", [4, 9, 12])
def test_all_forms_of_a_cpc_image_pass(lg_k: int) -> None:
    """Images of every size pass the check, with the library's own estimator and without."""
    sketch = datasketches.cpc_sketch(lg_k)
    done = 0
    for n in (0, 1, 10, 100, 500, 2000, 8000, 30_000, 200_000):
        for item in range(done, n):
            sketch.update(item)
        done = n
        union = datasketches.cpc_union(lg_k)
        union.update(sketch)
        check_cpc(bytes(sketch.serialize()))
        check_cpc(bytes(union.get_result().serialize()))


def test_a_damaged_head_is_refused() -> None:
    """A changed byte among the lengths and flags of a CPC image doesn't reach the library."""
    image = encode(counted(items_of(5000)))[2]
    for at in (0, 1, 2, 3, 4, 5, 11, *range(16, 24)):
        damaged = bytearray(image)
        damaged[at] ^= 0xD4
        with pytest.raises(SketchError):
            check_cpc(bytes(damaged))


def test_sizes_of_counts_may_differ() -> None:
    """Counts of several sizes, as after a change of the settings, give one of the smallest."""
    items = items_of(20_000)
    images = [counted(items[:12_000], 12).to_bytes(), counted(items[8000:], 10).to_bytes()]
    for order in (images, images[::-1]):
        union = merge("cpc", order)
        assert union.lg_k == 10
        assert union.to_bytes() == counted(items, 10).to_bytes()


def test_unlike_sketches_are_refused() -> None:
    """Spreads and frequencies of another shape or seed aren't merged."""
    with pytest.raises(SketchError, match="can't be merged"):
        merge("superspread", [SuperSpread(1).to_bytes(), SuperSpread(2).to_bytes()])
    with pytest.raises(SketchError, match="can't be merged"):
        merge("frequency", [Frequency(1).to_bytes(), Frequency(1, seed=5).to_bytes()])


def test_seeds_are_told_apart() -> None:
    """Different seeds have different marks, none of them that of a seed that isn't known."""
    assert len({seed_id(seed) for seed in range(1000)} - {0}) == 1000


def test_a_day_of_minutes() -> None:
    """The union of 1,440 one-minute images is one of the day, and brackets its exact count."""
    rng = np.random.default_rng(7)
    hosts = items_of(150_000)
    minutes = [hosts[(rng.pareto(1.0, 400) * 500).astype(np.int64) % 150_000] for _ in range(1440)]
    union = merge("cpc", [counted(minute).to_bytes() for minute in minutes])
    day = np.unique(np.concatenate(minutes))
    found = union.estimate()
    assert found.lower <= len(day) <= found.upper
    assert found.upper - found.lower < 0.06 * len(day)
    assert union.to_bytes() == counted(day).to_bytes()


@pytest.mark.parametrize(
    ("a_only", "b_only", "both"),
    [
        (50_000, 50_000, 0), (50_000, 50_000, 1000), (20_000, 20_000, 20_000), (0, 0, 10_000),
        (100, 30_000, 0), (100, 30_000, 50), (500, 0, 100), (40, 40, 300),
    ],
)  # fmt: skip
def test_bounds_of_parts_hold(a_only: int, b_only: int, both: int) -> None:
    """Bounds of what two sets share, and of what only one has, hold as often as they say."""
    trials, held_both, held_only = 300, 0, 0
    widths = []
    for seed in range(trials):
        items = items_of(a_only + b_only + both, seed)
        a, b = counted(items[: a_only + both], 10), counted(items[a_only:], 10)
        common, rest = shared(a, b), only(a, b)
        held_both += common.lower <= both <= common.upper
        held_only += rest.lower <= a_only <= rest.upper
        assert common.lower <= common.value <= common.upper
        assert rest.lower <= rest.value <= rest.upper
        widths.append(max(common.upper - common.lower, rest.upper - rest.lower))
    # 95 % of 300, less three standard deviations
    assert min(held_both, held_only) >= 273
    # No wider than four standard errors of the union, times 1.6 for that of both sets.
    union = a_only + b_only + both
    assert np.mean(widths) <= 4 * 1.6 * 0.7 / 32 * union + 8


def test_of_counts_of_several_sizes_the_smaller_decides() -> None:
    """What sets in sketches of different sizes share is bounded by the coarser one."""
    held = 0
    for seed in range(100):
        items = items_of(3000, seed)
        a, b = counted(items[:2000], 12), counted(items[1000:], 9)
        found = shared(a, b), only(a, b), only(b, a)
        held += sum(part.lower <= 1000 <= part.upper for part in found)
        assert min(part.upper - part.lower for part in found) > 100
    assert held >= 264  # 95 % of 300, correlated in threes


def test_parts_of_few_and_of_nothing() -> None:
    """Sets that are still exact, or empty, have parts like all others."""
    few, none = counted(items_of(20)), counted(items_of(0))
    assert (shared(few, none).value, only(none, few).upper) == (0, 0)
    assert only(few, none).lower <= 20 <= only(few, none).upper
    assert shared(few, few).lower <= 20 <= shared(few, few).upper
