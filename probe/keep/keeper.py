"""Keeping from the probe's side: a process that writes, and never a moment's wait for it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from probe.errors import KeepError
from probe.keep.cells import CELLS_BYTES, Cell, map_cells, shared_memory
from probe.keep.options import KeepCounts, KeepOptions
from probe.keep.setup import READY, Setup
from probe.keep.slots import SLOT_RECORDS, SLOTS_BYTES, SlotWriter
from probe.live import CaptureOptions
from schemas.record import Packets

_START_SECONDS: Final = 120.0
"""Longest that a start may take: kernels are compiled the first time."""

_CLOSE_SECONDS: Final = 10.0
"""Longest that the last writes may take."""

_KILL_SECONDS: Final = 2.0
_NEEDED: Final = re.compile(
    "PATH|HOME|LANG|LC_.*|TZ|TMPDIR|XDG_CACHE_HOME|LD_LIBRARY_PATH|SUDO_[UG]ID|PYTHON.*|NUMBA_.*"
)
"""Variables that the writing process gets."""

_MODULE: Final = "probe.keep.process"


class Keeper:
    """Keeps what a probe sees in files, by a process of its own.

    For pcapng that process captures frames itself and ``offer`` has nothing to do; for Avro and
    text it gets the records that the probe reads. It is started here, while there are
    privileges, and gives up its own. It ends when this object is closed or this process ends in
    whatever way, and leaves files that can be read even when it is killed.

    Args:
        options: how to keep.
        capture_options: what is captured.
        interfaces: names by number.

    Raises:
        KeepError: nothing can be kept.
    """

    def __init__(
        self,
        options: KeepOptions,
        capture_options: CaptureOptions,
        interfaces: Mapping[int, str],
    ) -> None:
        self._directory = options.directory
        self._offered = self._queue_full = 0
        self._queue: SlotWriter | None = None
        self._closed = False
        self._frames = options.format == "pcapng"
        cells = shared_memory("netspectra-keep", CELLS_BYTES)
        slots = shared_memory("netspectra-keep-records", 0 if self._frames else SLOTS_BYTES)
        try:
            self._cells = map_cells(cells)
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                (sys.executable, "-P", "-m", _MODULE),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(cells, slots),
                process_group=0,  # Ctrl-C is for the probe alone
                env=_environment(),
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            work, answers = self._process.stdin.fileno(), self._process.stdout.fileno()
            try:
                with contextlib.suppress(BrokenPipeError):  # why it ended is found out below
                    Setup(options, capture_options, dict(interfaces), cells, slots).send(work)
                _await_ready(answers)
                if not self._frames:
                    self._queue = SlotWriter(slots, work, answers)
            except BaseException:
                self._stop(_KILL_SECONDS)
                raise
        finally:
            os.close(cells)
            os.close(slots)

    @property
    def pid(self) -> int:
        """Number of the writing process."""
        return self._process.pid

    @property
    def trouble(self) -> str | None:
        """Why nothing is kept at the moment, a line for the user; None while all is well."""
        code = self._process.poll()
        if code is not None and not self._closed:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            return f"the process that writes to {self._directory} ended ({how}): nothing is kept"
        if number := int(self._cells[Cell.ERRNO]):
            why = os.strerror(number)
            return f"{self._directory} takes no more ({why}): capturing goes on, keeping waits"
        return None

    def offer(self, packets: Packets) -> None:
        """Give records to be kept: copied, or skipped when too many wait. Never blocks.

        Does nothing for pcapng.
        """
        if self._frames:
            return
        self._offered += len(packets)
        if self._queue is None:
            return  # closed; counts() finds them missing
        for start in range(0, len(packets), SLOT_RECORDS):
            part = packets[start : start + SLOT_RECORDS]
            try:
                if not self._queue.offer(part):
                    self._queue_full += len(part)
            except BrokenPipeError:
                return

    def counts(self) -> KeepCounts:
        """Totals since the start."""
        ended = self._process.poll() is not None
        cells = self._cells
        skipped = {
            "ring_full": int(cells[Cell.RING_FULL]),
            "queue_full": self._queue_full,
            "disk_full": int(cells[Cell.DISK_FULL]),
            "write_failed": int(cells[Cell.WRITE_FAILED]),
        }
        offered = int(cells[Cell.OFFERED]) if self._frames else self._offered
        kept = int(cells[Cell.KEPT])
        if ended:
            skipped["writer_ended"] = max(0, offered - kept - sum(skipped.values()))
        return KeepCounts(
            offered=max(offered, kept + sum(skipped.values())),
            kept=kept,
            skipped={reason: count for reason, count in skipped.items() if count},
            kept_bytes=int(cells[Cell.KEPT_BYTES]),
            files=int(cells[Cell.FILES]),
            deleted_files=int(cells[Cell.DELETED_FILES]),
        )

    def close(self) -> None:
        """Keep what waits, end the last file and the process; may be called twice."""
        if not self._closed:
            self._closed = True
            self._queue = None
            self._stop(_CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stop(self, patience_seconds: float) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            # Without privileges it may not be ours to kill; it ends when its disk answers.
            with contextlib.suppress(PermissionError):
                self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)
        self._process.stdout.close()


def open_keeper(
    options: KeepOptions, capture_options: CaptureOptions, interfaces: Mapping[int, str]
) -> Keeper:
    """Begin to keep what the interfaces (names by number) see; before privileges are dropped.

    For pcapng these are the frames that pass the interfaces in the directions and through the
    filter of ``capture_options``, all of them: sampling and flow mode don't concern frames.

    Raises:
        KeepError: the directory can't be used, or an interface can't be captured.
    """
    return Keeper(options, capture_options, interfaces)


def _await_ready(answers: int) -> None:
    """Read the process's first line."""
    end_at = time.monotonic() + _START_SECONDS
    line = b""
    poller = select.poll()
    poller.register(answers, select.POLLIN)
    while not line.endswith(b"\n"):
        if not poller.poll(max(0.0, 1000 * (end_at - time.monotonic()))):
            msg = f"the process that keeps packets isn't ready after {_START_SECONDS:.0f} seconds"
            raise KeepError(msg)
        byte = os.read(answers, 1)
        if not byte:
            msg = "the process that keeps packets ended at its start: what it printed says why"
            raise KeepError(msg)
        line += byte
    if line != READY:
        raise KeepError(line.decode().rstrip())


def _environment() -> dict[str, str]:
    """What the writing process needs of ours, none of the settings, and where our packages are."""
    packages = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    needed = {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name)}
    return {**needed, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
