"""What a packet costs with two processes: ``python -m tests.bench.cluster`` (from the repository).

One process and two write to the same kind of store outside of them, the real engine behind our
HTTP front, and only their own CPU is counted. Starts a broker of its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from flows.benchmarks import through_kafka
from tests.support.clickhouse_http import ClickHouse
from tests.support.kafka import Broker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        Broker(Path(directory) / "kafka") as broker,
        through_kafka.filled(
            broker.bootstrap, given.packets, partitions=8, active_flows=100_000, rate=1.5e6
        ) as topic,
    ):
        for number in range(given.rounds):
            cpu_s = {}
            for processes in (1, 2):
                with ClickHouse(Path(directory) / f"engine-{number}-{processes}") as server:
                    run = through_kafka.read(
                        broker.bootstrap,
                        topic,
                        given.packets,
                        processes=processes,
                        store=server.setting,
                    )
                cpu_s[processes] = run.cpu_s / run.packets
                print(through_kafka.text(run), f"load {os.getloadavg()[0]:.1f}", flush=True)
            print(f"CPU a packet, two against one: {cpu_s[2] / cpu_s[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
