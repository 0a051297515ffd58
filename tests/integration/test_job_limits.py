"""The job at its limits, each in a process of its own: a flood in one pane, kills by hook."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.windows.partition import WindowConfig
from probe.synthetic import Traffic
from tests.support.jobs import (
    SECOND,
    TASKS,
    ask,
    environment,
    ipv4_packets,
    truth,
    units_of,
    write_pcap,
)

FLOOD = """
import json, sys
from datetime import timedelta
from bytewax._bytewax import cli_main
from flows import pipeline
from flows.benchmarks.fresh import peak_bytes
from flows.detect import registry
from flows.detection import merged
from flows.windows.configured import tasks_of
from flows.operators.detect import Detection
from flows.settings import DEFAULT_TASKS, Settings
from flows.sinks.alerts import AlertSink
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultSink, StoredCounts, UnitSink
from flows.sources.logs import DemoLog
from flows.sources.partitions import LogSource
from flows.storage.store import Store
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from probe.synthetic import Traffic

traffic = Traffic(profile="flood", packets=1_000_000, packets_per_second=600_000,
                  destinations=sys.argv[1])
assert traffic.start_ns % 2_000_000_000 == 0 and traffic.span_ns < 2_000_000_000
networks, tasks, config = Networks({}), tasks_of(DEFAULT_TASKS), WindowConfig()
rules = registry.rules(Settings())
fed = merged(tasks, rules)

def partition(_):
    log = DemoLog(traffic, tenant="t", probe="p")
    return log, PartitionAccumulator("flood", "0", config, fed, networks)

with Store.open("chdb:data") as store:
    counts = StoredCounts()
    flow = pipeline.build(
        LogSource({"0": partition}), UnitSink(store, counts),
        ResultSink(store, Context(networks.names)), AlertSink(store),
        tasks=tasks, horizons_ns=(2 * 10**9, 60 * 10**9, 600 * 10**9), partitions=["flood/0"],
        detection=Detection(rules), recovers=False)
    cli_main(flow, workers_per_process=1, epoch_interval=timedelta(seconds=10))
peak = peak_bytes()
print(json.dumps({"peak_bytes": peak, "max_flows": config.max_flows, "packets": counts.packets}))
"""

KILLED = """
import os, sys
from flows.sources import logs
from flows.storage.embedded import Engine

logs.MESSAGE_PACKETS = 400
left, when, real = int(sys.argv[1]), sys.argv[2], Engine.insert

def insert(self, table, rows, token):
    global left
    left -= 1
    if left == 0 and when == "during":
        import threading
        threading.Timer(0.002, os.kill, (os.getpid(), 9)).start()
    if left == 0 and when == "before":
        os.kill(os.getpid(), 9)
    real(self, table, rows, token)
    if left <= 0:
        os.kill(os.getpid(), 9)

if left:
    Engine.insert = insert
