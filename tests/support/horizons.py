"""Horizons of one task and one tenant, driven as the operator drives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.windows.horizons import WindowResult
from flows.windows.tasks import Task
from flows.windows.tenants import TenantHorizons, UnitUpdate
from flows.windows.unit import Unit


class OneTenant:
    """``TenantHorizons`` of logs that hold one tenant's packets."""

    def __init__(
        self, horizons_ns: Sequence[int], partitions: Sequence[str], state: Any = None
    ) -> None:
        self._horizons = TenantHorizons(horizons_ns, partitions, state)

    def apply(self, update: UnitUpdate) -> list[WindowResult]:
        return [result for _, found in self._horizons.apply(update) for result in found]

    def snapshot(self) -> tuple[Any, ...]:
        return self._horizons.snapshot()


def update_of(unit: Unit, task: Task, tenant: str = "t") -> UnitUpdate:
    """What the operator hands to one task of one tenant."""
    return UnitUpdate(
        f"{unit.topic}/{unit.partition}",
        unit.offset,
        unit.watermark_ns,
        unit.pane_ns,
        {tenant: unit.sketches.get((tenant, task.name), ())},
        unit.since_ns,
    )
