"""Feeding closed or folded flows to the tasks, once per flow with its weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.kernels.group import group_sum
from flows.kernels.layout import BYTES, KIND, PACKETS, PANE, STREAM_SHIFT
from flows.kernels.project import hash_fields, project_fields
from flows.sketches.distinct import Distinct
from flows.windows.networks import Networks
from flows.windows.tasks import PaneSketch, Sketch, Task

Words = npt.NDArray[np.uint64]
Group = tuple[str, int]
"""Tenant and pane."""

_DIRECTION_SHIFT: Final = np.uint64(8)


class TaskFeed:
    """The tasks' sketches of open panes, by tenant.

    Args:
        tasks: what to compute.
        networks: for the fields ``src_net`` and ``dst_net``.
        seed: of the hash of keys and elements.
        directions: directions that count (codes of the packet record), or None for all.
        tenant_of: tenant of a stream number.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        networks: Networks,
        *,
        seed: int,
        directions: frozenset[int] | None,
        tenant_of: Callable[[int], str],
    ) -> None:
        self._tasks = tasks
        self._specs = [task.fields.spec for task in tasks]
        self._networks = networks
        self._needs_networks = any(
            name in ("src_net", "dst_net") for task in tasks for name in task.fields.names
        )
        self._hash_seed = seed
        self._seed = np.uint64(seed)
        self._directions = directions
        self._tenant_of = tenant_of
        self._sketches: dict[Group, list[Sketch]] = {}
        self._packets: dict[Group, int] = {}

    def feed(self, entries: Words, fed: Words | None) -> None:
        """Feed flows (n, 16), sorted by pane, less what was already ``fed`` of them (n, 2)."""
        packets, octets = entries[:, PACKETS], entries[:, BYTES]
        if fed is not None:
            packets, octets = packets - fed[:, 0], octets - fed[:, 1]
        keep = packets > 0
        if self._directions is not None:
            direction = (entries[:, KIND] >> _DIRECTION_SHIFT) & np.uint64(0xFF)
            keep &= np.isin(direction, list(self._directions))
        if not keep.all():
            entries, packets, octets = entries[keep], packets[keep], octets[keep]
        if not len(entries):
            return
        packets, octets = np.ascontiguousarray(packets), np.ascontiguousarray(octets)
        networks = (
            self._networks.lookup(entries)
            if self._needs_networks
            else np.zeros((len(entries), 2), np.uint16)
        )
        groups = []
        for (stream, pane), rows in _runs(entries):
            group = (self._tenant_of(stream), pane)
            groups.append((self._open(group), rows))
            self._packets[group] += int(packets[rows].sum())
        hashes = np.empty(len(entries), np.uint64)
        for number, (task, spec) in enumerate(zip(self._tasks, self._specs, strict=True)):
            words = np.empty((len(entries), len(spec)), np.uint64)
            if task.kind == "distinct":
                hash_fields(entries, networks, spec, self._seed, hashes)
            else:
                project_fields(entries, networks, spec, self._seed, words, hashes)
            for sketches, rows in groups:
                sketch = sketches[number]
                if isinstance(sketch, Distinct):
                    sketch.update(hashes[rows])
                else:
                    sketch.update(
                        *group_sum(words[rows], hashes[rows], packets[rows], octets[rows])
                    )

    def take(self, boundary: int) -> dict[tuple[str, str], list[PaneSketch]]:
        """Remove the sketches of panes below ``boundary``: by tenant and task, panes in order."""
        taken: dict[tuple[str, str], list[PaneSketch]] = {}
        for group in sorted(group for group in self._sketches if group[1] < boundary):
            tenant, pane = group
            packets = self._packets.pop(group)
            for task, sketch in zip(self._tasks, self._sketches.pop(group), strict=True):
                taken.setdefault((tenant, task.name), []).append(PaneSketch(pane, packets, sketch))
        return taken

    def _open(self, group: Group) -> list[Sketch]:
        if group not in self._sketches:
            self._sketches[group] = [task.new(self._hash_seed) for task in self._tasks]
            self._packets[group] = 0
        return self._sketches[group]


def _runs(entries: Words) -> Iterator[tuple[tuple[int, int], slice]]:
    """Runs of rows of one stream and pane: ((stream, pane), rows).

    Streams of one tenant in one pane give several runs, which is right, only slower.
    """
    streams = entries[:, KIND] >> STREAM_SHIFT
    panes = entries[:, PANE]
    cuts = np.flatnonzero((panes[1:] != panes[:-1]) | (streams[1:] != streams[:-1])) + 1
    starts = [0, *cuts.tolist()]
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        yield (int(streams[start]), int(panes[start])), slice(start, end)
