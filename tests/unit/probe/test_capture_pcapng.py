"""The pcapng format: sections, interfaces, blocks, times."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from scapy.utils import PcapNgWriter

from probe.capture import CaptureFile, Interface
from probe.errors import CaptureError
from schemas.record import Packets
from tests.support import traffic
from tests.support.traffic import block, enhanced, interface, old_packet, option, section, simple

FRAME = traffic.CASES["ipv4 tcp"][1]
OTHER = traffic.CASES["ipv6 udp"][1]
RAW = FRAME[14:]
TIME = 1_700_000_000_123_456


def read(path: Path, *blocks: bytes) -> tuple[Packets, CaptureFile]:
    path.write_bytes(b"".join(blocks))
    with CaptureFile(path) as capture:
        return capture.read(1000), capture


@pytest.mark.parametrize("order", ["<", ">"])
def test_packet_blocks(tmp_path: Path, order: str) -> None:
    """Enhanced, old and simple packet blocks are frames, in both byte orders."""
    packets, capture = read(
        tmp_path / "a.pcapng",
        section(order),
        interface(order=order, snap_len=500),
        enhanced(FRAME, units=TIME, wire=1514, order=order),
        old_packet(OTHER, units=TIME + 1, order=order),
        simple(FRAME, order=order),
    )
    assert packets["ts_ns"].tolist() == [TIME * 1000, (TIME + 1) * 1000, 0]
    assert packets["wire_bytes"].tolist() == [1514, len(OTHER), len(FRAME)]
    wants = [traffic.expected(1, frame) for frame in (FRAME, OTHER, FRAME)]
    assert [traffic.text(packet) for packet in packets] == wants
    assert capture.truncated is None
    assert capture.interfaces == [Interface(0, "", 1, 500)]


def test_scapys_own_writer(tmp_path: Path) -> None:
    """A file that scapy writes is read with scapy's times and records."""
    path = tmp_path / "scapy.pcapng"
    packets = [traffic.dissect(1, frame) for frame in (FRAME, OTHER)]
    packets[1].time = packets[0].time = 1_600_000_000.25
    with PcapNgWriter(str(path)) as writer:
        for packet in packets:
            writer.write(packet)
    with CaptureFile(path) as capture:
        records = capture.read(10)
    assert records["ts_ns"].tolist() == [1_600_000_000_250_000_000] * 2
    assert [traffic.text(r) for r in records] == [
        traffic.expected(1, FRAME),
        traffic.expected(1, OTHER),
    ]


def test_sections_and_interfaces(tmp_path: Path) -> None:
    """Interfaces are numbered over all sections, each with its link type, unit and offset."""
    milliseconds, binary = option(9, b"\x03"), option(9, b"\x8a")
    offset = option(14, struct.pack(">q", 1000), ">")
    packets, capture = read(
        tmp_path / "a.pcapng",
        section(),
        interface(options=option(2, b"eth0") + milliseconds),
        interface(101, options=option(2, b"tun0\0") + binary),
        enhanced(FRAME, 0, 5),
        enhanced(RAW, 1, 5 * 1024 + 512),
        section(">"),
        interface(101, ">", 128, options=option(2, "wän".encode(), ">") + offset),
        enhanced(RAW, 0, 7, order=">"),
        section(),
        enhanced(FRAME, 0),
    )
    assert packets["if_index"].tolist() == [0, 1, 2, 0xFFFFFFFF]
    assert packets["ts_ns"].tolist() == [5_000_000, 5_500_000_000, 1_000_000_007_000, 0]
    assert packets["eth_type"].tolist() == [0x800, 0x800, 0x800, 0]
    assert packets["flags"].tolist() == [0, 0, 0, 2]
    assert capture.interfaces == [
        Interface(0, "eth0", 1, 0),
        Interface(1, "tun0", 101, 0),
        Interface(2, "wän", 101, 128),
    ]


def test_many_interfaces(tmp_path: Path) -> None:
    """The table of interfaces grows as needed, also between packets."""
    blocks = [interface(101) + enhanced(RAW, i) for i in range(40)]
    packets, _ = read(tmp_path / "a.pcapng", section(), interface(), *blocks)
    assert packets["if_index"].tolist() == list(range(40))
    assert packets["eth_type"].tolist()[1:] == [0x800] * 39


@pytest.mark.parametrize(("bits", "direction"), [(0, 0), (1, 1), (2, 2), (3, 0)])
@pytest.mark.parametrize("make", [enhanced, old_packet])
def test_direction(tmp_path: Path, make: object, bits: int, direction: int) -> None:
    """The flags option of a packet block tells inbound and outbound."""
    options = option(1, b"a comment") + option(2, struct.pack("<I", bits)) + option(0, b"")
    packets, _ = read(tmp_path / "a.pcapng", section(), interface(), make(FRAME, options=options))
    assert packets["direction"].tolist() == [direction]


@pytest.mark.parametrize("stated", [4, 32])
def test_fcs_of_the_interface(tmp_path: Path, stated: int) -> None:
    """A stated frame check sequence, in bytes or bits, isn't counted; packet flags override."""
    none = option(2, struct.pack("<I", 2 << 5))
    packets, _ = read(
        tmp_path / "a.pcapng",
        section(),
        interface(options=option(13, bytes([stated]))),
        enhanced(FRAME + bytes(4)),
        enhanced(FRAME + bytes(2), options=none),
    )
    assert packets["wire_bytes"].tolist() == [len(FRAME)] * 2


