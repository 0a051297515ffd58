"""Synthetic traffic: its labels agree with a naive scan, and it looks as documented."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.synthetic import ActorTruth, Traffic, Truth
from probe.synthetic.actors import SHIFTS
from probe.synthetic.hosts import MAC, V4, V6_HIGH, host_table
from schemas.record import PACKET, CapturePoint, Packets

SAMPLE = 300_000
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
SYN, SYN_ACK, ACK, FIN_ACK = 0x02, 0x12, 0x10, 0x11
KINDS = ("host_scan", "port_scan", "syn_flood", "super_spreader", "amplification")


def whole(traffic: Traffic) -> Packets:
    return traffic.batch(0, traffic.packets)


def of_address(packets: Packets, field: str, address: str) -> Packets:
    packed = np.frombuffer(ipaddress.IPv6Address(f"::ffff:{address}").packed, np.uint8)
    return packets[(packets[field] == packed).all(axis=1)]


def addresses(rows: Packets, field: str) -> set[bytes]:
    return {address.tobytes() for address in rows[field]}


def flows(rows: Packets) -> set[tuple[Any, ...]]:
    fields = ("src_port", "dst_port", "ip_proto")
    return {
        (r["src_addr"].tobytes(), r["dst_addr"].tobytes(), *(int(r[f]) for f in fields))
        for r in rows
    }


def naive_actor(packets: Packets, truth: ActorTruth) -> ActorTruth:
    """Find the actor by its address alone and count with sets."""
    anchor = truth.source or truth.target
    assert anchor
    sent, got = of_address(packets, "src_addr", anchor), of_address(packets, "dst_addr", anchor)
    if truth.source is None:
        sent, got = got, sent
    peers = addresses(sent, "dst_addr" if truth.source else "src_addr")
    port_field = "src_port" if truth.kind == "amplification" else "dst_port"
    times = [int(t) for part in (sent, got) for t in part["ts_ns"]]
    return ActorTruth(
        kind=truth.kind,
        source=truth.source,
        target=truth.target,
        port=truth.port,
        peers=len(peers),
        ports=len(set(sent[port_field].tolist())),
        packets=len(sent),
        bytes=int(sent["wire_bytes"].sum()),
        reply_packets=len(got),
        reply_bytes=int(got["wire_bytes"].sum()),
        first_ns=min(times),
        last_ns=max(times),
    )


@pytest.fixture(scope="module", params=[1, 2, 2**64 - 1])
def demo(request: pytest.FixtureRequest) -> tuple[Packets, Truth]:
    traffic = Traffic(seed=request.param, packets=SAMPLE)
    return whole(traffic), traffic.truth()


def test_actor_labels_equal_a_naive_scan(demo: tuple[Packets, Truth]) -> None:
    """Packets, bytes, replies, peers, ports and times of each actor are what a scan finds."""
    packets, truth = demo
    assert tuple(truth.actors) == KINDS
    for actor in truth.actors.values():
        assert actor == naive_actor(packets, actor)


def test_totals_equal_a_naive_scan(demo: tuple[Packets, Truth]) -> None:
    """Packets, bytes, times and packets by version are what a scan finds."""
    packets, truth = demo
    assert truth.packets == len(packets) == SAMPLE
    assert truth.bytes == int(packets["wire_bytes"].astype(np.int64).sum())
    assert (truth.first_ns, truth.last_ns) == (packets["ts_ns"].min(), packets["ts_ns"].max())
    versions = (truth.ipv4_packets, truth.ipv6_packets, truth.other_packets)
    assert versions == tuple(int((packets["eth_type"] == e).sum()) for e in (IPV4, IPV6, ARP))
    assert truth.distinct_flows is None


def test_actors_do_what_their_names_say(demo: tuple[Packets, Truth]) -> None:
    """Each actor's packets have the ports, flags, sizes and proportions of its attack."""
    packets, truth = demo
    scan = of_address(packets, "src_addr", truth.actors["host_scan"].source or "")
    assert set(scan["dst_port"]) == {445}
    assert set(scan["tcp_flags"]) == {SYN}
    assert len(addresses(scan, "dst_addr")) == len(scan)

    probes = of_address(packets, "src_addr", truth.actors["port_scan"].source or "")
    assert len(addresses(probes, "dst_addr")) == 1
    assert len(set(probes["dst_port"])) == len(probes) > 300
    assert abs(truth.actors["port_scan"].reply_packets - len(probes)) <= 1

    flood = of_address(packets, "dst_addr", truth.actors["syn_flood"].target or "")
    assert set(flood["dst_port"]) == {443}
    assert set(flood["tcp_flags"]) == {SYN}
    assert len(addresses(flood, "src_addr")) == len(flood) > 10_000

    spreader = truth.actors["super_spreader"]
    assert spreader.peers == spreader.ports > 300
    assert 0.45 < spreader.packets / (spreader.packets + spreader.reply_packets) < 0.55

    amplified = of_address(packets, "dst_addr", truth.actors["amplification"].target or "")
    assert set(amplified["src_port"]) == {53}
    assert amplified["wire_bytes"].min() >= 1200
    assert truth.actors["amplification"].peers == 2048


