"""What to keep and for how long, and what is told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from probe.errors import KeepError

Format = Literal["pcapng", "avro", "text"]

SUFFIXES: Final[Mapping[Format, str]] = {"pcapng": "pcapng", "avro": "avro", "text": "txt"}
"""What the names of files of each format end with."""

_UNITS: Final = {
    **{"GB": 10**9, "MB": 10**6, "kB": 10**3},
    **{"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10},
}
MIN_ROTATE_BYTES: Final = 1 << 20
_MIN_SNAP_BYTES: Final = 64
MAX_SNAP_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True)
class KeepOptions:
    """What to keep.

    Attributes:
        directory: of the files; it is made when it doesn't exist.
        format: ``pcapng`` keeps whole frames, ``avro`` and ``text`` the decoded records.
        limit_bytes: most that the files of the directory may take together; the oldest go first.
        rotate_bytes: a new file is begun before one gets larger.
        rotate_seconds: a new file is begun when one is older.
        snap_bytes: most that is kept of a frame.

    Raises:
        KeepError: a number makes no sense.
    """

    directory: Path
    format: Format = "pcapng"
    limit_bytes: int = 10 << 30
    rotate_bytes: int = 128 << 20
    rotate_seconds: float = 3600.0
    snap_bytes: int = MAX_SNAP_BYTES

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.format not in SUFFIXES:
            msg = f"format {self.format} is unknown: choose one of {', '.join(SUFFIXES)}"
            raise KeepError(msg)
        if self.rotate_bytes < MIN_ROTATE_BYTES:
            size, least = format_size(self.rotate_bytes), format_size(MIN_ROTATE_BYTES)
            msg = f"--write-rotate: {size} is too little, {least} at least"
            raise KeepError(msg)
        if self.limit_bytes < 2 * self.rotate_bytes:
            msg = (
                f"--write-limit: {format_size(self.limit_bytes)} is less than two files of "
                f"{format_size(self.rotate_bytes)}: raise it, or lower --write-rotate"
            )
            raise KeepError(msg)
        if not self.rotate_seconds > 0:
            msg = f"rotate_seconds is {self.rotate_seconds}: take more than 0"
            raise KeepError(msg)
        if not _MIN_SNAP_BYTES <= self.snap_bytes <= MAX_SNAP_BYTES:
            msg = f"snap_bytes is {self.snap_bytes}: take {_MIN_SNAP_BYTES} to {MAX_SNAP_BYTES}"
            raise KeepError(msg)


@dataclass(frozen=True, slots=True)
class KeepCounts:
    """Totals since the start, in frames (pcapng, a coalesced buffer is one) or records.

    After ``close`` all that was offered is kept or skipped.

    Attributes:
        offered: what there was to keep.
        kept: what is or was in a file; old files may be deleted since.
        skipped: what was not kept, by reason: ``ring_full``, ``queue_full``, ``disk_full``,
            ``write_failed``, ``writer_ended``.
        kept_bytes: bytes of files written.
        files: files begun.
        deleted_files: old files deleted to stay under the limit.
    """

    offered: int
    kept: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    kept_bytes: int = 0
    files: int = 0
    deleted_files: int = 0


def format_size(size_bytes: int) -> str:
    """Bytes exactly, in the largest unit they are a whole number of: ``500 kB``, ``128 MiB``."""
    for unit, unit_bytes in _UNITS.items():
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes} {unit}"
    return f"{size_bytes:,} bytes"
