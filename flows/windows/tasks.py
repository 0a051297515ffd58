"""Tasks: what is computed per pane and horizon."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from flows.sketches.distinct import Distinct
from flows.sketches.distinct import limit_bytes as distinct_limit_bytes
from flows.sketches.frequency import Frequency
from flows.sketches.frequency import limit_bytes as frequency_limit_bytes
from flows.sketches.superspread import SuperSpread
from flows.windows.fields import FieldList
from flows.windows.sampling import UNSAMPLED, Sampling

Sketch = Distinct | Frequency | SuperSpread

NO_FIELDS: Final = FieldList(())

Where = Literal["", "attempts", "initiated", "syn", "reflected"]
"""Which flows a task counts: all, or those of a class (``flows.kernels.classes``)."""

_ADDRESSES: Final = frozenset({"src_addr", "dst_addr", "src_net", "dst_net"})


@dataclass(frozen=True)
class PaneSketch:
    """What a partition knows of one pane for one task; the sketch must not change any more.

    On its way to another process it is pickled once. The engine asks twice, for the length and
    for the bytes, and a task and the rules that read it send the same sketch.
    """

    pane: int
    packets: int
    sketch: Sketch
    sampling: Sampling = UNSAMPLED

    @cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps((self.pane, self.packets, self.sketch, self.sampling))

    def __reduce__(self) -> tuple[Callable[[bytes], PaneSketch], tuple[bytes]]:
        return _unpickled, (self._pickled,)


def _unpickled(data: bytes) -> PaneSketch:
    fields: tuple[Any, ...] = pickle.loads(data)  # noqa: S301 - from a process of the same job
    return PaneSketch(*fields)


@dataclass(frozen=True)
class Task:
    """One question asked of every pane and horizon.

    Attributes:
        name: as the tables show it.
        kind: ``distinct`` counts different ``elements``; ``frequency`` ranks values of ``key``
            by packets and bytes; ``spread`` ranks them by how many different ``elements`` they
            touch.
        key: fields of the key; none for a distinct task.
        elements: fields of what is counted; none for a frequency task.
        top: rows that a frequency or spread task lists.
        share: a frequency task also lists every key above this share of the total.
        lg_k: size of a distinct task's sketch, binary logarithm of its rows.
        memory_bytes: of a spread task's sketch.
        where: which flows are counted.
    """

    name: str
    kind: Literal["distinct", "frequency", "spread"]
    key: FieldList = NO_FIELDS
    elements: FieldList = NO_FIELDS
    top: int = 10
    share: float = 0.01
    lg_k: int = 12
    memory_bytes: int = 1 << 20
    where: Where = ""

    @property
    def ip_only(self) -> bool:
        """Whether frames without addresses are left out: the task is about addresses."""
        return not _ADDRESSES.isdisjoint(self.key.names + self.elements.names)

    @property
    def memory_limit_bytes(self) -> int:
        """Memory that one sketch of this task takes at most; few keys or elements take less."""
        if self.kind == "distinct":
            return distinct_limit_bytes(self.lg_k)
        return frequency_limit_bytes() if self.kind == "frequency" else self.memory_bytes

    def new(self, seed: int) -> Sketch:
        """An empty sketch for this task; ``seed`` is that of the hash of its keys."""
        if self.kind == "distinct":
            return Distinct(self.lg_k)
        if self.kind == "frequency":
            return Frequency(len(self.key.spec), seed=seed)
        return SuperSpread(len(self.key.spec), self.memory_bytes, seed)
