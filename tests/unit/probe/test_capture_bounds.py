"""Nothing outside a frame or a file is ever read, and compiled code does what Python does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from probe.capture import CaptureFile
from probe.capture.common import NO_PLACES
from probe.capture.frame import decode_frame
from schemas.record import PACKET, as_words
from tests.support import traffic
from tests.support.uncompiled import Watched, uncompiled

TWIN, PCAP, PCAPNG = uncompiled("frame", "pcap", "pcapng")
ROOT = Path(__file__).parents[3]


def decode(
    kernel: object, buf: object, span: tuple[int, int], link_type: int, decapsulate: bool
) -> bytes:
    out = np.full((1, 11), 2**64 - 1, np.uint64)
    args = (link_type, np.uint64(5), 1500, 3, 1, decapsulate, out, 0)
    kernel(buf, *map(np.int64, span), *args)
    return out.tobytes()


def test_watched_buffer_rejects() -> None:
    """The watch that the tests below rely on catches reads on both sides."""
    buf = Watched(b"abcd", 1, 3)
    assert buf[np.uint64(1)] == ord("b")
    for outside in (0, 3, 4, 2**64 - 1):
        with pytest.raises(AssertionError, match="outside"):
            buf[np.uint64(outside)]


@pytest.mark.parametrize("decapsulate", [False, True])
@pytest.mark.parametrize("name", traffic.CASES)
def test_every_prefix(name: str, decapsulate: bool) -> None:
    """Each frame, cut anywhere, is decoded without a read outside, and equally when compiled.

    What a prefix tells is what the whole frame tells, or nothing: a cut never invents.
    """
    link_type, frame = traffic.CASES[name]
    before = b"\x45\xff\x81"
    data = before + frame + b"\x45\xff\x81"
    array = np.frombuffer(data, np.uint8)
    span = (len(before), len(before) + len(frame))
    whole = np.frombuffer(decode(decode_frame, array, span, link_type, False), PACKET)[0]
    for end in range(span[0], span[1] + 1):
        watched = Watched(data, span[0], end)
        plain = decode(TWIN.decode_frame, watched, (span[0], end), link_type, decapsulate)
        assert decode(decode_frame, array, (span[0], end), link_type, decapsulate) == plain
        if not decapsulate:
            record = np.frombuffer(plain, PACKET)[0]
            for field in ("src_addr", "dst_addr", "src_port", "dst_port", "tcp_flags", "vlan_id"):
                assert not np.any(record[field]) or np.array_equal(record[field], whole[field])


def _files() -> dict[str, bytes]:
    frames = [frame for link_type, frame in traffic.CASES.values() if link_type == 1][:12]
    blocks = [traffic.section(), traffic.interface()]
    for i, frame in enumerate(frames):
        comment = traffic.option(1, b"why") + traffic.option(2, b"\1\0\0\0")
        blocks += [traffic.enhanced(frame, units=i, options=comment), traffic.old_packet(frame)]
        blocks += [traffic.simple(frame), traffic.block(5, bytes(i * 4))]
    return {
        "pcap": traffic.pcap(frames),
        "pcap big endian": traffic.pcap(frames, order=">", magic=0xA1B23C4D),
        "pcapng": b"".join(blocks),
    }


FILES = _files()


@pytest.mark.parametrize("name", FILES)
def test_walks_stay_inside_the_file(tmp_path: Path, name: str) -> None:
    """Walking a file, whole or cut, reads nothing outside, and equally when compiled."""
    data = FILES[name]
    for size in [*range(len(data) - 150, len(data) + 1), 100, 200]:
        path = tmp_path / "a"
        path.write_bytes(data[:size])
        with CaptureFile(path) as capture:
            compiled = capture.read(1000)
        twin = PCAPNG.PcapngWalker if name == "pcapng" else PCAP.PcapWalker
        walker = twin(np.frombuffer(data[:size], np.uint8), False)
        out = np.zeros(1000, PACKET)
        rows, stop = 0, 0
        if name != "pcapng":
            rows, stop = walker.walk(Watched(data[:size]), as_words(out))
        else:
            table = np.zeros((8, 5), np.int64)
            table[0] = 1, 0, 0, 6, 0
            rows, _, stop = PCAPNG.walk_pcapng(
                Watched(data[:size]),
                walker.position_bytes,
                False,
                table,
                0,
                1,
                False,
                as_words(out),
                NO_PLACES,
            )
        assert out[:rows].tobytes() == compiled.tobytes()
        assert (capture.truncated is None) == (stop == 1)


SCRIPT = """
import ctypes, mmap, sys
import numpy as np
from probe.capture.pcap import walk_pcap
from probe.capture.pcapng import walk_pcapng
from tests.support import traffic

page, pages = mmap.PAGESIZE, 16
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
area = mmap.mmap(-1, (pages + 2) * page)
base = ctypes.addressof(ctypes.c_char.from_buffer(area))
assert libc.mprotect(base, page, 0) == 0
assert libc.mprotect(base + (pages + 1) * page, page, 0) == 0
inside = (ctypes.c_uint8 * (pages * page)).from_address(base + page)
room = np.frombuffer(inside, np.uint8)

def place(data, at_end):
    view = room[len(room) - len(data):] if at_end else room[:len(data)]
    view[:] = np.frombuffer(data, np.uint8)
    view = view.view()
    view.flags.writeable = False
    return view

if sys.argv[1] == "control":
    print("armed", flush=True)
    print(ctypes.c_uint8.from_address(base + (pages + 1) * page).value)

out = np.zeros((4, 11), np.uint64)
places = np.zeros(4, np.int64)
table = np.zeros((8, 5), np.int64)
done = 0
for link_type, frame in traffic.CASES.values():
    table[0] = link_type, 0, 0, 6, 0
    for size in range(len(frame) + 1):
        for at_end in (False, True):
            for decapsulate in (False, True):
                data = traffic.pcap_record(frame[:size])
                for cut in (0, 1):
                    view = place(data[:len(data) - cut], at_end)
                    rows, _, _ = walk_pcap(
                        view, 0, False, 16, 1000, link_type, 0, decapsulate, out, places
                    )
                    done += rows
                data = traffic.simple(frame[:size])
                for cut in (0, 4):
                    view = place(data[:len(data) - cut], at_end)
                    rows, _, _ = walk_pcapng(
                        view, 0, False, table, 0, 1, decapsulate, out, places
                    )
                    done += rows
print(done)
"""


def guarded(mode: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, mode]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_compiled_code_between_forbidden_pages() -> None:
    """Compiled walks over every prefix of every frame, placed against forbidden pages, survive."""
    result = guarded("run")
    assert result.returncode == 0, result.stderr
    frames = sum(len(frame) + 1 for _, frame in traffic.CASES.values())
    assert int(result.stdout) == frames * 8


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_forbidden_pages_reject() -> None:
    """One byte beyond kills the process, so the test above can fail."""
    result = guarded("control")
    assert result.stdout == "armed\n"
    assert result.returncode == -signal.SIGSEGV
