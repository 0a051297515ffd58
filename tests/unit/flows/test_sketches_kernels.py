"""Kernels of the sketches against their plain-Python twins."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from flows.kernels.count_min import add, add_pair, smallest
from flows.kernels.cpc import distinct_few, new_coupons
from flows.kernels.group import TIES, group_sum, heaviest, likely_heaviest
from flows.kernels.murmur import murmur3_x64_128
from flows.sketches.count_min import row_seeds
from schemas.hashing import hash_words
from tests.support.naive_sketches import (
    NaiveFrequency,
    heaviest_rows,
    murmur3,
    new_coupon_positions,
)

EDGES = [0, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1]


def random_items(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, n, np.uint64)


@pytest.mark.parametrize("seed", [0, 9001, 2**64 - 1])
def test_murmur_equals_its_twin(seed):
    """The kernel's hash is MurmurHash3_x64_128 of eight bytes."""
    for item in EDGES + random_items(50).tolist():
        assert murmur3_x64_128(item, seed) == murmur3(item, seed)


@pytest.mark.parametrize("k", [16, 4096])
def test_new_coupons_equals_its_twin(k):
    """The kernel reports the first item of each coupon, over several calls."""
    items = np.concatenate((random_items(700), np.array(EDGES, np.uint64), random_items(300)))
    seen = np.zeros(k, np.uint64)
    found = []
    for start in range(0, len(items), 400):
        part = items[start : start + 400]
        positions = np.empty(len(part), np.int64)
        count = new_coupons(part, seen, positions)
        found += (positions[:count] + start).tolist()
    assert found == new_coupon_positions(items.tolist(), k)


def test_distinct_few_lists_each_item_once():
    """Items, zero among them, come out once each and in order of first appearance."""
    items = np.array([7, 0, 7, 2**64 - 1, 0, 3, 3], np.uint64)
    out = np.empty(4, np.uint64)
    assert distinct_few(items, np.zeros(8, np.uint64), out) == 4
    assert out.tolist() == [7, 0, 2**64 - 1, 3]


@pytest.mark.parametrize("items", [[1, 2, 3, 4, 5], [1, 2, 3, 4, 0], [0, 1, 2, 3, 4]])
def test_distinct_few_gives_up_when_they_do_not_fit(items):
    """One item too many is reported as such, whichever it is."""
    out = np.empty(4, np.uint64)
    assert distinct_few(np.array(items, np.uint64), np.zeros(8, np.uint64), out) == 5


def test_count_min_kernels_equal_their_twin():
    """Single, paired and reading kernels agree with counters kept in a dict."""
    items = np.concatenate((random_items(300), random_items(100)))
    weights = np.arange(1, 401, dtype=np.uint64)
    seeds = row_seeds(3)
    expected = np.zeros((3, 64))
    for item, weight in zip(items.tolist(), weights.tolist(), strict=True):
        for row, seed in enumerate(seeds.tolist()):
            expected[row, murmur3(item, seed)[0] % 64] += weight
    single, first, second = np.zeros((3, 3, 64))
    add(items, weights, seeds, single)
    add_pair(items, weights, weights * np.uint64(7), seeds, first, second)
    assert np.array_equal(single, expected)
    assert np.array_equal(first, expected)
    assert np.array_equal(second, expected * 7)
    out = np.empty(len(items))
    smallest(items, seeds, single, out)
    for item, found in zip(items.tolist(), out.tolist(), strict=True):
        buckets = [murmur3(item, seed)[0] % 64 for seed in seeds.tolist()]
        assert found == min(expected[row, bucket] for row, bucket in enumerate(buckets))


@pytest.mark.parametrize("words", [1, 2, 4])
def test_group_sum_equals_a_dict(words):
    """Keys are summed exactly and come out in order of first appearance."""
    rng = np.random.default_rng(words)
    keys = rng.integers(0, 2**64, (300, words), np.uint64)[rng.integers(0, 300, 5000)]
    packets = rng.integers(0, 2**40, 5000, np.uint64)
    n_bytes = rng.integers(0, 2**40, 5000, np.uint64)
    naive = NaiveFrequency()
    naive.update(keys, packets, n_bytes)
    grouped = group_sum(keys, hash_words(keys), packets, n_bytes)
    assert [tuple(key) for key in grouped.keys.tolist()] == naive.columns()[0]
    assert grouped.packets.tolist() == naive.columns()[1]
    assert grouped.bytes.tolist() == naive.columns()[2]
    assert np.array_equal(grouped.hashes, hash_words(grouped.keys))


