"""The mergeable and the classic spread sketch: exactness, intervals, recall, bytes, guards."""

import math
import pickle

import numpy as np
import pytest

from flows.errors import SketchError
from flows.kernels.superspread_candidates import THRESHOLD
from flows.sketches import seal
from flows.sketches.superspread import ClassicSuperSpread, SuperSpread
from flows.sketches.superspread.pairs import EXACT_PAIRS
from schemas.hashing import hash_words

SMALL = 16 << 10


def columns(spreads, first=0, words=1):
    """Pairs of keys ``first``... with so many elements each, one row per pair."""
    spreads = np.asarray(spreads)
    ids = np.repeat(np.arange(first, first + len(spreads), dtype=np.uint64), spreads)
    numbers = np.arange(len(ids), dtype=np.uint64).reshape(-1, 1)
    keys = np.repeat(ids.reshape(-1, 1), words, axis=1)
    return keys, hash_words(keys), hash_words(numbers, 99 + first)


def fed(spreads, memory=SMALL, seed=None, **options):
    """A sketch of keys 0... with so many elements each."""
    sketch = SuperSpread(1, memory) if seed is None else SuperSpread(1, memory, seed)
    sketch.update(*columns(spreads, **options))
    return sketch


def test_an_empty_sketch_lists_nothing():
    """No pairs, no keys, no memory."""
    sketch = SuperSpread(2)
    top = sketch.top(10)
    assert top.rows == []
    assert sketch.memory_bytes == 0
    assert sketch.candidates == 0


def test_few_pairs_are_counted_exactly():
    """Up to 1024 different pairs every number is certain, repeats change nothing."""
    spreads = [600, 300, 100, 23, 1]
    sketch = fed(spreads)
    sketch.update(*columns(spreads))
    top = sketch.top(3)
    assert [row[1:] for row in top.rows] == [(n, n, n) for n in (600.0, 300.0, 100.0)]
    assert [row.key for row in top.rows] == [(0,), (1,), (2,)]
    assert (top.confidence, top.recall_peers) == (1.0, 1.0)
    assert sketch.exact
    assert sketch.memory_bytes == 16 * 1024


def test_one_pair_more_is_sketched():
    """The 1025th pair turns the sketch into what feeding a pool from the start gives."""
    at_once = fed([EXACT_PAIRS + 1])
    stepwise = SuperSpread(1, SMALL)
    keys, hashes, elements = columns([EXACT_PAIRS + 1])
    for row in range(0, len(keys), 41):
        assert stepwise.exact
        part = slice(row, row + 41)
        stepwise.update(keys[part], hashes[part], elements[part])
    assert not stepwise.exact
    assert stepwise.to_bytes() == at_once.to_bytes()
    assert at_once.top(1).confidence == 0.95


def test_ties_are_listed_by_key():
    """Equal spreads have one order, and ``n`` cuts there."""
    assert [row.key for row in fed([2] * 9).top(4).rows] == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize("scale", [1, 100])
def test_at_least_hides_the_smaller(scale):
    """Keys with a smaller estimate are not listed, exact or not."""
    sketch = fed(np.array([9, 8, 2, 1]) * scale)
    assert {row.key for row in sketch.top(10, 5 * scale).rows} == {(0,), (1,)}


def test_point_queries_answer_for_any_key():
    """Keys are estimated whether listed or not; a key never seen has no elements."""
    exact, sketched = fed([40, 7]), fed([4000, 700])
    keys = np.array([[1], [0], [77]], np.uint64)
    for column in exact.estimates(keys, hash_words(keys)):
        assert column.tolist() == [7, 40, 0]
    estimate, lower, upper = sketched.estimates(keys, hash_words(keys))
    assert (lower[:2] <= [700, 4000]).all()
    assert (upper[:2] >= [700, 4000]).all()
    assert lower[2] < 1
    assert estimate[2] < 20


@pytest.mark.parametrize("memory", [SMALL, 1 << 18])
def test_unseen_keys_are_never_reported(memory):
    """Every key listed is one that was fed, whatever the flood and the memory."""
    rng = np.random.default_rng(4)
    sketch = SuperSpread(2, memory)
    keys = rng.integers(0, 2**64, (60_000, 2), np.uint64)
    sketch.update(keys, hash_words(keys), rng.integers(0, 2**64, len(keys), np.uint64))
    known = set(map(tuple, keys.tolist()))
    assert {row.key for row in sketch.top(10**6).rows} <= known


