"""The flow table against a dict per packet."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from flows.kernels.layout import (
    BYTES,
    DST,
    FIRST,
    FOLDED,
    KIND,
    LAST,
    PACKETS,
    PANE,
    PLACE,
    PORTS,
    SRC,
    SRC_MAC,
    T_BYTES,
    T_IPV4,
    T_IPV6,
    T_LATE,
    T_OTHER,
    T_PACKETS,
    T_PANE,
    T_RECORDS,
)
from flows.windows.flow_table import ClosedPanes, FlowTable
from schemas.record import Packets, as_words
from tests.support.naive_flows import naive_flows, naive_late, random_packets

PANE_NS = 2 * 10**9
LATENESS_NS = 10**9
END = 2**62


def make(max_flows: int = 100_000, fed: list[Any] | None = None) -> FlowTable:
    def before_fold(entries: npt.NDArray[np.uint64], done: npt.NDArray[np.uint64] | None) -> None:
        if fed is not None:
            fed.append((entries.copy(), None if done is None else done.copy()))

    return FlowTable(
        pane_ns=PANE_NS,
        lateness_ns=LATENESS_NS,
        max_flows=max_flows,
        seed=7,
        before_fold=before_fold,
    )


def run(packets: Packets, batch: int, table: FlowTable, rate: int = 1) -> ClosedPanes:
    words = as_words(packets)
    for start in range(0, len(words), batch):
        table.absorb(words[start : start + batch], stream=3, rate=rate, follow=True)
    return table.take(END)


def as_dict(entries: npt.NDArray[np.uint64]) -> dict[tuple[Any, ...], list[int]]:
    out = {}
    for entry in entries:
        ports, kind, place = int(entry[PORTS]), int(entry[KIND]), int(entry[PLACE])
        key = (
            int(entry[PANE]),
            entry[SRC : SRC + 2].tobytes(),
            entry[DST : DST + 2].tobytes(),
            ports & 0xFFFF,
            ports >> 16 & 0xFFFF,
            ports >> 32 & 0xFFFF,
            ports >> 48,
            kind & 0xFF,
            kind >> 8 & 0xFF,
            kind >> 16 & 0xFF,
            place & 0xFFFFFFFF,
            place >> 32,
        )
        values = [int(entry[word]) for word in (PACKETS, BYTES, FIRST, LAST)]
        assert key not in out
        out[key] = [*values, int(entry[SRC_MAC]) >> 48]
    return out


@pytest.mark.parametrize("batch", [1, 63, 64, 65, 1000, 10**6])
def test_flows_equal_the_naive_twin_for_any_batch_size(batch: int) -> None:
    """Every flow has the twin's sums, times and flags, however the packets are handed over."""
    packets = random_packets(np.random.default_rng(5), 6000)
    closed = run(packets, batch, make(), rate=3)
    assert as_dict(closed.flows) == naive_flows(packets, PANE_NS, rate=3)
    assert closed.fed is None
    assert len(closed.folded) == 0


def test_totals_are_counted_apart_from_flows_and_agree() -> None:
    """Totals by pane equal the sums of the flows and of the packets' kinds."""
    packets = random_packets(np.random.default_rng(6), 5000)
    closed = run(packets, 777, make())
    assert closed.totals[:, T_PACKETS].sum() == packets["packets"].sum()
    assert closed.totals[:, T_BYTES].sum() == packets["wire_bytes"].sum(dtype=np.uint64)
    assert closed.totals[:, T_RECORDS].sum() == len(packets)
    for word, eth_type in ((T_IPV4, 0x800), (T_IPV6, 0x86DD), (T_OTHER, 0x806)):
        mine = packets["packets"][packets["eth_type"] == eth_type]
        assert closed.totals[:, word].sum() == mine.sum()
    late = {}
    for row in closed.totals:
        if row[T_LATE]:
            late[int(row[T_PANE])] = late.get(int(row[T_PANE]), 0) + int(row[T_LATE])
    expected = naive_late(packets, PANE_NS, LATENESS_NS)
    assert expected
    assert late == expected


