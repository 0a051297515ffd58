"""What is pinned outlives a kill, and tells the next start what was lost."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.ebpf.capture import EbpfCapture, open_ebpf
from probe.ebpf.loaded import LoadFiles
from probe.ebpf.pins import Pins
from probe.errors import LiveError
from probe.live import CaptureOptions
from probe.unclean import MAX_PARTITIONS
from schemas.record import PACKET
from tests.support.ebpf import UDP_FRAME, attached
from tests.support.namespaces import DEVICE, End, inside, pair, send

pytestmark = [pytest.mark.requires("bpf", "netns", "libbpf")]
ROOT = Path(__file__).parents[2]
BOOT_ID = bytes(range(100, 116))

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    if LIBC.mount(b"bpf", os.fsencode(tmp_path), b"bpf", 0, None):
        pytest.skip(f"no BPF file system can be mounted ({os.strerror(ctypes.get_errno())})")
    yield tmp_path
    LIBC.umount2(os.fsencode(tmp_path), 2)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    if not LoadFiles().compiled.is_file():
        pytest.skip("no compiled programs; make bpf")
    with pair() as both:
        yield both


def opened(end: End, bpffs: Path, name: str = "a.b/c", **options: Any) -> EbpfCapture:
    wanted = CaptureOptions(interfaces=(DEVICE,), name=name, bpffs=bpffs, **options)
    with inside(end.name):
        return open_ebpf(wanted, "tc")


def files(folder: Path) -> list[str]:
    """All but two that the kernel puts there itself."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix != ".debug"
    )


CHILD = f"""
import sys
from pathlib import Path
import numpy as np
from probe.ebpf.capture import open_ebpf
from probe.live import CaptureOptions
capture = open_ebpf(
    CaptureOptions(interfaces=("wire",), name="a.b/c", bpffs=Path(sys.argv[1])), "tc"
)
assert not capture.unclean
capture.sent_state.boot_id[:] = np.frombuffer({BOOT_ID!r}, np.uint8)
capture.sent_state.sequences[:] = np.arange(256)
capture.sent_state.packets[:] = 2**40 + np.arange(256)
print("noted", flush=True)
sys.stdin.read()
"""


def test_a_kill_is_reported_once(bpffs: Path, ends: tuple[End, End]) -> None:
    """After kill -9, the next start has boot, counters, numbers; once told, no other start has."""
    left, right = ends
    with inside(right.name):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(bpffs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"noted\n"
        with pytest.raises(LiveError, match=r"a probe named 'a\.b/c' runs already"):
            opened(right, bpffs)
        opened(right, bpffs, "another").close()
        send(left.name, [UDP_FRAME], times=31)
    finally:
        child.kill()
        child.communicate()
    folder = "netspectra/a%2Eb%2Fc"
    one, two = ([f"{folder}/{n}{end}" for end in ("", "/counters", "/sent")] for n in (1, 2))
    assert files(bpffs) == ["netspectra", folder, *one]

    with contextlib.closing(opened(right, bpffs)) as capture:
        (unclean,) = capture.unclean
        assert unclean.boot_id == BOOT_ID
        assert unclean.counts.seen == 31
        assert unclean.counts.dropped == {"ring_full": 0, "sampled_out": 0}
        assert np.array_equal(unclean.sequences, np.arange(MAX_PARTITIONS))
        assert np.array_equal(unclean.packets, 2**40 + np.arange(MAX_PARTITIONS))
        assert files(bpffs) == ["netspectra", folder, *one, *two]
        state = capture.sent_state
        assert state is not None
        assert not state.sequences.any()
        assert state.boot_id.any()
        assert capture.counts().seen == 0
        unclean.ended[:] = 1
    assert files(bpffs) == []


def test_what_is_not_told_stays(bpffs: Path, ends: tuple[End, End]) -> None:
    """Starts that end before Kafka was told lose nothing of each other, up to the latest 16."""
    left, right = ends
    ids: list[bytes] = []
    for start in range(1, 20):
        capture = opened(right, bpffs)
        seen = [stop.counts.seen for stop in capture.unclean]
        assert seen == [*range(1, start)][-16:]
        assert [stop.boot_id for stop in capture.unclean] == ids[-16:]
        assert capture.sent_state is not None
        ids.append(capture.sent_state.boot_id.tobytes())
        send(left.name, [UDP_FRAME], times=start)
        capture.close(clean=False)
    assert len(set(ids)) == 19
    with contextlib.closing(opened(right, bpffs)) as capture:
        for stop in capture.unclean[:10]:
            stop.ended[:] = 1
    with contextlib.closing(opened(right, bpffs)) as capture:
        assert [stop.counts.seen for stop in capture.unclean] == [14, 15, 16, 17, 18, 19]
        for stop in capture.unclean:
            stop.ended[:] = 1
    assert files(bpffs) == []


def test_a_start_that_saw_nothing_leaves_nothing(bpffs: Path, ends: tuple[End, End]) -> None:
    """Killed before there was anything to lose, it has nothing to tell."""
    _, right = ends
    opened(right, bpffs).close(clean=False)
    with contextlib.closing(opened(right, bpffs)) as capture:
        assert not capture.unclean
    assert files(bpffs) == []


def test_empty_folders_go(bpffs: Path) -> None:
    """What killed starts left empty is gone after the next, also one that pins nothing."""
    left = bpffs / "netspectra" / "a" / "7"
    left.mkdir(parents=True)
    pins = Pins(bpffs, "a")
    assert files(bpffs) == ["netspectra", "netspectra/a"]
    other = Pins(bpffs, "b")
    pins.close(clean=True)
    assert files(bpffs) == ["netspectra", "netspectra/b"]
    other.close(clean=False)
    assert files(bpffs) == []


def test_starts_and_stops_of_one_name_at_a_time(bpffs: Path) -> None:
    """However starts and stops of a name meet, one at most has its folder, which is there."""
    running: list[Pins] = []

    def start_and_stop(_: int) -> bool:
        try:
            pins = Pins(bpffs, "a")
        except LiveError:
            return False
        running.append(pins)
        alone = len(running) == 1 and (bpffs / "netspectra" / "a").is_dir()
        running.remove(pins)
        pins.close(clean=True)
        assert alone
        return True

    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(start_and_stop, range(2000)))
    assert any(started)
    assert files(bpffs) == []


