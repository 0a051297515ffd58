"""Leaves a service alone that doesn't work, and tries now and then whether it does again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
"""In a row, after which the service is left alone."""

FIRST_PAUSE_S: Final = 10.0
MAX_PAUSE_S: Final = 300.0


class Breaker:
    """Whether to ask. Safe to use from several threads.

    Closed: everybody may. After some failures in a row it opens: nobody may for a while. Then it
    is half open: one may try; a success closes it, a failure opens it for twice as long.

    Args:
        first_pause_s: how long nobody may, the first time.
        clock: seconds that only grow.
    """

    def __init__(
        self, first_pause_s: float = FIRST_PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first_pause_s = first_pause_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = first_pause_s
        self._until_s = 0.0
        self._trying = False

    @property
    def is_closed(self) -> bool:
        """Whether all is well."""
        return self._failures < FAILURES

    def wait_s(self) -> float:
        """How long to wait before asking; 0: now, and then ``succeeded`` or ``failed`` must follow.

        While one tries whether the service is back, the others wait.
        """
        with self._lock:
            left_s = self._until_s - self._clock()
            if left_s > 0:
                return left_s
            if self.is_closed:
                return 0.0
            if self._trying:
                return min(self._pause_s, 1.0)
            self._trying = True
            return 0.0

    def succeeded(self) -> None:
        """The service answered, whatever it said."""
        with self._lock:
            self._failures, self._trying = 0, False
            self._pause_s = self._first_pause_s

    def unused(self) -> None:
        """Nobody asked after all."""
        with self._lock:
            self._trying = False

    def failed(self, after_s: float = 0.0) -> bool:
        """The service didn't answer, or asked to be left alone for so long.

        Returns:
            Whether it is left alone from now on, and wasn't before.
        """
        with self._lock:
            half_open, self._trying = self._trying, False
            self._failures += 1
            now_s = self._clock()
            if after_s:
                self._until_s = max(self._until_s, now_s + after_s)
            if self.is_closed:
                return False
            if half_open:
                self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
            opens = self._failures == FAILURES
            if half_open or opens:
                self._until_s = max(self._until_s, now_s + self._pause_s)
            return opens
