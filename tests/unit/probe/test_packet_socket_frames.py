"""Slots of a ring, made here, to records."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from probe.capture import linktypes
from probe.capture.frame import decode_frame
from probe.packet_socket import frames, segments
from probe.packet_socket.frames import SLOT_BYTES, SNAP_BYTES
from probe.packet_socket.ring import FrameRing
from schemas.record import PACKET, Packets, as_words
from tests.support.traffic import CASES, ETHERNET, eth, inner, ip4, ip6, random_frame

TS = (1_700_000_000, 123_456_789)
TS_NS = TS[0] * 10**9 + TS[1]
VLAN_VALID, READY = 0x10, 1
TCPV4, UDP_L4, ECN, NEEDS_CSUM = 1, 5, 0x80, 1


@dataclass
class Slot:
    """One frame as the kernel leaves it."""

    frame: bytes
    tci: int | None = None
    packet_type: int = 0
    length: int | None = None
    vnet: bytes = bytes(10)
    mac: int = 90

    def to_bytes(self, status: int = READY) -> bytes:
        captured = self.frame[:SNAP_BYTES]
        status |= VLAN_VALID if self.tci is not None else 0
        length = len(self.frame) if self.length is None else self.length
        head = struct.pack(
            *("<IIIHHIIHH4x", status, length, len(captured), self.mac, self.mac + 14, *TS),
            *(self.tci or 0, 0x8100),
        )
        address = struct.pack("<HHiHBB8x", 17, 0, 2, 1, self.packet_type, 6)
        before = (head + address).ljust(self.mac - 10, b"\xee") + self.vnet
        return (before + captured).ljust(SLOT_BYTES, b"\xdd")


def memory(*slots: Slot) -> bytearray:
    return bytearray(b"".join(slot.to_bytes() for slot in slots))


def read(*slots: Slot, link_type: int = ETHERNET, decapsulate: bool = False) -> Packets:
    ring = FrameRing(memory(*slots), 7, link_type, decapsulate=decapsulate)
    out = np.zeros(len(slots), PACKET)
    assert ring.read(out) == len(slots)
    return out


def plain(*slots: Slot) -> Packets:
    """The same by the kernel's Python."""
    ring = np.frombuffer(memory(*slots), np.uint8)
    out = np.zeros(len(slots), PACKET)
    frames.decode_slots.py_func(ring, 0, len(slots), ETHERNET, 7, False, as_words(out))
    return out


def gso(kind: int, size: int, checksum_start: int | None = None) -> bytes:
    flags = 0 if checksum_start is None else NEEDS_CSUM
    return struct.pack("<BBHHHH", flags, kind, 0, size, checksum_start or 0, 16)


@pytest.mark.parametrize("name", [name for name, (link, _) in CASES.items() if link == ETHERNET])
@pytest.mark.parametrize("decapsulate", [False, True])
def test_a_frame_is_what_the_file_decoder_says(name: str, decapsulate: bool) -> None:
    """A slot's record is the frame's, with the slot's time, interface, direction and point."""
    frame = CASES[name][1]
    expected = np.zeros(1, PACKET)
    buffer = np.frombuffer(frame, np.uint8)
    decode_frame(
        *(buffer, 0, len(frame), ETHERNET, np.uint64(TS_NS), len(frame), 7, 1, decapsulate),
        *(as_words(expected), 0),
    )
    expected["capture_point"] = 3
    slot = Slot(frame)
    np.testing.assert_array_equal(read(slot, decapsulate=decapsulate), expected)
    if not decapsulate:
        np.testing.assert_array_equal(plain(slot), expected)


@pytest.mark.parametrize(("packet_type", "direction"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)])
def test_direction(packet_type: int, direction: int) -> None:
    """Outgoing frames are egress; to us, to all, to many and to others came in."""
    slot = Slot(CASES["ipv4 tcp"][1], packet_type=packet_type)
    assert read(slot)["direction"] == direction
    assert plain(slot)["direction"] == direction


@pytest.mark.parametrize("tci", [0x0001, 0x2FA0, 0xFFFF, 0])
@pytest.mark.parametrize("name", ["ipv4 tcp", "vlan", "arp", "llc"])
def test_a_tag_that_was_taken_off_comes_back(tci: int, name: str) -> None:
    """The tag is the outermost VLAN and four more bytes; the rest is unchanged."""
    frame = CASES[name][1]
    without, with_tag = read(Slot(frame), Slot(frame, tci=tci))
    assert with_tag["vlan_id"] == tci & 0xFFF
    assert with_tag["wire_bytes"] == len(frame) + 4
    for field in PACKET.names or ():
        if field not in ("vlan_id", "wire_bytes"):
            np.testing.assert_array_equal(with_tag[field], without[field])
    np.testing.assert_array_equal(plain(Slot(frame, tci=tci))[0], with_tag)


def test_long_frames_keep_their_length() -> None:
    """A frame longer than what is captured of it counts whole."""
    frame = bytes(eth() / ip4() / UDP() / Raw(bytes(1400)))
    record = read(Slot(frame))[0]
    assert record["wire_bytes"] == len(frame) > SNAP_BYTES
    assert record["packets"] == 1
    assert record["flags"] == 0


@pytest.mark.parametrize("mac", [76, 86, 90, 96])
def test_the_frame_is_where_the_header_says(mac: int) -> None:
    """The kernel aligns the network layer, so frames begin in several places."""
    slot = Slot(CASES["ipv6 udp"][1], mac=mac)
    np.testing.assert_array_equal(read(slot), read(Slot(slot.frame)))


