"""Rotated files: names, rotation, the limit, and a disk that refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.keep.cells import Cell, Cells
from probe.keep.files import OWN_NAME, Keep, RotatedFiles

S = 1_000_000_000
BEGAN = 1_767_323_045 * S  # 2026-01-02 03:04:05 UTC
HEAD, TAIL = b"head", b"tail"


def new_cells() -> Cells:
    return np.zeros(len(Cell), np.int64)


@contextlib.contextmanager
def rotated(path: Path, cells: Cells | None = None, **changed: Any) -> Iterator[RotatedFiles]:
    wanted = {"limit_bytes": 1000, "rotate_bytes": 100, "rotate_seconds": 60.0, **changed}
    directory = os.open(path, os.O_RDONLY)
    files = RotatedFiles(
        directory,
        "txt",
        HEAD,
        cells=new_cells() if cells is None else cells,
        tail=lambda: TAIL,
        **wanted,
    )
    try:
        yield files
    finally:
        files.finish()
        os.close(directory)


@contextlib.contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let the system refuse to make any file larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def own(path: Path) -> list[Path]:
    files = [file for file in path.iterdir() if OWN_NAME.fullmatch(file.name)]
    return sorted(files, key=lambda file: int(file.stem[28:]))


def test_name_and_contents(tmp_path: Path) -> None:
    """A file is named by time and number, has head and tail, and only its owner may read it."""
    with rotated(tmp_path) as files:
        files.write([memoryview(b"abc"), memoryview(b""), memoryview(b"def")], BEGAN)
        files.write([memoryview(b"ghi")], BEGAN + 1)
    (file,) = own(tmp_path)
    assert file.name == "netspectra-20260102T030405Z-0000.txt"
    assert OWN_NAME.fullmatch(file.name)
    assert file.read_bytes() == b"headabcdefghitail"
    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    """Without a block there is no file."""
    with rotated(tmp_path):
        pass
    assert own(tmp_path) == []


def test_readable_while_it_grows(tmp_path: Path) -> None:
    """What has been written is in the file at once."""
    with rotated(tmp_path) as files:
        files.write([memoryview(b"abc")], BEGAN)
        (file,) = own(tmp_path)
        assert file.read_bytes() == b"headabc"


def test_rotation_by_size(tmp_path: Path) -> None:
    """A block that would make a file larger than wanted begins the next one."""
    with rotated(tmp_path, rotate_bytes=len(HEAD + TAIL) + 20) as files:
        for letter in b"abcde":
            files.write([memoryview(bytes([letter]) * 10)], BEGAN)
    contents = [file.read_bytes()[4:-4] for file in own(tmp_path)]
    assert contents == [b"a" * 10 + b"b" * 10, b"c" * 10 + b"d" * 10, b"e" * 10]


def test_rotation_by_time(tmp_path: Path) -> None:
    """A packet a minute after the first of a file begins the next one; earlier ones don't."""
    with rotated(tmp_path, rotate_seconds=60.0) as files:
        for offset in (0, 60 * S - 1, -100 * S, 60 * S, 61 * S):
            files.write([memoryview(b"x")], BEGAN + offset)
    assert [file.name[11:26] for file in own(tmp_path)] == ["20260102T030405", "20260102T030505"]
    assert [file.stat().st_size for file in own(tmp_path)] == [11, 10]


def test_numbers_go_on(tmp_path: Path) -> None:
    """The next start goes on counting, past other suffixes and gaps."""
    (tmp_path / "netspectra-20200101T000000Z-0041.pcapng").touch()
    with rotated(tmp_path) as files:
        files.write([memoryview(b"x")], BEGAN)
    with rotated(tmp_path) as files:
        files.write([memoryview(b"x")], BEGAN - 10**6 * S)
    assert [file.name[-8:-4] for file in own(tmp_path)][1:] == ["0042", "0043"]


def test_more_than_four_digits(tmp_path: Path) -> None:
    """Number 10000 is younger than 9999."""
    for number in ("9999", "10000"):
        (tmp_path / f"netspectra-20260101T000000Z-{number}.txt").write_bytes(bytes(50))
    with rotated(tmp_path, limit_bytes=100) as files:
        files.write([memoryview(b"x")], BEGAN)
    assert [file.stem[28:] for file in own(tmp_path)] == ["10000", "10001"]