def test_actors_are_active_in_their_stated_part_of_the_span() -> None:
    """First and last packets lie within the stated fractions and fill at least 98 % of them."""
    traffic = Traffic(packets=1_000_000)
    for kind, shift in zip(KINDS, SHIFTS[1:], strict=True):
        actor = traffic.truth().actors[kind]
        start = (actor.first_ns - traffic.start_ns) / traffic.span_ns
        stop = (actor.last_ns - traffic.start_ns) / traffic.span_ns
        assert shift.start <= start <= stop <= shift.stop
        assert stop - start > 0.98 * (shift.stop - shift.start)


def test_flood_raises_the_packet_rate(demo: tuple[Packets, Truth]) -> None:
    """A SYN flood comes on top of the background and doesn't displace it."""
    packets, _ = demo
    span = Traffic(packets=SAMPLE).span_ns
    at = (packets["ts_ns"] - packets["ts_ns"][0]) / span
    during, before = ((at >= low) & (at < low + 0.04) for low in (0.72, 0.64))
    assert 1.5 < during.sum() / before.sum() < 1.7


def test_time_goes_forward_from_the_start(demo: tuple[Packets, Truth]) -> None:
    """Timestamps begin at start_ns, never decrease and end within the span."""
    packets, _ = demo
    ts_ns = packets["ts_ns"].astype(np.int64)
    traffic = Traffic(packets=SAMPLE)
    assert ts_ns[0] == traffic.start_ns
    assert (np.diff(ts_ns) >= 0).all()
    assert 0.99 * traffic.span_ns < ts_ns[-1] - ts_ns[0] <= traffic.span_ns


def test_default_span_is_about_three_minutes() -> None:
    """The default stream covers between 170 and 190 seconds of event time."""
    assert 170 < Traffic().span_ns / 1e9 < 190


def test_background_looks_like_an_enterprise(demo: tuple[Packets, Truth]) -> None:
    """Versions, protocols, VLANs, frame sizes and constant fields are as documented."""
    packets, truth = demo
    assert 0.12 < truth.ipv6_packets / truth.packets < 0.24
    assert {1, 6, 17, 58} < set(packets["ip_proto"].tolist())
    assert 0.2 < (packets["vlan_id"] > 0).mean() < 0.7
    untagged = packets["wire_bytes"] - 4 * (packets["vlan_id"] > 0)
    assert (untagged.min(), untagged.max()) == (60, 1514)
    assert set(packets["capture_point"]) == {CapturePoint.SYNTHETIC}
    assert set(packets["packets"]) == {1}
    for field in ("if_index", "tunnel_id", "direction", "flags", "reserved", "duration_us"):
        assert not packets[field].any()


