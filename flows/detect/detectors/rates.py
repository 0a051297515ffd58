"""What the detectors have in common that measure a rate per key."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Literal, NamedTuple

import numpy as np

from flows.detect.window import View
from flows.sketches.frequency import BYTES, PACKETS, Frequency, Hitter
from flows.windows.tasks import Task

Metric = Literal["packets", "bytes"]


class Weight(NamedTuple):
    """A key with what it weighs in the window, and bounds of that."""

    key: tuple[int, ...]
    value: float
    lower: float
    upper: float

    def times(self, factor: float) -> Weight:
        """In another unit."""
        key, *numbers = self
        return Weight(key, *(factor * number for number in numbers))


def weighty(view: View, task: Task, metric: Metric, at_least: float) -> list[Weight]:
    """Keys that weigh at least so much for certain, heaviest first."""
    merged = view.merged.get(task.name)
    if not isinstance(merged, Frequency):
        return []
    found = merged.over(BYTES if metric == "bytes" else PACKETS, at_least)
    rows = [_weight(view, row, metric) for row in found]
    return [row for row in rows if row.lower >= at_least]


def weights(
    view: View,
    task: Task,
    metric: Metric,
    listed: Collection[Weight],
    watched: Collection[Hashable],
) -> list[Weight]:
    """Of the watched keys those that are not listed but weigh something in the window."""
    known = {row.key for row in listed}
    keys = [key for key in watched if isinstance(key, tuple) and key not in known]
    merged = view.merged.get(task.name)
    if not isinstance(merged, Frequency) or not keys:
        return []
    rows = [_weight(view, row, metric) for row in merged.bounds(np.array(keys, np.uint64))]
    return [row for row in rows if row.value > 0]


def _weight(view: View, row: Hitter, metric: Metric) -> Weight:
    """A row with the sampling's error in its bounds."""
    bytes_ = metric == "bytes"
    value, lower, upper = row[4:7] if bytes_ else row[1:4]
    if view.sampling.rate == 1:
        return Weight(row.key, value, lower, upper)
    widen = view.sampling.bytes if bytes_ else view.sampling.packets
    return Weight(row.key, value, widen(lower)[0], widen(upper)[1])
