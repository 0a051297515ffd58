"""Properties of distinct counts and heavy hitters under any split, order and merging."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kernels.group import group_sum
from flows.sketches import frequency
from flows.sketches.count_min import CountMin
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from schemas.hashing import hash_words
from tests.support.naive_sketches import NaiveFrequency

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, n=st.sampled_from([0, 3, 100, 255, 300, 700, 5000]), lg_k=st.integers(4, 13),
       actions=st.lists(st.integers(0, 3), max_size=12))  # fmt: skip
def test_distinct_depends_on_the_set_only(seed, n, lg_k, actions):
    """Any splitting, repeating, merging and restoring gives the bytes of one update."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 2**64, n, np.uint64)
    whole = Distinct(lg_k)
    whole.update(items)
    pile = [Distinct(lg_k)]
    for action, part in zip(actions, np.array_split(items, len(actions) or 1), strict=False):
        if action == 0:
            pile.append(Distinct(lg_k))
        elif action == 1:
            pile[0] = Distinct.from_partial(pile[0].partial())
        elif action == 2 and len(pile) > 1:
            pile[0].merge(pile.pop())
        pile[rng.integers(len(pile))].update(part)
        pile[rng.integers(len(pile))].update(rng.choice(items, n // 3) if n else items)
    pile[0].update(items[::-1].copy())
    for other in pile[1:]:
        pile[0].merge_partial(other.partial())
    assert pile[0].to_bytes() == whole.to_bytes()
    assert pile[0].estimate() == whole.estimate()
    assert pile[0].partial() == whole.partial()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, depth=st.integers(1, 6), lg_width=st.integers(2, 10))
def test_count_min_never_underestimates(seed, depth, lg_width):
    """Whatever the shape and the split, no key weighs more than its bound."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 300, 1000).astype(np.uint64)
    weights = rng.integers(0, 2**40, 1000).astype(np.uint64)
    first, second = CountMin(depth, 1 << lg_width), CountMin(depth, 1 << lg_width)
    first.update(items[:400], weights[:400])
    second.update(items[400:], weights[400:])
    first.merge(second)
    truth = np.zeros(300, np.uint64)
    np.add.at(truth, items.astype(np.int64), weights)
    assert (first.upper(np.arange(300, dtype=np.uint64)) >= truth).all()
    assert first.total == truth.sum()


@pytest.fixture(scope="module")
def small_limits():
    """Limits so low that a few hundred keys reach every path."""
    patch = pytest.MonkeyPatch()
    patch.setattr(frequency, "EXACT_KEYS", 24)
    patch.setattr(frequency, "CANDIDATES", 20)
    yield
    patch.undo()


@settings(max_examples=150, deadline=None)
@given(
    seed=seeds,
    universe=st.sampled_from([5, 30, 200, 1000]),
    skew=st.sampled_from([0.0, 1.0, 2.0]),
    chunks=st.integers(1, 12),
    lg_max=st.integers(3, 8),
    lg_width=st.integers(2, 9),
    n=st.integers(0, 20),
    share=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
)
def test_heavy_hitters_keep_their_promises(
    small_limits, seed, universe, skew, chunks, lg_max, lg_width, n, share
):
    """Bounds hold and all keys above the error are listed, for any split and merge order."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**64, (universe, 2), np.uint64)
    odds = (np.arange(universe) + 1.0) ** -skew
    truth = NaiveFrequency()
    pile = [Frequency(2, 1 << lg_width, lg_max)]
    for _ in range(chunks):
        ids = rng.choice(universe, rng.integers(0, 400), p=odds / odds.sum())
        packets = rng.integers(0, rng.integers(2, 9), len(ids)).astype(np.uint64)
        n_bytes = packets * rng.integers(40, 1500, len(ids)).astype(np.uint64)
        truth.update(keys[ids], packets, n_bytes)
        if rng.random() < 0.5:
            pile.append(Frequency(2, 1 << lg_width, lg_max))
        rows = group_sum(keys[ids], hash_words(keys[ids]), packets, n_bytes)
        pile[-1].update(*rows)
        if rng.random() < 0.3:
            pile[-1] = Frequency.from_bytes(pile[-1].to_bytes())
    while len(pile) > 1:
        left, right = rng.choice(len(pile), 2, replace=False)
        pile[left].merge(pile[right])
        del pile[right]

    (summary,) = pile
    assert summary.total_packets == sum(truth.columns()[1])
    assert summary.total_bytes == sum(truth.columns()[2])
    top = summary.top(n, share)
    for metric, ranking in enumerate((top.by_packets, top.by_bytes)):
        for row in ranking.rows:
            packets, n_bytes = truth.sums[row.key]
            assert row.packets_lower <= packets <= row.packets_upper
            assert row.bytes_lower <= n_bytes <= row.bytes_upper
        listed = {row.key for row in ranking.rows}
        missing = [sums[metric] for key, sums in truth.sums.items() if key not in listed]
        assert max(missing, default=0) <= ranking.error
