"""Heavy hitters: exact while small, bounds that hold, nothing heavy unlisted."""

import copy
import pickle

import datasketches
import numpy as np
import pytest

from flows.errors import SketchError
from flows.kernels.group import Grouped, group_sum
from flows.sketches import count_min
from flows.sketches.frequency import BYTES, CANDIDATES, EXACT_KEYS, MANY_ROWS, PACKETS, Frequency
from schemas.hashing import hash_words
from tests.support.naive_sketches import NaiveFrequency

WORDS = 2


def keys_of(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (n, WORDS), np.uint64)


def rows_of(keys: np.ndarray, packets: np.ndarray, n_bytes: np.ndarray) -> Grouped:
    return group_sum(keys, hash_words(keys), packets, n_bytes)


def zipf_chunks(chunks: int = 6, n: int = 20_000, seed: int = 2) -> list[Grouped]:
    """Heavy-tailed traffic over 50,000 keys; bytes rank differently from packets."""
    rng = np.random.default_rng(seed)
    universe = keys_of(50_000)
    parts = []
    for _ in range(chunks):
        ids = rng.zipf(1.3, n) % len(universe)
        packets = rng.integers(1, 4, n).astype(np.uint64)
        size = (40 + (ids * 2_654_435_761) % 1460).astype(np.uint64)
        parts.append(rows_of(universe[ids], packets, packets * size))
    return parts


def summary_of(parts: list[Grouped], **shape: int) -> Frequency:
    summary = Frequency(WORDS, **shape)
    for part in parts:
        summary.update(*part)
    return summary


def truth_of(parts: list[Grouped]) -> NaiveFrequency:
    naive = NaiveFrequency()
    for part in parts:
        naive.update(part.keys, part.packets, part.bytes)
    return naive


def check(summary: Frequency, truth: NaiveFrequency, n: int = 10, share: float = 0.01) -> None:
    """Totals exact, all bounds hold, all keys above the error listed, in order."""
    assert summary.total_packets == sum(truth.columns()[1])
    assert summary.total_bytes == sum(truth.columns()[2])
    top = summary.top(n, share)
    for metric, ranking in enumerate((top.by_packets, top.by_bytes)):
        total = (summary.total_packets, summary.total_bytes)[metric]
        assert len(ranking.rows) >= min(n, len(truth.sums)) or not summary.exact
        for row in ranking.rows:
            packets, n_bytes = truth.sums[row.key]
            assert row.packets_lower <= packets <= row.packets_upper
            assert row.bytes_lower <= n_bytes <= row.bytes_upper
            assert row.packets_lower <= row.packets <= row.packets_upper
            assert row.bytes_lower <= row.bytes <= row.bytes_upper
        values = [(row.packets, row.bytes)[metric] for row in ranking.rows]
        assert values == sorted(values, reverse=True)
        listed = {row.key for row in ranking.rows}
        assert len(listed) == len(ranking.rows)
        missing = [sums[metric] for key, sums in truth.sums.items() if key not in listed]
        assert max(missing, default=0) <= ranking.error
        own = (
            0
            if summary.exact
            else summary._sketched.offset(metric) + summary._sketched.unfed[metric]
        )
        assert ranking.error <= max(own, int(share * total))


@pytest.mark.parametrize("n", [0, 1, 7, EXACT_KEYS])
def test_few_keys_are_exact(n):
    """Up to the limit every figure is the truth, in however many updates."""
    keys = keys_of(n)
    packets = np.arange(1, n + 1, dtype=np.uint64)
    parts = [rows_of(keys, packets, packets * np.uint64(50))] * 3
    summary = summary_of(parts)
    assert summary.exact
    check(summary, truth_of(parts))
    for row in summary.top(n).by_packets.rows:
        assert row.packets_lower == row.packets == row.packets_upper
        assert row.bytes_lower == row.bytes == row.bytes_upper
    assert len(summary.top(n).by_packets.rows) == n
    assert summary.top(n).by_packets.error == 0


def test_ties_have_one_order():
    """Keys of equal weight are listed by key, whatever the order of arrival."""
    keys = keys_of(30)
    ones = np.ones(30, np.uint64)
    forwards = summary_of([rows_of(keys, ones, ones)])
    backwards = summary_of([rows_of(keys[::-1].copy(), ones, ones)])
    assert forwards.top(5, 0.5) == backwards.top(5, 0.5)
    listed = [row.key for row in forwards.top(5, 0.5).by_bytes.rows]
    assert listed == sorted(map(tuple, keys.tolist()))[:5]