def test_other_blocks_are_skipped(tmp_path: Path) -> None:
    """Name resolution, statistics, secrets and unknown blocks are no frames."""
    others = [block(kind, bytes(12)) for kind in (4, 5, 10, 0xBAD, 0x80000001)]
    packets, capture = read(
        tmp_path / "a.pcapng", section(), *others, interface(), *others, enhanced(FRAME), *others
    )
    assert len(packets) == 1
    assert capture.frames_seen == 1
    assert capture.truncated is None


def test_simple_packets_obey_the_snap_length(tmp_path: Path) -> None:
    """A simple packet block's captured length follows from the snap length."""
    packets, _ = read(
        tmp_path / "a.pcapng",
        section(),
        interface(snap_len=34),
        simple(FRAME[:36], wire=1000),
        section(),
        interface(),
        simple(FRAME[:36], wire=1000),
    )
    assert packets["flags"].tolist() == [2, 2]
    assert packets["wire_bytes"].tolist() == [1000, 1000]
    assert traffic.text(packets[0])["src_addr"] == "::ffff:192.0.2.1"


def test_interface_that_cant_be_decoded(tmp_path: Path) -> None:
    """Frames of a foreign link type beside a known one are kept, with layer 4 unreadable."""
    packets, _ = read(
        tmp_path / "a.pcapng",
        section(),
        interface(),
        interface(189),
        enhanced(FRAME, 0, 1),
        enhanced(bytes(64), 1, 2),
    )
    assert packets["flags"].tolist() == [0, 2]
    assert packets["wire_bytes"].tolist() == [len(FRAME), 64]
    assert packets["ts_ns"].tolist() == [1000, 2000]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (section()[:20], "damaged header"),
        (section(version=(2, 0)), "unknown version"),
        (section()[:8] + bytes(20), "damaged header"),
        (section()[:4] + struct.pack("<I", 26) + section()[8:], "damaged header"),
        (section()[:4] + struct.pack("<I", 32) + section()[8:], "damaged header"),
        (section() + interface(189) + enhanced(b""), "link type 189 (USB, Linux)"),
    ],
)
def test_refusals(tmp_path: Path, data: bytes, says: str) -> None:
    """A first section that can't be read is refused in one line."""
    path = tmp_path / "a.pcapng"
    path.write_bytes(data)
    with pytest.raises(CaptureError, match=r"a\.pcapng") as caught:
        CaptureFile(path)
    assert says in str(caught.value)


def test_first_time_is_known_at_open(tmp_path: Path) -> None:
    """The first packet's time needs no reading, and reading begins with that packet."""
    path = tmp_path / "a.pcapng"
    path.write_bytes(
        b"".join([section(), interface(), enhanced(FRAME, units=3), section(), interface(101)])
        + enhanced(RAW, units=4)
    )
    with CaptureFile(path) as capture:
        assert capture.first_ts_ns == 3000
        assert capture.frames_seen == 0
        assert len(capture.interfaces) == 1
        assert capture.read(10)["if_index"].tolist() == [0, 1]
        assert len(capture.interfaces) == 2


def test_every_cut(tmp_path: Path) -> None:
    """Wherever a file is cut, whole blocks count, and only packet blocks are lost frames."""
    blocks = [
        section(),
        interface(),
        enhanced(FRAME),
        block(5, bytes(20)),
        interface(101),
        enhanced(RAW, 1),
        section(">"),
        interface(order=">"),
        simple(FRAME, order=">"),
    ]
    ends = [len(b"".join(blocks[: i + 1])) for i in range(len(blocks))]
    frames = (2, 5, 8)
    whole = b"".join(blocks)
    for size in range(len(blocks[0]), len(whole) + 1):
        packets, capture = read(tmp_path / "cut.pcapng", whole[:size])
        kept = sum(end <= size for end in ends)
        assert len(packets) == sum(i < kept for i in frames)
        assert capture.frames_seen >= len(packets)
        if size in ends:
            assert capture.truncated is None
            continue
        cut = capture.truncated
        assert cut is not None
        assert cut.offset_bytes == ends[kept - 1]
        assert cut.lost_bytes == size - ends[kept - 1]
        if size - cut.offset_bytes >= 4:
            assert cut.lost_frames == (kept in frames)
        assert capture.frames_seen == len(packets) + cut.lost_frames


@pytest.mark.parametrize(
    ("damaged", "says"),
    [
        (struct.pack("<III", 6, 8, 8), "absurd"),
        (struct.pack("<II", 5, 14) + bytes(20), "absurd"),
        (struct.pack("<II", 6, 28) + bytes(20), "absurd"),
        (block(6, struct.pack("<5I", 0, 0, 0, 100, 100) + bytes(96)), "absurd"),
        (block(3, struct.pack("<I", 300_000) + bytes(300_000)), "absurd"),
        (block(1, bytes(4)), "interface description"),
        (section()[:8] + bytes(20), "section"),
        (section(version=(3, 0)), "section"),
    ],
)
def test_damage(tmp_path: Path, damaged: bytes, says: str) -> None:
    """Damage ends the reading, keeps what came before and says what is wrong."""
    packets, capture = read(
        tmp_path / "a.pcapng", section(), interface(), enhanced(FRAME), damaged, enhanced(FRAME)
    )
    assert len(packets) == 1
    assert capture.truncated is not None
    assert says in capture.truncated.reason
