"""The windows that are open: panes are merged into them in order of time, as they close.

A horizon's published result is merged as units arrive. Here a pane waits until the watermark of
all partitions has passed it, so that what a detector sees after a pane is a function of the panes
up to it, whatever the order in which partitions reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.windows.sampling import UNSAMPLED, Sampling
from flows.windows.tasks import PaneSketch, Sketch
from flows.windows.unit import END_OF_TIME_NS

STATE_VERSION: Final = 1

_KINDS: Final[dict[str, Any]] = {
    "distinct": (Distinct, Distinct.from_partial, Distinct.partial),
    "frequency": (Frequency, Frequency.from_bytes, Frequency.to_bytes),
    "spread": (SuperSpread, SuperSpread.from_bytes, SuperSpread.to_bytes),
}


@dataclass(frozen=True)
class ProbeFacts:
    """What a unit says of one probe in one pane; packets as captured, not scaled.

    Attributes:
        tenant: of the probe.
        probe: its name.
        pane: number of the pane.
        arrived: packets that came all the way.
        dropped: packets missing, by ``hop:reason``; not those sampled out.
        alive: whether it was there at the pane's end, with packets or without. A capture file
            never is: nothing more is expected of it.
        ended: whether it said goodbye in the pane.
    """

    tenant: str
    probe: str
    pane: int
    arrived: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    alive: bool = False
    ended: bool = False


@dataclass(frozen=True)
class DetectUpdate:
    """What one unit holds for detection; sent even when empty, for its watermark.

    Attributes:
        partition: topic and partition that the unit is of.
        offset: of the unit in its partition.
        watermark_ns: of the partition after the unit.
        pane_ns: length of a pane.
        sketches: of its panes, by tenant and task.
        probes: what it says of probes.
        since_ns: event time before which the partition's sketches may be missing.
    """

    partition: str
    offset: int
    watermark_ns: int
    pane_ns: int
    sketches: Mapping[tuple[str, str], Sequence[PaneSketch]] = field(default_factory=dict)
    probes: Sequence[ProbeFacts] = ()
    since_ns: int = 0


@dataclass(frozen=True)
class View:
    """What a detector sees of one tenant when a pane has closed.

    Attributes:
        tenant: whose traffic it is.
        pane_start_ns: start of the pane that has closed.
        pane_ns: its length.
        start_ns: start of the window; it ends at the pane's end for now.
        horizon_ns: length that it will have.
        merged: of each task, the window up to now; a task without traffic is missing.
        pane: of each task, the partitions' sketches of the pane alone.
        probes: what probes said for this pane, late words for earlier panes included.
        sampling: how the window's packets were sampled.
        whole: whether all of the window was seen by this run.
        packets: in the window up to now, scaled by the sampling rate.
    """

    tenant: str
    pane_start_ns: int
    pane_ns: int
    start_ns: int
    horizon_ns: int
    merged: Mapping[str, Sketch]
    pane: Mapping[str, Sequence[Sketch]]
    probes: Sequence[ProbeFacts]
    sampling: Sampling = UNSAMPLED
    whole: bool = True
    packets: int = 0

    @property
    def pane_end_ns(self) -> int:
        """End of the pane that has closed, and of what is known of the window."""
        return self.pane_start_ns + self.pane_ns


_Frozen = tuple[int, int, tuple[str, bytes], tuple[Any, ...]]
"""A pane's sketch written down: pane, packets, image, sampling."""


@dataclass
class _Pane:
    sketches: defaultdict[str, list[PaneSketch]] = field(default_factory=lambda: defaultdict(list))
    probes: list[ProbeFacts] = field(default_factory=list)
    frozen: defaultdict[str, list[_Frozen]] = field(default_factory=lambda: defaultdict(list))

    def freeze(self) -> Iterator[tuple[str, tuple[_Frozen, ...]]]:
        """The sketches as they are written down, each serialised once."""
        for task, found in self.sketches.items():
            known = self.frozen[task]
            known += [
                (p.pane, p.packets, _image(p.sketch), tuple(p.sampling))
                for p in found[len(known) :]
            ]
            yield task, tuple(known)


@dataclass
class _Open:
    start_ns: int = -1
    merged: dict[str, Sketch] = field(default_factory=dict)
    images: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    sampling: Sampling = UNSAMPLED
    late: list[ProbeFacts] = field(default_factory=list)
    packets: int = 0


