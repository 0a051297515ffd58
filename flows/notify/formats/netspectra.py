"""Our own JSON, version 1: every field of an alert under its own name.

``version`` is raised when a field changes its meaning or goes; fields may be added without. Times
are RFC 3339 in UTC, null for none; ``severity`` and ``status`` are the names that the store uses.
"""

from __future__ import annotations

from typing import Any, Final

from flows.detect.alert import Alert
from flows.detect.explanation import Explanation
from flows.notify.text import iso

VERSION: Final = 1


def render(alert: Alert) -> dict[str, Any]:
    """An alert as the object that becomes JSON."""
    return {
        "version": VERSION,
        "delivery_id": alert.delivery_id,
        "alert_id": alert.alert_id,
        "revision": alert.revision,
        "event": alert.event,
        "status": alert.status.name,
        "severity": alert.severity.name,
        "title": alert.title,
        "summary": alert.summary,
        "tenant": alert.tenant,
        "probe": alert.probe,
        "rule": alert.rule,
        "detector": alert.detector,
        "attack_technique": alert.attack_technique,
        "entity": dict(alert.entity),
        "entity_text": alert.entity_text,
        "src_addr": alert.src_addr,
        "dst_addr": alert.dst_addr,
        "dst_port": alert.dst_port,
        "metric": alert.metric,
        "unit": alert.unit,
        "horizon_s": alert.horizon_s,
        "value": alert.value,
        "lower": alert.lower,
        "upper": alert.upper,
        "confidence": alert.confidence,
        "threshold": alert.threshold,
        "expected": alert.expected,
        "window_start": iso(alert.window_start_ns) or None,
        "first_seen": iso(alert.first_seen_ns) or None,
        "last_seen": iso(alert.last_seen_ns) or None,
        "resolved_at": iso(alert.resolved_at_ns) or None,
        "members": list(alert.members),
        "member_count": alert.member_count,
        "evidence": [dict(row) for row in alert.evidence],
        "evidence_sql": alert.evidence_sql,
        "explanation": _explanation(alert.explanation),
    }


def _explanation(found: Explanation | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "assessment": found.assessment,
        "root_cause": found.root_cause,
        "next_checks": found.next_checks,
        "mitigation": found.mitigation,
        "model": found.model,
        "prompt_version": found.prompt_version,
        "cited": [dict(row) for row in found.cited],
    }
