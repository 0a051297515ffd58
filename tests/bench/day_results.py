"""What a day's traffic leaves besides flows: alerts, and the estimates of its windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from flows.storage.tables import MAX_INSERT_ROWS
from tests.support.store_rows import rows

DAY_MS = 1_767_225_600_000
"""2026-01-01, Unix ms."""
DAY_S = 86_400
ALERTS, REVISIONS, OPEN = 5_000, 3, 40
RULES = ("host_scan", "port_scan", "syn_flood", "volume", "super_spreader")
DISTINCT = ("src_addr", "dst_addr", "addr_pair", "five_tuple")
SPREAD = ("fan_out", "fan_in", "fan_out_service", "pair_ports")
SPREADERS = 20
"""Listed in a window."""


def results(rng: np.random.Generator) -> Iterator[tuple[str, pa.Table]]:
    """Tables by name, in inserts of at most half a million rows."""
    for name, table in (
        ("alerts_log", alerts(rng)),
        ("distinct_counts_log", distinct(rng)),
        ("spreaders_log", spreaders(rng)),
    ):
        for start in range(0, table.num_rows, MAX_INSERT_ROWS):
            yield name, table.slice(start, MAX_INSERT_ROWS)


def alerts(rng: np.random.Generator) -> pa.Table:
    """Alerts with some revisions each; the last ones are still open."""
    n = ALERTS * REVISIONS
    alert, revision = np.arange(n) // REVISIONS, np.arange(n) % REVISIONS + 1
    start_ms = DAY_MS + np.sort(rng.integers(0, DAY_S - 600, ALERTS))[alert] * 1000
    over = (revision == REVISIONS) & (alert < ALERTS - OPEN)
    rule = rng.integers(0, len(RULES), ALERTS)[alert]
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in rng.integers(0, 2000, ALERTS)]
    value = rng.integers(100, 10_000, ALERTS)[alert] * revision
    return rows(
        "alerts_log",
        alert_id=[f"{number:032x}" for number in alert],
        revision=revision.tolist(),
        event=np.where(over, 4, np.where(revision == 1, 2, 3)).tolist(),
        tenant="default",
        probe="edge-1",
        rule=[RULES[i] for i in rule],
        detector=[RULES[i] for i in rule],
        severity=(rule % 5 + 1).tolist(),
        status=np.where(over, 3, 2).tolist(),
        entity=[{"src_addr": hosts[i]} for i in alert],
        entity_text=[f"src_addr={hosts[i]}" for i in alert],
        src_addr=[hosts[i] for i in alert],
        dst_addr="",
        value=value.astype(float).tolist(),
        window_start=start_ms.tolist(),
        first_seen=(start_ms * 10**6).tolist(),
        last_seen=((start_ms + revision * 60_000) * 10**6).tolist(),
        resolved_at=np.where(over, (start_ms + 300_000) * 10**6, 0).tolist(),
        evidence_sql="SELECT 1 AS value",
        updated_at=(start_ms + revision * 60_000).tolist(),
    )


def distinct(rng: np.random.Generator) -> pa.Table:
    """Distinct counts of each pane, minute and ten minutes."""
    parts = [_windows(horizon_s, DISTINCT, 1) for horizon_s in (2, 60, 600)]
    found = {name: [x for part in parts for x in part[name]] for name in parts[0]}
    estimate = 1000 + 9000 * rng.random(len(found["task"]))
    return rows(
        "distinct_counts_log",
        tenant="default",
        window_start=found["window_start"],
        horizon=found["horizon"],
        task=[f"distinct_{task}" for task in found["task"]],
        estimate=estimate.tolist(),
        lower=(0.97 * estimate).tolist(),
        upper=(1.03 * estimate).tolist(),
        confidence=0.95,
        late_packets=0,
    )


def spreaders(rng: np.random.Generator) -> pa.Table:
    """Lists of spreaders of each minute and ten minutes."""
    parts = [_windows(horizon_s, SPREAD, SPREADERS) for horizon_s in (60, 600)]
    found = {name: [x for part in parts for x in part[name]] for name in parts[0]}
    hosts = [f"10.0.0.{number}" for number in rng.integers(0, 250, len(found["task"]))]
    estimate = 1000 * rng.random(len(hosts)) / np.asarray(found["rank"])
    return rows(
        "spreaders_log",
        tenant="default",
        window_start=found["window_start"],
        horizon=found["horizon"],
        task=found["task"],
        rank=found["rank"],
        key=[{"src_addr": host} for host in hosts],
        key_text=[f"src_addr={host}" for host in hosts],
        estimate=estimate.tolist(),
        lower=(0.9 * estimate).tolist(),
        upper=(1.1 * estimate).tolist(),
        confidence=0.95,
        late_packets=0,
    )


def _windows(horizon_s: int, tasks: tuple[str, ...], ranks: int) -> dict[str, list[Any]]:
    """All windows of a length, with all tasks and ranks."""
    windows = DAY_S // horizon_s
    n = windows * len(tasks) * ranks
    at = np.arange(n)
    return {
        "window_start": (DAY_MS + at // (len(tasks) * ranks) * horizon_s * 1000).tolist(),
        "horizon": [horizon_s] * n,
        "task": [tasks[i] for i in at // ranks % len(tasks)],
        "rank": (at % ranks + 1).tolist(),
    }
