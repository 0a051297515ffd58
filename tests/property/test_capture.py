"""Capture files hold no surprise that crashes, loses or invents anything."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from probe.capture import CaptureFile
from probe.capture.frame import decode_frame
from probe.capture.linktypes import SUPPORTED
from probe.capture.timestamps import to_ns
from probe.errors import CaptureError
from schemas.record import PACKET
from tests.support import traffic
from tests.support.uncompiled import Watched, uncompiled

(TWIN,) = uncompiled("frame")
FRAMES = [frame for _, frame in traffic.CASES.values()]
ETHERNET = [frame for link_type, frame in traffic.CASES.values() if link_type == 1]
FILES = [
    traffic.pcap(ETHERNET),
    traffic.pcap(ETHERNET, order=">", magic=0xA1B23C4D),
    b"".join(
        [
            traffic.section(">"),
            traffic.interface(order=">", options=traffic.option(9, b"\x89", ">")),
        ]
        + [traffic.enhanced(frame, units=i, order=">") for i, frame in enumerate(ETHERNET)]
        + [traffic.section(), traffic.interface(101), traffic.interface()]
        + [traffic.enhanced(frame, 1) + traffic.simple(frame[14:]) for frame in ETHERNET]
        + [traffic.old_packet(frame, 1) + traffic.block(5, frame) for frame in ETHERNET]
    ),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capture") / "file"


def account(path: Path, batch: int, decapsulate: bool) -> int:
    """Read a file that may be anything, and check that the books balance."""
    try:
        capture = CaptureFile(path, decapsulate=decapsulate)
    except CaptureError as error:
        text = str(error)
    else:
        text = ""
    if text:
        assert text.startswith(str(path))
        assert "\n" not in text
        return 0
    with capture:
        frames = 0
        while len(packets := capture.read(batch)):
            frames += len(packets)
            assert (packets["packets"] == 1).all()
        lost = capture.truncated.lost_frames if capture.truncated else 0
        assert capture.frames_seen == frames + lost
        if capture.truncated:
            assert capture.truncated.offset_bytes == capture.position_bytes
            assert 0 < capture.truncated.lost_bytes <= capture.size_bytes
        else:
            assert capture.position_bytes == capture.size_bytes
        assert (capture.first_ts_ns is None) == (frames == 0)
    return frames


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), decapsulate=st.booleans())
def test_random_traffic_agrees_with_scapy(path: Path, seed: int, decapsulate: bool) -> None:
    """Frames of random stacks of layers become the records that scapy reads in them."""
    random = Random(seed)
    frames = [traffic.random_frame(random) for _ in range(5)]
    path.write_bytes(traffic.pcap(frames))
    with CaptureFile(path, decapsulate=decapsulate) as capture:
        packets = capture.read(100)
    want = [traffic.expected(1, frame, decapsulate=decapsulate) for frame in frames]
    assert [traffic.text(packet) for packet in packets] == want


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from([b"", *(data[:24] for data in FILES), FILES[2][:48]]),
    tail=st.binary(max_size=300),
    batch=st.integers(1, 9),
    decapsulate=st.booleans(),
)
def test_random_files(path: Path, head: bytes, tail: bytes, batch: int, decapsulate: bool) -> None:
    """Random bytes, bare or behind a sound header, are refused or read to a told end."""
    path.write_bytes(head + tail)
    account(path, batch, decapsulate)


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=8)), max_size=6),
    cut=st.integers(0, 1 << 20),
    batch=st.integers(1, 50),
    decapsulate=st.booleans(),
)
def test_mutated_files(
    path: Path,
    data: bytes,
    changes: list[tuple[int, bytes]],
    cut: int,
    batch: int,
    decapsulate: bool,
) -> None:
    """Sound files with random damage and cuts are refused or read to a told end."""
    damaged = bytearray(data)
    for at, new in changes:
        at %= len(damaged)
        damaged[at : at + len(new)] = new
    path.write_bytes(damaged[: cut % (2 * len(damaged)) or None])
    account(path, batch, decapsulate)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A sound frame with random damage, or random bytes with a likely beginning."""
    frame = bytearray(draw(st.sampled_from([*FRAMES, b"", b"\x45", b"\x60"])))
    for at, new in draw(st.lists(st.tuples(st.integers(0, 80), st.binary(max_size=4)))):
        frame[at : at + len(new)] = new
    return bytes(frame + draw(st.binary(max_size=60)))[: draw(st.integers(0, 200))]


@settings(max_examples=600, deadline=None)
@given(
    frame=frames(),
    link_type=st.sampled_from([*SUPPORTED, -1]),
    decapsulate=st.booleans(),
)
def test_random_frames(frame: bytes, link_type: int, decapsulate: bool) -> None:
    """Any bytes as a frame of any link type: one whole record, no read outside, as in Python."""

    def decode(kernel: object, buf: object) -> bytes:
        out = np.full((1, 11), 2**64 - 1, np.uint64)
        end = np.int64(len(frame))
        fixed = (link_type, np.uint64(1), 60, 0, 0, decapsulate, out, 0)
        kernel(buf, np.int64(0), end, *fixed)
        return out.tobytes()

    compiled = decode(decode_frame, np.frombuffer(frame, np.uint8))
    assert compiled == decode(TWIN.decode_frame, Watched(frame))
    record = np.frombuffer(compiled, PACKET)[0]
    assert record["packets"] == 1
    assert record["reserved"] == record["capture_point"] == record["duration_us"] == 0
    assert record["flags"] < 8
    assert record["direction"] <= 2
    assert decapsulate or record["tunnel_id"] == 0


@settings(max_examples=500, deadline=None)
@example(units=18_446_744_073, resolution=0, offset_s=-9_223_372_037)
@example(units=2**64 - 1, resolution=0, offset_s=-(2**63))
@example(units=2**62 + 5, resolution=0, offset_s=-(2**62))
@given(
    units=st.integers(0, 2**64 - 1) | st.integers(0, 2**52),
    resolution=st.integers(0, 255) | st.sampled_from([3, 6, 9, 0x80 | 10, 0x80 | 32]),
    offset_s=st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**31), 2**31) | st.just(0),
)
def test_times_are_exact(units: int, resolution: int, offset_s: int) -> None:
    """Times in any unit and with any offset are rounded down to ns, within what a record holds."""
    unit = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)
    exact = units * 10**9 // unit + offset_s * 10**9
    want = min(max(exact, 0), 2**63 - 1)
    got = int(to_ns(np.uint64(units), np.int64(resolution), np.int64(offset_s)))
    if want >= (2**63 - 1) // 10**9 * 10**9:
        assert got in (want, 2**63 - 1)  # the last second is clamped as a whole
    else:
        assert got == want
