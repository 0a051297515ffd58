"""A live capture of synthetic traffic, with a ring that overflows when it isn't read."""

from __future__ import annotations

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np

from probe.live import CaptureCounts
from probe.synthetic import Traffic
from schemas.record import CapturePoint, Packets

RING_RECORDS = 16 * 2**20 // 96


class SyntheticCapture:
    """Packets of a stream at a rate of the clock, None for all at once, one after the other."""

    def __init__(
        self, traffic: Traffic, rate: float | None = None, ring_records: int = RING_RECORDS
    ) -> None:
        self.point = CapturePoint.SYNTHETIC
        self.choices: tuple[str, ...] = ("synthetic traffic",)
        self.interfaces = {1: "lo"}
        self.sampling_rate = 1
        self.aggregated = False
        self.detached = False
        self.sent_state: Any = None
        self.unclean: tuple[Any, ...] = ()
        self._traffic = traffic
        self._rate = rate
        self._ring_records = ring_records
        self._ring: deque[tuple[int, int]] = deque()
        self._offered = 0
        self._waiting = 0
        self._ring_full = 0
        self._watermark_ns = traffic.start_ns
        self._started_s = time.monotonic()

    @property
    def finished(self) -> bool:
        return self._offered == self._traffic.packets and not self._waiting

    def read(self, out: Packets) -> int:
        self._pass()
        done = 0
        while self._ring and done < len(out):
            first, waiting = self._ring.popleft()
            count = min(waiting, len(out) - done)
            self._traffic.fill(first, out[done : done + count])
            if count < waiting:
                self._ring.appendleft((first + count, waiting - count))
            done += count
        self._waiting -= done
        if done:
            self._watermark_ns = int(out["ts_ns"][done - 1])
        return done

    def watermark_ns(self) -> int:
        return self._watermark_ns

    def counts(self) -> CaptureCounts:
        self._pass()
        return CaptureCounts(self._offered, {"ring_full": self._ring_full})

    def detach(self) -> None:
        self._pass()
        self.detached = True

    def close(self) -> None:
        self.detach()

    def _pass(self) -> None:
        """Let the packets of the time since the last look go by."""
        if self.detached:
            return
        free = self._ring_records - self._waiting
        left = self._traffic.packets - self._offered
        if self._rate is None:
            new = kept = min(free, left)
        else:
            due = int((time.monotonic() - self._started_s) * self._rate)
            new = min(due - self._offered, left)
            kept = min(new, free)
        if kept:
            self._ring.append((self._offered, kept))
        self._offered += new
        self._waiting += kept
        self._ring_full += new - kept


def sent_state(partitions: int) -> SimpleNamespace:
    """Room for what a probe writes down, as memory that outlives it would have."""
    return SimpleNamespace(
        boot_id=np.zeros(16, np.uint8),
        sequences=np.zeros(partitions, np.uint64),
        packets=np.zeros(partitions, np.uint64),
        ended=np.zeros(1, np.uint64),
    )
