"""Maps with names in the BPF file system, where they outlive the probe.

Under ``<bpffs>/netspectra/<probe>/`` are ``counters``, the programs' own, and ``sent``, what the
probe says it has sent. A clean stop removes them. What is there at the start was left by a boot
that was killed, and tells what it lost. The folder is locked while a probe runs.
"""

from __future__ import annotations

import contextlib
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
"""The one value of the map ``sent``; ``ended`` is 1 after a clean stop."""


class Pins:
    """The folder of a running probe.

    Args:
        bpffs: where the BPF file system is mounted.
        name: of the probe.

    Attributes:
        unclean: what an earlier boot left, or None. It stays until ``take_over``.

    Raises:
        LiveError: a probe of that name runs.
        OSError: the file system isn't there, or can't be written.
    """

    def __init__(self, bpffs: Path, name: str) -> None:
        # The kernel wants no dots in names there.
        self._folder = bpffs / "netspectra" / quote(name, safe="").replace(".", "%2E")
        self._sent: npt.NDArray[Any] | None = None
        self._folder.parent.mkdir(mode=0o700, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.unclean = self._left_behind()
        except BlockingIOError as error:
            os.close(self._lock)
            msg = f"a probe named {name!r} runs already; stop it, or give this one another name"
            raise LiveError(msg) from error
        except BaseException:
            os.close(self._lock)
            raise

    def take_over(self, counters_fd: int) -> SentState:
        """Pin new maps in the place of what an earlier boot left.

        Args:
            counters_fd: the map of the programs.

        Returns:
            Where to note what was sent.

        Raises:
            OSError: nothing can be pinned there.
        """
        self._remove_maps()
        shape = MapInfo(syscalls.ARRAY, 0, 4, SENT.itemsize, 1, syscalls.MMAPABLE)
        sent_fd = syscalls.create_map(shape, "sent")
        try:
            sent = np.frombuffer(syscalls.mapped(sent_fd, SENT.itemsize), SENT, 1)
            syscalls.pin(sent_fd, self._folder / "sent")
            syscalls.pin(counters_fd, self._folder / "counters")
        finally:
            os.close(sent_fd)
        self._sent = sent
        return SentState(sent["boot_id"][0], sent["sequences"][0], sent["packets"][0])

    def close(self, *, clean: bool) -> None:
        """End; after a clean stop, remove the maps. May be called twice."""
        if self._lock < 0:
            return
        if clean and self._sent is not None:
            self._sent["ended"] = 1  # for a probe that may no longer remove files
            self._remove_maps()
        with contextlib.suppress(OSError):  # what isn't empty stays
            self._folder.rmdir()
            self._folder.parent.rmdir()
        os.close(self._lock)
        self._lock = -1

    def _left_behind(self) -> UncleanStop | None:
        with contextlib.ExitStack() as opened:
            try:
                fds = [syscalls.pinned(self._folder / name) for name in ("sent", "counters")]
            except FileNotFoundError:
                return None  # a clean stop, or killed before anything was captured
            for fd in fds:
                opened.callback(os.close, fd)
            (sent,) = np.frombuffer(syscalls.mapped(fds[0], SENT.itemsize), SENT, 1).copy()
            if sent["ended"]:
                return None
            counts = as_counts(Counters(fds[1]).read())
        return UncleanStop(sent["boot_id"].tobytes(), counts, sent["sequences"], sent["packets"])

    def _remove_maps(self) -> None:
        with contextlib.suppress(PermissionError):  # privileges are gone
            for name in ("counters", "sent"):
                (self._folder / name).unlink(missing_ok=True)
