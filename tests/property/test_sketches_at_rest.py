"""Stored sketches: any grouping and order of merges answers as one sketch of all would."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sketches.at_rest import encode, merge
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import PACKETS, Frequency
from flows.sketches.superspread import SuperSpread
from schemas.hashing import DEFAULT_SEED, hash_words

seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([0, 3, 200, 1000, 4000, 9000])
parts_of = st.lists(st.integers(0, 5), min_size=1, max_size=6)


def grouped(kind, images, rng):
    """Merge in random order and random groups, by way of bytes."""
    pile = [images[i] for i in rng.permutation(len(images))]
    while len(pile) > 1:
        n = int(rng.integers(2, len(pile) + 1))
        pile = [*pile[n:], encode(merge(kind, pile[:n]))[2]]
    return merge(kind, pile)


def split(rng, n, parts):
    """Which rows each part has; parts may overlap and be empty."""
    return [rng.integers(0, n, n // part) if part and n else np.empty(0, int) for part in parts]


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=sizes, parts=parts_of, lg_k=st.integers(4, 13))
def test_distinct(seed, n, parts, lg_k):
    """A union is the image of one count of everything, repeated elements or not."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 2**64, n, np.uint64)
    whole, images = Distinct(lg_k), []
    for rows in split(rng, n, parts):
        part = Distinct(lg_k)
        part.update(items[rows])
        whole.update(items[rows])
        images.append(part.to_bytes())
    assert grouped("cpc", images, rng).to_bytes() == whole.to_bytes()
    assert merge("cpc", images + images).to_bytes() == whole.to_bytes()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=sizes, parts=parts_of)
def test_spread(seed, n, parts):
    """Merged spreads are the image of one sketch of all pairs."""
    rng = np.random.default_rng(seed)
    keys = rng.geometric(0.02, n).astype(np.uint64).reshape(-1, 1)
    columns = keys, hash_words(keys, DEFAULT_SEED), rng.integers(0, 2**64, n, np.uint64)
    whole, images = SuperSpread(1, 1 << 16), []
    for rows in split(rng, n, parts):
        part = SuperSpread(1, 1 << 16)
        chosen = [column[rows] for column in columns]
        part.update(*chosen)
        whole.update(*chosen)
        images.append(part.to_bytes())
    assert grouped("superspread", images, rng).to_bytes() == whole.to_bytes()
    assert merge("superspread", images + images).to_bytes() == whole.to_bytes()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=sizes, parts=parts_of)
def test_frequency(seed, n, parts):
    """Sums of merged parts are exact, and bounds hold for every key, in any grouping."""
    rng = np.random.default_rng(seed)
    truth = {}
    images = []
    for rows in split(rng, n, parts):
        keys = np.unique(rows).astype(np.uint64).reshape(-1, 1)
        weights = rng.geometric(0.001, len(keys)).astype(np.uint64)
        part = Frequency(1, width=256, lg_max=6)
        part.update(keys, hash_words(keys, DEFAULT_SEED), weights, weights * np.uint64(60))
        images.append(part.to_bytes())
        for key, weight in zip(keys[:, 0].tolist(), weights.tolist(), strict=True):
            truth[key] = truth.get(key, 0) + weight
    merged = grouped("frequency", images, rng)
    assert merged.total_packets == sum(truth.values())
    every = np.array(sorted(truth), np.uint64).reshape(-1, 1)
    for hitter in merged.bounds(every):
        assert hitter.packets_lower <= truth[hitter.key[0]] <= hitter.packets_upper
    ranking = merged.top(5).by_packets
    listed = {hitter.key[0] for hitter in ranking.rows}
    assert all(w <= ranking.error for key, w in truth.items() if key not in listed)
    assert all(h.packets >= 1 for h in merged.over(PACKETS, 1))
