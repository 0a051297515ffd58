"""Tasks: what is computed per pane and horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.windows.fields import FieldList

Sketch = Distinct | Frequency


class PaneSketch(NamedTuple):
    """What a partition knows of one pane for one task; the sketch must not change any more."""

    pane: int
    packets: int
    sketch: Sketch


@dataclass(frozen=True)
class Task:
    """One question asked of every pane and horizon.

    Attributes:
        name: as the tables show it.
        kind: ``distinct`` counts different values of ``fields``; ``frequency`` ranks them.
        fields: the elements of a distinct task, the key of a frequency task.
        top: rows a frequency task lists per ranking.
        share: a frequency task also lists every key above this share of the total.
        lg_k: size of a distinct task's sketch, binary logarithm of its rows.
    """

    name: str
    kind: Literal["distinct", "frequency"]
    fields: FieldList
    top: int = 10
    share: float = 0.01
    lg_k: int = 12

    def new(self, seed: int) -> Sketch:
        """An empty sketch for this task; ``seed`` is that of the hash of its keys."""
        if self.kind == "distinct":
            return Distinct(self.lg_k)
        return Frequency(len(self.fields.spec), seed=seed)
