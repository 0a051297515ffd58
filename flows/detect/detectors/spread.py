"""What the detectors have in common that count different elements of a key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from flows.detect.alert import Severity
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.detectors.flow_sql import DIFFERENT, statement
from flows.detect.detectors.wording import within
from flows.detect.window import View
from flows.sketches.superspread import Spreader, SuperSpread
from flows.windows.fields import FieldList
from flows.windows.tasks import Sketch, Task
from schemas.hashing import hash_words

__all__ = ["About", "FieldList", "Severity", "SpreadDetector", "Spreader", "Task"]
"""What a detector of one's own needs."""

U64 = npt.NDArray[np.uint64]

SAMPLED_CONFIDENCE: Final = 0.95
"""Of bounds that allow for what sampling has hidden."""


class SpreadDetector(ABC):
    """Keys that touch at least so many different elements in the open window.

    Only keys of the pane that has closed are looked at, and those that are watched: others have
    no more than when they were looked at last.

    Args:
        threshold: different elements.
        horizon_ns: length of the window.
    """

    about: ClassVar[About]
    task: ClassVar[Task]

    def __init__(self, threshold: float, horizon_ns: int) -> None:
        self.threshold = threshold
        self.horizon_ns = horizon_ns

    @property
    def tasks(self) -> Sequence[Task]:
        """The one task."""
        return (self.task,)

    @abstractmethod
    def told(self, entity: Mapping[str, str], row: Spreader) -> str:
        """What an entity did, and how often: ``10.0.2.15 tried TCP port 445 of 132 hosts``."""

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        rows, total = over(view, self.task, self.threshold)
        rows += others(view, self.task, rows, watched)
        return Readings([self._reading(view, row) for row in rows], total)

    def _reading(self, view: View, row: Spreader) -> Reading:
        entity = self.task.key.read(row.key, ())
        row = unsampled(view, row)
        told = self.told(entity, row)
        return Reading(
            key=row.key,
            entity=entity,
            value=row.estimate,
            lower=row.lower,
            upper=row.upper,
            confidence=confidence(view, self.task),
            threshold=self.threshold,
            facts=sampling_facts(view),
            title=told,
            summary=f"{told} {within(view)}.",
        )

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """The different elements of the flows of the class, exactly."""
        return statement(self.task, DIFFERENT, entity, tenant, start_ns, end_ns)

    def snapshot(self) -> Any:
        """Nothing beyond the sketches."""
        return None

    def restore(self, state: Any) -> None:  # noqa: B027 - there is nothing to override
        """Nothing to go on with."""


def over(view: View, task: Task, at_least: float) -> tuple[list[Spreader], int]:
    """Keys of the pane over a threshold in the window, as listed, and how many there are."""
    merged = view.merged.get(task.name)
    if not isinstance(merged, SuperSpread):
        return [], 0
    keys = _keys_of(view.pane.get(task.name, ()), merged)
    found = merged.over(keys, at_least, MAX_READINGS)
    return found.rows, found.total


def others(
    view: View, task: Task, listed: Iterable[Spreader], watched: Collection[Hashable]
) -> list[Spreader]:
    """Of the watched keys those that are not listed but have been seen in the window."""
    known = {row.key for row in listed}
    keys = [key for key in watched if isinstance(key, tuple) and key not in known]
    return [row for row in figures(view, task, keys) if row.estimate >= 1]


def figures(view: View, task: Task, keys: Sequence[tuple[int, ...]]) -> list[Spreader]:
    """Estimates of given keys, in their order."""
    merged = view.merged.get(task.name)
    if not isinstance(merged, SuperSpread) or not keys:
        return [Spreader(key, 0.0, 0.0, 0.0) for key in keys]
    words = np.array(keys, np.uint64)
    columns = merged.estimates(words, hash_words(words, merged.seed))
    return [
        Spreader(key, *row) for key, row in zip(keys, np.stack(columns, 1).tolist(), strict=True)
    ]


def _keys_of(sketches: Sequence[Sketch], merged: SuperSpread) -> U64:
    """Different keys of several partitions' sketches."""
    parts = [sketch.keys() for sketch in sketches if isinstance(sketch, SuperSpread)]
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate((np.empty((0, merged.words), np.uint64), *parts))
    _, rows = np.unique(hash_words(keys, merged.seed), return_index=True)
    return keys[rows]


def unsampled(view: View, row: Spreader) -> Spreader:
    """A row whose upper bound allows for what sampling has hidden: a packet each at most."""
    if view.sampling.rate == 1:
        return row
    hidden = float(round(view.sampling.packets(view.packets)[1]))
    return row._replace(upper=max(row.upper, hidden))


def confidence(view: View, task: Task) -> float:
    """Probability that the bounds of a spread hold."""
    merged = view.merged.get(task.name)
    known = merged.confidence if isinstance(merged, SuperSpread) else 1.0
    return known if view.sampling.rate == 1 else min(known, SAMPLED_CONFIDENCE)


def sampling_facts(view: View) -> dict[str, str]:
    """That packets were sampled, for the evidence; nothing where they were not."""
    return {} if view.sampling.rate == 1 else {"sampling": f"1 in {view.sampling.rate:,}"}
