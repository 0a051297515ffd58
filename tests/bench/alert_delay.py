"""How long after its pane has closed an alert is stored, beside heavy traffic.

``python -m tests.bench.alert_delay [packets/s of event time]`` runs the job over a scenario with a
port scan, a SYN flood and amplification, as fast as it goes, and prints the delay of each new
alert: from the moment at which the source gave the unit out that closed the pane, to the moment
at which the alert was in the store.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from bytewax._bytewax import cli_main

from flows import detection, pipeline
from flows.detect import registry
from flows.detect.alert import Alert
from flows.job import tasks_of
from flows.operators.detect import Detection
from flows.settings import Settings
from flows.sinks import alerts, store
from flows.sinks.result_rows import Context
from flows.sources import partitions
from flows.storage.store import Store
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.unit import Stream, Unit
from probe.synthetic.scenario import Amplification, Background, PortScan, Scenario, SynFlood
from tests.support.jobs import ArrayLog

SECOND = 10**9


def measure(packets_per_second: float, duration_s: int = 40) -> list[tuple[str, float]]:
    """Rule and delay, s, of each alert when it fired."""
    scenario = Scenario(
        seed=1,
        duration_s=duration_s,
        background=Background(packets_per_second=packets_per_second),
        attacks=(
            PortScan(start_s=5, duration_s=duration_s - 10),
            SynFlood(start_s=10, duration_s=duration_s - 20),
            Amplification(start_s=10, duration_s=duration_s - 20),
        ),
    )
    packets = np.concatenate(list(scenario.chunks(65_536)))
    settings = Settings(networks=dict(scenario.networks))
    rules, networks = registry.rules(settings), Networks(settings.networks)
    tasks = tasks_of(settings.tasks)
    fed = detection.merged(tasks, rules)
    given: list[tuple[int, float]] = []
    found: list[tuple[str, float]] = []
    inner = partitions.LogPartition._given

    def note(self: Any, unit: Unit) -> list[Unit]:
        given.append((unit.watermark_ns, time.monotonic()))
        return inner(self, unit)

    def hear(alert: Alert) -> None:
        if alert.event == "fired":
            closed_s = next(at_s for mark_ns, at_s in given if mark_ns >= alert.last_seen_ns)
            found.append((alert.rule, time.monotonic() - closed_s))

    def partition(_: str | None) -> Any:
        log = ArrayLog(packets, stream=Stream("t", "p"), message=8192)
        config = WindowConfig()
        return log, PartitionAccumulator("bench", "0", config, fed, networks)

    partitions.LogPartition._given = note  # type: ignore[method-assign]
    with (
        tempfile.TemporaryDirectory() as directory,
        Store.open(f"chdb:{directory}/store", serve=False) as opened,
    ):
        flow = pipeline.build(
            partitions.LogSource({"0": partition}),
            store.UnitSink(opened, store.StoredCounts()),
            store.ResultSink(opened, Context(networks.names)),
            alerts.AlertSink(opened, hearers=[hear]),
            tasks=tasks,
            horizons_ns=settings.window.horizons_ns,
            partitions=["bench/0"],
            detection=Detection(rules),
            recovers=False,
        )
        began_s = time.monotonic()
        cli_main(flow, workers_per_process=1, epoch_interval=timedelta(seconds=10))
        took_s = time.monotonic() - began_s
    print(f"{len(packets):,} packets in {took_s:.1f} s, {len(packets) / took_s / 1e6:.2f} M/s")
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    rate = float(arguments[0]) if arguments else 100_000.0
    measure(rate, 24)  # compiles and loads
    for rule, delay_s in measure(rate):
        print(f"{rule:<16} stored {1000 * delay_s:7.0f} ms after its pane closed")


if __name__ == "__main__":
    main(sys.argv[1:])
