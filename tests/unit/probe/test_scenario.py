"""Scenarios are deterministic, in time order and at the rate asked for; the background is clean."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.synthetic.scenario import (
    NETWORKS,
    Background,
    BusyServer,
    HostScan,
    PortScan,
    Rhythm,
    Scenario,
    SynFlood,
    Volume,
)
from schemas.record import PACKET, Packets, as_words
from tests.support.naive_scenario import (
    ACK,
    FIN_ACK,
    RST_ACK,
    SYN,
    SYN_ACK,
    Seen,
    named,
    seen,
    whole,
)

S = 10**9
DAY = 86_400
MONDAY_NS = 1_699_833_600 * S  # 2023-11-13, 0:00 UTC

MIXED = Scenario(
    seed=5,
    duration_s=100,
    background=Background(packets_per_second=800),
    attacks=(
        HostScan(start_s=10),
        SynFlood(start_s=20, duration_s=20, syns_per_second=500),
        BusyServer(start_s=40),
        Volume(start_s=60, duration_s=20),
    ),
)


@pytest.fixture(scope="module")
def clean() -> list[Seen]:
    """Five minutes of background."""
    return list(
        seen(whole(Scenario(duration_s=300, background=Background(packets_per_second=600))))
    )


@pytest.mark.parametrize("size", [1000, 4096, 65_537, 10**6])
def test_chunks_of_any_size_are_one_stream(size: int) -> None:
    """Chunks have the size asked for, but for the last, and together are the same bytes."""
    chunks = list(MIXED.chunks(size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size
    assert all(chunk.dtype == PACKET for chunk in chunks)
    assert np.concatenate([as_words(c) for c in chunks]).tobytes() == whole(MIXED).tobytes()


def test_the_number_of_packets_is_known() -> None:
    """``packets`` is how many there are."""
    assert MIXED.packets == len(whole(MIXED)) > 100_000


def test_nothing_makes_no_chunk() -> None:
    """A scenario without background and attacks has no packets."""
    empty = Scenario(background=None)
    assert (list(empty.chunks()), empty.packets, empty.labels) == ([], 0, [])


def test_time_never_goes_back() -> None:
    """Timestamps begin at the start, never decrease and end before the end."""
    ts_ns = whole(MIXED)["ts_ns"].astype(np.int64) - MIXED.start_ns
    assert (np.diff(ts_ns) >= 0).all()
    assert 0 <= ts_ns[0] < S / 10
    assert 99.9 * S < ts_ns[-1] < 100 * S


def test_seeds_decide() -> None:
    """Equal seeds give equal packets; two seeds share hardly any record."""
    one, again, two = (
        whole(Scenario(seed=s, duration_s=10, background=Background(800), attacks=(PortScan(),)))
        for s in (1, 1, 2)
    )
    assert one.tobytes() == again.tobytes()
    assert len({r.tobytes() for r in one} & {r.tobytes() for r in two}) < 50


def test_attacks_leave_the_rest_as_it_is() -> None:
    """The packets with an attack are those without it and those of the attack alone."""

    def records(background: Background | None, *attacks: Any) -> set[bytes]:
        packets = whole(Scenario(seed=9, duration_s=30, background=background, attacks=attacks))
        return {r.tobytes() for r in packets}

    background, first, second = Background(300), HostScan(), SynFlood(syns_per_second=100)
    both = records(background, first, second)
    assert both == records(background, first) | records(None, first, second)
    assert both == records(background) | records(None, first, second)


DIGEST = """
import hashlib, numpy as np
from probe.synthetic.scenario import *
np.seterr(over="ignore")
scenario = Scenario(seed=11, duration_s=4, background=Background(120, Rhythm()), attacks=(
    HostScan(), PortScan(ipv6=True), FanIn(protocol="udp", sources_per_second=20), FlashCrowd(
    connections_per_second=3), Amplification(packets_per_second=20)))
