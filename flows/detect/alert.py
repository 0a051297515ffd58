"""An alert, as it leaves the dataflow: one revision of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from flows.detect.explanation import TEMPLATE, Explanation

Event = Literal["pending", "fired", "updated", "resolved", "muted", "dropped"]
"""Why there is a new revision; ``dropped`` ends a pending alert that came to nothing."""


class Severity(IntEnum):
    """How bad it is; the numbers are those of the table."""

    info = 1
    low = 2
    medium = 3
    high = 4
    critical = 5


class Status(IntEnum):
    """Where an alert is in its life; the numbers are those of the table."""

    pending = 1
    firing = 2
    resolved = 3
    muted = 4


@dataclass(frozen=True)
class Alert:
    """One revision of an alert. Times are Unix ns of event time; 0 stands for none.

    Attributes:
        alert_id: 32 hexadecimal digits, a function of rule, tenant, entity and start.
        revision: from 1; the same content at every replay.
        event: why there is this revision.
        tenant: whose traffic it is.
        probe: that it is about; empty where an alert isn't about one.
        rule: that fired.
        detector: that the rule uses; the task's name for a rule on a task.
        title: one line for people.
        severity: how bad it is.
        status: where it is in its life.
        entity: what it is about, fields of a flow key by name, in order, as text. A group's has
            the fields that all members share.
        entity_text: the same as ``src_addr=10.0.2.15 dst_port=443``; of a group ``214 sources …``.
        src_addr: of the entity, empty for none.
        dst_addr: of the entity, empty for none.
        dst_port: of the entity, 0 for none.
        attack_technique: id in MITRE ATT&CK, empty for none.
        metric: what was measured.
        unit: of the value and its bounds.
        horizon_s: length of the window that was measured over.
        value: measured; of a group its largest member's.
        lower: bound of the value.
        upper: bound of the value.
        confidence: probability that the bounds hold, 1 where certain.
        threshold: that the lower bound is compared with.
        expected: usual range as text, where there is one.
        window_start_ns: start of the window that was measured last.
        first_seen_ns: when it was first over its threshold: start of that pane.
        last_seen_ns: end of the last pane over the threshold.
        resolved_at_ns: when it ended.
        evidence: rows behind it, newest measurement first; text by name.
        evidence_sql: statement whose column ``value`` is what is claimed.
        summary: some sentences for people.
        muted_by: mute that keeps it quiet; empty for none.
        members: entities of a group, largest first, as text; only the first ones.
        member_count: how many there are; 0 for an alert that is no group.
        notify: names of the notifiers that are told; empty tells all.
        explanation: for those who are told; the language model's comes after the revision itself.
    """

    alert_id: str
    revision: int
    event: Event
    tenant: str
    probe: str
    rule: str
    detector: str
    title: str
    severity: Severity
    status: Status
    entity: Mapping[str, str]
    entity_text: str
    src_addr: str
    dst_addr: str
    dst_port: int
    attack_technique: str
    metric: str
    unit: str
    horizon_s: int
    value: float
    lower: float
    upper: float
    confidence: float
    threshold: float
    expected: str
    window_start_ns: int
    first_seen_ns: int
    last_seen_ns: int
    resolved_at_ns: int
    evidence: tuple[Mapping[str, str], ...]
    evidence_sql: str
    summary: str
    muted_by: str = ""
    members: tuple[str, ...] = ()
    member_count: int = 0
    notify: tuple[str, ...] = ()
    explanation: Explanation | None = None

    @property
    def is_explained(self) -> bool:
        """Whether it has the explanation of a language model, for which it is told once more."""
        return self.explanation is not None and self.explanation.model != TEMPLATE

    @property
    def delivery_id(self) -> str:
        """What a receiver tells deliveries apart by: the same at every try."""
        return f"{self.alert_id}/{self.revision}{'+explained' if self.is_explained else ''}"


def alert_id(rule: str, tenant: str, entity_text: str, start_ns: int) -> str:
    """Id of an alert: the same at every replay."""
    parts = "\0".join((rule, tenant, entity_text, str(start_ns)))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()


def text_of(entity: Mapping[str, str]) -> str:
    """An entity as one line: ``src_addr=10.0.2.15 dst_port=443``."""
    return " ".join(f"{name}={value}" for name, value in entity.items())
