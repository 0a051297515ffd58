"""Frames become the records that scapy reads in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.capture import CaptureFile
from schemas.record import Packets
from tests.support import traffic


def decode(path: Path, link_type: int, *frames: bytes, decapsulate: bool = False) -> Packets:
    path.write_bytes(traffic.pcap(frames, link_type))
    with CaptureFile(path, decapsulate=decapsulate) as capture:
        packets = capture.read(len(frames) + 1)
        assert capture.truncated is None
    assert len(packets) == len(frames)
    return packets


@pytest.mark.parametrize("decapsulate", [False, True], ids=["outer", "inner"])
@pytest.mark.parametrize("name", traffic.CASES)
def test_agrees_with_scapy(tmp_path: Path, name: str, decapsulate: bool) -> None:
    """A frame of every kind gives the record that scapy's dissection gives."""
    link_type, frame = traffic.CASES[name]
    (record,) = decode(tmp_path / "one.pcap", link_type, frame, decapsulate=decapsulate)
    want = traffic.expected(link_type, frame, decapsulate=decapsulate)
    if name == "ipv6 mobility":
        want["ip_proto"] = 59  # scapy takes the message for upper layer; we walk past it
    assert traffic.text(record) == want
    assert record["wire_bytes"] == len(frame)
    assert record["packets"] == 1
    assert record["capture_point"] == record["reserved"] == record["duration_us"] == 0


def one(path: Path, frame: bytes, *, link_type: int = 1, decapsulate: bool = False) -> dict:
    (record,) = decode(path / "one.pcap", link_type, frame, decapsulate=decapsulate)
    return traffic.text(record)


def frame(name: str) -> bytes:
    return traffic.CASES[name][1]


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


IP = 14  # where the IP header begins in an Ethernet frame without tags


@pytest.mark.parametrize("length", [0, 1, 5, 13])
def test_less_than_a_link_header(tmp_path: Path, length: int) -> None:
    """A frame cut within its Ethernet header is a record that knows nothing but says so."""
    record = one(tmp_path, frame("ipv4 tcp")[:length])
    assert record["flags"] == 2
    assert record["eth_type"] == 0
    assert record["src_mac"] == "00:00:00:00:00:00"


@pytest.mark.parametrize(
    ("name", "at", "new"),
    [
        ("ipv4 tcp", IP, b"\x44"),
        ("ipv4 tcp", IP, b"\x65"),
        ("ipv6 tcp", IP, b"\x45"),
        ("ipv6 tcp", IP, b"\x00"),
    ],
    ids=["ihl 4", "version 6 in IPv4", "version 4 in IPv6", "version 0"],
)
def test_bad_ip_header(tmp_path: Path, name: str, at: int, new: bytes) -> None:
    """A malformed IP header keeps the type; addresses stay zero and layer 4 unreadable."""
    record = one(tmp_path, replaced(frame(name), at, new))
    assert record["eth_type"] == traffic.expected(1, frame(name))["eth_type"]
    assert (record["src_addr"], record["dst_addr"]) == ("::", "::")
    assert record["flags"] == 2
    assert record["ip_proto"] == record["ttl"] == record["dst_port"] == 0


def test_total_length_below_header(tmp_path: Path) -> None:
    """An IPv4 total length that ends within the header leaves no layer 4."""
    record = one(tmp_path, replaced(frame("ipv4 tcp"), IP + 2, b"\x00\x13"))
    assert record["flags"] == 2
    assert record["src_addr"] == "::ffff:192.0.2.1"
    assert record["dst_port"] == 0


def test_padding_is_no_payload(tmp_path: Path) -> None:
    """Bytes behind the IP datagram are never read as ports."""
    short = replaced(frame("ipv4 padded"), IP + 2, b"\x00\x16")  # two bytes of UDP remain
    assert one(tmp_path, short)["flags"] == 2
    assert one(tmp_path, short)["src_port"] == 0


def test_segmentation_offload(tmp_path: Path) -> None:
    """A payload length of 0 in IPv6 means up to the end of the frame."""
    whole = one(tmp_path, frame("ipv6 tcp"))
    assert one(tmp_path, replaced(frame("ipv6 tcp"), IP + 4, b"\0\0")) == whole