def test_the_screen_loses_none_of_the_largest():
    """The top ten are those of a query that looks at every register of every candidate."""
    rng = np.random.default_rng(8)
    sketch = fed(np.sort(rng.zipf(1.5, 9000).clip(1, 20_000))[::-1], 1 << 20)
    everything = sketch.top(10**6).rows
    assert len(everything) == sketch.candidates > 8000
    for n in (1, 10, 100):
        assert sketch.top(n).rows == everything[:n]
    limit = everything[30].estimate
    assert sketch.top(10**6, limit).rows == everything[:31]


def test_alike_keys_are_not_all_looked_at_in_full():
    """Where the screen can't tell keys apart, it leaves enough of them and not many more."""
    sketch = fed([60] * 20_000, 4 << 20)
    keys = sketch._pool.candidates()
    rows = sketch._pool.screen(hash_words(keys), 10, 0)
    assert len(keys) > 10_000
    assert 10 <= len(rows) < 1200
    assert len(sketch.top(10).rows) == 10


@pytest.mark.parametrize("flood", [10**5, 10**6, pytest.param(10**7, marks=pytest.mark.slow)])
def test_recall_and_bounds_hold_in_a_flood_of_single_peer_sources(flood):
    """Sources with as many peers as stated are listed, and their intervals hold."""
    rng = np.random.default_rng(flood)
    sketch = SuperSpread(1, 1 << 20)
    for _ in range(flood // 10**5):
        keys = rng.integers(2**32, 2**63, (10**5, 1), np.uint64)
        sketch.update(keys, hash_words(keys), rng.integers(0, 2**64, len(keys), np.uint64))
    peers = math.ceil(1.1 * sketch.top(1).recall_peers)
    sketch.update(*columns([peers] * 200))
    # The spreaders' own pairs have lowered the threshold, but not by much.
    assert sketch.top(1).recall_peers < peers
    keys = np.arange(200, dtype=np.uint64).reshape(-1, 1)
    listed = {key for (key,) in sketch._pool.candidates().tolist()}
    assert len(set(range(200)) - listed) <= 3
    _, lower, upper = sketch.estimates(keys, hash_words(keys))
    assert np.mean((lower <= peers) & (peers <= upper)) > 0.88


def test_recall_is_everything_while_the_table_has_room():
    """With fewer keys than candidates, one peer is enough to be listed."""
    sketch = fed([5] * 300)
    assert not sketch.exact
    assert sketch.top(1).recall_peers == 1
    assert sketch.candidates == 300


def test_many_peers_stay_within_their_bounds():
    """A source with a million peers is estimated in the smallest memory."""
    row = fed([10**6, 10, 10]).top(1).rows[0]
    assert row.key == (0,)
    assert row.lower <= 10**6 <= row.upper
    assert row.upper / row.lower < 1.8


LOADS = {
    "light": (1 << 18, [2000, 500, 100] + [3] * 2000),
    "even": (1 << 17, [1500] * 30),
    "noisy": (1 << 17, [5000, 2000, 800, 300] + [8] * 9000),
    "tiny memory": (SMALL, [3000, 1000, 400] + [4] * 2000),
}


@pytest.mark.parametrize("load", LOADS)
def test_intervals_cover_the_truth_as_often_as_stated(load):
    """Over 300 seeds, 93 to 99 % of the 95 % intervals hold, and they are no wider than needed."""
    memory, spreads = LOADS[load]
    large = [n for n in spreads if n >= 100]
    truth = np.array(large, np.float64)
    asked = np.arange(len(large), dtype=np.uint64).reshape(-1, 1)
    keys, _, elements = columns(spreads)
    covered, deviations, widths = [], [], []
    for seed in range(300):
        sketch = SuperSpread(1, memory, seed)
        sketch.update(keys, hash_words(keys, seed), elements)
        estimate, lower, upper = sketch.estimates(asked, hash_words(asked, seed))
        covered.append((lower <= truth) & (truth <= upper))
        deviations.append((estimate - truth) / truth)
        widths.append((upper - lower) / truth)
    assert 0.93 <= np.mean(covered) <= 0.99
    spread = np.std(deviations, axis=0)
    assert (np.mean(widths, axis=0) < 2 * 1.96 * 1.25 * spread + 0.01).all()
    assert (np.abs(np.mean(deviations, axis=0)) < 0.3 * spread + 0.005).all()


@pytest.mark.parametrize("order", ["sorted", "reversed", "scanner last", "mice first", "bursts"])
def test_the_order_of_packets_changes_nothing(order):
    """A late scanner, bursts or mice first leave the same bytes as any other order."""
    spreads = np.concatenate(([3000], np.full(40, 200), np.full(4000, 2)))
    keys, hashes, elements = columns(spreads)
    rows = np.arange(len(keys))
    if order == "reversed":
        rows = rows[::-1]
    elif order == "scanner last":
        rows = np.concatenate((rows[3000:], rows[:3000]))
    elif order == "mice first":
        rows = np.argsort(spreads[keys[:, 0].astype(np.int64)], kind="stable")
    elif order == "bursts":
        rows = np.repeat(rows, 3)
    shuffled = np.random.default_rng(1).permutation(len(keys))
    expected = SuperSpread(1, SMALL)
    expected.update(keys[shuffled], hashes[shuffled], elements[shuffled])
    sketch = SuperSpread(1, SMALL)
    for part in np.array_split(rows, 7):
        sketch.update(keys[part], hashes[part], elements[part])
    assert sketch.to_bytes() == expected.to_bytes()
    assert sketch.top(50) == expected.top(50)


@pytest.mark.parametrize("n_pairs", [0, 5, EXACT_PAIRS, 2000, 60_000])
def test_bytes_restore_the_sketch(n_pairs):
    """Exact, sparse and dense forms come back equal, by bytes and by pickle, and go on equal."""
    sketch = fed([n_pairs // 2, *[1] * (n_pairs // 2)], 1 << 17)
    for twin in (
        SuperSpread.from_bytes(sketch.to_bytes()), pickle.loads(pickle.dumps(sketch)), sketch.copy()
    ):  # fmt: skip
        assert twin.to_bytes() == sketch.to_bytes()
        assert twin.top(20) == sketch.top(20)
        before = sketch.to_bytes()
        twin.update(*columns([3000], first=10**6))
        assert sketch.to_bytes() == before
        expected = SuperSpread.from_bytes(before)
        expected.update(*columns([3000], first=10**6))
        assert twin.to_bytes() == expected.to_bytes()


def test_a_sparse_pool_takes_few_bytes():
    """Two thousand pairs in a megabyte are stored in less than 50 kB."""
    assert len(fed([2000], 1 << 20).to_bytes()) < 50_000


def image_head(form, rows, n_words, words=1, memory=SMALL):
    """The head of an image, as the module's docstring gives it."""
    numbers = np.array([memory, 7, rows, n_words, 1 << 32], "<u8")
    return bytes([words, form, 0, 0, 0, 0, 0, 0]) + numbers.tobytes()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "has a head of 48 bytes, not 0"),
        (image_head(0, 1025, 0), "form 0 and 1025 candidates"),
        (image_head(3, 0, 0), "form 3 and 0 candidates"),
        (image_head(1, 10**6, 0), "form 1 and 1000000 candidates"),
        (image_head(2, 0, 10**6), "form 2 and 0 candidates"),
        (image_head(0, 1, 0), "takes 16, not 0: it is cut off"),
        (image_head(1, 0, 1) + b"123", "takes 12, not 3: it is cut off"),
        (image_head(2, 0, 1) + bytes(8), "it is cut off"),
        (image_head(1, 0, 1) + b"\xff\xff\0\0" + bytes(8), "has no word 65535"),
        (image_head(0, 0, 0, words=9), "1 to 4 words, not 9"),
        (image_head(0, 0, 0, memory=5), "at least 16384 bytes, not 5"),
    ],
)
def test_impossible_images_are_refused(body, message):
    """Bytes with a valid checksum that no sketch wrote are an error."""
    with pytest.raises(SketchError, match=message):
        SuperSpread.from_bytes(seal(b"NSS1", body))