def test_the_error_is_the_heaviest_key_not_listed():
    """An exact ranking says how heavy the first key is that it leaves out."""
    keys = keys_of(20)
    packets = np.arange(1, 21, dtype=np.uint64)
    top = summary_of([rows_of(keys, packets, packets)]).top(5, 1.0)
    assert [row.packets for row in top.by_packets.rows] == [20, 19, 18, 17, 16]
    assert top.by_packets.error == 15


def test_heavy_tailed_traffic_keeps_its_promises():
    """Beyond the limit bounds hold and are tight, and everything above the error is listed."""
    parts = zipf_chunks()
    summary = summary_of(parts)
    assert not summary.exact
    truth = truth_of(parts)
    for n, share in ((10, 0.01), (100, 0.0), (1, 0.5), (20_000, 0.0)):
        check(summary, truth, n, share)
    top = summary.top(20)
    heaviest = sorted(truth.sums.items(), key=lambda item: -item[1][0])[:20]
    assert [row.key for row in top.by_packets.rows[:20]] == [key for key, _ in heaviest]
    for row in top.by_packets.rows[:20]:
        assert row.packets_upper - row.packets_lower <= 0.005 * summary.total_packets


def test_merges_in_any_order_keep_the_promises():
    """Exact and sketched parts, forwards, backwards and as a tree."""
    parts = zipf_chunks(8)
    parts[1:1] = [Grouped(*(column[:50] for column in part)) for part in zipf_chunks(3, seed=9)]
    truth = truth_of(parts)
    for order in (parts, parts[::-1]):
        flat = Frequency(WORDS)
        for part in order:
            flat.merge(summary_of([part]))
        check(flat, truth)
        level = [summary_of([part]) for part in order]
        while len(level) > 1:
            for left, right in zip(level[::2], level[1::2], strict=False):
                left.merge(right)
            level = level[::2]
        check(level[0], truth)


def test_a_flood_of_single_packets_lists_some_and_errs_by_a_packet_a_chunk():
    """Keys of equal weight are told apart by nothing: a few are shown, none is overrated."""
    parts = []
    for seed in range(4):
        keys = keys_of(20_000, seed)
        ones = np.ones(len(keys), np.uint64)
        parts.append(Grouped(keys, hash_words(keys), ones, ones * np.uint64(60)))
    summary = summary_of(parts)
    top = summary.top()
    for ranking, weight in ((top.by_packets, 1), (top.by_bytes, 60)):
        assert len(ranking.rows) == 10
        assert ranking.error <= 5 * weight
    assert {row[1:5] for row in top.by_packets.rows} <= {(1, 1, upper, 60) for upper in range(1, 6)}
    assert summary.total_packets == 80_000


def test_a_key_below_every_chunk_s_top_but_heavy_in_all_is_listed():
    """Heavier in the sum than any key of one chunk, though never among a chunk's top ten."""
    rng = np.random.default_rng(4)
    steady = keys_of(1, 99)
    parts = []
    for chunk in range(60):
        keys = np.concatenate((keys_of(5000, 100 + chunk), steady))
        packets = rng.integers(1, 5, len(keys)).astype(np.uint64)
        packets[:20] = 300  # this chunk's own stars
        packets[-1] = 200
        parts.append(rows_of(keys, packets, packets * np.uint64(100)))
    truth = truth_of(parts)
    whole, merged = summary_of(parts), Frequency(WORDS)
    for part in parts:
        one = summary_of([part])
        assert tuple(steady[0].tolist()) not in {row.key for row in one.top().by_packets.rows[:10]}
        merged.merge(one)
    for summary in (whole, merged):
        check(summary, truth)
        assert summary.top(1).by_packets.rows[0].key == tuple(steady[0].tolist())
        assert summary.top(1).by_bytes.rows[0].key == tuple(steady[0].tolist())


def purged() -> Frequency:
    """A summary whose library sketches have purged every key but remember an offset."""
    summary = summary_of(zipf_chunks(1), lg_max=3)
    for key in keys_of(100):
        if summary._sketched.items[0].is_empty():
            return summary
        heavy = np.array([10**9], np.uint64)
        summary.update(key[None], hash_words(key[None]), heavy, heavy)
    raise AssertionError("the sketch was never without keys")


