"""Properties of synthetic traffic that hold for all parameters."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.synthetic import Traffic
from probe.synthetic.actors import peers_and_ports
from probe.synthetic.bits import scatter, skewed
from probe.synthetic.random_flows import build, zipf_chances
from probe.synthetic.schedule import Shift, apportion, interleave, plan
from schemas.record import PACKET

U64 = st.integers(0, 2**64 - 1)

streams = st.builds(
    Traffic,
    profile=st.sampled_from(["demo", "zipf", "flood"]),
    seed=U64,
    packets=st.integers(1, 20_000),
    packets_per_second=st.floats(1, 1e9),
    active_flows=st.integers(50, 300),
    skew=st.floats(0, 4),
    sources=st.none() | st.integers(1, 50),
    destinations=st.sampled_from(["random", "one"]),
)


@settings(max_examples=40, deadline=None)
@given(traffic=streams, size=st.integers(1, 30_000), data=st.data())
def test_batches_and_random_access_agree(traffic: Traffic, size: int, data: st.DataObject) -> None:
    """Batches of any size, in reverse order, and any slice are the same stream."""
    whole = traffic.batch(0, traffic.packets)
    size = max(size, traffic.packets // 50)
    count = -(-traffic.packets // size)
    batches = [traffic.batch(k, size) for k in reversed(range(count))][::-1]
    assert np.concatenate(batches).tobytes() == whole.tobytes()
    first = data.draw(st.integers(0, traffic.packets))
    out = np.empty(data.draw(st.integers(0, traffic.packets - first)), PACKET)
    traffic.fill(first, out)
    assert out.tobytes() == whole[first : first + len(out)].tobytes()


@settings(max_examples=40, deadline=None)
@given(traffic=streams)
def test_time_never_goes_back(traffic: Traffic) -> None:
    """Timestamps begin at start_ns, never decrease and stay within the span."""
    ts_ns = traffic.batch(0, traffic.packets)["ts_ns"].astype(np.int64)
    assert ts_ns[0] == traffic.start_ns
    assert (np.diff(ts_ns) >= 0).all()
    assert ts_ns[-1] <= traffic.start_ns + traffic.span_ns


@settings(max_examples=30, deadline=None)
@given(seed=U64, packets=st.integers(1, 20_000))
def test_short_streams_are_labelled_too(seed: int, packets: int) -> None:
    """However short the stream, each actor's labels add up and missing actors sent nothing."""
    traffic = Traffic(seed=seed, packets=packets)
    truth = traffic.truth()
    assert truth.packets == packets
    assert truth.ipv4_packets + truth.ipv6_packets + truth.other_packets == packets
    for actor in truth.actors.values():
        total = actor.packets + actor.reply_packets
        assert (actor.peers, actor.ports) == peers_and_ports(actor.kind, total)
        assert traffic.start_ns <= actor.first_ns <= actor.last_ns <= truth.last_ns


@settings(max_examples=40, deadline=None)
@given(bits=st.integers(1, 12), key=U64)
def test_scatter_is_a_bijection(bits: int, key: int) -> None:
    """Every number of the range appears exactly once."""
    args = np.uint64(bits), np.uint64(key)
    images = {int(scatter(np.uint64(x), *args)) for x in range(1 << bits)}
    assert images == set(range(1 << bits))


@given(r=U64, octaves=st.integers(1, 20))
def test_skewed_picks_stay_in_the_pool(r: int, octaves: int) -> None:
    """A pick is a host of the pool."""
    assert 0 <= int(skewed(np.uint64(r), np.uint64(octaves))) <= 2**octaves - 2


@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-6, 1e3), min_size=1, max_size=50).filter(any),
)
def test_apportioned_seats_add_up(weights: list[float]) -> None:
    """All seats are given, some to every positive weight and none to weight 0."""
    seats = apportion(weights, 4096)
    assert sum(seats) == 4096
    assert all((s > 0) == (w > 0) for s, w in zip(seats, weights, strict=True))


@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=20), seed=U64)
def test_interleaved_ranks_count_up(counts: list[int], seed: int) -> None:
    """Each owner has its slots, and its ranks go 0, 1, 2 ... in the order of slots."""
    slots = interleave(counts, seed).astype(np.int64)
    for owner, count in enumerate(counts):
        assert (slots[slots >> 16 == owner] & 0xFFFF).tolist() == list(range(count))


@settings(max_examples=50, deadline=None)
@given(
    actors=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.001, 5)), min_size=0, max_size=5
    ),
    packets=st.integers(1, 30_000),
    seed=U64,
)
def test_schedule_numbers_each_streams_packets_in_order(
    actors: list[tuple[float, float, float]], packets: int, seed: int
) -> None:
    """Read position by position, each stream's serial numbers are 0, 1, 2 ... to its total."""
    shifts = [Shift(0, 1, 1), *(Shift(min(a, b), max(a, b), rate) for a, b, rate in actors)]
    times = plan(shifts, packets, 10**9, seed)
    assert times.first[-1] == packets
    serials: list[list[int]] = [[] for _ in shifts]
    for k in range(len(times.gap_ns)):
        offset = np.arange(times.first[k + 1] - times.first[k])
        slot = times.slots[k, offset % 4096].astype(np.int64)
        stream = slot >> 16
        serial = times.base[k, stream] + offset // 4096 * times.per_cycle[k, stream]
        for s, n in zip(stream.tolist(), (serial + (slot & 0xFFFF)).tolist(), strict=True):
            serials[s].append(n)
    assert [len(s) for s in serials] == times.base[-1].tolist()
    assert all(s == list(range(len(s))) for s in serials)


@settings(max_examples=50, deadline=None)
@given(flows=st.integers(1, 500), skew=st.floats(0, 4), seed=U64)
def test_alias_table_holds_the_law_exactly(flows: int, skew: float, seed: int) -> None:
    """Summed over the table's cells, each flow's chance is Zipf's, to 1e-9."""
    cells = build(seed, flows, skew, None).cells
    own = ((cells & np.uint64(0xFFFFFFFF)).astype(np.float64) + 1) / 2**32
    chance = own.copy()
    np.add.at(chance, (cells >> np.uint64(32)).astype(np.int64), 1 - own)
    np.testing.assert_allclose(chance / flows, zipf_chances(flows, skew), atol=1e-9)
