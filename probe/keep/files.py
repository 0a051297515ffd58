"""Rotated files of one directory, together never over a limit.

Files are named ``netspectra-20260102T030405Z-0007.pcapng``: the time (UTC) of the first packet
and a number that grows over restarts and tells their age. They have their final name from the
start. Each write ends where a block or a line ends, so a file can be read while it grows and
after its writer has been killed; at worst its last block is cut.

A file holds packets from the second in its name on, up to about the one in the name of the next:
frames of several interfaces or processors may be a little out of order.

Only regular files with such names are counted and deleted, whatever else the directory holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from probe.keep.cells import Cell, Cells

OWN_NAME: Final = re.compile(r"netspectra-\d{8}T\d{6}Z-(\d{4,12})\.(?:pcapng|avro|txt)", re.ASCII)
"""Names of files that are ours; the group is the number."""

_RETRY_SECONDS: Final = 10.0
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A finished file of ours."""

    number: int
    name: str
    size_bytes: int


class RotatedFiles:
    """A stream of blocks cut into files, the oldest deleted to stay under a limit.

    Args:
        directory: descriptor of the directory.
        suffix: of the files' names.
        head: bytes that each file begins with.
        tail: gives the bytes that each file ends with, always as many.
        limit_bytes: most that all files of ours in the directory may take.
        rotate_bytes: a new file is begun before one gets larger, unless one write is larger.
        rotate_seconds: a new file is begun for a packet that is so much later than the first.
        cells: counters of files and bytes.
    """

    def __init__(
        self,
        directory: int,
        suffix: str,
        head: bytes,
        *,
        limit_bytes: int,
        rotate_bytes: int,
        rotate_seconds: float,
        cells: Cells,
        tail: Callable[[], bytes] = bytes,
    ) -> None:
        self._directory = directory
        self._suffix = suffix
        self._head = head
        self._tail = tail
        self._tail_bytes = len(tail())
        self._limit_bytes = limit_bytes
        self._rotate_bytes = rotate_bytes
        self._rotate_ns = round(rotate_seconds * _NS_PER_S)
        self._cells = cells
        self._file: int | None = None
        self._name = ""
        self._size_bytes = 0
        self._began_ns = 0
        self._others: list[OwnFile] = []

    def write(self, parts: Sequence[memoryview], ts_ns: int) -> None:
        """Append blocks, whole or not at all.

        Args:
            parts: bytes that belong together.
            ts_ns: Unix time of the first packet in them.

        Raises:
            OSError: the system refuses; nothing of ``parts`` is in the file.
        """
        size_bytes = sum(part.nbytes for part in parts)
        if self._file is not None and (
            self._size_bytes + size_bytes + self._tail_bytes > self._rotate_bytes
            or ts_ns - self._began_ns >= self._rotate_ns
        ):
            self.finish()
        if self._file is None:
            self._begin(ts_ns, len(self._head) + size_bytes)
        else:
            self._make_room(size_bytes)
        try:
            self._append(parts)
        except OSError:
            self._abandon()
            raise

    def finish(self) -> None:
        """End the file that is being written, if there is one."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):  # the blocks are there; the tail is a courtesy
            self._append([memoryview(self._tail())])
        self._close()

    def _begin(self, ts_ns: int, size_bytes: int) -> None:
        self._others, last = own_files(self._directory)
        self._size_bytes = 0
        self._make_room(size_bytes)
        began = datetime.fromtimestamp(ts_ns // _NS_PER_S, UTC)
        self._name = f"netspectra-{began:%Y%m%dT%H%M%SZ}-{last + 1:04}.{self._suffix}"
        self._file = os.open(self._name, _NEW, 0o600, dir_fd=self._directory)
        self._began_ns = ts_ns
        self._cells[Cell.FILES] += 1
        try:
            self._append([memoryview(self._head)])
        except OSError:
            self._abandon()
            raise

    def _make_room(self, size_bytes: int) -> None:
        kept_bytes = sum(file.size_bytes for file in self._others) + self._size_bytes
        excess = kept_bytes + size_bytes + self._tail_bytes - self._limit_bytes
        while excess > 0 and self._others:
            oldest = self._others.pop(0)
            try:
                os.unlink(oldest.name, dir_fd=self._directory)
                self._cells[Cell.DELETED_FILES] += 1
            except FileNotFoundError:
                pass  # someone else was faster
            excess -= oldest.size_bytes

    def _append(self, parts: Sequence[memoryview]) -> None:
        assert self._file is not None
        left = [part.cast("B") for part in parts if part.nbytes]
        size_bytes = sum(part.nbytes for part in left)
        try:
            while left:
                left = _after(left, os.writev(self._file, left))
        except OSError:
            os.ftruncate(self._file, self._size_bytes)
            raise
        self._size_bytes += size_bytes
        self._cells[Cell.KEPT_BYTES] += size_bytes

    def _close(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None  # closed even when that fails
        os.close(file)

    def _abandon(self) -> None:
        """Close a file that can't grow; one without blocks goes."""
        self._close()
        if self._size_bytes <= len(self._head):
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)


class Keep:
    """Keeps what can be kept and counts all: a full disk is no reason to stop capturing.

    Args:
        files: where to.
        cells: the counters.
    """

    def __init__(self, files: RotatedFiles, cells: Cells) -> None:
        self._files = files
        self._cells = cells
        self._retry_at = 0.0

    def add(self, parts: Sequence[memoryview], ts_ns: int, count: int) -> None:
        """Write ``count`` frames or records, or count them as not kept.

        After a refusal nothing is tried for ten seconds, so that a full disk costs nothing.
        """
        now = time.monotonic()
        if now >= self._retry_at:
            try:
                self._files.write(parts, ts_ns)
            except OSError as error:
                self._retry_at = now + _RETRY_SECONDS
                self._cells[Cell.ERRNO] = error.errno or errno.EIO
            else:
                self._cells[Cell.ERRNO] = 0
                self._cells[Cell.KEPT] += count
                return
        no_room = int(self._cells[Cell.ERRNO]) in _NO_ROOM
        self._cells[Cell.DISK_FULL if no_room else Cell.WRITE_FAILED] += count

    def close(self) -> None:
        """End the last file."""
        with contextlib.suppress(OSError):
            self._files.finish()


def own_files(directory: int) -> tuple[list[OwnFile], int]:
    """Files of ours, oldest first, and the largest number that any name of ours has."""
    found: list[OwnFile] = []
    last = -1
    with os.scandir(directory) as entries:
        for entry in entries:
            match = OWN_NAME.fullmatch(entry.name)
            if match is None:
                continue
            last = max(last, int(match[1]))
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(OwnFile(int(match[1]), entry.name, status.st_size))
    found.sort(key=lambda file: (file.number, file.name))
    return found, last


def _after(parts: list[memoryview], count: int) -> list[memoryview]:
    """What is left of ``parts`` after their first ``count`` bytes."""
    while parts and count >= parts[0].nbytes:
        count -= parts[0].nbytes
        parts = parts[1:]
    return [parts[0][count:], *parts[1:]] if parts and count else parts
