"""The benchmark through Kafka measures the whole of what was sent."""

from __future__ import annotations

import pytest

from flows.benchmarks import sustained, through_kafka
from tests.support.kafka import Broker


@pytest.mark.requires("kafka")
def test_all_that_is_sent_is_stored(kafka_broker: Broker) -> None:
    """Two processes read a topic to its end; the topic is gone afterwards."""
    sent = 1_500_000
    with through_kafka.filled(
        kafka_broker.bootstrap, sent, partitions=4, active_flows=1000, rate=1e5
    ) as topic:
        run = through_kafka.read(kafka_broker.bootstrap, topic, sent, processes=2)
    assert run.stored == sent
    assert 0 < run.packets <= sent
    assert topic not in kafka_broker.admin().list_topics(timeout=10).topics
    assert "1,500,000 stored" in through_kafka.text(run)


@pytest.mark.requires("kafka")
def test_a_sustained_run_tells_what_it_took(
    kafka_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was sent is stored, by the ledger too; job, broker and memory are measured."""
    monkeypatch.setattr(sustained, "PACKETS_PER_SECOND", 200_000)
    found = sustained.measure(
        kafka_broker.bootstrap, 0.1, partitions=4, active_flows=1000, workers=2, rate=1e5
    )
    assert found.packets == found.run.stored == 1_200_000
    assert found.ledger["store"] == (1_200_000, 1_200_000, 0)
    last = found.samples[-1]
    assert last.stored == found.packets
    assert last.machine_cpu_s > last.job_cpu_s > 0
    assert last.broker_cpu_s > 0
    assert last.resident_bytes > 10**8
    assert "ledger, store: seen 1,200,000, delivered 1,200,000, dropped 0" in "\n".join(
        sustained.text(found)
    )