def test_flows_and_talkers_are_heavy_tailed(demo: tuple[Packets, Truth]) -> None:
    """One percent of the hosts sends a third of the packets, the median host a handful."""
    packets, _ = demo
    rows = packets[(packets["ip_proto"] > 0) & (packets["wire_bytes"] > 64)]
    _, sent = np.unique(rows["src_addr"].copy().view("V16"), return_counts=True)
    sent = np.sort(sent)[::-1]
    assert sent[: len(sent) // 100].sum() > len(rows) / 3
    assert np.median(sent) < 40


def test_non_ip_and_icmp_fields(demo: tuple[Packets, Truth]) -> None:
    """ARP has neither addresses nor ports; ICMP carries its type in dst_port; TCP has a TTL."""
    packets, _ = demo
    arp = packets[packets["eth_type"] == ARP]
    for field in ("src_addr", "dst_addr", "src_port", "dst_port", "ip_proto", "ttl", "tcp_flags"):
        assert not arp[field].any()
    broadcast = (arp["dst_mac"] == 255).all(axis=1)
    assert 0.4 < broadcast.mean() < 0.6
    icmp = packets[packets["ip_proto"] == 1]
    assert set(icmp["dst_port"].tolist()) == {8 << 8, 0}
    icmpv6 = packets[packets["ip_proto"] == 58]
    assert set(icmpv6["dst_port"].tolist()) == {t << 8 for t in (128, 129, 135, 136)}
    assert set(icmpv6["eth_type"].tolist()) == {IPV6}
    assert packets["ttl"][packets["ip_proto"] == 6].min() > 30


def test_every_record_of_a_connection_is_in_order() -> None:
    """Connections that begin in the stream begin with the handshake and close with FINs."""
    packets = whole(Traffic(packets=100_000, seed=5))
    talks: dict[Any, list[tuple[int, bytes]]] = defaultdict(list)
    for row in packets[(packets["ip_proto"] == 6) & (packets["wire_bytes"] > 64)]:
        src = (row["src_addr"].tobytes(), int(row["src_port"]))
        dst = (row["dst_addr"].tobytes(), int(row["dst_port"]))
        talks[min(src, dst), max(src, dst)].append((int(row["tcp_flags"]), src[0]))
    begun = [t for t in talks.values() if t[0][0] == SYN and len(t) >= 3]
    assert len(begun) > 1000
    closed = 0
    for talk in begun:
        assert [flags for flags, _ in talk[:3]] == [SYN, SYN_ACK, ACK]
        assert talk[0][1] == talk[2][1] != talk[1][1]
        closed += [flags for flags, _ in talk[-3:]] == [FIN_ACK, FIN_ACK, ACK]
    assert closed > 0.7 * len(begun)


def test_queries_come_before_their_answers() -> None:
    """A DNS answer to a client's port follows its query, except in talks under way at start."""
    packets = whole(Traffic(packets=100_000, seed=3))
    amplified = Traffic(packets=100_000, seed=3).truth().actors["amplification"].target
    asked: set[tuple[bytes, int]] = set()
    answers = orphans = 0
    victim = ipaddress.IPv6Address(f"::ffff:{amplified}").packed
    for row in packets[packets["ip_proto"] == 17]:
        if row["dst_port"] == 53:
            asked.add((row["src_addr"].tobytes(), int(row["src_port"])))
        elif row["src_port"] == 53 and row["dst_addr"].tobytes() != victim:
            answers += 1
            orphans += (row["dst_addr"].tobytes(), int(row["dst_port"])) not in asked
    assert answers > 1000
    assert orphans <= 40


def test_host_addresses_differ() -> None:
    """No two hosts share an address, and the ones behind the router share its MAC."""
    hosts = host_table()
    assert len(np.unique(hosts[:, V4])) == len(hosts)
    v6 = hosts[hosts[:, V6_HIGH] > 0, V6_HIGH : V6_HIGH + 2]
    assert len(np.unique(v6, axis=0)) == len(v6) > 12_000
    _, behind = np.unique(hosts[:, MAC], return_counts=True)
    assert sorted(behind)[-1] == 8191 + 1


@pytest.mark.parametrize("sources", [None, 50])
@pytest.mark.parametrize("skew", [0.0, 1.0, 2.5])
def test_zipf_labels_equal_a_naive_scan(skew: float, sources: int | None) -> None:
    """Distinct flows, sources and destinations are what sets find."""
    traffic = Traffic("zipf", packets=20_000, active_flows=4000, skew=skew, sources=sources)
    packets, truth = whole(traffic), traffic.truth()
    assert truth.distinct_flows == len(flows(packets))
    assert truth.distinct_sources == len(addresses(packets, "src_addr"))
    assert truth.distinct_destinations == len(addresses(packets, "dst_addr"))
    assert truth.bytes == int(packets["wire_bytes"].sum())
    assert (truth.first_ns, truth.last_ns) == (packets["ts_ns"][0], packets["ts_ns"][-1])


def test_zipf_follows_its_law() -> None:
    """The n-th flow's packets are 1/n of the first's, within five standard deviations."""
    packets = whole(Traffic("zipf", packets=400_000, active_flows=1000))
    _, counts = np.unique(packets["dst_addr"].copy().view("V16"), return_counts=True)
    expected = 1 / np.arange(1, 1001)
    expected *= len(packets) / expected.sum()
    found = np.sort(counts)[::-1]
    assert (np.abs(found - expected)[:10] < 5 * np.sqrt(expected[:10])).all()
    assert abs(found[:100].sum() / expected[:100].sum() - 1) < 0.01


def test_zipf_sources_are_heavy_tailed() -> None:
    """With fewer sources than flows the busiest has many times the median's destinations."""
    packets = whole(Traffic("zipf", packets=100_000, active_flows=50_000, skew=0, sources=1000))
    spread = defaultdict(set)
    for row in packets:
        spread[row["src_addr"].tobytes()].add(row["dst_addr"].tobytes())
    sizes = sorted(len(s) for s in spread.values())
    assert len(sizes) == 1000
    assert sizes[-1] > 50 * sizes[500]


@pytest.mark.parametrize("destinations", ["random", "one"])
def test_flood_labels_equal_a_naive_scan(destinations: str) -> None:
    """Every packet is a SYN of a new flow from a new source, to one destination or a new one."""
    traffic = Traffic("flood", packets=50_000, destinations=destinations)
    packets, truth = whole(traffic), traffic.truth()
    assert truth.distinct_flows == len(flows(packets)) == 50_000
    assert truth.distinct_sources == len(addresses(packets, "src_addr")) == 50_000
    assert truth.distinct_destinations == len(addresses(packets, "dst_addr"))
    assert truth.distinct_destinations == (1 if destinations == "one" else 50_000)
    assert set(packets["tcp_flags"]) == {SYN}


@pytest.mark.parametrize("profile", ["demo", "zipf", "flood"])
def test_seeds_give_different_streams(profile: str) -> None:
    """Two seeds share hardly any record."""
    one, two = (Traffic(profile, seed=s, packets=20_000).batch(0, 5000) for s in (1, 2))
    assert len({r.tobytes() for r in one} & {r.tobytes() for r in two}) < 50


DIGEST = """
import hashlib, numpy as np
from probe.synthetic import Traffic
np.seterr(over="ignore")
for profile in ("demo", "zipf", "flood"):
    out = Traffic(profile, seed=7, packets=3000, active_flows=200, sources=50).batch(0, 3000)
    print(hashlib.sha256(out.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("jit", ["0", "1"])
def test_other_processes_and_plain_python_make_the_same_stream(jit: str) -> None:
    """A fresh process, compiled or with the kernels run as plain Python, gives equal bytes."""
    env = {**os.environ, "NUMBA_DISABLE_JIT": jit, "PYTHONHASHSEED": "5"}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", DIGEST], cwd=root, env=env, check=True, capture_output=True
    )
    here = [
        Traffic(p, seed=7, packets=3000, active_flows=200, sources=50).batch(0, 3000)
        for p in ("demo", "zipf", "flood")
    ]
    assert done.stdout.decode().split() == [hashlib.sha256(b.tobytes()).hexdigest() for b in here]


def test_batches_end_with_the_stream() -> None:
    """The last batch is shorter and batches beyond the end are empty."""
    traffic = Traffic(packets=100)
    assert [len(traffic.batch(k, 40)) for k in range(4)] == [40, 40, 20, 0]
    assert traffic.batch(10**12).dtype == PACKET


@pytest.mark.parametrize(("index", "size"), [(-1, 10), (0, 0), (0, -5)])
def test_batch_refuses_absurd_arguments(index: int, size: int) -> None:
    """A negative index or an empty size is refused."""
    with pytest.raises(ValueError, match="no batch"):
        Traffic(packets=100).batch(index, size)


@pytest.mark.parametrize("first", [-1, 91, 10**20])
def test_fill_refuses_records_outside_the_stream(first: int) -> None:
    """Ten records that aren't all in a stream of a hundred are refused."""
    with pytest.raises(ValueError, match="aren't within 0 to 100"):
        Traffic(packets=100).fill(first, np.empty(10, PACKET))


def test_fill_refuses_other_arrays() -> None:
    """An array that isn't contiguous records is refused."""
    with pytest.raises(ValueError, match="contiguous"):
        Traffic(packets=100).fill(0, np.empty(20, PACKET)[::2])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"profile": "demos"}, "profile is 'demos': give one of demo, zipf, flood"),
        ({"destinations": "two"}, "destinations is 'two'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is"),
        ({"packets": 0}, "packets is 0: give a whole number from 1"),
        ({"packets": 1.5}, "packets is 1.5"),
        ({"profile": "flood", "packets": 2**29 + 1}, "packets is 536870913"),
        ({"start_ns": -1}, "start_ns is -1"),
        ({"start_ns": 2**63}, "start_ns is"),
        ({"packets_per_second": 0}, "packets_per_second is 0"),
        ({"packets_per_second": float("nan")}, "packets_per_second is nan"),
        ({"packets_per_second": float("inf")}, "packets_per_second is inf"),
        ({"packets_per_second": 1e10}, "packets_per_second is"),
        ({"packets_per_second": 1e-3}, "exceeds 52 days"),
        ({"active_flows": 0}, "active_flows is 0"),
        ({"active_flows": 2**26 + 1}, "active_flows is"),
        ({"skew": -0.1}, "skew is -0.1"),
        ({"skew": 4.1}, "skew is 4.1"),
        ({"skew": float("nan")}, "skew is nan"),
        ({"sources": 0}, "sources is 0"),
        ({"active_flows": 10, "sources": 11}, "sources is 11: give a whole number from 1 to 10"),
    ],
)
def test_absurd_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    """Each parameter out of its range is refused by name."""
    with pytest.raises(ValueError, match=message):
        Traffic(**parameters)