@pytest.mark.parametrize("make", [lambda: fed([50]), lambda: fed([5000])])
def test_damaged_bytes_are_refused(make):
    """Flipped, cut and foreign bytes are errors."""
    data = make().to_bytes()
    for damaged in (data[:-1], data[:40] + bytes([data[40] ^ 1]) + data[41:], b"NSD1" + data[4:]):
        with pytest.raises(SketchError):
            SuperSpread.from_bytes(damaged)
        with pytest.raises(SketchError):
            ClassicSuperSpread.from_bytes(damaged)


@pytest.mark.parametrize(
    "other", [SuperSpread(2, SMALL, 1), SuperSpread(1, SMALL + 64, 1), SuperSpread(1, SMALL, 2)]
)
def test_unlike_sketches_are_not_merged(other):
    """Another key length, memory or seed is refused, and nothing changes."""
    sketch = SuperSpread(1, SMALL, 1)
    with pytest.raises(SketchError, match="can't be merged"):
        sketch.merge(other)
    assert sketch.to_bytes() == SuperSpread(1, SMALL, 1).to_bytes()


@pytest.mark.parametrize("words", [0, 5])
def test_keys_of_impossible_length_are_refused(words):
    """Keys have one to four words."""
    for kind in (SuperSpread, ClassicSuperSpread):
        with pytest.raises(SketchError, match=f"1 to 4 words, not {words}"):
            kind(words)


