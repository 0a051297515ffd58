"""Which kept files hold the packets of some time, and what is known to be gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.errors import KeepError
from probe.keep.kept import kept

S = 1_000_000_000
BEGAN = 1_767_323_045 * S  # 2026-01-02 03:04:05 UTC


def keep(directory: Path, *numbers: int, suffix: str = "pcapng") -> None:
    """Files of an hour each, number 0 the first."""
    for number in numbers:
        name = f"netspectra-20260102T{3 + number:02}0405Z-{number:04}.{suffix}"
        (directory / name).write_bytes(b"")


def found(directory: Path, first_hours: float, last_hours: float) -> tuple[list[int], list[str]]:
    span = (BEGAN + int(hours * 3600) * S for hours in (first_hours, last_hours))
    result = kept(directory, *span)
    return [int(path.stem[-4:]) for path in result.paths], result.gaps


def test_files_that_cover_the_time(tmp_path: Path) -> None:
    """A file holds packets up to the next one's time, a little before and after too."""
    keep(tmp_path, *range(5))
    assert found(tmp_path, 1.5, 1.6) == ([1], [])
    assert found(tmp_path, 1.5, 3.1) == ([1, 2, 3], [])
    assert found(tmp_path, 2.001, 2.1) == ([1, 2], [])
    assert found(tmp_path, 9, 10) == ([4], [])


def test_deleted_files_are_told(tmp_path: Path) -> None:
    """Older files that were deleted, or never were, and files missing in between are told."""
    keep(tmp_path, 2, 3, 5)
    keep(tmp_path, 4, suffix="txt")
    assert found(tmp_path, 2.5, 5.5) == ([2, 3, 5], [])
    (tmp_path / "netspectra-20260102T070405Z-0004.txt").unlink()
    numbers, (gap,) = found(tmp_path, 2.5, 5.5)
    assert numbers == [2, 3, 5]
    assert gap == "1 file(s) in between are gone, number 4 the first"
    numbers, (gap,) = found(tmp_path, 0, 2.5)
    assert numbers == [2]
    assert "before 2026-01-02 05:04:05 UTC: 2 older file(s) have been deleted" in gap
    keep(tmp_path, 0, 1)
    assert "that is when the probe began" in found(tmp_path, -1, 0.5)[1][0]


def test_other_directories_are_refused(tmp_path: Path) -> None:
    """A directory without kept frames is refused with the reason."""
    with pytest.raises(KeepError, match="holds no file that"):
        kept(tmp_path, 0, 1)
    keep(tmp_path, 0, suffix="avro")
    with pytest.raises(KeepError, match="records, not frames"):
        kept(tmp_path, 0, 1)
    with pytest.raises(KeepError, match="can't be read"):
        kept(tmp_path / "none", 0, 1)
