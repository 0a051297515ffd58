"""Coalesced buffers: what we count agrees with what the kernel counts, to the packet and byte.

With segmentation offload a sender hands buffers of up to 64 KiB to the device, and with GRO a
receiver merges what comes in; what we report is what is on the wire. On a veth pair buffers
cross as they are, so the counters mean different things:

==========================  =====================================================================
``TcpOutSegs`` plus         segments that TCP sent, however they were bundled; ``TcpInSegs``
``TcpRetransSegs``          counts buffers, after GRO
``tc -s qdisc`` of sender   segments and their true bytes: the queue adds the headers that each
                            segment of a buffer will repeat, even in a tunnel
tx of the device            buffers as the device got them: a buffer that it was to cut itself
                            (TSO on) is one packet with one set of headers; a TC program on egress
                            comes before software cuts buffers, AF_PACKET after it
rx of the device            what the peer sent, before GRO
bytes of either             with Ethernet headers, unless the receiving end polls (it has GRO and
                            the sender no TSO, or it has native XDP): veth then counts the bytes
                            behind them
==========================  =====================================================================

No layer 2 is counted that a wire would add: neither preamble and frame check sequence, nor
padding of short frames.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from schemas.record import CapturePoint, Direction, PacketFlag, Packets
from tests.support.live import Method, Missing, Recorder, capturing, param
from tests.support.namespaces import (
    DEVICE,
    Counters,
    End,
    counters,
    inside,
    offload,
    pair,
    run,
    running,
    snmp,
)

pytestmark = pytest.mark.requires("iperf3", "ethtool")

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
ON_BUFFERS = ("AF_PACKET", "tcx")
"""Methods that meet coalesced buffers; XDP comes before them."""
ON_BUFFERS_TOO = ("tcx, BCC", "clsact")
"""The same programs in other hands."""

RING_BYTES = 64 * 2**20
ETHERNET_BYTES = 14
TCP_HEADERS = {4: 14 + 20 + 32, 6: 14 + 40 + 32}
"""Bytes before the payload of a segment with timestamps, which all data segments have."""


@dataclass
class Side:
    """What one end's capture and kernel saw of an exchange."""

    records: Packets
    device: Counters
    segments: int
    queue: tuple[int, int]

    def way(self, direction: Direction) -> Packets:
        return self.records[self.records["direction"] == direction]


def total(records: Packets) -> tuple[int, int]:
    """Packets and bytes."""
    return int(records["packets"].sum()), int(records["wire_bytes"].sum(dtype=np.uint64))


def queue(name: str) -> tuple[int, int]:
    """Packets and bytes that left the device's queue."""
    shown = json.loads(run(name, "tc", "-s", "-j", "qdisc", "show", "dev", DEVICE))
    root = next(each for each in shown if each.get("root"))
    return root["packets"], root["bytes"]


def tcp_segments(name: str) -> int:
    values = snmp(name)
    return values["TcpOutSegs"] + values["TcpRetransSegs"]


@contextlib.contextmanager
def watched(method: Method, missing: Missing, ends: tuple[End, End]) -> Iterator[list[Side]]:
    """Record at both ends during the block; its list holds both sides afterwards."""
    names = [end.name for end in ends]
    for name in names:
        run(name, "tc", "qdisc", "replace", "dev", DEVICE, "root", "pfifo", "limit", "10000")
    sides: list[Side] = []
    with contextlib.ExitStack() as stack:
        recorders = [
            Recorder(stack.enter_context(capturing(method, end, missing, ring_bytes=RING_BYTES)))
            for end in ends
        ]
        before = [(counters(name), tcp_segments(name), queue(name)) for name in names]
        with recorders[0], recorders[1]:
            yield sides
            _wait_until_silent(names)
        for recorder, name, (device, segments, left) in zip(recorders, names, before, strict=True):
            counts = recorder.counts
            assert sum(counts.dropped.values()) == 0
            assert counts.seen == total(recorder.records)[0]
            packets, bytes_ = queue(name)
            sides.append(
                Side(
                    recorder.records,
                    counters(name) - device,
                    tcp_segments(name) - segments,
                    (packets - left[0], bytes_ - left[1]),
                )
            )


def _wait_until_silent(names: list[str]) -> None:
    """Late acknowledgements of a closed connection come within the delayed-ACK time."""
    last = None
    while last != (last := [counters(name) for name in names]):
        time.sleep(0.1)


def iperf(client: End, server: End, address: str, *argv: str) -> None:
    with running(server.name, "iperf3", "--server", "--one-off", "--forceflush") as process:
        assert process.stdout
        while "listening" not in process.stdout.readline():
            assert process.poll() is None
        run(client.name, "iperf3", "--client", address, *argv)


