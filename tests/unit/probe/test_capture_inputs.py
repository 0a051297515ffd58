"""File names and globs, and the identity of what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.capture import inputs
from probe.errors import CaptureError
from tests.support import traffic


def write(path: Path, *seconds: int) -> Path:
    records = [traffic.pcap_record(b"x" * 60, (second, 0)) for second in seconds]
    path.write_bytes(traffic.pcap_header() + b"".join(records))
    return path


def test_order_of_the_first_packet(tmp_path: Path) -> None:
    """Files come by time of their first packet, ties by name, those without packets last."""
    empty = write(tmp_path / "0.pcap")
    late = write(tmp_path / "1.pcap", 300, 1)
    tie_b = write(tmp_path / "b.pcap", 200)
    tie_a = write(tmp_path / "a.pcap", 200)
    early = write(tmp_path / "z.pcap", 0)
    (tmp_path / "dir.pcap").mkdir()
    assert inputs.expand(f"{tmp_path}/*.pcap") == [early, tie_a, tie_b, late, empty]


def test_one_file(tmp_path: Path) -> None:
    """A plain name is that file, also when it reads like a pattern."""
    path = write(tmp_path / "[1]*.pcap", 1)
    write(tmp_path / "1.pcap", 1)
    assert inputs.expand(str(path)) == [path]


def test_any_depth(tmp_path: Path) -> None:
    """Two stars look into directories."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = write(tmp_path / "a" / "b" / "c.pcap", 1)
    assert inputs.expand(f"{tmp_path}/**/*.pcap") == [path]


def test_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(tmp_path / "a.pcap", 1)
    assert inputs.expand("~/a.pcap") == [path]


@pytest.mark.parametrize(
    ("name", "says"), [("no*.pcap", "matches no file"), ("none.pcap", "does not exist")]
)
def test_nothing_found(tmp_path: Path, name: str, says: str) -> None:
    """A pattern or a name that finds nothing is told."""
    with pytest.raises(CaptureError, match=says):
        inputs.expand(f"{tmp_path}/{name}")


def test_foreign_file_among_them(tmp_path: Path) -> None:
    """A file that is no capture is told by name."""
    write(tmp_path / "a.pcap", 1)
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(CaptureError, match=r"notes\.txt is no pcap"):
        inputs.expand(f"{tmp_path}/*")


def test_identity_is_of_contents(tmp_path: Path) -> None:
    """Names and order don't matter; any byte and any further file do."""
    a, b = write(tmp_path / "a", 1, 2), write(tmp_path / "b", 3)
    identity = inputs.content_id([a, b])
    assert len(identity) == 32
    assert inputs.content_id([b, a]) == identity
    a.rename(tmp_path / "c")
    assert inputs.content_id([tmp_path / "c", b]) == identity
    assert inputs.content_id([b]) != identity
    assert inputs.content_id([b, b]) != inputs.content_id([b])
    b.write_bytes(b.read_bytes()[:-1] + b"y")
    assert inputs.content_id([tmp_path / "c", b]) != identity


def test_large_files_by_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit size, head and tail tell files apart; bytes between samples don't."""
    monkeypatch.setattr(inputs, "WHOLE_BYTES", 1 << 20)
    path = tmp_path / "a"
    data = bytearray(16 << 20)
    path.write_bytes(data)
    identity = inputs.content_id([path])
    for at in (0, -1, 65_536 - 1, -65_536):
        data[at] = 1
        path.write_bytes(data)
        assert inputs.content_id([path]) != identity
        data[at] = 0
    data[70_000] = 1
    path.write_bytes(data)
    assert inputs.content_id([path]) == identity
    path.write_bytes(data + b"\0")
    assert inputs.content_id([path]) != identity


def test_identity_of_a_missing_file(tmp_path: Path) -> None:
    """A file that can't be read has no identity."""
    with pytest.raises(CaptureError, match="can't be read"):
        inputs.content_id([tmp_path / "none"])