@pytest.mark.parametrize(
    ("name", "kept", "ports", "flags"),
    [
        ("ipv4 tcp", 20 + 3, (0, 0), 2),
        ("ipv4 tcp", 20 + 4, (40000, 443), 2),
        ("ipv4 tcp", 20 + 13, (40000, 443), 2),
        ("ipv4 tcp", 20 + 14, (40000, 443), 0),
        ("ipv4 udp", 20 + 3, (0, 0), 2),
        ("ipv4 udp", 20 + 4, (5000, 5001), 0),
        ("icmp", 20 + 1, (0, 0), 2),
        ("icmp", 20 + 2, (0, 3 * 256 + 13), 0),
        ("icmpv6", 40 + 1, (0, 0), 2),
        ("sctp", 20 + 3, (0, 0), 2),
        ("ipv6 hop by hop", 40 + 20, (0, 0), 2),
        ("ipv6 destination", 40 + 7, (0, 0), 2),
        ("ipv6 esp", 40, (0, 0), 0),
        ("unknown protocol", 20, (0, 0), 0),
    ],
)
def test_snapped(tmp_path: Path, name: str, kept: int, ports: tuple[int, int], flags: int) -> None:
    """A snapped frame is decoded as far as it goes and says when layer 4 isn't whole."""
    record = one(tmp_path, frame(name)[: IP + kept])
    assert (record["src_port"], record["dst_port"]) == ports
    assert record["flags"] == flags
    assert record["src_addr"] == traffic.expected(1, frame(name))["src_addr"]


@pytest.mark.parametrize(
    ("name", "kept", "eth_type"),
    [("vlan", 17, 0x8100), ("mpls ipv4", 17, 0x8847), ("mpls ipv6", 20, 0x8847)],
)
def test_cut_within_tags(tmp_path: Path, name: str, kept: int, eth_type: int) -> None:
    """A frame cut within its tags has the type of the tag that is not whole."""
    record = one(tmp_path, frame(name)[:kept])
    assert record["eth_type"] == eth_type
    assert record["flags"] == 2


@pytest.mark.parametrize("link_type", [0, 12, 14, 101, 108, 113, 228, 229, 276])
def test_empty_frame(tmp_path: Path, link_type: int) -> None:
    """A frame of no bytes is a record on every link type."""
    assert one(tmp_path, b"", link_type=link_type)["flags"] == 2


def test_raw_that_is_no_ip(tmp_path: Path) -> None:
    """Raw IP of an unknown version has no type and no readable layer 4."""
    record = one(tmp_path, b"\x10" * 40, link_type=101)
    assert (record["eth_type"], record["flags"]) == (0, 2)


def test_unknown_loopback_family(tmp_path: Path) -> None:
    """An address family other than IP has type 0 and no layer 4 to read."""
    record = one(tmp_path, b"\x07\0\0\0" + bytes(40), link_type=0)
    assert (record["eth_type"], record["flags"]) == (0, 0)


VXLAN = IP + 4 + 20 + 8  # behind a VLAN tag, IPv4 and UDP


@pytest.mark.parametrize(
    "broken",
    [
        replaced(frame("vxlan"), VXLAN, b"\x00"),
        frame("vxlan")[: VXLAN + 7],
        frame("vxlan")[: VXLAN + 8 + 13],
        frame("vxlan")[: VXLAN + 8 + 14 + 19],
        replaced(frame("vxlan"), VXLAN + 8 + 14, b"\x41"),
        replaced(frame("geneve"), IP + 28, b"\x40"),
        replaced(frame("geneve"), IP + 28, b"\x3f"),
        replaced(frame("geneve ip"), IP + 48 + 2, b"\x12\x34"),
        replaced(frame("gre"), IP + 20, b"\x00\x01"),
        replaced(frame("gre"), IP + 20, b"\x40\x00"),
        replaced(frame("gre"), IP + 22, b"\x88\xbe"),
        frame("gre")[: IP + 20 + 3],
        frame("gre all fields")[: IP + 20 + 15],
        replaced(frame("ip in ip"), IP + 20, b"\x60"),
        frame("6in4")[: IP + 20 + 39],
    ],
)
def test_unreadable_inner_packet_keeps_the_outer(tmp_path: Path, broken: bytes) -> None:
    """When what a tunnel carries can't be read, the record describes the outer packet."""
    assert one(tmp_path, broken, decapsulate=True) == one(tmp_path, broken)


def test_later_fragment_of_a_tunnel(tmp_path: Path) -> None:
    """A non-first fragment of a tunnelled packet isn't taken for a tunnel's header."""
    fragment = bytes(traffic.eth() / traffic.ip4(frag=5, proto=4) / traffic.ip4() / traffic.tcp())
    assert one(tmp_path, fragment, decapsulate=True)["flags"] == 1


def test_key_too_small_for_nvgre(tmp_path: Path) -> None:
    """Bridged GRE with a small key is gretap, whose key is taken whole."""
    assert one(tmp_path, frame("gretap"), decapsulate=True)["tunnel_id"] == 78
    assert one(tmp_path, frame("nvgre"), decapsulate=True)["tunnel_id"] == 0x5000