class OpenWindows:
    """One detector's open window of each tenant.

    Args:
        horizon_ns: length of the windows, aligned to Unix time 0.
        partitions: all partitions that will report.
        state: an earlier ``snapshot``.
    """

    def __init__(
        self,
        horizon_ns: int,
        partitions: Sequence[str],
        state: tuple[Any, ...] | None = None,
    ) -> None:
        self._horizon_ns = horizon_ns
        self._watermarks = dict.fromkeys(partitions, 0)
        self._offsets: dict[str, int] = {}
        self._waiting: dict[tuple[int, str], _Pane] = {}
        self._open: dict[str, _Open] = {}
        self._since_ns = 0
        if state is not None:
            self._restore(state)

    @property
    def watermark_ns(self) -> int:
        """Event time that all partitions have passed."""
        return min(self._watermarks.values(), default=0)

    @property
    def ended(self) -> bool:
        """Whether all partitions have come to their end."""
        return self.watermark_ns == END_OF_TIME_NS

    def add(self, update: DetectUpdate) -> Iterator[View]:
        """Take a unit; gives a view for each tenant's pane that is closed by it, in order.

        Panes without anything are left out. A late pane of the open window is one more view of
        it; one of an earlier window is left out, for that was judged already.
        """
        last = self._offsets.get(update.partition)
        if last is None:
            self._since_ns = max(self._since_ns, update.since_ns)
        elif update.offset <= last:
            return
        self._offsets[update.partition] = update.offset
        for (tenant, task), panes in update.sketches.items():
            for pane in panes:
                self._wait(pane.pane, tenant).sketches[task].append(pane)
        for fact in update.probes:
            self._wait(fact.pane, fact.tenant).probes.append(fact)
        known = self._watermarks.get(update.partition, 0)
        self._watermarks[update.partition] = max(known, update.watermark_ns)
        boundary = self.watermark_ns // update.pane_ns
        due = sorted(key for key in self._waiting if key[0] < boundary)
        for number, tenant in due:
            closing = self._waiting.pop((number, tenant))
            view = self._close(number, tenant, closing, update.pane_ns)
            if view is not None:
                yield view

    def _wait(self, pane: int, tenant: str) -> _Pane:
        return self._waiting.setdefault((pane, tenant), _Pane())

    def _close(self, number: int, tenant: str, pane: _Pane, pane_ns: int) -> View | None:
        pane_start_ns = number * pane_ns
        start_ns = pane_start_ns - pane_start_ns % self._horizon_ns
        window = self._open.get(tenant)
        if window is None or start_ns > window.start_ns:
            late = [] if window is None else window.late
            window = self._open[tenant] = _Open(start_ns, late=late)
        if start_ns < window.start_ns:
            window.late += pane.probes
            return None
        self._merge(window, pane)
        probes, window.late = window.late + pane.probes, []
        return View(
            tenant=tenant,
            pane_start_ns=pane_start_ns,
            pane_ns=pane_ns,
            start_ns=start_ns,
            horizon_ns=self._horizon_ns,
            merged=window.merged,
            pane={task: [p.sketch for p in found] for task, found in pane.sketches.items()},
            probes=probes,
            sampling=window.sampling,
            whole=start_ns >= self._since_ns,
            packets=window.packets,
        )

    @staticmethod
    def _merge(window: _Open, pane: _Pane) -> None:
        # Every task says how many packets its pane had, whichever it counted.
        said = [sum(each.packets for each in found) for found in pane.sketches.values()]
        window.packets += max(said, default=0)
        for task, found in pane.sketches.items():
            window.images.pop(task, None)
            for each in found:
                window.sampling = window.sampling.merge(each.sampling)
                if task in window.merged:
                    window.merged[task].merge(each.sketch)  # type: ignore[arg-type]
                else:
                    window.merged[task] = each.sketch.copy()

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state; only sketches that changed are serialised anew."""
        windows = []
        for tenant, window in self._open.items():
            for task, sketch in window.merged.items():
                if task not in window.images:
                    window.images[task] = _image(sketch)
            images = tuple(window.images.items())
            head = (tenant, window.start_ns, tuple(window.sampling), tuple(window.late))
            windows.append((*head, window.packets, images))
        waiting = tuple(
            (key, tuple(pane.freeze()), tuple(pane.probes)) for key, pane in self._waiting.items()
        )
        marks = tuple(self._watermarks.items()), tuple(self._offsets.items())
        return (STATE_VERSION, *marks, self._since_ns, tuple(windows), waiting)

    def _restore(self, state: tuple[Any, ...]) -> None:
        version = state[0]
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        _, watermarks, offsets, self._since_ns, windows, waiting = state
        self._watermarks.update(watermarks)
        self._offsets.update(offsets)
        for tenant, start_ns, sampling, late, packets, images in windows:
            merged = {task: _sketch(image) for task, image in images}
            known = merged, dict(images), Sampling(*sampling), list(late), packets
            self._open[tenant] = _Open(start_ns, *known)
        for key, tasks, probes in waiting:
            pane = self._waiting[key] = _Pane()
            pane.probes.extend(probes)
            for task, found in tasks:
                pane.frozen[task] = list(found)
                pane.sketches[task] = [
                    PaneSketch(number, packets, _sketch(image), Sampling(*sampling))
                    for number, packets, image, sampling in found
                ]


def _image(sketch: Sketch) -> tuple[str, bytes]:
    for kind, (cls, _, write) in _KINDS.items():
        if isinstance(sketch, cls):
            return kind, write(sketch)
    raise AssertionError(sketch)


def _sketch(image: tuple[str, bytes]) -> Sketch:
    kind, data = image
    sketch: Sketch = _KINDS[kind][1](data)
    return sketch
