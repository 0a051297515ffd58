"""Which stored windows make up a selection of time, and what of it they leave out.

Time is cut into cells as long as the shortest stored horizon. A cell counts when it has traffic. A
window is of use when all of its cells that count are selected; longer windows come first, for
fewer have to be read. Selected cells that no window covers are missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple


class Window(NamedTuple):
    """A window of which a sketch is stored, Unix s."""

    tenant: str
    start_s: int
    horizon_s: int
    complete: bool = True


class Gap(NamedTuple):
    """Selected time with traffic, but without a sketch, Unix s."""

    tenant: str
    start_s: int
    end_s: int


class Cover(NamedTuple):
    """Windows that don't overlap, in order of time, and what they leave out."""

    windows: list[Window]
    gaps: list[Gap]


def cover(cells: Mapping[str, Mapping[int, bool]], windows: Iterable[Window], cell_s: int) -> Cover:
    """Choose windows.

    Args:
        cells: by tenant: starts of the cells with traffic, Unix s, and whether they are selected.
        windows: that are stored.
        cell_s: length of a cell.
    """
    left = {
        tenant: {start for start, selected in own.items() if selected}
        for tenant, own in cells.items()
    }
    chosen = []
    for window in sorted(windows, key=lambda w: (-w.horizon_s, w.start_s)):
        own = cells.get(window.tenant, {})
        inside = [
            start
            for start in range(window.start_s, window.start_s + window.horizon_s, cell_s)
            if start in own
        ]
        fits = window.horizon_s % cell_s == 0 and window.start_s % cell_s == 0
        if inside and fits and left[window.tenant].issuperset(inside):
            left[window.tenant].difference_update(inside)
            chosen.append(window)
    gaps = [gap for tenant, starts in sorted(left.items()) for gap in _runs(tenant, starts, cell_s)]
    return Cover(sorted(chosen, key=lambda w: (w.tenant, w.start_s)), gaps)


def _runs(tenant: str, starts: Iterable[int], cell_s: int) -> list[Gap]:
    """Neighbouring cells as one gap."""
    numbered = enumerate(sorted(starts))
    runs = []
    for _, run in groupby(numbered, key=lambda item: item[1] - item[0] * cell_s):
        found = [start for _, start in run]
        runs.append(Gap(tenant, found[0], found[-1] + cell_s))
    return runs
