"""Horizons: runs of panes whose sketches are merged, closed by the watermark of all partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.windows.sampling import UNSAMPLED, Sampling
from flows.windows.tasks import PaneSketch, Sketch

STATE_VERSION: Final = 3

_READERS: Final[dict[str, Callable[[Any], Sketch]]] = {
    "distinct": Distinct.from_partial,
    "frequency": Frequency.from_bytes,
    "spread": SuperSpread.from_bytes,
}


@dataclass(frozen=True)
class WindowResult:
    """One revision of a horizon's result.

    Attributes:
        start_ns: event time at which the horizon starts.
        horizon_ns: its length.
        revision: 1 for the first; 0 for late packets that came when it was gone, to be added.
        sketch: all that the revision knows; must not be changed.
        late_packets: of revision 0, how many packets it stands for.
        whole: whether the run has seen all of it.
        packets: that it stands for, scaled.
        sampling: how they were sampled.
    """

    start_ns: int
    horizon_ns: int
    revision: int
    sketch: Sketch
    late_packets: int = 0
    whole: bool = True
    packets: int = 0
    sampling: Sampling = UNSAMPLED


@dataclass
class _Window:
    sketch: Sketch
    owned: bool
    packets: int = 0
    revision: int = 0
    changed: bool = True
    snapshot: tuple[Any, ...] | None = field(default=None, repr=False)
    sampling: Sampling = UNSAMPLED

    def merge(self, other: Sketch) -> None:
        if not self.owned:
            self.sketch, self.owned = self.sketch.copy(), True
        self.sketch.merge(other)  # type: ignore[arg-type]  # a task's sketches are of one kind
        self.changed, self.snapshot = True, None


class HorizonMerger:
    """Merges one tenant's panes for one task, of all partitions, into horizons.

    A horizon is published when time has passed its end, and again, with the next revision, when
    late panes change it while it is kept: until the next horizon of its length is closed. Panes
    that come later are published by themselves as revision 0. Merging commutes, so the order in
    which partitions report changes no final result.

    Args:
        horizons_ns: lengths; each a multiple of the pane.
        state: an earlier ``snapshot``.

    Raises:
        ValueError: the state is of another version.
    """

    def __init__(self, horizons_ns: Sequence[int], state: tuple[Any, ...] | None = None) -> None:
        self._horizons_ns = tuple(horizons_ns)
        self._windows: dict[tuple[int, int], _Window] = {}
        if state is not None:
            self._restore(state)

    def apply(
        self,
        panes: Sequence[PaneSketch],
        pane_ns: int,
        *,
        before_ns: int,
        watermark_ns: int,
        since_ns: int = 0,
    ) -> list[WindowResult]:
        """Merge a unit's panes; returns what is new to publish, in order of time.

        Args:
            panes: in order of time; none when the unit only moves the watermark.
            pane_ns: length of a pane.
            before_ns: event time that all partitions had passed before the unit.
            watermark_ns: and with it.
            since_ns: horizons that start earlier were not seen whole.
        """
        strays: dict[tuple[int, int], _Window] = {}
        for pane in panes:
            pane_start_ns = pane.pane * pane_ns
            for horizon_ns in self._horizons_ns:
                start_ns = pane_start_ns - pane_start_ns % horizon_ns
                key = (start_ns, horizon_ns)
                gone = start_ns + horizon_ns <= before_ns and key not in self._windows
                windows = strays if gone else self._windows
                if key in windows:
                    windows[key].merge(pane.sketch)
                else:
                    windows[key] = _Window(pane.sketch, owned=False)
                windows[key].packets += pane.packets
                windows[key].sampling = windows[key].sampling.merge(pane.sampling)
        late = [
            WindowResult(
                *key,
                0,
                window.sketch,
                window.packets,
                key[0] >= since_ns,
                window.packets,
                window.sampling,
            )
            for key, window in sorted(strays.items())
        ]
        return late + self._publish(watermark_ns, since_ns)

    def _publish(self, watermark_ns: int, since_ns: int) -> list[WindowResult]:
        results = []
        newest: dict[int, int] = {}
        closed = sorted(key for key in self._windows if sum(key) <= watermark_ns)
        for key in closed:
            window = self._windows[key]
            newest[key[1]] = key[0]
            if window.changed:
                window.revision += 1
                window.changed, window.snapshot = False, None
                # The result is read later, while this window may go on changing.
                window.owned = False
                whole = key[0] >= since_ns
                results.append(
                    WindowResult(
                        *key,
                        window.revision,
                        window.sketch,
                        whole=whole,
                        packets=window.packets,
                        sampling=window.sampling,
                    )
                )
        for start_ns, horizon_ns in closed:
            if start_ns != newest[horizon_ns]:
                del self._windows[start_ns, horizon_ns]
        return results

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state; only windows that changed are serialised anew."""
        windows = []
        for key, window in self._windows.items():
            if window.snapshot is None:
                head = (key, window.revision, window.changed, window.packets, *window.sampling)
                window.snapshot = (*head, *_image(window.sketch))
            windows.append(window.snapshot)
        return (STATE_VERSION, tuple(windows))

    def _restore(self, state: tuple[Any, ...]) -> None:
        version, *rest = state
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        (windows,) = rest
        for key, revision, changed, packets, rate, clustered, kind, image in windows:
            sketch = _READERS[kind](image)
            sampling = Sampling(rate, clustered)
            self._windows[key] = _Window(
                sketch, True, packets, revision, changed, sampling=sampling
            )


def _image(sketch: Sketch) -> tuple[str, bytes]:
    if isinstance(sketch, Distinct):
        return "distinct", sketch.partial()
    return ("frequency" if isinstance(sketch, Frequency) else "spread"), sketch.to_bytes()
