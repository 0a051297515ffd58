"""Kernels of the spread sketches against their plain-Python twins."""

import numpy as np
import pytest

from flows.errors import SketchError
from flows.kernels import superspread as kernel
from flows.kernels.superspread_candidates import THRESHOLD, find_orders
from flows.kernels.superspread_estimate import bounds, fit, log_likelihood, slopes
from flows.sketches.superspread import ClassicSuperSpread
from flows.sketches.superspread.pool import Pool, Shape, shape_of
from schemas.hashing import hash_words
from tests.support import naive_spread as naive

SEED = 5


def random_pairs(n, keys, words=2, seed=1):
    """Rows of a skewed stream: keys, their hashes, element hashes."""
    rng = np.random.default_rng(seed)
    odds = 1 / (np.arange(keys) + 1.0)
    ids = rng.choice(keys, n, p=odds / odds.sum())
    universe = rng.integers(0, 2**64, (keys, words), np.uint64)
    elements = rng.integers(0, 2**64, n // 2, np.uint64)[rng.integers(0, n // 2, n)]
    return universe[ids], hash_words(universe[ids], SEED), elements


def hashed(key_hashes, elements):
    out = np.empty(len(key_hashes), np.uint64)
    kernel.pair_hashes(key_hashes, elements, out)
    return out


@pytest.mark.parametrize("n", [0, 1, 50, 5000])
@pytest.mark.parametrize("words", [1, 2, 4])
def test_pool_and_table_equal_their_twin(n, words):
    """After any number of pairs the pool's words and the candidates are the twin's."""
    shape = Shape(pool_words=320, registers=64, capacity=64)
    keys, key_hashes, elements = random_pairs(max(n, 2), 300, words)
    keys, key_hashes, elements = keys[:n], key_hashes[:n], elements[:n]
    pool = Pool(words, shape, SEED)
    pool.feed(keys, key_hashes, hashed(key_hashes, elements))
    twin = naive.NaiveSpread(SEED, 320, 64, shape.kept)
    twin.update(keys.tolist(), elements.tolist())
    assert pool.pool.tolist() == twin.pool()
    count = pool.settle()
    held = dict(zip(map(tuple, pool.keys[:count].tolist()), pool.lowest.tolist(), strict=False))
    assert (held, int(pool.state[THRESHOLD])) == twin.candidates()


def test_rank_is_the_leading_zeros_capped():
    """Every position of the highest bit gives its rank; 15 is the highest."""
    pairs = [2**bit + low for bit in range(1, 64) for low in (0, 1)] + [0, 1]
    for pair in pairs:
        expected = min(naive.leading_zeros(pair) + 1, 15)
        assert kernel.rank_of(np.uint64(pair)) == expected


def test_an_entry_raises_that_of_its_tag():
    """A register appears in its word once, with its largest rank."""
    word = np.uint64(0)
    for entry in (0x1001, 0x3001, 0x2001, 0x2002, 0x5003, 0x1004, 0x4002):
        word = np.uint64(kernel.raise_entry(word, np.uint64(entry)))
    assert int(word) == 0x5003_4002_3001_1004


def test_tag_zero_is_not_an_empty_entry():
    """A register with tag 0 is kept, found and raised like any other."""
    word = kernel.raise_entry(np.uint64(0), np.uint64(0x1000))
    word = kernel.raise_entry(np.uint64(word), np.uint64(0x2000))
    assert int(word) == 0x2000 << 48


def test_merged_pools_hold_the_four_largest():
    """Merging two pools gives that of both streams."""
    shape = Shape(pool_words=160, registers=64, capacity=64)
    keys, key_hashes, elements = random_pairs(4000, 200)
    pairs = hashed(key_hashes, elements)
    pools = []
    for rows in (slice(0, 4000), slice(0, 1500), slice(1500, 4000)):
        pool = Pool(2, shape, SEED)
        pool.feed(keys[rows], key_hashes[rows], pairs[rows])
        pools.append(pool)
    whole, first, second = pools
    first.merge(second)
    assert np.array_equal(first.pool, whole.pool)


def test_tally_equals_its_twin():
    """What is known of each register is counted as the twin counts it."""
    shape = Shape(pool_words=160, registers=64, capacity=64)
    keys, key_hashes, elements = random_pairs(3000, 40)
    pool = Pool(2, shape, SEED)
    pool.feed(keys, key_hashes, hashed(key_hashes, elements))
    asked = np.unique(key_hashes)
    for groups in (2, 4, 9):
        own, below = np.zeros((2, len(asked), 16), np.int32)
        kernel.tally(asked, pool.pool, np.uint64(64), np.uint64(groups), own, below)
        words = pool.pool.tolist()
        for row, key_hash in enumerate(asked.tolist()):
            expected = naive.tally(key_hash, words, 64, min(groups, 4))
            assert (own[row].tolist(), below[row].tolist()) == expected


def some_counts():
    rng = np.random.default_rng(3)
    own = rng.integers(0, 30, (20, 16)).astype(np.int32)
    below = rng.integers(0, 30, (20, 16)).astype(np.int32)
    own[:, 0] = 0
    own[0] = 0
    own[1:5, 6:] = 0
    below[:, 15] = 0
    foreign = 1 - 0.01 * 0.6 ** np.arange(16.0)
    foreign[15] = 1
    return own, below, foreign


def test_likelihood_equals_its_twin():
    """The log-likelihood is the sum over registers, and the slopes are its derivatives."""
    own, below, foreign = some_counts()
    for row in range(len(own)):
        for x in (-1.0, 0.5, 3.0):
            value = log_likelihood(own[row], below[row], foreign, x)
            expected = naive.log_likelihood(own[row], below[row], foreign, float(np.exp(x)))
            assert value == pytest.approx(expected)
            h = 1e-4
            ends = [log_likelihood(own[row], below[row], foreign, x + d) for d in (-h, h)]
            first, second = slopes(own[row], below[row], foreign, x)
            assert first == pytest.approx((ends[1] - ends[0]) / (2 * h), rel=1e-4, abs=1e-4)
            near = [slopes(own[row], below[row], foreign, x + d)[0] for d in (-h, h)]
            assert second == pytest.approx((near[1] - near[0]) / (2 * h), rel=1e-4, abs=1e-4)


def test_fit_finds_the_maximum_and_bounds_its_surroundings():
    """No load is more likely than the one found; at the bounds it is less so by the drop."""
    own, below, foreign = some_counts()
    own, below = own[1:], below[1:]
    n = len(own)
    x, information, lower, upper = np.empty((4, n))
    fit(own, below, foreign, x, information)
    drop = np.full(n, 1.92)
    bounds(own, below, foreign, x, drop, lower, upper)
    for row in range(n):
        best = log_likelihood(own[row], below[row], foreign, x[row])
        for shift in (-0.5, -0.01, 0.01, 0.5):
            assert log_likelihood(own[row], below[row], foreign, x[row] + shift) < best
        for end in (lower[row], upper[row]):
            drop_there = best - log_likelihood(own[row], below[row], foreign, end)
            assert drop_there == pytest.approx(1.92, abs=0.02)
        assert lower[row] < x[row] < upper[row]


@pytest.mark.parametrize(("registers", "bits"), [(16, 3), (64, 5)])
def test_classic_equals_its_twin(registers, bits):
    """Registers, probabilities, candidates and votes are those of one vote at a time."""
    keys, key_hashes, elements = random_pairs(3000, 60)
    sketch = ClassicSuperSpread(2, 8, 2, registers, bits, seed=SEED)
    twin = naive.NaiveClassic(8, 2, registers, bits, 1.08, SEED)
    for start in range(0, 3000, 700):
        part = slice(start, start + 700)
        sketch.update(keys[part], key_hashes[part], elements[part])
    for key, element in zip(keys.tolist(), elements.tolist(), strict=True):
        twin.update(tuple(key), element)
    for (row, bucket), values in twin.registers.items():
        assert sketch._registers[row, bucket].tolist() == values
        assert sketch._votes[row, bucket] == twin.votes[row, bucket]
        assert sketch._odds[row, bucket] == pytest.approx(twin.odds[row, bucket])
        if twin.votes[row, bucket]:
            key = tuple(sketch._candidates[row, bucket].tolist())
            assert key == twin.candidates[row, bucket]
    known = np.unique(keys, axis=0)
    estimates, _, _ = sketch.estimates(known, hash_words(known, SEED))
    assert estimates.tolist() == [twin.estimate(tuple(key)) for key in known.tolist()]


def test_too_little_memory_is_refused():
    """A sketch without room for registers is an error."""
    with pytest.raises(SketchError, match="at least 16384 bytes, not 16383"):
        shape_of(2, 16_383)


@pytest.mark.parametrize("memory", [16 << 10, 100_000, 1 << 20, 4 << 20, 64 << 20])
@pytest.mark.parametrize("words", [1, 2, 4])
def test_shape_fills_the_memory_and_no_more(memory, words):
    """Pool and table take what was given, all but a group of words."""
    pool = Pool(words, shape_of(words, memory), SEED)
    assert memory - 256 < pool.memory_bytes <= memory + 64


def test_find_orders_equals_a_dict():
    """Of a held key its smallest order; of others the threshold, below which they have none."""
    keys, key_hashes, pairs = random_pairs(3000, 800)
    pool = Pool(keys.shape[1], Shape(pool_words=320, registers=64, capacity=64), SEED)
    pool.feed(keys, key_hashes, hashed(key_hashes, pairs))
    count = pool.settle()
    held = {tuple(k): int(o) for k, o in zip(pool.keys[:count].tolist(), pool.lowest, strict=False)}
    asked, rows = np.unique(keys, axis=0, return_index=True)
    out = np.empty(len(asked), np.uint64)
    find_orders(asked, key_hashes[rows], pool.keys, pool.lowest, pool.slots, pool.state, out)
    threshold = int(pool.state[THRESHOLD])
    assert out.tolist() == [held.get(tuple(key), threshold) for key in asked.tolist()]
    assert 0 < count < len(asked)
