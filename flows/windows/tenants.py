"""One task's horizons of all tenants, which share the partitions' watermarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flows.windows.horizons import HorizonMerger, WindowResult
from flows.windows.tasks import PaneSketch

STATE_VERSION: Final = 2


@dataclass(frozen=True)
class UnitUpdate:
    """What one unit holds for a task; sent even when empty, for its watermark.

    Attributes:
        partition: topic and partition that the unit is of.
        offset: of the unit in its partition.
        watermark_ns: of the partition after the unit.
        pane_ns: length of a pane.
        panes: by tenant, in order of time.
        since_ns: event time before which the partition's sketches may be missing.
    """

    partition: str
    offset: int
    watermark_ns: int
    pane_ns: int
    panes: Mapping[str, Sequence[PaneSketch]]
    since_ns: int = 0


class TenantHorizons:
    """Merges one task's panes into horizons, for each tenant that has been seen.

    A unit that was merged already is left out, so a source may begin before the place where a
    snapshot was taken. A tenant that a unit holds nothing of is told its watermark too: a
    horizon closes when all partitions have passed its end, also those in which the tenant has
    no packets.

    Args:
        horizons_ns: lengths; each a multiple of the pane.
        partitions: all partitions that will report.
        state: an earlier ``snapshot``.
    """

    def __init__(
        self,
        horizons_ns: Sequence[int],
        partitions: Sequence[str],
        state: tuple[Any, ...] | None = None,
    ) -> None:
        self._horizons_ns = tuple(horizons_ns)
        self._watermarks: dict[str, int] = dict.fromkeys(partitions, 0)
        self._offsets: dict[str, int] = {}
        self._mergers: dict[str, HorizonMerger] = {}
        self._since_ns = 0
        if state is not None:
            self._restore(state)

    @property
    def watermark_ns(self) -> int:
        """Event time that all partitions have passed."""
        return min(self._watermarks.values())

    def apply(self, update: UnitUpdate) -> list[tuple[str, list[WindowResult]]]:
        """Merge a unit's panes; returns what is new to publish by tenant."""
        last = self._offsets.get(update.partition)
        if last is None:
            self._since_ns = max(self._since_ns, update.since_ns)
        elif update.offset <= last:
            return []
        self._offsets[update.partition] = update.offset
        for tenant in update.panes:
            if tenant not in self._mergers:
                self._mergers[tenant] = HorizonMerger(self._horizons_ns)
        before_ns = self.watermark_ns
        known = self._watermarks.get(update.partition, 0)
        self._watermarks[update.partition] = max(known, update.watermark_ns)
        results = [
            (
                tenant,
                merger.apply(
                    update.panes.get(tenant, ()),
                    update.pane_ns,
                    before_ns=before_ns,
                    watermark_ns=self.watermark_ns,
                    since_ns=self._since_ns,
                ),
            )
            for tenant, merger in self._mergers.items()
        ]
        return [(tenant, published) for tenant, published in results if published]

    def snapshot(self) -> tuple[Any, ...]:
        """Immutable, picklable state."""
        tenants = tuple((name, merger.snapshot()) for name, merger in self._mergers.items())
        watermarks, offsets = tuple(self._watermarks.items()), tuple(self._offsets.items())
        return (STATE_VERSION, watermarks, offsets, self._since_ns, tenants)

    def _restore(self, state: tuple[Any, ...]) -> None:
        version = state[0]
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        _, watermarks, offsets, self._since_ns, tenants = state
        self._watermarks.update(watermarks)
        self._offsets.update(offsets)
        for tenant, merger in tenants:
            self._mergers[tenant] = HorizonMerger(self._horizons_ns, merger)
