"""Opening and reading capture files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from probe.capture import CaptureFile, reader
from probe.errors import CaptureError
from schemas.record import PACKET
from tests.support import traffic

FRAMES = [frame for link_type, frame in traffic.CASES.values() if link_type == 1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.pcap"
    path.write_bytes(traffic.pcap(FRAMES))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CaptureError) as caught:
        CaptureFile(path)
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert "\n" not in text
    return text


def test_missing(tmp_path: Path) -> None:
    """A missing file is told."""
    assert "does not exist" in refusal(tmp_path / "none.pcap")


def test_directory(tmp_path: Path) -> None:
    """A directory is told, with the glob that would read it."""
    assert f"{tmp_path}/*.pcap" in refusal(tmp_path)


def test_empty(tmp_path: Path) -> None:
    """An empty file is told."""
    (tmp_path / "a").touch()
    assert "is empty" in refusal(tmp_path / "a")


def test_fifo(tmp_path: Path) -> None:
    """A named pipe is refused at once instead of waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refusal(tmp_path / "pipe")


def test_name_too_long(tmp_path: Path) -> None:
    """Any other error of the system is told in its words."""
    assert "File name too long" in refusal(tmp_path / ("a" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(path: Path) -> None:
    """A file that may not be read is told."""
    path.chmod(0)
    assert "may not be read" in refusal(path)


def test_permission_denied_by_the_system(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal by the system is told, also where tests run as root."""

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reader.os, "open", deny)
    assert "may not be read" in refusal(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(b"x" * 99, mtime=0), "gunzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
        (b"time,src,dst\n1,2,3\n", "text"),
        (b"\x00\x01\x02\x03", "first bytes 00 01 02 03"),
        (b"\xa1", "first bytes a1"),
    ],
)
def test_no_capture(tmp_path: Path, data: bytes, says: str) -> None:
    """A file that is no capture is told, and what it looks like."""
    (tmp_path / "a").write_bytes(data)
    text = refusal(tmp_path / "a")
    assert "no pcap or pcapng" in text
    assert says in text


@pytest.mark.parametrize("batch", [1, 2, 7, len(FRAMES), 10**12])
def test_batches(path: Path, batch: int) -> None:
    """Batches are full until the end, and any batch size gives the same records."""
    with CaptureFile(path) as capture:
        whole = capture.read(1000)
    with CaptureFile(path) as capture:
        parts = []
        while len(part := capture.read(batch)):
            parts.append(part)
        assert all(len(part) == min(batch, len(FRAMES)) for part in parts[:-1])
        assert np.concatenate(parts).tobytes() == whole.tobytes()
        assert capture.frames_seen == len(FRAMES)
        assert capture.position_bytes == capture.size_bytes == path.stat().st_size
        assert len(capture.read(batch)) == 0


def test_buffer_is_reused(path: Path) -> None:
    """With ``out`` the records are a slice of the caller's buffer, and its size is a limit."""
    out = np.zeros(5, PACKET)
    with CaptureFile(path) as capture:
        part = capture.read(3, out)
        assert len(part) == 3
        assert np.shares_memory(part, out)
        assert len(capture.read(9, out)) == 5
        assert len(capture.read(0, out)) == 0
        assert capture.frames_seen == 8


def test_stale_buffer_is_overwritten(path: Path) -> None:
    """Nothing of a buffer's former contents shows in a record."""
    with CaptureFile(path) as capture:
        clean = capture.read(1000)
    dirty = np.frombuffer(bytearray(b"\xff" * clean.nbytes), PACKET)
    with CaptureFile(path) as capture:
        assert capture.read(1000, dirty).tobytes() == clean.tobytes()


def test_misuse(path: Path) -> None:
    """Negative sizes, foreign buffers and closed files are refused."""
    with CaptureFile(path) as capture:
        with pytest.raises(ValueError, match="negative"):
            capture.read(-1)
        with pytest.raises(ValueError, match="contiguous"):
            capture.read(1, np.zeros(3, np.uint64))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="contiguous"):
            capture.read(3, np.zeros(6, PACKET)[::2])
    with pytest.raises(ValueError, match="closed"):
        capture.read(1)
    capture.close()


def test_no_packets(tmp_path: Path) -> None:
    """A capture without packets has no first time and ends at once."""
    path = tmp_path / "a.pcap"
    path.write_bytes(traffic.pcap([]))
    with CaptureFile(path) as capture:
        assert capture.first_ts_ns is None
        assert len(capture.read(10)) == 0
        assert capture.truncated is None


def test_first_time_without_consuming(path: Path) -> None:
    """The first packet's time is known at open, and reading still begins there."""
    with CaptureFile(path) as capture:
        assert capture.first_ts_ns == 1_700_000_000 * 10**9
        assert capture.frames_seen == 0
        assert len(capture.read(1000)) == len(FRAMES)


@pytest.mark.parametrize("left", [1000, 100, 24, 0])
def test_file_shortened_while_read(path: Path, left: int) -> None:
    """A file that someone shortens under the reader is a cut, not a crash."""
    with CaptureFile(path) as capture:
        capture.read(5)
        position = capture.position_bytes
        os.truncate(path, left)
        rest = capture.read(1000)
        assert len(rest) == 0 or position < left
        assert capture.truncated is not None
        assert "shortened" in capture.truncated.reason
        assert capture.frames_seen == 5 + len(rest) + 1


def test_passed_pages_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages behind the position are released while reading and the records stay right."""
    path = tmp_path / "a.pcap"
    path.write_bytes(traffic.pcap([bytes(1500)] * 2000))
    monkeypatch.setattr(reader, "_RELEASE_BYTES", 1 << 16)
    with CaptureFile(path) as capture:
        lengths = [len(capture.read(100)) for _ in range(21)]
        assert lengths == [100] * 20 + [0]
        assert capture._released > 2_900_000
