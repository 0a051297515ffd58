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

from flows.windows.horizons import WindowResult
from flows.windows.tasks import PaneSketch, Task
from flows.windows.tenants import TenantHorizons, UnitUpdate
from flows.windows.unit import Unit


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


_Results = tuple[str, str, list[WindowResult]]


class _HorizonLogic(StatefulBatchLogic[UnitUpdate, _Results, tuple[Any, ...]]):
    def __init__(self, horizons: TenantHorizons, *, kept: bool) -> None:
        self._horizons = horizons
        self._kept = kept

    @override
    def on_batch(self, values: list[UnitUpdate]) -> tuple[list[_Results], bool]:
        results = [
            (tenant, f"{update.partition}/{update.offset}", published)
            for update in values
            for tenant, published in self._horizons.apply(update)
        ]
        return (results, StatefulBatchLogic.RETAIN)

    @override
    def snapshot(self) -> tuple[Any, ...]:
        return self._horizons.snapshot() if self._kept else ()


@operator
def merge_horizons(
    step_id: str,
    up: Flow[Unit],
    *,
    tasks: Sequence[Task],
    horizons_ns: Sequence[int],
    partitions: Sequence[str],
    kept: bool,
) -> Flow[TaskResults]:
    """Merge the sketches of all partitions' units into horizons.

    Keyed by task, so that workers share the merging. On resume the results since the last
    snapshot are computed again and are the same.

    :arg step_id: Unique ID.
    :arg up: Units of all partitions.
    :arg tasks: What the units' sketches compute.
    :arg horizons_ns: Lengths of the horizons.
    :arg partitions: Names of all partitions, as ``topic/partition``.
    :arg kept: Whether snapshots are kept; the engine asks for them all the same.
    :returns: Results, a list per tenant, task and unit that closed a horizon.

    """
    by_name: Mapping[str, Task] = {task.name: task for task in tasks}

    def updates(unit: Unit) -> list[tuple[str, UnitUpdate]]:
        panes: dict[str, dict[str, list[PaneSketch]]] = {name: {} for name in by_name}
        for (tenant, name), sketches in unit.sketches.items():
            if name in panes:  # others are fed for detection alone
                panes[name][tenant] = sketches
        head = (f"{unit.topic}/{unit.partition}", unit.offset, unit.watermark_ns, unit.pane_ns)
        return [
            (name, UnitUpdate(*head, by_tenant, unit.since_ns)) for name, by_tenant in panes.items()
        ]

    def logic(state: tuple[Any, ...] | None) -> _HorizonLogic:
        return _HorizonLogic(TenantHorizons(horizons_ns, partitions, state), kept=kept)

    def label(item: tuple[str, _Results]) -> TaskResults:
        name, (tenant, unit, results) = item
        return TaskResults(tenant, by_name[name], unit, results)

    keyed: KeyedStream[UnitUpdate] = op.flat_map("updates", up, updates)
    merged = op.stateful_batch("merge", keyed, logic)
    return op.map("label", merged, label)
