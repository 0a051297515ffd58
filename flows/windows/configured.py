"""Tasks as the settings define them."""

from __future__ import annotations

from collections.abc import Iterable

from flows.settings import Task as TaskSettings
from flows.windows.fields import FieldList
from flows.windows.tasks import Task


def tasks_of(settings: Iterable[TaskSettings]) -> list[Task]:
    """The sketch tasks among the settings' tasks; exact ones are the flow table itself."""
    return [
        Task(
            task.name,
            task.type,
            FieldList(task.key),
            FieldList(task.elements),
            top=task.top,
            lg_k=task.lg_k,
            memory_bytes=task.memory_kb * 1024,
        )
        for task in settings
        if task.type != "exact"
    ]
