"""Each kind of frame, sent through a veth pair, becomes exactly its record.

What a frame should become is what the file decoder makes of the same bytes, and, told apart from
all of our code, what scapy reads in it. Each kind is sent a prime number of times, another one
for each, so that no mix of losses and repeats adds up.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Raw

from probe.capture import CaptureFile
from probe.live import LiveCapture
from schemas.record import PACKET, Direction, Packets
from tests.support.live import Method, Missing, capturing, param
from tests.support.namespaces import DEVICE, End, pair, send
from tests.support.traffic import CASES, ETHERNET, MACS, eth, expected, ip4, ip6, pcap, text

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
SECONDS = 60.0


IN = ("AF_PACKET", "tcx", "tcx, BCC", "clsact", "XDP native", "XDP native, BCC", "XDP generic")
OUT = ("AF_PACKET", "tcx", "tcx, BCC", "clsact")
WAYS = [param(name, INGRESS) for name in IN] + [param(name, EGRESS) for name in OUT]
AGGREGATING = [
    *(param(name, INGRESS) for name in ("tcx", "tcx, BCC", "XDP native")),
    *(param(name, EGRESS) for name in ("tcx", "clsact")),
]


def _kinds() -> dict[str, list[bytes]]:
    kinds = {name: [frame] for name, (link, frame) in CASES.items() if link == ETHERNET}
    body = Raw(b"body")
    flags4 = [eth() / ip4() / TCP(sport=4000, dport=80, flags=n) / body for n in range(256)]
    flags6 = [eth() / ip6() / TCP(sport=4000, dport=80, flags=n) / body for n in range(256)]
    addresses = bytes(eth())[:12]
    return kinds | {
        "tcp flags, ipv4": [bytes(packet) for packet in flags4],
        "tcp flags, ipv6": [bytes(packet) for packet in flags6],
        "tcp flags, vlan": [bytes(eth() / Dot1Q(vlan=n + 1) / flags4[n][1]) for n in range(256)],
        "three vlans": [
            bytes(eth() / Dot1AD(vlan=4001) / Dot1AD(vlan=4002) / Dot1Q(vlan=4003) / ip4() / body)
        ],
        "priority tag": [bytes(eth() / Dot1Q(vlan=0, prio=7) / ip4() / UDP(dport=9) / body)],
        "largest": [bytes(eth() / ip4() / UDP(sport=1, dport=2) / Raw(bytes(1472)))],
        "broadcast": [bytes(eth(dst="ff:ff:ff:ff:ff:ff") / ip4() / UDP(sport=1, dport=2))],
        "multicast": [bytes(eth(dst="33:33:00:00:00:fb") / ip6(dst="ff02::fb") / UDP(dport=5353))],
        "only an Ethernet header": [addresses + b"\x88\xcc"],
        "cut IPv4": [addresses + b"\x08\x00" + bytes(ip4() / UDP())[:n] for n in range(28)],
        "cut IPv6": [addresses + b"\x86\xdd" + bytes(ip6() / TCP())[:n] for n in range(60)],
        "802.3 of each length": [addresses + n.to_bytes(2, "big") + bytes(n) for n in range(60)],
    }


KINDS = _kinds()
WITHOUT_TWIN = {"cut IPv4", "cut IPv6", "802.3 of each length", "ipv6 mobility"}
"""Kinds that scapy doesn't read as we do: malformed, or a header it takes for the payload."""


def _primes() -> Iterator[int]:
    return (n for n in itertools.count(3) if all(n % k for k in range(2, n)))


# A prime for each kind; about as many frames of each.
_PRIMES = list(itertools.islice(_primes(), 25, 25 + len(KINDS)))
TIMES = {
    name: prime if len(frames) == 1 else (7, 11, 13, 17, 19, 23)[i % 6]
    for i, ((name, frames), prime) in enumerate(zip(KINDS.items(), _PRIMES, strict=True))
}

VARYING = ("ts_ns", "if_index", "direction", "capture_point")
"""Fields that tell where and when a packet was seen, not what it is."""


@dataclass
class Bench:
    """A capture at one end of a veth pair, and what it saw so far."""

    method: Method
    direction: Direction
    sender: End
    capture: LiveCapture
    buffer: Packets = field(default_factory=lambda: np.empty(20_000, PACKET))

    def exchange(self, frames: list[bytes], times: int) -> Packets:
        """Send frames and read until as many packets were seen, and once more."""
        before = self.capture.counts()
        sent = send(self.sender.name, frames, times=times)
        rows = 0
        deadline = time.monotonic() + SECONDS
        while True:
            seen = self.capture.counts().seen - before.seen
            taken = self.capture.read(self.buffer[rows:])
            rows += taken
            if (not taken and seen >= sent) or time.monotonic() > deadline:
                break
        after = self.capture.counts()
        assert sum(after.dropped.values()) == 0
        assert after.filtered == 0
        assert after.seen - before.seen == sent
        return self.buffer[:rows].copy()