@pytest.mark.parametrize(
    "twin",
    [
        Frequency.copy,
        lambda s: Frequency.from_bytes(s.to_bytes()),
        lambda s: merged_into(Frequency(WORDS, lg_max=3), s),
        lambda s: merged_into(purged(), s),
    ],
)
def test_the_offset_of_a_purged_sketch_is_not_forgotten(twin):
    """The library drops the offset of a sketch without keys when merging and writing it."""
    summary = purged()
    error = summary.top(1, 0.0).by_packets.error
    assert error > 10**9
    assert twin(summary).top(1, 0.0).by_packets.error >= error


def merged_into(target: Frequency, source: Frequency) -> Frequency:
    target.merge(source)
    return target


@pytest.mark.parametrize("size", [0, 5, 3000])
@pytest.mark.parametrize(
    "twin", [Frequency.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_answer_alike_and_are_independent(size, twin):
    """A copy lists the same; a change to it is not a change to the original."""
    parts = [Grouped(*(column[:size] for column in part)) for part in zipf_chunks(2)]
    original = summary_of(parts)
    before = original.top(50)
    other = twin(original)
    assert other.top(50) == before
    assert (other.total_packets, other.exact) == (original.total_packets, original.exact)
    other.update(*zipf_chunks(1, seed=5)[0])
    check(other, truth_of([*parts, *zipf_chunks(1, seed=5)]))
    assert original.top(50) == before


def test_rows_given_may_change_afterwards():
    """A summary keeps no reference to the caller's arrays."""
    keys = keys_of(5)
    packets = np.arange(1, 6, dtype=np.uint64)
    rows = rows_of(keys, packets, packets)
    summary = summary_of([rows])
    before = summary.top()
    rows.packets[:] = 0
    rows.keys[:] = 0
    assert summary.top() == before


@pytest.mark.parametrize("size", [5, 20_000])
def test_library_images_are_read_by_the_library(size):
    """Each image is the library's own; keys are their words' little-endian bytes as text."""
    part = Grouped(*(column[:size] for column in zipf_chunks(1)[0]))
    summary = summary_of([part])
    images = summary.library_images()
    items = datasketches.frequent_strings_sketch.deserialize(images["frequent_bytes"])
    counts = datasketches.count_min_sketch.deserialize(images["count_min_bytes"])
    row = summary.top(1).by_bytes.rows[0]
    text = np.array(row.key, "<u8").tobytes().hex()
    assert items.get_lower_bound(text) == row.bytes_lower
    item = hash_words(np.array([row.key], np.uint64)).view(np.int64)[0]
    assert counts.get_estimate(int(item)) >= row.bytes
    assert counts.total_weight == summary.total_bytes


def test_the_slow_path_gives_the_same(monkeypatch):
    """With Count-Min fed item by item, rankings are the same."""
    parts = zipf_chunks(1, 8000)
    fast = summary_of(parts).top()
    monkeypatch.setattr(count_min, "fast_path", lambda: False)
    assert summary_of(parts).top() == fast


@pytest.mark.parametrize("arguments", [{"words": 0}, {"words": 256}, {"lg_max": 2}, {"lg_max": 21}])
def test_impossible_shapes_are_refused(arguments):
    """Words and map sizes out of range are named."""
    with pytest.raises(SketchError, match="1 to 255 words and lg_max is 3 to 20"):
        Frequency(**{"words": 2, **arguments})


def test_impossible_widths_are_refused():
    """A width that Count-Min can't have is refused before anything is counted."""
    with pytest.raises(SketchError, match="4 x 1000"):
        Frequency(2, width=1000)


def test_foreign_keys_are_refused():
    """Keys of another number of words, and ragged columns, never reach a kernel."""
    column = np.ones(3, np.uint64)
    with pytest.raises(SketchError, match="keys of 2 words"):
        Frequency(2).update(column.reshape(3, 1), column, column, column)
    with pytest.raises(SketchError, match="keys of 2 words"):
        Frequency(2).update(column, column, column, column)
    with pytest.raises(SketchError, match="3 keys, 3 hashes, 2 packets and 3 bytes"):
        Frequency(1).update(column.reshape(3, 1), column, column[:2], column)


@pytest.mark.parametrize("other", [{"words": 3}, {"width": 64}, {"lg_max": 8}, {"seed": 1}])
def test_unlike_summaries_do_not_merge(other):
    """The message names both shapes."""
    with pytest.raises(SketchError, match=r"\(2, 16384, 13, .*can't be merged"):
        Frequency(2).merge(Frequency(**{"words": 2, **other}))


@pytest.mark.parametrize("size", [5, 20_000])
def test_damaged_bytes_are_refused(size):
    """Any changed or missing byte is noticed before the library sees it."""
    data = summary_of([Grouped(*(c[:size] for c in zipf_chunks(1)[0]))]).to_bytes()
    for position in (0, 4, 8, 30, len(data) // 2, len(data) - 1):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(SketchError):
            Frequency.from_bytes(bytes(damaged))
    for end in (0, 7, 8, 40, len(data) - 1):
        with pytest.raises(SketchError):
            Frequency.from_bytes(data[:end])


@pytest.mark.parametrize("parts", [zipf_chunks(1, 1000), zipf_chunks()])
@pytest.mark.parametrize("metric", [PACKETS, BYTES])
def test_over_lists_all_keys_with_a_lower_bound_over_the_threshold(parts, metric) -> None:
    """Their bounds hold; a key that isn't listed has a lower bound below the threshold."""
    summary, truth = summary_of(parts), truth_of(parts)
    weights = {key: sums[metric] for key, *sums in zip(*truth.columns(), strict=True)}
    at_least = sorted(weights.values())[-20]
    found = summary.over(metric, at_least)
    assert found
    assert [row.key for row in found] == [
        row.key for row in sorted(found, key=lambda row: (-row[1 + 3 * metric], row.key))
    ]
    for row in found:
        value, lower, upper = row[1 + 3 * metric : 4 + 3 * metric]
        assert at_least <= lower <= value <= upper
        assert lower <= weights[row.key] <= upper
    listed = {row.key for row in found}
    others = [key for key in weights if key not in listed]
    known = summary.bounds(np.array(others, np.uint64))
    assert all(row[2 + 3 * metric] < at_least for row in known)
    assert all(row[2 + 3 * metric] <= weights[row.key] <= row[3 + 3 * metric] for row in known)


def test_a_key_that_was_never_seen_weighs_nothing() -> None:
    """While all is exact; its bounds are 0."""
    summary = summary_of(zipf_chunks(1, 100))
    (row,) = summary.bounds(keys_of(1, 77))
    assert row[1:] == (0,) * 6


def test_bounds_refuse_keys_of_another_length() -> None:
    """Three words are no key of two."""
    with pytest.raises(SketchError, match="keys of 2 words"):
        Frequency(WORDS).bounds(np.zeros((1, 3), np.uint64))


@pytest.mark.parametrize(
    ("keys", "exponent"),
    [(200_000, None), (200_000, 1.3), (100, 1.3)],
    ids=["flood", "zipf", "few"],
)
def test_rows_with_repeated_keys_keep_all_that_is_promised(keys: int, exponent: float) -> None:
    """Bounds hold, and nothing heavy is unlisted, whether or not light keys were left out."""
    rng = np.random.default_rng(8)
    universe = keys_of(keys)
    truth = NaiveFrequency()
    summary = Frequency(WORDS)
    for _ in range(3):
        n = 4 * MANY_ROWS
        ids = rng.integers(0, keys, n) if exponent is None else rng.zipf(exponent, n) % keys
        ids[:2000] = 7
        weights = rng.integers(1, 3, n).astype(np.uint64)
        columns = universe[ids], hash_words(universe[ids]), weights, weights * np.uint64(60)
        summary.update_rows(*columns)
        truth.update(columns[0], columns[2], columns[3])
    check(summary, truth)
    assert summary.exact == (keys == 100)
    (row,) = summary.bounds(universe[7:8])
    known, packets, _ = truth.columns()
    assert row.packets_lower <= packets[known.index(row.key)] <= row.packets_upper
    assert row.packets_upper - row.packets_lower < 0.01 * summary.total_packets


def test_a_flood_of_light_keys_stays_within_the_guarantee() -> None:
    """What is left out weighs no more than N / (K + 1) an update."""
    keys = keys_of(16 * MANY_ROWS)
    ones = np.ones(len(keys), np.uint64)
    summary = Frequency(WORDS)
    summary.update_rows(keys, hash_words(keys), ones, ones)
    assert 0 < summary.top(1).by_packets.error <= len(keys) / (CANDIDATES + 1)


def test_rows_are_checked_like_keys() -> None:
    """Columns of one length, keys of the right one."""
    with pytest.raises(SketchError, match="keys of 2 words"):
        Frequency(WORDS).update_rows(*(np.zeros((1, 3), np.uint64), *[np.zeros(1, np.uint64)] * 3))
