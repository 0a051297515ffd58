"""From the kernel's monotonic clock, on which programs read the time, to Unix time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_INTERVAL_NS: Final = 100_000_000
_READINGS: Final = 5


class Clock:
    """The difference between both clocks, measured anew at most every 100 ms.

    The kernel slews both alike, so their difference changes only when the wall clock is set.
    Each measurement reads the wall clock between two readings of the monotonic one, several
    times, and takes the tightest. What lies within the error is noise, and leaves the
    difference as it was; a step is followed at once.

    Args:
        monotonic_ns: CLOCK_MONOTONIC.
        wall_ns: CLOCK_REALTIME.
    """

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._measured_ns = monotonic_ns()
        self.offset_ns, self._error_ns = self._measure()
        """Unix time minus monotonic time."""

    def now_ns(self) -> int:
        """Monotonic time."""
        return self._monotonic_ns()

    def update(self) -> bool:
        """Measure again if it is time to; returns whether the difference has changed."""
        now_ns = self._monotonic_ns()
        if now_ns - self._measured_ns < _INTERVAL_NS:
            return False
        self._measured_ns = now_ns
        offset_ns, error_ns = self._measure()
        if abs(offset_ns - self.offset_ns) <= error_ns + self._error_ns:
            return False
        self.offset_ns, self._error_ns = offset_ns, error_ns
        return True

    def _measure(self) -> tuple[int, int]:
        best_offset_ns, best_width_ns = 0, None
        for _ in range(_READINGS):
            before_ns = self._monotonic_ns()
            wall_ns = self._wall_ns()
            width_ns = self._monotonic_ns() - before_ns
            if best_width_ns is None or width_ns < best_width_ns:
                best_offset_ns, best_width_ns = wall_ns - before_ns - width_ns // 2, width_ns
        assert best_width_ns is not None
        return best_offset_ns, best_width_ns // 2 + 1
