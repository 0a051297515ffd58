"""Frames cut out of capture files are whole, in order, and readable by others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scapy.utils import RawPcapNgReader

from probe.capture import CaptureFile
from probe.capture.extract import Choose, Extracted, extract, new_file
from probe.errors import CaptureError
from schemas.record import Packets
from tests.support import traffic
from tests.support.traffic import enhanced, interface, old_packet, option, section, simple

TCP = traffic.CASES["ipv4 tcp"][1]
UDP = traffic.CASES["ipv6 udp"][1]
ODD = TCP + b"x"
TIME = 1_700_000_000_123_456
NANOSECONDS = option(9, b"\x09")


def everything(packets: Packets) -> np.ndarray:
    return np.ones(len(packets), np.bool_)


def only(*numbers: int) -> Choose:
    """Chooses frames by their position."""
    return lambda packets: np.isin(np.arange(len(packets)), numbers)


def cut(path: Path, choose: Choose, *sources: bytes) -> tuple[Extracted, bytes]:
    """Extract from files with these contents into ``path``."""
    paths = []
    for number, data in enumerate(sources):
        paths.append(path.with_suffix(f".{number}"))
        paths[-1].write_bytes(data)
    out = io.BytesIO()
    done = extract(paths, choose, out)
    path.write_bytes(out.getvalue())
    return done, out.getvalue()


def records(path: Path) -> Packets:
    with CaptureFile(path) as capture:
        packets = capture.read(1000)
        assert capture.truncated is None
    return packets


def frames(path: Path) -> list[bytes]:
    """What scapy reads."""
    with RawPcapNgReader(str(path)) as reader:
        return [data for data, _ in reader]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_pcap_keeps_times_lengths_and_frames(tmp_path: Path, order: str, magic: int) -> None:
    """Records of a pcap file read the same, by us and by scapy, in all its variants."""
    given = [TCP, ODD, UDP, TCP[:20], b""]
    data = traffic.pcap_header(magic=magic, order=order, snap_len=3000) + b"".join(
        traffic.pcap_record(frame, (1_700_000_000, 999_999 - n), len(frame) + n, order)
        for n, frame in enumerate(given)
    )
    done, _ = cut(tmp_path / "out", everything, data)
    assert (done.frames, done.looked_at, done.faults) == (5, 5, [])
    before, after = records(tmp_path / "out.0"), records(tmp_path / "out")
    assert after.tobytes() == before.tobytes()
    assert frames(tmp_path / "out") == given
    with CaptureFile(tmp_path / "out") as capture:
        capture.read(1)
        assert [(i.link_type, i.snap_len) for i in capture.interfaces] == [(1, 3000)]


def test_pcap_with_a_frame_check_sequence(tmp_path: Path) -> None:
    """The check sequence stays at the frames' ends, and the file says that it is there."""
    data = traffic.pcap_header(link_type=0x2400_0001)  # two 16-bit words of it
    data += traffic.pcap_record(TCP + b"fcs!")
    cut(tmp_path / "out", everything, data)
    assert records(tmp_path / "out")["wire_bytes"].tolist() == [len(TCP)]
    assert frames(tmp_path / "out") == [TCP + b"fcs!"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_blocks_are_copied_as_they_are(tmp_path: Path, order: str) -> None:
    """A choice of blocks comes out byte for byte behind its section and interfaces."""
    head = [section(order), interface(order=order, options=option(2, b"eth0", order))]
    comment = option(1, b"a comment", order)
    blocks = [
        enhanced(TCP, units=TIME, wire=1514, order=order, options=comment),
        old_packet(ODD, units=TIME + 1, order=order),
        simple(TCP, order=order),
        enhanced(UDP, units=TIME + 2, order=order),
    ]
    done, data = cut(tmp_path / "out", only(0, 1, 3), b"".join(head + blocks))
    assert data == b"".join([*head, blocks[0], blocks[1], blocks[3]])
    assert (done.frames, done.looked_at) == (3, 4)
    assert (done.first_ns, done.last_ns) == (TIME * 1000, (TIME + 2) * 1000)


def test_interfaces_and_sections_keep_their_numbers(tmp_path: Path) -> None:
    """Interfaces described between frames, and further sections, are copied where needed."""
    one = [section(), interface(), enhanced(TCP, units=1)]
    more = [interface(options=NANOSECONDS), enhanced(ODD, 1, units=5_000)]
    unused = [section(">"), interface(101, ">"), enhanced(TCP[14:], units=9, order=">")]
    last = [section(">"), interface(101, ">"), enhanced(UDP[14:], units=7, order=">")]
    done, data = cut(tmp_path / "out", only(0, 1, 3), b"".join(one + more + unused + last))
    assert data == b"".join(one + more + last)
    assert done.frames == 3
    assert records(tmp_path / "out")["ts_ns"].tolist() == [1_000, 5_000, 7_000]
    assert frames(tmp_path / "out") == [TCP, ODD, UDP[14:]]
    _, later = cut(tmp_path / "later", only(1), b"".join(one + more))
    assert later == b"".join([one[0], one[1], *more])


def test_section_length_is_left_open(tmp_path: Path) -> None:
    """A section that states its length doesn't state a wrong one afterwards."""
    stated = bytearray(section())
    stated[16:24] = (len(interface()) + len(enhanced(TCP))).to_bytes(8, "little")
    _, data = cut(tmp_path / "out", everything, bytes(stated) + interface() + enhanced(TCP))
    assert data == section() + interface() + enhanced(TCP)


def test_rotated_files_make_one_section(tmp_path: Path) -> None:
    """Files that begin alike are one section in the result; others begin another."""
    alike = [section() + interface() + enhanced(TCP, units=n) for n in range(3)]
    other = section() + interface(101) + enhanced(TCP[14:], units=9)
    _, data = cut(tmp_path / "out", everything, *alike, other)
    assert data.count(section()) == 2
    assert records(tmp_path / "out")["ts_ns"].tolist() == [0, 1_000, 2_000, 9_000]


def test_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice is the same whatever the size of the batches."""
    monkeypatch.setitem(extract.__globals__, "_BATCH", 7)
    data = section() + interface() + b"".join(enhanced(TCP, units=n) for n in range(100))
    done, _ = cut(tmp_path / "out", lambda packets: packets["ts_ns"] % 3_000 == 0, data)
    assert records(tmp_path / "out")["ts_ns"].tolist() == [n * 1000 for n in range(0, 100, 3)]
    assert (done.frames, done.looked_at, done.files) == (34, 100, 1)


def test_what_cant_be_read_is_told(tmp_path: Path) -> None:
    """A file that is gone, cut or no capture is named, and the others are read."""
    whole = section() + interface() + enhanced(TCP)
    done, _ = cut(tmp_path / "out", everything, whole[:-3], b"no capture", whole)
    assert done.frames == 1
    assert "can't be read to its end: the file ends inside" in done.faults[0]
    assert "is no pcap or pcapng capture" in done.faults[1]
    gone = extract([tmp_path / "gone"], everything, io.BytesIO())
    assert "does not exist" in gone.faults[0]


def test_a_new_file_is_private_and_goes_when_it_is_empty(tmp_path: Path) -> None:
    """Only the owner may read packets; nothing is overwritten, and nothing empty stays."""
    path = tmp_path / "new"
    with new_file(path) as file:
        file.write(b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CaptureError, match="is there already"), new_file(path):
        pass
    assert path.read_bytes() == b"x"
    with new_file(tmp_path / "empty"):
        pass
    with pytest.raises(TypeError), new_file(tmp_path / "failed") as file:
        file.writelines([b"x", None])  # type: ignore[list-item]
    with pytest.raises(CaptureError, match="can't be written"), new_file(tmp_path / "no" / "x"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.requires("captures")
@pytest.mark.parametrize("name", ["http_ipv6.pcap", "alexa-app.pcapng"])
def test_real_captures_are_copied_whole(tmp_path: Path, captures: Path, name: str) -> None:
    """All frames of a real capture come out with the same records."""
    out = tmp_path / "out.pcapng"
    with new_file(out) as file:
        done = extract([captures / name], everything, file)
    assert done.frames == done.looked_at > 0
    assert read_all(out) == read_all(captures / name)


def read_all(path: Path) -> Sequence[bytes]:
    with CaptureFile(path) as capture:
        return [capture.read(1 << 20).tobytes()]