@pytest.mark.parametrize("kind", [SuperSpread, ClassicSuperSpread])
def test_ragged_columns_are_refused(kind):
    """Arrays that aren't columns of one table are an error in updates and queries."""
    sketch = kind(1)
    keys, hashes, elements = columns([3])
    with pytest.raises(SketchError, match="keys of 1 words"):
        sketch.update(keys.reshape(1, 3), hashes, elements)
    with pytest.raises(SketchError, match="not one table"):
        sketch.update(keys, hashes, elements[:2])
    with pytest.raises(SketchError, match="not one table"):
        sketch.estimates(keys, hashes[:1])


def test_negative_rows_are_refused():
    """A top of fewer than no rows is an error."""
    with pytest.raises(SketchError, match="at least 0 rows, not -1"):
        fed([3]).top(-1)


def test_a_top_of_none_is_empty():
    """No rows asked for, none given, the recall still stated."""
    assert fed([5000, 300]).top(0).rows == []


def test_pruning_keeps_the_smallest_orders():
    """After pruning the table holds the keys below its threshold and finds them."""
    sketch = fed([2] * 20_000)
    state = sketch._pool.state
    count = sketch.candidates
    assert count <= sketch._pool.shape.kept
    assert (sketch._pool.lowest[:count] < state[THRESHOLD]).all()
    before = sketch.to_bytes()
    sketch.update(*columns([2] * 20_000))
    assert sketch.to_bytes() == before


def test_classic_finds_the_largest():
    """The published algorithm ranks clear spreaders first; it states no bounds."""
    sketch = ClassicSuperSpread(1, width=256)
    sketch.update(*columns([5000, 2000, 900] + [2] * 2000))
    top = sketch.top(3)
    assert [row.key for row in top.rows] == [(0,), (1,), (2,)]
    for row, n in zip(top.rows, (5000, 2000, 900), strict=True):
        assert row.estimate == pytest.approx(n, rel=0.4)
        assert (row.lower, row.upper) == (0, math.inf)
    assert top.recall_peers == math.inf
    assert sketch.top(9, 1000).rows == top.rows[:2]
    assert sketch.memory_bytes >= 256 * 2 * 128
    assert sketch.candidates <= 512


def test_classic_is_deterministic_and_survives_bytes():
    """Equal streams give equal sketches, and a restored one goes on as the original."""
    first, second = ClassicSuperSpread(1, width=64), ClassicSuperSpread(1, width=64)
    rows = columns([500] + [3] * 500)
    first.update(*rows)
    second.update(*rows)
    assert first.to_bytes() == second.to_bytes()
    twin = pickle.loads(pickle.dumps(first)).copy()
    for sketch in (first, twin):
        sketch.update(*columns([300], first=9000))
    assert twin.to_bytes() == first.to_bytes()


