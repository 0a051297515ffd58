"""A partition's packets into units: exact, complete, and a function of its messages alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kernels.layout import BYTES, PACKETS, PANE, T_LATE, T_PACKETS, T_PANE
from flows.sketches.distinct import Distinct
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.unit import END_OF_TIME_NS, Stream, Unit
from schemas.record import Packets
from tests.support.jobs import NETWORKS, SECOND, TASKS, figures, merge, split, units_of
from tests.support.naive_flows import naive_late, random_packets

PANE_NS = 2 * SECOND


def in_order(packets: Packets) -> Packets:
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


def assert_alike(one: list[Unit], two: list[Unit]) -> None:
    """The same units, to the last bit of their sketches."""
    assert [u.offset for u in one] == [u.offset for u in two]
    for a, b in zip(one, two, strict=True):
        assert a.watermark_ns == b.watermark_ns
        assert np.array_equal(a.entries, b.entries)
        assert np.array_equal(a.totals, b.totals)
        assert np.array_equal(a.networks, b.networks)
        assert a.sketches.keys() == b.sketches.keys()
        for key, panes in a.sketches.items():
            assert [(p.pane, p.packets) for p in panes] == [
                (p.pane, p.packets) for p in b.sketches[key]
            ]
            for mine, other in zip(panes, b.sketches[key], strict=True):
                assert image(mine.sketch) == image(other.sketch)


def image(sketch: Any) -> bytes:
    return sketch.partial() if isinstance(sketch, Distinct) else sketch.to_bytes()


def sums_by_pane(units: list[Unit]) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for unit in units:
        for entry in unit.entries:
            values = out.setdefault(int(entry[PANE]), [0, 0])
            values[0] += int(entry[PACKETS])
            values[1] += int(entry[BYTES])
    return out


def true_sums(packets: Packets) -> dict[int, list[int]]:
    out: dict[int, list[int]] = {}
    for packet in packets:
        values = out.setdefault(int(packet["ts_ns"]) // PANE_NS, [0, 0])
        values[0] += int(packet["packets"])
        values[1] += int(packet["wire_bytes"])
    return out


@pytest.mark.parametrize("max_flows", [100_000, 80])
@pytest.mark.parametrize("batch", [1, 64, 333, 8192, 65_536])
def test_units_do_not_depend_on_batches(batch: int, max_flows: int) -> None:
    """Packets handed over in any sizes give the same units, folded or not, late ones too."""
    packets = random_packets(np.random.default_rng(1), 5000, hosts=90, span_ns=9 * SECOND)
    config = WindowConfig(max_flows=max_flows)
    wanted = units_of(packets, config=config, message=700, batch=1000)
    assert any(len(unit.totals) and unit.totals[:, T_LATE].any() for unit in wanted)
    assert_alike(wanted, units_of(packets, config=config, message=700, batch=batch))


@pytest.mark.parametrize("message", [100, 1000, 100_000])
def test_messages_change_units_but_not_their_sums(message: int) -> None:
    """However a log is cut into messages, each pane has the packets' sums and the same results."""
    packets = in_order(random_packets(np.random.default_rng(2), 8000))
    units = units_of(packets, message=message)
    assert sums_by_pane(units) == true_sums(packets)
    offsets = [unit.offset for unit in units]
    assert offsets == sorted(set(offsets))
    assert figures(merge(units)) == figures(merge(units_of(packets, message=777)))


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_partitions_give_the_same_results(parts: int) -> None:
    """Traffic split by address pair over several partitions has the same sums and results."""
    packets = in_order(random_packets(np.random.default_rng(3), 6000))
    one = units_of(packets)
    many = [units_of(p, partition=str(n)) for n, p in enumerate(split(packets, parts))]
    together = sorted((u for units in many for u in units), key=lambda u: u.watermark_ns)
    assert sums_by_pane(together) == sums_by_pane(one)
    assert figures(merge(together)) == figures(merge(one))


def test_folding_changes_no_result_and_no_sum() -> None:
    """With a full flow table: the same distinct counts and lists, the same sums by pane."""
    packets = random_packets(np.random.default_rng(4), 12_000, hosts=120, span_ns=8 * SECOND)
    packets = in_order(packets)
    plain = units_of(packets)
    folded = units_of(packets, config=WindowConfig(max_flows=150))
    assert sum(len(u.entries) for u in folded) < sum(len(u.entries) for u in plain) / 2
    assert sums_by_pane(folded) == sums_by_pane(plain)
    assert figures(merge(folded)) == figures(merge(plain))


