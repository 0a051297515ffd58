"""The benchmark through Kafka measures the whole of what was sent."""

from __future__ import annotations

import pytest

from flows.benchmarks import through_kafka
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
