"""Operator: units into results per horizon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Stream as Flow
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from flows.windows.horizons import HorizonMerger, TaskUpdate, WindowResult
from flows.windows.tasks import Task
from flows.windows.unit import Unit

_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class TaskResults:
    """Results that one unit gave for one tenant's task, in order of time.

    Attributes:
        tenant: whose traffic it is.
        task: what was computed.
        unit: the unit that closed or changed the horizons.
        results: one per horizon.
    """

    tenant: str
    task: Task
    unit: str
    results: list[WindowResult]


_Results = tuple[str, list[WindowResult]]


class _HorizonLogic(StatefulBatchLogic[TaskUpdate, _Results, tuple[Any, ...]]):
    def __init__(self, merger: HorizonMerger) -> None:
        self._merger = merger

    @override
    def on_batch(self, values: list[TaskUpdate]) -> tuple[list[_Results], bool]:
        results = [
            (f"{update.partition}/{update.offset}", self._merger.apply(update)) for update in values
        ]
        return ([item for item in results if item[1]], StatefulBatchLogic.RETAIN)

    @override
    def snapshot(self) -> tuple[Any, ...]:
        return self._merger.snapshot()


@operator
def merge_horizons(
    step_id: str,
    up: Flow[Unit],
    *,
    tasks: Sequence[Task],
    horizons_ns: Sequence[int],
    partitions: Sequence[str],
) -> Flow[TaskResults]:
    """Merge the sketches of all partitions' units into horizons.

    Keyed by tenant and task, so that workers share the merging. On resume the results since
    the last snapshot are computed again and are the same.

    :arg step_id: Unique ID.
    :arg up: Units of all partitions.
    :arg tasks: What the units' sketches compute.
    :arg horizons_ns: Lengths of the horizons.
    :arg partitions: Names of all partitions, as ``topic/partition``.
    :returns: Results, a list per tenant, task and unit that closed a horizon.

    """
    by_name: Mapping[str, Task] = {task.name: task for task in tasks}

    def updates(unit: Unit) -> list[tuple[str, TaskUpdate]]:
        tenants = {stream.tenant for stream in unit.streams}
        return [
            (
                f"{tenant}{_SEPARATOR}{name}",
                TaskUpdate(
                    f"{unit.topic}/{unit.partition}",
                    unit.offset,
                    unit.watermark_ns,
                    unit.pane_ns,
                    unit.sketches.get((tenant, name), ()),
                ),
            )
            for tenant in sorted(tenants)
            for name in by_name
        ]

    def logic(state: tuple[Any, ...] | None) -> _HorizonLogic:
        return _HorizonLogic(HorizonMerger(horizons_ns, partitions, state))

    def label(item: tuple[str, _Results]) -> TaskResults:
        key, (unit, results) = item
        tenant, _, name = key.partition(_SEPARATOR)
        return TaskResults(tenant, by_name[name], unit, results)

    keyed: KeyedStream[TaskUpdate] = op.flat_map("updates", up, updates)
    merged = op.stateful_batch("merge", keyed, logic)
    return op.map("label", merged, label)
