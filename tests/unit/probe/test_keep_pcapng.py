"""Frames of a ring's block to pcapng, against a twin in plain Python and other readers."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from probe.capture import CaptureFile, Interface
from probe.filters import keep_matching, parse_rule, rules_array
from probe.keep.pcapng import (
    EPB_BYTES,
    InterfaceCounts,
    decode_frames,
    file_head,
    file_tail,
    write_frames,
)
from schemas.record import PACKET, Direction
from tests.support import traffic

BLOCK_BYTES = 1 << 16
NONE = np.empty(0, np.bool_)
S = 1_000_000_000
MACS = bytes.fromhex("027700000002027700000001")


@dataclass(frozen=True)
class Frame:
    """A frame as the kernel hands it over."""

    data: bytes
    ts_ns: int = 1_700_000_000_123_456_789
    wire_bytes: int = 0
    outgoing: bool = False
    tci: int | None = None
    tpid: int = 0

    @property
    def real_bytes(self) -> int:
        return self.wire_bytes or len(self.data)

    def tagged(self) -> bytes:
        if self.tci is None or len(self.data) < 12:
            return self.data
        tag = struct.pack(">HH", self.tpid or 0x8100, self.tci)
        return self.data[:12] + tag + self.data[12:]


def ring_block(frames: Sequence[Frame]) -> npt.NDArray[np.uint8]:
    """Lay frames out as the kernel does for Ethernet, linux/if_packet.h."""
    first = 48
    block = bytearray(struct.pack("<6I", 1, 0, 1, len(frames), first, 0).ljust(first, b"\0"))
    for index, frame in enumerate(frames):
        mac, status = 82, 1
        if frame.tci is not None:
            status |= 1 << 4 | (1 << 6 if frame.tpid else 0)
        size = (mac + len(frame.data) + 15) // 16 * 16
        following = size if index + 1 < len(frames) else 0
        seconds, rest_ns = divmod(frame.ts_ns, S)
        lengths = len(frame.data), frame.real_bytes
        head = struct.pack("<6I2H", following, seconds, rest_ns, *lengths, status, mac, 96)
        head += struct.pack("<IIHH8x", 7, frame.tci or 0, frame.tpid, 0)
        head += struct.pack("<HHiHBB8x", 17, 8, 2, 1, 4 if frame.outgoing else 0, 6)
        block += (head.ljust(mac, b"\xaa") + frame.data).ljust(size, b"\xbb")
    assert len(block) <= BLOCK_BYTES
    return np.frombuffer(bytes(block).ljust(BLOCK_BYTES, b"\xcc"), np.uint8).copy()


def written(
    frames: Sequence[Frame],
    *,
    interface: int = 0,
    ingress: bool = True,
    egress: bool = True,
    snap_bytes: int = 1 << 18,
    chosen: npt.NDArray[np.bool_] = NONE,
    used: int = 0,
) -> bytes:
    """What the kernel makes of a block."""
    block = ring_block(frames)
    out = np.full(2 * BLOCK_BYTES, 0xEE, np.uint8)
    end, kept = write_frames(
        block,
        block.view(np.uint32),
        interface,
        ingress,
        egress,
        snap_bytes,
        chosen,
        out,
        out.view(np.uint32),
        used,
    )
    assert (out[:used] == 0xEE).all()
    assert (out[end:] == 0xEE).all()
    data = out[used:end].tobytes()
    assert data.count(b"\x02\0\x04\0") >= kept
    return data


def twin(frames: Iterable[Frame], interface: int = 0, snap_bytes: int = 1 << 18) -> bytes:
    """The same blocks, one by one."""
    blocks = []
    for frame in frames:
        data = frame.tagged()
        real = frame.real_bytes + len(data) - len(frame.data)
        data = data[:snap_bytes]
        size = EPB_BYTES + (len(data) + 3) // 4 * 4
        high, low = divmod(frame.ts_ns, 1 << 32)
        block = struct.pack("<7I", 6, size, interface, high, low, len(data), real)
        block += data + bytes(-len(data) % 4)
        flags = struct.pack("<HHIHH", 2, 4, 2 if frame.outgoing else 1, 0, 0)
        blocks.append(block + flags + struct.pack("<I", size))
    return b"".join(blocks)


FRAMES = st.lists(
    st.builds(
        Frame,
        data=st.binary(max_size=200),
        ts_ns=st.integers(0, (1 << 32) * S - 1),
        outgoing=st.booleans(),
        tci=st.none() | st.integers(0, 0xFFFF),
        tpid=st.sampled_from([0, 0x8100, 0x88A8]),
    ),
    max_size=20,
)


@settings(max_examples=100, deadline=None)
@given(frames=FRAMES, snap_bytes=st.integers(64, 300), used=st.integers(0, 50), data=st.data())
def test_twin(frames: list[Frame], snap_bytes: int, used: int, data: st.DataObject) -> None:
    """Any frames, any choice among them: the kernel writes what its twin writes."""
    ingress, egress = data.draw(st.booleans()), data.draw(st.booleans())
    chosen = NONE
    if data.draw(st.booleans()) and frames:
        marks = st.lists(st.booleans(), min_size=len(frames), max_size=len(frames))
        chosen = np.array(data.draw(marks), np.bool_)
    wanted = [
        frame
        for index, frame in enumerate(frames)
        if (egress if frame.outgoing else ingress) and (not len(chosen) or chosen[index])
    ]
    got = written(
        frames,
        interface=3,
        ingress=ingress,
        egress=egress,
        snap_bytes=snap_bytes,
        chosen=chosen,
        used=used * 4,
    )
    assert got == twin(wanted, 3, snap_bytes)


@given(frames=st.lists(st.builds(Frame, data=st.binary(min_size=1), tci=st.just(5)), min_size=1))
@settings(max_examples=50, deadline=None)
def test_never_larger_than_the_block(frames: list[Frame]) -> None:
    """What a block's frames become, tags included, fits into the space of a block."""
    block = ring_block(frames)
    ring_bytes = 48 + sum((82 + len(frame.data) + 15) // 16 * 16 for frame in frames)
    assert (block[ring_bytes:] == 0xCC).all()
    assert len(written(frames)) <= ring_bytes


def make_file(path: Path, frames: Sequence[Frame]) -> Path:
    head = file_head([("eth0", 1), ("wän", 1)], 65535)
    tail = file_tail([InterfaceCounts(10, 3), InterfaceCounts(1 << 33, 0)], 1_700_000_001 * S)
    half = len(frames) // 2
    body = written(frames[:half]) + written(frames[half:], interface=1)
    path.write_bytes(head + body + tail)
    return path


def some_frames() -> list[Frame]:
    ethernet = [frame for link_type, frame in traffic.CASES.values() if link_type == 1]
    return [
        Frame(
            data,
            1_700_000_000 * S + index,
            len(data) + 1000 * (index % 3 == 0),
            outgoing=index % 2 == 1,
            tci=None if index % 5 else 0x2000 + index,
        )
        for index, data in enumerate(ethernet)
        if len(data) > 12
    ]


def test_our_reader(tmp_path: Path) -> None:
    """Our own reader finds names, times to the nanosecond, directions, tags and real lengths."""
    frames = some_frames()
    with CaptureFile(make_file(tmp_path / "a.pcapng", frames)) as capture:
        records = capture.read(1000)
        assert capture.truncated is None
        assert capture.interfaces == [Interface(0, "eth0", 1, 65535), Interface(1, "wän", 1, 65535)]
    assert records["ts_ns"].tolist() == [frame.ts_ns for frame in frames]
    ways = [Direction.EGRESS if frame.outgoing else Direction.INGRESS for frame in frames]
    assert records["direction"].tolist() == ways
    real = [frame.real_bytes + 4 * (frame.tci is not None) for frame in frames]
    assert records["wire_bytes"].tolist() == real
    tags = [(frame.tci & 0xFFF, i) for i, frame in enumerate(frames) if frame.tci is not None]
    assert [(records["vlan_id"][i], i) for _, i in tags] == tags


def test_scapy(tmp_path: Path) -> None:
    """Scapy finds the frames byte for byte, with their tags."""
    frames = some_frames()
    with RawPcapNgReader(str(make_file(tmp_path / "a.pcapng", frames))) as reader:
        assert [bytes(data) for data, _ in reader] == [frame.tagged() for frame in frames]


@pytest.mark.skipif(not shutil.which("tcpdump"), reason="tcpdump isn't installed")
def test_tcpdump(tmp_path: Path) -> None:
    """The packet capture library reads all frames and the time of the first."""
    frames = some_frames()
    path = make_file(tmp_path / "a.pcapng", frames)
    command = ["tcpdump", "-n", "-q", "-t", "-x", "-r", str(path), "-tt", "--nano"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("\t")]
    assert len(lines) == len(frames)
    assert "truncated" not in done.stderr


def test_decode_frames_for_a_filter(tmp_path: Path) -> None:
    """A filter sees in a block's frames what it sees in a capture file."""
    cases = [frame for link_type, frame in traffic.CASES.values() if link_type == 1]
    block = ring_block([Frame(data) for data in cases])
    records = np.zeros(len(cases), PACKET)
    words = records.view(np.uint64).reshape(-1, 11)
    decode_frames(block, block.view(np.uint32), 1, False, words)
    path = tmp_path / "a.pcapng"
    path.write_bytes(file_head([("a", 1)], 65535) + twin(map(Frame, cases)))
    with CaptureFile(path) as capture:
        wanted = capture.read(len(cases))
    wanted["ts_ns"] = wanted["direction"] = 0
    assert records.tobytes() == wanted.tobytes()
    chosen = np.empty(len(cases), np.bool_)
    kept = keep_matching(words, rules_array([parse_rule("tcp")]), rules_array([]), chosen)
    assert 0 < kept < len(cases)
    assert chosen.tolist() == (records["ip_proto"] == 6).tolist()


def test_runs_uncompiled() -> None:
    """The kernel as plain Python gives the same."""
    frames = some_frames()
    block = ring_block(frames)
    out = np.zeros(2 * BLOCK_BYTES, np.uint8)
    arguments = (block, block.view(np.uint32), 0, True, True, 100, NONE, out, out.view(np.uint32))
    end, kept = write_frames.py_func(*arguments, 0)
    assert kept == len(frames)
    assert out[:end].tobytes() == twin(frames, 0, 100)
