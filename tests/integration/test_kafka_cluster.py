"""Two processes on one topic, with a store that both write to over HTTP.

The store is the real engine behind our own front, not a ClickHouse server.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flows.errors import StoreError
from flows.storage.store import Store
from schemas.record import Packets
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import SECOND, committed, ipv4_packets, sums, tables, truth
from tests.support.kafka import Broker, free_port, wait_until
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce

PARTITIONS = 4
T0 = 1_700_000_040 * SECOND
RESULTS = ("distinct_counts", "spreaders")


def traffic(seed: int) -> Packets:
    packets = ipv4_packets(np.random.default_rng(seed), 1200, start_ns=T0, span_ns=90 * SECOND)
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


def process(job: KafkaJob, number: int, port: int) -> subprocess.Popen[str]:
    addresses = f"127.0.0.1:{port};127.0.0.1:{port + 1}"
    place = ("-i", str(number), "-a", addresses)
    return job.start(program=(sys.executable, "-m", "bytewax.run", "flows.main", *place))


def count(setting: str, topic: str) -> int:
    """Packets of the units that are stored; 0 before there is a table."""
    try:
        with Store.open(setting, migrated=False, serve=False) as store:
            return committed(store, topic)[0]
    except StoreError:
        return 0


@pytest.mark.requires("kafka")
@pytest.mark.timeout(400)
def test_two_processes_store_what_one_does(kafka_broker: Broker, tmp_path: Path) -> None:
    """Killed one after the other and started again: the same sums and the same results."""
    topic = kafka_broker.topic(PARTITIONS)
    probes = {"a": traffic(1), "b": traffic(2)}
    whole = np.concatenate(list(probes.values()))
    sent = (probe_messages(packets, name, PARTITIONS) for name, packets in probes.items())
    produce(kafka_broker, topic, in_time(*sent))
    one = KafkaJob(kafka_broker, topic, tmp_path / "one", {}, PARTITIONS)
    one.finish()
    with Store.open(f"chdb:{one.store}", serve=False) as store:
        wanted = tables(store, "t", RESULTS)
        assert set(sums(store, "t").values()) == {truth(whole)}
    with ClickHouse(tmp_path / "engine") as server:
        server.switch("slow 0.05")
        both = KafkaJob(
            kafka_broker, topic, tmp_path / "two", {"STORE": server.setting}, PARTITIONS
        )
        seen, port = 0, free_port(1)
        for victim in (1, 0, None):
            running = [process(both, number, port) for number in (0, 1)]
            try:
                total = truth(whole)[0]
                goal = total if victim is None else min(seen + total // 4, total - 1)
                wait_until(lambda goal=goal: count(server.setting, topic) >= goal, 120)  # type: ignore[misc]
                seen = count(server.setting, topic)
                if victim is None:
                    with Store.open(server.setting, serve=False) as store:
                        wait_until(lambda store=store: tables(store, "t", RESULTS) == wanted, 60)  # type: ignore[misc]
                else:
                    running[victim].kill()
            finally:
                for each in running:
                    each.kill()
                    each.communicate()
        with Store.open(server.setting, serve=False) as store:
            assert set(sums(store, "t").values()) == {truth(whole)}
            assert tables(store, "t", RESULTS) == wanted