print(hashlib.sha256(b"".join(c.tobytes() for c in scenario.chunks())).hexdigest())
"""


def test_other_processes_and_plain_python_make_the_same_packets() -> None:
    """A fresh process, compiled or with the kernels run as plain Python, gives equal bytes."""
    digests = set()
    for jit in ("0", "1"):
        env = {**os.environ, "NUMBA_DISABLE_JIT": jit, "PYTHONHASHSEED": "5"}
        root = Path(__file__).parents[3]
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], cwd=root, env=env, check=True, capture_output=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1
    assert hashlib.sha256().hexdigest().encode() not in digests


@pytest.mark.parametrize("packets_per_second", [50, 5_000, 40_000])
def test_background_has_its_rate(packets_per_second: float) -> None:
    """The mean rate is within 3 % of what was asked, and so are both halves within 6 %."""
    duration_s = max(2_000_000 / packets_per_second, 1) / 4
    packets = whole(Scenario(duration_s=duration_s, background=Background(packets_per_second)))
    expected = packets_per_second * duration_s
    assert len(packets) == pytest.approx(expected, rel=0.03)
    middle = np.uint64(Scenario().start_ns + round(duration_s * S / 2))
    assert (packets["ts_ns"] < middle).sum() == pytest.approx(expected / 2, rel=0.06)


def test_connections_are_whole(clean: list[Seen]) -> None:
    """Connections begin SYN, SYN-ACK, ACK from the right ends and close with FINs."""
    talks: dict[Any, list[Seen]] = defaultdict(list)
    for p in clean:
        if p.ip_proto == 6:
            ends = ((p.src_addr, p.src_port), (p.dst_addr, p.dst_port))
            talks[min(ends), max(ends)].append(p)
    begun = [t for t in talks.values() if t[0].tcp_flags == SYN and len(t) >= 7]
    assert len(begun) > 2500
    closed = 0
    for talk in begun:
        assert [p.tcp_flags for p in talk[:3]] == [SYN, SYN_ACK, ACK]
        assert talk[0].src_addr == talk[1].dst_addr == talk[2].src_addr
        closed += [p.tcp_flags for p in talk[-3:]] == [FIN_ACK, FIN_ACK, ACK]
    assert closed > 0.9 * len(begun)


def test_some_connections_fail(clean: list[Seen]) -> None:
    """1 to 3 % of all connections tried get no answer or a reset; SYNs are tried three times."""
    tried: dict[Any, list[int]] = defaultdict(list)
    for p in clean:
        if p.tcp_flags == SYN:
            tried[p.src_addr, p.src_port, p.dst_addr].append(p.ts_ns)
        elif p.tcp_flags in (SYN_ACK, RST_ACK):
            tried[p.dst_addr, p.dst_port, p.src_addr].append(-p.tcp_flags)
    silent = [t for t in tried.values() if min(t) > 0]
    reset = sum(-RST_ACK in t for t in tried.values())
    assert 0.01 < len(silent) / len(tried) < 0.03
    assert 0.002 < reset / len(tried) < 0.01
    assert np.mean([len(t) for t in silent]) > 2.7


def test_queries_come_before_their_answers(clean: list[Seen]) -> None:
    """Every DNS answer follows its query, except those asked before the start."""
    asked: set[Any] = set()
    answers = orphans = 0
    for p in clean:
        if p.dst_port == 53:
            asked.add((p.src_addr, p.src_port, p.dst_addr))
        elif p.src_port == 53:
            answers += 1
            orphans += (p.dst_addr, p.dst_port, p.src_addr) not in asked
    assert answers > 3000
    assert orphans <= 5


def test_only_named_hosts_meet_very_many(clean: list[Seen]) -> None:
    """Resolvers, NAT gateway and servers meet more than a hundred hosts, others fewer."""
    peers: dict[str, set[str]] = defaultdict(set)
    for p in clean:
        peers[p.src_addr].add(p.dst_addr)
    special = [n for n in NETWORKS if n not in ("internal", "lab")]
    for host, met in peers.items():
        assert len(met) <= 100 or any(named(host, n) for n in special)
    assert max(len(met) for host, met in peers.items() if named(host, "dns")) > 500
    assert len(peers["10.1.0.254"]) > 200
    assert len(peers["10.1.1.1"]) > 100


def test_busy_servers_have_thousands_of_clients() -> None:
    """At 20,000 packets/s a web server meets thousands of visitors within five minutes."""
    scenario = Scenario(duration_s=300, background=Background(packets_per_second=20_000))
    server = np.frombuffer(bytes(10) + b"\xff\xff\x0a\x01\x01\x01", np.uint64)
    visitors: set[int] = set()
    for packets in scenario.chunks(1 << 17):
        words = as_words(packets)
        visitors.update(words[(words[:, 4] == server[1]), 2].tolist())
    assert len(visitors) > 3000


def hourly(packets: Packets, days: int) -> Any:
    """Packets of each hour, (days, 24)."""
    hours = (packets["ts_ns"] - np.uint64(MONDAY_NS)) // np.uint64(3600 * S)
    return np.bincount(hours.astype(np.int64), minlength=24 * days).reshape(days, 24)


def test_eight_days_have_day_and_night() -> None:
    """Eight days at 5 packets/s are millions, with the factor, weekends and backups asked for."""
    rhythm = Rhythm(factor=8, weekend=0.5)
    background = Background(packets_per_second=5, rhythm=rhythm)
    scenario = Scenario(start_ns=MONDAY_NS, duration_s=8 * DAY, background=background)
    parts = [hourly(packets, 8) for packets in scenario.chunks(1 << 17)]
    counts = np.sum(parts, axis=0)
    assert 3_000_000 < counts.sum() == scenario.packets < 4_500_000
    week = counts[[0, 1, 2, 3, 4, 7]].mean(axis=0)
    assert week[14] / week[2] == pytest.approx(8, rel=0.1)
    assert counts[5:7, 12:17].mean() / week[12:17].mean() == pytest.approx(0.5, rel=0.1)
    backups = counts[:, 1] - counts[:, 2]  # 20 minutes at 10 packets/s
    assert backups.mean() == pytest.approx(12_000, rel=0.15)
    assert backups.min() > 6_000


def test_the_start_is_like_the_rest() -> None:
    """Conversations are under way from the first second on: its rate is the mean rate."""
    scenario = Scenario(duration_s=20, background=Background(packets_per_second=20_000))
    seconds = (whole(scenario)["ts_ns"] - np.uint64(scenario.start_ns)) // np.uint64(S)
    rate = np.bincount(seconds.astype(np.int64))
    assert (np.abs(rate / 20_000 - 1) < 0.1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scenario(seed=-1), "seed is -1"),
        (lambda: Scenario(start_ns=0), "start_ns is 0"),
        (lambda: Scenario(duration_s=0), "duration_s is 0"),
        (lambda: Scenario(attacks=(HostScan(),) * 201), "number of attacks and look-alikes is 201"),
        (lambda: next(Scenario().chunks(0)), "size is 0"),
        (lambda: Background(packets_per_second=0), "packets_per_second is 0"),
        (lambda: Background(client_bits=3), "client_bits is 3"),
        (lambda: Rhythm(factor=0.5), "factor is 0.5: give 1 to 100"),
        (lambda: Rhythm(weekend=0), "weekend is 0"),
        (lambda: Rhythm(busiest_hour=24.5), "busiest_hour is 24.5"),
    ],
)
def test_absurd_parameters_are_refused(make: Any, message: str) -> None:
    """Each parameter out of its range is refused by name."""
    with pytest.raises(ValueError, match=message):
        make()