@contextlib.contextmanager
def one_way(
    method: Method, direction: Direction, missing: Missing, **more: Any
) -> Iterator[tuple[End, LiveCapture]]:
    """The sender, and a capture at the end where what it sends goes in that direction."""
    with pair() as (sender, receiver):
        end = sender if direction == EGRESS else receiver
        with capturing(method, end, missing, direction, **more) as capture:
            yield sender, capture


@pytest.fixture(scope="module", params=WAYS)
def bench(request: pytest.FixtureRequest, missing: Missing) -> Iterator[Bench]:
    method, direction = request.param
    with one_way(method, direction, missing) as (sender, capture):
        yield Bench(method, direction, sender, capture)


def from_file(frames: list[bytes], directory: Path) -> Packets:
    path = directory / "frames.pcap"
    path.write_bytes(pcap(frames))
    with CaptureFile(path) as capture:
        return capture.read(len(frames)).copy()


@pytest.mark.parametrize("kind", KINDS)
def test_each_frame_is_one_record(bench: Bench, kind: str, tmp_path: Path) -> None:
    """As many records as frames, in order, each what the file decoder makes of the frame."""
    frames, times = KINDS[kind], TIMES[kind]
    start_ns = time.time_ns()
    records = bench.exchange(frames, times)
    end_ns = time.time_ns()
    assert len(records) == len(frames) * times
    decoded = np.tile(from_file(frames, tmp_path), times)
    for name in PACKET.names or ():
        if name not in VARYING:
            np.testing.assert_array_equal(records[name], decoded[name], err_msg=name)
    if kind not in WITHOUT_TWIN:
        for record, frame in zip(records, frames, strict=False):
            twin = expected(ETHERNET, frame) | {"direction": int(bench.direction)}
            assert text(record) | {"if_index": 0} == twin
    assert (records["wire_bytes"][: len(frames)] == [len(frame) for frame in frames]).all()
    assert (records["packets"] == 1).all()
    assert (records["direction"] == bench.direction).all()
    assert (records["capture_point"] == bench.method.point).all()
    assert set(records["if_index"]) == set(bench.capture.interfaces)
    assert bench.capture.interfaces[int(records["if_index"][0])] == DEVICE
    slack_ns = 20_000_000  # of a clock that is turned from ticks into time of day
    assert (records["ts_ns"] > start_ns - slack_ns).all()
    assert (records["ts_ns"] < end_ns + slack_ns).all()


def _totals(records: Packets) -> dict[bytes, Counter[str]]:
    """Packets and bytes by everything that tells flows apart, and TCP flags together."""
    keys = records.copy()
    for name in (*VARYING, "wire_bytes", "packets", "duration_us", "tcp_flags", "reserved"):
        keys[name] = 0
    for name in ("ttl", "tos", "src_mac", "dst_mac"):
        keys[name] = 0  # a flow has just one of each, from any of its packets
    totals: dict[bytes, Counter[str]] = {}
    for key, record in zip(keys, records, strict=True):
        total = totals.setdefault(key.tobytes(), Counter())
        total["packets"] += int(record["packets"])
        total["bytes"] += int(record["wire_bytes"])
        total["tcp_flags"] |= int(record["tcp_flags"])
    return totals


@pytest.mark.parametrize("way", AGGREGATING)
def test_flows_of_all_kinds_add_up(
    way: tuple[Method, Direction], missing: Missing, tmp_path: Path
) -> None:
    """Aggregated in the kernel, packets and bytes of each flow are those of its frames."""
    frames = [frame for kind, each in KINDS.items() for frame in each * TIMES[kind]]
    np.random.default_rng(1).shuffle(frames)  # type: ignore[arg-type]
    buffer = np.empty(20_000, PACKET)
    parts = []
    with one_way(*way, missing, mode="flows") as (sender, capture):
        assert capture.aggregated
        send(sender.name, frames)
        capture.detach()
        deadline = time.monotonic() + SECONDS
        while capture.counts().seen > sum(int(part["packets"].sum()) for part in parts):
            parts.append(buffer[: capture.read(buffer)].copy())
            assert time.monotonic() < deadline
    records = np.concatenate(parts)
    assert len(records) < len(frames) / 10
    assert _totals(records) == _totals(from_file(frames, tmp_path))


def test_nothing_is_seen_that_was_not_sent(bench: Bench) -> None:
    """The namespaces are silent: without a sender there are no packets."""
    before = bench.capture.counts()
    time.sleep(0.05)
    assert bench.capture.read(bench.buffer) == 0
    assert bench.capture.counts() == before


def test_macs_are_foreign() -> None:
    """No kind is addressed to an end of the pair, which would answer."""
    assert not any(MACS["dst"] == mac for mac in ("02:77:00:00:00:01", "02:77:00:00:00:02"))
