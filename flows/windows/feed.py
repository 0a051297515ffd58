"""Feeding closed or folded flows to the tasks, once per flow with its weight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.kernels.classes import ATTEMPT, INITIATED, REFLECTED, SYN, classify
from flows.kernels.group import group_sum
from flows.kernels.late_answers import take_back
from flows.kernels.layout import BYTES, KIND, PACKETS, PANE, PORTS, STREAM_SHIFT
from flows.kernels.project import hash_fields, project_fields
from flows.sketches.distinct import Distinct
from flows.sketches.superspread import SuperSpread
from flows.windows.fields import FieldList
from flows.windows.networks import Networks
from flows.windows.sampling import UNSAMPLED, Sampling
from flows.windows.tasks import PaneSketch, Sketch, Task, Where

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Group = tuple[str, int]
"""Tenant and pane."""

_CLASSES: Final[Mapping[Where, int]] = {
    "attempts": ATTEMPT,
    "initiated": INITIATED,
    "syn": SYN,
    "reflected": REFLECTED,
}
_JUDGED_ONCE: Final = np.uint8(ATTEMPT | INITIATED)
_DIRECTION_SHIFT: Final = np.uint64(8)
_ETH_TYPE_SHIFT: Final = np.uint64(48)
_IPV4: Final = np.uint64(0x0800)
_IPV6: Final = np.uint64(0x86DD)
_FEW_CHANGES: Final = 64
"""Changes of the stream up to which sorting costs more than it saves."""


class _Batch:
    """Flows to feed, with their weights, and the runs of one stream and pane among them.

    Fields that several tasks name are projected and hashed once.
    """

    def __init__(
        self,
        entries: Words,
        networks: npt.NDArray[np.uint16],
        packets: Words,
        octets: Words,
        seed: int,
    ) -> None:
        self.packets = packets
        self.bytes = octets
        self.runs = list(_runs(entries))
        self._entries = entries
        self._networks = networks
        self._seed = np.uint64(seed)
        self._words: dict[FieldList, Words] = {}
        self._hashes: dict[FieldList, Words] = {}

    def project(self, fields: FieldList) -> tuple[Words, Words]:
        """The words of the fields, (n, k), and their hashes, (n,)."""
        if fields not in self._words:
            spec = fields.spec
            words = np.empty((len(self._entries), len(spec)), np.uint64)
            hashes = np.empty(len(self._entries), np.uint64)
            project_fields(self._entries, self._networks, spec, self._seed, words, hashes)
            self._words[fields], self._hashes[fields] = words, hashes
        return self._words[fields], self._hashes[fields]

    def hash(self, fields: FieldList) -> Words:
        """Hashes of the fields, (n,)."""
        if fields not in self._hashes:
            hashes = np.empty(len(self._entries), np.uint64)
            hash_fields(self._entries, self._networks, fields.spec, self._seed, hashes)
            self._hashes[fields] = hashes
        return self._hashes[fields]


class TaskFeed:
    """The tasks' sketches of open panes, by tenant.

    Args:
        tasks: what to compute.
        networks: for the fields ``src_net`` and ``dst_net``.
        seed: of the hash of keys and elements.
        pane_ns: length of a pane.
        directions_of: directions of a stream number that count (codes of the packet record),
            or None for all.
        tenant_of: tenant of a stream number.
        reflector_ports: UDP ports for the class of reflected flows.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        networks: Networks,
        *,
        seed: int,
        pane_ns: int,
        directions_of: Callable[[int], frozenset[int] | None],
        tenant_of: Callable[[int], str],
        reflector_ports: Collection[int] = (),
    ) -> None:
        self._tasks = tasks
        self._keys = {task.key for task in tasks}
        self._networks = networks
        self._needs_networks = any(
            name in ("src_net", "dst_net")
            for task in tasks
            for name in task.key.names + task.elements.names
        )
        self._seed = seed
        self._pane_ns = np.uint64(pane_ns)
        self._directions_of = directions_of
        self._tenant_of = tenant_of
        self._classed = any(task.where for task in tasks)
        self._reflector_ports = np.zeros(1 << 16, np.bool_)
        self._reflector_ports[list(reflector_ports)] = True
        self._sketches: dict[Group, list[Sketch]] = {}
        self._packets: dict[Group, int] = {}

    def feed(self, entries: Words, fed: Words | None, ahead: Words | None = None) -> None:
        """Feed flows (n, 16), sorted by pane, less what was already ``fed`` of them (n, 2).

        ``ahead`` (m, 16) is what there is of later panes; nothing of it is fed.
        """
        packets, octets = entries[:, PACKETS], entries[:, BYTES]
        if fed is not None:
            packets, octets = packets - fed[:, 0], octets - fed[:, 1]
        if _interleaved(entries):
            order = np.lexsort((entries[:, KIND] >> STREAM_SHIFT, entries[:, PANE]))
            entries, packets, octets = entries.T[:, order].T, packets[order], octets[order]
        keep = (packets > 0) & self._counted(entries[:, KIND])
        flows = self._batch(entries, packets, octets, keep)
        for (stream, pane), rows in flows.runs:
            group = (self._tenant_of(stream), pane)
            self._packets[group] = self._packets.get(group, 0) + int(flows.packets[rows].sum())
        eth_type = entries[:, PORTS] >> _ETH_TYPE_SHIFT
        is_ip = (eth_type == _IPV4) | (eth_type == _IPV6)
        addressed = flows
        if not is_ip.all():
            addressed = self._batch(entries, packets, octets, keep & is_ip)
        batches: dict[Where, _Batch] = {}
        if self._classed:
            classes = self._classify(entries, fed, ahead)
        for number, task in enumerate(self._tasks):
            if not task.where:
                self._feed_task(number, addressed if task.ip_only else flows)
                continue
            if task.where not in batches:
                chosen = keep & is_ip & (classes & _CLASSES[task.where] != 0)
                whole = len(addressed.packets) == np.count_nonzero(chosen)
                batches[task.where] = (
                    addressed if whole else self._batch(entries, packets, octets, chosen)
                )
            self._feed_task(number, batches[task.where])

    def _classify(
        self, entries: Words, fed: Words | None, ahead: Words | None
    ) -> npt.NDArray[np.uint8]:
        """Classes of flows, by their numbers of ``flows.kernels.classes``.

        What began, and what came to nothing, is judged once: when the pane overflows and a flow
        is fed for the first time. Later its answer may be folded away.
        """
        if not len(entries):  # perhaps of a partition that never had a stream
            return np.empty(0, np.uint8)
        later = [] if ahead is None or not len(ahead) else [ahead]
        streams = 1 + max(int(each[:, KIND].max() >> STREAM_SHIFT) for each in (entries, *later))
        tenants = [self._tenant_of(stream) for stream in range(streams)]
        owners = np.array([tenants.index(tenant) for tenant in tenants], np.uint64)
        classes = np.empty(len(entries), np.uint8)
        classify(entries, owners, self._reflector_ports, classes)
        if entries[0, PANE] != entries[-1, PANE]:
            later.append(entries)
        for each in later:
            take_back(entries, each, owners, self._pane_ns, classes)
        if fed is not None:
            classes[fed[:, 0] > 0] &= ~_JUDGED_ONCE
        return classes

    def _counted(self, kinds: Words) -> Mask:
        """Which entries went a way that counts, by their words ``kind`` (n,)."""
        counted = np.ones(len(kinds), np.bool_)
        streams = kinds >> STREAM_SHIFT
        for stream in np.unique(streams).tolist():
            allowed = self._directions_of(stream)
            if allowed is not None:
                direction = (kinds >> _DIRECTION_SHIFT) & np.uint64(0xFF)
                counted &= (streams != stream) | np.isin(direction, list(allowed))
        return counted

    def _batch(self, entries: Words, packets: Words, octets: Words, keep: Mask) -> _Batch:
        if not keep.all():
            entries = entries.T[:, keep].T
            packets, octets = packets[keep], octets[keep]
        networks = (
            self._networks.lookup(entries)
            if self._needs_networks
            else np.zeros((len(entries), 2), np.uint16)
        )
        packets, octets = np.ascontiguousarray(packets), np.ascontiguousarray(octets)
        return _Batch(entries, networks, packets, octets, self._seed)

    def _feed_task(self, number: int, flows: _Batch) -> None:
        task = self._tasks[number]
        if task.key.names:
            keys, key_hashes = flows.project(task.key)
        if task.elements.names:
            # Elements that are a key elsewhere are projected, so that they are hashed once.
            is_key = task.elements in self._keys
            elements = flows.project(task.elements)[1] if is_key else flows.hash(task.elements)
        for (stream, pane), rows in flows.runs:
            sketch = self._open((self._tenant_of(stream), pane))[number]
            if isinstance(sketch, Distinct):
                sketch.update(elements[rows])
            elif isinstance(sketch, SuperSpread):
                sketch.update(keys[rows], key_hashes[rows], elements[rows])
            else:
                columns = keys[rows], key_hashes[rows], flows.packets[rows], flows.bytes[rows]
                if task.where:
                    # A flood is worth its while: what is light matters to no detector.
                    sketch.update_rows(*columns)
                else:
                    sketch.update(*group_sum(*columns))

    def take(
        self, boundary: int, sampled: Mapping[Group, Sampling] = MappingProxyType({})
    ) -> dict[tuple[str, str], list[PaneSketch]]:
        """Remove the sketches of panes below ``boundary``: by tenant and task, panes in order.

        Args:
            boundary: number of a pane.
            sampled: how groups were sampled; those that aren't named were not.
        """
        taken: dict[tuple[str, str], list[PaneSketch]] = {}
        for group in sorted(group for group in self._sketches if group[1] < boundary):
            tenant, pane = group
            packets = self._packets[group]
            for task, sketch in zip(self._tasks, self._sketches.pop(group), strict=True):
                known = PaneSketch(pane, packets, sketch, sampled.get(group, UNSAMPLED))
                taken.setdefault((tenant, task.name), []).append(known)
        self._packets = {g: n for g, n in self._packets.items() if g[1] >= boundary}
        return taken

    def _open(self, group: Group) -> list[Sketch]:
        if group not in self._sketches:
            self._sketches[group] = [task.new(self._seed) for task in self._tasks]
        return self._sketches[group]


def _interleaved(entries: Words) -> bool:
    """Whether flows of different streams follow each other more often than a new pane comes."""
    streams = entries[:, KIND] >> STREAM_SHIFT
    return bool(np.count_nonzero(streams[1:] != streams[:-1]) > _FEW_CHANGES)


def _runs(entries: Words) -> Iterator[tuple[tuple[int, int], slice]]:
    """Runs of rows of one stream and pane: ((stream, pane), rows).

    Streams of one tenant in one pane give several runs, which is right, only slower.
    """
    if not len(entries):
        return
    streams = entries[:, KIND] >> STREAM_SHIFT
    panes = entries[:, PANE]
    cuts = np.flatnonzero((panes[1:] != panes[:-1]) | (streams[1:] != streams[:-1])) + 1
    starts = [0, *cuts.tolist()]
    for start, end in zip(starts, [*starts[1:], len(entries)], strict=True):
        yield (int(streams[start]), int(panes[start])), slice(start, end)
