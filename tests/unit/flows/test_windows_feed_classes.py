"""Tasks that count the flows of one class only."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest

from flows.kernels.classes import ATTEMPT, INITIATED, REFLECTED, SYN
from flows.windows.fields import FieldList
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.tasks import Task, Where
from schemas.record import PACKET, Packets
from tests.support.jobs import units_of
from tests.support.naive_classes import naive_classes, read_flows
from tests.support.naive_flows import random_packets

CLASSES: Final[dict[Where, int]] = {
    "attempts": ATTEMPT,
    "initiated": INITIATED,
    "syn": SYN,
    "reflected": REFLECTED,
}
PAIR: Final = FieldList(("src_addr",)), FieldList(("dst_addr",))
PEERS: Final = [Task(f"peers_{where}", "spread", *PAIR, where=where) for where in CLASSES]
PORTS: Final = [
    Task(f"ports_{where}", "frequency", FieldList(("dst_port",)), where=where) for where in CLASSES
]
CONFIG: Final = WindowConfig(reflector_ports=frozenset({53, 80}))


def conversations(seed: int, count: int = 3000) -> Packets:
    """Packets of few ends, some of which go back to where others came from."""
    rng = np.random.default_rng(seed)
    packets = random_packets(rng, count, hosts=12)
    packets["ip_proto"][packets["ip_proto"] == 1] = 6
    packets["tcp_flags"] = rng.choice([0, 2, 4, 16, 18, 20], count)
    back = rng.random(count) < 0.4
    for one, other in (("src_addr", "dst_addr"), ("src_port", "dst_port")):
        packets[one][back], packets[other][back] = packets[other][back], packets[one][back]
    return packets


@pytest.mark.parametrize("directions", [None, frozenset({1})])
def test_a_task_counts_the_flows_of_its_class(directions: frozenset[int] | None) -> None:
    """Peers and sums are the twin's; an answer is one too where its own direction doesn't count."""
    config = WindowConfig(reflector_ports=CONFIG.reflector_ports, directions=directions)
    for unit in units_of(conversations(1), config=config, tasks=PEERS + PORTS):
        flows = read_flows(unit.entries, [0])
        found = naive_classes(unit.entries, [0], CONFIG.reflector_ports)
        ways = (unit.entries[:, 6] >> np.uint64(8) & np.uint64(0xFF)).tolist()
        panes = {pane.pane for pane in unit.sketches["t", PEERS[0].name]}
        for pane in panes:
            for where, bit in CLASSES.items():
                mine = [
                    flow
                    for flow, classes, way in zip(flows, found, ways, strict=True)
                    if flow.pane == pane and classes & bit and way in (directions or {0, 1, 2})
                ]
                peers: dict[str, set[str]] = {}
                sums: dict[str, list[int]] = {}
                for flow in mine:
                    peers.setdefault(flow.src, set()).add(flow.dst)
                    sum_ = sums.setdefault(str(flow.dst_port), [0, 0])
                    sum_[0] += flow.packets
                    sum_[1] += flow.octets
                assert spreads(unit, pane, where) == {s: len(d) for s, d in peers.items()}
                assert weights(unit, pane, where) == sums


def sketch_of(unit: Any, name: str, pane: int) -> Any:
    (sketch,) = [p.sketch for p in unit.sketches["t", name] if p.pane == pane]
    return sketch


def spreads(unit: Any, pane: int, where: Where) -> dict[str, int]:
    rows = sketch_of(unit, f"peers_{where}", pane).top(1000).rows
    return {PEERS[0].key.read(row.key, [])["src_addr"]: int(row.estimate) for row in rows}


def weights(unit: Any, pane: int, where: Where) -> dict[str, list[int]]:
    rows = sketch_of(unit, f"ports_{where}", pane).top(1000).by_packets.rows
    return {PORTS[0].key.read(row.key, [])["dst_port"]: [row.packets, row.bytes] for row in rows}


def test_a_pane_that_overflows_counts_every_syn_once() -> None:
    """Flows that are fed before the pane ends, and the rest of their packets when it does."""
    packets = conversations(2)
    packets["ts_ns"] = 10**18 + np.arange(len(packets))
    packets["ip_proto"], packets["eth_type"], packets["tcp_flags"] = 6, 0x0800, 2
    small = WindowConfig(max_flows=200)
    (unit,) = units_of(packets, config=small, tasks=PEERS + PORTS)
    (whole,) = units_of(packets, tasks=PEERS + PORTS)
    pane = whole.sketches["t", PEERS[0].name][0].pane
    assert (unit.entries[:, 14] > 0).any()
    assert weights(unit, pane, "syn") == weights(whole, pane, "syn")
    assert spreads(unit, pane, "attempts") == spreads(whole, pane, "attempts")


def test_an_answer_that_was_folded_away_makes_no_attempt() -> None:
    """What was judged with its answer in the table isn't judged again without it."""
    asked = udp("10.0.0.1", "10.0.0.2", 2000, 5000, count=150)
    answers = udp("10.0.0.2", "10.0.0.1", 2000, 5000, count=150)
    answers["src_port"], answers["dst_port"] = answers["dst_port"], answers["src_port"].copy()
    others = udp("10.0.0.3", "10.0.0.4", 2000, 5000, count=200)
    others["ip_proto"], others["tcp_flags"] = 6, 16
    packets = np.concatenate([asked, asked, answers, others, asked])
    packets["ts_ns"] = 10**18 + np.arange(len(packets))
    (unit,) = units_of(packets, config=WindowConfig(max_flows=400), tasks=PEERS)
    left = unit.entries[unit.entries[:, 14] == 0]
    assert np.count_nonzero(naive_of(left) & ATTEMPT) > 100
    pane = unit.sketches["t", PEERS[0].name][0].pane
    assert spreads(unit, pane, "attempts") == {}
    assert spreads(unit, pane, "initiated") == {"10.0.0.1": 1}