def test_group_sum_keeps_keys_apart_whose_hashes_collide():
    """Keys are compared themselves: equal hashes don't merge different keys."""
    keys = np.arange(20, dtype=np.uint64).reshape(10, 2)
    keys = np.concatenate((keys, keys))
    ones = np.ones(20, np.uint64)
    grouped = group_sum(keys, np.full(20, 2**64 - 1, np.uint64), ones, ones)
    assert np.array_equal(grouped.keys, keys[:10])
    assert grouped.packets.tolist() == [2] * 10


def test_group_sum_of_nothing_is_nothing():
    """No rows give no groups."""
    none = np.empty(0, np.uint64)
    assert [len(column) for column in group_sum(none.reshape(0, 2), none, none, none)] == [0] * 4


def test_group_sum_refuses_ragged_columns():
    """Columns of different length are an error, not a read past the end."""
    column = np.ones(3, np.uint64)
    with pytest.raises(ValueError, match="columns of 3, 3, 2 and 3 rows"):
        group_sum(column.reshape(3, 1), column, column[:2], column)


@pytest.mark.parametrize("count", [1, 10, 99, 100, 101])
def test_heaviest_equals_its_twin(count):
    """The chosen rows and the largest weights left out are those of the twin."""
    rng = np.random.default_rng(count)
    packets = rng.integers(0, 3, 100, np.uint64)
    n_bytes = rng.integers(0, 1000, 100, np.uint64)
    chosen = heaviest(packets, n_bytes, count)
    expected = heaviest_rows(packets.tolist(), n_bytes.tolist(), count, TIES)
    assert chosen.rows.tolist() == expected
    rest = sorted(set(range(100)) - set(expected))
    assert chosen.dropped_packets == max(packets[rest].tolist(), default=0)
    assert chosen.dropped_bytes == max(n_bytes[rest].tolist(), default=0)


def test_heaviest_of_equal_rows_are_a_few():
    """A flood of equal keys chooses a few and says that others weigh as much."""
    ones = np.ones(1000, np.uint64)
    chosen = heaviest(ones, ones * np.uint64(60), 500)
    assert chosen.rows.tolist() == list(range(TIES))
    assert (chosen.dropped_packets, chosen.dropped_bytes) == (1, 60)


def test_likely_heaviest_leaves_out_only_what_is_light():
    """Every row of a key that weighs more than what is given as dropped is among the rows."""
    rng = np.random.default_rng(12)
    keys = rng.integers(0, 5000, 20_000, np.uint64).reshape(-1, 1)
    keys[:3000] = 7
    packets = rng.integers(1, 4, len(keys)).astype(np.uint64)
    n_bytes = packets * rng.integers(40, 1500, len(keys)).astype(np.uint64)
    found = likely_heaviest(hash_words(keys), packets, n_bytes, 50)
    rows = set(found.rows.tolist())
    assert 3000 <= len(rows) < 4000
    sums: dict[int, list[int]] = {}
    for (key,), p, b in zip(keys.tolist(), packets.tolist(), n_bytes.tolist(), strict=True):
        both = sums.setdefault(key, [0, 0])
        both[0] += p
        both[1] += b
    out = [sums[keys[row, 0]] for row in range(len(keys)) if row not in rows]
    assert max(p for p, _ in out) <= found.dropped_packets < 100
    assert max(b for _, b in out) <= found.dropped_bytes
    everything = likely_heaviest(hash_words(keys), packets, n_bytes, 10_000)
    assert len(everything.rows) == len(keys)
    assert everything[1:] == (0, 0)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="this is the run without the compiler")
def test_kernels_agree_with_the_compiler_off():
    """As plain Python the kernels pass the same tests, so they rely on no quirk of numba."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore::RuntimeWarning", __file__]
    done = subprocess.run(
        command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
