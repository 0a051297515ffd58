"""Properties of streams and of cutting them into slices that hold for all parameters."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.synthetic.scenario.arrivals import Arrivals, stepwise
from probe.synthetic.scenario.compose import most_due, send
from probe.synthetic.scenario.exchange import (
    CLIENT,
    COLUMNS,
    EACH,
    EVEN,
    GAP,
    KEY,
    LENGTH,
    NEXT,
    SERVER,
    SKEWED,
    START,
    Pick,
    Words,
    begin,
    stream,
)
from probe.synthetic.scenario.outcomes import Outcome

U64 = st.integers(0, 2**64 - 1)
S = 10**9

arrivals = st.lists(
    st.tuples(st.integers(0, 100 * S), st.sampled_from([0.0, 0.1, 3.0, 50.0])),
    min_size=1,
    max_size=5,
).map(
    lambda spans: stepwise([0, *itertools.accumulate(s for s, _ in spans)], [r for _, r in spans])
)


def exchanges(when: Arrivals, seed: int, clients: Pick) -> Words:
    """All exchanges of a stream."""
    laid = stream(
        when,
        seed,
        clients=clients,
        servers=Pick(1000, 50, EVEN),
        server_ports=Pick(443),
        outcomes=[Outcome(0.5, 1, 0.01), Outcome(0.5, 9, 2.0)],
    )
    rows = np.zeros((when.total, COLUMNS), np.uint64)
    if len(rows):
        begin(rows, 0, laid)
    return rows


@settings(max_examples=60, deadline=None)
@given(when=arrivals, seed=U64, first=st.integers(0, 10**4))
def test_an_exchange_is_a_function_of_its_number(when: Arrivals, seed: int, first: int) -> None:
    """Exchanges begun from any number on are those of the whole, in order, within the spans."""
    whole = exchanges(when, seed, Pick(7))
    starts = whole[:, START].astype(np.int64)
    assert (np.diff(starts) >= 0).all()
    for start in starts.tolist():
        span = np.searchsorted(when.edges_ns, start + 1, side="left") - 1
        assert when.begun[span + 1] > when.begun[span]
    for time_ns in (0, 5 * S, 40 * S, int(when.edges_ns[-1])):
        assert when.before(time_ns) >= (starts < time_ns).sum()
        assert when.before(time_ns) <= (starts < time_ns).sum() + 3


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 300), U64),
        min_size=1,
        max_size=20,
    ),
    cuts=st.lists(st.integers(0, 10**8), max_size=6),
)
def test_each_packet_is_sent_once_whatever_the_cuts(
    rows: list[tuple[int, int, int, int]], cuts: list[int]
) -> None:
    """All packets go once, in order, before the cut that they are due at, within the bound."""
    table = np.zeros((len(rows), COLUMNS), np.uint64)
    table[:, [START, GAP, LENGTH, KEY]] = np.array(rows, np.uint64)
    sent: dict[int, list[int]] = {}
    last = 0
    for cut in [*sorted(cuts), 10**9]:
        room = most_due(table, np.uint64(cut))
        times, packets = np.empty((2, room + 1), np.uint64)
        count = send(table, np.uint64(cut), times, packets)
        assert count <= room
        for time, packet in zip(times[:count].tolist(), packets[:count].tolist(), strict=True):
            assert last <= time < cut
            sent.setdefault(packet >> 32, []).append(time)
            assert len(sent[packet >> 32]) == (packet & 0xFFFFFFFF) + 1
        last = cut
    for row, (start, gap, length, _) in enumerate(rows):
        assert len(sent[row]) == length == table[row, NEXT]
        for k, time in enumerate(sent[row]):
            assert start + k * gap <= time < start + (k + 1) * gap


@settings(max_examples=40, deadline=None)
@given(seed=U64, size=st.integers(1, 3000))
def test_each_of_a_range_comes_before_any_again(seed: int, size: int) -> None:
    """Numbers picked in turn are all different until the range is used up, then repeat."""
    rows = exchanges(stepwise([0, S], [2.0 * size]), seed, Pick(500, size, EACH))
    clients = rows[:, CLIENT].tolist()
    assert sorted(clients[:size]) == list(range(500, 500 + size))
    assert clients[size:] == clients[:size]


@settings(max_examples=20, deadline=None)
@given(seed=U64)
def test_random_picks_stay_in_their_range(seed: int) -> None:
    """Even picks are alike within six standard deviations; skewed ones fall as 1/n."""
    rows = exchanges(stepwise([0, S], [20_000.0]), seed, Pick(300, 127, SKEWED))
    servers = np.bincount(rows[:, SERVER].astype(np.int64) - 1000, minlength=50)
    assert len(servers) == 50
    assert (np.abs(servers - 400) < 6 * np.sqrt(400)).all()
    clients = np.bincount(rows[:, CLIENT].astype(np.int64) - 300, minlength=127)
    assert len(clients) == 127
    octaves = [clients[2**k - 1 : 2 ** (k + 1) - 1].sum() for k in range(7)]
    assert (np.abs(np.array(octaves) - 20_000 / 7) < 6 * np.sqrt(20_000 / 7)).all()