def test_a_folded_pane_may_grow_after_older_ones_closed() -> None:
    """What was fed of an open pane is remembered while panes close and new flows come."""
    packets = random_packets(np.random.default_rng(12), 150, hosts=250)
    start_ns = 1_700_000_000 * SECOND
    packets["ts_ns"][:9] = start_ns
    packets["ts_ns"][9:129] = start_ns + PANE_NS
    packets["ts_ns"][129:] = start_ns + PANE_NS + SECOND
    accumulator = PartitionAccumulator("log", "0", WindowConfig(max_flows=100), TASKS, NETWORKS)
    number = accumulator.add_stream(Stream("t", "p"))
    accumulator.advance(number, start_ns)
    accumulator.absorb(packets[:130], number, number)
    first = accumulator.end_message(0)
    assert first is not None
    assert set(first.entries[:, PANE]) == {start_ns // PANE_NS}
    accumulator.absorb(packets[130:], number, number)
    units = [first, accumulator.end(1)]
    assert sums_by_pane(units) == true_sums(packets)
    assert figures(merge(units)) == figures(merge(units_of(packets)))


@pytest.mark.parametrize("shift_ns", [1, 999_999_999, SECOND, 1_999_999_999])
def test_panes_need_not_begin_with_the_file(shift_ns: int) -> None:
    """A capture that starts anywhere in a pane has the sums of its packets in each pane."""
    packets = in_order(random_packets(np.random.default_rng(5), 3000))
    packets["ts_ns"] += np.uint64(shift_ns)
    units = units_of(packets)
    assert sums_by_pane(units) == true_sums(packets)
    assert figures(merge(units)).keys() >= {
        ("distinct_src_addr", PANE_NS, pane * PANE_NS) for pane in true_sums(packets)
    }


def test_packets_are_in_units_or_open() -> None:
    """After every message: taken = in units + open; nothing is open at the end."""
    packets = random_packets(np.random.default_rng(6), 4000)
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), TASKS, NETWORKS)
    number = accumulator.add_stream(Stream("t", "p"))
    accumulator.advance(number, int(packets["ts_ns"][0]))
    stored = taken = 0
    for offset in range(40):
        part = packets[offset * 100 : (offset + 1) * 100]
        accumulator.absorb(part, number, number)
        taken += int(part["packets"].sum())
        unit = accumulator.end_message(offset)
        if unit is not None:
            assert unit.offset == offset
            assert (unit.entries[:, PANE] < unit.watermark_ns // PANE_NS).all()
            stored += int(unit.totals[:, T_PACKETS].sum())
        assert taken == stored + accumulator.open_packets
    assert not accumulator.ended
    last = accumulator.end(40)
    assert accumulator.ended
    assert last.watermark_ns == END_OF_TIME_NS
    assert taken == stored + int(last.totals[:, T_PACKETS].sum())
    assert accumulator.open_packets == 0


@st.composite
def strange_times(draw: st.DrawFn) -> Packets:
    """Packets at time 0, years apart, shuffled, at the last representable moment."""
    bases = draw(
        st.lists(
            st.sampled_from([0, 1, 10**18, 1_470_104_373 * SECOND, 1_654_385_236 * SECOND, 2**62]),
            min_size=1,
            max_size=4,
        )
    )
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    packets = random_packets(rng, draw(st.integers(1, 300)), hosts=5)
    spread_ns = draw(st.sampled_from([1, PANE_NS, 100 * SECOND, 10**16]))
    times = rng.choice(np.array(bases, np.uint64), len(packets))
    packets["ts_ns"] = times + rng.integers(0, spread_ns, len(packets)).astype(np.uint64)
    return packets


@settings(max_examples=60, deadline=None)
@given(strange_times(), st.integers(1, 120), st.integers(1, 400))
def test_gaps_and_disorder_cost_nothing(packets: Packets, message: int, batch: int) -> None:
    """Right sums, the twin's late packets, and no more units and rows than packets warrant."""
    units = units_of(packets, message=message, batch=batch)
    assert sums_by_pane(units) == true_sums(packets)
    late: dict[int, int] = {}
    for unit in units:
        for row in unit.totals:
            if row[T_LATE]:
                late[int(row[T_PANE])] = late.get(int(row[T_PANE]), 0) + int(row[T_LATE])
    # The twin starts without a watermark, a partition at its first packet less the lateness.
    assert late == naive_late(packets, PANE_NS, SECOND)
    messages = -(-len(packets) // message)
    assert len(units) <= messages + 1
    assert sum(len(unit.entries) for unit in units) <= len(packets)
    assert sum(len(unit.totals) for unit in units) <= len(packets)
    sketches = sum(len(panes) for unit in units for panes in unit.sketches.values())
    assert sketches <= len(packets) * len(TASKS)


def test_streams_hold_the_watermark_back_until_they_end() -> None:
    """Panes close when every active stream has passed them, or has ended."""
    packets = in_order(random_packets(np.random.default_rng(7), 2000))
    first_ns = int(packets["ts_ns"][0])
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), TASKS, NETWORKS)
    fast, slow = (accumulator.add_stream(Stream("t", name)) for name in "ab")
    for number in (fast, slow):
        accumulator.advance(number, first_ns)
    assert accumulator.slowest() == fast
    accumulator.absorb(packets, fast, fast)
    assert accumulator.slowest() == slow
    assert accumulator.end_message(0) is None
    assert accumulator.watermark_ns == first_ns - SECOND
    accumulator.absorb(packets[:1000], slow, slow)
    unit = accumulator.end_message(1)
    assert unit is not None
    newest_ns = int(packets["ts_ns"][999])
    assert unit.watermark_ns == newest_ns - SECOND
    assert int(unit.entries[:, PANE].max()) < unit.watermark_ns // PANE_NS
    accumulator.release(slow)
    unit = accumulator.end_message(2)
    assert unit is not None
    assert unit.watermark_ns == int(packets["ts_ns"].max()) - SECOND
    accumulator.release(fast)
    assert accumulator.slowest() is None
    everything = 2 * int(packets["packets"][:1000].sum()) + int(packets["packets"][1000:].sum())
    assert accumulator.open_packets > 0
    assert accumulator.open_packets < everything


