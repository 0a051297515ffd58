"""The list that Prometheus' Alertmanager takes at ``POST /api/v2/alerts`` (its OpenAPI v2).

Alertmanager tells alerts apart by their labels, and ends one that isn't sent again within its
``resolve_timeout`` unless ``endsAt`` says how long it lasts. We send an alert once, so ``endsAt``
is far ahead; the resolved revision sets it to the real end. The severity is a label, because
routes go by it: when it has risen, the alert under its former labels is ended in the same list.
"""

from __future__ import annotations

import time
from typing import Any, Final

from flows.detect.alert import Alert, Severity, Status
from flows.notify.text import iso, number

LASTS_NS: Final = 7 * 24 * 3600 * 10**9
"""How long an alert is taken to last from when it was last told of."""


def render(alert: Alert, now_ns: int | None = None) -> list[dict[str, Any]]:
    """An alert as the list that becomes JSON.

    Args:
        alert: a revision.
        now_ns: Unix time, ns; by default the clock's.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    over = alert.status is Status.resolved
    end_ns = max(alert.resolved_at_ns or alert.last_seen_ns, alert.first_seen_ns)
    found = [_object(alert, alert.severity, end_ns if over else now_ns + LASTS_NS)]
    if alert.event != "fired":
        found += [_object(alert, s, end_ns if over else now_ns) for s in Severity
                  if s < alert.severity]  # fmt: skip
    return found


def _explained(alert: Alert) -> list[tuple[str, str]]:
    found = alert.explanation
    names = ("assessment", "root_cause", "next_checks", "mitigation", "model")
    return [(name, getattr(found, name)) for name in names] if found is not None else []


def _object(alert: Alert, severity: Severity, ends_ns: int) -> dict[str, Any]:
    labels = {
        # What a group's members share changes as it grows, and labels must not.
        **({} if alert.member_count else alert.entity),
        "alertname": alert.rule,
        "alert_id": alert.alert_id,
        "severity": severity.name,
        "tenant": alert.tenant,
        "detector": alert.detector,
        "attack_technique": alert.attack_technique,
    }
    annotations = {
        "summary": alert.title,
        "description": alert.summary,
        "entity": alert.entity_text,
        "probe": alert.probe,
        "value": f"{number(alert.value)} {alert.unit}",
        "bounds": f"{number(alert.lower)} to {number(alert.upper)} {alert.unit}",
        "threshold": f"{number(alert.threshold)} {alert.unit}",
        "expected": alert.expected,
        "evidence_sql": alert.evidence_sql,
        "revision": str(alert.revision),
        **dict(_explained(alert)),
    }
    return {
        # Alertmanager counts an empty label as none, and takes no empty annotations either.
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": iso(alert.first_seen_ns),
        "endsAt": iso(ends_ns),
    }