def test_classic_refuses_to_merge():
    """Merging is an error that names the way out."""
    with pytest.raises(SketchError, match="can't be merged; use the mergeable variant"):
        ClassicSuperSpread(1).merge(ClassicSuperSpread(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "1 to 16 rows of buckets, not 2 x 0"),
        ({"depth": 17}, "1 to 16 rows of buckets, not 17 x 4096"),
        ({"registers": 100}, "not 100 of 5"),
        ({"registers": 8}, "not 8 of 5"),
        ({"register_bits": 1}, "not 128 of 1"),
        ({"register_bits": 7}, "not 128 of 7"),
        ({"decay": 1.0}, "above 1, not 1.0"),
    ],
)
def test_impossible_classic_shapes_are_refused(options, message):
    """Sizes that no bucket can have are errors."""
    with pytest.raises(SketchError, match=message):
        ClassicSuperSpread(1, **options)


def test_cut_classic_bytes_are_refused():
    """A valid checksum over too few bytes is an error."""
    data = ClassicSuperSpread(1, width=4).to_bytes()
    for body in (data[8:20], data[8:-1], data[8:] + b"0"):
        with pytest.raises(SketchError, match="cut off"):
            ClassicSuperSpread.from_bytes(seal(b"NSC1", body))


@pytest.mark.parametrize("scale", [1, 100])
def test_over_lists_given_keys_with_a_lower_bound_over_the_threshold(scale):
    """Of the keys asked for, those that are over it for certain; others stay out."""
    sketch = fed(np.array([9, 8, 2, 7]) * scale, memory=1 << 20)
    asked = np.array([[0], [1], [2], [77]], np.uint64)
    found = sketch.over(asked, 5 * scale)
    assert [row.key for row in found.rows] == [(0,), (1,)]
    assert all(row.lower >= 5 * scale for row in found.rows)
    assert found.total == 2
    assert sketch.over(asked, 5 * scale, 1) == (found.rows[:1], 2)
    assert sketch.over(np.empty((0, 1), np.uint64), 1).rows == []


@pytest.mark.parametrize("at_least", [30, 100, 700])
def test_over_misses_no_key_that_reading_all_registers_finds(at_least):
    """The screen lets pass what is over the threshold for certain, among 20,000 small keys."""
    rng = np.random.default_rng(at_least)
    spreads = np.concatenate((rng.integers(1, 8, 20_000), rng.integers(10, 2000, 200)))
    sketch = fed(rng.permutation(spreads), memory=1 << 20)
    keys = sketch.keys()
    estimate, lower, _ = sketch.estimates(keys, hash_words(keys))
    truth = {tuple(key) for key in keys[lower >= at_least].tolist()}
    found = sketch.over(keys, at_least)
    assert {row.key for row in found.rows} == truth
    assert found.total == len(truth) > 20
    assert found.rows[0].estimate == estimate.max()


def test_over_counts_those_that_it_does_not_list():
    """Of 5,000 keys over the threshold 100 are listed, and nearly 5,000 counted."""
    sketch = fed([100] * 5000, memory=1 << 20)
    found = sketch.over(sketch.keys(), 20, 100)
    assert len(found.rows) == 100
    assert found.total == pytest.approx(sketch.candidates, rel=0.05)


def test_asking_for_keys_changes_nothing():
    """A sketch that others read too stays as it is."""
    sketch = fed([1] * 5000)
    before = sketch.copy()
    keys = sketch.keys()
    assert all(
        np.array_equal(getattr(sketch._pool, name), getattr(before._pool, name))
        for name in ("keys", "lowest", "slots", "state")
    )
    assert set(map(tuple, before._pool.candidates().tolist())) <= set(map(tuple, keys.tolist()))
    few = fed([3, 2])
    assert few.keys().tolist() == [[0], [1]]
    assert (few.confidence, sketch.confidence) == (1.0, 0.95)


def test_over_refuses_keys_of_another_length():
    """Two words are no key of one."""
    with pytest.raises(SketchError, match="keys of 1 words"):
        fed([1]).over(np.zeros((1, 2), np.uint64), 1)


@pytest.mark.parametrize("spreads", [[1] * 20_000, [3] * 5000, [15_000, *[2] * 3000]])
def test_many_pairs_at_once_leave_what_few_at_a_time_do(spreads):
    """The order in which a large batch is offered changes nothing."""
    keys, hashes, elements = columns(spreads)
    at_once, stepwise = SuperSpread(1, SMALL), SuperSpread(1, SMALL)
    at_once.update(keys, hashes, elements)
    for start in range(0, len(keys), 300):
        part = slice(start, start + 300)
        stepwise.update(keys[part], hashes[part], elements[part])
    assert at_once.to_bytes() == stepwise.to_bytes()
