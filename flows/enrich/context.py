"""What the store knows around an alert: its host before and now, its peers, its flows, its past.

Every statement reads only, of one tenant, with limits on time, memory and rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flows import logs
from flows.detect.alert import Alert
from flows.enrich.rows import EnrichmentStore
from flows.enrich.situation import Situation
from flows.errors import StoreError
from flows.storage import flow_rows
from flows.storage.embedded import quote

MAX_ALERTS: Final = 3
"""Alerts of a situation whose surroundings are read."""

BEFORE_S: Final = 3600
"""How far back "before" goes."""

_FLOWS: Final = 5
_PEERS: Final = 4
_S: Final = 10**9
_LIMITS: Final = (
    "SETTINGS max_threads = 1, max_execution_time = 5, max_memory_usage = 120000000, "
    "max_result_rows = 1000"
)


def surroundings(store: EnrichmentStore, situation: Situation) -> list[dict[str, Any]]:
    """Rows about the worst alerts of a situation; what can't be read is left out."""
    found: list[dict[str, Any]] = []
    for number, alert in enumerate(situation.alerts[:MAX_ALERTS], start=1):
        for statement, parameters in _statements(alert):
            try:
                rows = store.query(f"{statement} {_LIMITS}", parameters).to_pylist()
            except (StoreError, ValueError) as error:
                why = str(error)
                logs.get("enrich").debug("no context", alert_id=alert.alert_id, why=why)
                continue
            for row in rows:
                named = {flow_rows.COLUMNS.get(k, k): v for k, v in row.items()}
                kind = named.pop("kind", "flow")
                found.append({"kind": kind, "alert": f"A{number}", **named})
    return found


def is_settled(store: EnrichmentStore, alert: Alert) -> bool:
    """Whether the flows that an alert was raised by are stored, or nobody can tell."""
    if not alert.evidence_sql:
        return True
    sql = f"SELECT max(value) AS most FROM (\n{alert.evidence_sql}\n) {_LIMITS}"  # noqa: S608
    try:
        (row,) = store.query(sql).to_pylist()
    except StoreError:
        return True
    return float(row["most"] or 0) >= alert.lower


Statement = tuple[str, Mapping[str, Any]]


def _statements(alert: Alert) -> Iterator[Statement]:
    try:
        condition = flow_rows.of_entity(alert.entity)
    except ValueError:
        condition = ""
    if condition:
        window = flow_rows.in_window(alert.tenant, alert.window_start_ns, alert.last_seen_ns)
        by = "bytes" if "bit" in alert.unit or "byte" in alert.unit else "packets"
        largest = flow_rows.largest_flows([dict(alert.entity)], window, by)  # type: ignore[arg-type]
        yield largest.rpartition(" LIMIT ")[0] + f" LIMIT {_FLOWS}", {}
    host = alert.src_addr or alert.dst_addr
    if host:
        yield _now_and_before(alert, host)
        yield _peers(alert, host)
    yield _earlier(alert)


def _now_and_before(alert: Alert, host: str) -> Statement:
    """Totals of a host in the window of the alert, and per as long a time before."""
    start, end = alert.window_start_ns, alert.last_seen_ns
    length_s = max((end - start) / _S, 1.0)
    before = flow_rows.in_window(alert.tenant, start - BEFORE_S * _S, start)
    now = flow_rows.in_window(alert.tenant, start, end)
    parts = []
    for kind, window, seconds in (("now", now, length_s), ("hour before", before, BEFORE_S)):
        parts.append(
            f"SELECT 'host, {kind}' AS kind, {quote(host)} AS host, {seconds:.0f} AS seconds, "
            f"sumIf(packets, src_addr = toIPv6({quote(host)})) AS packets_sent, "
            f"sumIf(bytes, src_addr = toIPv6({quote(host)})) AS bytes_sent, "
            f"sumIf(packets, dst_addr = toIPv6({quote(host)})) AS packets_received, "
            f"sumIf(bytes, dst_addr = toIPv6({quote(host)})) AS bytes_received, "
            "uniq(if(src_addr = toIPv6(" + quote(host) + "), dst_addr, src_addr)) AS peers "
            f"FROM flows WHERE {window} AND (src_addr = toIPv6({quote(host)}) "
            f"OR dst_addr = toIPv6({quote(host)}))"
        )
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY kind DESC", {}  # noqa: S608


def _peers(alert: Alert, host: str) -> Statement:
    window = flow_rows.in_window(alert.tenant, alert.window_start_ns, alert.last_seen_ns)
    ours = f"toIPv6({quote(host)})"
    return (
        f"SELECT 'peer' AS kind, ip_text(if(src_addr = {ours}, dst_addr, src_addr)) AS peer, "  # noqa: S608
        f"sumIf(bytes, src_addr = {ours}) AS bytes_to_peer, "
        f"sumIf(bytes, dst_addr = {ours}) AS bytes_from_peer, sum(packets) AS packets "
        f"FROM flows WHERE {window} AND (src_addr = {ours} OR dst_addr = {ours}) "
        f"GROUP BY peer ORDER BY sum(bytes) DESC, peer LIMIT {_PEERS}",
        {},
    )


def _earlier(alert: Alert) -> Statement:
    """Earlier alerts of the same entity or, for a host, that name it, and how they ended."""
    hosts = [host for host in (alert.src_addr, alert.dst_addr) if host]
    return (
        "SELECT 'earlier alerts' AS kind, a.rule AS rule, count() AS alerts, "
        "countIf(a.verdict = 'true_positive') AS true_positives, "
        "countIf(a.verdict IN ('false_positive', 'benign')) AS harmless, "
        "max(a.value) AS largest_value, any(a.unit) AS unit FROM alerts AS a "
        "WHERE a.tenant = {tenant:String} AND a.alert_id != {id:String} "
        "AND a.first_seen < fromUnixTimestamp64Nano({begin:Int64}, 'UTC') "
        "AND a.first_seen >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') "
        "AND (a.entity_text = {entity:String} OR a.src_addr IN {hosts:Array(String)} "
        "OR a.dst_addr IN {hosts:Array(String)}) GROUP BY rule ORDER BY alerts DESC LIMIT 5",
        {
            "tenant": alert.tenant,
            "id": alert.alert_id,
            "begin": alert.first_seen_ns,
            "since": max(alert.first_seen_ns - 30 * 86_400 * _S, 0),
            "entity": alert.entity_text,
            "hosts": hosts,
        },
    )
