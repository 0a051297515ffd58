"""Keeps the partitions of a process together in event time."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

MAX_LEAD_PANES: Final = 5
"""Panes of event time that a partition may be ahead of the slowest one that has more to read.

What is ahead waits in memory and in every snapshot: with 30, a backlog of many partitions cost half
of the job's time there.
"""


@dataclass
class _Place:
    watermark_ns: int = 0
    caught_up: bool = False


class Pace:
    """Tells a partition that is far ahead to wait for the others.

    Without it, a backlog on one partition makes all others pile up open horizons. A partition
    that has read all there is holds nobody back. Safe to use from several worker threads.

    Args:
        max_lead_ns: how far ahead is allowed.
    """

    def __init__(self, max_lead_ns: int) -> None:
        self._max_lead_ns = max_lead_ns
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()

    def join(self, partition: str) -> None:
        """A partition begins to read; it holds the others back until it says where it is."""
        with self._lock:
            self._places[partition] = _Place()

    def note(self, partition: str, watermark_ns: int, *, caught_up: bool) -> None:
        """Say how far a partition is, and whether it has read all there is for now."""
        place = self._places[partition]
        place.watermark_ns, place.caught_up = watermark_ns, caught_up

    def must_wait(self, partition: str) -> bool:
        """Whether the partition shall not read on for now."""
        with self._lock:
            others = [
                place.watermark_ns
                for name, place in self._places.items()
                if name != partition and not place.caught_up
            ]
        own_ns = self._places[partition].watermark_ns
        return bool(others) and own_ns - min(others) > self._max_lead_ns