def test_closed_panes_leave_and_open_ones_stay() -> None:
    """Taking in the middle gives each flow once, in one of the two takes."""
    packets = random_packets(np.random.default_rng(8), 4000)
    table = make()
    words = as_words(packets)
    table.absorb(words[:2500], stream=3, rate=1, follow=True)
    boundary = table.watermark_ns // PANE_NS
    assert table.has_below(boundary)
    first = table.take(boundary)
    assert not table.has_below(boundary)
    assert (first.flows[:, PANE] < boundary).all()
    table.absorb(words[2500:], stream=3, rate=1, follow=True)
    second = table.take(END)
    assert table.open_flows == 0
    assert table.open_packets == 0
    merged: dict[tuple[Any, ...], list[int]] = as_dict(first.flows)
    for key, values in as_dict(second.flows).items():
        old = merged.get(key)
        merged[key] = (
            values
            if old is None
            else [
                old[0] + values[0],
                old[1] + values[1],
                min(old[2], values[2]),
                max(old[3], values[3]),
                old[4] | values[4],
            ]
        )
    assert merged == naive_flows(packets, PANE_NS)


def test_growth_keeps_every_flow() -> None:
    """More flows than the table starts with, and more panes than its totals start with."""
    packets = random_packets(np.random.default_rng(9), 30_000, hosts=250, span_ns=9000 * 10**9)
    closed = run(packets, 8192, make())
    assert len(closed.flows) > 4096
    assert len(np.unique(closed.totals[:, T_PANE])) > 1024
    assert as_dict(closed.flows) == naive_flows(packets, PANE_NS)


@pytest.mark.parametrize("max_flows", [40, 300])
def test_folding_keeps_sums_exact_and_feeds_every_packet_once(max_flows: int) -> None:
    """Folded or not: the same packets and bytes per pane and IP version, each fed once."""
    packets = random_packets(np.random.default_rng(10), 20_000, hosts=120, span_ns=6 * 10**9)
    fed: list[Any] = []
    closed = run(packets, 500, make(max_flows, fed))
    assert len(closed.folded)
    entries = np.concatenate((closed.flows, closed.folded))
    twin = naive_flows(packets, PANE_NS)
    for pane in np.unique(entries[:, PANE]).tolist():
        for eth_type in (0x800, 0x86DD, 0x806):
            mine = (entries[:, PANE] == pane) & (entries[:, PORTS] >> np.uint64(48) == eth_type)
            wanted = [v for k, v in twin.items() if k[0] == pane and k[6] == eth_type]
            assert entries[mine, PACKETS].sum() == sum(v[0] for v in wanted)
            assert entries[mine, BYTES].sum() == sum(v[1] for v in wanted)
        assert (closed.flows[:, PANE] == pane).sum() <= max_flows
    fed_packets = sum(int((e[:, PACKETS] - d[:, 0]).sum()) for e, d in fed)
    assert closed.fed is not None
    rest = int((closed.flows[:, PACKETS] - closed.fed[:, 0]).sum())
    assert fed_packets + rest == int(packets["packets"].sum())
    seen = {key for e, _ in fed for key in as_dict(e)} | set(as_dict(closed.flows))
    assert seen == set(twin)
    assert closed.folded[:, FOLDED].min() > 0


def test_folding_is_a_function_of_the_packets_alone() -> None:
    """Batch sizes don't change which flows are kept and what is folded to what."""
    packets = random_packets(np.random.default_rng(11), 9000, hosts=200, span_ns=4 * 10**9)
    one, two = (run(packets, batch, make(256)) for batch in (37, 9000))
    assert np.array_equal(one.flows, two.flows)
    assert np.array_equal(one.folded, two.folded)


def test_folding_goes_on_to_networks_and_protocols() -> None:
    """Random destinations end in a bounded number of rows, by network or by protocol."""
    rng = np.random.default_rng(12)
    packets = random_packets(rng, 20_000, span_ns=10**9)
    packets["dst_addr"][:, 12:] = rng.integers(0, 256, (len(packets), 4))
    closed = run(packets, 4096, make(400))
    per_pane = np.unique(closed.folded[:, PANE], return_counts=True)[1]
    assert per_pane.max() <= 400 // 4 + 100
    levels = set((closed.folded[:, KIND] >> np.uint64(24) & np.uint64(0xFF)).tolist())
    assert 3 in levels