from flows.cli import main
sys.exit(main(["run"]))
"""


def python(program: str, place: Path, *arguments: str, **settings: str) -> Any:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=place,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def unfolded_counts(destinations: str) -> dict[str, float]:
    """Distinct counts of the same flood with room for all of its flows."""
    traffic = Traffic(
        profile="flood", packets=1_000_000, packets_per_second=600_000, destinations=destinations
    )
    tasks = [task for task in TASKS if task.kind == "distinct"]
    (unit,) = units_of(
        traffic.batch(0, traffic.packets),
        config=WindowConfig(max_flows=traffic.packets),
        tasks=tasks,
        message=traffic.packets,
    )
    assert len(unit.entries) == traffic.packets
    sketches: Any = {task.name: unit.sketches["t", task.name][0].sketch for task in tasks}
    return {name: sketch.estimate().value for name, sketch in sketches.items()}


@pytest.mark.slow
@pytest.mark.parametrize("destinations", ["random", "one"])
def test_a_million_flows_in_one_pane(tmp_path: Path, destinations: str) -> None:
    """Bounded rows and memory, exact sums, sketches that have seen every flow."""
    done = python(FLOOD, tmp_path, destinations)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["packets"] == 1_000_000
    assert told["peak_bytes"] < 1_500_000_000
    (flows,) = ask(
        tmp_path / "data",
        "SELECT toUInt32(sum(packets)) AS packets, toUInt32(sum(bytes)) AS bytes, "
        "toUInt32(countIf(folded_flows = 0)) AS kept, toUInt32(countIf(folded_flows > 0)) AS rest, "
        "toUInt32(sum(if(folded_flows > 0, folded_flows, 1))) AS stands_for, "
        "toUInt32(uniqExact(window_start)) AS panes FROM flows",
    )
    assert (flows["packets"], flows["bytes"], flows["panes"]) == (1_000_000, 60_000_000, 1)
    assert flows["stands_for"] == 1_000_000
    assert 0 < flows["kept"] <= told["max_flows"]
    assert 0 < flows["rest"] <= told["max_flows"] // 4
    (totals,) = ask(tmp_path / "data", "SELECT toUInt32(sum(packets)) AS n FROM totals")
    assert totals["n"] == 1_000_000
    truths = dict.fromkeys(
        ("distinct_src_addr", "distinct_addr_pair", "distinct_five_tuple"), 1_000_000
    )
    truths["distinct_dst_addr"] = 1_000_000 if destinations == "random" else 1
    unfolded = unfolded_counts(destinations)
    rows = ask(
        tmp_path / "data", "SELECT task, horizon, estimate, lower, upper FROM distinct_counts"
    )
    assert len(rows) == 3 * len(truths) == 3 * len(unfolded)
    for row in rows:
        assert row["estimate"] == unfolded[row["task"]]
        spread = row["upper"] - row["lower"]
        assert row["lower"] - spread <= truths[row["task"]] <= row["upper"] + spread
        assert spread <= 0.05 * row["lower"]
    for row in ask(
        tmp_path / "data",
        "SELECT key_text, toUInt32(total_packets) AS total, toUInt32(packets_lower) AS lower, "
        "toUInt32(packets_upper) AS upper FROM heavy_hitters WHERE task = 'top_dst_port'",
    ):
        assert (row["total"], row["lower"], row["upper"]) == (1_000_000,) * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inserts", "when"),
    [(2, "before"), (3, "during"), (4, "after"), (5, "before"), (6, "during"), (11, "during")],
)
def test_killed_by_hook_then_run_again(tmp_path: Path, inserts: int, when: str) -> None:
    """SIGKILL at, in and after an insert of a real process; then every sum is exact."""
    packets = ipv4_packets(np.random.default_rng(7), 2000, span_ns=30 * SECOND)
    write_pcap(tmp_path / "x.pcap", packets)
    settings = {"SOURCE": "pcap:x.pcap", "STORE": "chdb:data"}
    done = python(KILLED, tmp_path, str(inserts), when, **settings)
    assert done.returncode == -signal.SIGKILL, done.stderr
    done = python(KILLED, tmp_path, "0", "never", **settings)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for table in ("flows", "totals", "flows_1m", "flows_1h", "commits"):
        (row,) = ask(
            tmp_path / "data",
            f"SELECT toUInt64(sum(packets)) AS p, toUInt64(sum(bytes)) AS b FROM {table}",
        )
        assert (int(row["p"]), int(row["b"])) == truth(packets), table
    ledger = ask(
        tmp_path / "data", "SELECT sum(seen) AS s, sum(delivered) AS d FROM ledger GROUP BY hop"
    )
    assert [(int(row["s"]), int(row["d"])) for row in ledger] == [(2000, 2000)] * 3
    (lists,) = ask(
        tmp_path / "data",
        "SELECT toUInt32(count()) AS n, toUInt32(uniqExact(window_start, horizon, task)) AS u "
        "FROM distinct_counts",
    )
    assert lists["n"] == lists["u"] > 0
