"""Alerts made by hand, and a store of flows behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flows.detect.alert import Alert, Severity, Status, alert_id, text_of
from tests.support.store_rows import T0_MS

T0_NS = T0_MS * 10**6
SECOND_NS = 10**9


def alert(**changes: Any) -> Alert:
    """A scan of 10.0.2.15 that fires; ``changes`` replace fields, and what follows from them."""
    entity = changes.setdefault("entity", {"src_addr": "10.0.2.15", "dst_port": "23"})
    rule = changes.get("rule", "host_scan")
    tenant = changes.get("tenant", "default")
    first_seen_ns = changes.get("first_seen_ns", T0_NS)
    follows = {
        "alert_id": alert_id(rule, tenant, text_of(entity), first_seen_ns),
        "entity_text": text_of(entity),
        "src_addr": entity.get("src_addr", ""),
        "dst_addr": entity.get("dst_addr", ""),
        "dst_port": int(entity.get("dst_port", 0)),
        "last_seen_ns": first_seen_ns + 10 * SECOND_NS,
        "window_start_ns": first_seen_ns,
    }
    return replace(_SCAN, **(follows | changes))


_SCAN = Alert(
    alert_id="",
    revision=1,
    event="fired",
    tenant="default",
    probe="",
    rule="host_scan",
    detector="host_scan",
    title="10.0.2.15 scans port 23 of many hosts",
    severity=Severity.medium,
    status=Status.firing,
    entity={},
    entity_text="",
    src_addr="",
    dst_addr="",
    dst_port=0,
    attack_technique="T1046",
    metric="hosts without a connection",
    unit="hosts",
    horizon_s=600,
    value=214.0,
    lower=206.5,
    upper=221.5,
    confidence=0.95,
    threshold=100.0,
    expected="",
    window_start_ns=T0_NS,
    first_seen_ns=T0_NS,
    last_seen_ns=T0_NS,
    resolved_at_ns=0,
    evidence=({"hosts": "214", "answered": "3"},),
    evidence_sql="SELECT 214 AS value",
    summary="It tried port 23 of 214 hosts within 10 s; 3 answered.",
)