def test_a_watermark_never_goes_back() -> None:
    """A stream that joins with older packets doesn't reopen what is closed."""
    packets = in_order(random_packets(np.random.default_rng(8), 1000))
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), TASKS, NETWORKS)
    number = accumulator.add_stream(Stream("t", "a"))
    accumulator.advance(number, int(packets["ts_ns"][0]))
    accumulator.absorb(packets, number, number)
    accumulator.end_message(0)
    before = accumulator.watermark_ns
    old = accumulator.add_stream(Stream("t", "b"))
    accumulator.advance(old, 0)
    accumulator.absorb(packets[:10], old, old)
    unit = accumulator.end_message(1)
    assert accumulator.watermark_ns == before
    assert unit is not None
    assert int(unit.totals[:, T_PACKETS].sum()) == packets["packets"][:10].sum()


def test_sampled_packets_are_multiplied() -> None:
    """A sampling rate multiplies packets and bytes everywhere, records stay records."""
    packets = random_packets(np.random.default_rng(9), 1000)
    plain = units_of(packets)
    sampled = units_of(packets, stream=Stream("t", "p", sampling_rate=100))
    for pane, (count, octets) in sums_by_pane(plain).items():
        assert sums_by_pane(sampled)[pane] == [100 * count, 100 * octets]
    counts = [sum(int(u.totals[:, T_PACKETS].sum()) for u in units) for units in (plain, sampled)]
    assert counts[1] == 100 * counts[0]


def test_drops_are_told_with_their_pane() -> None:
    """Missing packets are reported once, by the unit that closes their pane."""
    packets = in_order(random_packets(np.random.default_rng(10), 2000))
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), TASKS, NETWORKS)
    number = accumulator.add_stream(Stream("t", "p"))
    accumulator.advance(number, int(packets["ts_ns"][0]))
    first_ns, last_ns = int(packets["ts_ns"][0]), int(packets["ts_ns"][-1])
    accumulator.drop(number, first_ns, "ring_full", 5)
    accumulator.drop(number, last_ns, "truncated", 1)
    accumulator.absorb(packets, number, number)
    closed = accumulator.end_message(0)
    assert closed is not None
    assert [(d.pane, d.reason, d.packets) for d in closed.drops] == [
        (first_ns // PANE_NS, "ring_full", 5)
    ]
    last = accumulator.end(1)
    assert [(d.pane, d.reason, d.packets) for d in last.drops] == [
        (last_ns // PANE_NS, "truncated", 1)
    ]


def test_an_empty_log_ends_with_an_empty_unit() -> None:
    """No packets: one unit without rows, which ends the partition."""
    packets = random_packets(np.random.default_rng(11), 1)[:0]
    (unit,) = units_of(packets)
    assert (len(unit.entries), len(unit.totals), dict(unit.sketches)) == (0, 0, {})
    assert unit.watermark_ns == END_OF_TIME_NS