WITH_OPTIONS = TCP(sport=1, dport=80, options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))])
INNER_TCP = inner() / ip4() / TCP()
STACKS: dict[str, tuple[Packet, int, int]] = {
    "tcp": (eth() / ip4() / TCP(), TCPV4, 54),
    "tcp with options": (eth() / ip4() / WITH_OPTIONS, TCPV4, 66),
    "tcp, ipv6": (eth() / ip6() / TCP(), 4, 74),
    "tcp behind an extension": (eth() / ip6() / IPv6ExtHdrDestOpt() / TCP(), 4, 82),
    "tcp, vlan": (eth() / Dot1Q(vlan=5) / ip4() / TCP(), TCPV4, 58),
    "tcp, ECN": (eth() / ip4() / TCP(), TCPV4 | ECN, 54),
    "udp": (eth() / ip4() / UDP(), UDP_L4, 42),
    "udp, ipv6": (eth() / ip6() / UDP(), UDP_L4, 62),
    "vxlan": (eth() / ip4() / UDP(dport=4789) / VXLAN(vni=1) / INNER_TCP, TCPV4, 104),
    "gre": (eth() / ip4() / GRE() / ip6() / TCP(), TCPV4, 98),
    "ip in ip": (eth() / ip4() / ip4() / TCP(), TCPV4, 74),
}


@pytest.mark.parametrize("with_start", [True, False], ids=["told", "walked"])
@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize(
    ("payload", "size", "count"), [(1000, 100, 10), (1001, 100, 11), (99, 100, 1)]
)
def test_coalesced_buffers_count_their_segments(
    name: str, tagged: bool, with_start: bool, payload: int, size: int, count: int
) -> None:
    """Packets are the segments; bytes those of all of them, each with all headers and the tag."""
    packet, kind, headers = STACKS[name]
    frame = bytes(packet / Raw(bytes(payload)))
    assert len(frame) == headers + payload
    tcp = packet.lastlayer()
    start = headers - len(bytes(tcp)) if with_start else None
    slot = Slot(frame, tci=3 if tagged else None, vnet=gso(kind, size, start))
    for record in (read(slot)[0], plain(slot)[0]):
        assert record["packets"] == count
        assert record["wire_bytes"] == payload + count * (headers + 4 * tagged)
        assert record["flags"] == (8 if count > 1 else 0)
        assert record["capture_point"] == 3


def test_a_tunnel_on_another_port_is_told_by_the_checksum() -> None:
    """Where the inner header begins is known even when the tunnel isn't."""
    packet = eth() / ip4() / UDP(dport=4444) / VXLAN(vni=1) / INNER_TCP
    frame = bytes(packet / Raw(bytes(1000)))
    told, walked = read(Slot(frame, vnet=gso(TCPV4, 100, 84)), Slot(frame, vnet=gso(TCPV4, 100)))
    assert (told["packets"], told["wire_bytes"]) == (10, 1000 + 10 * 104)
    assert walked["packets"] == 11  # (1000 + 62) / 100: what looks like payload counts as that


def test_a_buffer_larger_than_16_bits() -> None:
    """BIG TCP: lengths are not cut to 16 bits."""
    frame = bytes(eth() / ip6(plen=0) / TCP())
    record = read(Slot(frame, length=74 + 180_000, vnet=gso(4, 1000, 54)))[0]
    assert (record["packets"], record["wire_bytes"]) == (180, 180_000 + 180 * 74)


@pytest.mark.parametrize("kind", [0, TCPV4])
def test_no_segment_size_means_one_packet(kind: int) -> None:
    """A header of offloads without segmentation changes nothing."""
    frame = CASES["ipv4 tcp"][1]
    vnet = gso(kind, 0 if kind else 100, 34)
    np.testing.assert_array_equal(read(Slot(frame, vnet=vnet)), read(Slot(frame)))


@given(st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_headers_end_inside_any_frame(seed: int, data: st.DataObject) -> None:
    """Whatever is captured, headers end inside it, and compiled and plain agree."""
    frame = random_frame(Random(seed))
    end = data.draw(st.integers(0, len(frame)))
    junk = data.draw(st.integers(0, 3))
    broken = bytearray(frame)
    for _ in range(junk):
        broken[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    buffer = np.frombuffer(bytes(broken[:end]), np.uint8)
    out = np.zeros((1, 11), np.uint64)
    for link_type in (ETHERNET, linktypes.RAW):
        arguments: tuple[Any, ...] = buffer, 0, end, link_type, out, 0
        headers = segments.header_bytes(*arguments)
        assert 0 <= headers <= end
        assert segments.header_bytes.py_func(*arguments) == headers


@given(st.integers(1, 200_000), st.integers(1, 9000), st.integers(0, 300))
@settings(max_examples=100)
def test_segments_cover_the_payload(payload: int, size: int, headers: int) -> None:
    """So many segments hold the payload, one fewer don't."""
    for count_segments in (segments.count_segments, segments.count_segments.py_func):
        count = count_segments(payload + headers, headers, size)
        assert (count - 1) * size < payload <= count * size


def test_a_later_fragment_has_no_transport_header() -> None:
    """Headers of a fragment end with the layer that says so."""
    frame = bytes(eth() / ip6() / IPv6ExtHdrFragment(offset=9, nh=6) / Raw(bytes(40)))
    out = np.zeros((1, 11), np.uint64)
    buffer = np.frombuffer(frame, np.uint8)
    assert segments.header_bytes(buffer, 0, len(frame), ETHERNET, out, 0) == 0
