"""How a run is told to end, and why: shared by its source, its sinks and its signal handlers."""

from __future__ import annotations

import time
from typing import Final

_LOOK_S: Final = 0.1


class RunControl:
    """Flags of one run, safe to set from any thread or a signal handler.

    Expected failures travel this way instead of as exceptions: bytewax ends the process with a
    panic and two stack traces when a step raises.
    """

    def __init__(self) -> None:
        self._stopping = False  # no event: its lock would hold a handler that interrupts another
        self._failure: Exception | None = None
        self._failed_s: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether the run shall end early."""
        return self._stopping

    @property
    def failure(self) -> Exception | None:
        """The first failure, if any."""
        return self._failure

    @property
    def failed_s(self) -> float | None:
        """Monotonic time of the first failure, s."""
        return self._failed_s

    def stop(self) -> None:
        """End early, after what has been emitted is stored."""
        self._stopping = True

    def wait(self, seconds: float) -> bool:
        """Wait for so long, or until the run is told to end; returns whether it is."""
        until = time.monotonic() + seconds
        while not self.stopping and (left_s := until - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
        return self.stopping

    def fail(self, error: Exception) -> None:
        """End because of ``error``; what is not stored by now will not be."""
        if self._failure is None:
            self._failure = error
            self._failed_s = time.monotonic()
        self._stopping = True
