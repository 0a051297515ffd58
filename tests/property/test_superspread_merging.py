"""Laws of the spread sketches: a function of the set of pairs, whatever the way there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sketches.superspread import ClassicSuperSpread, SuperSpread
from schemas.hashing import hash_words
from tests.support.naive_spread import NaiveSpread

MEMORY = 16 << 10
seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([0, 5, 700, 1024, 1025, 1600, 6000])


def stream(rng, n, words=1, keys=400):
    """Rows of keys and elements, skewed, with repeats."""
    odds = 1 / (np.arange(keys) + 1.0)
    ids = rng.choice(keys, n, p=odds / odds.sum())
    universe = rng.integers(0, 2**64, (keys, words), np.uint64)
    return universe[ids], rng.integers(0, max(n, 1) * 2, n).astype(np.uint64) * np.uint64(2**50 + 1)


def sketch_of(keys, elements, words=1, seed=3):
    sketch = SuperSpread(words, MEMORY, seed)
    sketch.update(keys, hash_words(keys, seed), elements)
    return sketch


@settings(max_examples=60, deadline=None)
@given(
    seed=seeds, n=sizes, words=st.integers(1, 4), actions=st.lists(st.integers(0, 4), max_size=12)
)
def test_the_state_depends_on_the_set_of_pairs_only(seed, n, words, actions):
    """Any splitting, repeating, merging and restoring gives the bytes of one update."""
    rng = np.random.default_rng(seed)
    keys, elements = stream(rng, n, words)
    whole = sketch_of(keys, elements, words)
    pile = [SuperSpread(words, MEMORY, 3)]

    def feed(sketch, rows):
        sketch.update(keys[rows], hash_words(keys[rows], 3), elements[rows])

    rows = rng.permutation(n)
    for action, part in zip(actions, np.array_split(rows, len(actions) or 1), strict=False):
        if action == 0:
            pile.append(SuperSpread(words, MEMORY, 3))
        elif action == 1:
            pile[0] = SuperSpread.from_bytes(pile[0].to_bytes())
        elif action == 2 and len(pile) > 1:
            pile[0].merge(pile.pop())
        elif action == 3:
            pile[0].top(3)
        feed(pile[rng.integers(len(pile))], part)
        feed(pile[rng.integers(len(pile))], rng.permutation(n)[: n // 3])
    feed(pile[-1], rows)
    for other in pile[1:]:
        pile[0].merge(other)
    assert pile[0].to_bytes() == whole.to_bytes()
    assert pile[0].top(40) == whole.top(40)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=sizes, parts=st.sampled_from([2, 4, 8]))
def test_a_random_split_merges_to_the_whole_in_any_order(seed, n, parts):
    """Two, four or eight workers, merged in any order or as a tree, equal one bit for bit."""
    rng = np.random.default_rng(seed)
    keys, elements = stream(rng, n)
    whole = sketch_of(keys, elements)
    worker = rng.integers(0, parts, n)
    pile = [sketch_of(keys[worker == part], elements[worker == part]) for part in range(parts)]
    while len(pile) > 1:
        left, right = rng.choice(len(pile), 2, replace=False)
        pile[left].merge(pile[right])
        del pile[right]
    assert pile[0].to_bytes() == whole.to_bytes()
    assert pile[0].top(40) == whole.top(40)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, n=st.tuples(sizes, sizes, sizes))
def test_merging_is_associative_commutative_and_idempotent(seed, n):
    """a(bc) = (ab)c, ab = ba, aa = a; the sketch merged in stays as it was."""
    rng = np.random.default_rng(seed)
    a, b, c = (sketch_of(*stream(rng, size)) for size in n)

    def merged(left, right):
        result, before = left.copy(), right.to_bytes()
        result.merge(right)
        assert right.to_bytes() == before
        return result

    assert merged(a, merged(b, c)).to_bytes() == merged(merged(a, b), c).to_bytes()
    assert merged(a, b).to_bytes() == merged(b, a).to_bytes()
    assert merged(a, a).to_bytes() == a.to_bytes()
    assert merged(a, SuperSpread(1, MEMORY, 3)).to_bytes() == a.to_bytes()
    assert merged(SuperSpread(1, MEMORY, 3), a).to_bytes() == a.to_bytes()


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=sizes, kind=st.sampled_from([SuperSpread, ClassicSuperSpread]))
def test_answers_are_sound(seed, n, kind):
    """Rows are keys that were fed, in descending order, each within its bounds."""
    rng = np.random.default_rng(seed)
    keys, elements = stream(rng, n, 2)
    sketch = SuperSpread(2, MEMORY) if kind is SuperSpread else ClassicSuperSpread(2, width=32)
    sketch.update(keys, hash_words(keys), elements)
    rows = sketch.top(10**4).rows
    truth = NaiveSpread(0, 0, 0, 0)
    truth.update(keys.tolist(), elements.tolist())
    spreads = truth.spreads()
    assert len({row.key for row in rows}) == len(rows) <= len(spreads)
    assert all(row.key in spreads for row in rows)
    estimates = [row.estimate for row in rows]
    assert estimates == sorted(estimates, reverse=True)
    assert all(row.lower <= row.estimate <= row.upper for row in rows)
    if kind is SuperSpread and sketch.exact:
        assert {row.key: row.estimate for row in rows} == spreads


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_large_split_merges_to_the_whole(parts):
    """The same with a table that has been full and pruned many times."""
    rng = np.random.default_rng(parts)
    keys, elements = stream(rng, 200_000, 2, keys=60_000)
    whole = SuperSpread(2, 1 << 18)
    whole.update(keys, hash_words(keys), elements)
    worker = rng.integers(0, parts, len(keys))
    pile = []
    for part in range(parts):
        pile.append(SuperSpread(2, 1 << 18))
        rows = keys[worker == part]
        pile[-1].update(rows, hash_words(rows), elements[worker == part])
    for other in pile[:0:-1]:
        pile[0].merge(other)
    assert pile[0].to_bytes() == whole.to_bytes()
    assert pile[0].top(400) == whole.top(400)