@pytest.mark.parametrize("message", [1, 3, 1000])
def test_a_connection_cut_by_a_pane_s_end_is_no_attempt(message: int) -> None:
    """Its acknowledgement is in the next pane, which is open still; another's never comes."""
    packets = udp("10.0.0.1", "10.0.0.2", 2000, 80, count=60)
    packets["ip_proto"], packets["tcp_flags"] = 6, 2
    packets["ts_ns"] = 2 * 10**18 - 10**8 + np.arange(len(packets))
    acknowledged = packets[:50].copy()
    acknowledged["tcp_flags"], acknowledged["ts_ns"] = (
        16,
        acknowledged["ts_ns"] + np.uint64(2 * 10**8),
    )
    later = packets[:1].copy()
    later["ts_ns"] += np.uint64(4 * 10**9)
    packets = np.concatenate([packets, acknowledged, later])
    units = list(units_of(packets, config=CONFIG, tasks=PEERS + PORTS, message=message))
    pane = 10**9 - 1
    (unit,) = [u for u in units if any(p.pane == pane for p in u.sketches["t", PEERS[0].name])]
    assert weights(unit, pane, "attempts") == {"80": [10, 800]}
    assert weights(unit, pane, "syn") == {"80": [10, 800]}
    assert weights(unit, pane, "initiated") == {"80": [60, 4800]}


def udp(src: str, dst: str, src_port: int, dst_port: int, *, count: int) -> Packets:
    """Packets from as many source ports."""
    packets = np.zeros(count, PACKET)
    for name, text in (("src_addr", src), ("dst_addr", dst)):
        packets[name][:, 10:12] = 0xFF
        packets[name][:, 12:] = [int(part) for part in text.split(".")]
    packets["src_port"], packets["dst_port"] = src_port + np.arange(count), dst_port
    packets["eth_type"], packets["ip_proto"] = 0x0800, 17
    packets["packets"], packets["wire_bytes"] = 1, 80
    return packets


def naive_of(entries: Any) -> Any:
    return np.array(naive_classes(entries, [0], ()))


def test_a_partition_that_held_nothing_ends() -> None:
    """An empty partition, which never had a stream, gives a unit without sketches."""
    empty = PartitionAccumulator("empty", "0", CONFIG, PEERS, Networks({}))
    assert not empty.end(0).sketches
