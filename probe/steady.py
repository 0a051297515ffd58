"""A live capture that outlasts its interfaces: what goes is told, what comes back is captured anew.

An interface that is only down keeps its programs and sockets, and they go on when it is up again.
One that was removed takes them with it: another one of the same name has another number.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from probe.af_packet import interface_state
from probe.choose import open_capture
from probe.errors import LiveError, Unavailable
from probe.live import CaptureCounts, CaptureOptions, LiveCapture
from schemas.record import CapturePoint, Packets

LOOK_S: Final = 0.5
"""How often interfaces are looked at."""

_SETTLE_NS: Final = 10_000_000
"""How far the watermark stays behind the clock while nothing is captured."""


class SteadyCapture:
    """A ``LiveCapture`` over others, one after the other. One thread uses it.

    Counts go on from one to the next, numbers of interfaces stay known. Where several interfaces
    are captured, all are captured anew when one of them comes back, which takes some
    milliseconds in which packets pass unseen.

    Args:
        options: what to capture.
        tell: is given a line each time that something changes.
        look_s: how often interfaces are looked at, s.

    Attributes:
        absences: how often each interface went away or down.

    Raises:
        LiveError: the options can't be met.
        Unavailable: no way that they allow works here.
    """

    def __init__(
        self, options: CaptureOptions, tell: Callable[[str], None], look_s: float = LOOK_S
    ) -> None:
        self.absences: Counter[str] = Counter()
        self._names: dict[int, str] = {}
        self.interfaces: Mapping[int, str] = self._names
        self._options = options
        self._tell = tell
        self._look_s = look_s
        self._looked_s = time.monotonic()
        self._present = dict.fromkeys(options.interfaces, True)
        self._before = CaptureCounts(0)
        self._watermark_ns = 0
        self._refusal = ""
        self._leaving = self._ended = False
        self._capture: LiveCapture | None = self._opened()

    def _opened(self) -> LiveCapture:
        capture = open_capture(self._options)
        self.choices: tuple[str, ...] = capture.choices
        self.point: CapturePoint = capture.point
        self.sampling_rate: int = capture.sampling_rate
        self._numbers = {name: number for number, name in capture.interfaces.items()}
        self._names.update(capture.interfaces)
        return capture

    @property
    def aggregated(self) -> bool:
        """Whether records may stand for a flow's packets of up to a second."""
        return self._capture is not None and self._capture.aggregated

    def read(self, out: Packets) -> int:
        """Copy what waits to ``out``, at most its length; returns how many. Never blocks."""
        if not self._ended and time.monotonic() - self._looked_s >= self._look_s:
            self._look()
        count = self._capture.read(out) if self._capture else 0
        if not count and self._leaving:
            self._begin_anew()
        return count

    def watermark_ns(self) -> int:
        """Unix time before which no more packets will come, as of the last read; never falls."""
        now_ns = self._capture.watermark_ns() if self._capture else time.time_ns() - _SETTLE_NS
        self._watermark_ns = max(self._watermark_ns, now_ns)
        return self._watermark_ns

    def counts(self) -> CaptureCounts:
        """Totals since the start, of all captures."""
        return _added(self._before, self._capture.counts()) if self._capture else self._before

    def detach(self) -> None:
        """Take no new packets; what waits can still be read."""
        self._ended = True
        self._leaving = False
        if self._capture:
            self._capture.detach()

    def close(self) -> None:
        """Detach and give everything back; may be called twice."""
        self.detach()
        if self._capture:
            self._capture.close()

    def _look(self) -> None:
        """See which interfaces are there and up, and whether one is there anew."""
        self._looked_s = time.monotonic()
        states = {name: interface_state(name) for name in self._options.interfaces}
        for name, state in states.items():
            present = state is not None and state.up
            if present != self._present[name]:
                self._present[name] = present
                self.absences[name] += not present
                what = "back" if present else "gone" if state is None else "down"
                self._tell(f"interface {name} is {what}")
        if all(states.values()):
            numbers = {name: state.number for name, state in states.items() if state}
            if numbers != self._numbers or not self._capture:
                self._leave()

    def _leave(self) -> None:
        """Read what the capture has left, before the next one begins."""
        if self._capture:
            self._capture.detach()
        self._leaving = True

    def _begin_anew(self) -> None:
        self._leaving = False
        if self._capture:
            self._capture.close()
            self._before = _added(self._before, self._capture.counts())
            self._capture = None
        try:
            self._capture = self._opened()
        except (LiveError, Unavailable) as error:
            # It is tried again at the next look, and told once.
            if str(error) != self._refusal:
                self._tell(f"interfaces can't be captured again: {error}")
            self._refusal = str(error)
        else:
            if self._refusal:
                self._tell("interfaces are captured again")
            self._refusal = ""


def _added(before: CaptureCounts, now: CaptureCounts) -> CaptureCounts:
    dropped: Mapping[str, int] = {
        reason: before.dropped.get(reason, 0) + now.dropped.get(reason, 0)
        for reason in {**before.dropped, **now.dropped}
    }
    return CaptureCounts(before.seen + now.seen, dropped, before.filtered + now.filtered)
