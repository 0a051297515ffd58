"""Capture files as if they were live."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np

from probe.capture import CaptureFile
from probe.errors import CaptureError
from probe.live import CaptureCounts
from schemas.record import PACKET, CapturePoint, Packets, as_words

MAX_SPEED: Final = math.inf
"""As fast as packets are taken."""

_AHEAD_RECORDS: Final = 16_384


class FileCapture:
    """Packets of capture files, at their own pace, a multiple of it, or at once.

    A live capture (``probe.live.LiveCapture``) whose clock is that of the packets: watermark
    and ``emit_time_ns`` are capture time. Packets of a file that are out of order go when those
    before them in the file go; the watermark is the latest time so far, so a dataflow sees them
    as late by as much as they are. The pause between two files is skipped.

    Args:
        paths: files, in the order in which to read them.
        speed: 1 for the original pace, 2 for twice that; ``MAX_SPEED``.
        decapsulate: see ``CaptureFile``.
        now_s: clock that the pace follows.

    Attributes:
        point, choices, interfaces, sampling_rate: see ``LiveCapture``.

    Raises:
        CaptureError: a file can't be read; the first one here, others when they are reached.
        ValueError: there is no file, or ``speed`` isn't positive.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        speed: float = 1.0,
        decapsulate: bool = False,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        if not self._paths:
            msg = "there is no capture file to replay"
            raise ValueError(msg)
        if not speed > 0:
            msg = f"speed is {speed}: give a number above 0, or max"
            raise ValueError(msg)
        pace = "at once" if speed == MAX_SPEED else f"at {speed:g} times its own pace"
        names = ", ".join(str(path) for path in self._paths)
        self.point = CapturePoint.FILE
        self.choices: tuple[str, ...] = (f"replaying {names} {pace}",)
        self.interfaces: dict[int, str] = {}
        self.sampling_rate = 1
        self._speed = speed
        self._decapsulate = decapsulate
        self._now_s = now_s
        self._buffer = np.empty(_AHEAD_RECORDS, PACKET)
        self._waiting = self._buffer[:0]
        self._due_ns = np.empty(0, np.uint64)
        self._latest_ns = 0
        self._read_packets = 0
        self._lost_frames = 0
        self._detached = False
        self._file: CaptureFile | None = None
        self._open_next()

    @property
    def aggregated(self) -> bool:
        """False: a record is a frame."""
        return False

    @property
    def finished(self) -> bool:
        """Whether all packets of all files have been read."""
        return self._file is None and len(self._waiting) == 0

    def read(self, out: Packets) -> int:
        """Copy the packets whose time has come, at most ``len(out)``.

        Raises:
            CaptureError: the next file can't be read.
        """
        words = as_words(out)  # copied at once; records would be copied field by field
        done = 0
        while done < len(out) and not self._detached and (len(self._waiting) or self._fill()):
            count = min(self._due(), len(out) - done)
            if count == 0:
                break
            words[done : done + count] = as_words(self._waiting[:count])
            self._latest_ns = int(self._due_ns[count - 1])
            self._waiting, self._due_ns = self._waiting[count:], self._due_ns[count:]
            done += count
        self._read_packets += done
        return done

    def watermark_ns(self) -> int:
        """Time of the latest packet so far; at a finite speed the replay's own clock."""
        if self._speed != MAX_SPEED and len(self._waiting):
            self._latest_ns = max(self._latest_ns, min(self._clock_ns(), int(self._due_ns[0])))
        return self._latest_ns

    def emit_time_ns(self) -> int:
        """Capture time that takes the place of the clock: the watermark."""
        return self.watermark_ns()

    def counts(self) -> CaptureCounts:
        """Packets so far; a frame that was cut at a file's end counts as ``truncated``."""
        dropped = {"truncated": self._lost_frames} if self._lost_frames else {}
        return CaptureCounts(self._read_packets + self._lost_frames, dropped)

    def detach(self) -> None:
        """Replay nothing more."""
        self._detached = True

    def count_rest(self, most_s: float = 2.0) -> tuple[int, bool]:
        """Read what was never taken, only to count it.

        Args:
            most_s: when to give up.

        Returns:
            Packets, and whether that is all of them: not when time ran out, or when a file can't
            be read.
        """
        until_s = self._now_s() + most_s
        count = len(self._waiting)
        self._waiting = self._buffer[:0]
        try:
            while self._fill():
                count += len(self._waiting)
                self._waiting = self._buffer[:0]
                if self._now_s() > until_s:
                    return count, False
        except CaptureError:
            return count, False
        return count, True

    def close(self) -> None:
        """Stop and close the file."""
        self.detach()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _due(self) -> int:
        """How many of the waiting packets may go."""
        if self._speed == MAX_SPEED:
            return len(self._waiting)
        return int(np.searchsorted(self._due_ns, np.uint64(self._clock_ns()), side="right"))

    def _clock_ns(self) -> int:
        """Capture time that the replay has reached."""
        passed_ns = (self._now_s() - self._started_s) * self._speed * 1e9
        return min(self._first_ns + int(passed_ns), 2**63 - 1)

    def _fill(self) -> bool:
        """Decode packets ahead; False when there are no more."""
        while self._file is not None:
            self._waiting = self._file.read(_AHEAD_RECORDS, self._buffer)
            self.interfaces |= {i.if_index: i.name for i in self._file.interfaces if i.name}
            if len(self._waiting):
                times = np.maximum.accumulate(self._waiting["ts_ns"])
                self._due_ns = np.maximum(times, np.uint64(self._latest_ns))
                return True
            if self._file.truncated is not None:
                self._lost_frames += self._file.truncated.lost_frames
            self._file.close()
            self._open_next()
        return False

    def _open_next(self) -> None:
        self._file = None
        if not self._paths:
            return
        self._file = CaptureFile(self._paths.pop(0), decapsulate=self._decapsulate)
        self._first_ns = max(self._file.first_ts_ns or 0, self._latest_ns)
        self._started_s = self._now_s()
        if self._latest_ns == 0:
            self._latest_ns = self._file.first_ts_ns or 0