@settings(max_examples=60, deadline=None)
@given(
    old=st.lists(st.integers(0, 120), max_size=8),
    blocks=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 40)), max_size=40),
    limit_bytes=st.integers(200, 500),
)
def test_limit(old: list[int], blocks: list[tuple[int, int]], limit_bytes: int) -> None:
    """Files of ours never take more than the limit, the youngest stay, all bytes in order."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        for number, size in enumerate(old):
            (path / f"netspectra-20250101T000000Z-{number:04}.avro").write_bytes(bytes(size))
        cells = new_cells()
        written = b""
        ts_ns = BEGAN
        with rotated(path, cells, limit_bytes=limit_bytes) as files:
            for index, (size, seconds) in enumerate(blocks):
                ts_ns += seconds * S
                block = bytes([65 + index % 26]) * size
                files.write([memoryview(block)], ts_ns)
                written += block
                assert sum(file.stat().st_size for file in own(path)) <= limit_bytes
                assert own(path)[-1].stat().st_size <= 100
        left = own(path)
        if blocks:
            assert sum(file.stat().st_size for file in left) <= limit_bytes
        ours = [file for file in left if file.suffix == ".txt"]
        assert written.endswith(b"".join(file.read_bytes()[4:-4] for file in ours))
        numbers = [int(file.stem[28:]) for file in left]
        assert numbers == list(range(len(old) + int(cells[Cell.FILES])))[-len(numbers) or None :]
        assert cells[Cell.DELETED_FILES] == len(old) + cells[Cell.FILES] - len(left)
        overhead = cells[Cell.FILES] * len(HEAD + TAIL)
        assert cells[Cell.KEPT_BYTES] == len(written) + overhead


def test_foreign_files_stay(tmp_path: Path) -> None:
    """Other names, links and directories are neither deleted nor counted."""
    foreign = ["a.pcapng", "netspectra-20250101T000000Z-0001.pcap", "xnetspectra-1.txt"]
    foreign += ["netspectra-20250101T000000Z-0001.txt.bak", "netspectra-20250101T00Z-0001.txt"]
    for name in foreign:
        (tmp_path / name).write_bytes(bytes(500))
    target = tmp_path / "target"
    target.write_bytes(bytes(500))
    link = tmp_path / "netspectra-20250101T000000Z-0000.txt"
    link.symlink_to(target)
    folder = tmp_path / "netspectra-20250101T000000Z-0002.txt"
    folder.mkdir()
    with rotated(tmp_path, limit_bytes=250) as files:
        for _ in range(20):
            files.write([memoryview(bytes(60))], BEGAN)
    assert all((tmp_path / name).stat().st_size == 500 for name in [*foreign, "target"])
    assert link.is_symlink()
    assert folder.is_dir()
    files = [file.stem[28:] for file in own(tmp_path) if file.name.startswith("netspectra-2026")]
    assert files == ["0020", "0021", "0022"]


def test_deleted_by_someone_else(tmp_path: Path) -> None:
    """An old file that is gone already is no fault and isn't counted as deleted."""
    cells = new_cells()
    with rotated(tmp_path, cells, limit_bytes=200) as files:
        for _ in range(4):
            files.write([memoryview(bytes(60))], BEGAN)
            for file in own(tmp_path)[:-1]:
                file.unlink()
    assert len(own(tmp_path)) == 1
    assert cells[Cell.DELETED_FILES] == 0


def test_block_larger_than_a_file(tmp_path: Path) -> None:
    """A block too large for a file gets one of its own, whole."""
    with rotated(tmp_path) as files:
        files.write([memoryview(b"a" * 10)], BEGAN)
        files.write([memoryview(b"b" * 200)], BEGAN)
        files.write([memoryview(b"c" * 10)], BEGAN)
    assert [file.read_bytes()[4:-4] for file in own(tmp_path)] == [b"a" * 10, b"b" * 200, b"c" * 10]


def test_refused_block_leaves_no_trace(tmp_path: Path) -> None:
    """A block that doesn't fit on the disk is taken out again, and the file stays whole."""
    with rotated(tmp_path) as files:
        files.write([memoryview(b"a" * 30)], BEGAN)
        with largest_file(50), pytest.raises(OSError, match="too large") as caught:
            files.write([memoryview(b"b" * 5), memoryview(b"c" * 20)], BEGAN)
        assert caught.value.errno == errno.EFBIG
        (file,) = own(tmp_path)
        assert file.read_bytes() == HEAD + b"a" * 30
        files.write([memoryview(b"d")], BEGAN)
    assert [file.read_bytes() for file in own(tmp_path)][1:] == [b"headdtail"]


@pytest.mark.parametrize("room", [2, 10])
def test_refused_head_or_first_block(tmp_path: Path, room: int) -> None:
    """A file for which there is no room is removed."""
    with rotated(tmp_path) as files:
        with largest_file(room), pytest.raises(OSError, match="too large"):
            files.write([memoryview(b"b" * 20)], BEGAN)
        assert own(tmp_path) == []


def test_keep_counts_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused packets are counted with the reason, and keeping resumes when there is room."""
    cells = new_cells()
    monkeypatch.setattr("probe.keep.files._RETRY_SECONDS", 0.0)
    with rotated(tmp_path, cells) as files:
        keep = Keep(files, cells)
        keep.add([memoryview(bytes(30))], BEGAN, 3)
        with largest_file(40):
            keep.add([memoryview(bytes(30))], BEGAN, 5)
            assert cells[Cell.ERRNO] == errno.EFBIG
        keep.add([memoryview(bytes(30))], BEGAN, 7)
        keep.close()
    assert cells[Cell.ERRNO] == 0
    assert (cells[Cell.KEPT], cells[Cell.DISK_FULL], cells[Cell.WRITE_FAILED]) == (10, 5, 0)


def test_keep_waits_after_a_refusal(tmp_path: Path) -> None:
    """Right after a refusal nothing is tried, only counted."""
    cells = new_cells()
    with rotated(tmp_path, cells) as files:
        keep = Keep(files, cells)
        with largest_file(10):
            keep.add([memoryview(bytes(30))], BEGAN, 5)
        keep.add([memoryview(bytes(30))], BEGAN, 7)
    assert (cells[Cell.KEPT], cells[Cell.DISK_FULL]) == (0, 12)
    assert own(tmp_path) == []


def test_keep_tells_other_faults_apart(tmp_path: Path) -> None:
    """A directory that is gone is a failure, not a full disk."""
    cells = new_cells()
    gone = tmp_path / "gone"
    gone.mkdir()
    with rotated(gone, cells) as files:
        gone.rmdir()
        Keep(files, cells).add([memoryview(b"x")], BEGAN, 2)
    assert (cells[Cell.DISK_FULL], cells[Cell.WRITE_FAILED]) == (0, 2)
    assert cells[Cell.ERRNO] == errno.ENOENT
