"""The pcap format in all its variants."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scapy.utils import wrpcap

from probe.capture import CaptureFile, Interface
from probe.errors import CaptureError
from schemas.record import Packets
from tests.support import traffic

FRAME = traffic.CASES["ipv4 tcp"][1]
OTHER = traffic.CASES["ipv6 udp"][1]


def read(path: Path, data: bytes) -> tuple[Packets, CaptureFile]:
    path.write_bytes(data)
    with CaptureFile(path) as capture:
        return capture.read(1000), capture


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit_ns"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_byte_orders_and_units(tmp_path: Path, order: str, magic: int, unit_ns: int) -> None:
    """Both byte orders and both units of time give the same records."""
    data = traffic.pcap_header(magic=magic, order=order, snap_len=99) + b"".join(
        [
            traffic.pcap_record(FRAME, (1_700_000_000, 999_999), 1514, order),
            traffic.pcap_record(OTHER, (2**32 - 1, 1), None, order),
        ]
    )
    packets, capture = read(tmp_path / "a.pcap", data)
    assert packets["ts_ns"].tolist() == [
        1_700_000_000 * 10**9 + 999_999 * unit_ns,
        (2**32 - 1) * 10**9 + unit_ns,
    ]
    assert packets["wire_bytes"].tolist() == [1514, len(OTHER)]
    assert traffic.text(packets[0]) == traffic.expected(1, FRAME)
    assert traffic.text(packets[1]) == traffic.expected(1, OTHER)
    assert capture.interfaces == [Interface(0, "", 1, 99)]
    assert capture.truncated is None
    assert capture.frames_seen == 2


@pytest.mark.parametrize("nano", [False, True])
def test_scapys_own_writer(tmp_path: Path, nano: bool) -> None:
    """A file that scapy writes is read with scapy's times."""
    path = tmp_path / "scapy.pcap"
    packet = traffic.dissect(1, FRAME)
    packet.time = 1_600_000_000.25
    wrpcap(str(path), [packet], nano=nano)
    with CaptureFile(path) as capture:
        (record,) = capture.read(10)
    assert record["ts_ns"] == 1_600_000_000_250_000_000
    assert traffic.text(record) == traffic.expected(1, FRAME)


@pytest.mark.parametrize("order", ["<", ">"])
def test_longer_record_headers(tmp_path: Path, order: str) -> None:
    """Kuznetzov's variant has eight more bytes before each frame."""
    data = traffic.pcap_header(magic=0xA1B2CD34, order=order)
    for frame in (FRAME, OTHER):
        head = struct.pack(f"{order}IIII", 7, 8, len(frame), len(frame))
        data += head + struct.pack(f"{order}IHBB", 3, 0x800, 0, 0) + frame
    packets, _ = read(tmp_path / "a.pcap", data)
    assert [traffic.text(p) for p in packets] == [
        traffic.expected(1, FRAME),
        traffic.expected(1, OTHER),
    ]


def test_fcs_is_taken_off(tmp_path: Path) -> None:
    """When the header states a frame check sequence, lengths don't count it."""
    link_type = 1 | 0x04000000 | 2 << 28  # two 16-bit words
    data = traffic.pcap_header(link_type)
    data += traffic.pcap_record(FRAME + b"\xaa" * 4)
    data += traffic.pcap_record(FRAME, wire=len(FRAME) + 4)
    data += traffic.pcap_record(b"", wire=2)
    packets, _ = read(tmp_path / "a.pcap", data)
    assert packets["wire_bytes"].tolist() == [len(FRAME), len(FRAME), 0]


def test_unstated_fcs_length_is_ignored(tmp_path: Path) -> None:
    """Bits for the length of a frame check sequence mean nothing without their flag."""
    packets, _ = read(tmp_path / "a.pcap", traffic.pcap([FRAME], 1 | 2 << 28))
    assert packets["wire_bytes"].tolist() == [len(FRAME)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (traffic.pcap_header()[:23], "cut off inside its header"),
        (traffic.pcap_header(version=(2, 3)), "version 2.3"),
        (traffic.pcap_header(105), "link type 105 (IEEE 802.11)"),
        (traffic.pcap_header(999), "link type 999,"),
    ],
)
def test_refusals(tmp_path: Path, data: bytes, says: str) -> None:
    """A header that can't be used is refused in one line that names the file and the fault."""
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    with pytest.raises(CaptureError) as caught:
        CaptureFile(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_every_cut(tmp_path: Path) -> None:
    """Wherever a file is cut, whole records are kept and the lost one is told."""
    frames = [FRAME, OTHER, b"", FRAME[:20]]
    whole = traffic.pcap(frames)
    want, _ = read(tmp_path / "whole.pcap", whole)
    starts = np.cumsum([24] + [16 + len(frame) for frame in frames]).tolist()
    for size in range(24, len(whole)):
        packets, capture = read(tmp_path / "cut.pcap", whole[:size])
        kept = sum(start <= size for start in starts) - 1
        assert packets.tobytes() == want[:kept].tobytes()
        if size in starts:
            assert capture.truncated is None
            assert capture.frames_seen == kept
        else:
            assert capture.truncated is not None
            assert capture.truncated.offset_bytes == starts[kept]
            assert capture.truncated.lost_bytes == size - starts[kept]
            assert capture.truncated.lost_frames == 1
            assert "the file ends inside a record" in capture.truncated.reason
            assert capture.frames_seen == kept + 1


def test_absurd_length(tmp_path: Path) -> None:
    """A captured length that no frame has stops reading, also when the file goes on."""
    bad = struct.pack("<IIII", 0, 0, 262_145, 60)
    data = traffic.pcap([FRAME]) + bad + bytes(300_000)
    packets, capture = read(tmp_path / "a.pcap", data)
    assert len(packets) == 1
    assert capture.truncated is not None
    assert "absurd" in capture.truncated.reason
    assert capture.truncated.lost_bytes == 300_016
