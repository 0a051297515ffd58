"""What of a unit a rule gets to see."""

from __future__ import annotations

from flows.detect.policy import RuleSpec
from flows.detect.probe_facts import facts
from flows.detect.window import DetectUpdate
from flows.windows.unit import Unit


def update_for(rule: RuleSpec, unit: Unit) -> DetectUpdate:
    """The sketches of the rule's tasks; for a rule without tasks, what probes say."""
    tasks = {task.name for task in rule.tasks}
    return DetectUpdate(
        partition=f"{unit.topic}/{unit.partition}",
        offset=unit.offset,
        watermark_ns=unit.watermark_ns,
        pane_ns=unit.pane_ns,
        sketches={key: panes for key, panes in unit.sketches.items() if key[1] in tasks},
        probes=() if tasks else facts(unit),
        since_ns=unit.since_ns,
    )
