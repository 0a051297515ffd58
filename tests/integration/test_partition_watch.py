"""A topic that grows is noticed while the job runs."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import NewPartitions

from flows.kafka.client import Cluster
from flows.settings.model import Kafka
from flows.sources.partition_watch import PartitionWatch
from tests.support.kafka import Broker, wait_until


@pytest.mark.requires("kafka")
def test_new_partitions_are_noticed(kafka_broker: Broker) -> None:
    """Once for each growth, and a broker that is away for a while doesn't matter."""
    topic = kafka_broker.topic(partitions=2)
    watch = PartitionWatch(Cluster(Kafka(brokers=kafka_broker.bootstrap)), topic, 2, every_s=0.1)
    try:
        admin = kafka_broker.admin()
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
        wait_until(lambda: watch.found == 3)
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
        wait_until(lambda: watch.found == 5)
    finally:
        watch.close()
