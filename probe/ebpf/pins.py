"""Maps with names in the BPF file system, where they outlive the probe.

Under ``<bpffs>/netspectra/<probe>/<number>/`` are a boot's ``counters``, the programs' own, and
``sent``, what the probe says it has sent. A clean stop removes them and the folders above that are
empty then; a probe that gave up its privileges can only mark them, and its next start removes
them. What else is there at the start was left by boots that were killed, and tells what they lost;
it stays until that is told. The folder of the probe is locked while it runs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from probe.ebpf import syscalls
from probe.ebpf.counters import Counters, as_counts
from probe.ebpf.syscalls import MapInfo
from probe.errors import LiveError
from probe.unclean import MAX_PARTITIONS, SentState, UncleanStop

SENT: Final = np.dtype(
    [
        ("boot_id", "u1", 16),
        ("ended", "<u8"),
        ("sequences", "<u8", MAX_PARTITIONS),
        ("packets", "<u8", MAX_PARTITIONS),
    ]
)
"""The one value of the map ``sent``; ``ended`` is 1 when there is nothing to tell any more."""

_TRIES: Final = 100

_MOST_LEFT: Final = 16
"""Boots, the latest, that can wait until what they lost is told."""


class Pins:
    """The folder of a running probe.

    Args:
        bpffs: where the BPF file system is mounted.
        name: of the probe.

    Attributes:
        unclean: what earlier boots left, the oldest first.

    Raises:
        LiveError: a probe of that name runs.
        OSError: the file system isn't there, or can't be written.
    """

    def __init__(self, bpffs: Path, name: str) -> None:
        # The kernel wants no dots in names there.
        self._folder = bpffs / "netspectra" / quote(name, safe="").replace(".", "%2E")
        self._sent: npt.NDArray[Any] | None = None
        try:
            self._lock = _locked(self._folder)
        except BlockingIOError as error:
            msg = f"a probe named {name!r} runs already; stop it, or give this one another name"
            raise LiveError(msg) from error
        try:
            left = [(folder, stop) for folder in self._boots() if (stop := _left_in(folder))]
            self._left = dict(left[-_MOST_LEFT:])
            self.unclean = tuple(self._left.values())
            for folder in self._boots():
                if folder not in self._left:
                    _remove(folder)
        except BaseException:
            os.close(self._lock)
            raise

    def take_over(self, counters_fd: int) -> SentState:
        """Pin the maps of this boot.

        Args:
            counters_fd: the map of the programs.

        Returns:
            Where to note what was sent.

        Raises:
            OSError: nothing can be pinned there.
        """
        numbers = [int(folder.name) for folder in self._boots()]
        self._own = self._folder / str(1 + max(numbers, default=0))
        self._own.mkdir(mode=0o700)
        shape = MapInfo(syscalls.ARRAY, 0, 4, SENT.itemsize, 1, syscalls.MMAPABLE)
        sent_fd = syscalls.create_map(shape, "sent")
        try:
            sent = np.frombuffer(syscalls.mapped(sent_fd, SENT.itemsize), SENT, 1)
            # Killed before it has sent anything, it must have a name of its own too.
            sent["boot_id"] = np.frombuffer(os.urandom(16), np.uint8)
            syscalls.pin(sent_fd, self._own / "sent")
            syscalls.pin(counters_fd, self._own / "counters")
        except OSError:
            _remove(self._own)
            raise
        finally:
            os.close(sent_fd)
        self._sent = sent
        return SentState(
            sent["boot_id"][0], sent["sequences"][0], sent["packets"][0], sent["ended"]
        )

    def close(self, *, clean: bool) -> None:
        """End; after a clean stop, remove the maps. May be called twice."""
        if self._lock < 0:
            return
        if clean and self._sent is not None:
            self._sent["ended"] = 1  # for a probe that may no longer remove files
            _remove(self._own)
        for folder, stop in self._left.items():
            if stop.ended[0]:
                _remove(folder)
        with contextlib.suppress(OSError):  # what isn't empty stays
            self._folder.rmdir()
            self._folder.parent.rmdir()
        os.close(self._lock)
        self._lock = -1

    def _boots(self) -> list[Path]:
        """Folders of boots, the oldest first."""
        folders = [folder for folder in self._folder.iterdir() if folder.name.isdigit()]
        return sorted(folders, key=lambda folder: int(folder.name))


def _locked(folder: Path) -> int:
    """Make a folder and lock it; another probe may remove it, empty, at any moment before.

    Raises:
        BlockingIOError: it is locked.
        OSError: it can't be made.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, FileExistsError):  # pathlib looks again after it was there
            if attempt == _TRIES or not folder.parent.parent.exists():
                raise
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
        except FileNotFoundError:
            pass  # removed before it was locked
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
    msg = "it is removed again and again"
    raise OSError(errno.EAGAIN, msg)


def _left_in(folder: Path) -> UncleanStop | None:
    """What a boot left, None if it has nothing to tell."""
    with contextlib.ExitStack() as opened:
        try:
            fds = [syscalls.pinned(folder / name) for name in ("sent", "counters")]
        except FileNotFoundError:
            return None  # killed before anything was captured
        for fd in fds:
            opened.callback(os.close, fd)
        sent = np.frombuffer(syscalls.mapped(fds[0], SENT.itemsize), SENT, 1)
        counts = as_counts(Counters(fds[1]).read())
    if sent["ended"][0] or not (counts.seen or sent["sequences"].any()):
        return None
    (was,) = sent.copy()
    return UncleanStop(
        was["boot_id"].tobytes(), counts, was["sequences"], was["packets"], sent["ended"]
    )


def _remove(folder: Path) -> None:
    with contextlib.suppress(PermissionError):  # privileges are gone
        for name in ("counters", "sent"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
