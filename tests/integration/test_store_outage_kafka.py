"""A job from Kafka while its ClickHouse is away: Kafka keeps the rest, and each packet is once.

The broker is the real one, the server is the real engine behind our own front
(``tests/support/clickhouse_http.py``), not a ClickHouse server.
"""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from flows.storage import audit
from flows.storage.store import Store
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import SECOND, ipv4_packets, sums, truth
from tests.support.kafka import Broker, wait_until
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]

PARTITIONS = 3
PACKETS = ipv4_packets(
    np.random.default_rng(5), 400, start_ns=1_700_000_040 * SECOND, span_ns=8 * SECOND
)


@pytest.mark.parametrize("trouble", ["refuse", "stall"])
def test_stopped_in_an_outage_and_gone_on_in_trouble(
    kafka_broker: Broker, tmp_path: Path, trouble: str
) -> None:
    """It ends with one line and code 1; the next run, in trouble too, completes all exactly.

    That one has half of its inserts refused and answers lost.
    """
    topic = kafka_broker.topic(PARTITIONS)
    produce(kafka_broker, topic, in_time(probe_messages(PACKETS, "edge", PARTITIONS)))
    with ClickHouse(tmp_path / "engine") as server:
        runs = KafkaJob(
            kafka_broker,
            topic,
            tmp_path / "job",
            settings={"STORE": server.setting},
            partitions=PARTITIONS,
        )
        server.switch("slow 0.02")
        first = runs.start()
        try:
            wait_until(lambda: server.counts.get("inserts", 0) >= 9)
            before = server.switch(trouble)
            if trouble == "stall":
                wait_until(lambda: server.counts.get("stalled", 0) > 0)
            first.send_signal(signal.SIGTERM)
            _, err = first.communicate(timeout=60)
        finally:
            first.kill()
            first.communicate()
        assert first.returncode == 1, err
        ours = [line for line in err.splitlines() if line.startswith("netspectra: stopped while")]
        assert len(ours) == 1, err
        assert "Traceback" not in err
        after = server.switch("half")
        assert after["inserts"] <= before["inserts"] + 1
        server.switch("cut 2")
        runs.finish(workers=2)
        assert server.counts["cut"] == 2
        assert server.counts["refused"] > 5
        server.switch("up")
        with Store.open(server.setting) as store:
            assert set(sums(store, "t").values()) == {truth(PACKETS)}
            found = audit.audit(store.query, looks=1)
            assert found.balanced, found.differences
