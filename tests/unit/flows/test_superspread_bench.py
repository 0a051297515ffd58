"""The benchmark of the spread sketches: its traffic, its rivals, its tables."""

import numpy as np
import pytest

from flows.benchmarks import superspread as bench
from flows.benchmarks.rivals import ExactPairs, RgsSketch
from flows.sketches.superspread import SuperSpread
from schemas.hashing import DEFAULT_SEED


def small_trace(order="shuffled", skew=1.0, packets=30_000):
    return bench.make_trace(skew, 3, order, packets, sources=2_000, pairs=15_000)


def truth_of(trace):
    """Distinct elements per key, counted in a dict of sets."""
    peers = {}
    for key, element in zip(trace.keys.tolist(), trace.element_hashes.tolist(), strict=True):
        peers.setdefault(tuple(key), set()).add(element)
    return {key: len(elements) for key, elements in peers.items()}


@pytest.mark.parametrize("order", ["shuffled", "sorted", "scanner last"])
def test_traffic_is_what_its_truth_says(order):
    """Every source has the peers stated, in descending order, whatever the packets' order."""
    trace = small_trace(order)
    assert len(trace.keys) == 30_000
    expected = dict(zip(map(tuple, trace.sources.tolist()), trace.spreads.tolist(), strict=True))
    assert truth_of(trace) == expected
    assert (np.diff(trace.spreads) <= 0).all()
    first = tuple(trace.sources[0].tolist())
    last = [tuple(key) for key in trace.keys[-trace.spreads[0] :].tolist()]
    assert (set(last) == {first}) == (order != "shuffled")


def test_traffic_without_repeats():
    """With fewer packets than pairs each pair occurs once."""
    trace = small_trace(packets=0)
    assert len(trace.keys) == trace.spreads.sum() == len(set(trace.element_hashes.tolist()))
    assert trace.name.endswith("once")


def test_orders_give_one_sketch():
    """The mergeable sketch of all orders of one trace is the same, byte for byte."""
    images = set()
    for order in ("shuffled", "sorted", "scanner last"):
        sketch = SuperSpread(2, 1 << 16)
        bench.feed(sketch, small_trace(order))
        images.add(sketch.to_bytes())
    assert len(images) == 1


def test_the_exact_set_is_exact_while_it_grows():
    """More pairs and keys than its first tables hold are counted one by one."""
    trace = bench.make_trace(0.3, 1, packets=150_000, sources=9_000, pairs=100_000)
    exact = ExactPairs(2, DEFAULT_SEED)
    bench.feed(exact, trace)
    rows = exact.top(10**6).rows
    assert {row.key: row.estimate for row in rows} == truth_of(trace)
    assert rows[:5] == exact.top(5).rows
    assert exact.memory_bytes > 8 * 100_000


def test_register_groups_find_the_largest():
    """Our RGS-Sketch names the three largest with about the right spreads, merged ones too."""
    trace = small_trace(skew=1.3)
    whole = RgsSketch(2, 1 << 17, DEFAULT_SEED)
    bench.feed(whole, trace)
    parts = [RgsSketch(2, 1 << 17, DEFAULT_SEED, 0.1) for _ in range(2)]
    for number, part in enumerate(parts):
        bench.feed(part, trace, np.arange(number, len(trace.keys), 2))
    for top in (whole.top(3), RgsSketch.merged_top(parts, 3)):
        for row, key, spread in zip(top.rows, trace.sources.tolist(), trace.spreads, strict=False):
            assert row.key == tuple(key)
            assert row.estimate == pytest.approx(spread, rel=0.25)
    assert whole.top(10**6, 50).rows[-1].estimate >= 50
    assert whole.candidates > 100


def test_scores_of_a_perfect_and_of_an_empty_answer():
    """The truth scores 1 and no error; nothing scores 0 and an error of 100 %."""
    trace = small_trace()
    exact = ExactPairs(2, DEFAULT_SEED)
    bench.feed(exact, trace)
    assert bench.score(exact.top(10**6), trace) == ((1.0, 1.0), (0.0, 0.0), 1.0)
    f1, error, _ = bench.score(exact.top(10**6, 10**9)._replace(rows=exact.top(1).rows), trace)
    assert f1[0] < 0.05
    assert error == pytest.approx((0.99, 0.9975))


def test_tables_have_a_line_per_row():
    """Accuracy, speed and merging run on small traffic and render with all designs."""
    trace = small_trace()
    exact_accuracy, exact_speed = bench.exact(trace)
    accuracy = [*bench.accuracy(trace, (1 << 16,)), exact_accuracy]
    speed = [*bench.speed(trace, (1 << 16,), 1), exact_speed]
    merging = list(bench.merging(trace, 1 << 16, 3, 1))
    assert [row.identical for row in merging] == [True, False]
    for rows in (accuracy, speed, merging):
        lines = bench.render(rows).splitlines()
        assert len(lines) == 1 + len(rows)
        assert len(set(map(len, lines))) == 1
        for row, line in zip(rows, lines[1:], strict=True):
            assert row.design in line
