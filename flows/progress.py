"""How far a run is: a live line on a terminal, a rare log line anywhere else."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TextIO

from flows import logs

LOG_EVERY_S: Final = 30.0
"""Seconds between log lines where there is no terminal."""

DRAW_EVERY_S: Final = 0.2

RATE_OVER_S: Final = 5.0
"""Seconds that the rate of the live line looks back; that of a log line, to the one before."""


class Progress:
    """Show packets, rate, event time and share done, while a run goes on.

    Used as a context manager. `update` may be called as often as one likes, from any thread
    that alone does so: it draws at most five times a second, and logs every half minute.

    Args:
        stream: Where to draw, by default stderr.
        clock: Monotonic seconds; a test passes its own.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._live: Any = None
        self._task: Any = None
        self._last = clock()
        self._shown = deque([(self._last, 0)])

    def __enter__(self) -> Self:
        """Start the clock, and the live line if there is a terminal."""
        self._last = self._clock()
        self._shown = deque([(self._last, 0)])
        if self._stream.isatty():
            self._start_live()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(
        self, packets: int, event_time_ns: int | None = None, done: float | None = None
    ) -> None:
        """Say how far we are.

        Args:
            packets: Packets read since the start.
            event_time_ns: Time of the newest packet, Unix ns.
            done: Share of the input that is read, 0 to 1, where it is known.
        """
        now = self._clock()
        if now - self._last < (DRAW_EVERY_S if self._live else LOG_EVERY_S):
            return
        self._last = now
        rate = self._rate(now, packets)
        if self._live:
            self._live.update(
                self._task, completed=done or 0, total=None if done is None else 1,
                text=f"{packets:,} packets  {rate:,.0f}/s  {format_time(event_time_ns)}",
            )  # fmt: skip
            return
        logs.get("progress").info(
            "reading",
            packets=packets,
            packets_per_second=round(rate),
            event_time=format_time(event_time_ns),
            **({} if done is None else {"percent": round(100 * done, 1)}),
        )

    def _rate(self, now: float, packets: int) -> float:
        """Packets a second since the previous line, live over the last seconds."""
        back_s = RATE_OVER_S if self._live else 0.0
        while len(self._shown) > 1 and self._shown[1][0] <= now - back_s:
            self._shown.popleft()
        then, before = self._shown[0]
        self._shown.append((now, packets))
        return (packets - before) / max(now - then, 1e-9)

    def _start_live(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Live

        self._live = Live(
            SpinnerColumn(),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(file=self._stream),
            transient=True,
            auto_refresh=True,
        )
        self._task = self._live.add_task("", total=None, text="starting")
        self._live.start()


def format_time(ns: int | None) -> str:
    """A Unix time in ns as ``2026-01-02 03:04:05`` (UTC); nothing gives a dash."""
    if ns is None:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        # A capture may claim any time, also one past the year 9999.
        return f"{ns // 10**9} s"