def test_an_unclean_close_stays(bpffs: Path, ends: tuple[End, End]) -> None:
    """What is closed without everything accounted for is reported as if it had been killed."""
    left, right = ends
    capture = opened(right, bpffs)
    assert capture.sent_state is not None
    capture.sent_state.boot_id[:] = 7
    capture.sent_state.packets[3] = 4
    send(left.name, [UDP_FRAME], times=5)
    capture.detach()
    assert capture.read(np.zeros(9, PACKET)) == 5
    capture.close(clean=False)
    with contextlib.closing(opened(right, bpffs)) as capture:
        (unclean,) = capture.unclean
        assert unclean.boot_id == bytes([7] * 16)
        assert unclean.counts.seen == 5
        assert unclean.packets.sum() == 4


# It is told of a boot before, and settles it.
GIVES_UP_ROOT = """
import os, sys, time
from pathlib import Path
import numpy as np
from probe.ebpf.capture import open_ebpf
from probe.live import CaptureOptions
from schemas.record import PACKET
wanted = {"name": "a.b/c", "bpffs": Path(sys.argv[1]), **eval(sys.argv[2])}
capture = open_ebpf(CaptureOptions(interfaces=("wire",), **wanted), "tc")
(before,) = capture.unclean
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print("attached", flush=True)
sys.stdin.readline()
out = np.zeros(100, PACKET)
packets = 0
for _ in range(15):
    packets += int(out["packets"][: capture.read(out)].sum())
    time.sleep(0.1)
capture.detach()
packets += int(out["packets"][: capture.read(out)].sum())
print(capture.counts().seen, packets, flush=True)
before.ended[:] = 1
capture.close()
"""


@pytest.mark.parametrize("options", [{}, {"mode": "flows"}, {"attach": "clsact"}], ids=str)
def test_a_clean_stop_without_privileges(
    options: dict[str, str], bpffs: Path, ends: tuple[End, End]
) -> None:
    """A probe that gave up root reads, counts, detaches, and ends cleanly all the same."""
    left, right = ends
    capture = opened(right, bpffs)
    send(left.name, [UDP_FRAME])
    capture.close(clean=False)
    with inside(right.name):
        child = subprocess.Popen(
            [sys.executable, "-c", GIVES_UP_ROOT, str(bpffs), repr(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
    assert child.stdout is not None
    assert child.stdout.readline() == b"attached\n"
    send(left.name, [UDP_FRAME], times=23)
    told, _ = child.communicate(b"\n")
    assert told == b"23 23\n"
    assert child.returncode == 0
    assert attached(right) == []
    with contextlib.closing(opened(right, bpffs)) as capture:
        assert not capture.unclean
    assert files(bpffs) == []


def test_a_failed_start_keeps_what_was_left(bpffs: Path, ends: tuple[End, End]) -> None:
    """A start that can't attach leaves the report to the next one."""
    left, right = ends
    capture = opened(right, bpffs)
    send(left.name, [UDP_FRAME], times=3)
    capture.close(clean=False)
    with inside(right.name):
        wanted = CaptureOptions(
            interfaces=(DEVICE,), name="a.b/c", bpffs=bpffs, attach="tcx", keep=()
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("probe.ebpf.syscalls.TCX_BEFORE", 1 << 30)
            with pytest.raises(LiveError):
                open_ebpf(wanted, "tc")
    with contextlib.closing(opened(right, bpffs)) as capture:
        (unclean,) = capture.unclean
        assert unclean.counts.seen == 3


@pytest.mark.parametrize("kind", ["an ordinary folder", "nothing"])
def test_without_a_bpf_file_system(kind: str, tmp_path: Path, ends: tuple[End, End]) -> None:
    """Where nothing can be pinned, capture runs, and a line says what to do."""
    _, right = ends
    folder = tmp_path if kind == "an ordinary folder" else tmp_path / "nothing"
    with contextlib.closing(opened(right, folder)) as capture:
        assert capture.sent_state is None
        assert not capture.unclean
    assert capture.choices[-1].startswith(f"nothing is pinned in {folder} (")
    assert capture.choices[-1].endswith(f"`mount -t bpf bpf {folder}`")
    assert files(tmp_path) == []


def test_without_a_name(bpffs: Path, ends: tuple[End, End]) -> None:
    """A capture without a name pins nothing and says nothing about it."""
    _, right = ends
    with inside(right.name):
        capture = open_ebpf(CaptureOptions(interfaces=(DEVICE,), bpffs=bpffs), "tc")
    with contextlib.closing(capture):
        assert capture.sent_state is None
        assert files(bpffs) == []
    assert not [line for line in capture.choices if "pinned" in line]