@pytest.mark.parametrize(
    "case",
    [
        *(
            param(name, cut_late, merge, version)
            for name in ON_BUFFERS
            for cut_late, merge, version in itertools.product((True, False), (True, False), (4, 6))
        ),
        *(param(name, True, True, 4) for name in ON_BUFFERS_TOO),
    ],
)
def test_tcp(case: tuple[Method, bool, bool, int], missing: Missing) -> None:
    """A TCP transfer is counted as its segments, whoever cuts (TSO) or merges (GRO) them."""
    method, cut_late, coalesce, version = case
    with pair() as ends:
        sender, receiver = ends
        for end in ends:
            offload(end.name, cut_late, features=("tso", "gso"))
            offload(end.name, coalesce, features=("gro",))
        with watched(method, missing, ends) as sides:
            # The window keeps the receiver's ring (256 frames with GRO) from overflowing.
            address = receiver.ipv4 if version == 4 else receiver.ipv6
            iperf(sender, receiver, address, "--bytes", "12M", "--window", "128K")
    sent, received = sides

    for side in sides:
        assert total(side.way(EGRESS))[0] == side.segments
        assert total(side.way(EGRESS)) == side.queue
    assert total(sent.way(EGRESS)) == total(received.way(INGRESS))
    assert total(sent.way(INGRESS)) == total(received.way(EGRESS))

    for side in sides:
        for records, seen, of_device, bytes_of_device in (
            (side.way(EGRESS), "tx", side.device.tx_packets, side.device.tx_bytes),
            (side.way(INGRESS), "rx", side.device.rx_packets, side.device.rx_bytes),
        ):
            packets, wire_bytes = total(records)
            merged = packets - of_device  # segments whose headers the device didn't see
            polled = of_device if coalesce and not cut_late else 0
            uncounted = merged * TCP_HEADERS[version] + polled * ETHERNET_BYTES
            assert wire_bytes - uncounted == bytes_of_device, seen
            if not cut_late:
                assert merged == 0
    buffers = len(sent.way(EGRESS)), len(received.way(INGRESS))
    tap = method.point == CapturePoint.AF_PACKET
    if tap:
        assert buffers[0] == sent.device.tx_packets
    if not coalesce:
        assert buffers[1] == received.device.rx_packets
    for count, whole in zip(buffers, (cut_late or not tap, cut_late or coalesce), strict=True):
        assert (count < sent.segments / 2) == whole
    for side in sides:
        marked = (side.records["flags"] & PacketFlag.COALESCED) > 0
        np.testing.assert_array_equal(marked, side.records["packets"] > 1)


@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "no offloads"])
@pytest.mark.parametrize(
    "method", [param(name) for name in (*ON_BUFFERS, "XDP native", "XDP generic")]
)
def test_udp(method: Method, offloads: bool, missing: Missing) -> None:
    """Datagrams that nothing merges are counted as the device counts them."""
    with pair() as ends:
        sender, receiver = ends
        for end in ends:
            offload(end.name, offloads)
        with watched(method, missing, ends) as sides:
            argv = ("--udp", "--bitrate", "100M", "--bytes", "2M", "--length", "1200")
            iperf(sender, receiver, receiver.ipv4, *argv)
    both_ways = method.point != CapturePoint.XDP
    polled = method.options.get("xdp_mode") == "native"
    for side in sides:
        device = side.device
        uncounted = device.rx_packets * ETHERNET_BYTES if polled else 0
        assert total(side.way(INGRESS)) == (device.rx_packets, device.rx_bytes + uncounted)
        if both_ways:
            assert total(side.way(EGRESS)) == (device.tx_packets, device.tx_bytes)
        else:
            assert len(side.way(EGRESS)) == 0
    assert len(sides[1].way(INGRESS)) > 1700


@pytest.mark.parametrize("method", [param(name) for name in ON_BUFFERS])
@pytest.mark.parametrize("offloads", [True, False], ids=["offloads", "no offloads"])
@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_udp_segmentation(method: Method, offloads: bool, version: int, missing: Missing) -> None:
    """A UDP buffer cut by the kernel (UDP_SEGMENT) counts each datagram and its headers."""
    udp_segment, segment, last, sends = 103, 1000, 500, 13
    headers = (34 if version == 4 else 54) + 8
    with pair() as ends:
        sender, receiver = ends
        for end in ends:
            offload(end.name, offloads, features=("gso", "gro", "tx-udp-segmentation"))
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        address = receiver.ipv4 if version == 4 else receiver.ipv6
        with contextlib.ExitStack() as stack:
            with inside(receiver.name):
                sink = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sink.bind((address, 9))
            with inside(sender.name):
                source = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            source.setsockopt(socket.IPPROTO_UDP, udp_segment, segment)
            with watched(method, missing, ends) as sides:
                for _ in range(sends):
                    source.sendto(bytes(10 * segment + last), (address, 9))
    packets = 11 * sends
    expected = packets, sends * (10 * segment + last) + packets * headers
    assert total(sides[0].way(EGRESS)) == sides[0].queue == expected
    assert total(sides[1].way(INGRESS)) == expected
    if offloads:
        assert len(sides[1].way(INGRESS)) == sends


@pytest.mark.parametrize(
    "way", [*(param(name, 4789) for name in ON_BUFFERS), param("AF_PACKET", 4444)]
)
def test_tcp_in_vxlan(way: tuple[Method, int], missing: Missing) -> None:
    """Segments inside a tunnel repeat the outer and the inner headers.

    On a port that isn't VXLAN's only AF_PACKET learns of the tunnel, from where the checksum is.
    """
    method, port = way
    with pair() as ends:
        for number, (end, peer) in enumerate(zip(ends, reversed(ends), strict=True), 1):
            tunnel = f"type vxlan id 42 remote {peer.ipv4} dstport {port} dev {DEVICE} nolearning"
            near, far = f"02:78:00:00:00:0{number}", f"02:78:00:00:00:0{3 - number}"
            for command in (
                f"link add inner address {near} {tunnel}",
                "link set inner addrgenmode none arp off",
                "link set inner up",
                f"address add 10.78.0.{number}/24 dev inner",
                f"neighbour replace 10.78.0.{3 - number} lladdr {far} nud permanent dev inner",
            ):
                run(end.name, "ip", *command.split())
        with watched(method, missing, ends) as sides:
            iperf(*ends, "10.78.0.2", "--bytes", "6M", "--window", "128K")
    sent, received = sides
    for side in sides:
        assert total(side.way(EGRESS)) == side.queue
        assert total(side.way(EGRESS))[0] == side.segments
    assert total(sent.way(EGRESS)) == total(received.way(INGRESS))
    assert len(sent.way(EGRESS)) < sent.segments / 2
