"""An alert that says of itself that it is none, to try notifiers out with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from flows.detect.alert import Alert, Severity, Status, alert_id

RULE = "notify_test"


def revisions(tenant: str) -> Iterator[Alert]:
    """An alert that fires, and its end, so that no receiver keeps it open."""
    now_ns = time.time_ns()
    fired = Alert(
        alert_id=alert_id(RULE, tenant, "", now_ns),
        revision=1,
        event="fired",
        tenant=tenant,
        probe="",
        rule=RULE,
        detector=RULE,
        title="TEST: nothing has happened, somebody tries out this notifier",
        severity=Severity.info,
        status=Status.firing,
        entity={"src_addr": "192.0.2.1"},
        entity_text="src_addr=192.0.2.1",
        src_addr="192.0.2.1",
        dst_addr="",
        dst_port=0,
        attack_technique="",
        metric="test alerts",
        unit="alerts",
        horizon_s=60,
        value=1.0,
        lower=1.0,
        upper=1.0,
        confidence=1.0,
        threshold=1.0,
        expected="",
        window_start_ns=now_ns,
        first_seen_ns=now_ns,
        last_seen_ns=now_ns,
        resolved_at_ns=0,
        evidence=(),
        evidence_sql="SELECT 1 AS value",
        summary="This is a test of NetSpectra. Real alerts will look like it.",
    )
    yield fired
    yield replace(
        fired, revision=2, event="resolved", status=Status.resolved, resolved_at_ns=now_ns
    )
